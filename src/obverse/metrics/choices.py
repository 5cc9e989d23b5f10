"""Measures of choices between options where several may be right, or be worth something.

Every option of a row has a **credit**, what choosing it is worth: 1 for a right one and 0 for a wrong one in most
files, other numbers in a few. An option is **right** where it has the row's highest credit.

Options may have equal scores. The reference implementations take the first of the best, `chosen` does the same, and
a file that lists the right option first then pays a model for knowing nothing. So each measure of a tied row comes
in two forms: the grade of the first of the best, which compares with published figures, and the expected grade
under a fair draw among them, which no order of the options can raise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from obverse.errors import DataError
from obverse.metrics.classification import ABSTAINED, accuracy, confusion_counts, macro_f1


@final
@dataclass(frozen=True, slots=True)
class ChoiceFigures:
    """The measures of a set of rows.

    Attributes:
        rows: how many.
        grade: mean credit of the chosen options; a tie goes to the first of the best.
        expected_grade: the same, a tie going to each of the best with equal probability.
        accuracy: the share of rows whose chosen option is right. It equals `grade` where credits are 0 and 1.
        macro_f1: mean F1 of the options present in gold, by index (`choice_confusion` says what gold is).
        chance: the grade expected of a draw among all options, the mean over rows of the mean credit.
        ties: how many rows have more than one best option.
    """

    rows: int
    grade: float
    expected_grade: float
    accuracy: float
    macro_f1: float
    chance: float
    ties: int

    @classmethod
    def of(
        cls, scores: Sequence[Sequence[float]], credits: Sequence[Sequence[float]], *, tolerance: float = 0.0
    ) -> ChoiceFigures:
        """Measure rows of scores; rows may differ in their number of options.

        Args:
            scores: for each row one number an option, the higher the better.
            credits: for each row one number an option.
            tolerance: how far below the best a score may lie and still count as equal to it.

        Raises:
            DataError: no rows, or a row that cannot be measured, which is named by its place counted from 1.
        """
        if len(scores) != len(credits):
            raise DataError(
                f"there are scores of {len(scores)} rows and credits of {len(credits)}",
                mend="Give both for the same rows in the same order.",
            )
        if not len(scores):
            raise DataError("there are no rows to measure")
        taken, grades, expected, ties = [], [], [], 0
        for row, (row_scores, row_credits) in enumerate(zip(scores, credits, strict=True), start=1):
            try:
                best = _best(row_scores, tolerance)
                expected.append(expected_grade(row_scores, row_credits, tolerance=tolerance))
                grades.append(multiple_choice_grade(best[0], row_credits))
            except DataError as error:
                raise DataError(error.what, where=f"row {row}", mend=error.mend) from None
            taken.append(best[0])
            ties += len(best) > 1
        confusion = choice_confusion(taken, credits)
        return cls(
            rows=len(taken),
            grade=math.fsum(grades) / len(taken),
            expected_grade=math.fsum(expected) / len(taken),
            accuracy=float(accuracy(confusion)),
            macro_f1=float(macro_f1(confusion)),
            chance=math.fsum(map(chance_level, credits)) / len(taken),
            ties=ties,
        )


def chosen(scores: Sequence[float], *, tolerance: float = 0.0) -> int:
    """The index of the first option whose score is the best, or within `tolerance` of the best.

    With tolerance 0, as the reference implementations choose. The same scores computed in other batches may differ
    in their last digits; a small tolerance, such as 1e-6 nats, makes ties of texts that are the same.

    Raises:
        DataError: no scores, one that is not a number or is plus infinity, or a negative tolerance.
    """
    return _best(scores, tolerance)[0]


def is_tie(scores: Sequence[float], *, tolerance: float = 0.0) -> bool:
    """Whether more than one option has the best score.

    Raises:
        DataError: as `chosen`.
    """
    return len(_best(scores, tolerance)) > 1


def multiple_choice_grade(chosen: int, credits: Sequence[float]) -> float:
    """The credit of the chosen option; 0 where none was chosen (`ABSTAINED`).

    Its mean over rows is BIG-bench's metric of that name (arXiv 2206.04615).

    Raises:
        DataError: `chosen` is no option, or the credits are not numbers.
    """
    _check_credits(credits)
    _check_option(chosen, credits)
    return 0.0 if chosen == ABSTAINED else float(credits[chosen])


def expected_grade(scores: Sequence[float], credits: Sequence[float], *, tolerance: float = 0.0) -> float:
    """The mean credit of the options that share the best score: the grade under a fair draw among them.

    Raises:
        DataError: as `chosen`, or there is not one credit a score.
    """
    best = _best(scores, tolerance)
    _check_credits(credits)
    if len(scores) != len(credits):
        raise DataError(f"there are {len(scores)} scores and {len(credits)} credits; each option needs one of both")
    return math.fsum(credits[k] for k in best) / len(best)


def chance_level(credits: Sequence[float]) -> float:
    """The grade expected of a draw among all options: the mean credit.

    Raises:
        DataError: the credits are not numbers.
    """
    _check_credits(credits)
    return math.fsum(credits) / len(credits)


def right_options(credits: Sequence[float]) -> tuple[int, ...]:
    """The indices of the options with the highest credit.

    Raises:
        DataError: no option is worth more than 0.
    """
    _check_credits(credits)
    most = max(credits)
    if most <= 0:
        raise DataError("no option is worth anything, so none is right", mend="Give the right option the credit 1.")
    return tuple(k for k, credit in enumerate(credits) if credit == most)


def is_right(chosen: int, credits: Sequence[float]) -> bool:
    """Whether the chosen option has the highest credit; False where none was chosen.

    Raises:
        DataError: `chosen` is no option, or no option is worth more than 0.
    """
    right = right_options(credits)
    _check_option(chosen, credits)
    return chosen in right


def gold_option(chosen: int, credits: Sequence[float]) -> int:
    """The one option that counts as gold: the chosen one if it is right, else the first right one.

    Raises:
        DataError: as `is_right`.
    """
    return chosen if is_right(chosen, credits) else right_options(credits)[0]


def choice_confusion(chosen: Sequence[int], credits: Sequence[Sequence[float]]) -> NDArray[np.int64]:
    """Confusion counts of choices, for `accuracy`, `macro_f1` and `bootstrap_from_confusion`.

    A row with several right options has no single gold option, as a table needs. It is counted under `gold_option`,
    so that the diagonal holds exactly the right choices and accuracy comes out as the share of them. Gold then
    depends on the choices wherever a row has several right options: two systems' tables differ in their row sums,
    and their difference is to be tested on right and wrong (`obverse.metrics.comparisons`), not on tables. Where all
    right options stand at one index, macro-F1 by index is the F1 of a single class and says little.

    Args:
        chosen: one option index a row, `ABSTAINED` for none.
        credits: one number an option, rows may differ in length.

    Returns:
        Counts (K, K + 1), K the largest number of options.

    Raises:
        DataError: no rows, lengths that differ, or a row as in `gold_option`, named by its place counted from 1.
    """
    if len(chosen) != len(credits):
        raise DataError(
            f"there are {len(chosen)} choices and credits of {len(credits)} rows",
            mend="Give both for the same rows in the same order.",
        )
    if not len(chosen):
        raise DataError("there are no rows to measure")
    gold = []
    for row, (option, row_credits) in enumerate(zip(chosen, credits, strict=True), start=1):
        try:
            gold.append(gold_option(option, row_credits))
        except DataError as error:
            raise DataError(error.what, where=f"row {row}", mend=error.mend) from None
    return confusion_counts(gold, chosen, classes=max(map(len, credits)))


def _best(scores: Sequence[float], tolerance: float) -> list[int]:
    """The indices of the options with the best score, at least one."""
    if not tolerance >= 0:
        raise DataError(f"the tolerance {tolerance} is negative or no number", mend="Write 0 for equal scores only.")
    _check_listed("scores", scores)
    for k, score in enumerate(scores):
        # Minus infinity is the logarithm of probability 0, which is a score like any other.
        if not _is_number(score) or math.isnan(score) or score == math.inf:
            raise DataError(f"the score {score!r} of option {k} is not a number to compare")
    least = max(scores) - tolerance
    return [k for k, score in enumerate(scores) if score >= least]


def _check_listed(name: str, values: object) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or not len(values):
        raise DataError(f"the {name} {values!r} are not a list", mend="Give one number an option, at least one.")


def _check_credits(credits: Sequence[float]) -> None:
    _check_listed("credits", credits)
    for k, credit in enumerate(credits):
        if not _is_number(credit) or not math.isfinite(credit):
            raise DataError(f"the credit {credit!r} of option {k} is not a number")


def _check_option(chosen: int, credits: Sequence[float]) -> None:
    if not isinstance(chosen, int | np.integer) or isinstance(chosen, bool):
        raise DataError(f"the choice {chosen!r} is not an option's index")
    if chosen != ABSTAINED and not 0 <= chosen < len(credits):
        raise DataError(f"the option index {chosen} lies outside 0 to {len(credits) - 1}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating | np.bool_)
