"""The folder of a run: written by one process or by many, resumed after any kill, read by anybody.

::

    OUTPUT/
      manifest.json        what the run is
      records.jsonl        while it is unfinished: its records, in the order in which they were made
      records-K.jsonl      the same, of process K where several share the work
      records.parquet      when it is finished: all records in canonical order
      results.json         and the results
      .lock, .lock-K       who is writing

A line of records holds the CRC-32 of its JSON, a space, and the JSON; the first says which run the file belongs to::

    7d1c0a4e {"obverse_run": 1, "fingerprint": "9f86d081884c7d65..."}
    04ab3c77 {"task": "reviews", "split": "test", "row": "17", "position": 16, "method": "flipped", ...}

A last line without its end was torn by a kill and does not count; a damaged line elsewhere is named and the rest kept.
What a finished run holds is the same bit for bit, however many processes wrote it, in whatever order and batches, and
however often they were killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from obverse.errors import DataError, OutputError, nearest
from obverse.runs.disk import NAME_A_FOLDER, Lock, in_place, sync_folder, writing
from obverse.runs.lines import (
    CHECKSUM,
    LINES,
    Fault,
    Index,
    LineFile,
    Place,
    header_of,
    holds_records,
    line_files,
    line_of,
)
from obverse.runs.records import Key, Manifest, Record, StoredRecords, parse_json
from obverse.runs.table import COPY, TABLE, table_keys, table_records, write_table

MANIFEST, RESULTS = "manifest.json", "results.json"


@dataclass(frozen=True)
class Run:
    """A run as it lies on the disk.

    Attributes:
        records: all that can be read, in canonical order.
        results: None while the run is unfinished.
        faults: the lines that were passed over; a finished run has none.
    """

    folder: Path
    manifest: Manifest
    records: StoredRecords
    results: dict[str, Any] | None
    faults: tuple[Fault, ...]

    @property
    def is_finished(self) -> bool:
        """Whether it has its results, and nothing will be added to it."""
        return self.manifest.finished is not None


def read_run(folder: str | Path) -> Run:
    """Read a run, finished or not; nothing is written or locked, so it may be running.

    Raises:
        DataError: there is no run; another version of the format; a file of it is damaged as a whole.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    if manifest.finished is None:
        index = Index.read(folder, manifest)
        manifest = _read_manifest(folder)
        if manifest.finished is None:  # else it was finished just now, and the lines have gone into the table
            return Run(folder, manifest, index.records(), None, tuple(index.faults))
    return Run(folder, manifest, table_records(folder, manifest), _read_results(folder), ())


def refuse_begun(folder: Path) -> None:
    """Refuse a folder that holds a run with a record, which a new one would cost.

    Raises:
        OutputError: it does.
        DataError: its manifest cannot be read.
    """
    if not _holds_run(folder):
        return
    _refuse_headless(folder)
    recorded = (folder / TABLE).exists() or any(map(holds_records, line_files(folder)))
    if recorded or _read_manifest(folder).finished is not None:
        raise OutputError(
            "holds a run already", where=str(folder), mend="--resume goes on with it; or name another folder."
        )


def refuse_none(folder: Path) -> None:
    """Refuse a folder without a run to go on with.

    Raises:
        OutputError: there is none.
    """
    if not _holds_run(folder):
        mend = "Leave out --resume to begin one."
        raise OutputError("there is no run to go on with", where=str(folder), mend=mend)
    _refuse_headless(folder)


