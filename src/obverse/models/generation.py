"""Text that a model says of its own: greedy, and several candidates by beam search.

One search serves every family of models. It sees rows that are being said, token by token (`Saying`), and knows neither
tensors nor texts; a beam of one is greedy decoding.

At each step the likeliest continuations of what is still being said are kept, as many as the beam has places left. One
that ends takes its place with it, so a beam that is wide enough for all sequences finds all of them. Candidates are
compared by nats a token in the end, for otherwise the shortest would win; among unfinished ones, all of one length, the
sum is compared. Two sequences that read the same are one candidate, the better of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from obverse.errors import ModelError

Finished = Literal["end", "stop", "length"]


@dataclass(frozen=True, slots=True)
class Generated:
    """A text that a model said.

    Attributes:
        text: without special tokens, and cut before the first stop string. Leading white space stays where the tokens
            carry it (causal models).
        nats: the sum of the natural-log probabilities of the generated tokens (at most 0), the end of sequence and what
            completed a stop string included. It is the model's own probability: that some tokens may not be said does
            not raise the others'.
        tokens: how many tokens that sum runs over.
        finished: `end` of sequence, `stop` string, or `length`: as many tokens as were allowed, or as the window holds.
    """

    text: str
    nats: float
    tokens: int
    finished: Finished

    @property
    def nats_per_token(self) -> float:
        """What candidates are ordered by."""
        return self.nats / max(1, self.tokens)


class Saying(ABC):
    """Rows that are being said: what could come next in each, and the rows that have one token more."""

    @abstractmethod
    def best(self, most: int) -> list[list[tuple[int, float]]]:
        """For each row its `most` likeliest next tokens and their log-probabilities, the likeliest first.

        Tokens that may not be said are left out; a row that has none left has ended.
        """

    @abstractmethod
    def extended(self, rows: Sequence[int], tokens: Sequence[int]) -> Saying:
        """Some of the rows (with repetitions, in any order), each with a token said after it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a text is over.

    Attributes:
        most_tokens: as many are generated at most, the end of sequence included.
        ends: tokens that end the sequence.
        stop: strings that end the text, which is cut before them.

    Raises:
        ModelError: not even one token, or an empty stop string.
    """

    most_tokens: int
    ends: frozenset[int] = frozenset()
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.most_tokens < 1:
            raise ModelError(
                f"at most {self.most_tokens} tokens are to be generated", mend="Give a number from 1 on (most_tokens)."
            )
        if isinstance(self.stop, str) or not all(self.stop):
            raise ModelError(
                f"{self.stop!r} cannot be the texts to stop at", mend='Give a sequence of texts, as in stop=["\\n\\n"].'
            )


def check_count(count: int, beams: int | None) -> int:
    """The beam's width for so many candidates.

    Raises:
        ModelError: no candidates are asked for, or more than there are beams.
    """
    beams = count if beams is None else beams
    if count < 1 or beams < count:
        raise ModelError(
            f"{count} candidates cannot be found with {beams} beams", mend="Give at least one, and as many beams."
        )
    return beams


def search(
    opened: Saying, rows: int, *, beams: int, limits: Limits, text_of: Callable[[int, Sequence[int]], str]
) -> list[list[Generated]]:
    """The candidates of each row, the best first.

    Args:
        opened: the rows before anything was said.
        rows: how many there are.
        beams: places of the beam; 1 is greedy.
        limits: when a text is over.
        text_of: row and generated tokens -> text; may read all of the tokens, since a token can hold part of a
            character, and more than a stop string.
    """
    live: list[list[_Path]] = [[_Path((), 0.0, place)] for place in range(rows)]
    found: list[dict[str, Generated]] = [{} for _ in range(rows)]
    saying = opened
    for length in range(1, limits.most_tokens + 1):
        best = saying.best(beams)
        chosen: list[list[_Path]] = []
        for row, paths in enumerate(live):
            for path in paths:
                if not best[path.place]:
                    _keep(found[row], Generated(text_of(row, path.ids), path.nats, len(path.ids), "end"))
            grown = [
                _Path((*path.ids, token), path.nats + nats, path.place)
                for path in paths
                for token, nats in best[path.place]
            ]
            # Stable: of two that are equal the one whose beginning was better.
            grown.sort(key=lambda path: -path.nats)
            chosen.append([])
            for path in grown[: max(0, beams - len(found[row]))]:
                over = _ended(row, path, length, limits, text_of)
                if over is None:
                    chosen[-1].append(path)
                else:
                    _keep(found[row], over)
        flat = [path for paths in chosen for path in paths]
        if not flat:
            break
        saying = saying.extended([path.place for path in flat], [path.ids[-1] for path in flat])
        place = iter(range(len(flat)))
        live = [[_Path(path.ids, path.nats, next(place)) for path in paths] for paths in chosen]
    return [sorted(texts.values(), key=lambda each: -each.nats_per_token) for texts in found]


@dataclass(frozen=True, slots=True)
class _Path:
    """What was said so far, and in which of the rows being said it stands."""

    ids: tuple[int, ...]
    nats: float
    place: int


def _ended(
    row: int, path: _Path, length: int, limits: Limits, text_of: Callable[[int, Sequence[int]], str]
) -> Generated | None:
    if path.ids[-1] in limits.ends:
        # No stop string can come to light now that was not seen before the end.
        return Generated(text_of(row, path.ids[:-1]), path.nats, length, "end")
    if limits.stop:
        text = text_of(row, path.ids)
        places = [place for place in map(text.find, limits.stop) if place >= 0]
        if places:
            return Generated(text[: min(places)], path.nats, length, "stop")
    if length == limits.most_tokens:
        return Generated(text_of(row, path.ids), path.nats, length, "length")
    return None


def _keep(found: dict[str, Generated], new: Generated) -> None:
    old = found.get(new.text)
    if old is None or new.nats_per_token > old.nats_per_token:
        found[new.text] = new
