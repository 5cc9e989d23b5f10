"""What `obverse predict` is asked to do, and what each column of its table is for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from obverse.catalog.tables import Row, Table, check_columns, default_text_column
from obverse.errors import DataError, LabelError, ObverseError
from obverse.scoring import calibration as calibrations
from obverse.tasks.examples import Example
from obverse.tasks.labels import LabelSet, check_options

_MOST_SIMILAR_FAULTS = 3


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
        mend = 'Write a JSON list, ["yes", "no"], or options with ||| or commas between.'
        if value is None or value == "":
            raise DataError("there are no options", where=where, mend=mend)
        if isinstance(value, str):
            text = value.strip()
            try:
                value = json.loads(text) if text.startswith("[") else None
            except (ValueError, RecursionError) as error:
                # Options may begin with a bracket of their own: [A] first ||| [B] second
                if "|||" not in text:
                    raise DataError(f"is not a JSON list: {error}", where=where, mend=mend) from None
                value = None
            if value is None:
                value = [part.strip() for part in text.split("|||" if "|||" in text else ",")]
        if not isinstance(value, list | tuple):
            raise DataError(f"holds {value!r} and not a list of options", where=where, mend=mend)
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


def task_of(settings: PredictSettings, table: Table) -> Task:
    text = tuple(dict.fromkeys(settings.text)) or (default_text_column(table),)
    check_columns(table, text, "--text")
    if settings.gold is not None:
        check_columns(table, [settings.gold], "--gold")
    if settings.options_column is not None:
        check_columns(table, [settings.options_column], "--options-column")
        if not table.rereadable:
            raise DataError(
                "--options-column needs a file that can be read twice",
                where=table.name,
                mend="Save the rows to a file.",
            )
    return Task(
        table, text, settings.labels, settings.options_column, settings.gold, settings.skip_blank, settings.limit
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
