"""Tables of any length, read and written row by row in constant memory.

================  =========  =====================================================================
ending            format     what a row is
================  =========  =====================================================================
.csv              csv        RFC 4180: commas, fields with line breaks in quotation marks
.tsv              tsv        the same with tabs
.jsonl .ndjson    jsonl      one JSON object a line; blank lines are passed over
.parquet          parquet    a row of the table; batches of 1,000 rows are held at a time
`-`               lines      standard input: a line of text in the column `text`, blank lines included
================  =========  =====================================================================

Text is UTF-8, with or without a byte order mark. A written table appears under its name whole or not at all: rows go
to a hidden file beside it, and closing renames that file. A killed process can leave the hidden file behind
(`.NAME.XXXXXXXX.tmp`), never half a table.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import difflib
import errno
import io
import itertools
import json
import math
import os
import re
import secrets
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from obverse.errors import DataError, ObverseError, OutputError, nearest

if TYPE_CHECKING:
    import pyarrow

FORMATS = ("csv", "tsv", "jsonl", "parquet", "lines")
STANDARD_INPUT = "standard input"
STANDARD_OUTPUT = "standard output"

_ENDINGS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_COMPRESSED = {".gz": "gunzip -k", ".bz2": "bunzip2 -k", ".xz": "unxz -k", ".zst": "unzstd", ".zip": "unzip"}
_INSTEAD = {
    ".json": "Write one JSON object a line and name the file .jsonl: jq -c '.[]' FILE.json > FILE.jsonl",
    ".xlsx": "Save the sheet as CSV (UTF-8) from the spreadsheet.",
    ".xls": "Save the sheet as CSV (UTF-8) from the spreadsheet.",
    ".txt": "Plain lines can be piped in: name - as the input and put < FILE.txt behind the command.",
}
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_BATCH = 1_000  # rows of Parquet in memory at once, read or written
_SAMPLE = 2_000  # rows read to estimate how many a file has
_LOOK = 100  # rows looked at to tell text columns from numbers
_LONGEST_FIELD = 2**27  # characters; a field longer than that is an unclosed quotation mark
_PARQUET_BUFFER_BYTES = 2**20  # for each column
_PENDING_BYTES = 2**18  # text rows are written in pieces of about this size
_UNDECODED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of bytes that are not UTF-8
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_EXACT_FLOAT = 2**53  # integers up to here are float64 numbers


class RowCount(NamedTuple):
    """How many rows a table has: `exact`, or estimated from the size of its first rows."""

    rows: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One data row.

    Attributes:
        number: 1 for the first row of data.
        values: column -> value; text in CSV and TSV, JSON values in JSONL, Python values in Parquet. A JSONL row holds
            its own keys, which may be fewer or more than the table's columns.
        table: the table's name, for messages.
        line: the line of the file where the row begins, or None for Parquet.
    """

    number: int
    values: dict[str, object]
    table: str = field(compare=False)
    line: int | None = field(default=None, compare=False)

    @property
    def where(self) -> str:
        """For messages: "reviews.csv, row 12 (line 14)"."""
        return f"{self.table}, row {self.number}" + ("" if self.line is None else f" (line {self.line})")


@dataclass(frozen=True)
class Table(ABC):
    """Rows under named columns, streamed from a file.

    Attributes:
        path: the file; `-` for standard input.
        format: one of `FORMATS`.
        columns: names in the file's order; for JSONL the keys of the first row.
    """

    path: Path
    format: str
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """The table's name in messages."""
        return _name(self.path)

    @property
    def rereadable(self) -> bool:
        """Whether `rows` may be called more than once."""
        return True

    @abstractmethod
    def rows(self, start: int = 0) -> Iterator[Row]:
        """Stream the rows, leaving out the first `start` without building them.

        Raises:
            DataError: a row that cannot be read, with file, row and line.
        """

    @abstractmethod
    def count(self) -> RowCount | None:
        """The number of rows as far as it is cheaply known; None for standard input."""

    @abstractmethod
    def schema(self) -> pyarrow.Schema:
        """All columns with Arrow types that hold every row, for writing Parquet.

        CSV, TSV and plain lines are text. JSONL is read through once, and its columns are the union over all rows; a
        column of mixed types or of lists and objects becomes text that holds JSON.
        """


