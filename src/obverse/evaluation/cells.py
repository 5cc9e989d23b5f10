"""What an evaluation asks: from a suite and a catalogue to cells, and from a cell to its instances in order.

A cell is one split of a task under one template, wording and setting; every method is asked about all cells. Which
kind a suite is of:

* prompts of exemplars, where its settings are among `EXEMPLAR_SETTINGS` (and the suite `flipped-labels`, which has that
  one): the template's name is empty, a layout is drawn for every prompt, and rows and exemplars are the same in every
  setting;
* label generalization, where it is called that: each template under each of the catalogue's wordings;
* any other: templates as the suite names them, under the settings `zero-shot` and `ICIL` where it has settings.

Tasks whose metric is ROUGE-L or exact match are answered in free text, all others by choosing. Pure text: nothing here
knows a model, and nothing is rendered before it is asked for.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from obverse.catalog.algorithms import algorithm, prompt
from obverse.catalog.index import Catalog, kind_of
from obverse.catalog.own import read_own
from obverse.catalog.plain import open_plain, plain_names
from obverse.catalog.suites import USABLE, Suite, SuiteTask, present
from obverse.catalog.wordings import WordingSet, wording_sets
from obverse.catalog.words import read_words
from obverse.errors import DataError, LabelError, RecipeError, TemplateError, nearest
from obverse.metrics.choices import right_options
from obverse.runs.records import Key
from obverse.seeds import stream
from obverse.tasks.demonstrations import DemonstrationSet, InContext, as_target, in_context
from obverse.tasks.examples import Example
from obverse.tasks.exemplars import Exemplar, ExemplarPrompt, ExemplarSource, PlainTask, Setting, evaluation_settings
from obverse.tasks.labels import option_index
from obverse.tasks.promptsource import PromptsourceTemplate
from obverse.tasks.substitution import Substitution, reword
from obverse.tasks.symbols import SymbolPool, symbol_pools
from obverse.tasks.task import Rows, Task, TaskTemplate
from obverse.tasks.templates import Rendering, Template

FREE_METRICS = ("rouge_l", "exact_match")
"""Metrics of answers that are written freely."""
GENERATE = "generate"
"""The method of free answers."""
EXEMPLAR_SETTINGS = (
    "relevant labels, instruction",
    "relevant labels",
    "symbols, instruction",
    "symbols",
    "flipped labels",
)
DEMONSTRATION_SETTINGS = ("zero-shot", "ICIL")
PER_CLASS = 4
"""Exemplars of each class in a prompt."""
MOST_TOKENS = 64
"""Of a generated answer."""

_WORDINGS = "label-generalization"
_FLIPPED = "flipped-labels"
_ALGORITHMS = ("list-functions", "turing-concepts")
_NO_POOL = SymbolPool("none", integers=("0",))

Fits = Callable[[Rendering], bool]
"""Whether a rendering, its context and its options included, is within a model's window."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How a free answer is generated: greedily, until a stop text or so many tokens."""

    stop: tuple[str, ...]
    most_tokens: int = MOST_TOKENS


@dataclass(frozen=True, slots=True)
class Instance:
    """One row of a cell, rendered.

    Attributes:
        row, position: its id and its place in the split.
        options: what to choose between, those of classes in the classes' order; empty for a free answer.
        gold: indices of the right options.
        credits: what each option is worth; empty where only `gold` tells.
        references: accepted answers of a free one.
        reason: why nothing is asked about it, else empty.
        show: the prompt behind as many exemplars or demonstrations as fit; with a text, its inputs replaced by that.
    """

    row: str
    position: int
    options: tuple[str, ...] = ()
    gold: tuple[int, ...] = ()
    credits: tuple[float, ...] = ()
    references: tuple[str, ...] = ()
    reason: str = ""
    show: Callable[[Fits, str | None], InContext] | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """A row of a cell before it is rendered."""

    row: str
    position: int
    render: Callable[[], Instance]


