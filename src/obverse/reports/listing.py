"""Tables of names: what `obverse list` prints."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_ELSEWHERE = 200


@dataclass(frozen=True, slots=True)
class Listing:
    """A table of plain values.

    Attributes:
        title: what is listed.
        columns: heading of each column; whole numbers stand on the right.
        rows: one value a column; None is left blank.
        notes: lines below the table.
        faults: lines below those, about what is left out because it cannot be read.
        hidden: columns for JSON alone.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | None, ...], ...]
    notes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def to_json(self) -> list[Mapping[str, Any]]:
        """One object a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def render(self, console: Console) -> None:
        """Print for people; wider than a terminal where the reader is a file or another program."""
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = _WIDTH_ELSEWHERE
        console.print(Text(f"{self.title} ({len(self.rows):,})", style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 1, 0, 0))
        shown = [i for i, column in enumerate(self.columns) if column not in self.hidden]
        for i in shown:
            number = any(isinstance(row[i], int) for row in self.rows)
            # The first column holds names to be copied: they stay whole where that leaves room for the rest.
            widest = max((len(str(row[i])) for row in self.rows), default=0)
            whole = number or (i == shown[0] and widest <= 0.6 * console.width)
            table.add_column(self.columns[i], justify="right" if number else "left", overflow="fold", no_wrap=whole)
        for row in self.rows:
            table.add_row(*(_cell(row[i]) for i in shown))
        if self.rows:
            console.print(table)
        for note in self.notes:
            console.print(Text(note, style="dim"))
        for fault in self.faults:
            console.print(Text(fault))


def _cell(value: str | int | None) -> Text:
    if value is None:
        return Text("")
    return Text(f"{value:,}" if isinstance(value, int) else value)


def splits_and_rows(splits: Mapping[str, int]) -> str:
    """`train 8,530, validation 1,066`."""
    return ", ".join(f"{name} {rows:,}" for name, rows in splits.items())


def together(missing: Mapping[str, str]) -> dict[str, list[str]]:
    """Reason -> the names that are missing for it."""
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(why, []).append(name)
    return by_reason


def names_shortened(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
