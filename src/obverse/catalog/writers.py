"""Tables written row by row in constant memory; see `tables` for the formats.

A written table appears under its name whole or not at all: rows go to a hidden file beside it, and closing renames
that file. A killed process can leave the hidden file behind (`.NAME.XXXXXXXX.tmp`), never half a table.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import errno
import json
import math
import os
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from obverse.catalog.tables import DELIMITERS, PARQUET_BATCH, STANDARD_OUTPUT, known_format, table_format
from obverse.errors import DataError, ObverseError, OutputError

if TYPE_CHECKING:
    import pyarrow

_PENDING_BYTES = 2**18  # text rows are written in pieces of about this size


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
        format = table_format(path) if format is None else known_format(format)
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
    if format not in (*DELIMITERS, "jsonl"):
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
    return _JsonLine() if format == "jsonl" else _DelimitedLine(columns, DELIMITERS[format], where)


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
        self._columns = dict.fromkeys(columns, "")
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
        if self._held == PARQUET_BATCH:
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