@dataclass(frozen=True)
class EvaluationCell:
    """One split of a task under one template, wording and setting; names as in the run's records.

    Attributes:
        rows: how many instances it has.
        generation: None where options are chosen between.
        read: its slots in the split's order, as often as it is called.
    """

    task: str
    split: str
    template: str
    wording: str
    setting: str
    rows: int
    generation: Generation | None
    read: Callable[[], Iterator[Slot]]

    @property
    def name(self) -> str:
        """For messages."""
        return ", ".join(part for part in (self.task, self.template, self.wording, self.setting) if part)

    def key(self, method: str, row: str) -> Key:
        """Of the record of a row."""
        return Key(self.task, self.split, self.template, self.wording, method, self.setting, row)


@dataclass(frozen=True)
class EvaluationTask:
    """A task of a suite with its cells.

    Attributes:
        metric: of the suites' metrics the one that the task is judged by.
        digest: hexadecimal SHA-256 of the split's rows, of what exemplars come from, and of the templates.
        rows: instances of each cell.
    """

    name: str
    split: str
    metric: str
    chance: float | None
    seen: bool
    note: str
    digest: str
    rows: int
    cells: tuple[EvaluationCell, ...]

    @property
    def generates(self) -> bool:
        """Whether its answers are written freely."""
        return self.metric in FREE_METRICS


@dataclass(frozen=True)
class Plan:
    """All that is asked.

    Attributes:
        tasks: in the suite's order.
        missing: task -> why it is left out.
        settings: names in order; one empty name where there is one setting only.
        notes: a sentence each.
        demonstrations: those that stand in front of prompts, if any do.
        symbols: digest of the pool of symbols, or None.
    """

    suite: Suite
    tasks: tuple[EvaluationTask, ...]
    missing: Mapping[str, str]
    settings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    demonstrations: DemonstrationSet | None = None
    symbols: str | None = None

    @property
    def cells(self) -> tuple[EvaluationCell, ...]:
        """Of all tasks, in order."""
        return tuple(cell for task in self.tasks for cell in task.cells)


def chosen_tasks(suite: Suite, catalog: Catalog, wanted: Sequence[str] = ()) -> tuple[list[SuiteTask], dict[str, str]]:
    """The tasks of a suite that are there, patterns replaced by what they stand for, and those that are not.

    Args:
        wanted: names or patterns of its tasks; none means all.

    Raises:
        DataError: a suite for training; a name that the suite does not have; no data folder where one is needed;
            nothing that is there.
    """
    if suite.kind != "evaluation":
        raise DataError(
            "is a suite for training", where=f"suite {suite.name}", mend="obverse list suites names others."
        )
    there, missing = _present(suite, catalog)
    if wanted:
        names = [task.name for task in (*there, *missing)]
        picked: set[str] = set()
        for name in wanted:
            pattern = replace(suite, tasks=(SuiteTask(name),))
            is_pattern = "*" in name and any(fnmatch.fnmatchcase(each, name) for each in names)
            found = [each.name for each in pattern.expanded(names)] if is_pattern else [n for n in names if n == name]
            if not found:
                raise DataError(
                    f"the suite {suite.name} has no task {name!r}", where="--tasks", mend=nearest(name, names)
                )
            picked.update(found)
        there = [task for task in there if task.name in picked]
        missing = [task for task in missing if task.name in picked]
    if not there:
        mend = "Name a data folder that has them, or other tasks."
        if len(missing) == 1 and not missing[0].is_pattern and not missing[0].is_own:
            name = missing[0].name
            known = catalog.names(kind_of(name))
            mend = mend if name in known or not known else nearest(name, known)
        raise DataError(
            f"none of the suite's tasks is there: {', '.join(map(_split_named, missing))}",
            where=_folder_name(catalog),
            mend=mend,
        )
    datasets = set(catalog.names("p3")) if any(task.split for task in missing) else set()
    return there, {task.name: _why_missing(task, task.name in datasets) for task in missing}


