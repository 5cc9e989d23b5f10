"""How figures from 0 to 1 are told in reports: to tenths of a per cent in tables, to whole per cents in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from obverse.metrics.intervals import Interval
from obverse.reports.results import Figure
from obverse.reports.run_settings import ACCURACY, EXACT_MATCH, EXPECTED_GRADE, GRADE, MACRO_F1, ROUGE_L, RunSettings
from obverse.reports.typography import counted, signed

METRIC_NAMES = {
    ACCURACY: "accuracy",
    MACRO_F1: "macro-F1",
    GRADE: "multiple-choice grade",
    EXPECTED_GRADE: "multiple-choice grade, ties drawn",
    ROUGE_L: "ROUGE-L",
    EXACT_MATCH: "exact match",
}


def percent(value: float | None) -> str:
    """`61.2`; nothing for None."""
    return "" if value is None else f"{100 * value:.1f}"


def as_published(value: float | None) -> str:
    """With one or two digits: `56.5`, `71.05`; nothing for None."""
    if value is None:
        return ""
    text = f"{100 * value:.2f}"
    return text.removesuffix("0")


def interval(figure: Figure) -> str:
    """`53.1–68.4`."""
    return f"{100 * figure.low:.1f}–{100 * figure.high:.1f}"


def points(low: float, high: float) -> str:
    """An interval of a difference: `-3.1 to +8.4`."""
    return f"{signed(100 * low, 1)} to {signed(100 * high, 1)}"


def p_text(p: float | None) -> str:
    """`0.034`, `<0.001`; nothing for None."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def whole_percent(share: float) -> str:
    """`84 %`; never rounded to all or nothing."""
    whole = round(100 * share)
    if whole == 100 and share < 1:
        return "over 99 %"
    if whole == 0 and share > 0:
        return "under 1 %"
    return f"{whole} %"


def whole_between(interval: Interval) -> str:
    """`77 to 90`, in per cent."""
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f}"


def whole_points(difference: float) -> str:
    """`+6 points`, of a difference of two shares."""
    value = signed(100 * difference, 0)
    return f"{value} point{'' if value in ('+1', '-1') else 's'}"


def whole_points_between(interval: Interval) -> str:
    """`-2 to +9`, in points."""
    return f"{signed(100 * interval.low, 0)} to {signed(100 * interval.high, 0)}"


def p_words(p: float) -> str:
    """`p = 0.04`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.0995 else f"p = {p:.3f}"


def dropped_words(dropped: Mapping[int, int], settings: RunSettings) -> str:
    """`1 exemplar`, `2 to 5 demonstrations`: what those prompts lost that lost any."""
    fewest, most = min(dropped), max(dropped)
    what = "demonstration" if settings.demonstrations else "exemplar"
    return counted(most, what) if fewest == most else f"{fewest} to {most} {what}s"


def sentence_list(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else ""


def titled(template: str, wording: str) -> str:
    """The name of a template and wording."""
    return " | ".join(part for part in (template, wording) if part) or "(no name)"


def ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Places on a scale whose ends are tenths, in per cent; eight at most."""
    tenths = round(10 * (high - low))
    step = next(step for step in (1, 2, 5) if tenths / step <= 7 or step == 5)
    first = -(-round(10 * low) // step) * step
    return tuple((t / 10, f"{10 * t:.0f}") for t in range(first, round(10 * high) + 1, step))
