"""From stored raw numbers to predictions, with everything that is counted on the way."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obverse.catalog.tables import Row
from obverse.errors import MethodError
from obverse.labelling import Labeller
from obverse.metrics.classification import Tally
from obverse.recipes.predict_task import PredictSettings, Task
from obverse.reports.summary import Summary
from obverse.reports.typography import counted
from obverse.scoring import calibration as calibrations
from obverse.scoring.scorers import PRIOR, Prediction, decide
from obverse.tasks.examples import Example
from obverse.tasks.labels import LabelSet

_ROWS_AT_ONCE = 256  # turned into probabilities in one array


@dataclass
class Counts:
    shortened: int = 0
    lost: int = 0
    empty: int = 0
    ties: int = 0
    below: int = 0
    dropped: Counter[int] = field(default_factory=Counter)


class Decider:
    """From raw numbers to predictions, row by row, with everything that is counted on the way."""

    def __init__(self, settings: PredictSettings, task: Task, labeller: Labeller, names: Sequence[str]) -> None:
        self._settings = settings
        self._task = task
        self._labeller = labeller
        self._names = tuple(names)
        self.counts = Counts()
        self.tally = Tally(max(2, len(names)))
        self.notes: list[str] = []
        self._log_prior = (
            None if settings.label_prior is None else calibrations.log_prior(settings.label_prior, len(names))
        )
        self._of_logs = settings.calibration.endswith("-log")
        self._contextual: dict[tuple[str, ...], NDArray[np.float64]] = {}

    def prepare(self) -> None:
        """Ask what does not depend on the texts, so that its faults are found before hours of scoring."""
        if self._settings.calibration.startswith("contextual") and self._task.labels is not None:
            self._contextual_bias(self._task.labels)

    def decide(
        self, rows: Iterator[tuple[Row, Mapping[str, Any]]]
    ) -> Iterator[tuple[Row, Mapping[str, Any], Prediction, LabelSet]]:
        """Predictions in row order; holds back the first `batch_rows` rows where a batch's bias is wanted."""
        bias: NDArray[np.float64] | None = None
        if self._settings.calibration.startswith("batch"):
            held = list(itertools.islice(rows, self._settings.batch_rows))
            bias = self._batch_bias([record for _, record in held])
            rows = itertools.chain(held, rows)
        while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            options = [self._task.options(row) for row, _ in some]
            log_p = self.log_probabilities([record for _, record in some], options, bias)
            for (row, record), names, own in zip(some, options, log_p, strict=True):
                yield row, record, self._decide(row, record, names, own), names

    def log_probabilities(
        self,
        records: Sequence[Mapping[str, Any]],
        options: Sequence[LabelSet],
        bias: NDArray[np.float64] | None = None,
    ) -> list[NDArray[np.float64]]:
        """Calibrated, of each record's options; empty for a blank text.

        Args:
            bias: of a batch, or None.
        """
        scorer = self._labeller.scorer
        out = [np.zeros(0)] * len(records)
        alike: dict[int, list[int]] = {}  # many rows in one array cost little more than one
        for i, record in enumerate(records):
            if not record.get("blank"):
                alike.setdefault(len(options[i]), []).append(i)
        for members in alike.values():
            terms: dict[str, Any] = {
                term: np.array([records[i]["scores"][term] for i in members]) for term in scorer.terms
            }
            log_p = scorer.log_probabilities(terms)
            here = bias
            if self._settings.calibration.startswith("contextual"):
                here = np.stack([self._contextual_bias(options[i]) for i in members])
            if here is not None or self._log_prior is not None:
                log_p = calibrations.apply(log_p, here, self._log_prior)
            for i, own in zip(members, log_p, strict=True):
                out[i] = own
        return out

    def _batch_bias(self, records: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        log_p = [self._labeller.scorer.log_probabilities(r["scores"]) for r in records if not r.get("blank")]
        if not log_p:
            raise MethodError(
                "batch calibration needs texts, and all rows are blank",
                where="--calibration",
                mend="Use contextual calibration, or none.",
            )
        bias = calibrations.batch_bias(np.stack(log_p), of_logs=self._of_logs)
        said = ", ".join(f"{n} {b:+.2f}" for n, b in list(zip(self._names, -bias, strict=True))[:6])
        self.notes.append(
            f"Batch calibration from the first {len(log_p):,} texts, then frozen; added to the log-probabilities: "
            f"{said}{', ..' if len(bias) > 6 else ''}."
        )
        return bias

    def _contextual_bias(self, options: LabelSet) -> NDArray[np.float64]:
        known = self._contextual.get(options.texts)
        if known is None:
            blank = Example("", dict.fromkeys(self._task.text, ""))
            known = self._labeller.content_free(blank, options.texts, of_logs=self._of_logs)
            self._contextual[options.texts] = known
            if len(self._contextual) > 1000:
                self._contextual.pop(next(iter(self._contextual)))
        return known

    def _decide(self, row: Row, record: Mapping[str, Any], options: LabelSet, log_p: NDArray[np.float64]) -> Prediction:
        gold = self._task.gold_index(row, options)
        if record.get("blank"):
            self.counts.empty += 1
            self.tally.add(gold, None)
            return Prediction(None, (), 0.0, reason="no text")
        prediction = decide(log_p, min_confidence=self._settings.min_confidence)
        self.counts.shortened += bool(record.get("shortened"))
        self.counts.lost += int(record.get("lost", 0))
        self.counts.dropped[int(record.get("dropped", 0))] += 1
        self.counts.ties += prediction.tie
        self.counts.below += prediction.index is None
        padded = prediction.probabilities + (0.0,) * (self.tally.classes - len(prediction.probabilities))
        self.tally.add(gold, prediction.index, min(1.0, prediction.confidence), padded)
        return prediction

    def summary(self, words: str, notes: Sequence[str], rate: float | None) -> Summary:
        """All that was counted.

        Args:
            words: the instruction.
            notes: what was noted before deciding.
            rate: texts a second, None if not measured.
        """
        scorer, model = self._labeller.scorer, self._labeller.model
        rules = sorted({scorer.rule(term) for term in scorer.terms if term != PRIOR})
        lost = (
            [f"{counted(self.counts.lost, 'token')} cut from the right (truncation `reference`)."]
            if self.counts.lost
            else []
        )
        parts = [] if self._settings.calibration == "none" else [self._settings.calibration]
        if self._settings.label_prior is not None:
            parts.append("label prior")
        return Summary.of(
            self.tally,
            self._names,
            below_min_confidence=self.counts.below,
            min_confidence=self._settings.min_confidence or None,
            shortened=self.counts.shortened,
            empty=self.counts.empty,
            ties=self.counts.ties,
            seconds=None if rate is None else self.tally.rows / rate,
            model=model.name,
            method=scorer.method,
            length_rule="+".join(rules) or None,
            calibration=" + ".join(parts) or None,
            instruction=words,
            notes=[*notes, *self.notes, *self._demonstrations(), *lost],
        )

    def _demonstrations(self) -> list[str]:
        """What stood in front of the prompts, and for how many the window was too small for all of it."""
        shown = self._labeller.demonstrations
        if shown is None:
            return []
        lines = [f"{counted(len(shown), 'demonstration')} of other tasks ({shown.name}) in front of each prompt."]
        numbers = sorted(number for number in self.counts.dropped if number)
        if numbers:
            texts = sum(self.counts.dropped[number] for number in numbers)
            most = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
            where = "all texts" if texts == self.counts.dropped.total() else f"{counted(texts, 'text')}"
            lines.append(f"{most} of {len(shown)} demonstrations dropped to fit the model's window, in {where}.")
        return lines
