"""The command line as a process: how it starts, how it is stopped, and how much memory it takes."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ASK = ("--labels", "good, bad", "--instruction", "Sentiment?", "--model", "counting")

PACKAGE = Path(str(importlib.util.find_spec("obverse").origin)).resolve().parent

SLOW = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background leaves it ignored
from obverse.cli.main import main
from obverse.models.counting import CountingModel
from obverse.recipes import predict

class Slow(CountingModel):
    "Answers two pieces of 256 rows and then thinks for a long time."
    pieces = 0

    def log_likelihoods(self, queries, **more):
        if self.pieces == 2:
            Path("thinking").touch()
            time.sleep(600)
        self.pieces += 1
        return super().log_likelihoods(queries, **more)

predict.load_model = lambda *_, **__: Slow()
main()
"""


def obverse(*arguments, **more):
    """Run the command line as a process of its own."""
    more = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 600} | more
    return subprocess.run([sys.executable, "-m", "obverse", *map(str, arguments)], **more)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    # The package under test, also where it is found by a path relative to the folder that was just left.
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    return tmp_path


def many_rows(path: str, rows: int) -> None:
    words = ("good", "bad", "fine", "good good", "bad good")
    with open(path, "w") as file:
        file.write("text\n")
        file.writelines(f"{words[i % 5]} {i}\n" for i in range(rows))


# Starting


def test_version_is_quick_and_loads_nothing_heavy():
    script = (
        "import sys\nfrom obverse.cli.main import main\nsys.argv = ['obverse', '--version']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'numpy', 'matplotlib', 'pyarrow', 'transformers'} & set(sys.modules)))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    version, heavy = out.splitlines()
    assert version.startswith("obverse 0.")
    assert heavy == "[]"
    # Processor time, because a busy machine stretches every other; Python itself and the imports, 0.15 s as a rule.
    assert used.ru_utime + used.ru_stime < 0.5


def test_bad_input_ends_in_a_message_and_exit_code_2(folder):
    ran = obverse("predict", "none.csv", *ASK)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"obverse: none.csv: there is no such file\nThere are no tables in the folder {Path()}.\n"


def test_an_unknown_option_ends_in_exit_code_2(folder):
    ran = obverse("predict", "rows.csv", "--lables", "good, bad")
    assert ran.returncode == 2
    assert "--lables" in ran.stderr
    assert "Traceback" not in ran.stderr


# Pipes


def test_a_reader_that_leaves_is_no_error(folder):
    many_rows("rows.csv", 20_000)  # more than a pipe holds
    command = shlex.join([sys.executable, "-m", "obverse", "predict", "rows.csv", *ASK])
    ran = subprocess.run(
        ["bash", "-c", command + " | head -1; echo ${PIPESTATUS[0]}"], capture_output=True, text=True, timeout=600
    )
    assert ran.stdout == "text,label,confidence,p(good),p(bad)\n0\n"
    assert ran.stderr == ""


def test_lines_from_a_pipe_into_a_pipe(folder):
    ran = obverse("predict", "-", *ASK, stdin=None, input="good film\nbad day\n")
    assert ran.returncode == 0
    assert [json.loads(line)["label"] for line in ran.stdout.splitlines()] == ["good", "bad"]


def test_a_narrow_encoding_is_no_second_error(folder):
    Path("rows.csv").write_text("text,gold\nx,größe\n", encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ran = obverse("predict", "rows.csv", *ASK, "--text", "text", "--gold", "gold", env=environment)
    assert ran.returncode == 2
    assert "the gold label 'gr??e'" in ran.stderr


# Stopping and going on


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["Ctrl-C", "kill", "kill -9"])
@pytest.mark.parametrize("more", [(), ("--calibration", "batch")], ids=["plain", "batch"])
def test_a_stopped_process_goes_on_to_the_same_bytes(folder, number, more):
    many_rows("rows.csv", 700)
    command = ("predict", "rows.csv", *ASK, *more, "--output", "out.csv")
    process = subprocess.Popen([sys.executable, "-c", SLOW, *command], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not Path("thinking").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=300)[1]
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 2
        assert said == (
            "obverse: stopped; 512 scored texts safe in out.csv.partial\n"
            "The same command with --resume goes on from there.\n"
        )
    Path("thinking").unlink()
    assert sorted(p.name for p in folder.iterdir()) == ["out.csv.partial", "rows.csv"]
    assert Path("out.csv.partial").read_bytes().count(b"\n") == 1 + 512

    assert obverse(*command, "--resume").returncode == 0
    assert sorted(p.name for p in folder.iterdir()) == ["out.csv", "rows.csv"]
    whole = obverse("predict", "rows.csv", *ASK, *more, "--output", "whole.csv")
    assert whole.returncode == 0
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


# Disks that take no more


def small_files(size: int):
    """Let the process write no file above `size` bytes: a disk that fails, without being root."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_disk_that_fails_while_scoring(folder):
    many_rows("rows.csv", 600)
    command = ("predict", "rows.csv", *ASK, "--output", "out.csv")
    ran = obverse(*command, preexec_fn=small_files(30_000))
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith("obverse: out.csv.partial: cannot be written: File too large; ")
    assert ran.stderr.endswith("rows are safe in it\nMend that and run again: --resume goes on from there.\n")
    assert sorted(p.name for p in folder.iterdir()) == ["out.csv.partial", "rows.csv"]
    assert obverse(*command, "--resume").returncode == 0
    assert len(Path("out.csv").read_text().splitlines()) == 601
    assert sorted(p.name for p in folder.iterdir()) == ["out.csv", "rows.csv"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_disk_that_fails_while_writing_keeps_the_scores(folder, ending):
    text = os.urandom(2000).hex()  # nothing that a format could make smaller
    Path("rows.csv").write_text(
        "text\n" + f"good {text}\n" * 40 + "".join(f"bad {os.urandom(2000).hex()}\n" for _ in range(40))
    )
    command = ("predict", "rows.csv", *ASK, "--output", f"out.{ending}")
    ran = obverse(*command, preexec_fn=small_files(30_000))
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith(f"obverse: out.{ending}: cannot be written: File too large\n")
    assert ran.stderr.endswith(f"The scores are safe in out.{ending}.partial: --resume goes on from there.\n")
    assert sorted(p.name for p in folder.iterdir()) == [f"out.{ending}.partial", "rows.csv"]
    assert obverse(*command, "--resume").returncode == 0
    assert sorted(p.name for p in folder.iterdir()) == [f"out.{ending}", "rows.csv"]


def test_a_disk_that_is_full(folder):
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        many_rows("rows.csv", 2000)
        ran = obverse("predict", "rows.csv", *ASK, "--output", "disk/out.csv")
        assert ran.returncode == 2
        assert ran.stderr.startswith("obverse: disk/out.csv.partial: the disk is full; ")
        assert ran.stderr.endswith("rows are safe in it\nFree some space and run again: --resume goes on from there.\n")
        assert [p.name for p in disk.iterdir()] == ["out.csv.partial"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Memory


def peak_mebibytes(rows: int) -> float:
    """The most memory that labelling so many short rows takes."""
    many_rows("rows.csv", rows)
    command = [sys.executable, "-m", "obverse", "predict", "rows.csv", *ASK, "--output", "out.csv", "--overwrite"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)


def test_memory_does_not_grow_with_the_table(folder):
    few, many = peak_mebibytes(20_000), peak_mebibytes(100_000)
    # 80,000 rows more would be 15 MiB as bare text alone, and ten times that as Python objects.
    assert many < few + 8