def table_format(path: str | Path) -> str:
    """The format that a file's ending stands for (`lines` for `-`).

    Raises:
        DataError: unknown ending, or a compressed file.
    """
    path = Path(path)
    if str(path) == "-":
        return "lines"
    ending = path.suffix.lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    known = f"Known endings: {', '.join(_ENDINGS)}."
    if ending in _COMPRESSED:
        raise DataError(
            f"compressed files ({ending}) are not supported",
            where=str(path),
            mend=f"Unpack it first: {_COMPRESSED[ending]} {path.name}. {known}",
        )
    what = f"the ending {path.suffix!r} is not known" if ending else "the file name has no ending"
    mend = f"{known} {_INSTEAD[ending].replace('FILE', path.stem)}" if ending in _INSTEAD else known
    raise DataError(what, where=str(path), mend=mend)


def open_table(path: str | Path, *, format: str | None = None) -> Table:
    """Open a table and check its beginning.

    Args:
        path: a file, or `-` for standard input, which holds plain lines unless `format` says otherwise.
        format: one of `FORMATS`; by default the file's ending decides.

    Raises:
        DataError: no such file, a folder, an empty file, a header without rows, an unknown ending, a faulty header or
            first row.
    """
    path = Path(path)
    format = table_format(path) if format is None else _known_format(format)
    if str(path) == "-":
        return _open_standard_input(format)
    _check_readable(path)
    if format == "parquet":
        return _Parquet(path, format, _parquet_columns(path))
    with contextlib.closing(_file_lines(path, format)) as lines:
        columns, rows = _parse(lines, format, str(path))
        if next(rows, None) is None:
            what = "there is a header but no rows" if format in _DELIMITERS else "there are no rows"
            raise DataError(what, where=str(path), mend="Put at least one row of data into the file.")
    return _Text(path, format, columns)


def check_columns(table: Table, names: Iterable[str], flag: str) -> None:
    """Refuse names that are no columns of the table.

    Args:
        table: where the columns should be.
        names: the columns asked for.
        flag: the option that named them, for the message.

    Raises:
        DataError: naming each missing column, with the nearest names there are.
    """
    missing = [name for name in names if name not in table.columns]
    if not missing:
        return
    place = "in the first row" if table.format == "jsonl" else "in the table"
    hints = [nearest(name, table.columns) for name in missing] if table.columns else ["There are no columns at all."]
    raise DataError(
        f"there is no column {' and no column '.join(map(repr, missing))} {place} ({flag})",
        where=table.name,
        mend=" ".join(dict.fromkeys(hints)) + _delimiter_hint(table),
    )


def default_text_column(table: Table) -> str:
    """The column to read when none is named: `text`, else the only column, else the only column that holds text.

    A column holds text if any of the first 100 rows has words there: a string that is not a number.

    Raises:
        DataError: several columns could be meant; lists them.
    """
    hint = _delimiter_hint(table)
    if "text" in table.columns:
        return "text"
    if len(table.columns) == 1 and not hint:
        return table.columns[0]
    candidates = [c for c in table.columns if c in _wordy_columns(table)] if table.rereadable else []
    if len(candidates) == 1 and not hint:
        return candidates[0]
    raise DataError(
        "it is not clear which column holds the text",
        where=table.name,
        mend=f"Name it: --text NAME. Columns: {', '.join(table.columns) or 'none'}.{hint}",
    )


def _wordy_columns(table: Table) -> set[str]:
    found: set[str] = set()
    for row in itertools.islice(table.rows(), _LOOK):
        found.update(name for name, value in row.values.items() if isinstance(value, str) and _has_words(value))
    return found


