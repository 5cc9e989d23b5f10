"""What `obverse evaluate` prints: a line a task, a column a method, and below it all that a reader should know."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obverse.reports.phrases import METRIC_NAMES, dropped_words, p_words
from obverse.reports.results import Comparison, Figure, Results
from obverse.reports.run_settings import MACRO_F1, MEAN, PublishedRow, RunSettings
from obverse.reports.typography import counted, one_line, signed
from obverse.runs.records import Manifest

_WIDTH_ELSEWHERE = 160
_REASONS_SHOWN = 6


@dataclass(frozen=True)
class EvaluationReport:
    """The figures of a run with what stands around them.

    Attributes:
        folder: the run's.
        told: further lines, about what was asked just now.
    """

    results: Results
    manifest: Manifest
    folder: Path
    told: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The results, and what was evaluated."""
        head = {"suite": self.manifest.suite, "model": self.manifest.model, "folder": str(self.folder)}
        return {**head, "missing": dict(self.manifest.missing), **self.results.to_json()}

    def render(self, console: Console) -> None:
        """Print for people."""
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = _WIDTH_ELSEWHERE
        settings = RunSettings.of(self.manifest)
        console.print(Text(f"{one_line(settings.title)}: {one_line(self.manifest.model)}", style="bold"))
        console.print(Text(self._explained(settings), style="dim"))
        table = self._table(settings, console.width)
        console.print(table)
        if any(str(column.header).startswith("(") for column in table.columns):
            console.print(
                Text("In brackets: figures of others, by their own prompts; means by setting over all their tasks.")
            )
        for line in self._lines(settings):
            console.print(Text(line))

    def _explained(self, settings: RunSettings) -> str:
        metrics = list(dict.fromkeys(task.metric for task in self.results.tasks if task.metric))
        if not metrics:
            return "No answer is known to be right or wrong, so there are no figures."
        named = " or ".join(METRIC_NAMES[metric] for metric in metrics)
        rows = "" if settings.limit is None else f", at most {counted(settings.limit, 'row')} a task"
        # A column tells several settings apart; a single one is told here.
        only = {task.setting for task in self.results.tasks}
        setting = f", {one_line(min(only))}" if len(only) == 1 and only != {""} else ""
        return f"Per cent {named}, mean over templates, 95 % interval{rows}{setting}."

    def _table(self, settings: RunSettings, width: int) -> Table:
        """Methods side by side where there is room, else one below the other."""
        lines = list(self._body(settings))
        methods = [name for name in self.manifest.methods if any(name in line.figures for line in lines)]
        rows = [
            [*line.names, line.rows, line.templates, *(_figure(line.figures.get(m)) for m in methods)] for line in lines
        ]
        heads = ["task", "setting", "metric", "rows", "templates", *methods]
        if len(methods) > 1 and _width(heads, rows) > width:
            lines = [line.only(method) for line in lines for method in (list(line.figures) or methods[:1])]
            rows = [
                [*line.names, line.rows, line.templates, line.method, _figure(line.figures.get(line.method))]
                for line in lines
            ]
            heads = [*heads[:5], "method", ""]
        rows = [[*row, line.chance] for row, line in zip(rows, lines, strict=True)]
        heads.append("chance")
        # Figures of others stand beside where there is room; a page has always room (`obverse report`).
        for published in settings.published:
            column = [_published(published, line) for line in lines]
            # Once for all methods of a line that was divided.
            same = [
                i > 0 and (lines[i - 1].task, lines[i - 1].setting) == (each.task, each.setting)
                for i, each in enumerate(lines)
            ]
            column = ["" if again else figure for figure, again in zip(column, same, strict=True)]
            wider = [[*row, each] for row, each in zip(rows, column, strict=True)]
            grown = [*heads, f"({one_line(published.model)})"]
            if any(column) and _width(grown, wider) <= width:
                heads, rows = grown, wider
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        shown = [place for place in range(len(heads)) if _differs(heads, rows, place)]
        for place in shown:
            words = heads[place] in ("task", "setting", "metric", "method")
            table.add_column(
                Text(heads[place]), justify="left" if words else "right", no_wrap=place > 0, overflow="fold"
            )
        for line, row in zip(lines, rows, strict=True):
            table.add_row(*(Text(row[place]) for place in shown), style="bold" if line.is_mean else "")
        return table

    def _body(self, settings: RunSettings) -> Iterator[_Line]:
        found: dict[tuple[str, str], _Line] = {}
        for task in self.results.tasks:
            line = found.setdefault((task.task, task.setting), _Line(task.task, task.setting, task.metric or ""))
            cells = max(1, task.templates * task.wordings)
            line.rows = f"{task.rows // cells:,}"
            line.templates = f"{task.templates:,}" + (f" x {task.wordings} wordings" if task.wordings > 1 else "")
            known = settings.task(task.task)
            # A blind choice's accuracy; its macro-F1 is another number.
            known_chance = None if line.metric == MACRO_F1 else known.chance
            line.chance = "" if known_chance is None else f"{100 * known_chance:.1f}"
            if task.figure is not None:
                line.figures[task.method] = task.figure.mean
        yield from found.values()
        means: dict[tuple[str, str, int], _Line] = {}
        for mean in self.results.means:
            line = means.setdefault(
                (mean.metric, mean.setting, mean.tasks),
                _Line(f"mean of {mean.tasks} tasks", mean.setting, mean.metric, is_mean=True),
            )
            line.figures[mean.method] = mean.mean
            line.tasks = tuple(
                task.task
                for task in self.results.tasks
                if (task.metric, task.setting, task.method) == (mean.metric, mean.setting, mean.method)
            )
        yield from means.values()

    def _lines(self, settings: RunSettings) -> Iterator[str]:
        for comparison in self._comparisons():
            setting = f" ({comparison.setting})" if comparison.setting else ""
            p = "" if comparison.p is None else f", {p_words(comparison.p)}"
            yield (
                f"{comparison.a} - {comparison.b}{setting}: {signed(100 * comparison.difference, 1)} points "
                f"({signed(100 * comparison.low, 1)} to {signed(100 * comparison.high, 1)}{p})."
            )
        seen = [name for name, task in settings.tasks.items() if task.seen]
        if seen:
            yield f"Not counted as unseen, by the suite or the model's own account: {', '.join(map(one_line, seen))}."
        cells = self.results.cells
        records = sum(cell.rows for cell in cells)
        reasons: Counter[str] = Counter()
        for cell in cells:
            reasons.update(cell.reasons)
        for reason, count in reasons.most_common(_REASONS_SHOWN):
            yield f"{counted(count, 'record')} of {records:,} without an answer: {one_line(reason)}."
        if len(reasons) > _REASONS_SHOWN:
            yield f"{len(reasons) - _REASONS_SHOWN} further reasons stand in the records."
        dropped = self.results.dropped
        lost = dropped_words(dropped, settings) if dropped else ""
        for count, what in (
            (sum(cell.shortened for cell in cells), "with an input shortened to fit the model's window"),
            (sum(cell.cut for cell in cells), "with tokens cut away by the reference's truncation"),
            (dropped.total(), f"with {lost} dropped to fit the model's window"),
            (sum(cell.tied for cell in cells), "tied, the first of the best taken"),
        ):
            if count:
                yield f"{counted(count, 'record')} of {records:,} {what}."
        if settings.demonstrations:
            yield f"Demonstrations of other tasks: {settings.demonstrations}."
        yield from self.told

    def _comparisons(self) -> list[Comparison]:
        """Of the first method with each other one: the mean over tasks, or the only task."""
        found = [each for each in self.results.comparisons if each.a == self.manifest.methods[0]]
        over = [each for each in found if each.task == MEAN]
        return over or (found if len(self.manifest.data) == 1 else [])


