"""`obverse predict`: from a table of texts to the same table with labels, in constant memory.

Three passes, each streaming: check every row; score (the raw numbers go to a progress file beside the output);
decide (raw numbers to labels, and the output appears). Everything that can be worked out from the raw numbers
(calibration over a batch, prior, smallest confidence, the summary) belongs to the last pass, so a run that was
stopped and resumed ends exactly like one that was not.
"""

from __future__ import annotations

import contextlib
import datetime
import heapq
import itertools
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from obverse.catalog.demonstrations import read_demonstrations
from obverse.catalog.tables import Row, Table, open_table
from obverse.catalog.writers import Writer, open_writer, refuse_existing, stdout_writer
from obverse.errors import (
    DataError,
    LabelError,
    MethodError,
    ModelError,
    ObverseError,
    OutputError,
    TemplateError,
    nearest,
)
from obverse.labelling import Labeller, make_scorer
from obverse.models.base import LanguageModel
from obverse.models.checkpoints import load_model
from obverse.recipes.decider import Decider
from obverse.recipes.predict_task import PredictSettings, Task, check_rows, task_of, with_task_file
from obverse.reports.explanation import Explanation
from obverse.reports.summary import Summary
from obverse.reports.typography import counted
from obverse.runs.partial import PartialScores, partial_path
from obverse.scoring import calibration as calibrations
from obverse.scoring.scorers import LENGTH_RULES, METHODS, NULL, PRIOR, Prediction, Scorer, decide
from obverse.tasks.demonstrations import DemonstrationSet
from obverse.tasks.labels import LabelSet
from obverse.tasks.templates import InstructionTemplate, default_instruction

ROWS_AT_ONCE = 256
"""Rows that go to the model, and then to the disk, in one piece."""
_OPTIONS_QUESTION = "Which of the options fits this text best?"


class Watcher:
    """Told what happens; the command line's draws a progress bar, this one keeps quiet."""

    def note(self, text: str) -> None:
        """One line for the user."""

    def begin(self, done: int, total: int | None) -> None:
        """Scoring starts with `done` of `total` texts (None: not known)."""

    def advance(self, texts: int) -> None:
        """So many more texts are scored."""

    def end(self) -> None:
        """Scoring is over."""


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: the summary, and where things lie."""

    summary: Summary
    output: Path | None
    review: Path | None
    whole_seconds: float | None = None
    work: tuple[str, ...] = ()


class Stopped(ObverseError):
    """The user stopped the run; what is done is safe."""


@dataclass(frozen=True)
class _Columns:
    """Names of the columns that are added, chosen so that none of the input's is overwritten."""

    label: str
    confidence: str
    probabilities: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def added(self) -> tuple[str, ...]:
        """All of them, in their order behind the input's."""
        return (self.label, self.confidence, *self.probabilities)


@dataclass(frozen=True)
class _Run:
    """Everything that is settled before the first text is scored.

    Attributes:
        total: rows to label; None for standard input.
        schema: Arrow types of a Parquet output, else None.
    """

    settings: PredictSettings
    task: Task
    labeller: Labeller
    decider: Decider
    columns: _Columns
    schema: Any
    watcher: Watcher
    total: int | None
    words: str
    notes: tuple[str, ...]

    @property
    def all_columns(self) -> tuple[str, ...]:
        return (*self.task.table.columns, *self.columns.added)


