"""What a person sees of a run while it goes on: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from obverse.recipes.predict import Watcher


class ProgressBar(Watcher):
    """Draws on standard error, which is free where rows go to standard output."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def begin(self, done: int, total: int | None) -> None:
        if not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("labelling"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=total, completed=done, rate="")

    def advance(self, texts: int) -> None:
        if self._progress is not None:
            self._progress.advance(self._task, texts)
            speed = self._progress.tasks[0].speed
            self._progress.update(self._task, rate=f"{speed:,.1f} texts/s" if speed else "")

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
