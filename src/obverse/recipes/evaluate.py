"""`obverse evaluate`: a suite, a model, a run folder.

Everything is checked first (settings, suite, data, model, output), then the cells are asked in blocks, and every record
is on the disk as soon as it is known: a run that was stopped, however, goes on with `--resume` and ends like one that
was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from obverse.catalog.algorithms import normalised
from obverse.catalog.demonstrations import read_demonstrations
from obverse.catalog.index import Catalog, kind_of
from obverse.catalog.suites import Suite, SuiteTask, read_suite, read_suite_file, suite_names
from obverse.catalog.toml_files import read_toml
from obverse.errors import DataError, MethodError, ObverseError, nearest
from obverse.evaluation.cells import GENERATE, PER_CLASS, EvaluationCell, Plan, chosen_tasks, make_plan
from obverse.evaluation.evaluate import BATCH_SIZE, Asked, Method, check_generates, evaluate
from obverse.labelling import make_scorer
from obverse.metrics.text import rouge_l
from obverse.models.base import LanguageModel
from obverse.models.checkpoints import load_model
from obverse.recipes.engine import EngineSettings
from obverse.recipes.predict import Stopped
from obverse.reports.evaluation import EvaluationReport
from obverse.reports.listing import names_shortened, together
from obverse.reports.results import summarize
from obverse.reports.typography import counted
from obverse.runs.records import Manifest
from obverse.runs.scores import ScoreStore
from obverse.runs.store import RunWriter, refuse_begun, refuse_none
from obverse.scoring.calibration import CALIBRATIONS
from obverse.scoring.scorers import LENGTH_RULES, METHODS, NULL, PRIOR, Scorer
from obverse.tasks.demonstrations import DemonstrationSet
from obverse.tasks.promptsource import CUTTINGS

STORE = ".scores"
"""The folder of the score store, beside the run's, unless another is named."""
_ICIL = "ICIL"
_MOST_NAMED = 20  # tasks left out, in one line
_VERSIONED = ("obverse", "numpy", "torch", "transformers", "tokenizers")


@dataclass(frozen=True)
class EvaluateSettings:
    """What `obverse evaluate` was asked to do; names as on the command line.

    Attributes:
        suite: a name, a suite file, or task files (.toml) with commas between.
        output: the run's folder.
        data: the data folder; None where the suite needs none.
        methods: none takes the model's own.
        calibrations: each method is told under each of them.
        tasks: names or patterns of the suite's tasks; none takes all.
        templates: the only ones that are asked; none takes all.
        limit: rows of each task.
        demos: a set's name or file; None takes `default` where the suite has the setting ICIL.
        store: the folder of the score store; None takes `STORE` beside the run's folder.
        keep_scores: whether there is a store at all.
        cutting: of promptsource templates; None takes `flipped-reference` for models with the end-of-sequence preset
            `flipped`, else `segments`.
    """

    suite: str
    output: Path
    model: str = "obverse-mini"
    data: Path | None = None
    methods: tuple[str, ...] = ()
    calibrations: tuple[str, ...] = ("none",)
    tasks: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    limit: int | None = None
    demos: str | None = None
    length_rule: str | None = None
    batch_size: int = BATCH_SIZE
    resume: bool = False
    allow_trained: bool = False
    seed: int = 0
    store: Path | None = None
    keep_scores: bool = True
    cutting: str | None = None
    device: str | None = None
    eos: str | None = None
    truncation: str | None = None
    allow_pickle: bool = False
    engine: EngineSettings = field(default_factory=EngineSettings)


class EvaluationWatcher:
    """Told what happens; the command line's draws a progress bar, this one keeps quiet."""

    def note(self, text: str) -> None:
        """One line for the user."""

    def reading(self, task: str) -> None:
        """The rows of a task are read."""

    def begin(self, cells: int, rows: int) -> None:
        """So many cells with so many rows, all together, are gone through."""

    def advance(self, cell: str, rows: int, *, cells: int) -> None:
        """So many more rows are through, the last of this cell; `cells` are through whole."""

    def end(self) -> None:
        """Asking is over."""