def make_plan(
    suite: Suite,
    catalog: Catalog,
    *,
    tasks: Sequence[str] = (),
    templates: Sequence[str] = (),
    limit: int | None = None,
    demonstrations: DemonstrationSet | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """The cells of a suite; all rows are read once, so that what cannot be read is found now.

    Args:
        tasks: names or patterns of the suite's tasks; none means all.
        templates: the only ones that are asked; none means all of the suite's.
        limit: rows of each task, drawn by `seed` from those that the suite takes; the same ones in every cell, and
            those of a smaller limit are among those of a larger one. None takes all.
        demonstrations: in front of the prompts of the setting `ICIL`, and of every prompt where there are no settings.
        seed: of the rows drawn and of exemplars, layouts and symbols.
        progress: told the name of each task as it is read.

    Raises:
        ObverseError: an unknown task, template or setting; data that cannot be read; nothing left to ask.
    """
    there, missing = chosen_tasks(suite, catalog, tasks)
    planner = _Planner(suite, catalog, tuple(templates), limit, demonstrations, seed)
    planned: list[EvaluationTask] = []
    for entry in there:
        if progress is not None:
            progress(entry.name)
        found = planner.task(entry)
        if isinstance(found, str):
            missing[entry.name] = found
        else:
            planned.append(found)
    planner.check_templates()
    if not planned:
        raise DataError(
            "nothing is left to ask: " + "; ".join(f"{name}: {why}" for name, why in missing.items()),
            where=f"suite {suite.name}",
        )
    return Plan(
        suite,
        tuple(planned),
        missing,
        planner.settings or ("",),
        demonstrations=planner.shown,
        symbols=None if planner.pool is _NO_POOL else planner.pool.digest,
    )


class _Planner:
    """Makes the tasks of one suite."""

    def __init__(
        self,
        suite: Suite,
        catalog: Catalog,
        templates: tuple[str, ...],
        limit: int | None,
        demonstrations: DemonstrationSet | None,
        seed: int,
    ) -> None:
        self._suite = suite
        self._catalog = catalog
        self._templates = templates
        self._limit = limit
        self._seed = seed
        self._met: dict[str, None] = {}
        self.settings = suite.settings or (("flipped labels",) if suite.name == _FLIPPED else ())
        self.pool = _NO_POOL
        self._of_exemplars = bool(self.settings) and set(self.settings) <= set(EXEMPLAR_SETTINGS)
        self._check_settings()
        if self._of_exemplars:
            if demonstrations is not None:
                raise RecipeError(
                    f"the suite {suite.name} has exemplars of the task itself in front of its prompts",
                    where="--demos",
                    mend="Leave it out.",
                )
            if templates:
                raise TemplateError(
                    f"the suite {suite.name} has prompts of exemplars, which have no template",
                    where="--templates",
                    mend="Leave it out.",
                )
            if any(name.startswith("symbols") for name in self.settings):
                self.pool = symbol_pools(read_words())[1]
        elif self.settings and "ICIL" not in self.settings and demonstrations is not None:
            raise RecipeError(
                f"no setting of the suite {suite.name} has demonstrations", where="--demos", mend="Leave it out."
            )
        self.shown = demonstrations

    def task(self, entry: SuiteTask) -> EvaluationTask | str:
        """The task with its cells, or why it is left out."""
        if self._of_exemplars:
            return self._exemplar_task(entry)
        if kind_of(entry.name) in _ALGORITHMS:
            return self._algorithm_task(entry)
        return self._templated_task(entry)

    def check_templates(self) -> None:
        """Refuse names that no task has.

        Raises:
            TemplateError: there are some.
        """
        for name in self._templates:
            if name not in self._met:
                raise TemplateError(
                    f"no task that is asked has a template {name!r}", where="--templates", mend=nearest(name, self._met)
                )

    def _check_settings(self) -> None:
        known = EXEMPLAR_SETTINGS if self._of_exemplars else DEMONSTRATION_SETTINGS
        for name in self.settings:
            if name not in known:
                every = (*EXEMPLAR_SETTINGS, *DEMONSTRATION_SETTINGS)
                mixed = "cannot be mixed with the others" if name in every else "is unknown"
                raise RecipeError(
                    f"the setting {name!r} {mixed}", where=f"suite {self._suite.name}", mend=nearest(name, every)
                )

    def _templated_task(self, entry: SuiteTask) -> EvaluationTask | str:
        if entry.is_own and read_own(entry.name).gold is None:
            raise DataError(
                "names no column of right answers, with which a model's could be compared",
                where=entry.name,
                mend='Write gold = "column" under [data].',
            )
        task = self._catalog.open(entry.name)
        split = entry.split or task.evaluation_split
        metric = self._metric(entry, task.metric)
        records = _usable(task, entry, generated=metric in FREE_METRICS)
        self._met.update(dict.fromkeys(record.name for record in records))
        if not records:
            return "no template of it fits its metric"
        if self._templates:
            records = [record for record in records if record.name in self._templates]
            if not records:
                return "it has none of the templates that are asked for"
        rows = task.rows(split)
        chosen = self._chosen(entry, split, len(rows))
        generation = _generation(metric)
        cells = []
        for record in records:
            for wording, template in self._worded(entry.name, record.template):
                for setting in self.settings or ("",):
                    shown = self.shown if setting in ("", "ICIL") else None
                    asked = template if shown is None else as_target(template)
                    cells.append(
                        EvaluationCell(
                            entry.name,
                            split,
                            record.name,
                            wording,
                            setting,
                            len(chosen),
                            generation,
                            functools.partial(_templated_slots, rows, chosen, asked, shown, generation is not None),
                        )
                    )
        digest = _digest(_example_texts(rows), _template_texts(task, (cell.wording for cell in cells)))
        return self._made(entry, split, metric, digest, len(chosen), cells)

    def _worded(self, name: str, template: Template) -> Iterator[tuple[str, Template]]:
        """The template under each wording that is asked, by the wording's name."""
        if self._suite.name != _WORDINGS:
            yield "", template
            return
        found = _wordings_of(name, template.name)
        for wording in found.wordings:
            if wording == found.options:
                yield "", template
            else:
                pairs = dict(zip(found.options, wording, strict=True))
                yield "/".join(wording), reword(template, Substitution(pairs))

    def _algorithm_task(self, entry: SuiteTask) -> EvaluationTask | str:
        if self.shown is not None:
            raise RecipeError(
                f"{entry.name} has exemplars of its own in front of its prompts", where="--demos", mend="Leave it out."
            )
        named = self._templates or entry.templates
        if named != USABLE:
            return self._templated_task(replace(entry, templates=USABLE if self._templates else entry.templates))
        task = self._catalog.open(entry.name)
        split = entry.split or task.evaluation_split
        metric = self._metric(entry, task.metric)
        rows = task.rows(split)
        chosen = self._chosen(entry, split, len(rows))
        cell = EvaluationCell(
            entry.name,
            split,
            "",
            "",
            "",
            len(chosen),
            _generation(metric),
            functools.partial(_algorithm_slots, entry.name, rows, chosen, self._catalog.seed),
        )
        return self._made(entry, split, metric, task.provenance.digest or "", len(chosen), [cell])

    def _exemplar_task(self, entry: SuiteTask) -> EvaluationTask | str:
        metric = self._metric(entry, "accuracy")
        if metric in FREE_METRICS:
            raise DataError(
                f"{entry.name} has prompts of exemplars, whose labels are chosen between, so there is no {metric}",
                where=f"suite {self._suite.name}",
                mend='Write metric = "accuracy" or metric = "macro_f1", or leave it out.',
            )
        if self._catalog.data is None or entry.name not in plain_names():
            return "it has no plain form, which prompts of exemplars need"
        task = open_plain(self._catalog.data, entry.name)
        split = entry.split or ("validation" if "validation" in task.splits else next(iter(task.splits)))
        exemplars = "train" if "train" in task.splits else split
        known = evaluation_settings(self.pool, per_class=PER_CLASS)
        try:
            sources = [ExemplarSource(task, known[name], split=split, exemplars=exemplars) for name in self.settings]
        except RecipeError as error:
            return error.what
        chosen = self._chosen(entry, split, len(sources[0]))
        cells = [
            EvaluationCell(
                entry.name,
                split,
                "",
                "",
                setting,
                len(chosen),
                None,
                functools.partial(_exemplar_slots, sources, place, chosen, self._seed),
            )
            for place, setting in enumerate(self.settings)
        ]
        digest = _digest(_plain_texts(task, dict.fromkeys((split, exemplars))), (task.instruction, *task.labels))
        return self._made(entry, split, metric, digest, len(chosen), cells)

    def _metric(self, entry: SuiteTask, own: str) -> str:
        """The task's metric: the entry's, else its own, which the suite may sharpen from accuracy to macro-F1.

        Raises:
            DataError: the suite reports only metrics of generated answers, and the task's are chosen.
        """
        if entry.metric is not None:
            return entry.metric
        reported = self._suite.metrics
        if own in FREE_METRICS:
            return own
        fitting = [metric for metric in reported if metric not in FREE_METRICS]
        if reported and not fitting:
            both = "accuracy and macro_f1" if own == "accuracy" else f"accuracy and {own}"
            how = "" if self._of_exemplars else f'; or metric = "{reported[0]}" at the task, to have answers generated'
            raise DataError(
                f"{entry.name} offers options to choose between, and the suite reports only {' and '.join(reported)}, "
                "of answers that are generated",
                where=f"suite {self._suite.name}",
                mend=f"The metrics that apply are {both}: name one of them in `metrics`{how}.",
            )
        return "macro_f1" if own == "accuracy" and fitting[:1] == ["macro_f1"] else own

    def _chosen(self, entry: SuiteTask, split: str, rows: int) -> Sequence[int]:
        """Positions of the rows that are asked, in order."""
        taken = range(rows if entry.limit is None else min(rows, entry.limit))
        if self._limit is None or self._limit >= len(taken):
            return taken
        # The first of a whole permutation: a larger limit keeps what a smaller one drew.
        order = list(taken)
        stream(self._seed, "rows", entry.name, split).shuffle(order)
        return sorted(order[: self._limit])

    def _made(
        self, entry: SuiteTask, split: str, metric: str, digest: str, rows: int, cells: Iterable[EvaluationCell]
    ) -> EvaluationTask:
        return EvaluationTask(
            entry.name, split, metric, entry.chance, entry.seen, entry.note, digest, rows, tuple(cells)
        )


# Rows to slots


def _templated_slots(
    rows: Rows, chosen: Sequence[int], template: Template, shown: DemonstrationSet | None, generated: bool
) -> Iterator[Slot]:
    for position, example in _picked(rows, chosen):
        render = functools.partial(_templated, template, example, position, shown, generated)
        yield Slot(example.id, position, render)


def _algorithm_slots(name: str, rows: Rows, chosen: Sequence[int], seed: int) -> Iterator[Slot]:
    found = algorithm(name)
    for position, example in _picked(rows, chosen):
        # The layout is drawn for each prompt; query and exemplars are those of the row.
        def render(position: int = position, row: str = example.id) -> Instance:
            rendering = prompt(found, position, seed=seed)
            return Instance(row, position, references=rendering.references, show=_shower(rendering, None))

        yield Slot(example.id, position, render)


def _exemplar_slots(sources: Sequence[ExemplarSource], place: int, chosen: Sequence[int], seed: int) -> Iterator[Slot]:
    for position in chosen:
        render = functools.partial(_exemplar, sources, place, position, seed)
        yield Slot(sources[place].rows[position].id, position, render)


def _picked(rows: Rows, chosen: Sequence[int]) -> Iterator[tuple[int, Example]]:
    """The chosen rows, streamed: random access would first make a copy of a compressed file."""
    wanted = iter(chosen)
    next_one = next(wanted, None)
    for position, example in enumerate(rows):
        if next_one is None:
            return
        if position == next_one:
            yield position, example
            next_one = next(wanted, None)


# Slots to instances


def _templated(
    template: Template, example: Example, position: int, shown: DemonstrationSet | None, generated: bool
) -> Instance:
    try:
        rendering = template.render(example)
    except (TemplateError, LabelError, DataError) as error:
        return Instance(example.id, position, reason=f"the template does not fit the row: {error.what}")
    if not rendering.text:
        # Templates for some rows only render nothing for the others.
        return Instance(example.id, position, reason="the template says nothing about the row")
    if generated:
        references = rendering.references or (() if rendering.target is None else (rendering.target,))
        if not any(reference.strip() for reference in references):
            return Instance(example.id, position, reason="no right answer is known")
        return Instance(example.id, position, references=references, show=_shower(rendering, shown))
    options = rendering.options or ()
    reason = _unaskable(options)
    if reason:
        return Instance(example.id, position, reason=reason)
    if rendering.credits is not None:
        gold, credits = right_options(rendering.credits), rendering.credits
    elif rendering.target is None:
        return Instance(example.id, position, options, reason="no right answer is known")
    else:
        index = option_index(rendering.target, options)
        if index is None:
            return Instance(example.id, position, options, reason="the right answer is not among the options")
        gold, credits = tuple(i for i, option in enumerate(options) if option == options[index]), ()
    return Instance(example.id, position, options, gold, credits, show=_shower(rendering, shown))


def _unaskable(options: Sequence[str]) -> str:
    """Why there is nothing to choose between; empty where there is."""
    if len(options) < 2:
        return "the template offers one option only" if options else "the template offers no options"
    return "" if all(option.strip() for option in options) else "an option is blank"


def _shower(rendering: Rendering, shown: DemonstrationSet | None) -> Callable[[Fits, str | None], InContext]:
    def show(fits: Fits, inputs: str | None) -> InContext:
        asked = rendering if inputs is None else rendering.with_inputs(inputs)
        return InContext(asked, 0) if shown is None else in_context(asked, shown, fits=fits)

    return show


def _exemplar(sources: Sequence[ExemplarSource], place: int, position: int, seed: int) -> Instance:
    row = sources[place].rows[position]
    if not row.text.strip():
        return Instance(row.id, position, reason="the row has no text")
    try:
        prompts = [source.prompt(position, seed=seed) for source in sources]
    except (DataError, LabelError) as error:
        return Instance(row.id, position, reason=f"there is no prompt for the row: {error.what}")
    own = prompts[place]
    options = _by_class(own, sources[place].setting, row.options or sources[place].task.labels)

    def show(fits: Fits, inputs: str | None) -> InContext:
        kept = tuple(range(len(own.exemplars)))
        # What the longest of the settings has no room for is left out in all of them: they differ in nothing else.
        while not all(fits(_kept(prompt, kept).rendering()) for prompt in prompts):
            fewer = _fewer(own.exemplars, kept)
            if fewer == kept:
                break
            kept = fewer
        rendering = _kept(own, kept).rendering()
        asked = rendering if inputs is None else rendering.with_inputs(inputs)
        return InContext(replace(asked, options=options), len(own.exemplars) - len(kept))

    return Instance(row.id, position, options, (row.label,), show=show)


def _by_class(asked: ExemplarPrompt, setting: Setting, labels: Sequence[str]) -> tuple[str, ...]:
    """The prompt's options in the order of the classes that they stand for.

    The prompt has them shuffled, which no query shows; in this order a class has the same index in every record.
    """
    if setting.labels == "symbols":
        found = {exemplar.class_index: exemplar.label for exemplar in asked.exemplars}
        return tuple(found[index] for index in range(len(labels)))
    return tuple(labels[::-1] if setting.labels == "flipped" else labels)


def _kept(asked: ExemplarPrompt, kept: Sequence[int]) -> ExemplarPrompt:
    return replace(asked, exemplars=tuple(asked.exemplars[i] for i in kept))


def _fewer(exemplars: Sequence[Exemplar], kept: Sequence[int]) -> tuple[int, ...]:
    """The places without the last exemplar of each class that has most; one of each class always stays."""
    counts = Counter(exemplars[i].class_index for i in kept)
    most = max(counts.values(), default=0)
    if most <= 1:
        return tuple(kept)
    full = {kind for kind, count in counts.items() if count == most}
    out: list[int] = []
    for i in reversed(kept):
        if exemplars[i].class_index in full:
            full.remove(exemplars[i].class_index)
        else:
            out.append(i)
    return tuple(reversed(out))


# Tasks


def _present(suite: Suite, catalog: Catalog) -> tuple[list[SuiteTask], list[SuiteTask]]:
    if catalog.data is not None:
        found = present(suite, catalog.data)
        there, missing = found.there, list(found.missing)
    else:
        needing = [task for task in suite.tasks if not task.is_own and kind_of(task.name) not in _ALGORITHMS]
        if needing:
            raise DataError(
                f"the suite {suite.name} reads {needing[0].name} from a data folder",
                where="--data",
                mend="Name the folder that holds p3/, superni/, bigbench/ or bbh/ (or set OBVERSE_DATA).",
            )
        there, missing = suite.tasks, []
    names = [name for kind in _ALGORITHMS for name in catalog.names(kind)]
    patterns = [task for task in there if task.is_pattern]
    expanded = {task.name: replace(suite, tasks=(task,)).expanded(names) for task in patterns}
    taken = {task.name for task in there}
    out: list[SuiteTask] = []
    for task in there:
        out += [each for each in expanded[task.name] if each.name not in taken] if task.is_pattern else [task]
    return out, missing


def _usable(task: Task, entry: SuiteTask, *, generated: bool) -> list[TaskTemplate]:
    """The templates that the entry names, or all that fit the metric.

    Raises:
        TemplateError: one that is named does not exist, or offers nothing to choose between.
    """
    if entry.templates == USABLE:
        return list(task.templates if generated else task.classifying)
    records = [task.template(name) for name in entry.templates]
    for record in records:
        if not generated and not record.has_choices:
            raise TemplateError(
                f"the template {record.name!r} lists no answers to choose between",
                where=task.name,
                mend=nearest(record.name, [other.name for other in task.classifying]),
            )
    return records


def _wordings_of(task: str, template: str) -> WordingSet:
    for found in wording_sets():
        if (found.task, found.template) == (task, template):
            return found
    known = [f"{found.task} ({found.template})" for found in wording_sets() if found.task is not None]
    raise LabelError(
        f"there are no wordings for the template {template!r}", where=task, mend=f"There are for {', '.join(known)}."
    )


def _generation(metric: str) -> Generation | None:
    if metric not in FREE_METRICS:
        return None
    # Instructions ask for texts, which a blank line ends; what is matched exactly is one line, and behind it a model
    # that has seen exemplars goes on with the next one.
    return Generation(("\n\n",) if metric == "rouge_l" else ("\n",))


def _why_missing(task: SuiteTask, has_others: bool) -> str:
    split = f"its split {task.split} is " if task.split and has_others else ""
    return f"{split}not in the data folder"


def _split_named(task: SuiteTask) -> str:
    return task.name if task.split is None else f"{task.name} ({task.split})"


def _folder_name(catalog: Catalog) -> str:
    return "the data folder" if catalog.data is None else str(catalog.data)


# Digests


def _digest(*parts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for part in parts:
        for text in part:
            raw = text.encode("utf-8", "surrogatepass")
            found.update(b"%d:%b" % (len(raw), raw))
        found.update(b";")
    return found.hexdigest()


def _example_texts(rows: Rows) -> Iterator[str]:
    for example in rows:
        yield json.dumps([example.id, dict(example.fields), example.label, example.options], default=str)


def _plain_texts(task: PlainTask, splits: Iterable[str]) -> Iterator[str]:
    for split in splits:
        for row in task.rows(split):
            yield json.dumps([split, row.id, row.text, row.label, row.options])


def _template_texts(task: Task, wordings: Iterable[str]) -> Iterator[str]:
    """All that the task's templates say; of other formats than promptsource's the task's own digest tells."""
    yield task.provenance.digest or ""
    for record in task.templates:
        template = record.template
        if isinstance(template, PromptsourceTemplate):
            yield json.dumps([record.name, template.source, template.answer_choices, template.seed, template.cutting])
        else:
            yield record.name
    yield from sorted(set(wordings))