def predict(
    settings: PredictSettings, *, watcher: Watcher | None = None, model: LanguageModel | None = None
) -> Outcome:
    """Label a table.

    Args:
        settings: see there.
        watcher: told about progress.
        model: used in place of loading `settings.model`.

    Raises:
        ObverseError: bad input or settings, a full disk; nothing half-written is left but the progress file.
        Stopped: Ctrl-C; says how to go on.
    """
    watcher = watcher or Watcher()
    settings, choices = with_task_file(settings)
    _check_settings(settings)
    table = open_input(settings)
    task = task_of(settings, table)
    _check_places(settings, table)
    words = _question(settings)
    template = _template(settings, task)
    demonstrations = _demonstrations(settings)
    total, most_options, texts = check_rows(task)
    if settings.calibration.startswith("batch") and texts is not None and texts < 2:
        raise MethodError(
            f"batch calibration needs at least two texts, and there is {'one' if texts else 'none'}",
            where="--calibration",
            mend="Use contextual calibration, or none.",
        )
    names = task.labels.names if task.labels else tuple(f"option {i + 1}" for i in range(most_options))
    columns = _columns(task, names)
    schema = _schema(task, columns, settings.output)
    notes = list(columns.notes)
    for choice in choices:
        watcher.note(choice)
    if settings.instruction is None:
        watcher.note(f'No --instruction given; asking: "{words}"')
    model = model or model_of(settings)
    settings.engine.prepare(model)
    scorer = _scorer(settings, model)
    trained = model.conventions.trained
    untrained = [t for t in scorer.terms if trained and t not in (*trained, PRIOR, NULL)]
    if untrained:
        line = (
            f"{model.name} was trained on {' and '.join(trained)}, not on {' or '.join(untrained)}; expect less of it."
        )
        watcher.note(line)
        notes.append(line)
    labeller = Labeller(model, scorer, template, demonstrations=demonstrations)
    decider = Decider(settings, task, labeller, names)
    decider.prepare()
    run = _Run(settings, task, labeller, decider, columns, schema, watcher, total, words, tuple(notes))
    outcome = _to_standard_output(run) if settings.output is None else _to_file(run, settings.output)
    return replace(outcome, work=settings.engine.account(model))


def explain(settings: PredictSettings, row_number: int, *, model: LanguageModel | None = None) -> Explanation:
    """Which words of the instruction spoke for which label in one row of the table.

    Raises:
        DataError: there is no such row.
        MethodError: batch calibration, which a row alone cannot have.
    """
    settings, _ = with_task_file(settings)
    _check_settings(settings)
    if settings.calibration.startswith("batch"):
        raise MethodError(
            "one row alone is no batch to calibrate on",
            where="--calibration",
            mend="Use contextual calibration, or none, with --explain.",
        )
    table = open_input(settings)
    task = task_of(settings, table)
    row = next(table.rows(row_number - 1), None) if row_number >= 1 else None
    if row is None:
        raise DataError(f"there is no row {row_number} (--explain)", where=table.name, mend="Rows count from 1.")
    example = task.example(row)
    if example is None:
        raise DataError("the row has no text to explain", where=row.where, mend="Name another row.")
    options = task.options(row)
    model = model or model_of(settings)
    labeller = Labeller(
        model, _scorer(settings, model), _template(settings, task), demonstrations=_demonstrations(settings)
    )
    tokens, nats = labeller.explain(example, options.texts)
    scored = labeller.score([example], [options.texts])[0]
    _check_finite(scored.terms, row)
    decider = Decider(settings, task, labeller, options.names)
    prediction = decide(decider.log_probabilities([{"scores": scored.terms}], [options])[0])
    return Explanation(
        text="  ".join(str(v) for v in example.fields.values()),
        labels=options.names,
        tokens=tuple(tokens),
        nats=tuple(tuple(float(n) for n in line) for line in nats),
        probabilities=prediction.probabilities,
        kind="flipped",
    )


# Checking


def _check_settings(settings: PredictSettings) -> None:
    """Everything that can be refused without opening a file."""
    settings.engine.check()
    calibrations.check_calibration(settings.calibration)
    for flag, value, known in (
        ("--method", settings.method, METHODS),
        ("--length-rule", settings.length_rule, LENGTH_RULES),
    ):
        if value is not None and value not in known:
            raise MethodError(f"unknown {flag[2:].replace('-', ' ')} {value!r}", where=flag, mend=nearest(value, known))
    if settings.labels is None and settings.options_column is None:
        raise LabelError(
            "there are no labels to choose from",
            mend='Give --labels "praise, complaint, question", a file with one label a line, or --options-column NAME.',
        )
    if settings.labels is not None and settings.options_column is not None:
        raise LabelError("--labels and --options-column exclude each other", mend="Give one of them.")
    if not 0 <= settings.min_confidence <= 1:
        raise MethodError(
            f"{settings.min_confidence:g} is not a probability",
            where="--min-confidence",
            mend="Give a number between 0 and 1.",
        )
    for flag, number, least in (
        ("--limit", settings.limit, 1),
        ("--review", settings.review, 0),
        ("--batch-rows", settings.batch_rows, 2),
    ):
        if number is not None and number < least:
            raise MethodError(f"{number} is too small", where=flag, mend=f"Give a number from {least} on.")
    if settings.temperature is not None and not (settings.temperature > 0 and math.isfinite(settings.temperature)):
        raise MethodError(
            f"{settings.temperature:g} is no temperature", where="--temperature", mend="Give a number above 0."
        )
    if settings.label_prior is not None:
        if settings.labels is None:
            raise MethodError(
                "options that differ by row have no common prior", where="--label-prior", mend="Use it with --labels."
            )
        calibrations.log_prior(settings.label_prior, len(settings.labels))
    if settings.calibration.startswith("batch") and settings.options_column is not None:
        raise MethodError(
            "batch calibration needs the same options in every row",
            where="--calibration",
            mend="Use contextual calibration with --options-column.",
        )
    if settings.output is None:
        if settings.review:
            raise OutputError("needs --output: its file lies beside the output", where="--review", mend="Name a file.")
        if settings.resume:
            raise OutputError("needs --output: without a file nothing is kept", where="--resume", mend="Name the file.")
    if settings.picture is not None:
        from obverse.reports.figures import check_ending

        check_ending(settings.picture)


