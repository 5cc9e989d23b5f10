"""Measures of generated text against its references: ROUGE-L and exact match, both the best over the references.

These are the two that Super-NaturalInstructions reports (Wang et al. 2022, arXiv 2204.07705).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

from obverse.errors import DataError, ObverseError


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """The best ROUGE-L of a text over its references: F = 2 P R / (P + R), from 0 to 1.

    P = L / words of the prediction and R = L / words of the reference, where L is the length of their longest
    common subsequence. Words are runs of the letters a to z and of digits, in lower case, those of four letters and
    more with Porter's endings taken off; text in other scripts has no words. A text without words scores 0, even
    against another one. Equal to `rouge_score.rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)`, which does
    the work. Source: Lin 2004.

    The library brings nltk, which takes seconds to load, so it is loaded at the first call.

    Raises:
        DataError: there is no reference, or something that is no text.
        ObverseError: rouge-score is not installed.
    """
    _check_texts(prediction, references)
    scorer = _rouge_scorer()
    return max(float(scorer.score(each, prediction)["rougeL"].fmeasure) for each in dict.fromkeys(references))


def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation, every run of white space one space, none at the ends.

    The rule by which Super-NaturalInstructions compares answers: that of SQuAD 1.1, except that articles stay
    ("a" may be the answer). Punctuation leaves nothing behind: "well-known" becomes "wellknown".
    """
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def exact_match(prediction: str, references: Sequence[str], *, normalise: Callable[[str], str] = normalised) -> bool:
    """Whether a text equals one of its references, both sides normalised.

    Args:
        prediction: the generated text.
        references: the right answers.
        normalise: from a text to the one that is compared. The default is made for prose. Generated algorithmic
            tasks need their own, `obverse.catalog.algorithms.normalised`: without its commas and brackets
            `[1,23]` cannot be told from `[12,3]`.

    Raises:
        DataError: there is no reference, or something that is no text.
    """
    _check_texts(prediction, references)
    compared = normalise(prediction)
    return any(normalise(each) == compared for each in references)


def _check_texts(prediction: str, references: Sequence[str]) -> None:
    if not isinstance(prediction, str):
        raise DataError(f"the prediction {prediction!r} is not a text")
    # A single text is a sequence of texts too, one a letter, and would be compared letter by letter.
    if isinstance(references, str) or not isinstance(references, Sequence):
        raise DataError(f"the references {references!r} are not a list of texts", mend='Write ["the answer"].')
    if not references:
        raise DataError("there is no reference to compare the prediction with")
    for each in references:
        if not isinstance(each, str):
            raise DataError(f"the reference {each!r} is not a text")


def _rouge_scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise ObverseError(
            "ROUGE-L is computed with the package rouge-score, which is not installed",
            mend="pip install 'obverse[evaluate]', or take exact match only.",
        ) from None
    # A new one costs some microseconds, which is nothing beside a score.
    return RougeScorer(["rougeL"], use_stemmer=True)


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
