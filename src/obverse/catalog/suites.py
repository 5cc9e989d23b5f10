"""Named lists of tasks: what is evaluated together, and what is trained on together.

A suite is a TOML file; those that come with the package lie in `suites/`. Its keys:

==================  ==========================================================================================
key                 meaning
==================  ==========================================================================================
kind                "evaluation" or "training"
name                left out: the file's name
title, description  for people
source              where the list comes from ("arXiv 2110.08207")
tasks               task names, patterns ("list-functions/*"), `.toml` files of own tasks, or tables (below)
tasks_from          a file of the data folder that lists, a line each, the only names a pattern may stand for
split, templates,   what holds for every task that does not say otherwise
limit
metrics, settings   evaluation: what is reported, and the conditions that each task is run under
published, claims   evaluation: figures of others, in per cent, and what they say in words
cap                 training: the most examples that a task counts for
==================  ==========================================================================================

A task as a table has `name`, `split`, `templates` ("usable" or a list of names), `limit` (rows) and `note`; in
evaluation also `metric`, `seen` (true where training on it is part of the design) and either `options` (how many
there are, for every row) or `chance` (0 to 1); in training also `rate` (a relative number of draws).
"""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from obverse.catalog.toml_files import read_toml
from obverse.errors import DataError, nearest
from obverse.tasks.task import METRICS

KINDS = ("evaluation", "training")
USABLE = "usable"
"""Instead of template names: every template that fits the task's metric."""
MEAN = "mean"
"""Key of a published figure that is a mean over tasks."""
FOLDER = Path(__file__).parent / "suites"

_METRICS = (*METRICS, "macro_f1")
_GENERATED = ("list-functions", "turing-concepts")
_FILES = {"superni": "superni/tasks/{}.json", "bbh": "bbh/{}.json", "bigbench": "bigbench/{}/task.json"}
_TASK_KEYS = {"name", "split", "templates", "limit", "note"}
_KEYS = {"kind", "name", "title", "source", "description", "tasks", "tasks_from", "split", "templates", "limit"}
_OWN_TASK_KEYS = {"evaluation": {"metric", "options", "chance", "seen"}, "training": {"rate"}}
_OWN_KEYS = {"evaluation": {"metrics", "settings", "published", "claims"}, "training": {"cap"}}
# Two names of the same rows.
_SAME_ROWS = {"glue/rte": "super_glue/rte"}


@dataclass(frozen=True, slots=True)
class SuiteTask:
    """A task, or a pattern of tasks, as a suite uses it.

    Attributes:
        name: as in the catalogue ("super_glue/rte"), a pattern ("list-functions/*"), or the path of a `.toml` file.
        split: None for the split that the task itself reports on or, in training, trains on.
        templates: `USABLE`, or names.
        limit: the most rows to take, or None for all.
        metric: None for the task's own.
        chance: expected accuracy of a blind choice, 0 to 1; None where it differs between rows or is not meaningful.
        rate: relative number of training draws; None for in proportion to its size.
        seen: training on it is part of the design.
        note: for people; may be empty.
    """

    name: str
    split: str | None = None
    templates: str | tuple[str, ...] = USABLE
    limit: int | None = None
    metric: str | None = None
    chance: float | None = None
    rate: float | None = None
    seen: bool = False
    note: str = ""

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for several tasks."""
        return "*" in self.name

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own file."""
        return self.name.endswith(".toml")