def open_input(settings: PredictSettings) -> Table:
    """The input; for JSON lines in a file with the columns of all its rows, which may differ in their keys."""
    table = open_table(settings.input, format=settings.input_format)
    if table.format != "jsonl" or not table.rereadable:
        return table
    columns: dict[str, None] = {}
    for row in itertools.islice(table.rows(), settings.limit):
        columns.update(dict.fromkeys(row.values))
    return replace(table, columns=tuple(columns))


def _check_places(settings: PredictSettings, table: Table) -> None:
    """Find before any work is done that a result could not be written, or would destroy something."""
    output = settings.output
    if output is None:
        return
    partial = partial_path(output)
    places = [output, _review_path(output)] if settings.review else [output]
    for place in places:
        if table.rereadable and place.exists() and place.samefile(table.path):
            raise OutputError("is the input itself", where=str(place), mend="Name another output file.")
    if settings.resume:
        if output.exists() and not partial.exists():
            raise OutputError(
                "is finished already; there is nothing to resume",
                where=str(output),
                mend="--overwrite in place of --resume labels it anew.",
            )
    else:
        for place in places:
            refuse_existing(place, settings.overwrite)
        if partial.exists() and not settings.overwrite:
            raise OutputError(
                f"an unfinished run lies in {partial}", mend="--resume goes on with it, --overwrite begins anew."
            )
    # A folder that may not be written to, or an unknown ending.
    open_writer(output, table.columns).abort()


def _check_finite(terms: Mapping[str, Sequence[float]], row: Row) -> None:
    """Find damaged weights at the first text and not after the last.

    Raises:
        ModelError: a score is not a number.
    """
    for term, values in terms.items():
        if not all(map(math.isfinite, values)):
            raise ModelError(
                f"the model's {term} scores are not all numbers: {', '.join(f'{value:g}' for value in values)}",
                where=row.where,
                mend="Its weights may be damaged, or its number type too small for it.",
            )


def _question(settings: PredictSettings) -> str:
    """The instruction, or the one that is built from the labels."""
    if settings.instruction is not None:
        return settings.instruction
    return default_instruction(settings.labels.names) if settings.labels else _OPTIONS_QUESTION


def _template(settings: PredictSettings, task: Task) -> InstructionTemplate:
    try:
        return InstructionTemplate(_question(settings), task.text)
    except TemplateError as error:
        raise TemplateError(error.what, where=settings.place("--instruction"), mend=error.mend) from None


def _demonstrations(settings: PredictSettings) -> DemonstrationSet | None:
    return None if settings.demos is None else read_demonstrations(settings.demos)


def model_of(settings: PredictSettings) -> LanguageModel:
    """The model that is named, with the conventions that were asked for."""
    return load_model(
        settings.model,
        device=settings.device,
        eos=settings.eos,
        allow_pickle=settings.allow_pickle,
        truncation=settings.truncation,
    )


def _scorer(settings: PredictSettings, model: LanguageModel) -> Scorer:
    return make_scorer(
        model.conventions,
        method=settings.method,
        length_rule=settings.length_rule,
        temperature=settings.temperature,
    )


