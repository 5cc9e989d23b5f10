"""What methods answer: how far their confidence can be trusted, and what they take for what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from obverse.metrics.classification import Tally, confusion_counts
from obverse.reports.blocks import Bin, Block, Piece, Reliability, ReliabilityChart, Table, TableCell, TableRow, Words
from obverse.reports.columns import Column, ReportedRun, task_groups
from obverse.reports.outcomes import NO_GOLD, Outcomes
from obverse.reports.phrases import percent
from obverse.reports.results import Group
from obverse.reports.run_settings import ACCURACY
from obverse.reports.typography import counted

_MOST_MATRICES = 60
_MOST_CLASSES = 12
_BINS = 15


def calibration_piece(runs: Sequence[ReportedRun], columns: Sequence[Column]) -> Piece | None:
    diagrams = []
    for colour, column in enumerate(columns):
        cells = [c for c in column.run.judged.cells if c.cell.method == column.method and c.classes]
        cells = [c for c in cells if not np.isnan(c.probabilities).all() and (c.gold != NO_GOLD).any()]
        if not cells:
            continue
        tally = Tally(max(cell.classes for cell in cells), bins=_BINS)
        for cell in cells:
            _tally(tally, cell)
        error, brier = tally.expected_calibration_error, tally.brier_score
        if error is None or brier is None:
            continue
        bins = tuple(
            Bin(float(c / n), float(r / n), int(n))
            for n, c, r in zip(tally.bin_rows, tally.bin_confidences, tally.bin_correct, strict=True)
            if n
        )
        rows = int(tally.bin_rows.sum())
        right = float(tally.bin_correct.sum() / rows)
        sure = float(tally.bin_confidences.sum() / rows)
        facts = (
            f"expected calibration error {error:.3f}",
            f"Brier score {brier:.3f}",
            f"mean confidence {percent(sure)} %, right {percent(right)} %",
            f"{rows:,} answers",
        )
        diagrams.append(Reliability(column.name, colour, bins, facts))
    if not diagrams:
        return None
    chart = ReliabilityChart(
        tuple(diagrams),
        "Share of right answers (up) by confidence (right), in bins of equal width; larger points hold more answers.",
        (
            "On the diagonal confidence is what it says; below it the method is too sure. Confidence is the softmax of "
            "the scores, divided by the method's temperature. All tasks, templates and wordings are pooled.",
            "Brier score: the sum over options of squared errors, 0 at best, 2 at worst.",
        ),
    )
    return Piece("calibration", "How far confidence can be trusted", (chart,))


def _tally(tally: Tally, cell: Outcomes) -> None:
    padded = np.zeros((len(cell.rows), tally.classes))
    padded[:, : cell.classes] = cell.probabilities
    known = ~np.isnan(cell.probabilities).any(axis=1)
    for i in np.flatnonzero(known & (cell.gold != NO_GOLD) & (cell.chosen >= 0)):
        chosen = int(cell.chosen[i])
        tally.add(int(cell.gold[i]), chosen, min(1.0, float(padded[i, chosen])), padded[i])


def confusion_piece(runs: Sequence[ReportedRun], columns: Sequence[Column]) -> Piece | None:
    tables: dict[tuple[str, str, str], list[Block]] = {}
    left = rarer = 0
    some_own = False
    for column in columns:
        for group, task in task_groups(column):
            own = any(not cell.cell.wording for cell in column.run.judged.groups[group])
            by_labels: dict[tuple[str, ...], list[Outcomes]] = {}
            for cell in column.run.judged.groups[group]:
                labels = cell.labels
                if labels is None or not cell.sole or ACCURACY not in cell.values or len(labels) > _MOST_CLASSES:
                    continue
                if task.wordings > 1 and own and cell.cell.wording:
                    some_own = True
                    continue
                by_labels.setdefault(labels, []).append(cell)
            if not by_labels:
                continue
            labels = max(by_labels, key=lambda labels: len(by_labels[labels]))
            rarer += sum(map(len, by_labels.values())) - len(by_labels[labels])
            of_task = tables.setdefault((group.task, group.split, group.setting), [])
            if sum(map(len, tables.values())) < _MOST_MATRICES:
                of_task.append(_matrix(group, column, labels, by_labels[labels]))
            else:
                left += 1
    if not tables:
        return None
    words = "A row for each right answer, a column for each one given; the darker, the larger a share of its row."
    notes = ["Templates with the same answers are added up."]
    if rarer:
        notes.append("Of each task and method those answers are shown that most templates have.")
    if some_own:
        notes.append("Of several wordings the template's own is shown.")
    if left:
        notes.append(f"{counted(left, 'more table')} left out.")
    blocks = [block for of_task in tables.values() for block in of_task]
    return Piece("confusion", "What is taken for what", (Words((words,)), *blocks, Words((" ".join(notes),), "note")))


def _matrix(group: Group, column: Column, labels: Sequence[str], cells: Sequence[Outcomes]) -> Table:
    counts = sum(
        (
            confusion_counts(cell.gold[cell.judged(ACCURACY)], cell.chosen[cell.judged(ACCURACY)], classes=len(labels))
            for cell in cells
        ),
        start=np.zeros((len(labels), len(labels) + 1), dtype=np.int64),
    )
    shown = counts if counts[:, -1].any() else counts[:, :-1]
    heads = ("right answer", *labels, *(["no answer"] if counts[:, -1].any() else []))
    rows = tuple(
        TableRow(
            (
                TableCell(label),
                *(
                    TableCell(f"{n:,}", mark="" if n else "dim", shade=float(n / line.sum()) if line.sum() else 0.0)
                    for n in line
                ),
            )
        )
        for label, line in zip(labels, shown, strict=True)
    )
    name = ", ".join([group.task, *([group.setting] if group.setting else []), column.name])
    templates = f"{counted(len(cells), 'template')}, " if len(cells) > 1 else ""
    return Table(
        heads,
        rows,
        numbers=frozenset(range(1, len(heads))),
        caption=f"{name} ({templates}{counted(int(counts.sum()), 'answer')})",
    )
