"""Records as lines of files that only grow, and where each of them lies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from obverse.errors import DataError
from obverse.runs.disk import fsync, refusal, writing
from obverse.runs.records import VERSION, Cell, Key, Manifest, Record, StoredRecords

LINES = "records.jsonl"
CHECKSUM = 8
"""How many bytes of a line are its checksum."""

_SYNC_SECONDS = 2.0
_LINE_FILE = re.compile(r"records(?:-(\d+))?\.jsonl")


class Fault(NamedTuple):
    """A line that was passed over: damaged, so that its record is missing, or telling what another line tells else."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.what}"


class Place(NamedTuple):
    """Where a record lies: its row's position, the file's number, the line's offset in bytes, its checksum."""

    position: int
    file: int
    offset: int
    checksum: bytes


class Index:
    """Which records are there, and where. The first of two records of one key counts.

    Attributes:
        cells: cell -> row -> its place.
        faults: the lines that are damaged.
        ends: how many bytes of each file are whole lines.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.cells: dict[Cell, dict[str, Place]] = {}
        self.faults: list[Fault] = []
        self.ends: list[int] = []
        self._folder = folder
        self._manifest = manifest
        self._files: list[Path] = []

    @classmethod
    def read(cls, folder: Path, manifest: Manifest) -> Index:
        """Of all files of lines in the folder.

        Raises:
            DataError: a file belongs to another run, is of another version, or cannot be read.
        """
        index = cls(folder, manifest)
        for path in line_files(folder):
            number = index.file_number(path)
            try:
                with path.open("rb") as file:
                    index.ends[number] = index._read_file(file, number)
            except FileNotFoundError:  # finished by another process at this moment
                continue
            except OSError as error:
                raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
        return index

    def __len__(self) -> int:
        return sum(map(len, self.cells.values()))

    def has(self, key: Key) -> bool:
        """Whether the record is there."""
        return key.row in self.cells.get(key.cell, ())

    def checksum(self, key: Key) -> bytes | None:
        """The record's; empty where it is not known; None where there is no such record."""
        place = self.cells.get(key.cell, {}).get(key.row)
        return None if place is None else place.checksum

    def add(self, key: Key, place: Place) -> None:
        """Note where a record lies."""
        # A row stands in many cells: one text for all of them.
        self.cells.setdefault(key.cell, {})[sys.intern(key.row)] = place

    def file_number(self, path: Path) -> int:
        """The number by which `Place` and `ends` call the file; a new one if it is new."""
        if path not in self._files:
            self._files.append(path)
            self.ends.append(0)
        return self._files.index(path)

    def records(self) -> StoredRecords:
        """All of them as they stand now, in canonical order."""
        cells = [
            # By the row too: where two share a position the order must not be that in which they were written.
            [place for _, place in sorted(self.cells[cell].items(), key=lambda item: (item[1].position, item[0]))]
            for cell in self._sorted()
        ]
        return StoredRecords(len(self), lambda: self._read_records(cells))

    def _sorted(self) -> list[Cell]:
        tasks = {name: i for i, name in enumerate(self._manifest.tasks)}
        methods = {name: i for i, name in enumerate(self._manifest.methods)}
        return sorted(
            self.cells, key=lambda c: (tasks[c.task], c.split, c.template, c.wording, methods[c.method], c.setting)
        )

    def _read_records(self, cells: list[list[Place]]) -> Iterator[Record]:
        with contextlib.ExitStack() as stack:
            files: dict[int, BinaryIO] = {}
            for cell in cells:
                for place in cell:
                    path = self._files[place.file]
                    try:
                        if place.file not in files:
                            files[place.file] = stack.enter_context(path.open("rb"))
                        files[place.file].seek(place.offset)
                        raw = _parsed(files[place.file].readline())
                    except OSError as error:
                        raise DataError(
                            f"cannot be read: {error.strerror}", where=str(path), mend="Read the run again."
                        ) from None
                    if raw is None:
                        raise DataError("changed while it was read", where=str(path), mend="Read the run again.")
                    yield Record.from_json(raw, where=str(path))

    def _read_file(self, file: BinaryIO, number: int) -> int:
        name = self._files[number].name
        end = 0
        for line_number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            raw = _parsed(line)
            if raw is None:
                self.faults.append(Fault(name, line_number, "the line is damaged"))
            elif line_number == 1 and "obverse_run" in raw:
                self._check_header(raw, self._files[number])
            else:
                fault = self._take_in(raw, number, end, line[:CHECKSUM])
                if fault:
                    self.faults.append(Fault(name, line_number, fault))
            end += len(line)
        return end

    def _take_in(self, raw: dict[str, Any], number: int, offset: int, checksum: bytes) -> str | None:
        """What is wrong with the line, if anything."""
        try:
            key = Key(**{name: raw.get(name, "") for name in Key._fields})
            place = Place(int(raw["position"]), number, offset, checksum)
        except (KeyError, TypeError, ValueError):
            return "the line is no record"
        if not all(isinstance(part, str) for part in key):
            return "the line is no record"
        if key.task not in self._manifest.data or key.method not in self._manifest.methods:
            return f"the run has no task {key.task!r} with method {key.method!r}"
        there = self.checksum(key)
        if there is None:
            self.add(key, place)
        elif there != checksum:
            return f"another record of row {key.row!r} came before it"
        return None

    def _check_header(self, raw: Mapping[str, Any], path: Path) -> None:
        if raw["obverse_run"] != VERSION:
            raise DataError(
                f"is in version {raw['obverse_run']} of its format, not {VERSION}",
                where=str(path),
                mend="Use the version of Obverse that wrote it.",
            )
        if raw.get("fingerprint") != self._manifest.digest():
            raise DataError(
                "belongs to another run, or manifest.json was changed since",
                where=str(path),
                mend="Move it out of the folder, or put the manifest back as it was.",
            )


