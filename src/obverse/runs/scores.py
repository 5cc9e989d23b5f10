"""Scores kept from one evaluation to the next, so that nothing is asked of a model twice.

One SQLite file in a folder. Any number of processes may read and write it at once, and a process killed at any moment
leaves it whole. It is a convenience: it may be deleted at any time, and what is damaged in it, by a power cut say,
counts as not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

from obverse.errors import OutputError

FILE = "scores.sqlite"
VERSION = 1


class ScoreKey(NamedTuple):
    """What the scores of one instance depend on.

    Attributes:
        model: digest of the model, its conventions and its number type.
        task: name.
        split: name.
        template: digest of the template and its wording.
        term: which direction is asked, under which length rule ("flipped", "direct, no input", ..).
        row: digest of the instance: its fields, its options, and the exemplars in front of it.
    """

    model: str
    task: str
    split: str
    template: str
    term: str
    row: str


class ScoreStore:
    """Scores by key, held in a folder; a context manager that closes at the end.

    Args:
        folder: made if need be.
        most_bytes: how large the store may grow; beyond it the scores written first are forgotten.
        note: is told what a person should know, a sentence at a time.

    Raises:
        OutputError: the folder cannot be written to; or the file is of another version, or no store of scores.
    """

    def __init__(
        self, folder: str | Path, *, most_bytes: int = 1 << 30, note: Callable[[str], None] | None = None
    ) -> None:
        if most_bytes < _LEAST_BYTES:
            raise OutputError(
                f"a store of {most_bytes:,} bytes holds nothing", mend=f"Allow {_LEAST_BYTES:,} bytes or more."
            )
        self.path = Path(folder) / FILE
        self._most_bytes = most_bytes
        self._note = note or (lambda text: None)
        with self._refused():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = self._connected()

    def get_many(self, keys: Iterable[ScoreKey]) -> dict[ScoreKey, tuple[float, ...]]:
        """The scores of those keys that are there, bit for bit as they were put.

        Raises:
            OutputError: the disk refuses.
        """
        wanted = {_digest(key): key for key in keys}
        return self._kept_whole(lambda: self._get(wanted))

    def put_many(self, scores: Mapping[ScoreKey, Iterable[float]]) -> None:
        """Keep scores: all of them or, on a failure, none. What was there under a key is replaced.

        Raises:
            OutputError: the disk is full or refuses; the folder may only be read.
        """
        rows = [(key, _packed(key, values)) for each, values in scores.items() for key in (_digest(each),)]
        if rows:
            self._kept_whole(lambda: self._put(rows))

    def __len__(self) -> int:
        def count() -> int:
            (number,) = self._connection.execute("SELECT COUNT(*) FROM scores").fetchone()
            return int(number)

        return self._kept_whole(count)

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def __enter__(self) -> ScoreStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, wanted: Mapping[bytes, ScoreKey]) -> dict[ScoreKey, tuple[float, ...]]:
        found = {}
        digests = list(wanted)
        for begin in range(0, len(digests), _ASKED_AT_ONCE):
            some = digests[begin : begin + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(some))
            for key, value in self._connection.execute(f"SELECT key, value FROM scores WHERE key IN ({marks})", some):
                if key in wanted and (scores := _unpacked(key, value)) is not None:
                    found[wanted[key]] = scores
        return found

    def _put(self, rows: list[tuple[bytes, bytes]]) -> None:
        with self._transaction() as cursor:
            cursor.executemany("INSERT OR REPLACE INTO scores (key, value) VALUES (?, ?)", rows)
            while self._used(cursor) > self._most_bytes:
                # The number of a row grows with each that is written: the lowest are the oldest.
                (count,) = cursor.execute("SELECT COUNT(*) FROM scores").fetchone()
                oldest = "SELECT number FROM scores ORDER BY number LIMIT ?"
                cursor.execute(f"DELETE FROM scores WHERE number IN ({oldest})", (count // 8 + 1,))

    def _used(self, cursor: sqlite3.Cursor) -> int:
        pages, free, size = (
            cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        # The right to write is taken at once: two that read first and then both want to write would wait for ever.
        cursor = self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield cursor
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _connected(self) -> sqlite3.Connection:
        with self._refused():
            try:
                return self._opened()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._set_aside(_identity(self.path))
                return self._opened()

    def _opened(self) -> sqlite3.Connection:
        self._opened_file = None
        connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
        connection.text_factory = bytes  # a damaged value may call itself a text
        try:
            # Nobody waits for the disk: readers are shut out for as long as a writer does, and what a power cut may
            # damage is only set aside. A log beside the file (WAL) would let them in, but not on a network's disk.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            if not tables:
                _make(connection)
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        self._opened_file = _identity(self.path)
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        (mark,), (version,) = (connection.execute(f"PRAGMA {n}").fetchone() for n in ("application_id", "user_version"))
        if mark != _MARK:
            raise OutputError(
                "is not a store of scores", where=str(self.path), mend="Move it away, or name another folder."
            )
        if version != VERSION:
            raise OutputError(
                f"is in version {version} of its format, not {VERSION}",
                where=str(self.path),
                mend="Name another folder, or delete the file: the scores are then worked out again.",
            )

    def _kept_whole(self, act: Callable[[], _T]) -> _T:
        """Do it; if the file proves damaged, do it again on a new one."""
        with self._refused():
            try:
                return act()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
            self._connection.close()
            self._set_aside(self._opened_file)
            self._connection = self._opened()
            return act()

    def _set_aside(self, damaged: tuple[int, int] | None) -> None:
        """Rename the damaged file, unless another process did so already."""
        if _identity(self.path) != damaged:
            return
        number = 1
        while (aside := self.path.with_name(f"{FILE}.damaged-{number}")).exists():
            number += 1
        os.replace(self.path, aside)
        with contextlib.suppress(FileNotFoundError):  # a journal of the old file would be played into the new one
            os.replace(f"{self.path}-journal", f"{aside}-journal")
        self._note(f"{self.path} is damaged: set aside as {aside.name}, and a new one begun")

    @contextlib.contextmanager
    def _refused(self) -> Iterator[None]:
        """Failures of the disk as one clear error."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            what = str(error) if isinstance(error, sqlite3.Error) else error.strerror or str(error)
            raise OutputError(
                f"the store of scores cannot be used: {what}",
                where=str(self.path),
                mend="Mend that, or do without the store.",
            ) from None