def evaluate_suite(
    settings: EvaluateSettings, *, watcher: EvaluationWatcher | None = None, model: LanguageModel | None = None
) -> EvaluationReport:
    """Evaluate a model on a suite.

    Args:
        watcher: told about progress.
        model: used in place of loading `settings.model`.

    Raises:
        ObverseError: bad input or settings, or a disk that refuses; records that were made are safe.
        Stopped: Ctrl-C; says how to go on.
    """
    watcher = watcher or EvaluationWatcher()
    _check_settings(settings)
    suite = read_asked(settings.suite)
    catalog = Catalog(settings.data, seed=settings.seed, cutting=settings.cutting or CUTTINGS[0])
    there, _ = chosen_tasks(suite, catalog, settings.tasks)
    demonstrations = _demonstrations(settings, suite)
    (refuse_none if settings.resume else refuse_begun)(settings.output)
    model = model or load_model(
        settings.model,
        device=settings.device,
        eos=settings.eos,
        truncation=settings.truncation,
        allow_pickle=settings.allow_pickle,
    )
    settings.engine.prepare(model)
    notes = _trained(settings, suite, there, model)
    methods = _methods(settings, model)
    if settings.cutting is None and model.conventions.eos == "flipped":
        catalog = Catalog(settings.data, seed=settings.seed, cutting="flipped-reference")
    plan = make_plan(
        suite,
        catalog,
        tasks=settings.tasks,
        templates=settings.templates,
        limit=settings.limit,
        demonstrations=demonstrations,
        seed=settings.seed,
        progress=watcher.reading,
    )
    methods = _fitting(settings, plan, methods, model)
    notes += _untrained(model, methods)
    for why, names in together(plan.missing).items():
        watcher.note(f"Left out: {names_shortened(names, _MOST_NAMED)}: {why}")
    for note in notes:
        watcher.note(note)
    manifest = _manifest(settings, plan, methods, model, catalog, notes)
    begin = RunWriter.resume if settings.resume else RunWriter.create
    with _opened_store(settings, watcher) as store, begin(settings.output, manifest) as writer:
        if writer.faults:
            whose = "its record is" if len(writer.faults) == 1 else "their records are"
            watcher.note(f"{counted(len(writer.faults), 'damaged line')} in the run; {whose} made again.")
        asked = _asked(settings, plan, methods, model, writer, store, watcher)
        results = summarize(writer.read(), normalise=_normalise)
        finished = writer.finish(results.to_json())
    return EvaluationReport(
        results, finished.manifest, settings.output, (*_told(asked), *settings.engine.account(model))
    )


def read_asked(name: str) -> Suite:
    """The suite that a name, a suite file or task files with commas between stand for.

    Raises:
        DataError: there is no such suite, or a file has faults.
    """
    parts = [part.strip() for part in name.split(",") if part.strip()]
    if not parts:
        raise DataError("no suite is named", mend=nearest("", suite_names("evaluation")))
    other = [part for part in parts if not part.lower().endswith(".toml")]
    if other and len(parts) > 1:
        raise DataError(
            f"{other[0]!r} is no task file (.toml), and only those are named with commas between",
            mend="Write a suite file for other tasks, or name one suite and some of its tasks by --tasks.",
        )
    if other:
        if name not in suite_names() and os.path.exists(name):
            raise DataError("is no suite", where=name, mend="Name a suite, or files that end in .toml.")
        if name not in suite_names() and "/" in name:
            raise DataError(
                f"{name!r} is no suite",
                mend=f'A task is evaluated by a suite file with kind = "evaluation" and tasks = ["{name}"].',
            )
        if name in suite_names("training"):
            raise DataError(f"{name} is a suite for training", mend=nearest(name, suite_names("evaluation")))
        if name not in suite_names():
            raise DataError(f"there is no suite {name!r}", mend=nearest(name, suite_names("evaluation")))
        return read_suite(name)
    if len(parts) == 1 and not {"kind", "tasks"}.isdisjoint(read_toml(Path(parts[0]))):
        return read_suite_file(Path(parts[0]))
    twice = [part for part, count in Counter(parts).items() if count > 1]
    if twice:
        raise DataError("is named twice", where=twice[0], mend="Name it once.")
    for part in parts:
        if "tasks" in read_toml(Path(part)):
            raise DataError("is a suite, which is evaluated alone", where=part, mend="Name task files, or one suite.")
    stems = ", ".join(Path(part).stem for part in parts)
    return Suite(stems, stems, "evaluation", tuple(SuiteTask(part) for part in parts), metrics=("accuracy",))


# Checking