def _has_words(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return bool(text.strip())
    return False


def _delimiter_hint(table: Table) -> str:
    """Words for a CSV file whose header was evidently divided by something else."""
    if table.format in _DELIMITERS and len(table.columns) == 1:
        for mark, words in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
            if mark != _DELIMITERS[table.format] and mark in table.columns[0]:
                wanted = "commas" if table.format == "csv" else "tabs"
                return f" The header holds {words}: save the file with {wanted} between the fields."
    return ""


# Reading


def _name(path: Path) -> str:
    return STANDARD_INPUT if str(path) == "-" else str(path)


def _known_format(format: str) -> str:
    if format not in FORMATS:
        raise DataError(f"there is no table format {format!r}", mend=nearest(format, FORMATS))
    return format


def _check_readable(path: Path) -> None:
    where = str(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DataError("is a folder, not a file", where=where, mend="Name one of the files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is not a regular file", where=where, mend="Pipe it in and name - as the input.")
        if status.st_size == 0:
            raise DataError("the file is empty", where=where, mend="Check how it was written.")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise DataError("there is no such file", where=where, mend=_nearest_files(path)) from None
    except (OSError, ValueError) as error:
        raise _unreadable(error, where) from None


def _nearest_files(path: Path) -> str:
    folder = path.parent
    try:
        with os.scandir(folder) as entries:
            files = sorted(entry.name for entry in entries if not entry.is_dir())
    except OSError:
        return f"There is no folder {folder} either."
    close = difflib.get_close_matches(path.name, files, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(str(folder / name)) for name in close)}?"
    tables = [name for name in files if Path(name).suffix.lower() in _ENDINGS]
    if tables:
        more = f" and {len(tables) - 10} more" if len(tables) > 10 else ""
        return f"Tables in the folder {folder}: {', '.join(tables[:10])}{more}."
    return f"There are no tables in the folder {folder}."


def _unreadable(error: Exception, where: str) -> DataError:
    if isinstance(error, PermissionError):
        return DataError("may not be read: permission denied", where=where, mend=f"Try: chmod u+r {where}")
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(f"cannot be read: {words}", where=where, mend="Check the path and the disk it lies on.")


def _file_lines(path: Path, format: str) -> Generator[str, None, None]:
    where = str(path)
    try:
        with path.open("rb") as binary:
            yield from _decoded(binary, format, where)
    except OSError as error:
        raise _unreadable(error, where) from None


def _decoded(binary: BinaryIO, format: str, where: str) -> Iterator[str]:
    """Lines with their ends.

    Bytes that are not UTF-8 pass the decoder as marks, because its own error would know no line.
    """
    # CSV leaves every line end to its parser; elsewhere a lone carriage return is a character like any other.
    newline = "" if format in _DELIMITERS else "\n"
    text = io.TextIOWrapper(binary, "utf-8-sig", errors="surrogateescape", newline=newline)
    try:
        for number, line in enumerate(text, start=1):
            if not line.isascii() and (broken := _UNDECODED.search(line)):
                raise _encoding_error(line, broken, f"{where}, line {number}")
            yield line
    finally:
        text.detach()  # whoever opened the binary file closes it


def _encoding_error(line: str, broken: re.Match[str], where: str) -> DataError:
    if line.startswith(("\udcff\udcfe", "\udcfe\udcff")):
        return DataError("is written in UTF-16", where=where, mend="Save the file as UTF-8.")
    return DataError(
        f"the byte 0x{ord(broken.group()) - 0xDC00:02x} at column {broken.start() + 1} is not UTF-8",
        where=where,
        mend='Save the file as UTF-8 (in a spreadsheet: "CSV UTF-8"). '
        "Old Windows files: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW",
    )


def _parse(lines: Iterable[str], format: str, where: str, start: int = 0) -> tuple[tuple[str, ...], Iterator[Row]]:
    """Columns and the rows behind the first `start`."""
    if format in _DELIMITERS:
        return _parse_delimited(lines, _DELIMITERS[format], where, start)
    if format == "jsonl":
        return _parse_json_lines(lines, where, start)
    return ("text",), _parse_plain_lines(lines, where, start)


def _parse_plain_lines(lines: Iterable[str], where: str, start: int) -> Iterator[Row]:
    number = 0
    for number, line in enumerate(lines, start=1):
        if number > start:
            yield Row(number, {"text": line.rstrip("\n").removesuffix("\r")}, where, number)
    if not number:
        raise DataError("is empty", where=where, mend="Send one text a line.")


def _parse_delimited(
    lines: Iterable[str], delimiter: str, where: str, start: int
) -> tuple[tuple[str, ...], Iterator[Row]]:
    if csv.field_size_limit() < _LONGEST_FIELD:
        csv.field_size_limit(_LONGEST_FIELD)  # the module has one limit for all readers
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _next_record(reader, where)
    if header is None:
        raise DataError("the file is empty", where=where, mend="Check how it was written.")
    line, names = header
    _check_header(names, f"{where}, line {line}")
    return tuple(names), _delimited_rows(reader, names, where, start)


def _delimited_rows(reader: Any, names: list[str], where: str, start: int) -> Iterator[Row]:
    width = len(names)
    for number in itertools.count(1):
        record = _next_record(reader, where)
        if record is None:
            return
        if number <= start:
            continue
        line, fields = record
        row = Row(number, dict(zip(names, fields, strict=False)), where, line)
        if len(fields) != width:
            many = len(fields) > width
            raise DataError(
                f"the row has {len(fields)} fields and should have {width}, as the header has",
                where=row.where,
                mend='Put quotation marks around a field that holds the separator: "so, like this".'
                if many
                else "Add the missing fields (they may be empty), or close a quotation mark left open above.",
            )
        yield row


def _next_record(reader: Any, where: str) -> tuple[int, list[str]] | None:
    """The next record that is not a blank line, and the line where it begins."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return None
        except csv.Error as error:
            place = f"line {line}" if reader.line_num <= line else f"lines {line} to {reader.line_num}"
            raise DataError(
                f"cannot be divided into fields: {error}",
                where=f"{where}, {place}",
                mend='A field that begins with a quotation mark ends with one; write "" for a mark inside it.',
            ) from None
        if fields:
            return line, fields


def _check_header(names: Sequence[str], where: str) -> None:
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(
                f"column {position} has no name",
                where=where,
                mend="Give every column a name in the header (pandas: to_csv(..., index=False) leaves out the index).",
            )
    seen: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if name in seen:
            raise DataError(
                f"columns {seen[name]} and {position} are both named {name!r}", where=where, mend="Rename one of them."
            )
        seen[name] = position


def _parse_json_lines(lines: Iterable[str], where: str, start: int) -> tuple[tuple[str, ...], Iterator[Row]]:
    rows = _json_rows(lines, where, start)
    if start:  # the columns are known to whoever leaves out rows
        return (), rows
    first = next(rows, None)
    if first is None:
        return (), iter(())
    return tuple(first.values), itertools.chain([first], rows)


def _json_rows(lines: Iterable[str], where: str, start: int) -> Iterator[Row]:
    number = 0
    for line, text in enumerate(lines, start=1):
        if not text.strip(" \t\r\n"):
            continue
        number += 1
        if number > start:
            yield Row(number, _json_object(text, f"{where}, line {line}"), where, line)


def _json_object(text: str, where: str) -> dict[str, object]:
    mend = 'Each line must be one whole object, such as {"text": "..."}.'
    begins_list = text.lstrip().startswith("[")
    if begins_list:
        mend = f"{mend} A list of objects is divided by: jq -c '.[]' OLD > NEW"
    try:
        value = json.loads(text.rstrip("\r\n"))  # with its end, the parser may count columns on the next line
    except json.JSONDecodeError as error:
        if not begins_list and text.strip() == "{":
            mend = f"{mend} Objects over several lines are joined by: jq -c . OLD > NEW"
        what = f"is not a JSON object: {error.msg} at column {error.colno}"
        raise DataError(what, where=where, mend=mend) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not a JSON object that can be read: {error} (column 1)", where=where, mend=mend) from None
    if not isinstance(value, dict):
        kinds = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
        found = kinds.get(type(value), "null")
        column = len(text) - len(text.lstrip()) + 1
        raise DataError(f"is not a JSON object: found {found} at column {column}", where=where, mend=mend)
    if _HALF_PAIR.search(text):
        _check_pairs(value, where)
    return value


def _check_pairs(value: dict[str, object], where: str) -> None:
    """Refuse escapes that name half a character: no file and no tokenizer can hold one."""
    for key, item in value.items():
        try:
            json.dumps([key, item], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise DataError(
                f"the value of {key!r} holds half a character ({half})",
                where=where,
                mend=f"Write both halves of the pair, or \\ufffd in place of {half}.",
            ) from None


class _Metered:
    """Lines that remember how many bytes have gone by."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self.size = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.size += len(line) if line.isascii() else len(line.encode())
            yield line


@dataclass(frozen=True)
class _Text(Table):
    """A file of text: CSV, TSV, JSONL or plain lines."""

    def rows(self, start: int = 0) -> Iterator[Row]:
        with contextlib.closing(_file_lines(self.path, self.format)) as lines:
            yield from _parse(lines, self.format, self.name, start)[1]

    def count(self) -> RowCount:
        with contextlib.closing(_file_lines(self.path, self.format)) as lines:
            metered = _Metered(lines)
            stream = iter(metered)
            _, rows = _parse(stream, self.format, self.name)
            before = 0 if self.format == "jsonl" else metered.size  # the header
            read = sum(1 for _ in itertools.islice(rows, _SAMPLE))
            size = metered.size - before
            if next(stream, None) is None:
                return RowCount(read, True)
            return RowCount(max(read, round(read * (self.path.stat().st_size - before) / size)), False)

    def schema(self) -> pyarrow.Schema:
        import pyarrow as pa

        if self.format != "jsonl":
            return pa.schema([(name, pa.string()) for name in self.columns])
        kinds: dict[str, str | None] = {}
        for row in self.rows():
            for name, value in row.values.items():
                kinds[name] = _wider(kinds.get(name), _kind(value))
        types = {"bool": pa.bool_(), "int": pa.int64(), "long": pa.int64(), "float": pa.float64()}
        return pa.schema([(name, types.get(kind or "text", pa.string())) for name, kind in kinds.items()])


def _kind(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, float):
        return "float"
    if isinstance(value, int):
        return "int" if abs(value) <= _EXACT_FLOAT else "long" if -(2**63) <= value < 2**63 else "text"
    return "text"


def _wider(one: str | None, other: str | None) -> str | None:
    """The narrowest kind that holds both exactly."""
    if one is None or other is None or one == other:
        return one or other
    return {frozenset(("int", "float")): "float", frozenset(("int", "long")): "long"}.get(
        frozenset((one, other)), "text"
    )


@dataclass(frozen=True)
class _Once(Table):
    """Standard input: rows that go by once."""

    stream: list[Iterator[Row]] = field(compare=False, repr=False)  # emptied by the one reading

    @property
    def rereadable(self) -> bool:
        return False

    def rows(self, start: int = 0) -> Iterator[Row]:
        if not self.stream:
            raise DataError(
                "can be read only once", where=self.name, mend="Save it to a file and name the file as the input."
            )
        return itertools.islice(self.stream.pop(), start, None)

    def count(self) -> None:
        return None

    def schema(self) -> pyarrow.Schema:
        import pyarrow as pa

        if self.format == "jsonl":
            raise DataError(
                "the columns of JSON lines are known only after reading them all, and this can be read only once",
                where=self.name,
                mend="Save it to a file and name the file as the input, or write a .jsonl output.",
            )
        return pa.schema([(name, pa.string()) for name in self.columns])


def _open_standard_input(format: str) -> Table:
    if format == "parquet":
        raise DataError(
            "Parquet cannot be read from standard input", mend="Save it to a file and name the file as the input."
        )
    lines = _decoded(sys.stdin.buffer, format, STANDARD_INPUT)
    columns, rows = _parse(lines, format, STANDARD_INPUT)
    if format != "lines":  # plain lines are not waited for: somebody may be typing them
        first = next(rows, None)
        if first is None:
            raise DataError("there are no rows", where=STANDARD_INPUT, mend="Send at least one row of data.")
        rows = itertools.chain([first], rows)
    return _Once(Path("-"), format, columns, [rows])


@contextlib.contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without a buffer, Arrow holds the compressed bytes of a whole row group, and a file may be one row group.
        with pq.ParquetFile(str(path), buffer_size=_PARQUET_BUFFER_BYTES, pre_buffer=False) as file:
            yield file
    except (PermissionError, FileNotFoundError) as error:
        raise _unreadable(error, str(path)) from None
    except (pa.ArrowException, OSError) as error:
        words = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise DataError(
            f"is not a whole Parquet file: {words}", where=str(path), mend="Write or download it again."
        ) from None


def _parquet_columns(path: Path) -> tuple[str, ...]:
    with _parquet_file(path) as file:
        names = tuple(file.schema_arrow.names)
        rows = file.metadata.num_rows
    if not names or not rows:
        what = "there are no rows" if names else "there are no columns"
        raise DataError(what, where=str(path), mend="Put at least one row of data into the file.")
    _check_header(names, str(path))
    return names


@dataclass(frozen=True)
class _Parquet(Table):
    """A Parquet file."""

    def rows(self, start: int = 0) -> Iterator[Row]:
        with _parquet_file(self.path) as file:
            number, groups = 0, list(range(file.metadata.num_row_groups))
            while groups and number + (size := file.metadata.row_group(groups[0]).num_rows) <= start:
                number += size
                groups.pop(0)
            if not groups:
                return
            for batch in file.iter_batches(_BATCH, row_groups=groups):
                skipped = min(max(start - number, 0), batch.num_rows)
                number += skipped
                part = batch.slice(skipped)
                columns = [self._python_values(name, part.column(name), number) for name in self.columns]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield Row(number, dict(zip(self.columns, values, strict=True)), self.name)

    def _python_values(self, name: str, column: Any, before: int) -> list[Any]:
        where = f"{self.name}, rows {before + 1} to {before + len(column)}"
        try:
            return column.to_pylist()  # type: ignore[no-any-return]
        except UnicodeDecodeError as error:
            raise DataError(
                f"column {name!r} holds text that is not UTF-8: {error.reason}",
                where=where,
                mend="Write the file again from decoded text.",
            ) from None
        except (ValueError, OverflowError):
            # Nanoseconds and far dates have no Python value; Arrow's own scalar can still be written on unchanged.
            return [scalar if scalar.is_valid else None for scalar in column]

    def count(self) -> RowCount:
        with _parquet_file(self.path) as file:
            return RowCount(file.metadata.num_rows, True)

    def schema(self) -> pyarrow.Schema:
        with _parquet_file(self.path) as file:
            return file.schema_arrow.remove_metadata()


# Writing


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """Check that a table may be put at `path`, before any work is done for it.

    Raises:
        OutputError: something is there and `overwrite` is false; or nothing can ever be put there.
    """
    if str(path) == "-":
        return
    target = _target(path)
    if target.exists() and not overwrite:
        raise OutputError("exists already", where=str(path), mend="--overwrite replaces it.")


class Writer:
    """Writes rows; used as a context manager it closes at the end and aborts on an exception.

    Made by `open_writer` and `stdout_writer`.
    """

    def __init__(self, sheet: _Sheet, place: _Place) -> None:
        self._sheet = sheet
        self._place = place
        self._open = True

    def write(self, values: Mapping[str, object]) -> None:
        """Add a row. CSV, TSV and Parquet leave absent columns empty; JSONL writes the keys that are given.

        Raises:
            OutputError: the disk is full or refuses; a value or key that the format cannot hold. A failing disk aborts.
        """
        self._do(lambda: self._sheet.write(values))

    def flush(self) -> None:
        """Hand whole rows on to the file or the reader of standard output (Parquet: nothing before 1,000 rows)."""
        self._do(self._sheet.flush)

    def close(self) -> None:
        """Finish; only now does a file appear under its name.

        Raises:
            OutputError: what was written could not be completed; nothing appears.
        """
        if not self._open:
            return
        try:
            self._do(self._sheet.finish)
            self._do(self._place.commit)
        except BaseException:
            self.abort()
            raise
        self._open = False

    def abort(self) -> None:
        """Throw away what was written; a file that was there before stays."""
        if self._open:
            self._open = False
            self._sheet.drop()
            self._place.discard()

    def _do(self, act: Callable[[], None]) -> None:
        if not self._open:
            raise ValueError("the writer is closed")
        try:
            act()
        except BrokenPipeError:
            self.abort()
            raise
        except OSError as error:
            self.abort()
            raise _unwritable(error, self._place.name) from None

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def open_writer(
    path: str | Path, columns: Sequence[str], *, format: str | None = None, schema: pyarrow.Schema | None = None
) -> Writer:
    """Begin a table that appears at `path` when the writer is closed, replacing what is there.

    Args:
        path: the file; its folder must exist.
        columns: in this order. JSONL takes the order of each row instead, and keys of any name.
        format: one of `FORMATS` but `lines`; by default the ending decides.
        schema: Arrow types for Parquet, as `Table.schema` tells them for the columns read. Other columns are numbers
            (float64) if the first 1,000 rows hold only numbers there, and text otherwise.

    Raises:
        OutputError: no such folder, no permission, unknown ending.
    """
    target = _target(path)
    try:
        format = table_format(path) if format is None else _known_format(format)
    except DataError as error:
        raise OutputError(error.what, where=error.where, mend=error.mend) from None
    if format == "lines":
        mend = "Name a .csv, .tsv, .jsonl or .parquet file."
        raise OutputError("tables are not written as plain lines", where=str(path), mend=mend)
    _refuse_repeated(columns, str(path))
    place = _Beside(target, str(path))
    if format == "parquet":
        return Writer(_ParquetSheet(place, columns, schema), place)
    return Writer(_LineSheet(place, _line(format, columns, str(path))), place)


def stdout_writer(format: str, columns: Sequence[str]) -> Writer:
    """A writer of whole lines to standard output, which holds rows back until `flush` or `close`, or 256 KiB of them.

    `BrokenPipeError` passes through as it is: the caller knows how to leave quietly.

    Args:
        format: `csv`, `tsv` or `jsonl`.
        columns: as for `open_writer`.

    Raises:
        OutputError: a format that cannot be streamed.
    """
    if format not in (*_DELIMITERS, "jsonl"):
        raise OutputError(
            f"{format} cannot be written to {STANDARD_OUTPUT}", mend="Known there: csv, jsonl, tsv. Or name a file."
        )
    _refuse_repeated(columns, STANDARD_OUTPUT)
    place = _StandardOutput()
    return Writer(_LineSheet(place, _line(format, columns, place.name)), place)


def cell_text(value: object) -> str:
    """A value as the text of a CSV cell.

    Strings stay, None is empty, numbers are written so that they read back exactly, lists and objects become JSON,
    dates ISO 8601; bytes that are not UTF-8 become base64.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, (bool, list, tuple, dict)):
        return _json_text(value)
    if isinstance(value, (int, float)):
        return (float.__repr__ if isinstance(value, float) else int.__repr__)(value)  # numpy has words of its own
    return str(_plain(value))


def _plain(value: Any) -> object:
    """What a value that JSON does not know is written as."""
    if hasattr(value, "as_py"):  # an Arrow scalar without a Python value
        text: str = value.cast("string").as_py()
        # Arrow says "<value out of range: N>" of years past 32767; the bare number since 1970 is at least data.
        return str(value.value) if text.startswith("<") else text
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):  # a numpy scalar
        return value.item()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)


def _json_text(value: object) -> str:
    """JSON with characters as they are. JSON has no NaN and no infinity; they become null."""
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return _ENCODER.encode(_finite(value))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


class _Place(ABC):
    """Where bytes go, and how they are kept or thrown away."""

    name: str

    @abstractmethod
    def write(self, data: bytes) -> None: ...

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def discard(self) -> None: ...


class _Beside(_Place):
    """A hidden file in the target's folder, renamed onto the target by `commit`."""

    def __init__(self, target: Path, name: str) -> None:
        self.name = name
        self._target = target
        # A long name is cut, so that ours stays within the 255 bytes that file systems allow.
        self._hidden = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.tmp")
        try:
            # Not tempfile: it hides the file from everybody else, and the result would stay hidden.
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
            self.file: BinaryIO = os.fdopen(os.open(self._hidden, flags, 0o666), "wb")
        except OSError as error:
            raise _unwritable(error, name) from None

    def write(self, data: bytes) -> None:
        self.file.write(data)

    def commit(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self._hidden, self._target)
        with contextlib.suppress(OSError):  # a folder cannot be synced everywhere
            folder = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._hidden)


