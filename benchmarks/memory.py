"""Peak memory of `obverse predict` on tables of growing length: it should not grow with them.

    python benchmarks/memory.py [ROWS ...]

Labels 10,000, 100,000 and 1,000,000 short rows of CSV, or as many as are named, with the counting model, each in a
process of its own, and prints rows, peak resident memory and processor time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

WORDS = ("good", "bad", "fine", "good good", "bad good")


def measure(rows: int, folder: Path) -> tuple[float, float]:
    """Peak MiB and processor seconds of one run."""
    table = folder / "rows.csv"
    with table.open("w", encoding="utf-8") as file:
        file.write("text\n")
        file.writelines(f"{WORDS[i % len(WORDS)]} {i}\n" for i in range(rows))
    command = [sys.executable, "-m", "obverse", "predict", str(table), "--model", "counting", "--labels", "good, bad"]
    command += ["--instruction", "Is it good or bad?", "--output", str(folder / "labelled.csv"), "--overwrite"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    unit = 1024 if sys.platform == "linux" else 1024 * 1024  # of ru_maxrss
    return used.ru_maxrss / unit, used.ru_utime + used.ru_stime


def main() -> None:
    sizes = [int(size.replace(",", "")) for size in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    print(f"{'rows':>12}  {'peak MiB':>8}  {'seconds':>8}  {'µs a row':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            peak, seconds = measure(rows, Path(folder))
            print(f"{rows:12,}  {peak:8.1f}  {seconds:8.1f}  {1e6 * seconds / rows:8.1f}", flush=True)


if __name__ == "__main__":
    main()