class RunWriter:
    """A run that is being written. Made by `create`, `resume` or `shard`; as a context manager it closes at the end.

    Attributes:
        folder: where it lies.
        manifest: as it stands on the disk.
        faults: the lines that were passed over; a damaged one's record is not done, and is to be made again.
    """

    def __init__(self, folder: Path, manifest: Manifest, locks: list[Lock], shard: tuple[int, int] | None) -> None:
        self.folder = folder
        self.manifest = manifest
        self.faults: tuple[Fault, ...] = ()
        self._locks = locks
        self._shard = shard
        self._index = Index(folder, manifest)
        self._file: LineFile | None = None

    @classmethod
    def create(cls, folder: str | Path, manifest: Manifest) -> RunWriter:
        """Begin a run; one that was begun there and never got a record makes room for it.

        Raises:
            OutputError: a run lies there, another process is writing there, or the folder cannot be written to.
            DataError: the manifest of a run without a record cannot be read.
        """
        folder = Path(folder)
        with _opening(folder) as locks:
            locks.append(Lock.take(folder))
            refuse_begun(folder)
            _clean(folder)
            with writing(folder, "the run cannot be written"):
                _remove_lines(folder)
            _write_manifest(folder, manifest)
            return cls(folder, manifest, locks, None)._opened()

    @classmethod
    def resume(cls, folder: str | Path, manifest: Manifest) -> RunWriter:
        """Go on with a run, whatever number of processes wrote it so far; a finished one too, which then is all done.

        Raises:
            OutputError: there is none; its manifest has another fingerprint; another process is writing there.
            DataError: another version of the format, or a manifest that cannot be read.
        """
        folder = Path(folder)
        refuse_none(folder)
        with _opening(folder) as locks:
            locks.append(Lock.take(folder))
            _clean(folder)
            return cls(folder, _agreed(folder, manifest), locks, None)._opened()

    @classmethod
    def shard(cls, folder: str | Path, manifest: Manifest, *, number: int, count: int) -> RunWriter:
        """One of `count` processes that write the run together, numbered from 0; the first to come begins it.

        Each sees as done what stood there when it came. `finish` is for a process that resumes the run when they are
        through.

        Raises:
            OutputError: as `resume`.
            DataError: as `resume`.
        """
        if not 0 <= number < count:
            raise OutputError(f"there is no process {number} of {count}", mend="Count the processes from 0.")
        folder = Path(folder)
        with _opening(folder) as locks:
            locks.append(Lock.take(folder, shared=True))
            locks.append(Lock.take(folder, shard=number))
            _write_manifest(folder, manifest, only_if_none=True)
            return cls(folder, _agreed(folder, manifest), locks, (number, count))._opened()

    def takes(self, position: int) -> bool:
        """Whether the work at this position, counted from 0, falls to this process."""
        return self._shard is None or position % self._shard[1] == self._shard[0]

    def done(self, key: Key) -> bool:
        """Whether the record is there."""
        return self._index.has(key)

    def keys(self) -> set[Key]:
        """The keys of all records that are there."""
        return {Key(*cell, row) for cell, rows in self._index.cells.items() for row in rows}

    def __len__(self) -> int:
        return len(self._index)

    def records(self) -> StoredRecords:
        """All records that are there, in canonical order."""
        if self.manifest.finished is not None:
            return table_records(self.folder, self.manifest)
        return self._index.records()

    def append(self, records: Iterable[Record]) -> int:
        """Add records; those that are there already are passed over. How many were new.

        They outlast a kill when this returns. Every two seconds, and at the end, they are brought to the disk, so that
        they outlast a power cut too.

        Raises:
            OutputError: the disk is full or refuses, and what went through whole is safe; or the run is finished.
            DataError: a record of a task or method that the manifest does not have; or another one of its key is there.
        """
        if not self._locks:
            raise ValueError("the run is closed")
        lines: dict[Key, tuple[int, bytes]] = {}
        for record in records:
            self._check(record)
            line = line_of(record.to_json())
            there = lines[record.key][1][:CHECKSUM] if record.key in lines else self._index.checksum(record.key)
            if there is None:
                lines[record.key] = (record.position, line)
            elif there and there != line[:CHECKSUM]:
                raise DataError(
                    "another record of the same key is there already",
                    where=", ".join(part for part in record.key if part),
                    mend="Tell the two apart by their row, wording or setting.",
                )
        if not lines:
            return 0
        if self.manifest.finished is not None:
            raise OutputError(
                f"the run is finished and takes no more records ({len(lines):,} came)",
                where=str(self.folder),
                mend="Name another folder.",
            )
        assert self._file is not None
        before = self._file.end
        try:
            self._file.write(b"".join(line for _, line in lines.values()))
        finally:
            self._take_in(lines, before)
        return len(lines)

    def read(self) -> Run:
        """The run as it stands, without its results: for those that are to work them out.

        Raises:
            DataError: the table of a finished run is missing or damaged.
        """
        return Run(self.folder, self.manifest, self.records(), None, self.faults)

    def finish(self, results: Mapping[str, Any], *, at: str | None = None) -> Run:
        """Put the records in canonical order into one table, beside the results; the run is then complete.

        Killed at any moment, it can be done again; done again on a finished run it replaces the results alone.

        Args:
            at: the time to write down, ISO 8601; now if None.

        Raises:
            OutputError: this is one of several processes; or the disk is full or refuses, and no record is lost.
        """
        if not self._locks:
            raise ValueError("the run is closed")
        if self._shard is not None:
            raise OutputError(
                "one of several processes cannot finish the run", where=str(self.folder), mend="Resume it alone first."
            )
        text = _results_text(results, self.folder / RESULTS)
        if self._file is not None:
            self._file.sync()
        with writing(self.folder, "the run cannot be finished", "All records are safe"):
            _write(self.folder / RESULTS, text)
            if self.manifest.finished is None:
                digest = write_table(self.folder, self.manifest, self._index.records())
                now = datetime.now(UTC).isoformat(timespec="seconds")
                manifest = self.manifest.ended(at or now, {TABLE: digest})
                _write_manifest(self.folder, manifest)  # from here on it is finished
                self.manifest = manifest
            if self._file is not None:
                self._file.close()
                self._file = None
            _remove_lines(self.folder)
        self.faults = ()
        return read_run(self.folder)

    def close(self) -> None:
        """Bring everything to the disk and let the run go.

        Raises:
            OutputError: the last records did not reach the disk.
        """
        try:
            if self._file is not None:
                self._file.close()
        finally:
            self._file = None
            while self._locks:
                self._locks.pop().release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            with contextlib.suppress(OutputError):  # the first error is the one to tell
                self.close()

    def _opened(self) -> RunWriter:
        if self.manifest.finished is not None:
            if self._shard is None:
                _remove_lines(self.folder)  # what a killed `finish` left over
            for key in table_keys(self.folder, self.manifest):
                self._index.add(key, Place(0, 0, 0, b""))
        else:
            self._index = Index.read(self.folder, self.manifest)
            self._file = self._take_file()
        self.faults = tuple(self._index.faults)
        return self

    def _take_file(self) -> LineFile:
        path = self.folder / (LINES if self._shard is None else f"records-{self._shard[0]}.jsonl")
        number = self._index.file_number(path)
        return LineFile(path, number, self._index.ends[number], header=header_of(self.manifest))

    def _take_in(self, lines: Mapping[Key, tuple[int, bytes]], offset: int) -> None:
        """The lines that were written whole into the index."""
        assert self._file is not None
        for key, (position, line) in lines.items():
            if offset + len(line) > self._file.end:
                break
            self._index.add(key, Place(position, self._file.number, offset, line[:CHECKSUM]))
            offset += len(line)

    def _check(self, record: Record) -> None:
        for name, value, known in (
            ("task", record.task, self.manifest.data),
            ("method", record.method, self.manifest.methods),
        ):
            if value not in known:
                raise DataError(f"the run has no {name} {value!r}", where=str(self.folder), mend=nearest(value, known))


