"""Blocks of a report as Markdown: tables as tables, charts as tables of what they show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from obverse.reports.blocks import Block, DotChart, Piece, Reliability, ReliabilityChart, Table, TableCell, Words
from obverse.reports.typography import one_line

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$-])")
_MARKS = {"best": " ▲", "alike": " △"}


def markdown(piece: Piece) -> str:
    """A piece as a file of its own."""
    parts = [f"# {_text(piece.title)}", *(part for block in piece.blocks for part in _block(block))]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> Iterable[str]:
    if isinstance(block, Words):
        listed = block.kind in ("list", "facts")
        lead = "> " if block.kind == "warning" else "- " if listed else ""
        yield ("\n" if listed else "\n\n").join(lead + _text(text) for text in block.texts)
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, DotChart):
        yield from _chart(block)
    else:
        yield from _diagrams(block)


def _table(table: Table) -> Iterable[str]:
    if table.caption:
        yield f"**{_text(table.caption)}**"
    rows = []
    for row in table.rows:
        if row.kind == "section":
            rows.append([f"**{_text(row.cells[0].text)}**", *[""] * (len(table.heads) - 1)])
        else:
            rows.append([_cell(cell) for cell in row.cells])
    yield _grid([_text(head) for head in table.heads], rows, table.numbers)
    yield from map(_text, table.notes)


def _cell(cell: TableCell) -> str:
    text = _text(cell.text)
    if cell.mark == "best":
        text = f"**{text}**"
    small = f" ({_text(_small(cell))})" if cell.small else ""
    return text + small + (_MARKS.get(cell.mark, "") if cell.small else "")


def _small(cell: TableCell) -> str:
    return ", ".join(cell.small.splitlines())


def _chart(chart: DotChart) -> Iterable[str]:
    yield f"**{_text(chart.caption)}**"
    rows = []
    for group in chart.groups:
        if group.name:
            line = "" if group.line is None or not chart.line else f"{_text(chart.line)}: {_value(group.line)}"
            rows.append([f"**{_text(group.name)}**", line, ""])
        for strip in group.strips:
            dots = ", ".join(_value(dot.value) + (f" ({dot.kind})" if dot.kind else "") for dot in strip.dots)
            rows.append([_text(strip.name) + (" (published)" if strip.hollow else ""), _text(strip.text), dots])
    with_dots = any(row[2] for row in rows)
    heads = ["", "value and 95 % interval", *(["each"] if with_dots else [])]
    yield _grid(heads, [row[: len(heads)] for row in rows], frozenset({1}))
    yield from map(_text, chart.notes)


def _diagrams(chart: ReliabilityChart) -> Iterable[str]:
    yield f"**{_text(chart.caption)}**"
    for diagram in chart.diagrams:
        yield from _diagram(diagram)
    yield from map(_text, chart.notes)


def _diagram(diagram: Reliability) -> Iterable[str]:
    yield f"{_text(diagram.name)}: {'; '.join(map(_text, diagram.facts))}"
    rows = [[f"{each.confidence:.3f}", f"{each.accuracy:.3f}", f"{each.rows:,}"] for each in diagram.bins]
    yield _grid(["confidence", "share right", "answers"], rows, frozenset({0, 1, 2}))


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: frozenset[int]) -> str:
    rule = ["---:" if i in numbers else "---" for i in range(len(heads))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, rule, *rows])


def _value(value: float) -> str:
    return f"{100 * value:.1f}"


def _text(text: str) -> str:
    """The text letter for letter: markup in it means nothing."""
    text = one_line(text)
    # A hyphen, plus or number sign means something at a line's start only; inside words it would be noise.
    return _SPECIAL.sub(lambda m: m[0] if m[0] in "-+()#!" and m.start() else f"\\{m[0]}", text)