@dataclass(frozen=True, slots=True)
class Published:
    """Figures that others published.

    Attributes:
        model: as its authors call it, with the condition ("GPT-3 200B, 3 shots").
        source: where the figures stand.
        figures: per cent, by task name, by setting, or `MEAN`.
    """

    model: str
    source: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Suite:
    """A named list of tasks.

    Attributes:
        name: "t0-heldout".
        title: one line for people.
        kind: one of `KINDS`.
        tasks: in the order of reports.
        source: the paper the list comes from; may be empty.
        description: what is measured or trained, and what differs from the paper.
        metrics: what is reported; empty in training.
        settings: conditions that every task is run under; empty where there is one only.
        tasks_from: a file under the data folder that lists the only names patterns may stand for, or None.
        cap: the most examples that a training task counts for, or None.
        published: figures to print beside one's own.
        claims: further published results, each a sentence.
    """

    name: str
    title: str
    kind: str
    tasks: tuple[SuiteTask, ...]
    source: str = ""
    description: str = ""
    metrics: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    tasks_from: str | None = None
    cap: int | None = None
    published: tuple[Published, ...] = ()
    claims: tuple[str, ...] = ()

    def expanded(self, names: Iterable[str]) -> tuple[SuiteTask, ...]:
        """The tasks with every pattern replaced by those of `names` that it stands for.

        Give the names of a catalogue or, where the suite has `tasks_from`, those of `listed_names`. A task that stands
        there by its own name is not repeated by a pattern.

        Raises:
            DataError: a pattern stands for none.
        """
        names = tuple(names)
        taken = {task.name for task in self.tasks}
        found: list[SuiteTask] = []
        for task in self.tasks:
            if not task.is_pattern:
                found.append(task)
                continue
            matched = [name for name in names if fnmatch.fnmatchcase(name, task.name)]
            if not matched:
                raise DataError(
                    f"no task is called {task.name!r}",
                    where=f"suite {self.name}",
                    mend="Look whether the data folder holds that kind of task.",
                )
            found += (replace(task, name=name) for name in matched if name not in taken)
            taken.update(matched)
        return tuple(found)

    def trained(self, names: Iterable[str]) -> tuple[SuiteTask, ...]:
        """The tasks that stand among `names`, on which a model was trained.

        Names of the same rows count as one (glue/rte is super_glue/rte), and a BIG-bench task counts with each of its
        subtasks. Tasks whose training is part of the design (`seen`) are left out.
        """
        met = {_rows_of(name) for name in names}
        return tuple(
            task
            for task in self.tasks
            if not task.seen and any(_same_task(_rows_of(task.name), name, pattern=task.is_pattern) for name in met)
        )


class Presence(NamedTuple):
    """Which tasks of a suite a data folder holds."""

    there: tuple[SuiteTask, ...]
    missing: tuple[SuiteTask, ...]


