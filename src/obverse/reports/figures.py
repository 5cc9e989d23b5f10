"""Pictures of summaries and explanations, drawn with matplotlib.

Every text is drawn letter for letter: mathematics is switched off, so that `$`, `_` and braces in labels are what
they look like, and characters that the main font lacks come from another installed font. Figures are built without
`pyplot`, so drawing changes no state outside and works in threads and servers.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obverse.errors import OutputError
from obverse.metrics.intervals import wilson
from obverse.reports.explanation import Explanation
from obverse.reports.summary import NO_LABEL, GoldMetrics, Summary
from obverse.reports.typography import collapsed, counted, one_line, shorten, shorten_names, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

ENDINGS = (".png", ".svg", ".pdf")
DOTS_PER_INCH = 160

_MAIN_FONT = "DejaVu Sans"  # comes with matplotlib
_LAST_RESORT = "Last Resort High-Efficiency"  # comes with matplotlib: a box with the script's sign for any character

# Okabe and Ito's palette, which colour-blind readers can tell apart
_BLUE, _VERMILION, _INK, _GREY, _PALE = "#0072B2", "#D55E00", "#222222", "#6b6b6b", "#e4e4e4"

_MOST_LABELS = 100
"""Bars for more labels than this would make a picture nobody scrolls through: the most frequent are drawn."""
_MOST_NUMBERED = 16
"""A confusion matrix of more classes has no room for numbers."""
_MOST_EXPLAINED = 16
_LABEL_CELLS = 26


def draw_summary(summary: Summary, path: str | Path) -> None:
    """Draw label counts, confidences and, with gold labels, the confusion matrix and a reliability diagram.

    Args:
        summary: what to draw.
        path: where to; the ending says the kind of file (`.png`, `.svg`, `.pdf`).

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    path = _checked(path)
    texts = [*summary.labels, summary.headline, summary.instruction or ""]
    with _style(texts) as drawable:
        _save(_summary_figure(summary, drawable), path)