_NAMED = 5  # differences told in one message
_SHARD_LOCK = re.compile(r"\.lock-\d+")
_LEFT_OVER = re.compile(r"\.(?:manifest\.json|results\.json|records\.parquet)\.[0-9a-f]+\.new")


def _holds_run(folder: Path) -> bool:
    try:
        return _is_folder(folder) and (
            any((folder / name).exists() for name in (MANIFEST, TABLE)) or bool(line_files(folder))
        )
    except OSError as error:
        raise OutputError(f"cannot be read: {error.strerror}", where=str(folder), mend=NAME_A_FOLDER) from None


def _is_folder(folder: Path) -> bool:
    """Whether it is there; a file of its name is refused."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise OutputError("is a file, not a folder", where=str(folder), mend=NAME_A_FOLDER)
    return os.path.isdir(folder)


def _refuse_headless(folder: Path) -> None:
    if not (folder / MANIFEST).exists():
        raise OutputError(
            f"holds records of a run, but no {MANIFEST} that says which",
            where=str(folder),
            mend="Put a copy of it there, or name another folder.",
        )


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not os.path.exists(path):
        raise DataError("there is no run", where=str(folder), mend=f"Name a folder with a {MANIFEST}.")
    return Manifest.from_json(parse_json(_bytes(path), where=str(path)), where=str(path))


def _read_results(folder: Path) -> dict[str, Any]:
    path = folder / RESULTS
    mend = "Put a copy in its place; or the same evaluation with --resume works them out again, from the records."
    try:
        results = parse_json(_bytes(path), where=str(path))
    except DataError as error:
        raise DataError(error.what, where=error.where, mend=mend) from None
    if not isinstance(results, dict):
        raise DataError("is not a table of results", where=str(path), mend=mend)
    return results


def _write_manifest(folder: Path, manifest: Manifest, *, only_if_none: bool = False) -> None:
    path = folder / MANIFEST
    if only_if_none and path.exists():
        return
    with writing(folder, "the run cannot be written"):
        _write(path, _json_text(manifest.to_json()), only_if_none=only_if_none)


def _agreed(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest that lies there, if its fingerprint is that of the one that was brought."""
    there = _read_manifest(folder)
    differences = there.differences(manifest)
    if differences:
        raise OutputError(
            "\n".join(["the run there was made with other settings", *_some(differences)]),
            where=str(folder),
            mend="--resume goes on only with the same settings; name another folder to begin anew.",
        )
    if there.finished is None and there.also_on(manifest.device) != there:
        there = there.also_on(manifest.device)
        _write_manifest(folder, there)
    return there


