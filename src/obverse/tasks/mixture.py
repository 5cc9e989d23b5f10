"""Mixtures: an endless, seeded stream of training draws whose whole state is one integer."""

from __future__ import annotations

import bisect
import itertools
import random as python_random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from obverse.errors import RecipeError
from obverse.seeds import stream
from obverse.tasks.templates import Rendering


@dataclass(frozen=True, slots=True)
class Draw:
    """One example under one instruction and one wording of its options.

    Attributes:
        task: the source's name.
        example_id: which example.
        rendering: the prompt's segments.
        options: at least two texts.
        gold: the index of the right one.
    """

    task: str
    example_id: str
    rendering: Rendering
    options: tuple[str, ...]
    gold: int


class DrawSource(ABC):
    """Examples with the wordings they may appear in."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """The number of examples: what proportional rates are made of."""

    @abstractmethod
    def draw(self, random: python_random.Random) -> Draw:
        """An example, an instruction and a wording, all drawn from `random` alone."""


class Mixture:
    """Draws from several sources at given rates.

    Args:
        sources: where draws come from.
        rates: relative numbers of draws, one a source; None means in proportion to `min(len(source), cap)`.
        cap: the most examples a source counts for.
        seed: draw `i` depends on `seed` and `i` alone, so any position can be resumed and any number of workers
            sees the same stream.

    Raises:
        RecipeError: no source, an empty source, or rates that do not fit.
    """

    def __init__(
        self,
        sources: Sequence[DrawSource],
        *,
        rates: Sequence[float] | None = None,
        cap: int = 500_000,
        seed: int = 0,
    ) -> None:
        if not sources:
            raise RecipeError("a mixture needs at least one source")
        for source in sources:
            if not len(source):
                raise RecipeError(f"the source {source.name!r} has no examples")
        if rates is None:
            rates = [min(len(source), cap) for source in sources]
        if len(rates) != len(sources) or min(rates) < 0 or not sum(rates) > 0:
            raise RecipeError(
                f"{len(sources)} sources need as many rates, none negative, not all zero", mend=f"Given: {list(rates)}."
            )
        self.sources = tuple(sources)
        self.seed = seed
        self._cumulative = list(itertools.accumulate(rates))

    def draw(self, i: int) -> Draw:
        """The `i`-th draw of the stream."""
        random = stream(self.seed, "mixture", i)
        point = random.random() * self._cumulative[-1]
        which = min(bisect.bisect_right(self._cumulative, point), len(self.sources) - 1)
        return self.sources[which].draw(random)
