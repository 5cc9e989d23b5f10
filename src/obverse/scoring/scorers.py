"""Scorers: what is asked about each option, and the score that is made of the answers.

===========  ================================================  ==========================================
method       score of option l                                 source
===========  ================================================  ==========================================
direct       log P(l | I, x)                                   T0, arXiv 2110.08207
channel      log P(I, x | l)                                   arXiv 2108.04106
flipped      log P(I | x, l)                                   arXiv 2210.02969
pmi          log P(l | I, x) - log P(l | I, no input)          arXiv 2104.08315
product      log P(l | I, x) + w log P(I | x, l), w = 1,       coder-reviewer, arXiv 2211.16490
             each normalised over the options first
blend        the same with the weights kept with the model,    this project
             plus w_p cos(x, l) from its sentence encoder
===========  ================================================  ==========================================

`cos(x, l)` takes the place of log P(l | x) in Bayes' rule, P(l | I, x) = P(I | x, l) P(l | x) / .., which the flipped
method leaves uniform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from obverse.errors import MethodError, nearest
from obverse.queries import Likelihood, Query
from obverse.tasks.directions import Direction, direction
from obverse.tasks.templates import Rendering

METHODS = ("direct", "channel", "flipped", "pmi", "product", "blend")
LENGTH_RULES = ("sum", "token", "byte")
PRIOR = "prior"
NULL = "null"

_TERMS = {
    "direct": ("direct",),
    "channel": ("channel",),
    "flipped": ("flipped",),
    "pmi": ("direct", NULL),
    "product": ("direct", "flipped"),
}


def by_length(likelihood: Likelihood, said: str, rule: str) -> float:
    """A likelihood in nats, nats a token, or nats a byte (UTF-8, outer white space not counted)."""
    if rule == "sum":
        return likelihood.nats
    if rule == "token":
        return likelihood.nats / max(1, likelihood.tokens)
    return likelihood.nats / max(1, len(said.strip().encode("utf-8", "surrogatepass")))


def log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis."""
    top = scores.max(-1, keepdims=True)
    shifted = scores - top
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


@dataclass(frozen=True)
class Scorer:
    """One method with its settings.

    Attributes:
        method: one of `METHODS`.
        length_rules: term -> length rule.
        temperature: the softmax over options is taken of score / temperature.
        weights: term -> weight, for product and blend.
        slots: `sentinels` or `numbered`, as the model wants them.

    Raises:
        MethodError: unknown method or rule, or a blend without weights.
    """

    method: str
    length_rules: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    temperature: float = 1.0
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    slots: str = "numbered"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise MethodError(f"unknown method {self.method!r}", where="--method", mend=nearest(self.method, METHODS))
        for rule in self.length_rules.values():
            if rule not in LENGTH_RULES:
                raise MethodError(
                    f"unknown length rule {rule!r}", where="--length-rule", mend=nearest(rule, LENGTH_RULES)
                )
        if not self.temperature > 0:
            raise MethodError(f"the temperature is {self.temperature}; it must be above 0")
        if self.method == "blend" and not self.weights:
            raise MethodError(
                "this model keeps no blend weights",
                where="--method",
                mend="Use direct, channel, flipped, pmi or product.",
            )

    @property
    def terms(self) -> tuple[str, ...]:
        """What must be known about each option: directions, `null` (direct without the input), `prior`."""
        if self.method == "blend":
            return tuple(term for term, weight in self.weights.items() if weight)
        return _TERMS[self.method]

    def rule(self, term: str) -> str:
        """The length rule of a term; pmi's two halves must share one."""
        return self.length_rules.get("direct" if term == NULL else term, "sum")

    def direction(self, term: str) -> Direction:
        """The direction that a term asks in."""
        return direction("direct" if term == NULL else term, slots=self.slots)

    def ask(self, rendering: Rendering, options: Sequence[str], term: str) -> list[Query]:
        """The queries of one term (not `prior`, which no query answers), one an option, in order."""
        about = rendering.without_input() if term == NULL else rendering
        asked = self.direction(term)
        return [asked.query(about, option) for option in options]

    def reduce(self, queries: Sequence[Query], likelihoods: Sequence[Likelihood], term: str) -> list[float]:
        """One number an option: the term under its length rule."""
        rule = self.rule(term)
        return [by_length(answer, query.said, rule) for query, answer in zip(queries, likelihoods, strict=True)]

    def score(self, terms: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
        """The score of each option, shape (K,).

        Raises:
            MethodError: a term is not a number, which means the model's weights are broken.
        """
        table = {name: np.asarray(values, dtype=np.float64) for name, values in terms.items()}
        for name, values in table.items():
            if not np.isfinite(values).all():
                raise MethodError(
                    f"the model's {name} scores are not finite numbers ({values.tolist()})",
                    mend="The weights may be damaged, or the number type too small (T5 needs fp32 or bf16).",
                )
        if self.method in ("direct", "channel", "flipped"):
            return table[self.method]
        if self.method == "pmi":
            return table["direct"] - table[NULL]
        if self.method == "product":
            return log_softmax(table["direct"]) + self.weights.get("flipped", 1.0) * log_softmax(table["flipped"])
        total = np.zeros_like(next(iter(table.values())))
        for name in self.terms:
            values = table[name] if name == PRIOR else log_softmax(table[name])
            total = total + self.weights[name] * values
        return total

    def log_probabilities(self, terms: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
        """log softmax(score / temperature), shape (K,)."""
        return log_softmax(self.score(terms) / self.temperature)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was decided about one text.

    Attributes:
        index: the chosen option, or None where none was chosen.
        probabilities: one an option; empty where nothing was asked (a blank text that was skipped).
        confidence: the chosen option's probability; 0 where nothing was asked.
        tie: whether another option had exactly the same score (the first is taken).
        reason: why no option was chosen, else empty.
    """

    index: int | None
    probabilities: tuple[float, ...]
    confidence: float
    tie: bool = False
    reason: str = ""


def decide(log_probabilities: NDArray[np.float64], *, min_confidence: float = 0.0) -> Prediction:
    """The most probable option, first among equals; none where its probability is below `min_confidence`."""
    best = int(np.argmax(log_probabilities))
    probabilities = np.exp(log_probabilities)
    tie = bool((log_probabilities == log_probabilities[best]).sum() > 1)
    confidence = float(probabilities[best])
    values = tuple(float(p) for p in probabilities)
    if confidence < min_confidence:
        return Prediction(None, values, confidence, tie, f"confidence {confidence:.3f} below {min_confidence:g}")
    return Prediction(best, values, confidence, tie)