def _check_settings(settings: EvaluateSettings) -> None:
    """Everything that can be refused without opening a file."""
    settings.engine.check()
    for flag, names, known in (
        ("--method", settings.methods, METHODS),
        ("--calibration", settings.calibrations, CALIBRATIONS),
        ("--length-rule", (settings.length_rule,), (None, *LENGTH_RULES)),
        ("--cutting", (settings.cutting,), (None, *CUTTINGS)),
    ):
        for name in names:
            if name not in known:
                what = flag[2:].replace("-", " ")
                raise MethodError(
                    f"unknown {what} {name!r}", where=flag, mend=nearest(str(name), [each for each in known if each])
                )
        if len(set(names)) < len(names):
            raise MethodError(f"names one twice: {', '.join(map(str, names))}", where=flag, mend="Name each once.")
    for flag, number in (("--limit", settings.limit), ("--batch-size", settings.batch_size)):
        if number is not None and number < 1:
            raise MethodError(f"{number} is too small", where=flag, mend="Give a number from 1 on.")
    if settings.store is not None and not settings.keep_scores:
        raise MethodError("--store and --no-store exclude each other", mend="Give one of them.")


def _demonstrations(settings: EvaluateSettings, suite: Suite) -> DemonstrationSet | None:
    if settings.demos is not None:
        return read_demonstrations(settings.demos)
    return read_demonstrations("default") if _ICIL in suite.settings else None


def _trained(settings: EvaluateSettings, suite: Suite, there: Sequence[SuiteTask], model: LanguageModel) -> list[str]:
    """Refuse tasks that the model says it was trained on, or tell them."""
    met = replace(suite, tasks=tuple(there)).trained(model.conventions.datasets)
    names = ", ".join(task.name for task in met)
    if met and not settings.allow_trained:
        raise DataError(
            f"{model.name} says that it was trained on {names}",
            where=f"suite {suite.name}",
            mend="Name the others with --tasks, or add --allow-trained to evaluate these all the same.",
        )
    return [f"{model.name} says that it was trained on {names}: these are no unseen tasks."] if met else []


def _methods(settings: EvaluateSettings, model: LanguageModel) -> tuple[Method, ...]:
    scorers = [
        make_scorer(model.conventions, method=name, length_rule=settings.length_rule)
        for name in (settings.methods or (None,))
    ]
    return tuple(Method(scorer, each) for scorer in scorers for each in settings.calibrations)


def _fitting(
    settings: EvaluateSettings, plan: Plan, methods: tuple[Method, ...], model: LanguageModel
) -> tuple[Method, ...]:
    """The methods that the plan has a use for, once everything that generated answers need is there."""
    chosen = [task for task in plan.tasks if not task.generates]
    generated = [task for task in plan.tasks if task.generates]
    if generated:
        try:
            check_generates(model)
        except ObverseError as error:
            raise type(error)(
                f"{error.what}; {generated[0].name} needs generated answers", where=error.where, mend=error.mend
            ) from None
        if any("rouge_l" in (task.metric, *plan.suite.metrics) for task in generated):
            rouge_l("a", ["a"])  # its package may not be installed
    if not chosen:
        given = [flag for flag, given in (
            ("--method", settings.methods),
            ("--calibration", settings.calibrations != ("none",)),
            ("--length-rule", settings.length_rule),
        ) if given]  # fmt: skip
        if given:
            raise MethodError(
                "all answers of these tasks are generated, and none is chosen between options",
                where=given[0],
                mend=f"Leave out {' and '.join(given)}.",
            )
        return ()
    return methods


def _untrained(model: LanguageModel, methods: Sequence[Method]) -> list[str]:
    trained = model.conventions.trained
    terms = dict.fromkeys(term for method in methods for term in method.scorer.terms)
    untrained = [term for term in terms if trained and term not in (*trained, PRIOR, NULL)]
    if not untrained:
        return []
    return [f"{model.name} was trained on {' and '.join(trained)}, not on {' or '.join(untrained)}; expect less of it."]


# Asking


def _opened_store(
    settings: EvaluateSettings, watcher: EvaluationWatcher
) -> contextlib.AbstractContextManager[ScoreStore | None]:
    if not settings.keep_scores:
        return contextlib.nullcontext()
    return ScoreStore(settings.store or settings.output.parent / STORE, note=watcher.note)


def _asked(
    settings: EvaluateSettings,
    plan: Plan,
    methods: Sequence[Method],
    model: LanguageModel,
    writer: RunWriter,
    store: ScoreStore | None,
    watcher: EvaluationWatcher,
) -> Asked:
    cells = plan.cells
    watcher.begin(len(cells), sum(cell.rows for cell in cells))
    try:
        return evaluate(
            model,
            cells,
            methods,
            writer,
            store=store,
            batch_size=settings.batch_size,
            advance=_Counted(watcher).advance,
        )
    except KeyboardInterrupt:
        if not len(writer):
            raise Stopped("stopped before the first record", mend="The same command begins again.") from None
        raise Stopped(
            f"stopped; {counted(len(writer), 'record')} safe in {settings.output}",
            mend="The same command with --resume goes on from there.",
        ) from None
    finally:
        watcher.end()


