"""`obverse predict`: from a table of texts to the same table with labels, in constant memory.

Three passes, each streaming: check every row; score (the raw numbers go to a progress file beside the output);
decide (raw numbers to labels, and the output appears). Everything that can be worked out from the raw numbers
(calibration over a batch, prior, smallest confidence, the summary) belongs to the last pass, so a run that was
stopped and resumed ends exactly like one that was not.
"""

from __future__ import annotations

import heapq
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obverse.catalog.tables import (
    Row,
    Table,
    Writer,
    check_columns,
    default_text_column,
    open_table,
    open_writer,
    refuse_existing,
    stdout_writer,
)
from obverse.errors import DataError, LabelError, MethodError, ObverseError, OutputError
from obverse.labelling import Labeller, make_scorer
from obverse.metrics.classification import Tally
from obverse.models.base import LanguageModel
from obverse.models.checkpoints import load_model
from obverse.reports.explanation import Explanation
from obverse.reports.summary import Summary
from obverse.runs.partial import PartialScores, partial_path
from obverse.scoring import calibration as calibrations
from obverse.scoring.scorers import PRIOR, Prediction, Scorer, decide
from obverse.tasks.examples import Example
from obverse.tasks.labels import LabelSet, check_options
from obverse.tasks.templates import InstructionTemplate, default_instruction

ROWS_AT_ONCE = 256
_MOST_SIMILAR_ERRORS = 3


@dataclass(frozen=True)
class PredictSettings:
    """What `obverse predict` was asked to do; names as on the command line.

    Attributes:
        input: a file, or `-` for standard input.
        output: a file; None writes to standard output.
        labels: None where each row brings its own (`options_column`).
    """

    input: Path
    output: Path | None = None
    labels: LabelSet | None = None
    instruction: str | None = None
    text: tuple[str, ...] = ()
    options_column: str | None = None
    gold: str | None = None
    input_format: str | None = None
    model: str = "obverse-mini"
    method: str | None = None
    length_rule: str | None = None
    calibration: str = "none"
    batch_rows: int = calibrations.BATCH_ROWS
    label_prior: tuple[float, ...] | None = None
    temperature: float | None = None
    eos: str | None = None
    truncation: str | None = None
    allow_pickle: bool = False
    device: str | None = None
    min_confidence: float = 0.0
    review: int = 0
    limit: int | None = None
    skip_blank: bool = False
    resume: bool = False
    overwrite: bool = False
    picture: Path | None = None


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


@dataclass(frozen=True, slots=True)
class Task:
    """A table with what each of its columns is for."""

    table: Table
    text: tuple[str, ...]
    labels: LabelSet | None
    options_column: str | None
    gold: str | None
    skip_blank: bool
    limit: int | None

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The rows to label, from `start` on."""
        stop = None if self.limit is None else max(0, self.limit - start)
        return itertools.islice(self.table.rows(start), stop)

    def example(self, row: Row) -> Example | None:
        """The row's texts; None where all are blank and that was allowed.

        Raises:
            DataError: a text is missing or is not text.
        """
        fields: dict[str, object] = {}
        for column in self.text:
            value = row.values.get(column)
            if value is None:
                value = ""
            if not isinstance(value, str):
                raise DataError(
                    f"column {column!r} holds {value!r} ({type(value).__name__}), which is not text",
                    where=row.where,
                    mend="Name a column of text with --text.",
                )
            fields[column] = value
        if not any(str(value).strip() for value in fields.values()):
            if self.skip_blank:
                return None
            raise DataError(
                f"there is no text in column {' or '.join(map(repr, self.text))}",
                where=row.where,
                mend="Fill it in or remove the row; --skip-blank leaves the label of such rows empty.",
            )
        return Example(str(row.number), fields, where=row.where)

    def options(self, row: Row) -> LabelSet:
        """What the row is to be labelled with.

        Raises:
            DataError: its options are missing or cannot be read.
            LabelError: they are too few, blank or repeated.
        """
        if self.labels is not None:
            return self.labels
        assert self.options_column is not None
        value = row.values.get(self.options_column)
        where = f"{row.where}, column {self.options_column!r}"
        if isinstance(value, str):
            text = value.strip()
            if text.startswith("["):
                try:
                    value = json.loads(text)
                except json.JSONDecodeError as error:
                    raise DataError(f"is not a JSON list: {error}", where=where) from None
            else:
                value = [part.strip() for part in text.split("|||" if "|||" in text else ",")]
        if not isinstance(value, list | tuple):
            raise DataError(
                f"holds {value!r} and not a list of options",
                where=where,
                mend='Write a JSON list, ["yes", "no"], or options with ||| or commas between.',
            )
        return LabelSet(check_options(value, where=where), where=where)

    def gold_index(self, row: Row, options: LabelSet) -> int | None:
        """The right option's place; None where the cell is blank.

        Raises:
            DataError: the cell holds something that is no option.
        """
        if self.gold is None:
            return None
        value = row.values.get(self.gold)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            return options.index(str(value))
        except LabelError:
            raise DataError(
                f"the gold label {value!r} in column {self.gold!r} is not one of the labels",
                where=row.where,
                mend=f"Labels: {', '.join(options.names)}. Name them as the column does.",
            ) from None


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: the summary, and where things lie."""

    summary: Summary
    output: Path | None
    review: Path | None
    whole_seconds: float | None = None