class _StandardOutput(_Place):
    name = STANDARD_OUTPUT

    def write(self, data: bytes) -> None:
        out = sys.stdout.buffer
        left = memoryview(data)
        while left:  # an unbuffered stream may take less than it is given
            left = left[out.write(left) or 0 :]
        out.flush()

    def commit(self) -> None:
        sys.stdout.flush()

    def discard(self) -> None:
        pass


class _Sheet(ABC):
    """Turns rows into the bytes of a format."""

    @abstractmethod
    def write(self, values: Mapping[str, object]) -> None: ...

    @abstractmethod
    def flush(self) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...

    @abstractmethod
    def drop(self) -> None: ...


class _Line(ABC):
    """How a row is one line of text; `head` stands above the first."""

    head: str

    @abstractmethod
    def text(self, values: Mapping[str, object]) -> str: ...


def _line(format: str, columns: Sequence[str], where: str) -> _Line:
    return _JsonLine() if format == "jsonl" else _DelimitedLine(columns, _DELIMITERS[format], where)


class _LineSheet(_Sheet):
    """Rows that are lines of text, handed on in pieces of whole lines."""

    def __init__(self, place: _Place, line: _Line) -> None:
        self._place = place
        self._line = line
        self._pending = [line.head.encode(errors="replace")]
        self._size = 0
        self._row = 0

    def write(self, values: Mapping[str, object]) -> None:
        self._row += 1
        text = self._line.text(values)
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise OutputError(
                f"a value holds half a character (\\u{ord(error.object[error.start]):04x})",
                where=f"{self._place.name}, row {self._row}",
                mend="Write \\ufffd in its place.",
            ) from None
        self._pending.append(data)
        self._size += len(data)
        if self._size >= _PENDING_BYTES:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._pending)
        self.drop()
        self._place.write(data)

    def finish(self) -> None:
        self.flush()

    def drop(self) -> None:
        self._pending, self._size = [], 0


