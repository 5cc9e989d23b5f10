"""What `obverse predict` is asked to do, and what each column of its table is for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from obverse.catalog.own import WHOLE, gold_text, read_own
from obverse.catalog.tables import Row, Table, check_columns, default_text_column
from obverse.errors import DataError, LabelError, ObverseError
from obverse.recipes.engine import EngineSettings
from obverse.scoring import calibration as calibrations
from obverse.tasks.examples import Example
from obverse.tasks.labels import LabelSet, option_index, parse_options

_MOST_SIMILAR_FAULTS = 3


@dataclass(frozen=True)
class PredictSettings:
    """What `obverse predict` was asked to do; names as on the command line.

    Attributes:
        input: a table, a task file (.toml), or `-` for standard input.
        output: a file; None writes to standard output.
        labels: None where each row brings its own (`options_column`).
        split: which of a task file's tables; None takes test, else validation, else what there is.
        demos: demonstrations in front of each prompt: a set's name or file; None for none.
        gold_values: what the gold column holds for each label, where those are not the labels' names.
        engine: how the model works.
        written_in: option of the command line -> where its setting was written, if not there; for messages.
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
    split: str | None = None
    demos: str | None = None
    gold_values: tuple[str, ...] = ()
    engine: EngineSettings = field(default_factory=EngineSettings)
    written_in: Mapping[str, str] = field(default_factory=dict)

    def place(self, option: str) -> str:
        """Where the setting of `option` is to be mended."""
        return self.written_in.get(option, option)


def with_task_file(settings: PredictSettings) -> tuple[PredictSettings, tuple[str, ...]]:
    """The settings with those of the task file that is named as the input; what is set already stays.

    Returns:
        The settings, their input a table now, and what to tell the user about choices made.

    Raises:
        DataError: a faulty task file, or no such split.
    """
    if settings.input.suffix.lower() != ".toml":
        if settings.split is not None:
            raise DataError(
                "chooses among the tables of a task file, and the input is a table itself",
                where="--split",
                mend="Leave it out, or name a task file (.toml) as the input.",
            )
        return settings, ()
    own = read_own(settings.input)
    split = own.choose_split(settings.split)
    notes = [] if split == WHOLE else [f"Labelling the split {split!r}: {own.files[split]}"]
    filled: dict[str, object] = {"input": own.files[split], "split": split}
    written_in: dict[str, str] = {}
    if settings.input_format is None:
        filled["input_format"] = own.format
    if not settings.text:
        filled["text"] = own.text
        written_in["--text"] = f"`text` in {own.path}"
    if settings.gold is None and own.gold is not None:
        filled["gold"] = own.gold
        written_in["--gold"] = f"`gold` in {own.path}"
    if settings.instruction is None:
        filled["instruction"] = own.instructions[0]
        written_in["--instruction"] = f"{own.path}, instruction 1"
        if len(own.instructions) > 1:
            notes.append(f'The first of {len(own.instructions)} instructions is asked: "{own.instructions[0]}"')
    if settings.labels is None and settings.options_column is None:
        filled["labels"] = own.label_set()
        filled["options_column"] = own.options
        filled["gold_values"] = tuple(label.value for label in own.labels)
        written_in["--options-column"] = f"`options` in {own.path}"
        if own.wordings > 1:
            notes.append(f"The first of {own.wordings} wordings of the labels is read.")
    return replace(settings, **filled, written_in=written_in), tuple(notes)  # type: ignore[arg-type]


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
    gold_values: tuple[str, ...] = ()

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
        where = f"{row.where}, column {self.options_column!r}"
        return LabelSet(parse_options(row.values.get(self.options_column), where=where), where=where)

    def gold_index(self, row: Row, options: LabelSet) -> int | None:
        """The right option's place; None where the cell is blank.

        Raises:
            DataError: the cell holds something that is no option.
        """
        if self.gold is None:
            return None
        value = row.values.get(self.gold)
        if self.gold_values:
            return self._valued(value, row)
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

    def _valued(self, cell: object, row: Row) -> int | None:
        """The place of the label whose value the cell holds."""
        value = gold_text(cell)
        if value is None:
            return None
        place = option_index(value, self.gold_values)
        if place is None:
            raise DataError(
                f"no label has the value {value!r} that stands in column {self.gold!r}",
                where=row.where,
                mend=f"Values: {', '.join(self.gold_values)}. Give each label what the column holds as its `value`.",
            )
        return place


def task_of(settings: PredictSettings, table: Table) -> Task:
    text = tuple(dict.fromkeys(settings.text)) or (default_text_column(table),)
    check_columns(table, text, settings.place("--text"))
    if settings.gold is not None:
        check_columns(table, [settings.gold], settings.place("--gold"))
    if settings.options_column is not None:
        check_columns(table, [settings.options_column], settings.place("--options-column"))
        if not table.rereadable:
            raise DataError(
                "--options-column needs a file that can be read twice",
                where=table.name,
                mend="Save the rows to a file.",
            )
    return Task(
        table,
        text,
        settings.labels,
        settings.options_column,
        settings.gold,
        settings.skip_blank,
        settings.limit,
        settings.gold_values,
    )


def check_rows(task: Task) -> tuple[int | None, int, int | None]:
    """Read every row once before any model is loaded: a fault in the last row of a long file is found in seconds.

    Returns:
        The number of rows, of the most options a row has, and of rows with a text; None for standard input.

    Raises:
        ObverseError: the first fault, with the rows that have it too.
    """
    if not task.table.rereadable:
        return None, 0, None
    rows = most = texts = 0
    first: ObverseError | None = None
    kind = ""
    similar: list[int] = []
    try:
        for row in task.rows():
            rows += 1
            step = "text"
            try:
                texts += task.example(row) is not None
                step = "options"
                options = task.options(row)
                most = max(most, len(options))
                step = "gold"
                task.gold_index(row, options)
            except ObverseError as error:
                if first is None:
                    first, kind = error, step
                elif step == kind:
                    similar.append(row.number)
    except DataError:  # a row that cannot be read at all
        if first is None:
            raise
    if first is not None:
        if similar:
            shown = ", ".join(f"{n}" for n in similar[:_MOST_SIMILAR_FAULTS])
            more = len(similar) - _MOST_SIMILAR_FAULTS
            also = f"row{'s' if len(similar) > 1 else ''} {shown}{f' and {more:,} more' if more > 0 else ''}"
            first = type(first)(f"{first.what} (likewise {also})", where=first.where, mend=first.mend)
        raise first
    return rows, most, texts
