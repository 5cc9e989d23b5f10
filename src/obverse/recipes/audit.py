"""`obverse audit`: how much a user's labels hang on wording, instruction, method and calibration.

Raw scores are asked once for each row, wording, instruction, label and term; methods and calibrations share them. They
go to a progress file beside the page, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obverse.catalog.own import read_own
from obverse.catalog.wordings import wording_sets
from obverse.catalog.writers import refuse_existing
from obverse.errors import DataError, LabelError, MethodError, ModelError, OutputError, nearest
from obverse.evaluation import robustness
from obverse.evaluation.robustness import CellScores, Plan
from obverse.labelling import Labeller, make_scorer
from obverse.metrics.classification import confusion_counts, macro_f1
from obverse.metrics.comparisons import cluster_bootstrap, clustered_difference, holm
from obverse.metrics.intervals import Interval, bootstrap_from_confusion, wilson
from obverse.models.base import LanguageModel
from obverse.recipes.output_files import refuse_unwritable, write_text
from obverse.recipes.predict import Stopped, Watcher, model_of, open_input
from obverse.recipes.predict_task import PredictSettings, Task, task_of, with_task_file
from obverse.reports.audit import AuditReport, Factor, Level, Method, Pair, TouchyRow, Trial, Variant
from obverse.reports.audit_page import audit_page
from obverse.reports.guess import Hits
from obverse.reports.typography import counted
from obverse.runs.partial import PartialScores, partial_path
from obverse.scoring import calibration as calibrations
from obverse.scoring.scorers import METHODS, NULL, PRIOR, Scorer
from obverse.seeds import stream
from obverse.tasks.examples import Example
from obverse.tasks.labels import LabelSet
from obverse.tasks.templates import InstructionTemplate, Rendering

ROWS = 300
SUBSTITUTES = 4
LEAST_WITH_GOLD = 8
"""Rows with a right answer: fewer leave halves of which nothing can be said."""
PROMPTS_AT_ONCE = 64
"""Rows in one wording under one instruction that go to the model, and then to the disk, in one piece."""
MOST_TOUCHY = 12
_RESAMPLES = 1000  # for the macro-F1 of each of some hundred ways
_MOST_UNKNOWN = 8


@dataclass(frozen=True)
class AuditSettings:
    """What `obverse audit` was asked to do; names as on the command line.

    Attributes:
        asked: the settings that `obverse predict` has too; `output` is the page.
        instructions: further ones of the user's own.
        wordings: other words for the labels, label by label.
        methods: the user's own first; none takes those that suit the model, its own first.
        calibrations: the user's own first; none takes `robustness.CALIBRATIONS`.
        rows: so many are drawn.
        substitutes: so many other wordings from the catalogue at most.
        seed: of the draw and of the halves.
    """

    asked: PredictSettings
    instructions: tuple[str, ...] = ()
    wordings: tuple[LabelSet, ...] = ()
    methods: tuple[str, ...] = ()
    calibrations: tuple[str, ...] = ()
    rows: int = ROWS
    substitutes: int = SUBSTITUTES
    seed: int = 0


@dataclass(frozen=True)
class _Drawn:
    """The rows to ask about, in the order of the file.

    Attributes:
        gold: the right label's place, one a row; None without a gold column.
        fitting: rows of the file that could have been drawn.
        blank, without_gold: rows left out.
    """

    examples: tuple[Example, ...]
    gold: NDArray[np.int64] | None
    fitting: int
    blank: int
    without_gold: int


@dataclass
class _Run:
    """Everything that is settled before the first score is asked.

    Attributes:
        terms: what is asked about each label; the prior, which no instruction changes, apart.
        blanks: texts without content that are asked about as well, in each wording under each instruction.
        shortened, lost: rows that were cut to the window, and tokens cut by the model; filled while asking.
    """

    settings: AuditSettings
    task: Task
    labels: LabelSet
    drawn: _Drawn
    plan: Plan
    model: LanguageModel
    scorers: tuple[Scorer, ...]
    terms: tuple[str, ...]
    blanks: tuple[str, ...]
    watcher: Watcher
    notes: list[str]
    shortened: set[int] = field(default_factory=set)
    lost: int = 0

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Places of wording and instruction, in the order in which they are asked."""
        return list(itertools.product(range(len(self.plan.wordings)), range(len(self.plan.instructions))))

    @property
    def in_cell(self) -> int:
        """How many texts each is asked about."""
        return len(self.drawn.examples) + len(self.blanks)


