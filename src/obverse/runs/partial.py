"""The progress of an unfinished prediction: every row's raw numbers, kept as soon as they are known.

The file lies beside the output as `OUT.partial` and holds JSON lines::

    {"obverse_partial": 1, "fingerprint": {"method": "flipped", ...}}
    {"row": 1, "scores": {"flipped": [-1.25, -3.5]}}
    {"row": 2, "scores": {"flipped": [-0.75, -2.0]}}

Row n stands on line n + 1 and no row is left out, so the number of whole lines says where to go on. Floats are written
so that they read back as the same floats: a resumed run equals an uninterrupted one bit for bit. Only whole lines
count; a line torn by a crash is cut off and its row computed again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from obverse.errors import OutputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

Fingerprint = Mapping[str, Any]
"""Setting -> JSON value: everything that the numbers depend on."""

VERSION = 1

_MARK = b'{"obverse_partial": '
_SYNC_SECONDS = 2.0
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_UNLOCKABLE = (errno.EAGAIN, errno.EACCES)  # somebody else holds the lock; other errors mean there are no locks


def partial_path(output: str | Path) -> Path:
    """Where the progress towards `output` is kept."""
    return Path(f"{output}.partial")


class PartialScores:
    """The progress file of one prediction, held by one process at a time.

    Made by `start` or `resume`; used as a context manager it closes at the end.

    Attributes:
        path: the file.
        done: how many rows, from the first on, are complete in it.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.done = 0
        self._descriptor = descriptor
        self._end = 0  # the length of the whole lines
        self._rows_begin = 0
        self._synced_rows = 0
        self._synced_at = time.monotonic()
        self._open = True

    @classmethod
    def start(cls, path: str | Path, fingerprint: Fingerprint, *, overwrite: bool = False) -> PartialScores:
        """Begin a progress file.

        Args:
            path: the file, see `partial_path`.
            fingerprint: the settings that a later `resume` must bring again.
            overwrite: throw away the progress that is there.

        Raises:
            OutputError: an unfinished run is there; the file cannot be written; another process writes it.
        """
        path = Path(path)
        if os.path.exists(path) and not overwrite:
            raise OutputError(
                f"an unfinished run lies in {path}", mend="--resume goes on with it, --overwrite begins anew."
            )
        partial = cls._take(path, os.O_CREAT | (0 if overwrite else os.O_EXCL))
        with partial._closed_on_error():
            if not partial._is_ours():
                raise _foreign(path)
            try:
                partial._write_header(fingerprint)
            except OutputError:
                with contextlib.suppress(OSError):
                    os.unlink(path)  # without a header it would only be in the way
                raise
        return partial

    @classmethod
    def resume(cls, path: str | Path, fingerprint: Fingerprint) -> PartialScores:
        """Go on with a progress file: read and check it whole, and cut off a torn last line.

        Raises:
            OutputError: there is none; it was made with other settings; a line in it is damaged; another process
                writes it.
        """
        path = Path(path)
        partial = cls._take(path, 0)
        with partial._closed_on_error():
            if not partial._is_ours():
                raise _foreign(path)
            partial._recover(fingerprint)
        return partial

    def append(self, records: Iterable[Mapping[str, object]]) -> None:
        """Add rows: `{"row": n, "scores": {term: [floats]}, ...}`, numbered on from `done` + 1.

        Raises:
            OutputError: the disk is full or refuses; the rows that were written whole stay and can be resumed from.
        """
        if not self._open:
            raise ValueError("the progress file is closed")
        lines = []
        for number, record in enumerate(records, start=self.done + 1):
            if record.get("row") != number or not isinstance(record.get("scores"), Mapping):
                raise ValueError(f"expected the scores of row {number}, not {dict(record)}")
            lines.append(json.dumps(record).encode() + b"\n")
        if not lines:
            return
        self._write(b"".join(lines))
        if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
            self._sync()

    def records(self) -> Iterator[dict[str, Any]]:
        """All complete rows from the first on, streamed from the file; also after `close`."""
        end = self._end
        position = self._rows_begin
        with self.path.open("rb") as file:
            file.seek(position)
            while position < end:
                line = file.readline()
                position += len(line)
                yield json.loads(line)

    def close(self) -> None:
        """Bring everything to the disk and let the file go; it stays for `resume`.

        Raises:
            OutputError: the last rows did not reach the disk.
        """
        if not self._open:
            return
        try:
            if self._synced_rows < self.done:
                self._sync()
        finally:
            self._release()

    def remove(self) -> None:
        """Delete the file, once the output is there."""
        with contextlib.suppress(FileNotFoundError):
            try:
                os.unlink(self.path)
            except PermissionError:  # where an open file cannot be deleted
                self._release()
                os.unlink(self.path)
        self._release()

    def __enter__(self) -> PartialScores:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            with contextlib.suppress(OutputError):  # the first error is the one to tell
                self.close()

    @classmethod
    def _take(cls, path: Path, flags: int) -> PartialScores:
        """Open and lock the file."""
        missing = OutputError(f"there is no unfinished run {path}", mend="Leave out --resume to begin one.")
        try:
            descriptor = os.open(path, os.O_RDWR | flags | getattr(os, "O_BINARY", 0), 0o666)
        except FileNotFoundError:
            if flags:
                raise OutputError(
                    f"there is no folder {path.parent}", where=str(path), mend=f"Try: mkdir -p {path.parent}"
                ) from None
            raise missing from None
        except FileExistsError:
            raise _busy(path) from None
        except (OSError, ValueError) as error:  # a path that no file system can hold is a ValueError
            words = getattr(error, "strerror", None) or error
            mend = "Name an output in a folder that you may write to."
            raise OutputError(f"cannot be opened: {words}", where=str(path), mend=mend) from None
        partial = cls(path, descriptor)
        with partial._closed_on_error():
            _lock(descriptor, path)
            # The run that held the lock until now may have finished and deleted the file.
            if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise _busy(path) if flags else missing
        return partial

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)  # and with it the lock

    def _is_ours(self) -> bool:
        """Whether the file begins like a progress file, even one torn within its first line, or empty."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        head = os.read(self._descriptor, len(_MARK))
        return _MARK.startswith(head)

    def _write_header(self, fingerprint: Fingerprint) -> None:
        os.ftruncate(self._descriptor, 0)
        self._end = self.done = self._synced_rows = 0
        header = {"obverse_partial": VERSION, "fingerprint": dict(fingerprint)}
        self._write(json.dumps(header).encode() + b"\n", rows=False)
        self._rows_begin = self._end
        self._sync()

    def _recover(self, fingerprint: Fingerprint) -> None:
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            header = file.readline()
            if not header.endswith(b"\n"):
                self._write_header(fingerprint)  # torn before its first row: nothing is lost
                return
            self._check_header(header, fingerprint)
            self._end = self._rows_begin = len(header)
            self._read_rows(file)
        os.ftruncate(self._descriptor, self._end)
        self._synced_rows = self.done
        self._sync()

    def _check_header(self, line: bytes, fingerprint: Fingerprint) -> None:
        where = f"{self.path}, line 1"
        mend = "--overwrite begins anew."
        try:
            header = json.loads(line)
            version, stored = header["obverse_partial"], header["fingerprint"]
            if not isinstance(stored, dict):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise OutputError("the line is damaged", where=where, mend=mend) from None
        if version != VERSION:
            raise OutputError(f"is in version {version!r}, not {VERSION}, of its format", where=where, mend=mend)
        wanted = json.loads(json.dumps(dict(fingerprint)))  # as it would have been read back: lists for tuples
        differences = [
            f"  {name}: {_value(stored, name)} there, {_value(wanted, name)} now"
            for name in dict.fromkeys([*stored, *wanted])
            if _value(stored, name) != _value(wanted, name)
        ]
        if not differences:
            return
        raise OutputError(
            "\n".join(["the unfinished run there was made with other settings", *differences]),
            where=str(self.path),
            mend=f"--resume goes on only with the same settings; {mend}",
        )

    def _read_rows(self, file: BinaryIO) -> None:
        """Count the whole rows. The last line alone may be damaged: it is left out."""
        faulty: int | None = None
        for number, line in enumerate(file, start=2):
            if faulty is not None:
                raise OutputError(
                    "the line is damaged",
                    where=f"{self.path}, line {faulty}",
                    mend=f"The {self.done} rows above it are whole: delete the file from line {faulty} on and "
                    "--resume, or --overwrite to begin anew.",
                )
            if not _is_row(line, self.done + 1):
                faulty = number
                continue
            self.done += 1
            self._end += len(line)

    def _write(self, data: bytes, *, rows: bool = True) -> None:
        """Write whole lines at the end; on failure keep those that went through whole."""
        written = 0
        try:
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            while written < len(data):
                written += os.write(self._descriptor, memoryview(data)[written:])
            self._keep(data, rows)
        except OSError as error:
            self._keep(data[: data.rfind(b"\n", 0, written) + 1], rows)
            with contextlib.suppress(OSError):  # what is left torn would be cut off by `resume`
                os.ftruncate(self._descriptor, self._end)
            raise self._refused(error, self.done) from None
        except BaseException:
            # Interrupted between two parts: the file must end in a whole line all the same.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise

    def _keep(self, lines: bytes, rows: bool) -> None:
        self._end += len(lines)
        if rows:
            self.done += lines.count(b"\n")

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, getattr(errno, "ENOTSUP", errno.EINVAL)):  # no such thing there
                raise self._refused(error, self._synced_rows) from None
        self._synced_rows = self.done
        self._synced_at = time.monotonic()

    def _refused(self, error: OSError, safe: int) -> OutputError:
        full = error.errno in _FULL
        what = "the disk is full" if full else f"cannot be written: {error.strerror or error}"
        rows = f"{safe} {'row is' if safe == 1 else 'rows are'} safe in it"
        mend = "Free some space" if full else "Mend that"
        return OutputError(
            f"{what}; {rows}", where=str(self.path), mend=f"{mend} and run again: --resume goes on from there."
        )


def _lock(descriptor: int, path: Path) -> None:
    if fcntl is None:
        return  # type: ignore[unreachable]
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNLOCKABLE:
            raise _busy(path) from None
        # some network file systems know no locks; going without is better than not going


def _busy(path: Path) -> OutputError:
    return OutputError(
        "another run is writing there", where=str(path), mend="Wait until it is done, or name another output."
    )


def _foreign(path: Path) -> OutputError:
    return OutputError(
        "is not a progress file of obverse predict", where=str(path), mend="Move it away, or name another output."
    )


def _is_row(line: bytes, number: int) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.get("row") == number and isinstance(record.get("scores"), dict)


def _value(settings: Mapping[str, Any], name: str) -> str:
    return json.dumps(settings[name], ensure_ascii=False, sort_keys=True) if name in settings else "nothing"
