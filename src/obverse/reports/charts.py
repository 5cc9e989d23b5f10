"""Blocks of a report as HTML: words, tables, and charts as inline SVG.

Marks are placed by per cent of the width and sized in pixels, so that a chart narrows to a telephone without its words
getting small; all words are text. Every text goes through markupsafe's escaping.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from obverse.reports.blocks import (
    Block,
    DotChart,
    Piece,
    Reliability,
    ReliabilityChart,
    Strip,
    StripGroup,
    Table,
    TableCell,
    TableRow,
    Words,
)
from obverse.reports.typography import one_line

COLOURS = 7
"""How many colours there are; the style sheet calls them c0, c1 .. and those of others c-others."""
SHADES = 10

_WIDE = 9
"""A table of more columns is set smaller on paper."""
_MARK_WORDS = {"best": ("▲", "highest of the row"), "alike": ("△", "not distinguishable from the highest")}
_BREAKS = re.compile(r"(?<=[/_])")


def section(piece: Piece) -> Markup:
    """A piece as a section of the page."""
    body = Markup("\n").join(_block(block) for block in piece.blocks)
    return Markup('<section id="{}" aria-labelledby="h-{}">\n<h2 id="h-{}">{}</h2>\n{}\n</section>').format(
        piece.name, piece.name, piece.name, piece.title, body
    )


def _block(block: Block) -> Markup:
    if isinstance(block, Words):
        return _words(block)
    if isinstance(block, Table):
        return _table(block)
    return _dot_chart(block) if isinstance(block, DotChart) else _reliability_chart(block)


def _words(words: Words) -> Markup:
    if words.kind == "list":
        items = Markup("\n").join(Markup("<li>{}</li>").format(_breakable(text)) for text in words.texts)
        return Markup('<ul class="notes">\n{}\n</ul>').format(items)
    if words.kind == "facts":
        pairs = [text.partition(": ") for text in words.texts]
        items = Markup("\n").join(
            Markup("<dt>{}</dt><dd>{}</dd>").format(name, _breakable(what)) for name, _, what in pairs
        )
        return Markup('<dl class="facts">\n{}\n</dl>').format(items)
    paragraphs = Markup("\n").join(Markup("<p>{}</p>").format(_breakable(text)) for text in words.texts)
    if words.kind == "warning":
        return Markup('<div class="warning" role="note">\n{}\n</div>').format(paragraphs)
    return Markup('<div class="{}">\n{}\n</div>').format("soft" if words.kind == "note" else "words", paragraphs)


# --- tables -------------------------------------------------------------------------------------------------------


def _table(table: Table) -> Markup:
    heads = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(_classes(_column_classes(table, i)), _breakable(head))
        for i, head in enumerate(table.heads)
    )
    rows = Markup("\n").join(_row(table, row) for row in table.rows)
    shaded = any(cell.shade is not None for row in table.rows for cell in row.cells)
    wide = len(table.heads) > _WIDE
    known = {"sortable": table.sortable, "wraps": table.wraps, "shaded": shaded, "wide": wide}
    kinds = [name for name, holds in known.items() if holds]
    caption = Markup("<figcaption>{}</figcaption>").format(_breakable(table.caption)) if table.caption else Markup()
    return Markup(
        '<figure class="{}">{}<div class="box" tabindex="0" role="group" aria-label="{}">'
        "<table{}>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody></table></div>{}</figure>"
    ).format(
        "matrix" if shaded else "table",
        caption,
        table.caption or "table",
        _classes(kinds),
        heads,
        rows,
        _notes(table.notes),
    )


def _row(table: Table, row: TableRow) -> Markup:
    if row.kind == "section":
        return Markup('<tr class="section"><th scope="rowgroup" colspan="{}">{}</th></tr>').format(
            len(table.heads), _breakable(row.cells[0].text)
        )
    cells = [_cell(table, i, cell) for i, cell in enumerate(row.cells)]
    return Markup("<tr{}>{}</tr>").format(_classes([row.kind] if row.kind else []), Markup("").join(cells))


def _cell(table: Table, column: int, cell: TableCell) -> Markup:
    names = _column_classes(table, column)
    names += [cell.mark] if cell.mark else []
    names += [f"s{round(SHADES * cell.shade)}"] if cell.shade is not None else []
    text = _breakable(cell.text)
    if cell.mark in _MARK_WORDS and column in table.numbers:
        sign, meaning = _MARK_WORDS[cell.mark]
        if cell.small:  # a bold figure without a sign is a clear difference
            text = Markup('{}<abbr title="{}">{}</abbr>').format(text, meaning, sign)
    elif cell.small and column in table.numbers:
        text += Markup("<i></i>")  # keeps figures with and without a sign in line
    small = Markup("").join(Markup("<small>{}</small>").format(one_line(line)) for line in cell.small.splitlines())
    if column == 0:
        return Markup('<th scope="row"{}>{}{}</th>').format(_classes(names), text, small)
    return Markup("<td{}>{}{}</td>").format(_classes(names), text, small)


def _column_classes(table: Table, column: int) -> list[str]:
    return [name for name, where in (("n", table.numbers), ("others", table.dim)) if column in where]


# --- charts -------------------------------------------------------------------------------------------------------


def _dot_chart(chart: DotChart) -> Markup:
    axis = _axis(chart)
    groups = Markup("\n").join(_group(chart, group) for group in chart.groups)
    above = axis if sum(len(group.strips) for group in chart.groups) > 8 else Markup()
    return Markup(
        '<figure class="chart"><figcaption>{}</figcaption>{}<div class="card">{}\n{}\n{}</div>{}</figure>'
    ).format(chart.caption, _legend(chart), above, groups, axis, _notes(chart.notes))


def _legend(chart: DotChart) -> Markup:
    marks = {
        "dot": Markup('<circle class="c0" cx="9" cy="7" r="3.5"/>'),
        "own": Markup('<path class="c0 mark" d="{}"/>').format(_shape("own", 9, 7)),
        "worst": Markup('<path class="c0 mark" d="{}"/>').format(_shape("worst", 9, 7)),
        "mean": Markup('<path class="c0 bar" d="M0 7H18"/><path class="c0 tick" d="M9 1V13"/>'),
        "hollow": Markup('<circle class="c-others hollow" cx="9" cy="7" r="4"/>'),
    }
    items = [(marks[kind], meaning) for kind, meaning in chart.legend]
    if chart.line:
        items.append((Markup('<path class="line" d="M9 0V14"/>'), chart.line))
    return Markup('<p class="legend">{}</p>').format(
        Markup(" ").join(
            Markup('<span><svg width="18" height="14" aria-hidden="true">{}</svg> {}</span>').format(mark, meaning)
            for mark, meaning in items
        )
    )


def _group(chart: DotChart, group: StripGroup) -> Markup:
    head = Markup("<h3>{}</h3>").format(_breakable(group.name)) if group.name else Markup()
    strips = Markup("\n").join(_strip(chart, group, strip) for strip in group.strips)
    return Markup('<div class="group">{}\n{}</div>').format(head, strips)


def _strip(chart: DotChart, group: StripGroup, strip: Strip) -> Markup:
    colour = _colour(strip)
    marks = [_grid(chart, 26)]
    if group.line is not None:
        x = _place(chart, group.line)
        marks.append(Markup('<line class="line" x1="{}%" x2="{}%" y1="0" y2="26"/>').format(x, x))
    if strip.low is not None and strip.high is not None:
        low, high = _place(chart, strip.low), _place(chart, strip.high)
        marks.append(Markup('<line class="bar {}" x1="{}%" x2="{}%" y1="13" y2="13"/>').format(colour, low, high))
    for dot in sorted(strip.dots, key=lambda dot: bool(dot.kind)):  # those that are marked lie on top
        marks.append(_dot(chart, colour, dot.value, dot.kind, f"{dot.title}: {100 * dot.value:.1f}"))
    if strip.mean is not None:
        x = _place(chart, strip.mean)
        if strip.hollow:
            marks.append(Markup('<circle class="{} hollow" cx="{}%" cy="13" r="4.5"/>').format(colour, x))
        else:
            marks.append(Markup('<line class="tick {}" x1="{}%" x2="{}%" y1="5" y2="21"/>').format(colour, x, x))
    return Markup(
        '<div class="strip"><span class="name">{}</span><span class="value">{}</span>'
        '<svg class="plot" height="26" role="img" aria-label="{}">{}</svg></div>'
    ).format(_breakable(strip.name), strip.text, f"{strip.name}: {strip.text}", Markup("").join(marks))


def _dot(chart: DotChart, colour: str, value: float, kind: str, title: str) -> Markup:
    x = _place(chart, value)
    told = Markup("<title>{}</title>").format(one_line(title))
    if not kind:
        return Markup('<circle class="dot {}" cx="{}%" cy="13" r="3.5">{}</circle>').format(colour, x, told)
    return Markup('<svg x="{}%" y="13" overflow="visible"><path class="mark {}" d="{}">{}</path></svg>').format(
        x, colour, _shape(kind, 0, 0), told
    )


def _shape(kind: str, x: int, y: int) -> str:
    if kind == "own":
        return f"M{x} {y - 6}L{x + 6} {y}L{x} {y + 6}L{x - 6} {y}Z"
    return f"M{x - 6} {y - 5}H{x + 6}L{x} {y + 6}Z"


def _grid(chart: DotChart, height: int) -> Markup:
    return Markup("").join(
        Markup('<line class="grid" x1="{}%" x2="{}%" y1="0" y2="{}"/>').format(x, x, height)
        for x in (_place(chart, value) for value, _ in chart.ticks)
    )


def _axis(chart: DotChart) -> Markup:
    texts = Markup("").join(
        Markup('<text x="{}%" y="12">{}</text>').format(_place(chart, value), text) for value, text in chart.ticks
    )
    return Markup(
        '<div class="strip axis"><span class="name"></span><span class="value"></span>'
        '<svg class="plot" height="16" aria-hidden="true">{}</svg></div>'
    ).format(texts)


def _place(chart: DotChart, value: float) -> str:
    share = 100 * (value - chart.low) / (chart.high - chart.low)
    return f"{min(100.0, max(0.0, share)):.2f}".rstrip("0").rstrip(".")


def _colour(strip: Strip) -> str:
    return "c-others" if strip.hollow else f"c{strip.colour % COLOURS}"


_SIDE, _EDGE = 200, 26  # of a reliability diagram, and of the room for its numbers


def _reliability_chart(chart: ReliabilityChart) -> Markup:
    diagrams = Markup("\n").join(_reliability(each) for each in chart.diagrams)
    return Markup('<figure class="chart"><figcaption>{}</figcaption><div class="diagrams">{}</div>{}</figure>').format(
        chart.caption, diagrams, _notes(chart.notes)
    )


def _reliability(diagram: Reliability) -> Markup:
    colour = f"c{diagram.colour % COLOURS}"
    most = max(each.rows for each in diagram.bins)
    marks = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _EDGE + share * _SIDE, 8 + (1 - share) * _SIDE
        marks.append(Markup('<path class="grid" d="M{} 8V{}M{} {}H{}"/>').format(x, 8 + _SIDE, _EDGE, y, _EDGE + _SIDE))
        if share in (0.0, 0.5, 1.0):
            text = f"{share:g}"
            marks.append(Markup('<text x="{}" y="{}">{}</text>').format(x, _SIDE + 22, text))
            marks.append(Markup('<text class="left" x="{}" y="{}">{}</text>').format(_EDGE - 6, y + 4, text))
    marks.append(Markup('<path class="line" d="M{} {}L{} 8"/>').format(_EDGE, 8 + _SIDE, _EDGE + _SIDE))
    places = [(_EDGE + each.confidence * _SIDE, 8 + (1 - each.accuracy) * _SIDE, each) for each in diagram.bins]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
    marks.append(Markup('<path class="{} curve" d="{}"/>').format(colour, path))
    for x, y, each in places:
        title = f"{each.rows:,} answers, confidence {each.confidence:.2f}, right {each.accuracy:.2f}"
        radius = 2.5 + 6 * (each.rows / most) ** 0.5
        marks.append(
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                colour, f"{x:.1f}", f"{y:.1f}", f"{radius:.1f}", title
            )
        )
    facts = Markup("<br>").join(escape(fact) for fact in diagram.facts)
    width, height = _EDGE + _SIDE + 12, _SIDE + 28
    return Markup(
        '<div class="diagram"><h3>{}</h3><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg><p>{}</p></div>'
    ).format(_breakable(diagram.name), width, height, "; ".join(diagram.facts), Markup("").join(marks), facts)


# --- texts --------------------------------------------------------------------------------------------------------


def _notes(notes: Sequence[str]) -> Markup:
    if not notes:
        return Markup()
    return Markup('<div class="soft">{}</div>').format(
        Markup("").join(Markup("<p>{}</p>").format(_breakable(note)) for note in notes)
    )


def _breakable(text: str) -> Markup:
    """Names such as super_glue/rte may break behind a stroke."""
    if " " in text.strip():
        return escape(one_line(text))
    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(one_line(text)))


def _classes(names: Sequence[str]) -> Markup:
    return Markup(' class="{}"').format(" ".join(names)) if names else Markup()
