"""Which work is shared: nothing is computed twice, and little of what is computed is padding.

Pure bookkeeping over texts and lengths. It changes the order in which a model works, never what it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shared:
    """A given text with every different text said after it.

    Attributes:
        given: the context, read by the model once.
        said: the different texts, in order of first appearance.
        places: for each said text, where in the list of queries it is asked.
    """

    given: str
    said: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]


def share(pairs: Iterable[tuple[str, str]]) -> list[Shared]:
    """Group `(given, said)` pairs by given text and drop repetitions, in order of first appearance."""
    grouped: dict[str, dict[str, list[int]]] = {}
    for place, (given, said) in enumerate(pairs):
        grouped.setdefault(given, {}).setdefault(said, []).append(place)
    return [Shared(given, tuple(said), tuple(map(tuple, said.values()))) for given, said in grouped.items()]


def blocks(groups: Sequence[Shared], rows: int) -> Iterator[list[Shared]]:
    """Cut the groups into lists of at most `rows` different pairs, so that memory stays bounded.

    A group that is larger than what is left of a block goes on in the next one; its context is then read once more.
    """
    block: list[Shared] = []
    free = rows
    for group in groups:
        start = 0
        while start < len(group.said):
            end = min(len(group.said), start + free)
            whole = start == 0 and end == len(group.said)
            block.append(group if whole else Shared(group.given, group.said[start:end], group.places[start:end]))
            free -= end - start
            start = end
            if free == 0:
                yield block
                block, free = [], rows
    if block:
        yield block


def batches(lengths: Sequence[int], budget: int | Callable[[], int], *, slack: int = 128) -> Iterator[list[int]]:
    """Indices in batches of like length, longest first; each index once.

    Args:
        lengths: the width of each row.
        budget: the largest padded area (rows times the longest row) of a batch, or what tells that of the next one; a
            longer row stands alone.
        slack: how much padding a batch may hold before the next row starts a new one. A batch costs a fixed time of
            its own, about that of so many positions, so a little padding is cheaper than many small batches; an
            eighth of the batch's area is allowed on top.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batch: list[int] = []
    width = padding = most = 0
    for i in order:
        waste = width - lengths[i]
        area = width * (len(batch) + 1)
        if batch and (area > most or padding + waste > slack + area // 8):
            yield batch
            batch = []
        if not batch:
            width, padding, waste = lengths[i], 0, 0
            most = budget() if callable(budget) else budget
        batch.append(i)
        padding += waste
    if batch:
        yield batch


def common_prefix(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many first items all sequences have in common."""
    if not sequences:
        return 0
    # The smallest and the largest in order differ at least as early as any other two.
    low, high = min(sequences), max(sequences)
    for i, (a, b) in enumerate(zip(low, high, strict=False)):
        if a != b:
            return i
    return min(len(low), len(high))
