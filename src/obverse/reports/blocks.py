"""What a report is made of: pieces, each of which holds paragraphs, tables and charts, as plain values.

How they are drawn is said elsewhere: `page` (HTML), `markdown`, `pictures` (PNG).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Words:
    """Paragraphs, or a list of points.

    Attributes:
        kind: "" for running text, "list", "facts" (pairs "name: what"), "note" (small), "warning".
    """

    texts: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class TableCell:
    """A cell of a table.

    Attributes:
        text: empty for nothing.
        small: set smaller behind it, such as an interval; a line break parts what may stand on lines of its own.
        mark: "best", "alike" (not distinguishable from the best), "dim" or "".
        shade: 0 to 1, how dark the background is; None for none.
    """

    text: str = ""
    small: str = ""
    mark: str = ""
    shade: float | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table.

    Attributes:
        kind: "" for a usual one, "section" for a heading over the rows below it (one cell), "foot" for means.
    """

    cells: tuple[TableCell, ...]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        heads: of the columns.
        numbers: which columns hold numbers, right-aligned.
        dim: which columns are not of these runs (figures of others).
        wraps: its cells hold running text.
        caption: may be empty.
        notes: below it.
        sortable: a reader may sort it by a column.
    """

    heads: tuple[str, ...]
    rows: tuple[TableRow, ...]
    numbers: frozenset[int] = frozenset()
    dim: frozenset[int] = frozenset()
    caption: str = ""
    notes: tuple[str, ...] = ()
    wraps: bool = False
    sortable: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """One figure on a strip.

    Attributes:
        value: on the chart's scale.
        title: what it belongs to.
        kind: "" for a usual one, "own", "worst".
    """

    value: float
    title: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Strip:
    """A row of a dot chart: figures, their mean and its interval.

    Attributes:
        name: at the left.
        colour: number of the colour; the same for the same method.
        dots: one figure each.
        mean, low, high: None where there is none.
        text: at the right.
        hollow: it is a figure of others.
    """

    name: str
    colour: int
    dots: tuple[Dot, ...] = ()
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    text: str = ""
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class StripGroup:
    """Strips under one heading.

    Attributes:
        name: may be empty.
        line: a value to compare with, such as chance; None for none.
    """

    name: str
    strips: tuple[Strip, ...]
    line: float | None = None


@dataclass(frozen=True, slots=True)
class DotChart:
    """Strips over one scale.

    Attributes:
        groups: from above.
        low, high: ends of the scale.
        ticks: (value, what is written there).
        caption: what is shown.
        line: what the groups' lines are; empty where there are none.
        legend: (kind of mark, what it means), kinds "dot", "own", "worst", "mean", "hollow".
        notes: below it.
    """

    groups: tuple[StripGroup, ...]
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    caption: str
    line: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence: mean confidence, share of right ones, how many there are."""

    confidence: float
    accuracy: float
    rows: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram.

    Attributes:
        name: of the method.
        facts: what is written below it.
    """

    name: str
    colour: int
    bins: tuple[Bin, ...]
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReliabilityChart:
    """Diagrams side by side."""

    diagrams: tuple[Reliability, ...]
    caption: str
    notes: tuple[str, ...] = ()


Block = Words | Table | DotChart | ReliabilityChart


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a report that can stand alone.

    Attributes:
        name: of its files and of its place on the page: letters, digits, hyphens.
        title: heading.
        blocks: from above.
    """

    name: str
    title: str
    blocks: tuple[Block, ...] = field(default=())
