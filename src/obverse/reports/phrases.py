"""How figures from 0 to 1 are told in reports on runs: in per cent, with their intervals, on scales of tenths."""

from __future__ import annotations

from collections.abc import Sequence

from obverse.reports.results import Figure
from obverse.reports.run_settings import ACCURACY, EXACT_MATCH, EXPECTED_GRADE, GRADE, MACRO_F1, ROUGE_L
from obverse.reports.typography import signed

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
