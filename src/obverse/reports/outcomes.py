"""What every record of a run comes to: right or wrong, its grade, its confidence; a table of numbers a cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import groupby
from typing import final

import numpy as np
from numpy.typing import NDArray

from obverse.metrics.choices import expected_grade, multiple_choice_grade, right_options
from obverse.metrics.classification import ABSTAINED
from obverse.metrics.text import exact_match, normalised, rouge_l
from obverse.reports.run_settings import (
    ACCURACY,
    EXACT_MATCH,
    EXPECTED_GRADE,
    GRADE,
    MACRO_F1,
    ROUGE_L,
    RunSettings,
)
from obverse.runs.records import Cell, Record
from obverse.runs.store import Run

# Axes: N rows of a cell, K options.

NO_GOLD = -1
"""Stands for "the right option is not known" in arrays of option indices."""

Normalise = Callable[[str], Callable[[str], str] | None]
"""From a task's name to how its generated answers are normalised before they are compared; None for prose."""


@final
@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of one cell's rows.

    Attributes:
        cell: which.
        rows: ids (N,), by position.
        positions: places in the split (N,).
        values: metric -> one number a row (N,), not a number where the right answer is not known. A row without an
            answer counts as wrong.
        gold: the option that counts as gold (N,), `NO_GOLD` where none is known (`gold_option` says which of several).
        chosen: the option chosen (N,), `ABSTAINED` for none.
        predictions, references: generated answers, and what they are compared with (N,); None for scored ones.
        options: of every row (N,), or of all at once (1,) where they are alike.
        sole: every row with gold has a single right option.
        classes: the largest number of options.
        probabilities: softmax(scores / temperature) (N, K), 0 past a row's options, not a number where there is none.
        answered: how many rows have an answer.
        shortened, cut, tied: how many rows lost input, lost tokens, have another option of the same score.
        dropped: how many exemplars or demonstrations a row lost to the window -> how many rows; none that lost none.
        reasons: why there is no answer -> how often.
    """

    cell: Cell
    rows: tuple[str, ...]
    positions: tuple[int, ...]
    values: Mapping[str, NDArray[np.float64]]
    gold: NDArray[np.int64]
    chosen: NDArray[np.int64]
    predictions: tuple[str | None, ...] | None
    references: tuple[tuple[str, ...], ...] | None
    options: tuple[tuple[str, ...], ...]
    sole: bool
    classes: int
    probabilities: NDArray[np.float64]
    answered: int
    shortened: int
    cut: int
    tied: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[int, int] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that can be told of it."""
        return (*self.values, *((MACRO_F1,) if ACCURACY in self.values else ()))

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The options, where all rows have the same."""
        return self.options[0] if len(self.options) == 1 and self.options[0] else None

    def option(self, row: int, index: int) -> str | None:
        """An option of a row by its index; None for `ABSTAINED` and `NO_GOLD`."""
        return None if index < 0 else self.options[row if len(self.options) > 1 else 0][index]

    def answer(self, row: int) -> str | None:
        """What a row was answered with, in words; None where there is no answer."""
        chosen = self.option(row, int(self.chosen[row]))
        return self.predictions[row] if chosen is None and self.predictions is not None else chosen

    def references_of(self, row: int) -> tuple[str, ...]:
        """What a row's generated answer is compared with."""
        return () if self.references is None else self.references[row]

    def judged(self, metric: str) -> NDArray[np.bool_]:
        """Which rows a metric can be told of (N,)."""
        return ~np.isnan(self.values[ACCURACY if metric == MACRO_F1 else metric])


def outcomes_of(run: Run, settings: RunSettings, *, normalise: Normalise | None = None) -> Iterator[Outcomes]:
    """The outcomes of every cell, in the run's order.

    Args:
        settings: the run's own.
        normalise: for generated answers that are not prose.

    Raises:
        DataError: the records cannot be read.
        ObverseError: ROUGE-L is wanted and its package is not installed.
    """
    for cell, records in groupby(run.records, key=lambda record: record.key.cell):
        compare = normalise(cell.task) if normalise is not None else None
        wanted = {settings.task(cell.task).metric, *settings.metrics}
        judge = _Judge(settings.temperature(cell.method), compare or normalised, wanted)
        yield judge.judge(cell, list(records))


