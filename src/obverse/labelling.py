"""Label texts: the scoring road for any number of examples, from renderings to predictions.

ask (pure text) -> the model answers -> raw scores a term -> decide (pure numbers). The raw scores are what a run
stores; everything after them (calibration, temperature, prior, the smallest confidence) can be worked out again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from obverse.errors import MethodError, WindowError
from obverse.models.base import Conventions, LanguageModel
from obverse.queries import Likelihood, Query
from obverse.scoring import calibration
from obverse.scoring.scorers import NULL, PRIOR, Scorer
from obverse.tasks.demonstrations import DemonstrationSet, InContext, as_target, in_context
from obverse.tasks.directions import shorten
from obverse.tasks.examples import Example
from obverse.tasks.templates import Rendering, Template


@dataclass(frozen=True, slots=True)
class RowScores:
    """The raw numbers of one example.

    Attributes:
        terms: term -> one number an option.
        shortened: characters cut from its input to fit the window.
        lost: tokens that the `reference` truncation cut away, options together.
        dropped: demonstrations that the window had no room for.
    """

    terms: Mapping[str, tuple[float, ...]]
    shortened: int = 0
    lost: int = 0
    dropped: int = 0


def make_scorer(
    conventions: Conventions,
    *,
    method: str | None = None,
    length_rule: str | None = None,
    temperature: float | None = None,
) -> Scorer:
    """The scorer for a model, its own defaults filled in.

    Args:
        method: None takes the model's.
        length_rule: for every term; None takes the model's, else `sum`.
        temperature: None takes the one kept with the model for this method and these rules, else 1.
    """
    method = method or conventions.method
    rules = dict(conventions.length_rules)
    if length_rule is not None:
        rules = dict.fromkeys(("direct", "channel", "flipped"), length_rule)
    weights: Mapping[str, float] = conventions.blend if method == "blend" else MappingProxyType({})
    scorer = Scorer(method, MappingProxyType(rules), 1.0, weights, conventions.slots)
    if temperature is None:
        temperature = conventions.temperatures.get(temperature_key(scorer), 1.0)
    return replace(scorer, temperature=temperature)


def temperature_key(scorer: Scorer) -> str:
    """Under which name a model keeps the temperature of a scorer: method and the rules that change its scale."""
    rules = sorted({scorer.rule(term) for term in scorer.terms if term != PRIOR})
    return f"{scorer.method}/{'+'.join(rules)}" if rules else scorer.method


class Labeller:
    """A model with a scorer and a template.

    Args:
        remember: how many answers to content-free and input-free queries are kept between calls.
        demonstrations: context of every query; where the window is too small for a row, as many as it has room for.
    """

    def __init__(
        self,
        model: LanguageModel,
        scorer: Scorer,
        template: Template,
        *,
        remember: int = 4096,
        demonstrations: DemonstrationSet | None = None,
    ) -> None:
        self.model = model
        self.scorer = scorer
        self.template = template if demonstrations is None else as_target(template)
        self.demonstrations = demonstrations
        self._remember = remember
        self._known: OrderedDict[tuple[str, str], Likelihood] = OrderedDict()

    def score(
        self,
        examples: Sequence[Example],
        options: Sequence[Sequence[str]],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[RowScores]:
        """Raw scores of each example over its own options, all in one call to the model.

        Raises:
            TemplateError: an example does not render.
            WindowError: instruction and options alone do not fit the model's window.
        """
        shown = [self._in_context(self.template.render(e), o) for e, o in zip(examples, options, strict=True)]
        fitted = [
            self.fit(each.rendering, o, where=e.where) for each, e, o in zip(shown, examples, options, strict=True)
        ]
        rows = self.score_renderings([f[0] for f in fitted], options, [f[1] for f in fitted], progress=progress)
        return [replace(row, dropped=each.dropped) for row, each in zip(rows, shown, strict=True)]

    def score_renderings(
        self,
        renderings: Sequence[Rendering],
        options: Sequence[Sequence[str]],
        shortened: Sequence[int] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[RowScores]:
        """As `score`, for prompts that are rendered already."""
        queries: list[Query] = []
        for rendering, names in zip(renderings, options, strict=True):
            for term in self.scorer.terms:
                if term != PRIOR:
                    queries.extend(self.scorer.ask(rendering, names, term))
        answers = self._answers(queries, progress)
        similar: list[list[float]] = []
        if PRIOR in self.scorer.terms:
            similar = self.model.similarities([r.input_text for r in renderings], options)
        rows, position = [], 0
        for i, names in enumerate(options):
            terms: dict[str, tuple[float, ...]] = {}
            lost = 0
            for term in self.scorer.terms:
                if term == PRIOR:
                    terms[term] = tuple(similar[i])
                    continue
                asked = queries[position : position + len(names)]
                answered = answers[position : position + len(names)]
                position += len(names)
                lost += sum(a.cut for a in answered)
                terms[term] = tuple(self.scorer.reduce(asked, answered, term))
            rows.append(RowScores(terms, shortened[i] if shortened else 0, lost))
        return rows

    def _answers(self, queries: Sequence[Query], progress: Callable[[int], None] | None) -> list[Likelihood]:
        """The model's answers; those that depend on no input are asked once and remembered."""
        if NULL not in self.scorer.terms:
            return self.model.log_likelihoods(queries, progress=progress)
        unknown = [q for q in queries if (q.given, q.said) not in self._known]
        fresh = self.model.log_likelihoods(unknown, progress=progress)
        if progress is not None and len(unknown) < len(queries):
            progress(len(queries) - len(unknown))
        now = dict(zip(((q.given, q.said) for q in unknown), fresh, strict=True))
        answers = [now.get((q.given, q.said)) or self._known[q.given, q.said] for q in queries]
        # Only what comes back for every text is worth keeping: the queries without an input.
        counts: dict[tuple[str, str], int] = {}
        for q in queries:
            counts[q.given, q.said] = counts.get((q.given, q.said), 0) + 1
        for key, answer in now.items():
            if counts[key] > 1:
                self._known[key] = answer
        while len(self._known) > self._remember:
            self._known.popitem(last=False)
        return answers

    def fit(self, rendering: Rendering, options: Sequence[str], *, where: str = "") -> tuple[Rendering, int]:
        """The rendering with its longest input shortened until every query about it fits the window.

        The same text is then asked about every option, so a long option does not cost its own text words.

        Returns:
            The rendering and the number of characters taken away.

        Raises:
            WindowError: it does not fit with all inputs blank.
        """
        window = self.model.window
        limits = [limit for limit in (window.given, window.said, window.joint) if limit is not None]
        if not limits or self.model.conventions.truncation == "reference":
            return rendering, 0
        cut = 0
        for _ in range(40):
            excess = self._overrun(rendering, options)
            if excess <= 0:
                return rendering, cut
            inputs = [s.text for s in rendering.segments if s.is_input]
            left = max((len(text) for text in inputs), default=0)
            if not left:
                break
            text = max(inputs, key=len)
            characters = max(1, len(text) / max(1, self.model.count_tokens(text)))
            before = sum(map(len, inputs))
            rendering = shorten(rendering, min(left, int(excess * characters) + 1))
            cut += before - sum(len(s.text) for s in rendering.segments if s.is_input)
        raise WindowError(
            f"instruction and labels alone are {excess} tokens too long for the model's window of {min(limits)}",
            where=where or None,
            mend="Shorten the instruction or the labels' descriptions, or take a model with a larger window.",
        )

    def _in_context(self, rendering: Rendering, options: Sequence[str]) -> InContext:
        if self.demonstrations is None:
            return InContext(rendering, 0)
        return in_context(rendering, self.demonstrations, fits=lambda each: self._overrun(each, options) <= 0)

    def _overrun(self, rendering: Rendering, options: Sequence[str]) -> int:
        """By how many tokens the longest query is over the window (0 or less: it fits)."""
        window = self.model.window
        limits = [limit for limit in (window.given, window.said, window.joint) if limit is not None]
        # A token is at least a byte of text, so a query of few bytes fits without being tokenised; 64 bytes stand for
        # the format's own words, 32 for a slot's mark on both sides.
        most = sum(_bytes(s.text) + 32 for s in rendering.segments) + max(map(_bytes, options)) + 64
        if not limits or most + _bytes(rendering.context) <= min(limits):
            return 0
        directions = [t for t in self.scorer.terms if t not in (PRIOR, NULL)]
        return max((self._excess(rendering, options, d) for d in directions), default=0)

    def _excess(self, rendering: Rendering, options: Sequence[str], term: str) -> int:
        """By how many tokens the longest query of a term is over the window (0 or less: it fits)."""
        window, count = self.model.window, self.model.count_tokens
        worst = -(10**9)
        by_tokens = max(options, key=count)
        query = self.scorer.ask(rendering, [by_tokens], term)[0]
        given, said = count(query.given), count(query.said)
        if window.given is not None:
            worst = max(worst, given - window.given)
        if window.said is not None:
            worst = max(worst, said - window.said)
        if window.joint is not None:
            worst = max(worst, count(query.given + query.said) - window.joint)
        return worst

    def content_free(self, example: Example, options: Sequence[str], *, of_logs: bool = False) -> NDArray[np.float64]:
        """The contextual bias of each option: `example`'s instruction over content-free inputs."""
        rendering = self.template.render(example)
        blank = [rendering.with_inputs(text) for text in calibration.CONTENT_FREE]
        renderings = [self._in_context(each, options).rendering for each in blank]
        rows = self.score_renderings(renderings, [tuple(options)] * len(renderings))
        return calibration.bias(np.stack([self.scorer.log_probabilities(row.terms) for row in rows]), of_logs=of_logs)

    def explain(self, example: Example, options: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
        """Which said tokens spoke for which option.

        Uses the flipped direction, where all options say the same text, so that token by token their
        log-probabilities can be compared.

        Returns:
            The tokens, and their log-probabilities, shape (options, tokens).

        Raises:
            MethodError: options whose said sides differ (cannot happen in the flipped direction).
        """
        scorer = Scorer("flipped", slots=self.scorer.slots)
        flipped = Labeller(self.model, scorer, self.template, demonstrations=self.demonstrations)
        shown = flipped._in_context(self.template.render(example), options)
        rendering, _ = flipped.fit(shown.rendering, options, where=example.where)
        answers = self.model.log_likelihoods(scorer.ask(rendering, options, "flipped"), pieces=True)
        pieces = answers[0].pieces
        if any(a.pieces != pieces for a in answers):
            raise MethodError("the options do not share one instruction, so tokens cannot be compared")
        return list(pieces), np.array([a.token_nats for a in answers])


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