def audit(
    settings: AuditSettings, *, watcher: Watcher | None = None, model: LanguageModel | None = None
) -> AuditReport:
    """Ask in every way, write the page, and return what it says.

    Args:
        watcher: told about progress.
        model: used in place of loading the one that is named.

    Raises:
        ObverseError: bad input or settings, or a page that cannot be written.
        Stopped: Ctrl-C; says how to go on.
    """
    watcher = watcher or Watcher()
    settings = _with_task_file(settings)
    output = _check_settings(settings)
    labels = settings.asked.labels
    assert labels is not None
    table = open_input(settings.asked)
    if table.rereadable and output.exists() and output.samefile(table.path):
        raise OutputError("is the input itself", where=str(output), mend="Name another output file.")
    task = task_of(settings.asked, table)
    wordings = robustness.plan_wordings(labels, settings.wordings, wording_sets(), most=settings.substitutes)
    own = [] if settings.asked.instruction is None else [settings.asked.instruction]
    instructions = robustness.plan_instructions(wordings, [*own, *settings.instructions])
    for text in itertools.chain.from_iterable(each.texts for each in instructions):
        InstructionTemplate(text, task.text)  # a slot that names no column is found before a model is loaded
    drawn = _drawn(settings, task, labels)
    if model is None:
        model = model_of(settings.asked)
    methods = settings.methods or robustness.plan_methods(model.conventions)
    plan = Plan(wordings, instructions, methods, settings.calibrations or robustness.CALIBRATIONS)
    scorers = tuple(make_scorer(model.conventions, method=name) for name in methods)
    contextual = any(name.startswith("contextual") for name in plan.calibrations)
    run = _Run(
        settings,
        task,
        labels,
        drawn,
        plan,
        model,
        scorers,
        robustness.asked_terms(scorers),
        calibrations.CONTENT_FREE if contextual else (),
        watcher,
        [],
    )
    _tell(run)
    store = _opened(run, output)
    with store:
        try:
            cells = _scored(run, store)
            report = _report(run, cells)
            write_text(output, audit_page(report, [wording.labels.texts for wording in plan.wordings]))
        except KeyboardInterrupt:
            raise _stopped(run, store) from None
        finally:
            if not store.done:  # nothing in it is worth going on from
                store.remove()
        store.remove()
    return report


# Checking


def _with_task_file(settings: AuditSettings) -> AuditSettings:
    """The settings with those of a task file that is named as the input: all its instructions and wordings."""
    asked, _ = with_task_file(settings.asked)
    if settings.asked.input.suffix.lower() != ".toml":
        return replace(settings, asked=asked)
    own = read_own(settings.asked.input)
    instructions, wordings = settings.instructions, settings.wordings
    if settings.asked.instruction is None:
        instructions = (*instructions, *own.instructions[1:])
    if settings.asked.labels is None and own.labels:
        others = (own.label_set(i) for i in range(1, own.wordings))
        wordings = (*wordings, *(each for each in others if each is not None))
    return replace(settings, asked=asked, instructions=instructions, wordings=wordings)