_T = TypeVar("_T")
_MARK = 0x0BE75E00  # tells our files from other programs' SQLite files
_LEAST_BYTES = 1 << 16
_ASKED_AT_ONCE = 500
_WAIT_SECONDS = 60.0
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again: another process may have made it while this one waited.
        if not connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            connection.execute(
                "CREATE TABLE scores (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL)"
            )
            connection.execute(f"PRAGMA application_id = {_MARK}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return str(getattr(error, "sqlite_errorname", "")).startswith(_DAMAGE)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _digest(key: ScoreKey) -> bytes:
    parts = [part.encode("utf-8", "surrogatepass") for part in key]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()[:16]


def _packed(key: bytes, scores: Iterable[float]) -> bytes:
    values = [float(score) for score in scores]
    body = struct.pack(f"<{len(values)}d", *values)
    return struct.pack("<I", zlib.crc32(body, zlib.crc32(key))) + body


def _unpacked(key: bytes, value: object) -> tuple[float, ...] | None:
    """The scores; None where the disk has altered them, which SQLite does not see."""
    if not isinstance(value, bytes) or len(value) % 8 != 4:
        return None
    body = value[4:]
    if struct.unpack("<I", value[:4])[0] != zlib.crc32(body, zlib.crc32(key)):
        return None
    return struct.unpack(f"<{len(body) // 8}d", body)