class _DelimitedLine(_Line):
    """CSV or TSV. Quotation marks only where a field needs them; lines end in a plain newline."""

    def __init__(self, columns: Sequence[str], delimiter: str, where: str) -> None:
        self._columns = {name: "" for name in columns}
        self._where = where
        self._last = ""
        # csv quotes the characters of its own line end and no other, so it must believe in both of them: a lone
        # carriage return inside a cell would otherwise end the row for a reader.
        self._csv = csv.writer(self, delimiter=delimiter, lineterminator="\r\n")
        self.head = self._join(columns)

    def write(self, text: str) -> None:
        self._last = text

    def _join(self, cells: Iterable[str]) -> str:
        self._csv.writerow(cells)
        return self._last[:-2] + "\n"

    def text(self, values: Mapping[str, object]) -> str:
        if not values.keys() <= self._columns.keys():
            _refuse_unknown([name for name in values if name not in self._columns], self._where)
        return self._join(cell_text(values.get(name)) for name in self._columns)


class _JsonLine(_Line):
    head = ""

    def text(self, values: Mapping[str, object]) -> str:
        return _json_text(dict(values)) + "\n"


def _refuse_repeated(columns: Sequence[str], where: str) -> None:
    for position, name in enumerate(columns):
        if name in columns[:position]:
            raise OutputError(f"two columns would be named {name!r}", where=where, mend="Rename the one in the input.")


