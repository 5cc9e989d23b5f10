"""What a run's manifest says about how to read it: titles, metrics, chance levels, figures of others.

A manifest's settings are plain JSON that anybody may have touched: what is not of the kind it should be is left out
and told in `faults`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from obverse.runs.records import Manifest

ACCURACY, MACRO_F1, GRADE, EXPECTED_GRADE = "accuracy", "macro_f1", "multiple_choice_grade", "expected_grade"
ROUGE_L, EXACT_MATCH = "rouge_l", "exact_match"
METRICS = (ACCURACY, MACRO_F1, GRADE, EXPECTED_GRADE, ROUGE_L, EXACT_MATCH)
MEAN = "mean"
"""Key of a published figure that is a mean over tasks, and the task of comparisons over all tasks."""


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What is said about one task.

    Attributes:
        metric: one of `METRICS`; None where nothing is said.
        chance: what a blind choice gets, 0 to 1; None where it differs between rows or is not known.
        note: for people; may be empty.
        seen: the model met the task in training, by design.
    """

    metric: str | None = None
    chance: float | None = None
    note: str = ""
    seen: bool = False


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """Figures that others published.

    Attributes:
        model: as its authors call it.
        source: where the figures stand.
        figures: 0 to 1, by task name, by setting or by `MEAN`.
    """

    model: str
    source: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The parts of `Manifest.settings` that reports read.

    Attributes:
        title: of the suite; its name where nothing is said.
        metrics: what the suite reports.
        limit: the most rows that were taken of a task; None for all.
        demonstrations: the name and number of demonstrations in front of every prompt, in words; may be empty.
        length_rules: method -> rule.
        temperatures: method -> what scores are divided by before the softmax.
        tasks: task -> what is said about it.
        settings: names in the order they are told in.
        published: figures of others.
        claims: further published results, a sentence each.
        faults: what was left out because it is not what it should be, a sentence each.
    """

    title: str
    metrics: tuple[str, ...] = ()
    limit: int | None = None
    demonstrations: str = ""
    length_rules: Mapping[str, str] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, TaskSettings] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    published: tuple[PublishedRow, ...] = ()
    claims: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> RunSettings:
        """Those of a manifest."""
        return _Reader(manifest).read()

    def task(self, name: str) -> TaskSettings:
        """What is said about a task; nothing of one that is not mentioned."""
        return self.tasks.get(name, TaskSettings())

    def temperature(self, method: str) -> float:
        """Of a method, with or without its calibration; 1 where nothing is said."""
        return self.temperatures.get(method, self.temperatures.get(method.split(", ")[0], 1.0))


class _Reader:
    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._raw = manifest.settings
        self._faults: list[str] = []

    def read(self) -> RunSettings:
        limit = self._raw.get("limit")
        return RunSettings(
            title=self._text("title") or self._manifest.suite,
            metrics=tuple(name for name in self._texts("metrics") if self._is_metric(name, "settings.metrics")),
            limit=limit if isinstance(limit, int) and not isinstance(limit, bool) else None,
            demonstrations=self._demonstrations(),
            length_rules={k: v for k, v in self._table("length_rules").items() if isinstance(v, str)},
            temperatures=self._temperatures(),
            tasks={name: self._task(name, raw) for name, raw in self._table("tasks").items()},
            settings=self._texts("settings"),
            published=self._published(),
            claims=self._texts("claims"),
            faults=tuple(self._faults),
        )

    def _fault(self, where: str, wanted: str) -> None:
        self._faults.append(f"{where} is not {wanted} and was left out.")

    def _text(self, name: str) -> str:
        value = self._raw.get(name, "")
        if not isinstance(value, str):
            self._fault(f"settings.{name}", "a text")
            return ""
        return value

    def _texts(self, name: str) -> tuple[str, ...]:
        value = self._raw.get(name) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self._fault(f"settings.{name}", "a list of texts")
            return ()
        return tuple(value)

    def _table(self, name: str) -> Mapping[str, Any]:
        value = self._raw.get(name) or {}
        if not isinstance(value, dict):
            self._fault(f"settings.{name}", "a table")
            return {}
        return value

    def _demonstrations(self) -> str:
        table = self._table("demonstrations")
        name, count = table.get("name"), table.get("count")
        parts = [f"“{name}”"] if isinstance(name, str) and name else []
        parts += [f"{count:,} in front of a prompt"] if isinstance(count, int) else []
        return ", ".join(parts)

    def _temperatures(self) -> dict[str, float]:
        kept = {}
        for method, value in self._table("temperatures").items():
            if _is_number(value) and 0 < value < math.inf:
                kept[method] = float(value)
            else:
                self._fault(f"settings.temperatures.{method}", "a number above 0")
        return kept

    def _task(self, name: str, raw: object) -> TaskSettings:
        where = f"settings.tasks.{name}"
        if not isinstance(raw, dict):
            self._fault(where, "a table")
            return TaskSettings()
        metric, chance, note, seen = (raw.get(key) for key in ("metric", "chance", "note", "seen"))
        if metric is not None and not self._is_metric(metric, f"{where}.metric"):
            metric = None
        if chance is not None and not (_is_number(chance) and 0 <= chance <= 1):
            self._fault(f"{where}.chance", "a number from 0 to 1")
            chance = None
        return TaskSettings(metric, chance, note if isinstance(note, str) else "", seen is True)

    def _is_metric(self, name: object, where: str) -> bool:
        if name in METRICS:
            return True
        self._fault(where, f"one of {', '.join(METRICS)}")
        return False

    def _published(self) -> tuple[PublishedRow, ...]:
        value = self._raw.get("published") or []
        if not isinstance(value, list):
            self._fault("settings.published", "a list")
            return ()
        rows = []
        for number, raw in enumerate(value, 1):
            figures = raw.get("figures") if isinstance(raw, dict) else None
            if not isinstance(figures, dict) or not isinstance(raw.get("model"), str):
                self._fault(f"settings.published, row {number},", "a table with model and figures")
                continue
            kept = {k: float(v) / 100 for k, v in figures.items() if _is_number(v) and math.isfinite(v)}
            source = raw.get("source")
            rows.append(PublishedRow(raw["model"], source if isinstance(source, str) else "", kept))
        return tuple(rows)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST)


_MOST = 10**15  # a longer whole number has no float
