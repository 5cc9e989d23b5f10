"""Every task by name: those of a data folder, those that are generated, and users' own files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from obverse.catalog.algorithms import algorithm_names, open_algorithm
from obverse.catalog.bigbench import bbh_names, bigbench_names, open_bbh, open_bigbench
from obverse.catalog.own import open_own
from obverse.catalog.p3 import open_p3, p3_names
from obverse.catalog.superni import open_superni, superni_names
from obverse.errors import DataError, nearest
from obverse.tasks.task import Task

KINDS = {
    "p3": "data sets under promptsource templates",
    "superni": "Super-NaturalInstructions",
    "bigbench": "BIG-bench, multiple choice",
    "bbh": "BIG-Bench Hard",
    "list-functions": "generated: lists to lists, exemplars in context",
    "turing-concepts": "generated: strings to strings by small tape programs",
}
FOLDERS = {"p3": "p3", "superni": "superni/tasks", "bigbench": "bigbench", "bbh": "bbh"}
"""Where under a data folder the tasks of a kind lie."""
_GENERATED = ("list-functions", "turing-concepts")


def kind_of(name: str) -> str:
    """The kind that a task's name stands for: its first part where that is a kind, else `p3`."""
    first = name.split("/", 1)[0]
    return first if first in KINDS else "p3"


class Catalog:
    """The tasks that can be reached.

    Names: P3 data sets are called as on the hub ("super_glue/rte"), all others begin with their kind
    ("bigbench/strategyqa"), and a name that ends in `.toml` is a user's own file.

    Args:
        data: a folder laid out as `p3/`, `promptsource/`, `superni/`, `bigbench/`, `bbh/`, each of which may be absent;
            None means that P3 data sets come from the hub.
        seed: of random choices inside templates and of generated tasks.
        cutting: how promptsource templates are cut into instruction and input.
        templates: a folder laid out as `promptsource/`; None means the one under `data`.

    Raises:
        DataError: the folder does not exist, or holds none of these.
    """

    def __init__(
        self,
        data: Path | None,
        *,
        seed: int = 0,
        cutting: str = "segments",
        templates: Path | None = None,
    ) -> None:
        self.data = data
        self.seed = seed
        self.cutting = cutting
        self.templates = templates
        if data is None:
            return
        if not os.path.isdir(data):
            what = "is not a folder" if os.path.exists(data) else "there is no such folder"
            raise DataError(what, where=str(data), mend="Name the folder that holds p3/, superni/, bigbench/ or bbh/.")
        if not any((data / folder).is_dir() for folder in FOLDERS.values()):
            raise DataError(
                f"holds none of {', '.join(FOLDERS.values())}",
                where=str(data),
                mend="Lay data out as p3/<dataset>/<split>.parquet, superni/tasks/<task>.json, "
                "bigbench/<task>/task.json, bbh/<task>.json.",
            )

    def names(self, kind: str | None = None) -> list[str]:
        """The names of all tasks, or of one kind; what the data folder lacks is left out.

        Raises:
            DataError: unknown kind.
        """
        if kind is not None and kind not in KINDS:
            raise DataError(f"there is no kind of task {kind!r}", mend=nearest(kind, KINDS))
        found: list[str] = []
        for each in KINDS if kind is None else (kind,):
            if each in _GENERATED:
                found += [name for name in algorithm_names() if name.startswith(f"{each}/")]
            elif self.data is not None and (self.data / FOLDERS[each]).is_dir():
                found += _LISTERS[each](self.data)
        return found

    def open(self, name: str) -> Task:
        """The task called `name`; rows are read when they are asked for.

        Raises:
            DataError: there is no such task, or its file cannot be read.
            TemplateError: its templates do not parse.
        """
        if name.endswith(".toml"):
            return open_own(Path(name))
        kind = kind_of(name)
        if kind in _GENERATED:
            return open_algorithm(name, seed=self.seed)
        name = name.removeprefix("p3/")
        if self.data is None:
            if kind != "p3":
                raise DataError(
                    f"{name} is read from a data folder", where="--data", mend="Name the folder that holds the files."
                )
            return open_p3(None, name, seed=self.seed, cutting=self.cutting, templates=self.templates)
        if kind != "p3" and not (self.data / FOLDERS[kind]).is_dir():
            raise DataError(f"there is no folder {FOLDERS[kind]}, which {name} needs", where=str(self.data))
        if kind == "superni":
            return open_superni(self.data, name)
        if kind == "bigbench":
            return open_bigbench(self.data, name)
        if kind == "bbh":
            return open_bbh(self.data, name)
        if name not in p3_names(self.data):
            # A name without its kind may be any task's.
            known = self.names()
            ending = [each for each in known if each.casefold().endswith(f"/{name.casefold()}")]
            mend = f"Did you mean {' or '.join(map(repr, ending[:3]))}?" if ending else nearest(name, known)
            raise DataError(f"there is no task {name!r}", where=str(self.data), mend=mend)
        return open_p3(self.data, name, seed=self.seed, cutting=self.cutting, templates=self.templates)


_LISTERS: dict[str, Callable[[Path], list[str]]] = {
    "p3": p3_names,
    "superni": superni_names,
    "bigbench": bigbench_names,
    "bbh": bbh_names,
}