class LineFile:
    """The end of a file of lines, to which this process alone adds.

    Attributes:
        number: the file's, in the index.
        end: the length of its whole lines in bytes.
    """

    def __init__(self, path: Path, number: int, end: int, *, header: bytes) -> None:
        self.number = number
        self.end = end
        self._path = path
        self._synced = end
        self._synced_at = time.monotonic()
        with writing(path, "cannot be written"):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with writing(path, "cannot be written"):
                os.ftruncate(self._descriptor, end)  # a torn last line goes
            if not end:
                self.write(header)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, data: bytes) -> None:
        """Add whole lines; on failure those that went through whole stay, and nothing else.

        Raises:
            OutputError: the disk is full or refuses.
        """
        written = 0
        try:
            os.lseek(self._descriptor, self.end, os.SEEK_SET)
            while written < len(data):
                written += os.write(self._descriptor, memoryview(data)[written:])
            self.end += len(data)
            if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
                self._sync()
        except OSError as error:
            if written < len(data):
                self.end += data.rfind(b"\n", 0, written) + 1
            with contextlib.suppress(OSError):  # what is left torn would be cut off by the next run
                os.ftruncate(self._descriptor, self.end)
            raise refusal(error, self._path, "cannot be written", "The records before are safe") from None
        except BaseException:
            # Interrupted between two parts: the file must end in a whole line all the same.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.end)
            raise

    def sync(self) -> None:
        """Bring everything to the disk.

        Raises:
            OutputError: the last lines did not reach it.
        """
        with writing(self._path, "cannot be written"):
            if self._synced < self.end:
                self._sync()

    def close(self) -> None:
        """Bring everything to the disk and let the file go.

        Raises:
            OutputError: as `sync`.
        """
        try:
            self.sync()
        finally:
            os.close(self._descriptor)

    def _sync(self) -> None:
        fsync(self._descriptor)
        self._synced = self.end
        self._synced_at = time.monotonic()


def line_of(raw: Mapping[str, Any]) -> bytes:
    """Plain data as a line with its checksum."""
    text = json.dumps(raw).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def header_of(manifest: Manifest) -> bytes:
    """The first line of a file: which run it belongs to."""
    return line_of({"obverse_run": VERSION, "fingerprint": manifest.digest()})


def holds_records(path: Path) -> bool:
    """Whether a file of lines holds more than its header: a record, or a line that may have been one.

    A last line without its end was torn by a kill, and counts as not there.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            lines = [line for line in (file.readline(), file.readline()) if line.endswith(b"\n")]
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return len(lines) > 1 or any("obverse_run" not in (_parsed(line) or {}) for line in lines)


def line_files(folder: Path) -> list[Path]:
    """In order of their numbers, the one without number first."""
    numbered = [
        (-1 if match[1] is None else int(match[1]), path.name, path)
        for path in folder.iterdir()
        if (match := _LINE_FILE.fullmatch(path.name))
    ]
    return [path for *_, path in sorted(numbered)]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """What the line holds; None if it is damaged."""
    text = line[CHECKSUM + 1 : -1]
    try:
        if line[CHECKSUM : CHECKSUM + 1] != b" " or line[:CHECKSUM] != b"%08x" % zlib.crc32(text):
            return None
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None