class Stopped(ObverseError):
    """The user stopped the run; what is done is safe."""


@dataclass
class _Counts:
    shortened: int = 0
    lost: int = 0
    empty: int = 0
    ties: int = 0
    below: int = 0


@dataclass
class _Columns:
    """Names of the columns that are added, chosen so that none of the input's is overwritten."""

    label: str
    confidence: str
    probabilities: tuple[str, ...]
    notes: list[str] = field(default_factory=list)


def predict(settings: PredictSettings, *, watcher: Watcher | None = None, model: LanguageModel | None = None) -> Outcome:
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
    _check_numbers(settings)
    table = open_table(settings.input, format=settings.input_format)
    task = _task(settings, table)
    output = settings.output
    partial = None if output is None else partial_path(output)
    if output is not None:
        if settings.resume and output.exists() and partial is not None and not partial.exists():
            raise OutputError("is finished already; there is nothing to resume", where=str(output))
        if not settings.resume:
            refuse_existing(output, settings.overwrite)
        if output.exists() and settings.input != Path("-") and output.resolve() == settings.input.resolve():
            raise OutputError("is the input itself", where=str(output), mend="Name another output file.")
        # An ending that cannot be written is found before any work is done.
        open_writer(output, table.columns).abort()
    elif settings.review:
        raise OutputError("--review needs --output: its file lies beside the output")
    total, most_options = _check_rows(task, watcher)
    names = task.labels.names if task.labels else tuple(f"option {i + 1}" for i in range(most_options))
    columns = _columns(task, names)
    notes = columns.notes
    words = settings.instruction
    if words is None:
        words = default_instruction(names) if task.labels else "Which of the options fits this text best?"
        watcher.note(f'No --instruction given; asking: "{words}"')
    template = InstructionTemplate(words, task.text)
    if model is None:
        model = load_model(
            settings.model,
            device=settings.device,
            eos=settings.eos,
            allow_pickle=settings.allow_pickle,
            truncation=settings.truncation,
        )
    scorer = make_scorer(
        model.conventions,
        method=settings.method,
        length_rule=settings.length_rule,
        temperature=settings.temperature,
    )
    trained = model.conventions.trained
    untrained = [t for t in scorer.terms if trained and t not in (*trained, PRIOR, "null")]
    if untrained:
        line = f"{model.name} was trained on {' and '.join(trained)}, not on {' or '.join(untrained)}; expect less of it."
        watcher.note(line)
        notes.append(line)
    labeller = Labeller(model, scorer, template)
    decider = _Decider(settings, task, labeller, names)

    if output is None or partial is None:
        return _to_standard_output(task, labeller, decider, columns, watcher, total, notes, words)

    fingerprint = _fingerprint(settings, task, scorer, words, model)
    store = (
        PartialScores.resume(partial, fingerprint)
        if settings.resume and partial.exists()
        else PartialScores.start(partial, fingerprint, overwrite=settings.overwrite)
    )
    with store:
        before = store.done
        watcher.begin(before, total)
        began = time.monotonic()
        try:
            for records in _score(task, labeller, before, keep_rows=not table.rereadable):
                store.append(records)
                watcher.advance(len(records))
        except KeyboardInterrupt:
            raise Stopped(
                f"stopped; {store.done:,} texts are safe in {partial}",
                mend="The same command with --resume goes on from there.",
            ) from None
        finally:
            watcher.end()
        seconds = time.monotonic() - began
        fresh = store.done - before
        review = None
        paired = _stored(task, store)
        with open_writer(output, _all_columns(table, columns), schema=_schema(table, output)) as writer:
            reviewed: list[tuple[float, int, dict[str, object]]] = []
            for row, record, prediction, options in decider.decide(paired):
                values = _labelled(row, prediction, options, columns, task)
                writer.write(values)
                if settings.review and not record.get("blank"):
                    _keep_least_sure(reviewed, settings.review, prediction.confidence, row.number, values)
        if settings.review:
            review = output.with_name(f"{output.stem}.review{output.suffix}")
            with open_writer(review, _all_columns(table, columns), schema=_schema(table, output)) as writer:
                for _, _, values in sorted(reviewed, key=lambda item: (-item[0], -item[1])):
                    writer.write(values)
        store.remove()
    summary = decider.summary(scorer, model, words, notes, fresh / seconds if seconds and fresh else None, seconds)
    outcome = Outcome(summary, output, review, _whole(settings, table, fresh, seconds))
    if settings.picture is not None:
        from obverse.reports.figures import draw_summary

        draw_summary(summary, settings.picture)
    return outcome