def _check_settings(settings: AuditSettings) -> Path:
    """Everything that can be refused without opening the table.

    Returns:
        Where the page goes.
    """
    asked = settings.asked
    if asked.options_column is not None:
        raise LabelError(
            "each row has labels of its own, and an audit compares words for labels that all rows share",
            where=asked.place("--options-column"),
            mend="Name a table whose rows are all labelled with the same labels.",
        )
    if asked.labels is None:
        raise LabelError(
            "there are no labels to choose from",
            mend='Give --labels "praise, complaint, question", or a file with one label a line.',
        )
    for flag, number, least in (("--rows", settings.rows, 2), ("--substitutes", settings.substitutes, 0)):
        if number < least:
            raise MethodError(f"{number} is too small", where=flag, mend=f"Give a number from {least} on.")
    for name in settings.methods:
        if name not in METHODS:
            raise MethodError(f"unknown method {name!r}", where="--method", mend=nearest(name, METHODS))
    for name in settings.calibrations:
        calibrations.check_calibration(name)
    output = asked.output
    if output is None or output.suffix.lower() not in (".html", ".htm"):
        raise OutputError(
            "the page is HTML, and the name should say so", where=str(output), mend="As in --output audit.html."
        )
    refuse_unwritable(output)
    if asked.resume:
        if output.exists() and not partial_path(output).exists():
            raise OutputError(
                "is finished already; there is nothing to resume",
                where=str(output),
                mend="--overwrite in place of --resume makes it anew.",
            )
    else:
        refuse_existing(output, asked.overwrite)
    return output


def _tell(run: _Run) -> None:
    """What the user should know before hours of waiting."""
    plan, note = run.plan, run.watcher.note
    offered = [wording for wording in plan.wordings if wording.origin.startswith("catalogue")]
    if offered:
        words = "; ".join(", ".join(wording.labels.wordings) for wording in offered)
        note(f"Other words for your labels, from the list {offered[0].origin.removeprefix('catalogue: ')}: {words}")
    elif run.settings.substitutes:
        line = "The lists of other words that come with Obverse have none for your labels" + (
            "; give some with --wording." if len(plan.wordings) == 1 else "."
        )
        note(line)
        run.notes.append(line)
    trained = run.model.conventions.trained
    for name, scorer in zip(plan.methods, run.scorers, strict=True):
        untrained = [term for term in scorer.terms if trained and term not in (*trained, PRIOR, NULL)]
        if untrained:
            line = (
                f"{run.model.name} was trained on {' and '.join(trained)}, not on {' or '.join(untrained)}; "
                f"expect less of the method {name}."
            )
            note(line)
            run.notes.append(line)
    drawn = run.drawn
    if drawn.blank:
        run.notes.append(f"Left out: {counted(drawn.blank, 'row')} without text.")
    if drawn.without_gold:
        run.notes.append(f"Left out: {counted(drawn.without_gold, 'row')} without a right answer.")
    if drawn.gold is not None and len(set(drawn.gold.tolist())) == 1:
        only = run.labels.names[int(drawn.gold[0])]
        line = f"All rows have the same right answer, {only!r}: whatever always says that looks perfect."
        note(line)
        run.notes.append(line)
    w, i, m, c = plan.shape
    note(
        f"{counted(w, 'wording')} x {counted(i, 'instruction')} x {counted(m, 'method')} x "
        f"{counted(c, 'calibration')} = {len(plan):,} ways to ask about {counted(len(drawn.examples), 'row')}"
        + (f" (of {drawn.fitting:,})" if drawn.fitting > len(drawn.examples) else "")
        + f"; methods and calibrations share what is asked, so {w * i * run.in_cell:,} texts are read."
    )


def _drawn(settings: AuditSettings, task: Task, labels: LabelSet) -> _Drawn:
    """Read the whole table once, check it, and draw rows, each with the same probability (Vitter's algorithm R).

    Raises:
        DataError: a row that cannot be read, gold values that are no labels, or too few rows.
    """
    rng = stream(settings.seed, "audit")
    kept: list[tuple[int, Example, int | None]] = []
    unknown: Counter[str] = Counter()
    blank = without_gold = fitting = 0
    for row in task.rows():
        example = task.example(row)
        if example is None:
            blank += 1
            continue
        index = None
        if task.gold is not None:
            try:
                index = task.gold_index(row, labels)
            except DataError:
                value = str(row.values.get(task.gold))
                index = _loosely(value, task.gold_values or labels.names)
                if index is None:
                    unknown[" ".join(value.split())] += 1
                    continue
            if index is None:
                without_gold += 1
                continue
        fitting += 1
        if len(kept) < settings.rows:
            kept.append((row.number, example, index))
        elif (place := rng.randrange(fitting)) < settings.rows:
            kept[place] = (row.number, example, index)
    if unknown:
        raise _unknown_gold(unknown, task, labels)
    if len(kept) < (2 if task.gold is None else LEAST_WITH_GOLD):
        raise _too_few(len(kept), task)
    kept.sort(key=lambda each: each[0])
    gold = None if task.gold is None else np.array([index for _, _, index in kept], dtype=np.int64)
    return _Drawn(tuple(example for _, example, _ in kept), gold, fitting, blank, without_gold)