def _columns(task: Task, names: Sequence[str]) -> _Columns:
    """Names for the new columns that the input does not have yet."""
    taken = set(task.table.columns)
    notes: list[str] = []

    def free(name: str) -> str:
        fresh = name
        while fresh in taken:
            fresh = f"predicted_{fresh}"
        if fresh != name:
            notes.append(f"The input has a column {name!r} already; the prediction stands in {fresh!r}.")
        taken.add(fresh)
        return fresh

    label, confidence = free("label"), free("confidence")
    # Options that differ by row have no columns of their own: their probabilities stand together as one object.
    probabilities = tuple(free(f"p({name})") for name in names) if task.labels else (free("probabilities"),)
    return _Columns(label, confidence, probabilities, tuple(notes))


def _schema(task: Task, columns: _Columns, output: Path | None) -> Any:
    """Arrow types of a Parquet output; a column whose first rows are empty does not tell its own."""
    if output is None or output.suffix.lower() != ".parquet":
        return None
    import pyarrow as pa

    known = task.table.schema()
    number = pa.float64()
    kinds = [pa.string(), number, *(number if task.labels else pa.string() for _ in columns.probabilities)]
    added = [pa.field(name, kind) for name, kind in zip(columns.added, kinds, strict=True)]
    return pa.schema([*(known.field(name) for name in task.table.columns), *added])


def _review_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}.review{output.suffix}")


def _fingerprint(run: _Run) -> dict[str, object]:
    """What the raw scores depend on: a run may only be resumed with the same."""
    task, scorer, model = run.task, run.labeller.scorer, run.labeller.model
    facts: dict[str, object] = {
        "model": model.name,
        "model digest": model.digest(),
        "method": scorer.method,
        "length rules": {term: scorer.rule(term) for term in scorer.terms if term != PRIOR},
        "labels": list(task.labels.texts) if task.labels else f"column {task.options_column}",
        "instruction": run.words,
        "text columns": list(task.text),
        "truncation": model.conventions.truncation,
        "eos": model.conventions.eos,
        "input": os.path.abspath(task.table.path) if task.table.rereadable else task.table.name,
        "input format": task.table.format,
    }
    if run.labeller.demonstrations is not None:
        facts["demonstrations"] = run.labeller.demonstrations.digest
    return facts | _state(task.table)


def _state(table: Table) -> dict[str, object]:
    """By what a changed file is known; nothing for standard input."""
    if not table.rereadable:
        return {}
    state = table.path.stat()
    changed = datetime.datetime.fromtimestamp(state.st_mtime).isoformat(" ", "milliseconds")
    return {"input size": state.st_size, "input changed": changed}


# Scoring


def _score(run: _Run, rows: Iterator[Row], done: int) -> Iterator[list[dict[str, object]]]:
    """Records of the rows from number `done` + 1 on, `ROWS_AT_ONCE` at a time.

    Args:
        rows: from the last multiple of `ROWS_AT_ONCE` on that is not above `done`. A run that goes on from the middle
            of a piece asks the model about the whole piece again: another batch could differ in the last bit.
    """
    task, labeller = run.task, run.labeller
    skip = done % ROWS_AT_ONCE
    while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
        examples = [task.example(row) for row in chunk]
        options = [task.options(row) for row in chunk]
        if not task.table.rereadable:
            for row, names in zip(chunk, options, strict=True):
                task.gold_index(row, names)
                _check_keys(run, row)
        asked = [(e, o.texts) for e, o in zip(examples, options, strict=True) if e is not None]
        scores = iter(labeller.score([e for e, _ in asked], [o for _, o in asked]))
        records: list[dict[str, object]] = []
        for row, example in zip(chunk, examples, strict=True):
            record: dict[str, object] = {"row": row.number}
            if example is None:
                record |= {"scores": {}, "blank": True}
            else:
                scored = next(scores)
                _check_finite(scored.terms, row)
                record["scores"] = dict(scored.terms)
                if scored.shortened:
                    record["shortened"] = scored.shortened
                if scored.lost:
                    record["lost"] = scored.lost
                if scored.dropped:
                    record["dropped"] = scored.dropped
            if not task.table.rereadable or run.settings.output is None:
                record["values"] = row.values
            records.append(record)
        yield records[skip:]
        skip = 0


