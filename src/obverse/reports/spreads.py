"""How figures spread: over templates, over wordings of the answers, and from setting to setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from obverse.reports.blocks import Dot, DotChart, Piece, Strip, StripGroup, Table, TableCell, TableRow
from obverse.reports.columns import Column, ReportedRun, chance_of, setting_names, task_groups
from obverse.reports.phrases import METRIC_NAMES, as_published, interval, percent, ticks, titled
from obverse.reports.results import Figure, Group
from obverse.reports.run_settings import MEAN
from obverse.reports.typography import counted, one_line, signed
from obverse.runs.records import Cell

_FLIPPED = "flipped label"


def _cell_values(column: Column) -> Mapping[Cell, Mapping[str, Figure]]:
    return {cell.cell: cell.figures for cell in column.run.results.cells if cell.cell.method == column.method}


def _strip(column: Column, figure: Figure | None, dots: Sequence[Dot] = (), *, colour: int) -> Strip:
    if figure is None:
        return Strip(column.name, colour, tuple(dots))
    text = f"{percent(figure.value)} ({interval(figure)})"
    return Strip(column.name, colour, tuple(dots), figure.value, figure.low, figure.high, text)


def templates_piece(runs: Sequence[ReportedRun], columns: Sequence[Column]) -> Piece | None:
    found: dict[str, list[Strip]] = {}
    lines: dict[str, float | None] = {}
    for colour, column in enumerate(columns):
        values = _cell_values(column)
        for group, task in task_groups(column):
            if task.templates < 2 or task.figure is None or task.metric is None:
                continue
            dots = [
                Dot(values[cell.cell][task.metric].value, titled(cell.cell.template, cell.cell.wording))
                for cell in column.run.judged.groups[group]
                if task.metric in values[cell.cell]
            ]
            name = _group_name(group, task.metric, columns)
            found.setdefault(name, []).append(_strip(column, task.figure.mean, dots, colour=colour))
            lines[name] = chance_of(runs, group.task)
    if not found:
        return None
    groups = tuple(StripGroup(name, tuple(strips), lines[name]) for name, strips in found.items())
    chart = _chart(
        groups,
        "Every point is one template; the bar is the mean over them with its 95 % interval (per cent).",
        line="chance" if any(line is not None for line in lines.values()) else "",
        legend=(("dot", "a template"), ("mean", "mean, 95 % interval")),
    )
    return Piece("templates", "Spread over templates", (chart,))


def wordings_piece(runs: Sequence[ReportedRun], columns: Sequence[Column]) -> Piece | None:
    found: dict[str, list[Strip]] = {}
    lines: dict[str, float | None] = {}
    rows: list[TableRow] = []
    for colour, column in enumerate(columns):
        for group, task in task_groups(column):
            of_wording = {
                each.wording: each.figures[task.metric]
                for each in column.run.results.wordings
                if Group(each.task, each.split, each.setting, each.method) == group
                and task.metric is not None
                and task.metric in each.figures
            }
            if len(of_wording) < 2 or task.figure is None or task.metric is None:
                continue
            worst = min(of_wording, key=lambda name: of_wording[name].mean.value)
            own = of_wording.get("")
            dots = [
                Dot(
                    figure.mean.value,
                    name or "the template's own words",
                    "own" if not name else "worst" if name == worst else "",
                )
                for name, figure in of_wording.items()
            ]
            if not worst:
                dots = [replace(dot, kind="worst") if dot.kind == "own" else dot for dot in dots]
            name = _group_name(group, task.metric, columns)
            found.setdefault(name, []).append(_strip(column, task.figure.mean, dots, colour=colour))
            lines[name] = chance_of(runs, group.task)
            mean, least = task.figure.mean, of_wording[worst].mean
            rows.append(
                TableRow(
                    (
                        TableCell(name),
                        TableCell(column.name),
                        TableCell(percent(own.mean.value) if own else "", interval(own.mean) if own else ""),
                        TableCell(percent(mean.value), interval(mean)),
                        TableCell(percent(least.value), interval(least)),
                        TableCell(one_line(worst) or "own words"),
                        TableCell(signed(100 * (mean.value - own.mean.value), 1) if own else ""),
                        TableCell(signed(100 * (least.value - own.mean.value), 1) if own else ""),
                    )
                )
            )
    if not found:
        return None
    groups = tuple(StripGroup(name, tuple(strips), lines[name]) for name, strips in found.items())
    chart = _chart(
        groups,
        "Every point is one wording of the answers; the bar is the mean over them with its 95 % interval (per cent).",
        line="chance" if any(line is not None for line in lines.values()) else "",
        legend=(
            ("dot", "a wording"),
            ("own", "the template's own words"),
            ("worst", "the worst wording"),
            ("mean", "mean, 95 % interval"),
        ),
    )
    order = {name: i for i, name in enumerate(found)}
    rows.sort(key=lambda row: order[row.cells[0].text])
    table = Table(
        ("task", "method", "own words", "mean", "worst", "worst wording", "own to mean", "own to worst"),
        tuple(rows),
        numbers=frozenset({2, 3, 4, 6, 7}),
        caption="What other words for the same answers cost (per cent; losses in points)",
        notes=("A loss is negative. The worst of many wordings lies low by chance alone, the more so with few rows.",),
        sortable=True,
    )
    return Piece("wordings", "Answers in other words", (chart, table))


def settings_piece(runs: Sequence[ReportedRun], columns: Sequence[Column]) -> Piece | None:
    names = setting_names(runs)
    if len(names) < 2:
        return None
    published = {(row.model, row.source): row for run in runs for row in run.judged.settings.published}
    groups = []
    for name in names:
        strips = []
        for colour, column in enumerate(columns):
            means = [m for m in column.run.results.means if (m.setting, m.method) == (name, column.method)]
            alone = [t for t in column.run.results.tasks if (t.setting, t.method) == (name, column.method)]
            if means:
                strips.append(_strip(column, means[0].mean, colour=colour))
            elif len(alone) == 1 and alone[0].figure is not None:
                strips.append(_strip(column, alone[0].figure.mean, colour=colour))
        for row in published.values():
            if name in row.figures and strips:
                value = row.figures[name]
                strips.append(Strip(row.model, len(columns), mean=value, text=as_published(value), hollow=True))
        if strips:
            groups.append(StripGroup(name or "(no setting)", tuple(strips)))
    if not groups:
        return None
    tasks = {task.task for run in runs for task in run.results.tasks}
    caption = f"Mean over {counted(len(tasks), 'task')} in each setting, with its 95 % interval (per cent)."
    hollow = any(strip.hollow for group in groups for strip in group.strips)
    notes = tuple(dict.fromkeys(f"{row.model}: {row.source}" for row in published.values() if row.source))
    chart = _chart(
        tuple(groups),
        caption,
        legend=(("mean", "mean, 95 % interval"), *((("hollow", "published by others"),) if hollow else ())),
        notes=notes if hollow else (),
    )
    return Piece("settings", "The same tasks in each setting", (chart,))


def flipped_piece(runs: Sequence[ReportedRun], columns: Sequence[Column]) -> Piece | None:
    found: dict[str, list[Strip]] = {}
    for colour, column in enumerate(columns):
        suite = column.run.judged.run.manifest.suite == "flipped-labels"
        for group, task in task_groups(column):
            if (suite or _FLIPPED in group.setting.casefold()) and task.metric is not None and task.figure is not None:
                name = group.task if suite else f"{group.task}, {group.setting}"
                found.setdefault(name, []).append(_strip(column, task.figure.mean, colour=colour))
    if not found:
        return None
    groups = [StripGroup(name, tuple(strips), 0.5) for name, strips in found.items()]
    rows = {(row.model, row.source): row for run in runs for row in run.judged.settings.published}
    beside = [
        Strip(row.model, len(columns), mean=row.figures[MEAN], text=as_published(row.figures[MEAN]), hollow=True)
        for row in rows.values()
        if MEAN in row.figures
    ]
    means = [
        _strip(column, mean.mean, colour=colour)
        for colour, column in enumerate(columns)
        for mean in column.run.results.means
        if mean.method == column.method
        and (column.run.judged.run.manifest.suite == "flipped-labels" or _FLIPPED in mean.setting.casefold())
    ]
    if means or beside:
        groups.append(StripGroup("mean over tasks", (*means, *beside), 0.5))
    chart = _chart(
        tuple(groups),
        "Exemplars and right answers carry the other class's label (per cent right, 95 % interval).",
        line="50 %",
        legend=(
            ("mean", "share of right answers, 95 % interval"),
            *((("hollow", "published by others"),) if beside else ()),
        ),
        notes=("Right of 50 % the model follows the exemplars; left of it, what it knew before.",),
    )
    return Piece("flipped-labels", "Flipped labels", (chart,))


def _chart(
    groups: tuple[StripGroup, ...],
    caption: str,
    *,
    line: str = "",
    legend: tuple[tuple[str, str], ...] = (),
    notes: tuple[str, ...] = (),
) -> DotChart:
    values = [v for g in groups for s in g.strips for v in (s.low, s.high, s.mean, *(d.value for d in s.dots))]
    values += [group.line for group in groups]
    there = [value for value in values if value is not None]
    low, high = math.floor(10 * min(there) + 1e-9) / 10, math.ceil(10 * max(there) - 1e-9) / 10
    if low == high:
        low, high = low - 0.1, high + 0.1
    return DotChart(groups, low, high, ticks(low, high), caption, line, legend, notes)


def _group_name(group: Group, metric: str, columns: Sequence[Column]) -> str:
    """What a strip's heading is called: the parts that tell it from others."""
    metrics = {t.metric for c in columns for t in c.run.results.tasks if t.metric is not None}
    splits = {t.split for c in columns for t in c.run.results.tasks if t.task == group.task}
    parts = [group.task, *([group.split] if len(splits) > 1 else []), *([group.setting] if group.setting else [])]
    return ", ".join(parts) + (f" ({METRIC_NAMES[metric]})" if len(metrics) > 1 else "")