def _loosely(value: str, names: Sequence[str]) -> int | None:
    """The place of a value among names, white space inside not compared either."""
    folded = [" ".join(name.split()).casefold() for name in names]
    key = " ".join(value.split()).casefold()
    return folded.index(key) if key in folded else None


def _unknown_gold(unknown: Counter[str], task: Task, labels: LabelSet) -> DataError:
    shown = ", ".join(f"{value!r} ({counted(n, 'row')})" for value, n in unknown.most_common(_MOST_UNKNOWN))
    if len(unknown) > _MOST_UNKNOWN:
        shown += f" and {len(unknown) - _MOST_UNKNOWN:,} more"
    many = "a value that is none" if len(unknown) == 1 else f"{len(unknown):,} values that are none"
    known = f"Values: {', '.join(task.gold_values)}" if task.gold_values else f"Labels: {', '.join(labels.names)}"
    return DataError(
        f"the column {task.gold!r} (--gold) holds {many} of the labels: {shown}",
        where=task.table.name,
        mend=f"{known}. Name them as the column does; case and white space do not matter.",
    )


def _too_few(rows: int, task: Task) -> DataError:
    there = "there is only one row" if rows == 1 else f"there are only {rows} rows" if rows else "there is no row"
    if task.gold is None:
        return DataError(
            f"{there} with text; an audit needs at least 2", where=task.table.name, mend="Give it a hundred or more."
        )
    return DataError(
        f"{there} with text and a right answer in column {task.gold!r}; to choose on one half and confirm on the other "
        f"at least {LEAST_WITH_GOLD} are needed",
        where=task.table.name,
        mend="Give it a hundred or more, or leave out --gold.",
    )


# Asking


def _opened(run: _Run, output: Path) -> PartialScores:
    partial = partial_path(output)
    fingerprint = _fingerprint(run)
    if run.settings.asked.resume and partial.exists():
        return PartialScores.resume(partial, fingerprint)
    return PartialScores.start(partial, fingerprint, overwrite=run.settings.asked.overwrite)


def _fingerprint(run: _Run) -> dict[str, object]:
    """What the raw scores depend on: a run may only be resumed with the same."""
    plan, model = run.plan, run.model
    rows = [[example.id, list(example.fields.items())] for example in run.drawn.examples]
    return {
        "command": "audit",
        "model": model.name,
        "model digest": model.digest(),
        "terms": list(run.terms),
        "length rules": {term: run.scorers[0].rule(term) for term in run.terms if term != PRIOR},
        "wordings": [list(wording.labels.texts) for wording in plan.wordings],
        "instructions": [list(instruction.texts) for instruction in plan.instructions],
        "texts without content": list(run.blanks),
        "text columns": list(run.task.text),
        "truncation": model.conventions.truncation,
        "eos": model.conventions.eos,
        "rows": len(rows),
        "digest of the rows drawn": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16],
    }