def suite_names(kind: str | None = None) -> list[str]:
    """The names of the suites that come with the package, those of evaluation first.

    Raises:
        DataError: unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise DataError(f"there is no kind of suite {kind!r}", mend=nearest(kind, KINDS))
    found = [read_suite_file(path) for path in sorted(FOLDER.glob("*.toml"))]
    return [suite.name for each in KINDS for suite in found if suite.kind == each and kind in (None, each)]


def read_suite(name: str) -> Suite:
    """The suite of that name that comes with the package.

    Raises:
        DataError: there is none.
    """
    path = FOLDER / f"{name}.toml"
    known = [each.stem for each in FOLDER.glob("*.toml")]
    if name not in known:
        raise DataError(f"there is no suite {name!r}", mend=nearest(name, known))
    return read_suite_file(path)


def read_suite_file(path: Path) -> Suite:
    """A suite from a TOML file; own tasks are found relative to it.

    Raises:
        DataError: the file cannot be read, or has faults: all of them are named.
    """
    raw = read_toml(path)
    reader = _Reader(path, raw)
    suite = reader.suite()
    faults = reader.faults
    if len(faults) == 1:
        raise DataError(faults[0], where=str(path))
    if faults:
        raise DataError("\n  ".join([f"has {len(faults)} faults:", *faults]), where=str(path))
    return suite


def listed_names(suite: Suite, data: Path) -> tuple[str, ...]:
    """The task names that the suite's `tasks_from` lists, with their kind in front ("superni/task..").

    Raises:
        DataError: the suite names no list, or the data folder lacks it or holds an empty one.
    """
    if suite.tasks_from is None:
        raise DataError("has no list of tasks in the data folder", where=f"suite {suite.name}")
    path = data / suite.tasks_from
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:  # a path that no file system can hold is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason
        raise DataError(
            f"cannot be read: {reason}", where=str(path), mend=f"The suite {suite.name} takes its tasks from it."
        ) from None
    kind = suite.tasks_from.split("/")[0]
    names = tuple(dict.fromkeys(f"{kind}/{line.strip()}" for line in lines if line.strip()))
    if not names:
        raise DataError("lists no task", where=str(path), mend="Write one task name a line.")
    return names


def present(suite: Suite, data: Path) -> Presence:
    """Which tasks of a suite a data folder holds, in the suite's order; a split that lacks is a task that lacks.

    Tasks that are generated are always there. A pattern is replaced by what it stands for; where that is nothing the
    pattern itself is missing.

    Raises:
        DataError: `tasks_from` names a file that cannot be read.
    """
    there: list[SuiteTask] = []
    missing: list[SuiteTask] = []
    listed = None if suite.tasks_from is None else listed_names(suite, data)
    for task in suite.tasks:
        if not task.is_pattern or task.name.split("/")[0] in _GENERATED:
            meant: tuple[SuiteTask, ...] = (task,)
        else:
            names = _names_in(data, task.name) if listed is None else listed
            named = [name for name in names if fnmatch.fnmatchcase(name, task.name)]
            meant = tuple(replace(task, name=name) for name in named) or (task,)
        for each in meant:
            (there if _is_there(each, suite.kind, data) else missing).append(each)
    return Presence(tuple(there), tuple(missing))


class _Reader:
    """Builds a suite from plain data and gathers every fault instead of stopping at the first."""

    def __init__(self, path: Path, raw: dict[str, Any]) -> None:
        self.faults: list[str] = []
        self._path = path
        self._raw = raw

    def suite(self) -> Suite:
        raw = self._raw
        kind = self._text(raw, "kind", "")
        if "kind" not in raw:
            self.faults.append('`kind` is missing. Write kind = "evaluation" or kind = "training".')
        if kind and kind not in KINDS:
            self.faults.append(f"`kind` is {kind!r}. {nearest(kind, KINDS)}")
        kinds = (kind,) if kind in KINDS else KINDS  # faults of other keys are judged kindly until the kind is known
        self._unknown(raw, _KEYS.union(*(_OWN_KEYS[each] for each in kinds)), "")
        name = self._text(raw, "name", "") or self._path.stem
        each = SuiteTask(
            "",
            split=self._text(raw, "split", "") or None,
            templates=self._templates(raw, ""),
            limit=self._count(raw, "limit", ""),
        )
        tasks = self._tasks(kinds, each)
        settings = self._texts(raw, "settings", "")
        metrics = self._texts(raw, "metrics", "") or (("accuracy",) if kind == "evaluation" else ())
        for metric in metrics:
            self._metric(metric, "metrics")
        tasks_from = self._text(raw, "tasks_from", "") or None
        if tasks_from is not None:
            if Path(tasks_from).is_absolute() or ".." in Path(tasks_from).parts or "/" not in tasks_from:
                self.faults.append(f"`tasks_from` is {tasks_from!r}. Name a file below the data folder.")
            elif tasks and not any(task.is_pattern for task in tasks):
                self.faults.append('`tasks_from` needs a pattern in `tasks`, such as "superni/*"')
        return Suite(
            name=name,
            title=self._text(raw, "title", "") or name,
            kind=kind,
            tasks=tasks,
            source=self._text(raw, "source", ""),
            description=" ".join(self._text(raw, "description", "").split()),
            metrics=metrics,
            settings=settings,
            tasks_from=tasks_from,
            cap=self._count(raw, "cap", ""),
            published=self._published({task.name for task in tasks} | {*settings, MEAN}),
            claims=self._texts(raw, "claims", ""),
        )

    def _tasks(self, kinds: tuple[str, ...], each: SuiteTask) -> tuple[SuiteTask, ...]:
        entries = self._raw.get("tasks")
        if not isinstance(entries, list) or not entries:
            what = "is missing" if entries is None else "is empty" if entries == [] else "is not a list"
            self.faults.append(f'`tasks` {what}. Write tasks = ["super_glue/rte", "mine.toml"].')
            return ()
        tasks: list[SuiteTask] = []
        known = _TASK_KEYS.union(*(_OWN_TASK_KEYS[kind] for kind in kinds))
        for i, entry in enumerate(entries):
            where = f"tasks[{i + 1}]"
            if isinstance(entry, str):
                entry = {"name": entry}
            if not isinstance(entry, dict):
                self.faults.append(f"`{where}` is {_called(entry)}. Write a task's name or a table with `name`.")
                continue
            if "name" in entry and isinstance(entry["name"], str):
                where = f"{where} ({entry['name']})"
            self._unknown(entry, known, where)
            task = self._task(entry, where, each)
            if task.name in {other.name for other in tasks}:
                self.faults.append(f"`{where}` stands there twice")
            tasks.append(task)
        return tuple(tasks)

    def _task(self, entry: dict[str, Any], where: str, each: SuiteTask) -> SuiteTask:
        name = self._text(entry, "name", where, needed=True)
        parts = name.split("/")
        if name.endswith(".toml"):
            file = self._path.parent / name
            if not os.path.isfile(file):
                self.faults.append(f"`{where}`: there is no file {file}")
            name = str(file)
        elif name and (not all(parts) or name != name.strip() or ".." in parts or "\\" in name):
            self.faults.append(f"`{where}` is no task name. Write it as in {'super_glue/rte'!r} or {'bbh/*'!r}.")
        metric = self._text(entry, "metric", where) or None
        if metric is not None:
            self._metric(metric, f"{where}.metric")
        options = self._count(entry, "options", where, least=2)
        chance = self._number(entry, "chance", where, most=1)
        if "options" in entry and "chance" in entry:
            self.faults.append(f"`{where}` has both `options` and `chance`. Keep one.")
        return SuiteTask(
            name=name,
            split=self._text(entry, "split", where) or each.split,
            templates=self._templates(entry, where) if "templates" in entry else each.templates,
            limit=self._count(entry, "limit", where) or each.limit,
            metric=metric,
            chance=1 / options if options else chance,
            rate=self._number(entry, "rate", where),
            seen=self._flag(entry, "seen", where),
            note=self._text(entry, "note", where),
        )

    def _published(self, columns: set[str]) -> tuple[Published, ...]:
        entries = self._raw.get("published", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.faults.append("`published` is not a list of tables. Begin each with [[published]].")
            return ()
        rows: list[Published] = []
        for i, entry in enumerate(entries):
            where = f"published[{i + 1}]"
            self._unknown(entry, {"model", "source", "figures"}, where)
            model = self._text(entry, "model", where, needed=True)
            source = self._text(entry, "source", where, needed=True)
            figures = entry.get("figures")
            if not isinstance(figures, dict) or not figures:
                self.faults.append(f"`{where}.figures` is not a table of per cents by task")
                continue
            for column in figures:
                if column not in columns:
                    self.faults.append(
                        f"`{where}.figures` has {column!r}, which is no task or setting of the suite. "
                        f"{nearest(column, columns)}"
                    )
            read = {column: self._number(figures, column, f"{where}.figures", most=100) for column in figures}
            rows.append(Published(model, source, MappingProxyType({k: v for k, v in read.items() if v is not None})))
        return tuple(rows)

    def _templates(self, table: dict[str, Any], where: str) -> str | tuple[str, ...]:
        value = table.get("templates", USABLE)
        if value == USABLE:
            return USABLE
        if isinstance(value, list) and value and all(isinstance(name, str) and name.strip() for name in value):
            if len(set(value)) < len(value):
                self.faults.append(f"`{_key(where, 'templates')}` has a name twice")
            return tuple(value)
        self.faults.append(f'`{_key(where, "templates")}` is {_called(value)}. Write "usable" or a list of names.')
        return USABLE

    def _metric(self, name: str, where: str) -> None:
        if name not in _METRICS:
            self.faults.append(f"`{where}` has {name!r}, which is no metric. {nearest(name, _METRICS)}")

    def _unknown(self, table: dict[str, Any], known: set[str], where: str) -> None:
        for key in table:
            if key not in known:
                self.faults.append(f"`{_key(where, key)}` is unknown. {nearest(key, known)}")

    def _text(self, table: dict[str, Any], key: str, where: str, *, needed: bool = False) -> str:
        value = table.get(key, "")
        if not isinstance(value, str):
            self.faults.append(f"`{_key(where, key)}` is {_called(value)}. Write a text in quotation marks.")
            return ""
        if (needed or key in table) and not value.strip():
            self.faults.append(f"`{_key(where, key)}` is {'blank' if key in table else 'missing'}")
        return value

    def _texts(self, table: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
            self.faults.append(f"`{_key(where, key)}` is {_called(value)}. Write a list of texts.")
            return ()
        if len(set(value)) < len(value):
            self.faults.append(f"`{_key(where, key)}` has an entry twice")
        return tuple(value)

    def _count(self, table: dict[str, Any], key: str, where: str, *, least: int = 1) -> int | None:
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.faults.append(f"`{_key(where, key)}` is {_called(value)}. Write a whole number from {least} up.")
            return None
        return value

    def _number(self, table: dict[str, Any], key: str, where: str, *, most: float = math.inf) -> float | None:
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most or value == math.inf:
            limits = "from 0 up" if most == math.inf else f"from 0 to {most}"
            self.faults.append(f"`{_key(where, key)}` is {_called(value)}. Write a number {limits}.")
            return None
        return float(value)

    def _flag(self, table: dict[str, Any], key: str, where: str) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            self.faults.append(f"`{_key(where, key)}` is {_called(value)}. Write true or false.")
            return False
        return value


def _key(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _called(value: object) -> str:
    """A value in a message: its TOML spelling where that is short."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _rows_of(name: str) -> str:
    name = name.removeprefix("p3/")
    return _SAME_ROWS.get(name, name)