def explain(settings: PredictSettings, row_number: int, *, model: LanguageModel | None = None) -> Explanation:
    """Which words of the instruction spoke for which label in one row of the table.

    Raises:
        DataError: there is no such row.
    """
    table = open_table(settings.input, format=settings.input_format)
    task = _task(settings, table)
    row = next(iter(itertools.islice(table.rows(), max(0, row_number - 1), row_number)), None)
    if row is None or row_number < 1:
        raise DataError(f"there is no row {row_number} (--explain)", where=table.name, mend="Rows count from 1.")
    example = task.example(row)
    if example is None:
        raise DataError("the row has no text to explain", where=row.where)
    options = task.options(row)
    words = settings.instruction or default_instruction(options.names)
    if model is None:
        model = load_model(
            settings.model,
            device=settings.device,
            eos=settings.eos,
            allow_pickle=settings.allow_pickle,
            truncation=settings.truncation,
        )
    scorer = make_scorer(
        model.conventions,
        method=settings.method,
        length_rule=settings.length_rule,
        temperature=settings.temperature,
    )
    labeller = Labeller(model, scorer, InstructionTemplate(words, task.text))
    tokens, nats = labeller.explain(example, options.texts)
    scored = labeller.score([example], [options.texts])[0]
    probabilities = np.exp(scorer.log_probabilities(scored.terms))
    return Explanation(
        text="  ".join(str(v) for v in example.fields.values()),
        labels=options.names,
        tokens=tuple(tokens),
        nats=tuple(tuple(float(n) for n in line) for line in nats),
        probabilities=tuple(float(p) for p in probabilities),
        kind="flipped",
    )


# Checking


def _check_numbers(settings: PredictSettings) -> None:
    calibrations.check_calibration(settings.calibration)
    if settings.labels is None and settings.options_column is None:
        raise LabelError(
            "there are no labels to choose from",
            mend='Give --labels "praise, complaint, question", a file with one label a line, or --options-column NAME.',
        )
    if settings.labels is not None and settings.options_column is not None:
        raise LabelError("--labels and --options-column exclude each other", mend="Give one of them.")
    if not 0 <= settings.min_confidence <= 1:
        raise MethodError(f"--min-confidence is {settings.min_confidence:g}; it lies between 0 and 1")
    for flag, value in (("--limit", settings.limit), ("--review", settings.review or None)):
        if value is not None and value < 1:
            raise MethodError(f"{flag} is {value}; it must be at least 1")
    if settings.batch_rows < 2:
        raise MethodError("--batch-rows must be at least 2: a single text would be subtracted from itself")
    if settings.temperature is not None and not settings.temperature > 0:
        raise MethodError(f"--temperature is {settings.temperature:g}; it must be above 0")
    if settings.label_prior is not None:
        if settings.labels is None:
            raise MethodError("--label-prior needs --labels: options that differ by row have no common prior")
        calibrations.log_prior(settings.label_prior, len(settings.labels))
    if settings.calibration.startswith("batch") and settings.options_column is not None:
        raise MethodError(
            "batch calibration needs the same options in every row",
            where="--calibration",
            mend="Use contextual calibration with --options-column.",
        )


