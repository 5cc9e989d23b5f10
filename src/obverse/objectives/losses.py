"""Losses over token log-probabilities. Axes: N rows (pairs), T said tokens, padded; `mask_NT` is 1 on real tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def token_mean(values_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Mean over each row's tokens, shape (N,)."""
    return (values_NT * mask_NT).sum(1) / mask_NT.sum(1).clamp(min=1)


def likelihood(log_probs_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Negative log-likelihood a token, averaged over each row's tokens; shape (N,)."""
    return -token_mean(log_probs_NT, mask_NT)


def unlikelihood(log_probs_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Mean over the said tokens of -log(1 - P(token) + 0.01); shape (N,). Flipped Learning, arXiv 2210.02969."""
    return -token_mean(torch.log1p(0.01 - log_probs_NT.exp()), mask_NT)


def sink(sink_log_probs_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """-log P(sink token) at every said position, averaged over each row; shape (N,).

    Trained on wrong pairs, so that the probability taken from a wrong label's instruction has a place to go. With
    plain unlikelihood it goes to every other text, and an instruction that was never seen becomes likelier under a
    wrong label than under the right one.
    """
    return -token_mean(sink_log_probs_NT, mask_NT)


def choice(scores_N: Tensor, group_N: Tensor, gold_N: Tensor) -> Tensor:
    """Cross-entropy of the right option among its group's, shape (groups,).

    Exactly what is compared at inference. `group_N` numbers the groups from 0; each has one row with `gold_N` true.
    """
    groups = int(group_N.max()) + 1
    top = scores_N.new_full((groups,), -torch.inf).scatter_reduce(0, group_N, scores_N.detach(), "amax")
    total = scores_N.new_zeros(groups).index_add(0, group_N, (scores_N - top[group_N]).exp())
    right = scores_N.new_zeros(groups).index_add(0, group_N[gold_N], scores_N[gold_N])
    # In this order: scores are sums of many nats, and their difference is small.
    return total.log() + (top - right)