def _scored(run: _Run, store: PartialScores) -> dict[tuple[int, int], CellScores]:
    """All raw scores: those that are not in the store yet are asked first."""
    total = len(run.cells) * run.in_cell
    if store.done < total:
        run.watcher.begin(store.done, total)
        try:
            for records in _asked(run, store):
                store.append(records)
                run.watcher.advance(len(records))
        finally:
            run.watcher.end()
    texts = len(run.drawn.examples)
    found = {}
    stored = store.records()
    for cell in run.cells:
        own = list(itertools.islice(stored, run.in_cell))
        for i, record in enumerate(own):
            if record.get("shortened"):
                run.shortened.add(i)
            run.lost += int(record.get("lost", 0))
        tables = {term: np.array([record["scores"][term] for record in own]) for term in run.terms}
        found[cell] = CellScores(
            {term: table[:texts] for term, table in tables.items()},
            {term: table[texts:] for term, table in tables.items()} if run.blanks else None,
        )
    return found


def _asked(run: _Run, store: PartialScores) -> Iterator[list[dict[str, object]]]:
    """Records of what is not in the store, `PROMPTS_AT_ONCE` at a time.

    A run that goes on from the middle of a piece asks about the whole piece again: another batch could differ in the
    last bit. The prior compares text and label alone, so it is asked under the first instruction only.
    """
    known: dict[tuple[int, int], tuple[float, ...]] = {}
    done = store.done
    for number, record in enumerate(store.records()):
        _remember_prior(run, known, number, record)
    for place, cell in enumerate(run.cells):
        if (place + 1) * run.in_cell <= done:
            continue
        asker = _Asker(run, cell)
        for begin in range(0, run.in_cell, PROMPTS_AT_ONCE):
            first = place * run.in_cell + begin
            end = min(begin + PROMPTS_AT_ONCE, run.in_cell)
            if place * run.in_cell + end <= done:
                continue
            records = asker.records(begin, end, known)
            for number, record in enumerate(records, start=first):
                record["row"] = number + 1
                _remember_prior(run, known, number, record)
            yield records[max(0, done - first) :]


def _remember_prior(
    run: _Run, known: dict[tuple[int, int], tuple[float, ...]], number: int, record: Mapping[str, Any]
) -> None:
    cell, text = divmod(number, run.in_cell)
    if PRIOR in run.terms and not record.get("shortened"):
        known.setdefault((run.cells[cell][0], text), tuple(record["scores"][PRIOR]))


class _Asker:
    """Asks about texts in one wording under one instruction."""

    def __init__(self, run: _Run, cell: tuple[int, int]) -> None:
        wording, instruction = cell
        self._run = run
        self._wording = wording
        self._options = run.plan.wordings[wording].labels.texts
        self._template = InstructionTemplate(run.plan.instructions[instruction].texts[wording], run.task.text)
        # Channel says the text, on a side whose window is another's: it must not shorten what direct reads.
        plain = [term for term in run.terms if term not in ("channel", PRIOR)]
        groups = [group for group in (plain, ["channel"] if "channel" in run.terms else []) if group]
        self._labellers = [
            Labeller(run.model, robustness.asking_scorer(group, run.scorers[0]), self._template) for group in groups
        ]

    def records(
        self, begin: int, end: int, known: Mapping[tuple[int, int], tuple[float, ...]]
    ) -> list[dict[str, object]]:
        """The scores of the texts from `begin` to `end`; those without content stand behind the rows."""
        examples = self._run.drawn.examples
        shown = [self._rendering(i) for i in range(begin, end)]
        where = [examples[i].where if i < len(examples) else "a text without content" for i in range(begin, end)]
        scores: list[dict[str, tuple[float, ...]]] = [{} for _ in shown]
        cut, lost = [0] * len(shown), [0] * len(shown)
        read = shown
        for labeller in reversed(self._labellers):
            fitted = [
                (each, 0) if begin + i >= len(examples) else labeller.fit(each, self._options, where=where[i])
                for i, each in enumerate(shown)
            ]
            read = [rendering for rendering, _ in fitted]
            rows = labeller.score_renderings(read, [self._options] * len(read))
            for i, row in enumerate(rows):
                scores[i].update(row.terms)
                cut[i] = max(cut[i], fitted[i][1])
                lost[i] += row.lost
        if PRIOR in self._run.terms:
            fresh = [i for i in range(len(read)) if cut[i] or (self._wording, begin + i) not in known]
            asked = self._run.model.similarities([read[i].input_text for i in fresh], [self._options] * len(fresh))
            answered = dict(zip(fresh, asked, strict=True))
            for i, row_scores in enumerate(scores):
                row_scores[PRIOR] = tuple(answered[i] if i in answered else known[self._wording, begin + i])
        records: list[dict[str, object]] = []
        for i, row_scores in enumerate(scores):
            for term, values in row_scores.items():
                if not all(map(math.isfinite, values)):
                    raise ModelError(
                        f"the model's {term} scores are not all numbers: {', '.join(f'{v:g}' for v in values)}",
                        where=where[i],
                        mend="Its weights may be damaged, or its number type too small for it.",
                    )
            record: dict[str, object] = {"row": 0, "scores": row_scores}
            if cut[i]:
                record["shortened"] = cut[i]
            if lost[i]:
                record["lost"] = lost[i]
            records.append(record)
        return records

    def _rendering(self, i: int) -> Rendering:
        examples = self._run.drawn.examples
        if i < len(examples):
            return self._template.render(examples[i])
        blank = self._template.render(Example("", dict.fromkeys(self._run.task.text, "")))
        return blank.with_inputs(self._run.blanks[i - len(examples)])


