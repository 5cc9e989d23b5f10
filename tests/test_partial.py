"""The progress file: what is resumed is exactly what was stored, whatever interrupted the run."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obverse.errors import OutputError
from obverse.runs import partial
from obverse.runs.partial import PartialScores, partial_path

SETTINGS = {"model": "abc123", "method": "flipped", "labels": ["good", "bad"], "mtime": 1700000000.123456}
HEADER = b'{"obverse_partial": 1, "fingerprint": {"model": "abc123", "method": "flipped", "labels": ["good", "bad"], '
HEADER += b'"mtime": 1700000000.123456}}\n'

quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def record(number: int, *scores: float) -> dict[str, Any]:
    return {"row": number, "scores": {"flipped": list(scores) or [-0.5 * number, -1.25]}}


def stored(path: Path, rows: int) -> bytes:
    """Make an unfinished run of so many rows; its bytes."""
    with PartialScores.start(path, SETTINGS) as scores:
        scores.append(record(n) for n in range(1, rows + 1))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return partial_path(tmp_path / "out.csv")


def test_the_file(path: Path) -> None:
    assert path.name == "out.csv.partial"
    with PartialScores.start(path, SETTINGS) as scores:
        assert path.read_bytes() == HEADER
        scores.append([{"row": 1, "scores": {"flipped": [-0.1, 1e-300]}, "status": "ok"}])
        scores.append([])
        scores.append([record(2, -1 / 3), {"row": 3, "scores": {}, "reason": "zu lang \u2028 é"}])
        assert scores.done == 3
    assert path.read_bytes() == HEADER + (
        b'{"row": 1, "scores": {"flipped": [-0.1, 1e-300]}, "status": "ok"}\n'
        b'{"row": 2, "scores": {"flipped": [-0.3333333333333333]}}\n'
        b'{"row": 3, "scores": {}, "reason": "zu lang \\u2028 \\u00e9"}\n'
    )


def test_go_on(path: Path) -> None:
    stored(path, 3)
    with PartialScores.resume(
        path, {**SETTINGS, "labels": ("good", "bad")}
    ) as scores:  # a tuple is read back as a list
        assert scores.done == 3
        scores.append([record(4), record(5)])
        assert [r["row"] for r in scores.records()] == [1, 2, 3, 4, 5]
    assert list(scores.records()) == [record(n) for n in range(1, 6)]
    whole = path.read_bytes()
    path.unlink()
    assert whole == stored(path, 5)


@quick
@given(numbers=st.lists(st.lists(st.floats(), max_size=4), max_size=6), cut=st.integers(0, 6))
def test_floats_come_back_bit_for_bit(tmp_path: Path, numbers: list[list[float]], cut: int) -> None:
    path = tmp_path / "x.partial"
    rows = [{"row": n, "scores": {"a": row, "b": row[::-1]}} for n, row in enumerate(numbers, start=1)]
    with PartialScores.start(path, SETTINGS, overwrite=True) as scores:
        scores.append(rows[:cut])
    with PartialScores.resume(path, SETTINGS) as scores:
        scores.append(rows[scores.done :])
        again = list(scores.records())

    def bits(records: list[Any]) -> list[Any]:
        return [
            [("nan" if x != x else struct.pack("<d", x)) for term in "ab" for x in r["scores"][term]] for r in records
        ]

    assert bits(again) == bits(rows)
    scores.remove()
    assert not path.exists()


def test_rows_must_follow_each_other(path: Path) -> None:
    with PartialScores.start(path, SETTINGS) as scores:
        scores.append([record(1)])
        for wrong in (record(1), record(3), {"row": 2}):
            with pytest.raises(ValueError, match="expected the scores of row 2"):
                scores.append([wrong])
        assert scores.done == 1
    with pytest.raises(ValueError, match="closed"):
        scores.append([record(2)])
    scores.close()


class TestRefusals:
    def test_start_where_a_run_lies(self, path: Path) -> None:
        before = stored(path, 2)
        with pytest.raises(OutputError) as caught:
            PartialScores.start(path, SETTINGS)
        assert str(caught.value) == (
            f"an unfinished run lies in {path}\n--resume goes on with it, --overwrite begins anew."
        )
        assert path.read_bytes() == before
        with PartialScores.start(path, {"method": "direct"}, overwrite=True) as scores:
            assert scores.done == 0
            assert list(scores.records()) == []
        assert path.read_bytes() == b'{"obverse_partial": 1, "fingerprint": {"method": "direct"}}\n'

    def test_resume_where_none_lies(self, path: Path) -> None:
        with pytest.raises(OutputError, match=f"there is no unfinished run {path}\nLeave out --resume"):
            PartialScores.resume(path, SETTINGS)
        assert not path.exists()

    def test_other_settings(self, path: Path) -> None:
        before = stored(path, 2)
        now = {**SETTINGS, "method": "direct", "labels": ["good", "bäd"], "seed": 3}
        del now["model"]
        with pytest.raises(OutputError) as caught:
            PartialScores.resume(path, now)
        assert caught.value.what.split("\n") == [
            "the unfinished run there was made with other settings",
            '  model: "abc123" there, nothing now',
            '  method: "flipped" there, "direct" now',
            '  labels: ["good", "bad"] there, ["good", "bäd"] now',
            "  seed: nothing there, 3 now",
        ]
        assert caught.value.where == str(path)
        assert "--overwrite begins anew" in str(caught.value.mend)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("content", [b"text,label\na,b\n", b"\x00", b'{"row": 1}\n', b"\n"])
    def test_foreign_files_are_left_alone(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        for act in (PartialScores.resume, lambda p, f: PartialScores.start(p, f, overwrite=True)):
            with pytest.raises(OutputError, match="is not a progress file of obverse predict"):
                act(path, SETTINGS)
        assert path.read_bytes() == content

    def test_damaged_header(self, path: Path) -> None:
        path.write_bytes(HEADER[:40] + b"\n")
        with pytest.raises(OutputError, match=f"{path}, line 1: the line is damaged"):
            PartialScores.resume(path, SETTINGS)
        path.write_bytes(HEADER.replace(b'partial": 1', b'partial": 2'))
        with pytest.raises(OutputError, match="is in version 2, not 1, of its format"):
            PartialScores.resume(path, SETTINGS)

    @pytest.mark.parametrize(
        "damage",
        [b"\n", b"{}\n", b'{"row": 9, "scores": {}}\n', b'{"row": 2}\n', b"\x00\x00\xff\n", b'{"row": 2, "sco\n'],
    )
    def test_damage_in_the_middle(self, path: Path, damage: bytes) -> None:
        lines = stored(path, 4).splitlines(keepends=True)
        lines[2] = damage
        path.write_bytes(b"".join(lines))
        with pytest.raises(OutputError) as caught:
            PartialScores.resume(path, SETTINGS)
        assert (caught.value.what, caught.value.where) == ("the line is damaged", f"{path}, line 3")
        assert "The 1 rows above it are whole" in str(caught.value.mend)
        assert path.read_bytes() == b"".join(lines)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="there is no folder"):
            PartialScores.start(tmp_path / "no" / "x.partial", SETTINGS)

    def test_refused_open(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(OutputError, match="cannot be opened: Permission denied"):
            PartialScores.start(path, SETTINGS)


class TestTornLines:
    def test_every_byte_of_the_last_row(self, path: Path) -> None:
        whole = stored(path, 3)
        kept = whole[: whole.rindex(b"\n", 0, -1) + 1]
        assert len(whole) - len(kept) > 40
        for length in range(len(kept), len(whole) + 1):
            path.write_bytes(whole[:length])
            with PartialScores.resume(path, SETTINGS) as scores:
                assert scores.done == (3 if length == len(whole) else 2)
                assert path.read_bytes() == (whole if length == len(whole) else kept)
                scores.append([record(n) for n in range(scores.done + 1, 4)])
            assert path.read_bytes() == whole

    def test_every_byte_of_the_header(self, path: Path) -> None:
        for length in range(len(HEADER)):
            path.write_bytes(HEADER[:length])
            with PartialScores.resume(path, SETTINGS) as scores:
                scores.append([record(1)])
            assert path.read_bytes() == HEADER + b'{"row": 1, "scores": {"flipped": [-0.5, -1.25]}}\n'

    @pytest.mark.parametrize("tail", [b"\x00" * 5_000, b"\x00\x00\n", b'{"row": 3, "sc\n', b"\xff"])
    def test_garbage_at_the_end(self, path: Path, tail: bytes) -> None:
        whole = stored(path, 2)
        path.write_bytes(whole + tail)
        with PartialScores.resume(path, SETTINGS) as scores:
            assert scores.done == 2
        assert path.read_bytes() == whole


class FullDisk:
    """`os.write` on a disk that has `room` bytes left."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.write

    def __call__(self, descriptor: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.write(descriptor, data[: self.room])
        self.room -= taken
        return taken


class TestFailingDisk:
    def test_full_at_every_byte(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = stored(path, 4)
        lines = whole.splitlines(keepends=True)
        for room in range(len(lines[3]) + len(lines[4])):
            path.write_bytes(b"".join(lines[:3]))
            scores = PartialScores.resume(path, SETTINGS)
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", FullDisk(room))
                with pytest.raises(OutputError) as caught:
                    scores.append([record(3), record(4)])
            safe = 3 if room >= len(lines[3]) else 2
            assert caught.value.what == f"the disk is full; {safe} rows are safe in it"
            assert caught.value.where == str(path)
            assert caught.value.mend == "Free some space and run again: --resume goes on from there."
            assert scores.done == safe
            assert path.read_bytes() == b"".join(lines[: safe + 1])
            scores.append([record(n) for n in range(safe + 1, 5)])  # and where there is room again, it goes on
            scores.close()
            assert path.read_bytes() == whole

    def test_full_and_not_to_be_cut(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = stored(path, 2)
        scores = PartialScores.resume(path, SETTINGS)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", FullDisk(10))
            patch.setattr(os, "ftruncate", _failing(errno.EIO))
            with pytest.raises(OutputError, match="2 rows are safe"):
                scores.append([record(3)])
        scores.close()
        assert path.read_bytes() == whole + b'{"row": 3,'
        with PartialScores.resume(path, SETTINGS) as scores:
            assert scores.done == 2
        assert path.read_bytes() == whole

    def test_full_at_the_start(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "write", FullDisk(20))
        with pytest.raises(OutputError, match="the disk is full; 0 rows are safe"):
            PartialScores.start(path, SETTINGS)
        assert not path.exists()

    def test_interrupted_between_two_parts(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = stored(path, 2)
        scores = PartialScores.resume(path, SETTINGS)
        write = os.write

        def interrupted(descriptor: int, data: memoryview) -> int:
            write(descriptor, data[:9])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt), scores:
                scores.append([record(3)])
        assert path.read_bytes() == whole

    def test_a_sync_that_fails(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stored(path, 1)
        scores = PartialScores.resume(path, SETTINGS)
        scores.append([record(2)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _failing(errno.EIO))
            with pytest.raises(OutputError, match="Input/output error; 1 row is safe in it\nMend that and run again"):
                scores.close()
        with PartialScores.resume(path, SETTINGS) as scores:  # the lock was given back
            assert scores.done == 2

    def test_a_file_system_without_sync(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", _failing(errno.EINVAL))
        stored(path, 2)

    def test_syncs_are_seldom(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [100.0]
        synced: list[float] = []
        monkeypatch.setattr("obverse.runs.partial.time.monotonic", lambda: clock[0])
        monkeypatch.setattr(os, "fsync", lambda _: synced.append(clock[0]))
        scores = PartialScores.start(path, SETTINGS)
        for number in range(1, 11):
            clock[0] += 0.5
            scores.append([record(number)])
        assert synced == [100.0, 102.0, 104.0]
        scores.close()
        assert synced == [100.0, 102.0, 104.0, 105.0]


def _failing(number: int) -> Any:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


HOLD = """
import sys
from obverse.runs.partial import PartialScores
with PartialScores.start(sys.argv[1], {}) as scores:
    scores.append([{"row": 1, "scores": {}}])
    print("held", flush=True)
    sys.stdin.read()
"""

ENDLESS = """
import sys
from obverse.runs.partial import PartialScores
scores = PartialScores.start(sys.argv[1], {})
number = 0
while True:
    scores.append([{"row": number + i, "scores": {"a": [-1 / (number + i)] * 50}} for i in range(1, 8)])
    number += 7
    if number == 70: print("going", flush=True)
"""


def _process(code: str, path: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )


class TestProcesses:
    def test_one_at_a_time(self, path: Path) -> None:
        with _process(HOLD, path) as process:
            assert process.stdin and process.stdout
            assert process.stdout.readline() == b"held\n"
            for act in (PartialScores.resume, lambda p, f: PartialScores.start(p, f, overwrite=True)):
                with pytest.raises(OutputError, match=f"{path}: another run is writing there\nWait until it is done"):
                    act(path, {})
            process.stdin.close()
            assert process.wait(timeout=20) == 0
        with PartialScores.resume(path, {}) as scores:
            assert scores.done == 1

    def test_without_locks(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(partial, "fcntl", None)
        whole = stored(path, 2)
        with PartialScores.resume(path, SETTINGS):
            pass
        assert path.read_bytes() == whole

    def test_a_file_system_without_locks(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("obverse.runs.partial.fcntl.flock", _failing(errno.ENOLCK))
        stored(path, 2)

    def test_killed_while_appending(self, path: Path) -> None:
        for _ in range(3):
            with _process(ENDLESS, path) as process:
                assert process.stdout and process.stdout.readline() == b"going\n"
                process.send_signal(signal.SIGKILL)
            with PartialScores.resume(path, {}) as scores:
                assert scores.done >= 70
                rows = 0
                for rows, row in enumerate(scores.records(), start=1):
                    assert row == {"row": rows, "scores": {"a": [-1 / rows] * 50}}
                assert rows == scores.done
            scores.remove()

    def test_finished_by_another_while_waiting(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stored(path, 1)
        monkeypatch.setattr(partial, "_lock", lambda descriptor, path: os.unlink(path))
        with pytest.raises(OutputError, match="there is no unfinished run"):
            PartialScores.resume(path, SETTINGS)


def test_memory_is_flat(path: Path) -> None:
    """50,000 rows (3 MB of file) are appended, checked and read back within the memory of a chunk."""

    def chunks(rows: int) -> Iterator[list[dict[str, Any]]]:
        for begin in range(1, rows + 1, 500):
            yield [record(n) for n in range(begin, min(begin + 500, rows + 1))]

    peaks = []
    for rows in (2_000, 50_000):
        gc.collect()
        tracemalloc.start()
        try:
            with PartialScores.start(path, SETTINGS, overwrite=True) as scores:
                for chunk in chunks(rows):
                    scores.append(chunk)
            with PartialScores.resume(path, SETTINGS) as scores:
                assert scores.done == rows
                assert sum(1 for _ in scores.records()) == rows
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert path.stat().st_size > 2_500_000
    assert peaks[1] < peaks[0] + 300_000, peaks


def test_the_header_is_plain_json(path: Path) -> None:
    first = stored(path, 1).splitlines()[0]
    assert json.loads(first) == {"obverse_partial": 1, "fingerprint": SETTINGS}
