"""The account of a model's work in words."""

from __future__ import annotations

from typing import Protocol

from obverse.reports.typography import counted, duration


class Account(Protocol):
    """What is told; `obverse.models.work.Work` is one."""

    queries: int
    asked: int
    computed: int
    batches: int
    planning: float
    seconds: float
    stored: int
    estimated: int | None
    peak: int | None
    padding: int
    unshared: int


def work_lines(work: Account) -> list[str]:
    """Tokens asked and computed, time, and memory: a line each."""
    if not work.queries:
        return ["Work: nothing was computed (the answers were there, or the model runs no network)."]
    fewer = work.asked / max(1, work.computed)
    if work.asked == work.computed:
        told = "as many"
    else:
        told = f"{fewer:.1f} times fewer" if fewer >= 1 else f"{100 / fewer - 100:.0f} % more"
    if work.padding:
        told += f" ({100 * work.padding / work.computed:.1f} % of them padding)"
    lines = [
        f"Work: {_number(work.queries, 'query', 'queries')} of {counted(work.asked, 'token')} one by one; "
        f"{counted(work.computed, 'token')} computed in {_number(work.batches, 'batch', 'batches')}, {told}."
    ]
    if work.stored:
        lines.append(f"Shared beginnings: {counted(work.stored, 'token')}, each computed once.")
    if work.unshared:
        lines.append(
            f"Read whole: {_number(work.unshared, 'query', 'queries')}, for this class of network cannot go on from a "
            "beginning that texts share."
        )
    share = work.planning / work.seconds if work.seconds else 0.0
    lines.append(f"Time: {duration(work.seconds)} in the model, {100 * share:.1f} % of it planning and tokenising.")
    memory = []
    if work.estimated:
        memory.append(f"about {_megabytes(work.estimated)} estimated for a batch")
    memory.append("the peak cannot be measured here" if work.peak is None else f"{_megabytes(work.peak)} at the peak")
    lines.append(f"Memory beyond the weights: {', '.join(memory)}.")
    return lines


def _number(n: int, one: str, several: str) -> str:
    return f"{n:,} {one if n == 1 else several}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e6:.1f} MB"