class _Counted:
    """Counts cells that are through."""

    def __init__(self, watcher: EvaluationWatcher) -> None:
        self._watcher = watcher
        self._through: Counter[int] = Counter()
        self._cells = 0

    def advance(self, cell: EvaluationCell, rows: int) -> None:
        self._through[id(cell)] += rows
        self._cells += self._through[id(cell)] == cell.rows
        self._watcher.advance(cell.name, rows, cells=self._cells)


def _told(asked: Asked) -> list[str]:
    """What the records do not tell."""
    lines = [f"{counted(asked.asked, 'answer')} asked of the model, {asked.kept:,} taken from the store of scores."]
    for task, why in asked.uncalibrated.items():
        lines.append(f"{task}: {why}.")
    return lines


def _normalise(task: str) -> Callable[[str], str] | None:
    return normalised if kind_of(task) in ("list-functions", "turing-concepts") else None


# The manifest


def _manifest(
    settings: EvaluateSettings,
    plan: Plan,
    methods: Sequence[Method],
    model: LanguageModel,
    catalog: Catalog,
    notes: Sequence[str],
) -> Manifest:
    suite, shown = plan.suite, plan.demonstrations
    trained = {task.name for task in suite.trained(model.conventions.datasets)}
    generates = any(task.generates for task in plan.tasks)
    return Manifest(
        suite=suite.name,
        suite_digest=_suite_digest(suite),
        model=model.name,
        model_digest=model.digest(),
        methods=(*(method.name for method in methods), *((GENERATE,) if generates else ())),
        data={task.name: task.digest for task in plan.tasks},
        conventions=_conventions(model),
        settings={
            "title": suite.title,
            "metrics": list(suite.metrics),
            "limit": settings.limit,
            "demonstrations": None
            if shown is None
            else {"name": shown.name, "digest": shown.digest, "count": len(shown)},
            "length_rules": {method.name: _rules(method.scorer) for method in methods},
            "temperatures": {method.name: method.temperature for method in methods},
            "weights": {m.scorer.method: dict(m.scorer.weights) for m in methods if m.scorer.weights},
            "tasks": {
                task.name: {
                    "metric": task.metric,
                    "chance": task.chance,
                    "note": task.note,
                    "seen": task.seen or task.name in trained,
                }
                for task in plan.tasks
            },
            "settings": list(plan.settings),
            "published": [
                {"model": row.model, "source": row.source, "figures": dict(row.figures)} for row in suite.published
            ],
            "claims": list(suite.claims),
            "templates": list(settings.templates),
            "cutting": catalog.cutting,
            "exemplars": {"per_class": PER_CLASS, "symbols": plan.symbols},
            "generation": sorted(
                {(cell.generation.stop, cell.generation.most_tokens) for cell in plan.cells if cell.generation}
            ),
        },
        seeds={"seed": settings.seed},
        revision=_revision(),
        versions=_versions(),
        device=_device(model, settings.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        missing=plan.missing,
        notes=tuple(notes),
    )


def _suite_digest(suite: Suite) -> str:
    """Of what the suite asks; what others published about it does not count."""
    tasks = [
        [Path(task.name).name if task.is_own else task.name, task.split, task.templates, task.limit, task.metric]
        for task in suite.tasks
    ]
    asked = [suite.name, suite.metrics, suite.settings, suite.tasks_from, tasks]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _rules(scorer: Scorer) -> str:
    return "+".join(sorted({scorer.rule(term) for term in scorer.terms if term != PRIOR}))


def _conventions(model: LanguageModel) -> dict[str, Any]:
    raw = {field.name: getattr(model.conventions, field.name) for field in dataclasses.fields(model.conventions)}
    plain = {name: dict(value) if hasattr(value, "items") else value for name, value in raw.items()}
    return {**plain, "window": dataclasses.asdict(model.window), "family": model.family}


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _revision() -> str:
    """The commit of a source checkout; empty for an installed package."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _device(model: LanguageModel, wanted: str | None) -> str:
    """What the model runs on, in words."""
    device = getattr(model, "device", None)
    if device is None and model.name == "obverse-mini":
        from obverse.models.precision import choose_device

        device = choose_device(wanted)
    if device is not None and str(device).startswith("cuda"):
        import torch

        return f"{device} ({torch.cuda.get_device_name(device)})"
    return "cpu" if device is None else str(device)
