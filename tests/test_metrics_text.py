"""ROUGE-L and exact match: against the library, against a plain computation, and by hand."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obverse.catalog import algorithms
from obverse.errors import DataError, ObverseError
from obverse.metrics.text import exact_match, normalised, rouge_l

WORDS = (
    *("the", "cat", "cats", "running", "ran", "run", "flying", "flies", "easily", "relational", "organised", "don't"),
    *("7", "12", "3.14", "x-ray", "a_b", "U.S.", "_", "naïve", "café", "ÉCOLE", "ﬁne", "İstanbul", "ß"),
    *("猫", "слово", "😀", "!", "...", "—", "??", "\t", "\n", "\u200b", "\u00a0"),
)
PUNCTUATION_ONLY = ("", " ", "\n\t ", "...", "?!", "—", "😀", "猫")


def _random_text(draw: random.Random) -> str:
    if draw.random() < 0.1:
        return draw.choice(PUNCTUATION_ONLY)
    glue = draw.choice((" ", " ", "  ", ", "))
    return glue.join(draw.choices(WORDS, k=draw.randint(1, 14)))


def _pairs(count: int, seed: int) -> list[tuple[str, list[str]]]:
    draw = random.Random(seed)
    return [(_random_text(draw), [_random_text(draw) for _ in range(draw.randint(1, 3))]) for _ in range(count)]


def test_rouge_l_equals_the_library_on_a_thousand_pairs():
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=True)
    seen = set()
    for prediction, references in _pairs(1000, seed=0):
        theirs = scorer.score_multi(references, prediction)["rougeL"].fmeasure
        ours = rouge_l(prediction, references)
        assert ours == pytest.approx(theirs, abs=1e-9), (prediction, references)
        seen.add(round(ours, 3))
    assert {0.0, 1.0} < seen and len(seen) > 50


def test_rouge_l_equals_a_plain_computation():
    porter = pytest.importorskip("nltk.stem.porter").PorterStemmer()

    def words(text: str) -> list[str]:
        plain = "".join(c if c in "abcdefghijklmnopqrstuvwxyz0123456789" else " " for c in text.lower())
        return [porter.stem(w) if len(w) > 3 else w for w in plain.split()]

    def common(a: list[str], b: list[str]) -> int:
        row = [0] * (len(b) + 1)
        for word in a:
            before = list(row)
            for j, other in enumerate(b):
                row[j + 1] = before[j] + 1 if word == other else max(row[j], before[j + 1])
        return row[-1]

    for prediction, references in _pairs(300, seed=1):
        best = 0.0
        for reference in references:
            p, r = words(prediction), words(reference)
            length = common(p, r)
            best = max(best, 2 * length / (len(p) + len(r)) if length else 0.0)  # 2 P R / (P + R), simplified
        assert rouge_l(prediction, references) == pytest.approx(best, abs=1e-12), (prediction, references)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        # "the cat sat" is common: P = 3/3, R = 3/6
        ("the cat sat", ["The cat sat on the mat."], 2 * 1 * 0.5 / 1.5),
        # the order counts: of "b a" only one word is common with "a b"
        ("b a", ["a b"], 0.5),
        # endings are taken off: "running" and "runs" are both "run"
        ("running", ["runs"], 1.0),
        # the best of the references, not the first or the mean
        ("yes", ["no", "yes", "yes indeed it is"], 1.0),
        ("", ["yes"], 0.0),
        ("?!", ["?!"], 0.0),
        ("да", ["да"], 0.0),
    ],
)
def test_rouge_l_by_hand(prediction, references, expected):
    pytest.importorskip("rouge_score")
    assert rouge_l(prediction, references) == pytest.approx(expected, abs=1e-12)


def test_normalised_by_hand():
    assert normalised("  The U.S.,\n\tas a\u00a0well-known  (state)! ") == "the us as a wellknown state"
    # articles stay, and so does punctuation beyond ASCII
    assert normalised("A") == "a"
    assert normalised("«Da!» — été") == "«da» — été"


def test_exact_match_by_hand():
    assert exact_match("Positive.", ["negative", "positive"])
    assert exact_match("A", ["a"]) and not exact_match("A", ["The"]) and not exact_match("a cat", ["cat"])
    assert exact_match("...", [" "])
    assert not exact_match("ice cream", ["icecream"])
    assert isinstance(exact_match("x", ["x"]), bool)


@settings(deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_exact_match_is_blind_to_case_and_edges_and_order(prediction, references):
    result = exact_match(prediction, references)
    assert result == exact_match(f" {prediction}.\n", references[::-1])
    assert exact_match(prediction, [*references, prediction])
    assert normalised(normalised(prediction)) == normalised(prediction)


@pytest.mark.parametrize("name", algorithms.algorithm_names()[::9])
def test_algorithmic_answers_are_compared_by_their_own_rule(name):
    rule = algorithms.algorithm(name)
    draw = random.Random(3)
    answers = [rule.answer(rule.draw(draw)) for _ in range(12)]
    for one in answers:
        for other in answers:
            same = algorithms.normalised(one) == algorithms.normalised(other)
            spaced = f"  {other.replace(',', ' , ')} \n"
            assert exact_match(spaced, [one], normalise=algorithms.normalised) is same
            # written as the task writes them, answers differ under the rule for prose exactly where they differ
            # under their own, but for the empty list, which prose takes for nothing at all
            if "[]" not in (one, other):
                assert exact_match(other, [one]) is same


def test_the_rule_for_prose_confuses_lists_written_without_spaces():
    assert exact_match("[1,23]", ["[12,3]"])
    assert not exact_match("[1,23]", ["[12,3]"], normalise=algorithms.normalised)
    assert exact_match("[1,23]", ["[1, 23]"], normalise=algorithms.normalised)


@pytest.mark.parametrize("measure", [rouge_l, exact_match])
@pytest.mark.parametrize(
    ("prediction", "references", "message"),
    [
        ("yes", [], "there is no reference"),
        ("yes", "yes", "the references 'yes' are not a list of texts"),
        ("yes", None, "not a list of texts"),
        ("yes", ["no", 3], "the reference 3 is not a text"),
        (None, ["yes"], "the prediction None is not a text"),
    ],
)
def test_bad_input_is_a_data_error(measure, prediction, references, message):
    with pytest.raises(DataError, match=message):
        measure(prediction, references)


def test_a_missing_library_is_one_error_with_a_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(ObverseError) as caught:
        rouge_l("yes", ["yes"])
    assert "obverse[evaluate]" in caught.value.mend
    assert exact_match("yes", ["yes"])


def test_the_library_is_loaded_at_the_first_call_only():
    code = "import sys, obverse.metrics.text as t; t.exact_match('a', ['a']); print('nltk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
