"""What a run asks of the disk: files that are there whole or not at all, locks, and failures as one clear error."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from obverse.errors import ObverseError, OutputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

NAME_A_FOLDER = "Name a folder for the run that you may read and write."

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_UNLOCKABLE = (errno.EAGAIN, errno.EACCES)  # somebody else holds the lock; other errors mean there are no locks
_UNSYNCABLE = (errno.EINVAL, getattr(errno, "ENOTSUP", errno.EINVAL))  # no such thing there
_UNLINKABLE = (errno.EPERM, errno.ENOSYS, getattr(errno, "ENOTSUP", errno.EPERM))


@contextlib.contextmanager
def in_place(path: Path, *, only_if_none: bool = False) -> Iterator[Path]:
    """A file to fill, which then takes its place whole; with `only_if_none`, unless another process was first."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        yield fresh
        descriptor = os.open(fresh, os.O_RDWR)
        try:
            fsync(descriptor)
        finally:
            os.close(descriptor)
        if not (only_if_none and _linked(fresh, path)):
            os.replace(fresh, path)
        sync_folder(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


class Lock:
    """The right to write. The system lets go of it when the process ends, however it ends.

    A process that writes alone holds `.lock`; those that share the work hold it together, and each its own `.lock-K`.
    """

    def __init__(self, path: Path, descriptor: int, shared: bool) -> None:
        self._path = path
        self._descriptor = descriptor
        self._shared = shared

    @classmethod
    def take(cls, folder: Path, *, shared: bool = False, shard: int | None = None) -> Lock:
        """The right to write in the folder: alone, together with others (`shared`), or as process number `shard`.

        Raises:
            OutputError: another process holds it, or the folder cannot be written to.
        """
        path = folder / (".lock" if shard is None else f".lock-{shard}")
        with writing(folder, "the folder cannot be written to", mend=NAME_A_FOLDER):
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                try:
                    holder = _holder(path)
                    if not _locked(descriptor, holder, shared):
                        raise _busy(folder, holder)
                    # The process that held it until now may have taken the file away with it.
                    if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                        os.ftruncate(descriptor, 0)
                        if not shared:
                            text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
                            os.write(descriptor, text)
                        return cls(path, descriptor, shared)
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)

    def release(self) -> None:
        """Let it go."""
        if not self._shared:  # others may hold it with us
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(self._descriptor)


@contextlib.contextmanager
def writing(
    where: Path, what: str, safe: str = "What was there before is untouched", *, mend: str | None = None
) -> Iterator[None]:
    """Failures of the disk as one clear error.

    Args:
        safe: what is not lost, where there is a run to go on with.
        mend: what to do where there is none yet.
    """
    try:
        yield
    except ObverseError:
        raise
    except OSError as error:
        refused = refusal(error, where, what, safe)
        raise refused if mend is None else OutputError(refused.what, where=str(where), mend=mend) from None


def refusal(error: OSError, where: Path, what: str, safe: str) -> OutputError:
    """What to tell about an error of the system; `safe` says what is not lost."""
    if error.errno in _FULL:
        return OutputError("the disk is full", where=str(where), mend=f"{safe}: free some space and --resume.")
    reason = error.strerror or str(error)
    return OutputError(f"{what}: {reason}", where=str(where), mend=f"{safe}: mend that and --resume.")


def fsync(descriptor: int) -> None:
    """Bring the file to the disk, where the file system knows how."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise


def sync_folder(folder: Path) -> None:
    """Bring the names in the folder to the disk."""
    with contextlib.suppress(OSError):  # not every system knows this; the rename then waits for its own time
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _linked(fresh: Path, path: Path) -> bool:
    """Give the file its name unless there is one of that name; False where the file system knows no links."""
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno in _UNLINKABLE:
            return False
        raise
    return True


def _locked(descriptor: int, holder: tuple[int, str] | None, shared: bool) -> bool:
    """Take the system's lock; where there are none, the holder that the file names counts while it lives."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in _UNLOCKABLE:
                return False
    return holder is None or (holder[1] == socket.gethostname() and not _alive(holder[0]))


def _holder(path: Path) -> tuple[int, str] | None:
    try:
        raw = json.loads(path.read_bytes())
        return int(raw["pid"]), str(raw["host"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _busy(folder: Path, holder: tuple[int, str] | None) -> OutputError:
    holders = [holder, *(_holder(path) for path in sorted(folder.glob(".lock-*")))]
    here = socket.gethostname()
    living = [each for each in holders if each and (each[1] != here or _alive(each[0]))]
    who = ", ".join(dict.fromkeys(f"process {pid} on {host}" for pid, host in living))
    return OutputError(
        f"another run is writing there ({who})" if who else "another run is writing there",
        where=str(folder),
        mend="Wait until it is done, or name another folder. If it is long gone, delete the .lock files there.",
    )