def _stopped(run: _Run, store: PartialScores) -> Stopped:
    if not store.done:
        return Stopped("stopped before the first texts were scored; nothing is kept")
    in_place = " in place of --overwrite" if run.settings.asked.overwrite else ""
    return Stopped(
        f"stopped; {counted(store.done, 'scored text')} safe in {store.path}",
        mend=f"The same command with --resume{in_place} goes on from there.",
    )


# What it says


def _report(run: _Run, cells: Mapping[tuple[int, int], CellScores]) -> AuditReport:
    plan, drawn, classes = run.plan, run.drawn, len(run.labels)
    chosen = robustness.choose_all(cells, run.scorers, plan.calibrations)  # (W, I, M, C, N)
    flat = chosen.reshape(len(plan), -1)
    votes = robustness.votes(flat, classes)
    most = votes.argmax(1)
    if run.shortened:
        run.notes.append(f"{counted(len(run.shortened), 'row')} cut at the end to fit the model's window.")
    if run.lost:
        run.notes.append(f"{counted(run.lost, 'token')} cut from the right (truncation `reference`).")
    trial: Trial | None = None
    alone: list[Trial | None] = [None] * len(robustness.FACTORS)
    if drawn.gold is not None:
        trial, alone = _trials(run, cells, drawn.gold)
    return AuditReport(
        input=str(run.settings.asked.input),
        model=run.model.name,
        options=_options(run.settings.asked, drawn),
        text=run.task.text,
        gold=run.task.gold,
        labels=run.labels.names,
        rows=len(drawn.examples),
        rows_in_file=drawn.fitting,
        factors=_factors(plan, chosen, drawn.gold, most, classes, alone),
        instruction_texts=tuple(tuple(each.texts[w] for each in plan.instructions) for w in range(len(plan.wordings))),
        variants=_variants(plan, chosen, drawn.gold, most, classes),
        methods=_methods(plan, chosen, drawn.gold, classes),
        pair=_pair(plan, chosen, drawn.gold, classes),
        trial=trial,
        gold_counts=() if drawn.gold is None else tuple(np.bincount(drawn.gold, minlength=classes).tolist()),
        agreement=float(robustness.agreement(flat, classes).mean()),
        kappa=robustness.fleiss_kappa(flat, classes),
        unanimous=int((votes.max(1) == len(plan)).sum()),
        touchy=_touchy(drawn, votes, flat[0]),
        notes=tuple(run.notes),
        seed=run.settings.seed,
        asked=_scores_asked(run),
    )


