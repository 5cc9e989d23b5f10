"""Pieces of a report as PNG pictures, drawn with matplotlib for slides and papers, on white."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from obverse.errors import OutputError
from obverse.reports.blocks import (
    Block,
    DotChart,
    Piece,
    Reliability,
    ReliabilityChart,
    Strip,
    Table,
    TableCell,
    TableRow,
    Words,
)
from obverse.reports.figures import _INK, _Drawable, _save, _style
from obverse.reports.typography import one_line, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Everything is laid out on one sheet in inches from its upper left corner.
_WIDTH = 10.0  # at least
_MOST_WIDTH = 24.0
_MARGIN = 0.3
_MOST_INCHES = 60.0
"""A longer picture is one nobody looks at; what follows is left to the page."""
_LINE = 0.21
_ROW = 0.27
_NAME, _VALUE = 2.5, 1.6  # room for a strip's name and figures
_SIDE = 2.4  # of a reliability diagram
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#A8518A", "#B07C00", "#3A8FC4", "#5B636C")
_SOFT, _RULE, _FOOT = "#59616a", "#d9dce0", "#f3f4f2"
_MARKS = {"best": " ▲", "alike": " △"}
_SIGNS = {"dot": "●", "own": "◆", "worst": "▼", "mean": "┃", "hollow": "○"}
_LETTER = 8 * 0.58 / 72  # the width of a letter in a table, inches
_MOST_LETTERS, _MOST_HEAD = 44, 16
_CELL_LINE = 0.17


def draw_piece(piece: Piece, path: str | Path) -> None:
    """Draw a piece.

    Args:
        path: of a `.png` file.

    Raises:
        OutputError: it cannot be written.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise OutputError("a piece is drawn as PNG", where=str(path), mend="Let the name end in .png.")
    heights = [_height(block) for block in piece.blocks]
    kept, total = 0, 2 * _MARGIN + 0.4
    while kept < len(heights) and (not kept or total + heights[kept] <= _MOST_INCHES):
        total += heights[kept]
        kept += 1
    total += _LINE if kept < len(heights) else 0.0
    total = min(total, _MOST_INCHES)
    width = max([_WIDTH, *(_Grid(block).width + 2 * _MARGIN for block in piece.blocks if isinstance(block, Table))])
    with _style(list(_texts(piece))) as drawable:
        figure = Figure(figsize=(width, total))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, width)
        axes.set_ylim(total, 0)
        axes.axis("off")
        sheet = _Sheet(axes, drawable)
        sheet.write(_MARGIN, _MARGIN + 0.1, piece.title, size=14, weight="bold")
        top = _MARGIN + 0.4
        for block, height in zip(piece.blocks[:kept], heights, strict=False):
            sheet.draw(block, top)
            top += height
        if kept < len(heights):
            sheet.write(_MARGIN, top, "More stands in the report itself.", colour=_SOFT)
        _save(figure, path)


def _texts(piece: Piece) -> Iterator[str]:
    """Every text of a piece, so that fonts can be found for its letters."""
    yield piece.title
    yield f"▲△–┊…{''.join(_SIGNS.values())}"
    for block in piece.blocks:
        if isinstance(block, Words):
            yield from block.texts
        elif isinstance(block, Table):
            yield from (*block.heads, block.caption, *block.notes)
            yield from (text for row in block.rows for cell in row.cells for text in (cell.text, cell.small))
        elif isinstance(block, DotChart):
            yield from (block.caption, *block.notes, block.line, *(text for _, text in block.legend))
            yield from (text for g in block.groups for text in (g.name, *(s.name for s in g.strips)))
        else:
            yield from (block.caption, *block.notes, *(d.name for d in block.diagrams))


