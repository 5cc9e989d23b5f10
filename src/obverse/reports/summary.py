"""What came of labelling a table: counts, confidence and, where gold labels are known, how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obverse.errors import LabelError
from obverse.metrics.classification import Tally, accuracy, macro_f1
from obverse.metrics.intervals import Interval, bootstrap_from_confusion, wilson
from obverse.reports.typography import collapsed, counted, duration, one_line, rate, shorten, shorten_names

NO_LABEL = "(no label)"

_MOST_LABELS = 20
"""More labels than this are not listed one by one on the terminal: the most frequent are, the rest is one row."""
_MOST_CLASSES = 12
"""A confusion matrix of more classes does not fit 80 columns; the most confused pairs are listed instead."""
_MOST_PAIRS = 10
_BAR_CELLS = 20


@dataclass(frozen=True, slots=True)
class GoldMetrics:
    """How predictions compare with gold labels; a text without a prediction counts as wrong.

    Attributes:
        rows: texts with a gold label.
        answered: those of them that were given a label.
        accuracy, accuracy_interval: with the Wilson 95 % interval.
        macro_f1, macro_f1_interval: over the classes present in gold, with the bootstrap 95 % interval.
        answered_accuracy, answered_interval: among the answered texts alone; None where there are none.
        confusion: K rows (gold) of K + 1 counts (predicted labels, then no label).
        calibration_error: expected calibration error of the answered texts; None without confidences.
        brier: Brier score (0 to 2); None where the probabilities were not given.
        bin_rows, bin_confidences, bin_accuracies: the calibration bins: texts, mean confidence and accuracy in each;
            None in the means of an empty bin.
    """

    rows: int
    answered: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    answered_accuracy: float | None
    answered_interval: Interval | None
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: float | None
    brier: float | None
    bin_rows: tuple[int, ...]
    bin_confidences: tuple[float | None, ...]
    bin_accuracies: tuple[float | None, ...]

    @classmethod
    def of(cls, tally: Tally, *, resamples: int = 2000, seed: int = 0) -> GoldMetrics | None:
        """From a tally; None where no text has a gold label."""
        rows = tally.labelled
        if rows == 0:
            return None
        right = int(np.trace(tally.confusion))
        answered = int(tally.confusion[:, : tally.classes].sum())
        filled = [
            (int(n), float(c), int(k))
            for n, c, k in zip(tally.bin_rows, tally.bin_confidences, tally.bin_correct, strict=True)
        ]
        return cls(
            rows=rows,
            answered=answered,
            accuracy=float(accuracy(tally.confusion)),
            accuracy_interval=wilson(right, rows),
            macro_f1=float(macro_f1(tally.confusion)),
            macro_f1_interval=bootstrap_from_confusion(tally.confusion, macro_f1, resamples=resamples, seed=seed),
            answered_accuracy=right / answered if answered else None,
            answered_interval=wilson(right, answered) if answered else None,
            confusion=tuple(tuple(int(n) for n in row) for row in tally.confusion),
            calibration_error=tally.expected_calibration_error,
            brier=tally.brier_score,
            bin_rows=tuple(n for n, _, _ in filled),
            bin_confidences=tuple(c / n if n else None for n, c, _ in filled),
            bin_accuracies=tuple(k / n if n else None for n, _, k in filled),
        )

    def to_json(self, labels: Sequence[str]) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        return {
            "rows": self.rows,
            "answered": self.answered,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "macro_f1": self.macro_f1,
            "macro_f1_interval": list(self.macro_f1_interval),
            "answered_accuracy": self.answered_accuracy,
            "answered_interval": list(self.answered_interval) if self.answered_interval else None,
            "expected_calibration_error": self.calibration_error,
            "brier_score": self.brier,
            "confusion": {
                "rows": list(labels),
                "columns": [*labels, None],
                "counts": [list(row) for row in self.confusion],
            },
            "calibration_bins": [
                {"rows": n, "mean_confidence": c, "accuracy": a}
                for n, c, a in zip(self.bin_rows, self.bin_confidences, self.bin_accuracies, strict=True)
            ],
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """All that is said about one labelling run.

    Attributes:
        labels: their names, in order.
        counts: texts given each label.
        mean_confidences: of each label's texts; None for a label never given.
        mean_confidence: over all texts that have a confidence, those left without a label included.
        confidence_histogram: texts in each of equal bins from 0 to 1.
        rows: texts read.
        without_label: texts given no label, for whatever reason.
        below_min_confidence: those of them whose confidence was too low.
        min_confidence: the limit asked for, None if none was.
        shortened: texts cut to the model's window.
        empty: blank texts.
        ties: texts for which several labels scored the same (the first was taken).
        gold: how good the labels are; None where no gold labels are known.
        seconds: how long the labelling took; None if not measured.
        model, method, length_rule, calibration, instruction: how it was done; None where nothing is to be said.
        notes: further lines for the reader.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    mean_confidences: tuple[float | None, ...]
    mean_confidence: float | None
    confidence_histogram: tuple[int, ...]
    rows: int
    without_label: int = 0
    below_min_confidence: int = 0
    min_confidence: float | None = None
    shortened: int = 0
    empty: int = 0
    ties: int = 0
    gold: GoldMetrics | None = None
    seconds: float | None = None
    model: str = ""
    method: str = ""
    length_rule: str | None = None
    calibration: str | None = None
    instruction: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        tally: Tally,
        labels: Sequence[str],
        *,
        resamples: int = 2000,
        seed: int = 0,
        below_min_confidence: int | None = None,
        **facts: Any,
    ) -> Summary:
        """From a tally and the facts that it does not hold.

        Args:
            tally: counts over as many options as there are labels.
            labels: their names.
            resamples, seed: of the macro-F1 interval.
            below_min_confidence: None means all texts left without a label.
            **facts: the other attributes by name (`model=...`, `shortened=...`, `notes=...`).

        Raises:
            LabelError: the tally counts another number of options.
        """
        if tally.classes != len(labels):
            raise LabelError(f"there are {len(labels)} labels but counts of {tally.classes}")
        if "notes" in facts:
            facts["notes"] = tuple(facts["notes"])
        return cls(
            labels=tuple(labels),
            counts=tuple(int(n) for n in tally.counts),
            mean_confidences=tally.mean_confidences,
            mean_confidence=tally.mean_confidence,
            confidence_histogram=tuple(int(n) for n in tally.histogram),
            rows=tally.rows,
            without_label=tally.abstained,
            below_min_confidence=tally.abstained if below_min_confidence is None else below_min_confidence,
            gold=GoldMetrics.of(tally, resamples=resamples, seed=seed),
            **facts,
        )

    @property
    def labelled(self) -> int:
        """Texts with a gold label."""
        return self.gold.rows if self.gold else 0

    @property
    def texts_per_second(self) -> float | None:
        """None where the time was not measured."""
        return self.rows / self.seconds if self.seconds else None

    @property
    def headline(self) -> str:
        """How it was done, in one line: model, method, length rule, calibration."""
        method = self.method + (f" (length rule {self.length_rule})" if self.length_rule else "")
        calibration = f"calibration {self.calibration}" if self.calibration else ""
        return ", ".join(one_line(part) for part in (self.model, method, calibration) if part)

    def remarks(self) -> list[str]:
        """What the reader should know about the texts, then the notes, each a sentence."""
        remarks = []
        if self.below_min_confidence:
            limit = (
                "the least confidence asked for"
                if self.min_confidence is None
                else f"confidence {self.min_confidence:g}"
            )
            remarks.append(f"{counted(self.below_min_confidence, 'text')} below {limit}: left without a label.")
        if self.shortened:
            remarks.append(f"{counted(self.shortened, 'text')} cut to fit the model's window.")
        if self.empty:
            remarks.append(f"{counted(self.empty, 'text')} blank.")
        if self.ties:
            remarks.append(f"{counted(self.ties, 'tie')} between labels: the first label was taken.")
        return remarks + [collapsed(note) for note in self.notes]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`; the keys are part of the interface."""
        return {
            "model": self.model,
            "method": self.method,
            "length_rule": self.length_rule,
            "calibration": self.calibration,
            "instruction": self.instruction,
            "min_confidence": self.min_confidence,
            "rows": self.rows,
            "labelled": self.labelled,
            "without_label": self.without_label,
            "below_min_confidence": self.below_min_confidence,
            "shortened": self.shortened,
            "empty": self.empty,
            "ties": self.ties,
            "seconds": self.seconds,
            "texts_per_second": self.texts_per_second,
            "mean_confidence": self.mean_confidence,
            "labels": [
                {
                    "label": label,
                    "count": n,
                    "share": n / self.rows if self.rows else None,
                    "mean_confidence": confidence,
                }
                for label, n, confidence in zip(self.labels, self.counts, self.mean_confidences, strict=True)
            ],
            "confidence_histogram": list(self.confidence_histogram),
            "gold": self.gold.to_json(self.labels) if self.gold else None,
            "notes": list(self.notes),
        }

    def render(self, console: Console) -> None:
        """Print for people: reads well at 80 columns, without colour and in a pipe."""
        _Page(self, console).print()


class _Page:
    """One rendering of a summary on one console."""

    def __init__(self, summary: Summary, console: Console) -> None:
        self._summary = summary
        self._console = console
        self._ascii = console.options.ascii_only
        self._ellipsis = "..." if self._ascii else "…"

    def print(self) -> None:
        summary = self._summary
        if summary.headline:
            self._line(summary.headline, "bold")
        if summary.instruction:
            self._line(f"instruction: {shorten(collapsed(summary.instruction), 240, ellipsis=self._ellipsis)}", "dim")
        speed = summary.texts_per_second
        timing = (
            ""
            if speed is None or summary.seconds is None
            else (f" in {duration(summary.seconds)} ({rate(speed)} texts a second)")
        )
        self._line(f"{counted(summary.rows, 'text')}{timing}")
        self._line()
        self._labels()
        if summary.gold:
            self._line()
            self._metrics(summary.gold)
            self._line()
            self._confusion(summary.gold)
        remarks = summary.remarks()
        if remarks:
            self._line()
            notes = Table.grid(padding=(0, 1))
            notes.add_column(no_wrap=True)
            notes.add_column()
            for remark in remarks:
                notes.add_row("-", Text(remark))
            self._console.print(notes)

    def _line(self, text: str = "", style: str = "") -> None:
        self._console.print(Text(text, style=style))

    def _names(self, names: Sequence[str], width: int) -> list[str]:
        return shorten_names(names, width, ellipsis=self._ellipsis)

    def _table(self) -> Table:
        return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 1, 0, 0))

    def _labels(self) -> None:
        summary = self._summary
        order = list(range(len(summary.labels)))
        rest: list[int] = []
        if len(order) > _MOST_LABELS:
            order.sort(key=lambda k: -summary.counts[k])
            order, rest = order[:_MOST_LABELS], order[_MOST_LABELS:]
        bar_cells = min(_BAR_CELLS, max(4, self._console.width - 60))
        # What the other columns take: texts, "100.0 %", bar, "mean confidence", and four gaps of two.
        taken = max(5, len(f"{summary.rows:,}")) + 7 + bar_cells + 15 + 8
        names = self._names([summary.labels[k] for k in order], max(10, self._console.width - taken))
        table = self._table()
        table.add_column("label", no_wrap=True)
        table.add_column("texts", justify="right", no_wrap=True)
        table.add_column("share", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True, width=bar_cells)
        table.add_column("mean confidence", justify="right", no_wrap=True)
        largest = max([*summary.counts, summary.without_label, 1])

        def add(name: str, n: int, confidence: float | None, style: str, *, bar: bool = True) -> None:
            share = f"{100 * n / summary.rows:.1f} %" if summary.rows else "-"
            drawn = self._bar(n / largest, bar_cells) if bar else ""
            table.add_row(
                Text(name, style),
                Text(f"{n:,}"),
                Text(share),
                Text(drawn, "cyan"),
                Text("-" if confidence is None else f"{confidence:.3f}"),
            )

        for name, k in zip(names, order, strict=True):
            add(name, summary.counts[k], summary.mean_confidences[k], "")
        if rest:
            texts = sum(summary.counts[k] for k in rest)
            sums = sum(summary.counts[k] * (summary.mean_confidences[k] or 0.0) for k in rest)
            add(f"{len(rest)} more labels", texts, sums / texts if texts else None, "dim", bar=False)
        if summary.without_label:
            add(NO_LABEL, summary.without_label, None, "dim")
        if len(table.rows):
            table.rows[-1].end_section = True
        table.add_row(
            Text("all"),
            Text(f"{summary.rows:,}"),
            Text(""),
            Text(""),
            Text("-" if summary.mean_confidence is None else f"{summary.mean_confidence:.3f}"),
        )
        self._console.print(table)

    def _bar(self, share: float, cells: int) -> str:
        if self._ascii:
            return "#" * max(round(share * cells), int(share > 0))
        eighths = max(round(share * cells * 8), int(share > 0))
        return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]

    def _metrics(self, gold: GoldMetrics) -> None:
        self._line(f"accuracy {gold.accuracy:.3f} ({_interval(gold.accuracy_interval)}, n = {gold.rows:,})", "bold")
        self._line(f"macro-F1 {gold.macro_f1:.3f} ({_interval(gold.macro_f1_interval)})", "bold")
        if gold.answered < gold.rows and gold.answered_accuracy is not None and gold.answered_interval is not None:
            self._line(
                f"accuracy where a label was given {gold.answered_accuracy:.3f} "
                f"({_interval(gold.answered_interval)}, n = {gold.answered:,})"
            )
        parts = []
        if gold.calibration_error is not None:
            parts.append(f"expected calibration error {gold.calibration_error:.3f}")
        if gold.brier is not None:
            parts.append(f"Brier score {gold.brier:.3f}")
        if parts:
            self._line(", ".join(parts))

    def _confusion(self, gold: GoldMetrics) -> None:
        if len(self._summary.labels) > _MOST_CLASSES or not self._matrix(gold):
            self._pairs(gold)

    def _matrix(self, gold: GoldMetrics) -> bool:
        """Print the confusion matrix; False where it does not fit the width."""
        labels = [*self._summary.labels, NO_LABEL]
        columns = len(labels) if any(row[-1] for row in gold.confusion) else len(labels) - 1
        cell = max(len(f"{n:,}") for row in gold.confusion for n in row[:columns])
        names = self._names(self._summary.labels, 24)
        gap = 2  # the table's own column separator is one of the two
        room = (self._console.width - max(4, *map(cell_len, names))) // columns - gap
        longest = max(cell_len(one_line(label)) for label in labels[:columns])
        if room >= max(cell, min(8, longest)):
            heads = self._names(labels[:columns], room)
        else:  # columns too narrow for names are numbered, and the rows carry number and name
            heads = [*(str(k + 1) for k in range(len(self._summary.labels))), "none"][:columns]
            cell = max(cell, *map(len, heads))
            gap = 2 if self._console.width - columns * (cell + 2) >= 16 else 1
            room = self._console.width - columns * (cell + gap)
            if room < 12:
                return False
            names = [f"{k + 1} {name}" for k, name in enumerate(self._names(self._summary.labels, min(24, room) - 3))]
        self._line("confusion: a row for each gold label, a column for each predicted one")
        table = Table(
            box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim", padding=(0, gap - 1, 0, 0)
        )
        table.add_column("gold", no_wrap=True)
        for head in heads:
            table.add_column(Text(head), justify="right", no_wrap=True)
        for k, (name, row) in enumerate(zip(names, gold.confusion, strict=True)):
            cells = [
                Text(f"{n:,}" if n else "." if self._ascii else "·", "bold green" if j == k else "" if n else "dim")
                for j, n in enumerate(row[:columns])
            ]
            table.add_row(Text(name), *cells)
        self._console.print(table)
        return True

    def _pairs(self, gold: GoldMetrics) -> None:
        labels = [*self._summary.labels, NO_LABEL]
        pairs = [(n, i, j) for i, row in enumerate(gold.confusion) for j, n in enumerate(row) if n and i != j]
        if not pairs:
            self._line("No text was confused: every label agrees with gold.")
            return
        pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
        shown = pairs[:_MOST_PAIRS]
        self._line(
            "the most confused pairs" + (f" ({len(shown)} of {len(pairs):,})" if len(pairs) > len(shown) else "")
        )
        width = max(8, (self._console.width - 30) // 2)
        gold_names = self._names([labels[i] for _, i, _ in shown], width)
        predicted_names = self._names([labels[j] for _, _, j in shown], width)
        table = self._table()
        table.add_column("gold", no_wrap=True)
        table.add_column("predicted", no_wrap=True)
        table.add_column("texts", justify="right", no_wrap=True)
        table.add_column("of this gold", justify="right", no_wrap=True)
        for (n, i, _), right, predicted in zip(shown, gold_names, predicted_names, strict=True):
            table.add_row(
                Text(right), Text(predicted), Text(f"{n:,}"), Text(f"{100 * n / sum(gold.confusion[i]):.1f} %")
            )
        self._console.print(table)


def _interval(interval: Interval) -> str:
    return f"95 % interval {interval.low:.3f} to {interval.high:.3f}"