def _options(asked: PredictSettings, drawn: _Drawn) -> tuple[str, ...]:
    """What the command that labels the whole table needs besides: `predict` refuses rows without text unless told."""
    found: list[str] = []
    for flag, value in (
        ("--input-format", asked.input_format),
        ("--eos", asked.eos),
        ("--truncation", asked.truncation),
    ):
        if value is not None:
            found += [flag, value]
    switches = (("--allow-pickle", asked.allow_pickle), ("--skip-blank", drawn.blank > 0))
    return (*found, *(flag for flag, wanted in switches if wanted))


def _trials(
    run: _Run, cells: Mapping[tuple[int, int], CellScores], gold: NDArray[np.int64]
) -> tuple[Trial, list[Trial | None]]:
    """The best way of all, and the best where only one factor changes: chosen on one half, tried on the other.

    Each half is labelled as if there were no other rows: a batch's bias comes from its own texts.
    """
    plan = run.plan
    texts = ["\n".join(str(example.fields[name]) for name in run.task.text) for example in run.drawn.examples]
    first, second = robustness.halves(gold.tolist(), texts, run.settings.seed)
    choosing = robustness.choose_all(cells, run.scorers, plan.calibrations, first)
    confirming = robustness.choose_all(cells, run.scorers, plan.calibrations, second)
    accuracies = (choosing == gold[first]).mean(-1)

    def tried(along: int | None) -> Trial:
        place = robustness.best_place(accuracies, along=along)
        found = robustness.confirm(gold[second], confirming[place], confirming[robustness.OWN])
        return Trial(
            place=place,
            chosen=_hits(choosing[place], gold[first]),
            own_chosen=_hits(choosing[robustness.OWN], gold[first]),
            confirmed=Hits(found.right, found.rows),
            own_confirmed=Hits(found.own_right, found.rows),
            difference=found.difference,
            p_value=found.test.p_value,
        )

    alone = [tried(axis) if levels > 1 else None for axis, levels in enumerate(plan.shape)]
    # Several are tried at once on the same rows; the best of all is the one that was set out to be tested.
    corrected = iter(holm([trial.p_value for trial in alone if trial is not None]))
    return tried(None), [None if trial is None else replace(trial, p_value=next(corrected)) for trial in alone]


def _hits(chosen: NDArray[np.int64], gold: NDArray[np.int64]) -> Hits:
    return Hits(int((chosen == gold).sum()), len(gold))


def _factors(
    plan: Plan,
    chosen: NDArray[np.int64],
    gold: NDArray[np.int64] | None,
    most: NDArray[np.int64],
    classes: int,
    alone: Sequence[Trial | None],
) -> tuple[Factor, ...]:
    with_most = (chosen == most).mean(-1)
    right = None if gold is None else (chosen == gold).mean(-1)
    moves = robustness.mean_ranges(right) if right is not None else (None,) * len(robustness.FACTORS)
    changes = robustness.changed_shares(chosen, classes)
    levels = (
        [(", ".join(wording.labels.texts), wording.origin) for wording in plan.wordings],
        [(instruction.texts[0], instruction.origin) for instruction in plan.instructions],
        [(name, "") for name in plan.methods],
        [(name, "") for name in plan.calibrations],
    )
    return tuple(
        Factor(
            name,
            tuple(
                Level(
                    text,
                    origin,
                    None if right is None else float(right.take(place, axis).mean()),
                    None if right is None else float(right.take(place, axis).min()),
                    None if right is None else float(right.take(place, axis).max()),
                    float(with_most.take(place, axis).mean()),
                )
                for place, (text, origin) in enumerate(levels[axis])
            ),
            moves[axis],
            changes[axis],
            alone[axis],
        )
        for axis, name in enumerate(robustness.FACTORS)
    )