def _some(lines: list[str]) -> list[str]:
    """The first few lines, and how many more there are."""
    kept = [f"  {line}" for line in lines[:_NAMED]]
    return kept if len(lines) <= _NAMED else [*kept, f"  and {len(lines) - _NAMED} more"]


def _results_text(results: Mapping[str, Any], path: Path) -> str:
    try:
        return _json_text(dict(results))
    except (TypeError, ValueError, RecursionError) as error:
        mend = "Results are texts, finite numbers, lists and tables."
        raise OutputError(f"the results cannot be written as JSON: {error}", where=str(path), mend=mend) from None


def _json_text(value: object) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _write(path: Path, text: str, *, only_if_none: bool = False) -> None:
    with in_place(path, only_if_none=only_if_none) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _remove_lines(folder: Path) -> None:
    for path in line_files(folder):
        path.unlink(missing_ok=True)
    sync_folder(folder)


def _clean(folder: Path) -> None:
    """Remove what killed processes left half written, and their locks."""
    for path in folder.iterdir():
        if _LEFT_OVER.fullmatch(path.name) or _SHARD_LOCK.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), mend=COPY) from None


@contextlib.contextmanager
def _opening(folder: Path) -> Iterator[list[Lock]]:
    """Locks that are let go if the run cannot be opened."""
    _is_folder(folder)
    with writing(folder, "the folder cannot be made", mend=NAME_A_FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
    locks: list[Lock] = []
    try:
        yield locks
    except BaseException:
        while locks:
            locks.pop().release()
        raise