class _Judge:
    """Judges records; sets of right options, of which a task has few, are worked out once."""

    def __init__(self, temperature: float, compare: Callable[[str], str], wanted: Set[str | None]) -> None:
        self._temperature = temperature
        self._compare = compare
        self._rouge = ROUGE_L in wanted
        self._grade = GRADE in wanted
        self._right: dict[tuple[float, ...], tuple[int, ...]] = {}

    def judge(self, cell: Cell, records: Sequence[Record]) -> Outcomes:
        n = len(records)
        classes = max(len(record.options) for record in records)
        generated = any(record.prediction is not None or record.references for record in records)
        names = [ACCURACY, GRADE, EXPECTED_GRADE] if classes else []
        if generated:
            names += [EXACT_MATCH, *([ROUGE_L] if self._rouge else [])]
        values = {name: np.full(n, np.nan) for name in names}
        gold = np.full(n, NO_GOLD, dtype=np.int64)
        chosen = np.full(n, ABSTAINED, dtype=np.int64)
        probabilities = np.full((n, classes), np.nan)
        sole, graded = True, self._grade
        for i, record in enumerate(records):
            if record.chosen is not None:
                chosen[i] = record.chosen
            credits = _credits(record)
            graded |= bool(record.credits)
            if credits:
                right = self._right_options(credits)
                for name, value in self._grades(record, credits, right).items():
                    values[name][i] = value
                if right:
                    gold[i] = record.chosen if record.chosen in right else right[0]
                    sole &= len(right) == 1
            if record.references:
                for name, value in self._matches(record).items():
                    values[name][i] = value
            self._fill(probabilities[i], record.scores)
        if not graded:  # then it is accuracy under another name
            for name in (GRADE, EXPECTED_GRADE):
                values.pop(name, None)
        options = tuple(record.options for record in records)
        reasons = Counter(record.reason for record in records if record.reason)
        return Outcomes(
            cell=cell,
            rows=tuple(record.row for record in records),
            positions=tuple(record.position for record in records),
            values={name: array for name, array in values.items() if not np.isnan(array).all()},
            gold=gold,
            chosen=chosen,
            predictions=tuple(record.prediction for record in records) if generated else None,
            references=tuple(record.references for record in records) if generated else None,
            options=options[:1] if len(set(options)) == 1 else options,
            sole=sole,
            classes=classes,
            probabilities=probabilities,
            answered=sum(record.chosen is not None or record.prediction is not None for record in records),
            shortened=sum(record.shortened > 0 for record in records),
            cut=sum(record.cut > 0 for record in records),
            tied=sum(record.tied for record in records),
            reasons=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
            dropped=dict(sorted(Counter(record.dropped for record in records if record.dropped).items())),
        )

    def _right_options(self, credits: tuple[float, ...]) -> tuple[int, ...]:
        if credits not in self._right:
            self._right[credits] = right_options(credits) if max(credits) > 0 else ()
        return self._right[credits]

    def _grades(self, record: Record, credits: tuple[float, ...], right: tuple[int, ...]) -> dict[str, float]:
        taken = ABSTAINED if record.chosen is None else record.chosen
        grade = multiple_choice_grade(taken, credits)
        # Only a tie makes the two differ; plus infinity cannot be compared with itself by an honest draw.
        drawn = record.tied and record.chosen is not None and record.scores and math.inf not in record.scores
        expected = expected_grade(record.scores, credits) if drawn else grade
        values = {GRADE: grade, EXPECTED_GRADE: expected}
        return values | ({ACCURACY: float(taken in right)} if right else {})

    def _matches(self, record: Record) -> dict[str, float]:
        prediction, references = record.prediction, record.references
        values = {
            EXACT_MATCH: 0.0
            if prediction is None
            else float(exact_match(prediction, references, normalise=self._compare))
        }
        if self._rouge:
            values[ROUGE_L] = 0.0 if prediction is None else rouge_l(prediction, references)
        return values

    def _fill(self, row: NDArray[np.float64], scores: Sequence[float]) -> None:
        if not scores or not math.isfinite(max(scores)):
            return
        best = max(scores)
        weights = [math.exp((score - best) / self._temperature) for score in scores]
        row[:] = 0.0
        row[: len(scores)] = np.array(weights) / math.fsum(weights)


def _credits(record: Record) -> tuple[float, ...]:
    """What each option is worth; empty where nothing is known."""
    if record.credits and all(map(math.isfinite, record.credits)):
        return record.credits
    if record.gold:
        right = set(record.gold)
        return tuple(float(k in right) for k in range(len(record.options)))
    return ()
