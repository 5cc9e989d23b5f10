"""Tables of any length, read row by row in constant memory; `writers` writes them.

================  =========  =====================================================================
ending            format     what a row is
================  =========  =====================================================================
.csv              csv        RFC 4180: commas, fields with line breaks in quotation marks
.tsv              tsv        the same with tabs
.jsonl .ndjson    jsonl      one JSON object a line; blank lines are passed over
.parquet          parquet    a row of the table; batches of 1,000 rows are held at a time
`-`               lines      standard input: a line of text in the column `text`, blank lines included
================  =========  =====================================================================

Text is UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import itertools
import json
import os
import re
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from obverse.errors import DataError, nearest

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
DELIMITERS = {"csv": ",", "tsv": "\t"}
PARQUET_BATCH = 1_000  # rows of Parquet in memory at once, read or written
_SAMPLE = 2_000  # rows read to estimate how many a file has
_LOOK = 100  # rows looked at to tell text columns from numbers
_LONGEST_FIELD = 2**27  # characters; a field longer than that is an unclosed quotation mark
_PARQUET_BUFFER_BYTES = 2**20  # for each column
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
    format = table_format(path) if format is None else known_format(format)
    if str(path) == "-":
        return _open_standard_input(format)
    _check_readable(path)
    if format == "parquet":
        return _Parquet(path, format, _parquet_columns(path))
    with contextlib.closing(_file_lines(path, format)) as lines:
        columns, rows = _parse(lines, format, str(path))
        if next(rows, None) is None:
            what = "there is a header but no rows" if format in DELIMITERS else "there are no rows"
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
    if table.format in DELIMITERS and len(table.columns) == 1:
        for mark, words in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
            if mark != DELIMITERS[table.format] and mark in table.columns[0]:
                wanted = "commas" if table.format == "csv" else "tabs"
                return f" The header holds {words}: save the file with {wanted} between the fields."
    return ""


# Reading


def _name(path: Path) -> str:
    return STANDARD_INPUT if str(path) == "-" else str(path)


def known_format(format: str) -> str:
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
    newline = "" if format in DELIMITERS else "\n"
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
    if format in DELIMITERS:
        return _parse_delimited(lines, DELIMITERS[format], where, start)
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
            for batch in file.iter_batches(PARQUET_BATCH, row_groups=groups):
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
