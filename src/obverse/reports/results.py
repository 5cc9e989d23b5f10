"""A run's records as figures: each cell, each task over its templates, means over tasks, and paired comparisons.

==================  =================================================================================================
figure              interval
==================  =================================================================================================
cell                Wilson's for shares of right answers; else a bootstrap over rows
task                over templates and wordings: both they and the rows are drawn (`cluster_bootstrap`), or, with fewer
                    than `LEAST_DRAWN` of them, rows alone, which says nothing about further templates
mean over tasks     every task weighs the same; rows are drawn, tasks and templates held fixed
difference          as for a task, on the rows that both sides have under the same templates and wordings; macro-F1
                    with templates held fixed (`paired_difference`)
==================  =================================================================================================

All are 95 % intervals, and all numbers come from `obverse.metrics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from obverse.metrics.classification import ABSTAINED, confusion_counts, macro_f1
from obverse.metrics.comparisons import Spread, cluster_bootstrap, clustered_difference, holm, mcnemar
from obverse.metrics.intervals import (
    Interval,
    PairedDifference,
    bootstrap_from_confusion,
    mean_paired_difference,
    paired_difference,
    wilson,
)
from obverse.reports.outcomes import Normalise, Outcomes, outcomes_of
from obverse.reports.run_settings import ACCURACY, EXACT_MATCH, MACRO_F1, MEAN, METRICS, ROUGE_L, RunSettings
from obverse.runs.records import Cell
from obverse.runs.store import Run

LEAST_DRAWN = 4
"""With fewer templates and wordings than this they are held fixed: two or three say next to nothing of others."""
RESAMPLES = 1000


class Figure(NamedTuple):
    """A value and its 95 % interval, 0 to 1."""

    value: float
    low: float
    high: float


@final
@dataclass(frozen=True, slots=True)
class CellFigures:
    """One split under one template, wording, method and setting.

    Attributes:
        rows, answered: how many there are, and how many have an answer.
        figures: metric -> its figure, over the rows whose right answer is known; none where none is.
        shortened, cut, tied: how many rows lost input, lost tokens, have another option of the same score.
        reasons: why there is no answer -> how often.
        dropped: how many exemplars or demonstrations a row lost to the window -> how many rows; none that lost none.
    """

    cell: Cell
    rows: int
    answered: int
    figures: Mapping[str, Figure]
    shortened: int
    cut: int
    tied: int
    reasons: Mapping[str, int]
    dropped: Mapping[int, int]


@final
@dataclass(frozen=True, slots=True)
class OverTemplates:
    """One metric over the templates and wordings of a task, each of which weighs the same.

    Attributes:
        mean: with its interval.
        median, lowest, highest: of the figures, one a template and wording.
        drawn: the interval speaks about further templates too, not only about further rows.
    """

    mean: Figure
    median: float
    lowest: float
    highest: float
    drawn: bool


@final
@dataclass(frozen=True, slots=True)
class TaskFigures:
    """One task under one method and setting, over templates and wordings.

    Attributes:
        wording: the one wording there is ("" for the templates' own words, and where there are several).
        metric: the one that counts, a key of `figures`; None where no right answer is known.
        templates, wordings: how many there are.
        rows, answered: over all templates and wordings.
        figures: metric -> its figures.
    """

    task: str
    split: str
    setting: str
    wording: str
    method: str
    metric: str | None
    templates: int
    wordings: int
    rows: int
    answered: int
    figures: Mapping[str, OverTemplates]

    @property
    def figure(self) -> OverTemplates | None:
        """That of the metric that counts."""
        return None if self.metric is None else self.figures[self.metric]


@final
@dataclass(frozen=True, slots=True)
class MeanFigures:
    """The mean over the tasks of one metric.

    Attributes:
        tasks: how many it is the mean of.
        mean: every task weighs the same.
    """

    metric: str
    setting: str
    method: str
    tasks: int
    mean: Figure


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """A minus B on the same rows under the same templates and wordings.

    Attributes:
        task: its name, or `MEAN` for the mean over tasks.
        a, b: methods, or names of runs.
        metric: what is compared; accuracy in place of macro-F1 where a row has several right options.
        difference, low, high: with its 95 % interval. In a mean every task weighs the same; of macro-F1 every template
            and wording of every task does, as in `mean_paired_difference`.
        p: two-sided, of "no difference"; None where there is no test.
        p_holm: the same, adjusted for the number of tasks; None for the mean.
        mcnemar: p-value of McNemar's test, where there is one template and wording and answers are right or wrong.
        rows: how many pairs of answers.
        cells: under how many templates and wordings; of a mean, how many tasks.
        drawn: the interval speaks about further templates too.
    """

    task: str
    split: str
    setting: str
    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    mcnemar: float | None
    rows: int
    cells: int
    drawn: bool


@final
@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a run's records come to.

    Attributes:
        cells: each cell, in the run's order.
        tasks: over templates and wordings; in the manifest's order of tasks, then settings, then methods.
        wordings: the same for each wording alone, where a task has several.
        means: over tasks.
        comparisons: of each two methods.
    """

    cells: tuple[CellFigures, ...]
    tasks: tuple[TaskFigures, ...]
    wordings: tuple[TaskFigures, ...]
    means: tuple[MeanFigures, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def dropped(self) -> Counter[int]:
        """How many exemplars or demonstrations a row of any cell lost to the window -> how many rows."""
        return sum((Counter(cell.dropped) for cell in self.cells), Counter())

    def to_json(self) -> dict[str, Any]:
        """Plain data for `RunWriter.finish`."""
        return {
            "cells": [{**cell.cell._asdict(), **_plain(cell, "cell")} for cell in self.cells],
            "tasks": [_plain(task) for task in self.tasks],
            "wordings": [_plain(task) for task in self.wordings],
            "means": [_plain(mean) for mean in self.means],
            "comparisons": [_plain(comparison) for comparison in self.comparisons],
        }


class Group(NamedTuple):
    """All cells of one task under one method and setting."""

    task: str
    split: str
    setting: str
    method: str


@final
@dataclass(frozen=True, eq=False)
class JudgedRun:
    """A run with the outcomes of all its cells.

    Attributes:
        groups: group -> its cells, tasks as in the manifest, then settings, then methods.
    """

    run: Run
    settings: RunSettings
    cells: tuple[Outcomes, ...]
    groups: Mapping[Group, tuple[Outcomes, ...]]

    @classmethod
    def of(cls, run: Run, *, normalise: Normalise | None = None) -> JudgedRun:
        """Judge every record.

        Args:
            normalise: for generated answers that are not prose, by task.

        Raises:
            DataError: the records cannot be read.
            ObverseError: ROUGE-L is wanted and its package is not installed.
        """
        settings = RunSettings.of(run.manifest)
        cells = tuple(outcomes_of(run, settings, normalise=normalise))
        found: dict[Group, list[Outcomes]] = {}
        for each in cells:
            c = each.cell
            found.setdefault(Group(c.task, c.split, c.setting, c.method), []).append(each)
        tasks = {name: i for i, name in enumerate(run.manifest.tasks)}
        order = {name: i for i, name in enumerate(settings.settings)}
        methods = {name: i for i, name in enumerate(run.manifest.methods)}
        keys = sorted(
            found,
            key=lambda g: (tasks[g.task], g.split, order.get(g.setting, len(order)), g.setting, methods[g.method]),
        )
        return cls(run, settings, cells, {key: tuple(found[key]) for key in keys})

    def metric(self, group: Group) -> str | None:
        """The metric that counts for a group; None where no right answer is known."""
        there = {name for cell in self.groups[group] for name in cell.metrics}
        wanted = [self.settings.task(group.task).metric, *self.settings.metrics, *_USUAL]
        return next((name for name in wanted if name in there), None)


def summarize(run: Run, *, resamples: int = RESAMPLES, normalise: Normalise | None = None) -> Results:
    """The figures of a run, from its records and its manifest alone.

    Args:
        run: finished or not; of an unfinished one what is there.
        resamples: of every bootstrap; the same records give the same figures.
        normalise: from a task's name to how its generated answers are normalised before they are compared. Generated
            algorithmic tasks need `obverse.catalog.algorithms.normalised`, as `exact_match` says; None, and None of a
            task, is for prose.

    Raises:
        DataError: the records cannot be read.
        ObverseError: ROUGE-L is wanted and its package is not installed.
    """
    return summarize_judged(JudgedRun.of(run, normalise=normalise), resamples=resamples)


def summarize_judged(judged: JudgedRun, *, resamples: int = RESAMPLES) -> Results:
    """The figures of a run whose records were judged."""
    tasks, wordings = [], []
    for group, cells in judged.groups.items():
        metric = judged.metric(group)
        tasks.append(_task_figures(group, cells, metric, resamples))
        names = dict.fromkeys(each.cell.wording for each in cells)
        if len(names) > 1:
            for name in names:
                of_one = tuple(each for each in cells if each.cell.wording == name)
                wordings.append(_task_figures(group, of_one, metric, resamples))
    return Results(
        cells=tuple(_cell_figures(each, resamples) for each in judged.cells),
        tasks=tuple(tasks),
        wordings=tuple(wordings),
        means=tuple(_means(judged, tasks, resamples)),
        comparisons=tuple(_between_methods(judged, resamples)),
    )


class Sides(NamedTuple):
    """Two groups to compare on what they share, and what the two are called."""

    group: Group
    metric: str
    a: Sequence[Outcomes]
    b: Sequence[Outcomes]


def compare(pairs: Iterable[Sides], *, a: str, b: str, setting: str, resamples: int = RESAMPLES) -> list[Comparison]:
    """Compare two sides on several tasks of one setting, and on the mean over those of one metric.

    Args:
        pairs: a task each.
        a, b: what the sides are called.

    Returns:
        One a task that has rows in common, p-values adjusted over them; then one a metric that several tasks share.
    """
    found: list[tuple[Comparison, Shared]] = []
    for sides in pairs:
        shared = Shared.of(sides)
        if shared is not None and shared.is_enough:
            found.append((shared.compare(a, b, resamples), shared))
    adjusted = iter(holm([c.p for c, _ in found if c.p is not None]))
    told = [replace(c, p_holm=None if c.p is None else next(adjusted)) for c, _ in found]
    for metric in dict.fromkeys(c.metric for c in told):
        of_metric = [shared for c, shared in found if c.metric == metric]
        if len(of_metric) > 1:
            told.append(_mean_comparison(of_metric, a, b, metric, setting, resamples))
    return told


_USUAL = (ACCURACY, EXACT_MATCH, ROUGE_L)


# --- figures ------------------------------------------------------------------------------------------------------


def _cell_figures(cell: Outcomes, resamples: int) -> CellFigures:
    return CellFigures(
        cell.cell,
        len(cell.rows),
        cell.answered,
        {name: _one_cell(cell, name, resamples) for name in METRICS if name in cell.metrics},
        cell.shortened,
        cell.cut,
        cell.tied,
        cell.reasons,
        cell.dropped,
    )


def _one_cell(cell: Outcomes, metric: str, resamples: int) -> Figure:
    if metric == MACRO_F1:
        counts = _confusion(cell)
        interval = _of_all_alike([cell], metric) or bootstrap_from_confusion(counts, macro_f1, resamples=resamples)
        return Figure(float(macro_f1(counts)), *interval)
    values = cell.values[metric][cell.judged(metric)]
    return Figure(float(values.mean()), *_of_rows(values, np.arange(len(values)), resamples))


def _task_figures(group: Group, cells: Sequence[Outcomes], metric: str | None, resamples: int) -> TaskFigures:
    wordings = dict.fromkeys(each.cell.wording for each in cells)
    metrics = [name for name in METRICS if any(name in each.metrics for each in cells)]
    return TaskFigures(
        group.task,
        group.split,
        group.setting,
        next(iter(wordings)) if len(wordings) == 1 else "",
        group.method,
        metric if metric in metrics else None,
        templates=len({each.cell.template for each in cells}),
        wordings=len(wordings),
        rows=sum(len(each.rows) for each in cells),
        answered=sum(each.answered for each in cells),
        figures={name: _over_templates(cells, name, resamples) for name in metrics},
    )


def _over_templates(cells: Sequence[Outcomes], metric: str, resamples: int) -> OverTemplates:
    cells = [each for each in cells if metric in each.metrics]
    spread = Spread.of([_value(each, metric) for each in cells])
    interval, drawn = _interval_of(cells, metric, resamples)
    return OverTemplates(Figure(spread.mean, *interval), spread.median, spread.minimum, spread.maximum, drawn)


def _value(cell: Outcomes, metric: str) -> float:
    if metric == MACRO_F1:
        return float(macro_f1(_confusion(cell)))
    return float(np.nanmean(cell.values[metric]))


def _interval_of(cells: Sequence[Outcomes], metric: str, resamples: int) -> tuple[Interval, bool]:
    if len(cells) == 1:
        return Interval(*_one_cell(cells[0], metric, resamples)[1:]), False
    alike = _of_all_alike(cells, metric)
    if alike is not None:
        return alike, False
    rows, clusters = _ids(cells, metric)
    drawn = len(cells) >= LEAST_DRAWN and len(np.unique(rows)) > 1
    if metric != MACRO_F1:
        values = _weighed([each.values[metric][each.judged(metric)] for each in cells])
        if drawn:
            return _within(cluster_bootstrap(values, clusters, rows=rows, resamples=resamples)), True
        return _within(_of_rows(values, rows, resamples)), False
    statistic = _MeanMacroF1.of(cells, [1 / int(each.judged(metric).sum()) for each in cells])
    if len(np.unique(rows)) < 2:
        return Interval(0.0, 1.0), False
    if drawn:
        return cluster_bootstrap(statistic.codes, clusters, rows=rows, statistic=statistic, resamples=resamples), True
    return cluster_bootstrap(statistic.codes, rows, statistic=statistic, resamples=resamples), False


def _weighed(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The values of all cells, those of small cells drawn away from the mean and those of large ones towards it.

    So that their plain mean is the mean of the cells' means, and each cell has the same part in how it varies, however
    many rows it has (an unfinished run, a template that does not suit all rows). Cells of one size stay as they are.
    """
    together, sizes = np.concatenate(values), np.array([len(each) for each in values])
    if len(set(sizes.tolist())) == 1:
        return together
    mean = float(np.mean([each.mean() for each in values]))
    return mean + np.repeat(sizes.mean() / sizes, sizes) * (together - mean)


def _within(interval: Interval) -> Interval:
    """The part of an interval that lies between 0 and 1."""
    return Interval(max(0.0, interval.low), min(1.0, interval.high))


def _of_rows(values: NDArray[np.float64], rows: NDArray[np.int64], resamples: int) -> Interval:
    """The interval of a mean over rows, each drawn with all its values."""
    n = len(np.unique(rows))
    if n == len(values) and np.isin(values, (0.0, 1.0)).all():
        return wilson(int(values.sum()), n)
    return cluster_bootstrap(values, rows, resamples=resamples) if n > 1 else Interval(0.0, 1.0)


def _of_all_alike(cells: Sequence[Outcomes], metric: str) -> Interval | None:
    """Wilson's interval where every answer is right, or every one wrong; else None.

    A bootstrap of answers that are all alike would be as sure as if nothing else could happen. Macro-F1 is 0 or 1 where
    accuracy is, and takes the interval of that.
    """
    values = np.concatenate([each.values[ACCURACY if metric == MACRO_F1 else metric] for each in cells])
    values = values[~np.isnan(values)]
    if not len(values) or values.min() < values.max() or values[0] not in (0.0, 1.0):
        return None
    rows = len({(each.cell.task, each.rows[i]) for each in cells for i in np.flatnonzero(each.judged(metric))})
    return wilson(rows * int(values[0]), rows)


def _ids(cells: Sequence[Outcomes], metric: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row and the cell of each value, as numbers."""
    places: dict[str, int] = {}
    rows, clusters = [], []
    for number, each in enumerate(cells):
        kept = np.flatnonzero(each.judged(metric))
        rows.append([places.setdefault(each.rows[i], len(places)) for i in kept])
        clusters.append(np.full(len(kept), number))
    return np.concatenate([np.array(r, dtype=np.int64) for r in rows]), np.concatenate(clusters)


def _confusion(cell: Outcomes) -> NDArray[np.int64]:
    kept = cell.judged(ACCURACY)
    return confusion_counts(cell.gold[kept], cell.chosen[kept], classes=cell.classes)


_PLACES = 2.0**40  # more places than tables can have, and few enough that a float holds a whole part besides


@final
@dataclass(frozen=True, eq=False)
class _MeanMacroF1:
    """The mean of the macro-F1 of several cells, as a statistic of values that say cell, gold and choice.

    A cell weighs as many rows as were drawn of it, so that one drawn twice counts twice.

    Attributes:
        codes: one a value, in the order of the cells: its whole part says whether the answer is right, so that values
            vary among templates and rows as answers do, on which the bootstrap's degrees of freedom rest; the
            fraction says the rest.
        weights: what a row of each cell is worth.
    """

    codes: NDArray[np.float64]
    classes: int
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, cells: Sequence[Outcomes], weights: Sequence[float] | None = None) -> _MeanMacroF1:
        classes = max(each.classes for each in cells)
        codes = []
        for number, each in enumerate(cells):
            kept = each.judged(ACCURACY)
            chosen = np.where(each.chosen == ABSTAINED, classes, each.chosen)[kept]
            place = (number * classes + each.gold[kept]) * (classes + 1) + chosen
            codes.append((chosen == each.gold[kept]) + place / _PLACES)
        return cls(np.concatenate(codes), classes, np.array(weights or [1.0] * len(cells)))

    def __call__(self, sample: NDArray[np.float64]) -> float:
        shape = (len(self.weights), self.classes, self.classes + 1)
        places = (sample % 1.0 * _PLACES).astype(np.int64)
        counts = np.bincount(places, minlength=int(np.prod(shape))).reshape(shape)
        drawn = counts.sum((1, 2)) * self.weights
        met = drawn > 0
        return float((macro_f1(counts[met]) * drawn[met]).sum() / drawn.sum())


def _means(judged: JudgedRun, tasks: Sequence[TaskFigures], resamples: int) -> Iterable[MeanFigures]:
    found: dict[tuple[str, str, str], list[TaskFigures]] = {}
    for each in tasks:
        if each.metric is not None:
            found.setdefault((each.metric, each.setting, each.method), []).append(each)
    for (metric, setting, method), of_tasks in found.items():
        if len(of_tasks) < 2:
            continue
        groups = [judged.groups[Group(t.task, t.split, setting, method)] for t in of_tasks]
        value = float(np.mean([t.figures[metric].mean.value for t in of_tasks]))
        interval = _interval_over_tasks(groups, metric, resamples)
        yield MeanFigures(metric, setting, method, len(of_tasks), Figure(value, *interval))


def _interval_over_tasks(groups: Sequence[Sequence[Outcomes]], metric: str, resamples: int) -> Interval:
    """Of the mean over tasks of the mean over templates: rows are drawn, each with all its templates."""
    cells, weights, rows, first = [], [], [], 0
    for group in groups:
        kept = [each for each in group if metric in each.metrics]
        ids, _ = _ids(kept, metric)
        rows.append(ids + first)
        first += 1 + int(ids.max())
        cells += kept
        weights += [1 / (len(groups) * len(kept) * int(each.judged(metric).sum())) for each in kept]
    clusters = np.concatenate(rows)
    alike = _of_all_alike(cells, metric)
    if alike is not None:
        return alike
    if metric == MACRO_F1:
        statistic: Callable[[NDArray[np.float64]], float] = _MeanMacroF1.of(cells, weights)
        values = _MeanMacroF1.of(cells, weights).codes
    else:
        # A value's number stands for it, so that a resample still says which task its values are of.
        values = np.arange(len(clusters), dtype=np.float64)
        statistic = _MeanOfCells.of(cells, metric, weights)
    return cluster_bootstrap(values, clusters, statistic=statistic, resamples=resamples)


@final
@dataclass(frozen=True, eq=False)
class _MeanOfCells:
    """The mean of the means of several cells, as a statistic of the numbers of their values."""

    values: NDArray[np.float64]
    cell: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, cells: Sequence[Outcomes], metric: str, weights: Sequence[float]) -> _MeanOfCells:
        kept = [each.values[metric][each.judged(metric)] for each in cells]
        sizes = [len(values) for values in kept]
        shares = np.array([w * n for w, n in zip(weights, sizes, strict=True)])
        return cls(np.concatenate(kept), np.repeat(np.arange(len(kept)), sizes), shares)

    def __call__(self, sample: NDArray[np.float64]) -> float:
        index = sample.astype(np.int64)
        sums = np.bincount(self.cell[index], self.values[index], minlength=len(self.weights))
        counts = np.bincount(self.cell[index], minlength=len(self.weights))
        met = counts > 0
        return float((sums[met] / counts[met] * self.weights[met]).sum() / self.weights[met].sum())


# --- comparisons --------------------------------------------------------------------------------------------------


def _between_methods(judged: JudgedRun, resamples: int) -> list[Comparison]:
    found = []
    settings = dict.fromkeys(group.setting for group in judged.groups)
    for setting in settings:
        groups = [group for group in judged.groups if group.setting == setting]
        methods = [m for m in judged.run.manifest.methods if any(g.method == m for g in groups)]
        tasks = dict.fromkeys((g.task, g.split) for g in groups)
        for a, b in combinations(methods, 2):
            pairs = []
            for task, split in tasks:
                first, second = (Group(task, split, setting, method) for method in (a, b))
                metric = judged.metric(first) if first in judged.groups else None
                if metric is not None and second in judged.groups and judged.metric(second) == metric:
                    pairs.append(Sides(first, metric, judged.groups[first], judged.groups[second]))
            found += compare(pairs, a=a, b=b, setting=setting, resamples=resamples)
    return found


@final
@dataclass(frozen=True, eq=False)
class Shared:
    """What two groups have in common: pairs of answers to the same row under the same template and wording.

    Attributes:
        cells: for each shared template and wording (cell of A, cell of B, indices in A, indices in B).
    """

    group: Group
    metric: str
    cells: tuple[tuple[Outcomes, Outcomes, NDArray[np.int64], NDArray[np.int64]], ...]

    @classmethod
    def of(cls, sides: Sides) -> Shared | None:
        """What they share; None for nothing."""
        others = {(each.cell.template, each.cell.wording): each for each in sides.b}
        cells = []
        for first in sides.a:
            second = others.get((first.cell.template, first.cell.wording))
            if second is None or sides.metric not in first.metrics or sides.metric not in second.metrics:
                continue
            there = {row: i for i, row in enumerate(second.rows)}
            judged_a, judged_b = first.judged(sides.metric), second.judged(sides.metric)
            pairs = [
                (i, there[row])
                for i, row in enumerate(first.rows)
                if row in there and judged_a[i] and judged_b[there[row]] and _same_gold(first, i, second, there[row])
            ]
            if pairs:
                index_a, index_b = np.array(pairs, dtype=np.int64).T
                cells.append((first, second, index_a, index_b))
        if not cells:
            return None
        shared = cls(sides.group, sides.metric, tuple(cells))
        if sides.metric == MACRO_F1 and not shared._has_tables:
            return cls(sides.group, ACCURACY, shared.cells)
        return shared

    @property
    def is_enough(self) -> bool:
        """Two rows at least, without which nothing can be said about others."""
        return len({row for ids in self.rows for row in ids}) > 1

    @property
    def rows(self) -> list[list[str]]:
        """The ids of the rows of every cell."""
        return [[a.rows[i] for i in index] for a, _, index, _ in self.cells]

    def compare(self, a: str, b: str, resamples: int) -> Comparison:
        """The figures of A minus B, the p-value not adjusted."""
        found, drawn = self._difference(resamples)
        return Comparison(
            self.group.task,
            self.group.split,
            self.group.setting,
            a,
            b,
            self.metric,
            found.difference,
            found.interval.low,
            found.interval.high,
            found.p_value,
            None,
            self._mcnemar(),
            rows=sum(len(index) for *_, index in self.cells),
            cells=len(self.cells),
            drawn=drawn,
        )

    def values(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The outcomes of A and of B, pair by pair, weighed so that every template and wording counts the same."""
        metric = ACCURACY if self.metric == MACRO_F1 else self.metric
        first = _weighed([a.values[metric][i] for a, _, i, _ in self.cells])
        return first, _weighed([b.values[metric][j] for _, b, _, j in self.cells])

    def rectangle(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Gold, A and B (W, N) on the rows that every template and wording has."""
        common = set.intersection(*(set(ids) for ids in self.rows))
        columns = [row for row in self.rows[0] if row in common]
        tables: list[list[NDArray[np.int64]]] = [[], [], []]
        for (a, b, index_a, index_b), ids in zip(self.cells, self.rows, strict=True):
            place = {row: k for k, row in enumerate(ids)}
            order = [place[row] for row in columns]
            tables[0].append(a.gold[index_a[order]])
            tables[1].append(a.chosen[index_a[order]])
            tables[2].append(b.chosen[index_b[order]])
        gold, first, second = (np.array(table, dtype=np.int64) for table in tables)
        return gold, first, second

    @property
    def _has_tables(self) -> bool:
        """Whether tables can be compared; where several options are right they cannot (`choice_confusion`)."""
        alone = all(a.sole and b.sole for a, b, *_ in self.cells)
        return alone and bool(set.intersection(*(set(ids) for ids in self.rows)))

    def _difference(self, resamples: int) -> tuple[PairedDifference, bool]:
        if self.metric == MACRO_F1:
            return paired_difference(*self.rectangle(), macro_f1, resamples=resamples), False
        first, second = self.values()
        rows = [row for ids in self.rows for row in ids]
        if len(self.cells) < LEAST_DRAWN:
            return clustered_difference(first, second, rows, resamples=resamples), False
        clusters = [number for number, ids in enumerate(self.rows) for _ in ids]
        return clustered_difference(first, second, clusters, rows=rows, resamples=resamples), True

    def _mcnemar(self) -> float | None:
        first, second = self.values()
        # Rows that recur under several templates are not independent.
        if len(self.cells) > 1 or not np.isin(np.concatenate([first, second]), (0.0, 1.0)).all():
            return None
        return mcnemar(first, second).p_value


def _same_gold(a: Outcomes, i: int, b: Outcomes, j: int) -> bool:
    """Whether a row of one name is one instance: with exchanged labels, say, it is another."""
    if not (a.classes and b.classes and a.sole and b.sole):
        return True
    return a.option(i, int(a.gold[i])) == b.option(j, int(b.gold[j]))


def _mean_comparison(tasks: Sequence[Shared], a: str, b: str, metric: str, setting: str, resamples: int) -> Comparison:
    """The mean of the tasks' differences, or of macro-F1 those of all their templates and wordings.

    Rows are drawn, each with all its templates, and these are held fixed.
    """
    if metric == MACRO_F1:
        found = mean_paired_difference([task.rectangle() for task in tasks], macro_f1, resamples=resamples)
    else:
        firsts, seconds, clusters = [], [], []
        total = sum(len(task.values()[0]) for task in tasks)
        for number, task in enumerate(tasks):
            first, second = task.values()
            weight = total / (len(tasks) * len(first))  # every task weighs the same, however many rows it has
            firsts.append(first * weight)
            seconds.append(second * weight)
            clusters += [(number, row) for ids in task.rows for row in ids]
        found = clustered_difference(np.concatenate(firsts), np.concatenate(seconds), clusters, resamples=resamples)
    rows = sum(len(task.values()[0]) for task in tasks)
    return Comparison(
        MEAN, "", setting, a, b, metric, found.difference, *found.interval, found.p_value, None, None,
        rows=rows, cells=len(tasks), drawn=False,
    )  # fmt: skip


def _plain(value: Any, *left_out: str) -> dict[str, Any]:
    return {key: _listed(each) for key, each in asdict(value).items() if key not in left_out}


def _listed(value: Any) -> Any:
    """Named tuples as tables, other sequences as lists."""
    if hasattr(value, "_asdict"):
        return {key: _listed(each) for key, each in value._asdict().items()}
    if isinstance(value, dict):
        return {str(key): _listed(each) for key, each in value.items()}  # as JSON has them
    return [_listed(each) for each in value] if isinstance(value, tuple | list) else value
