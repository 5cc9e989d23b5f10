"""What a person sees of an evaluation while it goes on: a progress bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.text import Text

from obverse.recipes.evaluate import EvaluationWatcher
from obverse.reports.typography import duration, one_line, rate, shorten

_LINE_EVERY_SECONDS = 60.0
_BAR = 10
_BESIDES = 70  # what stands beside the cell's name


class EvaluationBar(EvaluationWatcher):
    """Tells rows and cells on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._status: Status | None = None
        self._cells = self._rows = self._done = 0
        self._began = self._told = 0.0

    def note(self, text: str) -> None:
        self._quiet()
        self._console.print(text, markup=False, soft_wrap=True)

    def reading(self, task: str) -> None:
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(Text(f"reading {task}"))

    def begin(self, cells: int, rows: int) -> None:
        self._quiet()
        self._cells, self._rows = cells, rows
        self._began = self._told = time.monotonic()
        if not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.fields[cell]}", markup=False),
            BarColumn(_BAR),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} rows, {task.fields[cells]} cells", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=rows, cell="", cells=f"0/{cells:,}", rate="")

    def advance(self, cell: str, rows: int, *, cells: int) -> None:
        self._done += rows
        if self._progress is None:
            self._tell(cells)
            return
        self._progress.advance(self._task, rows)
        speed = self._progress.tasks[0].speed
        self._progress.update(
            self._task,
            cell=shorten(one_line(cell), max(10, self._console.width - _BESIDES)),
            cells=f"{cells:,}/{self._cells:,}",
            rate=f"{rate(speed)} rows/s" if speed else "",
        )

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _tell(self, cells: int) -> None:
        now = time.monotonic()
        if now - self._told < _LINE_EVERY_SECONDS:
            return
        self._told = now
        speed = self._done / (now - self._began)
        left = duration((self._rows - self._done) / speed)
        self.note(
            f"{self._done:,} of {self._rows:,} rows, {cells:,} of {self._cells:,} cells, {rate(speed)} rows/s, "
            f"about {left} left"
        )

    def _quiet(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