def _check_keys(run: _Run, row: Row) -> None:
    """Refuse keys that only a later row of JSON lines on standard input has, where they would do harm."""
    if row.values.keys() == set(run.task.table.columns):
        return
    output = run.settings.output
    as_lines = output is None or output.suffix.lower() in (".jsonl", ".ndjson")
    for name in row.values:
        if name in run.columns.added or not (as_lines or name in run.task.table.columns):
            raise DataError(
                f"the row has the key {name!r}, which the first row has not",
                where=row.where,
                mend="Save the rows to a file and name that as the input: it is looked through first.",
            )


def _rows_to_score(run: _Run, store: PartialScores) -> Iterator[Row]:
    """The rows from the last whole piece on; standard input must begin with what was scored already.

    Raises:
        OutputError: it does not.
    """
    task, begin = run.task, store.done - store.done % ROWS_AT_ONCE
    if task.table.rereadable:
        return task.rows(begin)
    rows = task.rows()
    again: list[Row] = []
    for record in itertools.islice(store.records(), run.settings.limit):
        row = next(rows, None)
        if row is None or json.dumps(row.values) != json.dumps(record["values"]):
            raise OutputError(
                f"standard input is not what the unfinished run read: row {record['row']} differs",
                where=str(store.path),
                mend="Send the same rows again, or begin anew with --overwrite in place of --resume.",
            )
        if row.number > begin:
            again.append(row)
    return itertools.chain(again, rows)


def _to_file(run: _Run, output: Path) -> Outcome:
    """Score what is not scored yet, then decide and write everything; the progress file goes last."""
    settings = run.settings
    partial = partial_path(output)
    fingerprint = _fingerprint(run)
    store = (
        PartialScores.resume(partial, fingerprint)
        if settings.resume and partial.exists()
        else PartialScores.start(partial, fingerprint, overwrite=settings.overwrite)
    )
    with store:
        try:
            fresh, seconds = _score_into(run, store)
            if any(fingerprint[name] != value for name, value in _state(run.task.table).items()):
                raise DataError(
                    "was changed while it was being labelled",
                    where=run.task.table.name,
                    mend="Run the command again with --overwrite.",
                )
            review = _write(run, store, output)
            summary = run.decider.summary(run.words, run.notes, fresh / seconds if seconds and fresh else None)
            _draw(run, summary)
        except KeyboardInterrupt:
            raise _stopped(run, store) from None
        except ObverseError as error:
            raise _with_way_on(error, run, store) from None
        finally:
            if not store.done:  # nothing in it is worth going on from
                store.remove()
        _sweep(output)
        store.remove()
    return Outcome(summary, output, review, _whole(run, fresh, seconds))


def _score_into(run: _Run, store: PartialScores) -> tuple[int, float]:
    """Texts scored now, and the seconds it took."""
    before = store.done
    if run.total is not None and before >= run.total:
        return 0, 0.0
    run.watcher.begin(before, run.total)
    began = time.monotonic()
    try:
        for records in _score(run, _rows_to_score(run, store), before):
            store.append(records)
            run.watcher.advance(len(records))
    finally:
        run.watcher.end()
    return store.done - before, time.monotonic() - began


def _stopped(run: _Run, store: PartialScores) -> Stopped:
    if not store.done:
        return Stopped("stopped before the first texts were scored; nothing is kept")
    in_place = " in place of --overwrite" if run.settings.overwrite else ""
    return Stopped(
        f"stopped; {counted(store.done, 'scored text')} safe in {store.path}",
        mend=f"The same command with --resume{in_place} goes on from there.",
    )


def _with_way_on(error: ObverseError, run: _Run, store: PartialScores) -> ObverseError:
    """The error with the way to go on, where one is left and it does not say so itself."""
    mend = error.mend or ""
    mendable = isinstance(error, OutputError) or not run.task.table.rereadable
    if not store.done or not mendable or "--resume" in mend or "--overwrite" in mend:
        return error
    way = f"The scores are safe in {store.path}: --resume goes on from there."
    return type(error)(error.what, where=error.where, mend=f"{mend} {way}".lstrip())


def _sweep(output: Path) -> None:
    """Remove what killed runs left of this output: nobody else writes it while its progress file is held."""
    target = Path(os.path.realpath(output))
    if len(target.name) >= 40:  # hidden names are cut there, and it may be another's
        return
    hidden = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if hidden.fullmatch(entry.name):
                os.unlink(entry.path)


