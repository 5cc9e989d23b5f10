"""A tiny exact model whose answers can be worked out by hand: for tests, documentation and timing, without torch."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from obverse.models.base import Conventions, LanguageModel, Progress, Window
from obverse.models.generation import Generated, Limits, Saying, check_count, search
from obverse.queries import Likelihood, Query

VOCABULARY = 1000
"""How many different words the model believes there are."""
ALPHA = 1
"""The count every word has before anything was read."""
_REPORT_EVERY = 4096


class CountingModel(LanguageModel):
    """Says again what it has read.

    A word is a run of characters between white space; upper and lower case count as one. With `n(w)` the number of
    times the word stood in what was read so far (the given text and the said words before it) and `N` the number of
    words read so far,

        P(w) = (n(w) + 1) / (N + 1000)

    which is add-one smoothing over a vocabulary of 1,000 words. There is no end-of-sequence token, and white space
    has no weight of its own. Given "good film", the said text "good" has P = 2 / 1002, "bad" has 1 / 1002, and
    "bad bad" has 1/1002 * 2/1003.

    It generates words it has read, for it knows no others by name, spelled as they stood there first; of two that are
    equally likely the one that was read earlier. Where nothing was read it says nothing.
    """

    family = "counting"

    def __init__(self) -> None:
        self.name = "counting"
        self.window = Window()
        self.conventions = Conventions()

    def log_likelihoods(
        self, queries: Sequence[Query], *, progress: Progress | None = None, pieces: bool = False
    ) -> list[Likelihood]:
        out: list[Likelihood] = []
        reported = 0
        for query in queries:
            token_nats = _token_nats(query.given, query.said)
            words = tuple(query.said.split()) if pieces else ()
            out.append(Likelihood(math.fsum(token_nats), len(token_nats), token_nats, words))
            if progress is not None and len(out) - reported == _REPORT_EVERY:
                progress(_REPORT_EVERY)
                reported = len(out)
        if progress is not None and len(out) > reported:
            progress(len(out) - reported)
        return out

    def candidates(
        self,
        prompts: Sequence[str],
        *,
        count: int,
        most_tokens: int,
        stop: Sequence[str] = (),
        begin_with: str = "",
        beams: int | None = None,
        progress: Progress | None = None,
    ) -> list[list[Generated]]:
        width = check_count(count, beams)
        limits = Limits(most_tokens, stop=stop)
        out = []
        for prompt in prompts:
            words = f"{prompt} {begin_with}".split()
            spellings = {word.casefold(): word for word in reversed(words)}
            known = list(dict.fromkeys(word.casefold() for word in words))
            counts = Counter(word.casefold() for word in words)
            opened = _Repeating([tuple(counts[word] for word in known)], len(words))

            def text_of(_: int, ids: Sequence[int], names: Sequence[str] = tuple(spellings[w] for w in known)) -> str:
                return " ".join(names[i] for i in ids)

            out.append(search(opened, 1, beams=width, limits=limits, text_of=text_of)[0][:count])
            if progress is not None:
                progress(1)
        return out

    def pieces(self, query: Query) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return tuple(query.given.split()), tuple(query.said.split())

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def digest(self) -> str:
        return hashlib.sha256(f"counting {VOCABULARY} {ALPHA}".encode()).hexdigest()[:16]


class _Repeating(Saying):
    """Words being repeated: how often each was read or said in each row; all rows are equally long."""

    def __init__(self, counts: Sequence[tuple[int, ...]], read: int) -> None:
        self._counts = counts
        self._read = read

    def best(self, most: int) -> list[list[tuple[int, float]]]:
        total = self._read + ALPHA * VOCABULARY
        out = []
        for counts in self._counts:
            order = sorted(range(len(counts)), key=lambda i: -counts[i])[:most]
            out.append([(i, math.log((counts[i] + ALPHA) / total)) for i in order])
        return out

    def extended(self, rows: Sequence[int], tokens: Sequence[int]) -> Saying:
        grown = []
        for row, token in zip(rows, tokens, strict=True):
            counts = self._counts[row]
            grown.append((*counts[:token], counts[token] + 1, *counts[token + 1 :]))
        return _Repeating(grown, self._read + 1)


@lru_cache(maxsize=1024)
def _counts(given: str) -> tuple[Counter[str], int]:
    words = given.casefold().split()
    return Counter(words), len(words)


def _token_nats(given: str, said: str) -> tuple[float, ...]:
    counts, read = _counts(given)
    repeated: dict[str, int] = {}
    out = []
    for word in said.casefold().split():
        before = repeated.get(word, 0)
        out.append(math.log((counts[word] + before + ALPHA) / (read + ALPHA * VOCABULARY)))
        repeated[word] = before + 1
        read += 1
    return tuple(out)
