"""Objectives: which pairs of a draw are asked, and how their token log-probabilities become a loss."""

from __future__ import annotations

import random as python_random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obverse.queries import Query
from obverse.tasks.directions import Direction
from obverse.tasks.mixture import Draw

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Pair:
    """A query about a right (`gold`) or a wrong option; pairs of one draw share a `group`."""

    query: Query
    gold: bool
    group: int
    option: int = 0


@dataclass(frozen=True, slots=True)
class Objective:
    """A weighted sum of losses in one direction.

    The published objectives are settings of it: direct and channel, `likelihood=1` alone; flipped, `likelihood=1,
    unlikelihood=3, negatives=1` (arXiv 2210.02969).

    Attributes:
        direction: what is said given what.
        negatives: wrong options drawn for each draw (fewer where there are fewer).
        likelihood: weight of the negative log-likelihood of right pairs.
        unlikelihood: weight of the unlikelihood of wrong pairs.
        sink: weight of the sink token's negative log-likelihood on wrong pairs.
        choice: weight of the cross-entropy over the draw's options.
        choice_scale: factor on the scores inside `choice`.
        choice_mean: score options by the mean over tokens instead of the sum.
        weight: factor on the whole.
    """

    direction: Direction
    negatives: int = 1
    likelihood: float = 1.0
    unlikelihood: float = 0.0
    sink: float = 0.0
    choice: float = 0.0
    choice_scale: float = 1.0
    choice_mean: bool = False
    weight: float = 1.0

    def pairs(self, draw: Draw, group: int, random: python_random.Random) -> list[Pair]:
        """The right pair first, then the wrong ones."""
        wrong = [i for i in range(len(draw.options)) if i != draw.gold]
        random.shuffle(wrong)
        return [
            Pair(self.direction.query(draw.rendering, draw.options[i]), i == draw.gold, group, i)
            for i in [draw.gold, *wrong[: self.negatives]]
        ]

    def loss(
        self,
        log_probs_NT: Tensor,
        sink_log_probs_NT: Tensor,
        mask_NT: Tensor,
        gold_N: Tensor,
        group_N: Tensor,
        prior_N: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Each weighted term's mean, by name; their sum is the loss.

        Likelihood runs over right pairs, unlikelihood and sink over wrong ones, choice over groups.

        Args:
            prior_N: what is known about each option beforehand, in nats; added to the scores inside `choice`, so that
                the model learns what the prior does not know. Its scale is the user's.
        """
        from obverse.objectives import losses

        terms: dict[str, Tensor] = {}
        wrong_N = ~gold_N
        if self.likelihood:
            terms["likelihood"] = self.likelihood * losses.likelihood(log_probs_NT[gold_N], mask_NT[gold_N]).mean()
        if self.unlikelihood and bool(wrong_N.any()):
            terms["unlikelihood"] = (
                self.unlikelihood * losses.unlikelihood(log_probs_NT[wrong_N], mask_NT[wrong_N]).mean()
            )
        if self.sink and bool(wrong_N.any()):
            terms["sink"] = self.sink * losses.sink(sink_log_probs_NT[wrong_N], mask_NT[wrong_N]).mean()
        if self.choice:
            scores_N = losses.token_mean(log_probs_NT, mask_NT) if self.choice_mean else (log_probs_NT * mask_NT).sum(1)
            scores_N = scores_N * self.choice_scale
            if prior_N is not None:
                scores_N = scores_N + prior_N
            terms["choice"] = self.choice * losses.choice(scores_N, group_N, gold_N).mean()
        return {name: self.weight * term for name, term in terms.items()}