def _variants(
    plan: Plan, chosen: NDArray[np.int64], gold: NDArray[np.int64] | None, most: NDArray[np.int64], classes: int
) -> tuple[Variant, ...]:
    found = []
    for place in plan.places():
        own = chosen[place]
        hits = f1 = interval = None
        if gold is not None:
            confusion = confusion_counts(gold, own, classes=classes)
            hits, f1 = _hits(own, gold), float(macro_f1(confusion))
            interval = bootstrap_from_confusion(confusion, macro_f1, resamples=_RESAMPLES)
        shares = tuple(float(n) / len(own) for n in np.bincount(own, minlength=classes))
        found.append(
            Variant(
                place,
                hits,
                f1,
                interval,
                shares,
                float((own == chosen[robustness.OWN]).mean()),
                float((own == most).mean()),
            )
        )
    return tuple(found)


def _by_method(chosen: NDArray[np.int64], method: int) -> NDArray[np.int64]:
    """The labels of a method under every wording and instruction (V, N), with the user's own calibration."""
    return chosen[:, :, method, 0].reshape(-1, chosen.shape[-1])


def _methods(plan: Plan, chosen: NDArray[np.int64], gold: NDArray[np.int64] | None, classes: int) -> tuple[Method, ...]:
    found = []
    for m, name in enumerate(plan.methods):
        votes_VN = _by_method(chosen, m)
        steadiness = steady = accuracy = right = None
        if len(votes_VN) > 1:
            kept = robustness.agreement(votes_VN, classes)
            steadiness, steady = float(kept.mean()), _over_rows(kept)
        if gold is not None:
            each = (votes_VN == gold).mean(0)
            accuracy, right = float(each.mean()), _over_rows(each)
        frequent = float(robustness.votes(votes_VN, classes).sum(0).max() / votes_VN.size)
        found.append(Method(name, steadiness, steady, accuracy, right, frequent))
    return tuple(found)


def _over_rows(values: NDArray[np.float64]) -> Interval:
    """The interval of a mean over rows; where all are 0 or all 1, a bootstrap would be sure that none can differ."""
    if values.min() == values.max() and values[0] in (0.0, 1.0):
        return wilson(int(values.sum()), len(values))
    return cluster_bootstrap(values, range(len(values)))


def _pair(plan: Plan, chosen: NDArray[np.int64], gold: NDArray[np.int64] | None, classes: int) -> Pair | None:
    """Direct and flipped, where both were asked; first the one with more right answers, or more steadiness."""
    if not {"direct", "flipped"} <= set(plan.methods):
        return None
    rows = range(chosen.shape[-1])
    labels = {name: _by_method(chosen, plan.methods.index(name)) for name in ("direct", "flipped")}
    right = {name: None if gold is None else (each == gold).mean(0) for name, each in labels.items()}
    kept = {name: robustness.agreement(each, classes) if len(each) > 1 else None for name, each in labels.items()}

    def merit(name: str) -> float:
        values = right[name] if gold is not None else kept[name]
        return 0.0 if values is None else float(values.mean())

    first, second = sorted(labels, key=merit, reverse=True)

    def difference(values: Mapping[str, NDArray[np.float64] | None]) -> Any:
        a, b = values[first], values[second]
        return None if a is None or b is None else clustered_difference(a, b, rows)

    return Pair(first, second, float((labels[first] == labels[second]).mean()), difference(right), difference(kept))


def _touchy(drawn: _Drawn, votes: NDArray[np.int64], own: NDArray[np.int64]) -> tuple[TouchyRow, ...]:
    """The rows on which the ways agree least, the first of equals first."""
    most = votes.max(1)
    order = [int(i) for i in np.argsort(most, kind="stable") if most[i] < votes[i].sum()]
    return tuple(
        TouchyRow(
            drawn.examples[i].where,
            "  ".join(str(value) for value in drawn.examples[i].fields.values()),
            tuple(votes[i].tolist()),
            int(own[i]),
            None if drawn.gold is None else int(drawn.gold[i]),
        )
        for i in order[:MOST_TOUCHY]
    )


def _scores_asked(run: _Run) -> int:
    """One score a text, label and term in each wording under each instruction; the prior in each wording once."""
    wordings, instructions, *_ = run.plan.shape
    asked = sum(wordings * (1 if term == PRIOR else instructions) for term in run.terms)
    return asked * run.in_cell * len(run.labels)