def _refuse_unknown(names: list[str], where: str) -> None:
    raise OutputError(
        f"a row has {', '.join(map(repr, names))}, which the header does not have",
        where=where,
        mend="Write a .jsonl file: its rows may differ in their keys.",
    )


class _ParquetSheet(_Sheet):
    """Row groups of 1,000 rows."""

    def __init__(self, place: _Beside, columns: Sequence[str], schema: Any) -> None:
        self._place = place
        self._types = {} if schema is None else {f.name: f for f in schema}
        self._cells: dict[str, list[object]] = {name: [] for name in columns}
        self._written = 0
        self._held = 0
        self._schema: Any = None
        self._writer: Any = None

    def write(self, values: Mapping[str, object]) -> None:
        if not values.keys() <= self._cells.keys():
            _refuse_unknown([name for name in values if name not in self._cells], self._place.name)
        for name, cells in self._cells.items():
            cells.append(values.get(name))
        self._held += 1
        if self._held == _BATCH:
            self._write_group()

    def flush(self) -> None:
        pass

    def finish(self) -> None:
        if self._held or self._writer is None:
            self._write_group()
        self._writer.close()

    def drop(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(Exception):  # it writes a footer, perhaps to a full disk
                self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            self._schema = pa.schema(
                [self._types.get(name) or pa.field(name, _new_type(cells)) for name, cells in self._cells.items()]
            )
            self._writer = pq.ParquetWriter(self._place.file, self._schema)
        arrays = [self._array(f, self._cells[f.name]) for f in self._schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._written += self._held
        self._held = 0
        for cells in self._cells.values():
            cells.clear()

    def _array(self, column: Any, cells: list[object]) -> Any:
        import pyarrow as pa

        if column.type in (pa.string(), pa.large_string()):
            cells = [c if c is None or isinstance(c, str) else cell_text(c) for c in cells]
        try:
            return pa.array(cells, type=column.type)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise OutputError(
                f"column {column.name!r} does not fit its type {column.type}: {str(error).splitlines()[0]}",
                where=f"{self._place.name}, rows {self._written + 1} to {self._written + self._held}",
                mend="Write a .jsonl file: it holds any value.",
            ) from None


def _new_type(cells: Iterable[object]) -> Any:
    import pyarrow as pa

    present = [c for c in cells if c is not None]
    numbers = present and all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in present)
    return pa.float64() if numbers else pa.string()


def _target(path: str | Path) -> Path:
    """The true place of the output: a link is followed, so that it stays a link.

    Raises:
        OutputError: nothing can be put there.
    """
    where = str(path)
    try:
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise OutputError("is a folder", where=where, mend="Name a file in it.")
        if target.exists() and not target.is_file():
            raise OutputError("is not a regular file", where=where, mend="Name a file, or - for standard output.")
        if not target.parent.is_dir():
            raise OutputError(f"there is no folder {target.parent}", where=where, mend=f"Try: mkdir -p {target.parent}")
    except (OSError, ValueError) as error:
        raise _unwritable(error, where) from None
    return target


def _unwritable(error: Exception, where: str) -> ObverseError:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return OutputError("the disk is full", where=where, mend="Free some space, or name an output on another disk.")
    if isinstance(error, PermissionError):
        mend = "Name an output in a folder that you may write to."
        return OutputError("may not be written: permission denied", where=where, mend=mend)
    if isinstance(error, FileNotFoundError):
        return OutputError("its folder is gone", where=where, mend="Make the folder again, or name another output.")
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OutputError(f"cannot be written: {words}", where=where, mend="Name another output.")