def _same_task(mine: str, met: str, *, pattern: bool) -> bool:
    if pattern:
        return fnmatch.fnmatchcase(met, mine)
    if not mine.startswith("bigbench/"):
        return mine == met
    return mine == met or mine.startswith(f"{met}/") or met.startswith(f"{mine}/")


def _is_there(task: SuiteTask, kind: str, data: Path) -> bool:
    first, _, rest = task.name.partition("/")
    if first in _GENERATED:
        return True
    if task.is_own:
        return os.path.isfile(task.name)
    if first in _FILES:
        return os.path.isfile(data / _FILES[first].format(rest))
    folder = data / "p3" / task.name.removeprefix("p3/")
    split = task.split or ("train" if kind == "training" else None)
    if split:
        return os.path.isfile(folder / f"{split}.parquet")
    return os.path.isdir(folder) and any(folder.glob("*.parquet"))


def _names_in(data: Path, pattern: str) -> Iterator[str]:
    """The names of the tasks of a pattern's kind that the data folder holds."""
    kind = pattern.split("/")[0]
    if kind in ("superni", "bbh"):
        folder = data / Path(_FILES[kind]).parent
        yield from (f"{kind}/{path.stem}" for path in sorted(folder.glob("*.json")))
    elif kind == "bigbench":
        folder = data / kind
        yield from (f"{kind}/{path.parent.relative_to(folder)}" for path in sorted(folder.rglob("task.json")))
    else:
        folder = data / "p3"
        prefix = "p3/" if kind == "p3" else ""
        found = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
        yield from (prefix + name for name in sorted(found))