def draw_explanation(explanation: Explanation, path: str | Path) -> None:
    """Draw which tokens speak for which label: a heat map, labels by tokens, wrapped like text.

    A cell's colour is the token's log-probability under the label less the mean over the labels. Of many labels the
    prediction and the highest sums are drawn, and the picture says so.

    Args:
        explanation: what to draw.
        path: where to; the ending says the kind of file (`.png`, `.svg`, `.pdf`).

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    path = _checked(path)
    texts = [explanation.text, explanation.kind, *explanation.labels, *explanation.tokens]
    with _style(texts) as drawable:
        _save(_explanation_figure(explanation, drawable), path)


# --- the summary --------------------------------------------------------------------------------------------------


def _summary_figure(summary: Summary, drawable: _Drawable) -> Figure:
    from matplotlib.figure import Figure

    order = list(range(len(summary.labels)))
    if len(order) > _MOST_LABELS:
        order = sorted(order, key=lambda k: -summary.counts[k])[:_MOST_LABELS]
    names = [drawable(name) for name in shorten_names([summary.labels[k] for k in order], _LABEL_CELLS)]
    bars = len(order) + bool(summary.without_label)
    gold = summary.gold
    title = _title(summary, drawable, len(order))
    title_height = 0.3 + 0.24 * title.count("\n")

    if len(order) <= _MOST_NUMBERED:
        # bars and histogram above, gold below
        upper = max(2.6, 1.1 + 0.27 * bars)
        matrix = max(3.4, 1.5 + 0.34 * len(order) + (0.0 if _fits_level(names) else 0.8))
        figure = Figure(figsize=(11.5, title_height + upper + (matrix if gold else 0)), layout="constrained")
        areas: Any = figure.subfigures(2 if gold else 1, 1, height_ratios=[upper, matrix] if gold else None)
        top = areas[0] if gold else areas
        counts, confidences, histogram = top.subplots(1, 3, width_ratios=[3.2, 2, 3])
        _draw_counts(counts, confidences, summary, order, names)
        _draw_histogram(histogram, summary)
        if gold:
            grid = areas[1].subplots(1, 2, width_ratios=[5.2, 3])
            _draw_confusion(grid[0], areas[1], gold, order, names)
            _draw_reliability(grid[1], gold)
    else:
        # a tall column of bars at the left, the rest in a column at the right
        used = [10.5, 3.6] if len(order) > 45 else [7.3, 3.2]
        tall = max(sum(used) if gold else 5.0, 1.2 + 0.2 * bars)
        widths = [6.5, 0.5 + used[0] * 1.15]
        figure = Figure(figsize=(sum(widths), title_height + tall), layout="constrained")
        halves: Any = figure.subfigures(1, 2, width_ratios=widths)
        left, right = halves
        counts, confidences = left.subplots(1, 2, width_ratios=[3, 2])
        _draw_counts(counts, confidences, summary, order, names)
        if gold:
            rows = right.subfigures(3, 1, height_ratios=[*used, max(0.01, tall - sum(used))])
            _draw_confusion(rows[0].subplots(1, 1), rows[0], gold, order, names)
            histogram, reliability = rows[1].subplots(1, 2, width_ratios=[1.4, 1])
            _draw_histogram(histogram, summary)
            _draw_reliability(reliability, gold)
        else:
            rows = right.subfigures(2, 1, height_ratios=[4.5, max(0.01, tall - 4.5)])
            _draw_histogram(rows[0].subplots(1, 1), summary)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    figure.suptitle(title, x=0.012, ha="left", fontsize=11, linespacing=1.45)
    return figure


def _title(summary: Summary, drawable: _Drawable, drawn: int) -> str:
    first = " · ".join(
        part for part in (drawable(shorten(summary.headline, 110)), counted(summary.rows, "text")) if part
    )
    lines = [first]
    gold = summary.gold
    if gold:
        a, f = gold.accuracy_interval, gold.macro_f1_interval
        lines.append(
            f"accuracy {gold.accuracy:.3f} ({a.low:.3f} to {a.high:.3f}), "
            f"macro-F1 {gold.macro_f1:.3f} ({f.low:.3f} to {f.high:.3f}); "
            f"n = {gold.rows:,}, 95 % intervals"
        )
    if summary.instruction:
        lines.append(drawable(shorten(f"instruction: {collapsed(summary.instruction)}", 120)))
    if drawn < len(summary.labels):
        lines.append(f"the {drawn} most frequent of {len(summary.labels):,} labels are drawn")
    return "\n".join(lines)


def _draw_counts(counts: Axes, confidences: Axes, summary: Summary, order: Sequence[int], names: Sequence[str]) -> None:
    values = [summary.counts[k] for k in order]
    labels, colours = list(names), [_BLUE] * len(names)
    if summary.without_label:
        values.append(summary.without_label)
        labels.append(NO_LABEL)
        colours.append("#a9a9a9")
    places = range(len(values))
    size = 9 if len(values) <= 40 else 8
    counts.barh(places, values, color=colours, height=0.72)
    counts.set_yticks(places, labels, fontsize=size)
    for place, n in zip(places, values, strict=True):
        share = f" ({100 * n / summary.rows:.1f} %)" if summary.rows else ""
        counts.annotate(
            f"{n:,}{share}",
            (n, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=size - 1,
            color=_INK,
        )
    # room at the right of the longest bar for its number
    counts.set_xlim(0, max([*values, 1]) * 1.5)
    counts.set_xticks([])
    counts.spines[["top", "right", "bottom"]].set_visible(False)
    counts.set_title("texts given each label")

    for place, k in enumerate(order):
        mean = summary.mean_confidences[k]
        confidences.hlines(place, 0, 1, color=_PALE, linewidth=0.8, zorder=0)
        if mean is not None:
            confidences.plot([mean], [place], "o", color=_BLUE, markersize=5)
            confidences.annotate(
                f"{mean:.2f}", (1, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=size - 1,
                annotation_clip=False, color=_INK,
            )  # fmt: skip
    confidences.set_xlim(0, 1.02)
    confidences.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    confidences.set_yticks([])
    confidences.spines[["top", "right", "left"]].set_visible(False)
    confidences.set_title("mean confidence")
    for axes in (counts, confidences):
        axes.set_ylim(len(values) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)


def _draw_histogram(axes: Axes, summary: Summary) -> None:
    from matplotlib.ticker import MaxNLocator

    bins = len(summary.confidence_histogram)
    edges = [b / bins for b in range(bins)]
    axes.bar(
        edges, summary.confidence_histogram, width=1 / bins, align="edge", color=_BLUE, edgecolor="white", linewidth=0.8
    )
    if summary.mean_confidence is not None:
        axes.axvline(summary.mean_confidence, color=_VERMILION, linewidth=1.4)
        on_right = summary.mean_confidence < 0.5
        axes.annotate(
            f"mean {summary.mean_confidence:.3f}", (summary.mean_confidence, 1), xycoords=("data", "axes fraction"),
            xytext=(5 if on_right else -5, -2), textcoords="offset points", ha="left" if on_right else "right",
            va="top", fontsize=8.5, color=_VERMILION,
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max([*summary.confidence_histogram, 1]) * 1.12)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_xlabel("confidence")
    axes.set_ylabel("texts")
    axes.set_title("confidence of all texts")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_confusion(
    axes: Axes, figure: Figure | SubFigure, gold: GoldMetrics, order: Sequence[int], names: Sequence[str]
) -> None:
    import numpy as np

    counts = np.array(gold.confusion)
    abstained = counts[order, -1]
    columns = list(names)
    shown = counts[np.ix_(order, order)]
    if counts[:, -1].any():
        shown = np.column_stack([shown, abstained])
        columns.append(NO_LABEL)
    totals = counts[order].sum(1, keepdims=True)
    shares = shown / np.maximum(totals, 1)
    numbered = len(order) <= _MOST_NUMBERED
    image = axes.imshow(
        shares, cmap="Blues", vmin=0, vmax=1, aspect="auto" if numbered else "equal", interpolation="nearest"
    )
    size = 9 if len(order) <= _MOST_NUMBERED else 7 if len(order) <= 45 else 5 if len(order) <= 80 else 4
    few = _fits_level(columns)
    axes.set_xticks(range(len(columns)), columns, fontsize=size, rotation=0 if few else 35 if numbered else 90,
                    ha="center" if few or not numbered else "right",
                    rotation_mode="anchor" if numbered and not few else "default")  # fmt: skip
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.tick_params(length=0)
    if numbered:
        for (i, j), n in np.ndenumerate(shown):
            axes.text(
                j, i, f"{n:,}", ha="center", va="center", fontsize=9 if len(columns) <= 10 else 7.5,
                color="white" if shares[i, j] > 0.55 else _INK if n else "#9a9a9a",
            )  # fmt: skip
        axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
        axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted label")
    axes.set_ylabel("gold label")
    axes.set_title("confusion" + (" (texts)" if numbered else ""))
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.015, aspect=30)
    bar.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"])
    bar.set_label("share of the gold label's texts", fontsize=8.5)
    bar.outline.set_visible(False)


def _fits_level(columns: Sequence[str]) -> bool:
    """Whether the names can stand side by side under a confusion matrix without turning them."""
    return max(map(len, columns)) * len(columns) <= 66


def _draw_reliability(axes: Axes, gold: GoldMetrics) -> None:
    axes.plot([0, 1], [0, 1], linestyle=(0, (4, 3)), color=_GREY, linewidth=1)
    filled = [
        (n, c, a)
        for n, c, a in zip(gold.bin_rows, gold.bin_confidences, gold.bin_accuracies, strict=True)
        if c is not None and a is not None
    ]
    if filled:
        largest = max(n for n, _, _ in filled)
        for n, confidence, right in filled:
            low, high = wilson(round(right * n), n)
            axes.vlines(confidence, low, high, color=_BLUE, linewidth=1.1, alpha=0.55)
        axes.plot([c for _, c, _ in filled], [a for _, _, a in filled], color=_BLUE, linewidth=0.8, alpha=0.5)
        axes.scatter(
            [c for _, c, _ in filled], [a for _, _, a in filled], s=[14 + 90 * n / largest for n, _, _ in filled],
            color=_BLUE, edgecolor="white", linewidth=0.6, zorder=3,
        )  # fmt: skip
    # a margin around the unit square, so that points on its edge are drawn whole
    axes.set_xlim(-0.02, 1.04)
    axes.set_ylim(-0.02, 1.04)
    axes.set_box_aspect(1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy, 95 % interval")
    error = "" if gold.calibration_error is None else f" (calibration error {gold.calibration_error:.3f})"
    axes.set_title(f"reliability{error}")
    axes.spines[["top", "right"]].set_visible(False)


# --- the explanation ----------------------------------------------------------------------------------------------

_WIDTH, _MARGIN = 12.0, 0.25
_ROW, _TOKEN_ROW, _LINE_GAP = 0.27, 0.28, 0.22
_SUM_WIDTH = 1.75


def _explanation_figure(explanation: Explanation, drawable: _Drawable) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    # Laid out in inches by hand: cells are as wide as their token's text, which no layout engine offers.
    shown = explanation.foremost(_MOST_EXPLAINED)
    contrasts, totals, winner = explanation.contrasts, explanation.totals, explanation.winner
    figure = Figure(figsize=(_WIDTH, 1))
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]

    def width(text: str, size: float) -> float:
        artist = figure.text(0, 0, text, fontsize=size)
        extent = artist.get_window_extent(renderer).width / figure.dpi
        artist.remove()
        return extent

    names = [drawable(name) for name in shorten_names([explanation.labels[k] for k in shown], _LABEL_CELLS)]
    left = _MARGIN + 0.25 + max(width(name, 9.5) for name in names) + 0.12
    right = _WIDTH - _MARGIN - _SUM_WIDTH
    tokens = [drawable(_token(token)) for token in explanation.tokens]
    widths = [max(0.3, width(token, 8.5) + 0.14) for token in tokens]
    lines = _balanced_lines(widths, right - left)

    title = _wrapped(drawable(collapsed(explanation.text)), _WIDTH - 2 * _MARGIN, lambda text: width(text, 11), most=2)
    said = f"{explanation.kind}: log-probability of each token, less the mean over the labels (nats)"
    if len(shown) < len(explanation.labels):
        said += f"; {len(shown)} of {len(explanation.labels):,} labels: the prediction and the highest sums"
    block = len(shown) * _ROW + _TOKEN_ROW + _LINE_GAP
    top = _MARGIN + 0.26 * len(title) + 0.62
    height = top + block * len(lines) + 0.5
    figure.set_size_inches(_WIDTH, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")

    for i, line in enumerate(title):
        axes.text(_MARGIN, _MARGIN + 0.1 + 0.26 * i, line, fontsize=11, va="center")
    axes.text(_MARGIN, _MARGIN + 0.12 + 0.26 * len(title), drawable(said), fontsize=9, va="center", color=_GREY)

    largest = max((abs(contrasts[k][t]) for k in shown for t in range(len(tokens))), default=0.0)
    # The map's ends are nearly black on both sides; stopping short of them keeps red and blue apart.
    limit = 1.2 * (largest or 1.0)
    scale: Any = ScalarMappable(Normalize(-limit, limit), cmap="RdBu")
    for i, line_tokens in enumerate(lines):
        y = top + block * i
        for row, (k, name) in enumerate(zip(shown, names, strict=True)):
            middle = y + _ROW * (row + 0.5)
            axes.text(left - 0.12, middle, name, fontsize=9.5, ha="right", va="center",
                      color=_INK if k == winner else _GREY)  # fmt: skip
            if k == winner:
                axes.text(left - 0.12 - width(name, 9.5) - 0.06, middle, "▶", fontsize=8, ha="right", va="center")
        x = left
        for t in line_tokens:
            for row, k in enumerate(shown):
                axes.add_patch(
                    Rectangle((x, y + _ROW * row), widths[t], _ROW, facecolor=scale.to_rgba(contrasts[k][t]),
                              edgecolor="white", linewidth=0.8)
                )  # fmt: skip
            axes.text(
                x + widths[t] / 2, y + _ROW * len(shown) + 0.13, tokens[t], fontsize=8.5, ha="center", va="center"
            )
            x += widths[t]
        if shown and winner in shown:
            row = shown.index(winner)
            axes.add_patch(
                Rectangle((left, y + _ROW * row), x - left, _ROW, facecolor="none", edgecolor=_INK, linewidth=1.1)
            )
    # the sums stand beside the first line, at its end
    end = left + max(max(sum(widths[t] for t in line) for line in lines), 2.0)
    for column, head in ((end + 0.75, "sum"), (end + _SUM_WIDTH - 0.12, "probability")):
        axes.text(column, top - 0.14, head, fontsize=8.5, ha="right", va="center", color=_GREY)
    for row, k in enumerate(shown):
        middle, colour = top + _ROW * (row + 0.5), _INK if k == winner else _GREY
        axes.text(end + 0.75, middle, signed(totals[k]), fontsize=9.5, ha="right", va="center", color=colour)
        axes.text(end + _SUM_WIDTH - 0.12, middle, f"{explanation.probabilities[k]:.3f}", fontsize=9.5, ha="right",
                  va="center", color=colour)  # fmt: skip

    bottom = height - 0.42
    key = figure.add_axes((left / _WIDTH, 1 - (bottom + 0.13) / height, 2.4 / _WIDTH, 0.13 / height))
    bar = figure.colorbar(scale, cax=key, orientation="horizontal")
    ticks = [-largest, 0.0, largest] if largest else [0.0]
    bar.ax.set_xlim(-(largest or 1.0), largest or 1.0)
    bar.set_ticks(ticks, labels=[signed(tick) for tick in ticks])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, pad=2)
    axes.text(
        left + 2.65, bottom + 0.07, "blue speaks for the label, red against it", fontsize=8.5, va="center", color=_GREY
    )
    return figure


def _balanced_lines(widths: Sequence[float], room: float) -> list[list[int]]:
    """The places in reading order, in as few lines as fit the room, and those as equal in width as can be."""

    def broken(limit: float) -> list[list[int]]:
        lines: list[list[int]] = [[]]
        used = 0.0
        for t, width in enumerate(widths):
            if lines[-1] and used + width > limit:
                lines.append([])
                used = 0.0
            lines[-1].append(t)
            used += width
        return lines

    fewest = len(broken(room))
    low, high = sum(widths) / fewest, room
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if len(broken(middle)) == fewest else (middle, high)
    return broken(high)


def _token(token: str) -> str:
    """The token as it is, within reason; one of white space alone is made visible."""
    shown = shorten(one_line(token), 28)
    return shown if shown.strip() else "␣" * max(1, len(shown))


def _wrapped(text: str, room: float, width: Any, *, most: int) -> list[str]:
    """The text in at most `most` lines of at most `room` inches, the last shortened if need be."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if width(longer) <= room or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = f"{longer}…"
            break
    for i, line in enumerate(lines):
        if width(line) > room:
            while line and width(f"{line}…") > room:
                line = line[: -max(1, len(line) // 40)]
            lines[i] = f"{line.rstrip(' …')}…"
    return lines


# --- fonts, style, files ------------------------------------------------------------------------------------------


class _Drawable:
    """Makes texts drawable with the fonts at hand: a character that no font has becomes U+FFFD."""

    def __init__(self, texts: Iterable[str]) -> None:
        missing = {c for text in texts for c in one_line(text)} - {" "}
        missing = {c for c in missing if not _is_invisible(c)}
        self.families: list[str] = []
        for family, characters in _fonts():
            covered = {c for c in missing if ord(c) in characters}
            if covered or family == _MAIN_FONT:
                self.families.append(family)
                missing -= covered
            if not missing:
                break
        self._missing = missing

    def __call__(self, text: str) -> str:
        return "".join("\ufffd" if c in self._missing else "" if _is_invisible(c) else c for c in text)


def _is_invisible(character: str) -> bool:
    """Joiners, direction marks and variation selectors: they shape other characters and have no glyph of their own."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


def _fonts() -> Iterator[tuple[str, frozenset[int]]]:
    """Font families and the characters they have: the main font, upright outline fonts installed, the last resort."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    ranks = {_MAIN_FONT: 0, _LAST_RESORT: 2}
    entries = sorted(
        (e for e in fontManager.ttflist if e.style == "normal" and e.weight in (400, "normal", "regular", "book")),
        key=lambda e: (ranks.get(e.name, 1), e.name, e.fname),
    )
    seen = set()
    for entry in entries:
        if entry.name in seen:
            continue
        seen.add(entry.name)
        try:
            font = FT2Font(entry.fname)
        except (OSError, RuntimeError):
            continue  # listed but not readable: another font serves
        if font.scalable:  # bitmap emoji fonts cannot be drawn
            yield entry.name, frozenset(font.get_charmap())


@contextmanager
def _style(texts: Iterable[str]) -> Iterator[_Drawable]:
    """Our settings, whatever the user's own matplotlib configuration says, for the time of one drawing."""
    import matplotlib

    drawable = _Drawable(texts)
    with matplotlib.rc_context():
        matplotlib.rcParams.update({k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")})
        matplotlib.rcParams.update(
            {
                "text.usetex": False,
                "text.parse_math": False,
                "axes.formatter.use_mathtext": False,
                "axes.unicode_minus": True,
                "font.family": drawable.families,
                "font.size": 9.5,
                "axes.titlesize": 10,
                "axes.titlelocation": "left",
                "axes.titlepad": 8,
                "axes.labelsize": 9,
                "axes.labelcolor": _INK,
                "axes.edgecolor": "#9a9a9a",
                "text.color": _INK,
                "xtick.color": "#6b6b6b",
                "xtick.labelcolor": _INK,
                "ytick.color": "#6b6b6b",
                "ytick.labelcolor": _INK,
                "xtick.labelsize": 8.5,
                "ytick.labelsize": 8.5,
                "figure.dpi": 100,
                # the same numbers give the same file
                "svg.hashsalt": "obverse",
            }
        )
        yield drawable


def check_ending(path: str | Path) -> None:
    """Refuse a picture that could not be written, before any work is done.

    Raises:
        OutputError: unknown ending, or no such folder.
    """
    checked = _checked(path)
    if not checked.parent.is_dir():
        raise OutputError(f"there is no folder {str(checked.parent)!r}", where=str(path), mend="Make it first.")


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise OutputError(
            f"a figure cannot be written as {path.suffix or 'a file without ending'!r}",
            where=str(path),
            mend="Let the name end in .png, .svg or .pdf.",
        )
    return path


def _save(figure: Figure, path: Path) -> None:
    """Write the figure whole or not at all."""
    kind = path.suffix.lower()[1:]
    dates = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(part, format=kind, dpi=DOTS_PER_INCH, metadata=dates[kind], facecolor="white")
        os.replace(part, path)
    except OSError as error:
        raise OutputError(
            f"the figure cannot be written: {error.strerror or error}",
            where=str(path),
            mend="Name a file in a folder that exists and may be written to.",
        ) from None
    finally:
        part.unlink(missing_ok=True)