def _write(run: _Run, store: PartialScores, output: Path) -> Path | None:
    """Decide, and write the labelled table and the rows to review; the path of the latter."""
    most = run.settings.review
    reviewed: list[tuple[float, int, dict[str, object]]] = []
    with open_writer(output, run.all_columns, schema=run.schema) as writer:
        for row, record, prediction, options in run.decider.decide(_stored(run, store)):
            values = _labelled(run, row, prediction, options)
            writer.write(values)
            if most and not record.get("blank"):
                _keep_least_sure(reviewed, most, prediction.confidence, row.number, values)
    if not most:
        return None
    review = _review_path(output)
    with open_writer(review, run.all_columns, schema=run.schema) as writer:
        for _, _, values in sorted(reviewed, key=lambda item: (-item[0], -item[1])):
            writer.write(values)
    return review


def _stored(run: _Run, store: PartialScores) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """Each row to label with its record; a run that went further before may have left more records."""
    task = run.task
    records = itertools.islice(store.records(), task.limit)
    if task.table.rereadable:
        yield from zip(task.rows(), records, strict=True)
        return
    for record in records:
        yield Row(record["row"], record["values"], task.table.name), record


def _to_standard_output(run: _Run) -> Outcome:
    """Whole lines as soon as they are decided; nothing is kept."""
    task, watcher = run.task, run.watcher
    written = 0
    seconds = 0.0

    def scored() -> Iterator[tuple[Row, Mapping[str, Any]]]:
        nonlocal seconds
        began = time.monotonic()
        for records in _score(run, task.rows(), 0):
            seconds += time.monotonic() - began
            watcher.advance(len(records))
            for record in records:
                values: Any = record["values"]
                number: Any = record["row"]
                yield Row(number, values, task.table.name), record
            writer.flush()
            began = time.monotonic()

    format = task.table.format if task.table.format in ("csv", "tsv", "jsonl") else "jsonl"
    watcher.begin(0, run.total)
    writer: Writer = stdout_writer(format, run.all_columns)
    try:
        with writer:
            for row, _, prediction, options in run.decider.decide(scored()):
                writer.write(_labelled(run, row, prediction, options))
                written += 1
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped; {counted(written, 'labelled row')} written to standard output",
            mend="With --output FILE a stopped run can be resumed.",
        ) from None
    finally:
        watcher.end()
    rows = run.decider.tally.rows
    summary = run.decider.summary(run.words, run.notes, rows / seconds if seconds else None)
    _draw(run, summary)
    return Outcome(summary, None, None, _whole(run, rows, seconds))


def _draw(run: _Run, summary: Summary) -> None:
    if run.settings.picture is not None:
        from obverse.reports.figures import draw_summary

        draw_summary(summary, run.settings.picture)


def _whole(run: _Run, rows: int, seconds: float) -> float | None:
    """How long the whole table would take, after a preview."""
    limit = run.settings.limit
    if limit is None or not rows or not seconds:
        return None
    count = run.task.table.count()
    return None if count is None or count.rows <= limit else count.rows * seconds / rows


def _labelled(run: _Run, row: Row, prediction: Prediction, options: LabelSet) -> dict[str, object]:
    """The row as it came, plus what was decided."""
    columns = run.columns
    values: dict[str, object] = dict(row.values)
    probabilities: list[float | None] = [round(p, 6) for p in prediction.probabilities]
    values[columns.label] = None if prediction.index is None else options.names[prediction.index]
    values[columns.confidence] = round(prediction.confidence, 6) if probabilities else None
    if run.task.labels is None:
        values[columns.probabilities[0]] = (
            dict(zip(options.names, probabilities, strict=True)) if probabilities else None
        )
    else:
        values.update(zip(columns.probabilities, probabilities or [None] * len(options), strict=True))
    return values


def _keep_least_sure(
    kept: list[tuple[float, int, dict[str, object]]],
    most: int,
    confidence: float,
    number: int,
    values: dict[str, object],
) -> None:
    """Keep the `most` rows of least confidence, the earlier of two equals, in a heap of that size."""
    entry = (-confidence, -number, values)
    if len(kept) < most:
        heapq.heappush(kept, entry)
    elif entry[:2] > kept[0][:2]:
        heapq.heapreplace(kept, entry)
