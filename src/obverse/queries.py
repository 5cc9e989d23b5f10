"""The only words that tasks and models share: what is asked of a model, and what it answers."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Query:
    """How likely is `said` after `given`?

    Attributes:
        given: the text the model reads first; may be empty.
        said: the text whose probability is asked. White space that separates the two sides stands at the front of
            `said`: a causal model encodes `given + said` as one text, so a space moved to the other side would be
            another sequence of tokens. A model with two sides of its own (encoder-decoder) starts a fresh text there
            and drops that leading white space, except under the `lm-eval` preset.
        key: the asker's own mark, which no model looks at.
    """

    given: str
    said: str
    key: Hashable = None


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A model's answer to one `Query`.

    Attributes:
        nats: the sum of the natural-log probabilities of the said tokens (at most 0).
        tokens: how many tokens that sum runs over, a scored end-of-sequence token included.
        token_nats: the terms of the sum, in reading order.
        pieces: the text of each token, in the same order, as the tokenizer shows it; empty if not asked for.
        cut: how many tokens a hard limit took away (preset `reference` only; 0 elsewhere).
    """

    nats: float
    tokens: int
    token_nats: tuple[float, ...] = ()
    pieces: tuple[str, ...] = ()
    cut: int = 0
