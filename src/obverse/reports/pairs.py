"""Two sides on the same instances: which can be compared, by how much they differ, and where.

A side is one method of one run. Sides of different runs are compared only on tasks whose data have the same digest in
both, and then only on the rows, templates and wordings that both have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, final

import numpy as np

from obverse.reports.blocks import Block, DotChart, Piece, Strip, StripGroup, Table, TableCell, TableRow, Words
from obverse.reports.columns import Column, ReportedRun
from obverse.reports.outcomes import NO_GOLD, Outcomes
from obverse.reports.phrases import METRIC_NAMES, p_text, points, sentence_list
from obverse.reports.results import Comparison, Group, Shared, Sides, compare
from obverse.reports.run_settings import ACCURACY, MACRO_F1, MEAN
from obverse.reports.typography import collapsed, counted, one_line, shorten, signed

_MOST_COLUMNS = 8
"""With more sides than this only the same method of two runs is compared across runs."""
_MOST_PAIRS = 6
"""With more pairs of sides than this only their means are drawn, and instances are shown of the plainest pairs."""
_MOST_ROWS = 240
_LEAST_ROWS, _ROWS = 2, 8
_TEXT_CELLS = 420
_ANSWER_CELLS = 90


class Place(NamedTuple):
    """Where an instance lies: its id and its place in the split."""

    row: str
    position: int


class FoundTexts(NamedTuple):
    """Texts of instances by their ids; what could not be read, and why, a sentence or nothing."""

    texts: Mapping[str, str]
    fault: str = ""


Texts = Callable[[str, str, Sequence[Place]], FoundTexts]
"""From task, split and places to the texts there."""


@final
@dataclass(frozen=True, eq=False)
class Pairing:
    """Two sides and their comparisons.

    Attributes:
        is_shown: it has a place of its own in the report, and does not only mark a table.
    """

    a: Column
    b: Column
    comparisons: tuple[Comparison, ...]
    is_shown: bool

    @property
    def name(self) -> str:
        """`a minus b`."""
        return f"{self.a.name} minus {self.b.name}"


def pairings_of(runs: Sequence[ReportedRun], columns: Sequence[Column]) -> tuple[Pairing, ...]:
    """All pairs of sides that have instances in common."""
    pairings = []
    for a, b in combinations(columns, 2):
        if a.number == b.number:
            found = tuple(c for c in a.run.results.comparisons if (c.a, c.b) == (a.method, b.method))
            shown = True
        else:
            shown = a.method == b.method or not _share_a_method(a, b, columns)
            if not shown and len(columns) > _MOST_COLUMNS:
                continue
            found = tuple(_across(a, b))
        if found:
            pairings.append(Pairing(a, b, found, shown))
    return tuple(pairings)


def fit_words(runs: Sequence[ReportedRun]) -> tuple[str, ...]:
    """What the runs have in common, in sentences."""
    words = []
    for a, b in combinations(runs, 2):
        first, second = a.judged.run.manifest, b.judged.run.manifest
        both = [task for task in a.tasks if task in b.tasks]
        same = [task for task in both if first.data[task] == second.data[task]]
        other = [task for task in both if task not in same]
        who = f"{a.name} and {b.name}"
        if not both:
            words.append(f"{who} have no task in common: they stand side by side and are not compared.")
        elif not same:
            words.append(
                f"{who} have other data for every task that they share: they stand side by side and are not compared."
            )
        else:
            suite = "" if first.suite_digest == second.suite_digest else ", though their suites differ"
            words.append(f"{who} are compared on {counted(len(same), 'task')} with the same data{suite}.")
            if other:
                words.append(f"Their data differ for {sentence_list(other)}: not compared.")
    return tuple(words)


# --- the comparisons ----------------------------------------------------------------------------------------------


def comparison_piece(runs: Sequence[ReportedRun], pairings: Sequence[Pairing]) -> Piece | None:
    """Differences with intervals and tests."""
    shown = [pairing for pairing in pairings if pairing.is_shown]
    if not shown:
        return None
    groups, rows = [], []
    settings = {c.setting for pairing in shown for c in pairing.comparisons}
    metrics = {c.metric for pairing in shown for c in pairing.comparisons}
    mcnemar = any(c.mcnemar is not None for pairing in shown for c in pairing.comparisons)
    many = len(shown) > _MOST_PAIRS
    for colour, pairing in enumerate(shown):
        for setting in dict.fromkeys(c.setting for c in pairing.comparisons):
            of_setting = [c for c in pairing.comparisons if c.setting == setting]
            name = f"{pairing.name}, {setting}" if len(settings) > 1 and setting else pairing.name
            drawn = [c for c in of_setting if c.task == MEAN] if many else of_setting
            groups.append(StripGroup(name, tuple(_difference_strip(c, colour) for c in drawn or of_setting), 0.0))
            rows.append(TableRow((TableCell(name),), "section"))
            rows += [_difference_row(c, len(metrics) > 1, mcnemar) for c in of_setting]
    ends = [v for group in groups for strip in group.strips for v in (strip.low, strip.high) if v is not None]
    reach = max(0.05, math.ceil(20 * max(map(abs, ends)) - 1e-9) / 20)
    marks = tuple((value, signed(100 * value, 0)) for value in (-reach, -reach / 2, 0.0, reach / 2, reach))
    chart = DotChart(
        tuple(groups),
        -reach,
        reach,
        marks,
        "Difference in points, with its 95 % interval. One that crosses 0 may be chance.",
        line="no difference",
        legend=(("mean", "difference, 95 % interval"),),
    )
    heads = ["task", *(["metric"] if len(metrics) > 1 else []), "difference", "95 % interval", "p", "p, Holm"]
    heads += [*(["p, McNemar"] if mcnemar else []), "answers"]
    notes = [
        "Compared on the same rows under the same templates and wordings, pair by pair. Holm's correction is over the "
        "tasks of one pair of sides in one setting.",
        "With four templates and more, these and the rows are both resampled; with fewer, and for macro-F1, the rows "
        "alone, and so for the mean, in which every task weighs the same (of macro-F1: every template and wording).",
    ]
    if mcnemar:
        notes.append("McNemar's test is for tasks under one template, where every row is one right or wrong answer.")
    table = Table(
        tuple(heads),
        tuple(rows),
        numbers=frozenset(range(1 + (len(metrics) > 1), len(heads))),
        caption="The same in numbers (points)",
        notes=tuple(notes),
    )
    return Piece("comparisons", "Compared pair by pair", (chart, table))


def _difference_strip(c: Comparison, colour: int) -> Strip:
    text = f"{signed(100 * c.difference, 1)} ({points(c.low, c.high)})"
    return Strip(_task_name(c), colour, mean=c.difference, low=c.low, high=c.high, text=text)


def _difference_row(c: Comparison, with_metric: bool, with_mcnemar: bool) -> TableRow:
    clear = (c.p if c.task == MEAN else c.p_holm) or 0.0
    difference = TableCell(signed(100 * c.difference, 1), mark="best" if clear < 0.05 and c.p is not None else "")
    cells = [TableCell(_task_name(c)), *([TableCell(METRIC_NAMES[c.metric])] if with_metric else []), difference]
    cells += [TableCell(points(c.low, c.high)), TableCell(p_text(c.p)), TableCell(p_text(c.p_holm))]
    cells += [TableCell(p_text(c.mcnemar))] if with_mcnemar else []
    cells += [TableCell(f"{c.rows:,}")]
    return TableRow(tuple(cells), "foot" if c.task == MEAN else "")


def _task_name(c: Comparison) -> str:
    return f"mean over {counted(c.cells, 'task')}" if c.task == MEAN else c.task


def _share_a_method(a: Column, b: Column, columns: Sequence[Column]) -> bool:
    """Whether the runs of two columns have a method in common."""
    first, second = ({each.method for each in columns if each.number == side.number} for side in (a, b))
    return bool(first & second)


def _across(a: Column, b: Column) -> list[Comparison]:
    """The comparisons of two sides of different runs, on tasks of the same data."""
    found = []
    for setting in dict.fromkeys(group.setting for group in a.run.judged.groups):
        sides = [each for each in _shared_groups(a, b) if each.group.setting == setting]
        found += compare(sides, a=a.name, b=b.name, setting=setting)
    return found


def _shared_groups(a: Column, b: Column) -> list[Sides]:
    sides = []
    for group, cells in a.run.judged.groups.items():
        other = Group(group.task, group.split, group.setting, b.method)
        if group.method != a.method or other not in b.run.judged.groups:
            continue
        metric = a.run.judged.metric(group)
        same = a.run.digest(group.task) == b.run.digest(group.task) and metric == b.run.judged.metric(other)
        if same and metric is not None:
            sides.append(Sides(group, metric, cells, b.run.judged.groups[other]))
    return sides


# --- where they differ --------------------------------------------------------------------------------------------


class _Instance(NamedTuple):
    """An instance on which two sides differ: mean outcome of each, and its answers (cell, row) of each."""

    place: Place
    a: float
    b: float
    answers: tuple[tuple[Outcomes, int, Outcomes, int], ...]


def differences_piece(runs: Sequence[ReportedRun], pairings: Sequence[Pairing], texts: Texts | None) -> Piece | None:
    """The instances on which two sides differ most, with their texts where they can be had."""
    shown = sorted((each for each in pairings if each.is_shown), key=lambda each: each.name.count(", "))
    found: list[tuple[Pairing, Group, list[_Instance]]] = []
    for pairing in shown[:_MOST_PAIRS]:
        for sides in _shared_groups(pairing.a, pairing.b):
            instances = _differing(sides)
            if instances:
                found.append((pairing, sides.group, instances))
    if not found:
        return None
    most = max(_LEAST_ROWS, min(_ROWS, _MOST_ROWS // len(found)))
    blocks: list[Block] = []
    faults: dict[str, None] = {}
    total = 0
    for pairing, group, instances in found:
        if total >= _MOST_ROWS:
            break
        kept = instances[:most]
        total += len(kept)
        told = FoundTexts({})
        if texts is not None:
            told = texts(group.task, group.split, [each.place for each in kept])
            if told.fault:
                faults[told.fault] = None
        blocks.append(_instances_table(pairing, group, instances, kept, told.texts if texts is not None else None))
    words = [
        "Those first on which the two differ under most templates. “Right under 5 of 6” counts templates and wordings."
    ]
    if texts is None:
        words.append(
            "No data folder was given, so instances are told by their ids, and options of their own by number: "
            "--data DIR shows their texts."
        )
    left = len(found) - len(blocks)
    if left:
        words.append(f"{counted(left, 'more task')} of these pairs left out.")
    if len(shown) > _MOST_PAIRS:
        words.append(f"{counted(len(shown) - _MOST_PAIRS, 'more pair')} of methods left out.")
    head: list[Block] = [Words(tuple(words))]
    if faults:
        head.append(Words(tuple(faults), "warning"))
    return Piece("differences", "Where they differ", (*head, *blocks))


def _differing(sides: Sides) -> list[_Instance]:
    """The instances whose mean outcome differs, the furthest apart first."""
    shared = Shared.of(sides)
    if shared is None:
        return []
    metric = ACCURACY if shared.metric == MACRO_F1 else shared.metric
    found: dict[str, list[tuple[Outcomes, int, Outcomes, int]]] = {}
    for first, second, index_a, index_b in shared.cells:
        for i, j in zip(index_a.tolist(), index_b.tolist(), strict=True):
            found.setdefault(first.rows[i], []).append((first, i, second, j))
    instances = []
    for row, answers in found.items():
        a = float(np.mean([first.values[metric][i] for first, i, _, _ in answers]))
        b = float(np.mean([second.values[metric][j] for _, _, second, j in answers]))
        if abs(a - b) > 1e-9:
            first, i, _, _ = answers[0]
            instances.append(_Instance(Place(row, first.positions[i]), a, b, tuple(answers)))
    return sorted(instances, key=lambda each: (-abs(each.a - each.b), each.place.position))


def _instances_table(
    pairing: Pairing,
    group: Group,
    instances: Sequence[_Instance],
    kept: Sequence[_Instance],
    texts: Mapping[str, str] | None,
) -> Table:
    heads = ("instance", *(("text",) if texts is not None else ()), "right answer", pairing.a.name, pairing.b.name)
    rows = []
    for each in kept:
        cells = [TableCell(shorten(one_line(each.place.row), 60), f"place {each.place.position + 1:,}")]
        if texts is not None:
            cells.append(TableCell(shorten(collapsed(texts.get(each.place.row, "")), _TEXT_CELLS)))
        with_texts = texts is not None
        cells.append(TableCell(_gold(each, with_texts=with_texts)))
        for side, value in (
            ([(first, i) for first, i, _, _ in each.answers], each.a),
            ([(second, j) for _, _, second, j in each.answers], each.b),
        ):
            cells.append(_answer_cell(side, value, with_texts=with_texts))
        rows.append(TableRow(tuple(cells)))
    name = ", ".join([group.task, *([group.setting] if group.setting else [])])
    better = sum(each.a > each.b for each in instances)
    caption = (
        f"{name}: {counted(len(instances), 'instance')} differ, {pairing.a.name} is better on {better:,}, "
        f"{pairing.b.name} on {len(instances) - better:,}"
    )
    if len(kept) < len(instances):
        caption += f"; {len(kept)} shown"
    return Table(heads, tuple(rows), caption=caption, wraps=True)


def _gold(each: _Instance, *, with_texts: bool) -> str:
    first, i, _, _ = each.answers[0]
    names = dict.fromkeys(
        _named(cell, k, int(cell.gold[k]), with_texts=with_texts)
        for cell, k, _, _ in each.answers
        if cell.gold[k] != NO_GOLD
    )
    if not names and with_texts:
        names = dict.fromkeys(map(one_line, first.references_of(i)))
    return shorten(" / ".join(list(names)[:3]), _ANSWER_CELLS)


def _named(cell: Outcomes, row: int, index: int, *, with_texts: bool) -> str:
    """An option in words, or by its number where a row's own options are texts of the data set."""
    name = cell.option(row, index)
    return one_line(name or "") if with_texts or cell.labels is not None else f"option {index + 1}"


def _answer_cell(answers: Sequence[tuple[Outcomes, int]], value: float, *, with_texts: bool) -> TableCell:
    names = []
    for cell, i in answers:
        chosen = int(cell.chosen[i])
        if chosen >= 0:
            names.append(_named(cell, i, chosen, with_texts=with_texts))
        elif (said := cell.answer(i)) is not None:
            names.append(one_line(said))
    mark = "best" if value == 1 else "dim" if value == 0 else ""
    if len(answers) == 1:
        verdict = "right" if value == 1 else "wrong" if value == 0 else f"worth {value:.2f}"
        return TableCell(shorten(names[0] if names else "no answer", _ANSWER_CELLS), verdict, mark)
    worth = round(value * len(answers), 2)
    return TableCell(f"right under {worth:g} of {len(answers)}", mark=mark)