@dataclass
class _Line:
    """A row of the table."""

    task: str
    setting: str
    metric: str
    is_mean: bool = False
    tasks: tuple[str, ...] = ()
    rows: str = ""
    templates: str = ""
    chance: str = ""
    method: str = ""
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, str, str]:
        """What the line is about."""
        return one_line(self.task), self.setting, METRIC_NAMES.get(self.metric, "")

    def only(self, method: str) -> _Line:
        """The line with one method's figure."""
        return replace(self, method=method)


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def _published(row: PublishedRow, line: _Line) -> str:
    """The figure of others that stands for the same; empty where there is none."""
    if not line.is_mean:
        return f"{100 * row.figures[line.task]:.1f}" if line.task in row.figures else ""
    if line.setting in row.figures:
        return f"{100 * row.figures[line.setting]:.1f}"
    # Their mean over the tasks of ours, which need not be all of theirs.
    theirs = [row.figures[task] for task in line.tasks if task in row.figures]
    return f"{100 * sum(theirs) / len(theirs):.1f}" if theirs and len(theirs) == len(line.tasks) else ""


def _differs(heads: list[str], rows: list[list[str]], place: int) -> bool:
    """Whether a column says anything: an empty one does not, nor one metric, setting or template everywhere."""
    values = {row[place] for row in rows if row[place]}
    if heads[place] == "templates":
        return values != {"1"}
    return len(values) > 1 if heads[place] in ("metric", "setting") else bool(values)


def _width(heads: list[str], cells: list[list[str]]) -> int:
    return sum(2 + max(map(cell_len, column)) for column in zip(heads, *cells, strict=True) if any(column[1:]))