def _task(settings: PredictSettings, table: Table) -> Task:
    text = settings.text or (default_text_column(table),)
    check_columns(table, text, "--text")
    if settings.gold is not None:
        check_columns(table, [settings.gold], "--gold")
    if settings.options_column is not None:
        check_columns(table, [settings.options_column], "--options-column")
        if not table.rereadable:
            raise DataError(
                "--options-column needs a file that can be read twice", where=table.name, mend="Save the rows to a file."
            )
    return Task(
        table, tuple(text), settings.labels, settings.options_column, settings.gold, settings.skip_blank, settings.limit
    )


def _check_rows(task: Task, watcher: Watcher) -> tuple[int | None, int]:
    """Read every row once before any model is loaded; number of rows, and of the most options a row has.

    A fault in the last row of a long file is then found in seconds and not after hours.
    """
    if not task.table.rereadable:
        return None, 0
    rows = most = 0
    first: ObverseError | None = None
    others: list[str] = []
    count = 0
    for row in task.rows():
        rows += 1
        try:
            task.example(row)
            options = task.options(row)
            most = max(most, len(options))
            task.gold_index(row, options)
        except ObverseError as error:
            count += 1
            if first is None:
                first = error
            elif len(others) < _MOST_SIMILAR_ERRORS:
                others.append(f"row {row.number}")
    if first is not None:
        if count > 1:
            more = count - 1 - len(others)
            tail = f" and {more:,} more" if more else ""
            first = type(first)(f"{first.what} (so do {', '.join(others)}{tail})", where=first.where, mend=first.mend)
        raise first
    return rows, most


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
    # Options that differ by row have no columns of their own: their probabilities stand together as JSON.
    probabilities = tuple(free(f"p({name})") for name in names) if task.labels else (free("probabilities"),)
    return _Columns(label, confidence, probabilities, notes)


def _all_columns(table: Table, columns: _Columns) -> tuple[str, ...]:
    return (*table.columns, columns.label, columns.confidence, *columns.probabilities)


def _schema(table: Table, output: Path) -> Any:
    return table.schema() if output.suffix.lower() == ".parquet" else None


def _fingerprint(
    settings: PredictSettings, task: Task, scorer: Scorer, words: str, model: LanguageModel
) -> dict[str, object]:
    """What the raw scores depend on: a run may only be resumed with the same."""
    facts: dict[str, object] = {
        "model": model.name,
        "model digest": model.digest(),
        "method": scorer.method,
        "length rules": {term: scorer.rule(term) for term in scorer.terms if term != PRIOR},
        "labels": list(task.labels.texts) if task.labels else f"column {task.options_column}",
        "instruction": words,
        "text columns": list(task.text),
        "truncation": model.conventions.truncation,
        "eos": model.conventions.eos,
        "input": str(task.table.path),
    }
    if task.table.rereadable:
        state = task.table.path.stat()
        facts |= {"input size": state.st_size, "input changed": state.st_mtime_ns}
    return facts


# Scoring


