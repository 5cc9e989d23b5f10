"""Runs under the names that a report gives them, and their methods as columns of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from obverse.reports.results import Group, JudgedRun, Results, TaskFigures
from obverse.reports.run_settings import MEAN


@final
@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A run with its figures, under the name that a report gives it."""

    name: str
    judged: JudgedRun
    results: Results

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those that it has answers to, in order."""
        return tuple(dict.fromkeys(group.task for group in self.judged.groups))

    def digest(self, task: str) -> str:
        """Of a task's data; for the mean over tasks, of all that it has answers to."""
        data = self.judged.run.manifest.data
        if task == MEAN:
            return repr(sorted((name, data[name]) for name in self.tasks))
        return data.get(task, "")


@final
@dataclass(frozen=True)
class Column:
    """One method of one run.

    Attributes:
        name: what it is called: the method, behind the run's name where there are several runs.
    """

    run: ReportedRun = field(hash=False, compare=False)
    number: int
    method: str
    name: str


def columns_of(runs: Sequence[ReportedRun]) -> tuple[Column, ...]:
    """Every method of every run that has records, in order."""
    columns = []
    for number, run in enumerate(runs):
        there = {group.method for group in run.judged.groups}
        for method in run.judged.run.manifest.methods:
            if method in there:
                name = f"{run.name}: {method}" if len(runs) > 1 else method
                columns.append(Column(run, number, method, name))
    return tuple(columns)


def chance_of(runs: Sequence[ReportedRun], task: str) -> float | None:
    """What a blind choice gets at a task, where a run says so."""
    found = (run.judged.settings.task(task).chance for run in runs)
    return next((chance for chance in found if chance is not None), None)


def setting_names(runs: Sequence[ReportedRun]) -> list[str]:
    """The settings that there are answers in, in the order they are told in."""
    told = [name for run in runs for name in run.judged.settings.settings]
    there = dict.fromkeys(group.setting for run in runs for group in run.judged.groups)
    return [name for name in dict.fromkeys([*told, *there]) if name in there]


def task_groups(column: Column) -> list[tuple[Group, TaskFigures]]:
    """Each task and setting of one method, with its figures."""
    tasks = {Group(t.task, t.split, t.setting, t.method): t for t in column.run.results.tasks}
    return [(group, tasks[group]) for group in column.run.judged.groups if group.method == column.method]