def _height(block: Block) -> float:
    if isinstance(block, Words):
        return _LINE * len(_lines(block)) + 0.15
    if isinstance(block, Table):
        rows = sum(height for _, height in _Grid(block).rows)
        return _caption_height(block.caption) + rows + _notes_height(block.notes) + 0.3
    if isinstance(block, DotChart):
        rows = sum(len(group.strips) + bool(group.name) for group in block.groups)
        return _caption_height(block.caption) + _LINE + _ROW * rows + 0.3 + _notes_height(block.notes) + 0.2
    across = _across()
    rows = -(-len(block.diagrams) // across)
    return _caption_height(block.caption) + rows * (_SIDE + 1.5) + _notes_height(block.notes)


def _across() -> int:
    return int((_WIDTH - 2 * _MARGIN) // (_SIDE + 0.7))


def _wrapped(text: str, size: float = 9) -> list[str]:
    letters = int((_WIDTH - 2 * _MARGIN) * 72 / (size * 0.56))
    return textwrap.wrap(one_line(text), letters) or [""]


def _lines(words: Words) -> list[str]:
    lead = "• " if words.kind == "list" else ""
    return [line for text in words.texts for line in _wrapped(lead + text)]


def _caption_height(caption: str) -> float:
    return _LINE * len(_wrapped(caption, 10)) + 0.06 if caption else 0.0


def _notes_height(notes: Sequence[str]) -> float:
    return sum(_LINE * len(_wrapped(note, 8)) for note in notes)


class _Sheet:
    def __init__(self, axes: Axes, drawable: _Drawable) -> None:
        self._axes = axes
        self._drawable = drawable

    def draw(self, block: Block, top: float) -> None:
        if isinstance(block, Words):
            colour = "#a84300" if block.kind == "warning" else _SOFT if block.kind == "note" else _INK
            self._paragraph(_lines(block), top, 9, colour)
        elif isinstance(block, Table):
            self._table(block, top)
        elif isinstance(block, DotChart):
            self._chart(block, top)
        else:
            self._diagrams(block, top)

    def write(
        self, x: float, y: float, text: str, *, size: float = 9, colour: str = _INK, weight: str = "normal",
        align: str = "left",
    ) -> None:  # fmt: skip
        self._axes.text(
            x, y, self._drawable(one_line(text)), fontsize=size, color=colour, fontweight=weight, ha=align, va="center"
        )

    def _paragraph(self, lines: Sequence[str], top: float, size: float, colour: str) -> float:
        for i, line in enumerate(lines):
            self.write(_MARGIN, top + _LINE * (i + 0.5), line, size=size, colour=colour)
        return top + _LINE * len(lines)

    def _caption(self, caption: str, top: float) -> float:
        if not caption:
            return top
        for i, line in enumerate(_wrapped(caption, 10)):
            self.write(_MARGIN, top + _LINE * (i + 0.5), line, size=9.5, weight="bold")
        return top + _caption_height(caption)

    def _notes(self, notes: Sequence[str], top: float) -> None:
        for note in notes:
            top = self._paragraph(_wrapped(note, 8), top, 8, _SOFT)

    def _line(self, x: Sequence[float], y: Sequence[float], colour: str, width: float, style: str = "-") -> None:
        self._axes.plot(x, y, linestyle=style, color=colour, linewidth=width, solid_capstyle="butt")

    # tables

    def _table(self, table: Table, top: float) -> None:
        top = self._caption(table.caption, top)
        grid = _Grid(table)
        left, right = grid.edges[0], grid.edges[-1]
        for number, (cells, height) in enumerate(grid.rows):
            row = table.rows[number - 1] if number else None
            if row is not None:
                if row.kind:
                    self._rectangle(left, top, right - left, height, _FOOT)
                self._line((left, right), (top, top), _RULE, 0.8)
            for i, lines in enumerate(cells):
                self._cell(table, row, i, lines, (grid.edges[i], grid.edges[i + 1], top, height))
            top += height
        self._notes(table.notes, top + 0.06)

    def _cell(
        self, table: Table, row: TableRow | None, i: int, lines: Sequence[str], box: tuple[float, float, float, float]
    ) -> None:
        left, right, top, height = box
        cell = TableCell(mark="head") if row is None else row.cells[i]
        if cell.shade is not None:
            self._rectangle(left, top, right - left, height, _shaded(cell.shade))
        number = i in table.numbers and (row is None or row.kind != "section")
        dim = row is None or cell.mark == "dim" or i in table.dim
        bold = row is None or row.kind == "section" or cell.mark == "best"
        for k, line in enumerate(lines):
            small = k >= len(lines) - len(cell.small.splitlines())
            self.write(
                right - 0.06 if number else left + 0.06, top + 0.06 + _CELL_LINE * (k + 0.5), line,
                size=7 if small else 8, weight="bold" if bold and not small else "normal",
                align="right" if number else "left", colour=_SOFT if dim or small else _INK,
            )  # fmt: skip

    def _rectangle(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        from matplotlib.patches import Rectangle

        self._axes.add_patch(Rectangle((left, top), width, height, facecolor=colour, linewidth=0))

    # charts

    def _chart(self, chart: DotChart, top: float) -> None:
        top = self._caption(chart.caption, top)
        signs = [f"{_SIGNS[kind]} {meaning}" for kind, meaning in chart.legend]
        legend = "    ".join([*signs, *([f"┊ {chart.line}"] if chart.line else [])])
        self.write(_MARGIN, top + _LINE / 2, legend, size=8, colour=_SOFT)
        top += _LINE
        left, right = _MARGIN + _NAME, _WIDTH - _MARGIN - _VALUE
        start = top

        def place(value: float) -> float:
            share = (value - chart.low) / (chart.high - chart.low)
            return left + min(1.0, max(0.0, share)) * (right - left)

        for group in chart.groups:
            if group.name:
                self.write(_MARGIN, top + _ROW / 2, shorten(group.name, 90), weight="bold", size=8.5)
                top += _ROW
            for strip in group.strips:
                y = top + _ROW / 2
                if group.line is not None:
                    x = place(group.line)
                    self._line((x, x), (top, top + _ROW), _SOFT, 0.9, ":")
                self._strip(
                    strip, [place(v) if v is not None else None for v in (strip.low, strip.mean, strip.high)], y
                )
                for dot in strip.dots:
                    self._dot(place(dot.value), y, dot.kind, _colour(strip))
                self.write(_MARGIN, y, shorten(strip.name, 38), size=8.5)
                self.write(_WIDTH - _MARGIN, y, strip.text, size=8.5, align="right")
                top += _ROW
        for value, text in chart.ticks:
            self._axes.plot((place(value),) * 2, (start, top), color="#eceef0", linewidth=0.8, zorder=0)
            self.write(place(value), top + 0.12, text, size=8, colour=_SOFT, align="center")
        self._notes(chart.notes, top + 0.3)

    def _strip(self, strip: Strip, places: Sequence[float | None], y: float) -> None:
        low, mean, high = places
        colour = _colour(strip)
        if low is not None and high is not None:
            self._axes.plot((low, high), (y, y), color=colour, linewidth=4, alpha=0.3, solid_capstyle="round")
        if mean is not None and strip.hollow:
            self._axes.plot([mean], [y], "o", markersize=6, markerfacecolor="white", markeredgecolor=colour)
        elif mean is not None:
            self._line((mean, mean), (y - 0.09, y + 0.09), colour, 2.2)

    def _dot(self, x: float, y: float, kind: str, colour: str) -> None:
        shape = {"own": "D", "worst": "v"}.get(kind, "o")
        self._axes.plot([x], [y], shape, markersize=6 if kind else 4.5, color=colour, alpha=1.0 if kind else 0.55,
                        markeredgewidth=0.5 if kind else 0, markeredgecolor="white")  # fmt: skip

    def _diagrams(self, chart: ReliabilityChart, top: float) -> None:
        top = self._caption(chart.caption, top) + 0.1
        across = _across()
        for i, diagram in enumerate(chart.diagrams):
            row, column = divmod(i, across)
            self._diagram(diagram, _MARGIN + 0.4 + column * (_SIDE + 0.7), top + row * (_SIDE + 1.5) + 0.25)
        rows = -(-len(chart.diagrams) // across)
        self._notes(chart.notes, top + rows * (_SIDE + 1.5) - 0.1)

    def _diagram(self, diagram: Reliability, left: float, top: float) -> None:
        colour = _COLOURS[diagram.colour % len(_COLOURS)]
        bottom = top + _SIDE
        self.write(left, top - 0.15, shorten(diagram.name, 40), weight="bold", size=8.5)
        for share in (0.0, 0.5, 1.0):
            x, y = left + share * _SIDE, bottom - share * _SIDE
            self._line((x, x), (top, bottom), "#e4e6e8", 0.8)
            self._line((left, left + _SIDE), (y, y), "#e4e6e8", 0.8)
            self.write(x, bottom + 0.12, f"{share:g}", size=8, colour=_SOFT, align="center")
            self.write(left - 0.06, y, f"{share:g}", size=8, colour=_SOFT, align="right")
        self._line((left, left + _SIDE), (bottom, top), _SOFT, 0.9, ":")
        most = max(each.rows for each in diagram.bins)
        x_places = [left + each.confidence * _SIDE for each in diagram.bins]
        y_places = [bottom - each.accuracy * _SIDE for each in diagram.bins]
        self._axes.plot(x_places, y_places, color=colour, linewidth=1.2, alpha=0.5)
        sizes = [15 + 130 * each.rows / most for each in diagram.bins]
        self._axes.scatter(x_places, y_places, s=sizes, color=colour, alpha=0.6, linewidths=0)
        for i, fact in enumerate(diagram.facts):
            self.write(left, bottom + 0.32 + 0.18 * i, fact, size=8)


class _Grid:
    """Where a table's cells stand: columns as wide as their texts ask for, rows as high as their most lines.

    Attributes:
        edges: of the columns, from the left margin.
        rows: heads first; the lines of each cell, and the row's height.
        width: of all columns.
    """

    def __init__(self, table: Table) -> None:
        columns = len(table.heads)
        usual = [row for row in table.rows if row.kind != "section"]
        letters = [max(map(len, textwrap.wrap(head, _MOST_HEAD) or [""])) for head in table.heads]
        for row in usual:
            for i, cell in enumerate(row.cells):
                longest = max(len(cell.text) + 2 * bool(cell.mark), *map(len, cell.small.splitlines() or [""]))
                letters[i] = max(letters[i], min(_MOST_LETTERS, longest))
        room = int((_MOST_WIDTH - 2 * _MARGIN) / _LETTER) - 3 * columns
        if sum(letters) > room:
            letters = [max(4, n * room // sum(letters)) for n in letters]
        self.edges = [_MARGIN]
        for n in letters:
            self.edges.append(self.edges[-1] + n * _LETTER + 0.2)
        self.width = self.edges[-1] - _MARGIN
        heads = [_cut(head, n) for head, n in zip(table.heads, letters, strict=True)]
        self.rows = [(heads, _height_of(heads))]
        for row in table.rows:
            if row.kind == "section":
                cells = [[shorten(one_line(row.cells[0].text), max(20, sum(letters)))]]
            else:
                cells = [_cell_lines(cell, n) for cell, n in zip(row.cells, letters, strict=False)]
            self.rows.append((cells, _height_of(cells)))


def _cell_lines(cell: TableCell, letters: int) -> list[str]:
    sign = _MARKS.get(cell.mark, "") if cell.small else ""
    lines = _cut(cell.text, letters - len(sign))
    small = [shorten(one_line(line), letters) for line in cell.small.splitlines()]
    return [*lines[:-1], lines[-1] + sign, *small]


def _cut(text: str, letters: int, most: int = 6) -> list[str]:
    """The text in lines, the last of which ends in an ellipsis where there would be more."""
    lines = textwrap.wrap(one_line(text), max(3, letters)) or [""]
    return lines if len(lines) <= most else [*lines[: most - 1], shorten(lines[most - 1] + " …" * letters, letters)]


def _height_of(cells: Sequence[Sequence[str]]) -> float:
    return 0.12 + _CELL_LINE * max(map(len, cells))


def _shaded(share: float) -> str:
    """White to the blue that the page uses for half of it."""
    blue, weight = (0x00, 0x72, 0xB2), 0.52 * share
    return "#" + "".join(f"{round(255 + (each - 255) * weight):02x}" for each in blue)


def _colour(strip: Strip) -> str:
    return _SOFT if strip.hollow else _COLOURS[strip.colour % len(_COLOURS)]