def _score(task: Task, labeller: Labeller, start: int, *, keep_rows: bool) -> Iterator[list[dict[str, object]]]:
    """Records of the rows from `start` on, some hundred at a time."""
    rows = task.rows(start)
    while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
        examples = [task.example(row) for row in chunk]
        options = [task.options(row) for row in chunk]
        for row, names in zip(chunk, options, strict=True):
            task.gold_index(row, names)
        asked = [(e, o.texts) for e, o in zip(examples, options, strict=True) if e is not None]
        scores = iter(labeller.score([e for e, _ in asked], [o for _, o in asked]))
        records: list[dict[str, object]] = []
        for row, example in zip(chunk, examples, strict=True):
            record: dict[str, object] = {"row": row.number}
            if example is None:
                record |= {"scores": {}, "blank": True}
            else:
                scored = next(scores)
                record["scores"] = {term: list(values) for term, values in scored.terms.items()}
                if scored.shortened:
                    record["shortened"] = scored.shortened
                if scored.lost:
                    record["lost"] = scored.lost
            if keep_rows:
                record["values"] = row.values
            records.append(record)
        yield records


def _stored(task: Task, store: PartialScores) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """Each row of the table with its record."""
    if task.table.rereadable:
        yield from zip(task.rows(), store.records(), strict=True)
        return
    for record in store.records():
        yield Row(record["row"], record["values"], task.table.name), record


# Deciding


class _Decider:
    """From raw numbers to predictions, row by row, with everything that is counted on the way."""

    def __init__(self, settings: PredictSettings, task: Task, labeller: Labeller, names: Sequence[str]) -> None:
        self._settings = settings
        self._task = task
        self._labeller = labeller
        self._names = tuple(names)
        self.counts = _Counts()
        self.tally = Tally(max(2, len(names)))
        self.notes: list[str] = []
        self._log_prior = (
            None if settings.label_prior is None else calibrations.log_prior(settings.label_prior, len(names))
        )
        self._contextual: dict[tuple[str, ...], NDArray[np.float64]] = {}

    def decide(
        self, rows: Iterator[tuple[Row, Mapping[str, Any]]]
    ) -> Iterator[tuple[Row, Mapping[str, Any], Prediction, LabelSet]]:
        """Predictions in row order; holds back the first `batch_rows` rows where a batch's bias is wanted."""
        bias: NDArray[np.float64] | None = None
        if self._settings.calibration.startswith("batch"):
            held = list(itertools.islice(rows, self._settings.batch_rows))
            log_p = [self._log_p(record) for _, record in held if not record.get("blank")]
            if not log_p:
                raise MethodError("batch calibration needs texts, and all rows are blank", where="--calibration")
            bias = calibrations.batch_bias(np.stack(log_p), of_logs=self._settings.calibration.endswith("-log"))
            said = ", ".join(f"{n} {b:+.2f}" for n, b in list(zip(self._names, -bias, strict=True))[:6])
            self.notes.append(
                f"Batch calibration from the first {len(log_p):,} texts, then frozen; added to the log-probabilities: "
                f"{said}{', ..' if len(bias) > 6 else ''}."
            )
            rows = itertools.chain(held, rows)
        for row, record in rows:
            options = self._task.options(row)
            if record.get("blank"):
                self.counts.empty += 1
                prediction = Prediction(None, (), 0.0, reason="no text")
                self.tally.add(self._task.gold_index(row, options), None, None)
                yield row, record, prediction, options
                continue
            here = bias
            if self._settings.calibration.startswith("contextual"):
                here = self._contextual_bias(row, options)
            log_p = calibrations.apply(self._log_p(record), here, self._log_prior)
            prediction = decide(log_p, min_confidence=self._settings.min_confidence)
            self.counts.shortened += bool(record.get("shortened"))
            self.counts.lost += int(record.get("lost", 0))
            self.counts.ties += prediction.tie
            self.counts.below += prediction.index is None
            padded = prediction.probabilities + (0.0,) * (self.tally.classes - len(prediction.probabilities))
            self.tally.add(
                self._task.gold_index(row, options), prediction.index, min(1.0, prediction.confidence), padded
            )
            yield row, record, prediction, options

    def _log_p(self, record: Mapping[str, Any]) -> NDArray[np.float64]:
        return self._labeller.scorer.log_probabilities(record["scores"])

    def _contextual_bias(self, row: Row, options: LabelSet) -> NDArray[np.float64]:
        if options.texts not in self._contextual:
            example = self._task.example(row)
            assert example is not None
            self._contextual[options.texts] = self._labeller.content_free(
                example, options.texts, of_logs=self._settings.calibration.endswith("-log")
            )
            while len(self._contextual) > 1000:
                self._contextual.pop(next(iter(self._contextual)))
        return self._contextual[options.texts]

    def summary(
        self,
        scorer: Scorer,
        model: LanguageModel,
        words: str,
        notes: Sequence[str],
        rate: float | None,
        seconds: float,
    ) -> Summary:
        """All that was counted."""
        rules = sorted({scorer.rule(term) for term in scorer.terms if term != PRIOR})
        lost = (
            [f"{self.counts.lost:,} tokens cut from the right (truncation `reference`)."] if self.counts.lost else []
        )
        parts = [] if self._settings.calibration == "none" else [self._settings.calibration]
        if self._settings.label_prior is not None:
            parts.append("label prior")
        return Summary.of(
            self.tally,
            self._names,
            below_min_confidence=self.counts.below,
            min_confidence=self._settings.min_confidence or None,
            shortened=self.counts.shortened,
            empty=self.counts.empty,
            ties=self.counts.ties,
            seconds=None if rate is None else self.tally.rows / rate,
            model=model.name,
            method=scorer.method,
            length_rule="+".join(rules) or None,
            calibration=" + ".join(parts) or None,
            instruction=words,
            notes=[*notes, *self.notes, *lost],
        )


def _labelled(
    row: Row, prediction: Prediction, options: LabelSet, columns: _Columns, task: Task
) -> dict[str, object]:
    """The row as it came, plus what was decided."""
    values: dict[str, object] = dict(row.values)
    values[columns.label] = None if prediction.index is None else options.names[prediction.index]
    values[columns.confidence] = round(prediction.confidence, 6) if prediction.probabilities else None
    if task.labels is None:
        table = dict(zip(options.names, (round(p, 6) for p in prediction.probabilities), strict=False))
        values[columns.probabilities[0]] = table if task.table.format == "jsonl" else json.dumps(table, ensure_ascii=False)
    else:
        for i, name in enumerate(columns.probabilities):
            values[name] = round(prediction.probabilities[i], 6) if prediction.probabilities else None
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


def _to_standard_output(
    task: Task,
    labeller: Labeller,
    decider: _Decider,
    columns: _Columns,
    watcher: Watcher,
    total: int | None,
    notes: Sequence[str],
    words: str,
) -> Outcome:
    """Whole lines as soon as they are decided; nothing is kept."""
    settings = decider._settings
    written = 0
    seconds = 0.0

    def scored() -> Iterator[tuple[Row, Mapping[str, Any]]]:
        nonlocal seconds
        began = time.monotonic()
        for records in _score(task, labeller, 0, keep_rows=True):
            seconds += time.monotonic() - began
            watcher.advance(len(records))
            for record in records:
                values: Any = record["values"]
                number: Any = record["row"]
                yield Row(number, values, task.table.name), record
            writer.flush()
            began = time.monotonic()

    format = task.table.format if task.table.format in ("csv", "tsv", "jsonl") else "jsonl"
    watcher.begin(0, total)
    writer: Writer = stdout_writer(format, _all_columns(task.table, columns))
    try:
        with writer:
            for row, _, prediction, options in decider.decide(scored()):
                writer.write(_labelled(row, prediction, options, columns, task))
                written += 1
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped; {written:,} labelled rows were written to standard output",
            mend="With --output FILE a stopped run can be resumed.",
        ) from None
    finally:
        watcher.end()
    rate = decider.tally.rows / seconds if seconds else None
    summary = decider.summary(labeller.scorer, labeller.model, words, notes, rate, seconds)
    if settings.picture is not None:
        from obverse.reports.figures import draw_summary

        draw_summary(summary, settings.picture)
    return Outcome(summary, None, None, _whole(settings, task.table, decider.tally.rows, seconds))


def _whole(settings: PredictSettings, table: Table, rows: int, seconds: float) -> float | None:
    """How long the whole table would take, after a preview."""
    if settings.limit is None or not rows or not seconds:
        return None
    count = table.count()
    return None if count is None or count.rows <= settings.limit else count.rows * seconds / rows
