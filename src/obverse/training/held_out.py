"""Scores on draws that training never sees: what chooses checkpoints, blend weights and temperatures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from obverse.objectives.objectives import Pair
from obverse.seeds import stream
from obverse.tasks.directions import Direction
from obverse.tasks.mixture import Draw, DrawSource
from obverse.training.batches import token_log_probs, tokenize
from obverse.training.trainer import Lengths


def fixed_draws(sources: Sequence[DrawSource], each: int, *, seed: int = 0) -> list[Draw]:
    """The same `each` draws of every source, at every call."""
    return [source.draw(stream(seed, "held out", source.name, i)) for source in sources for i in range(each)]


@torch.inference_mode()
def token_mean_scores(
    model: Any,
    tokenizer: Any,
    draws: Sequence[Draw],
    direction: Direction,
    lengths: Lengths,
    special: Mapping[str, int],
    *,
    at_once: int = 32,
) -> list[list[float]]:
    """Mean log-probability a token of every option of every draw, in nats."""
    model.eval()
    out: list[list[float]] = [[0.0] * len(draw.options) for draw in draws]
    order = sorted(range(len(draws)), key=lambda i: len(draws[i].rendering.text))
    for begin in range(0, len(order), at_once):
        chunk = order[begin : begin + at_once]
        owners = [(i, k) for i in chunk for k in range(len(draws[i].options))]
        pairs = [Pair(direction.query(draws[i].rendering, draws[i].options[k]), True, 0) for i, k in owners]
        tokens = tokenize(tokenizer, pairs, given_limit=lengths.given, said_limit=lengths.said)
        log_probs, _, mask = token_log_probs(model, tokens, start=special["start"], sink=special["sink"])
        for (i, k), score in zip(owners, ((log_probs * mask).sum(1) / mask.sum(1)).tolist(), strict=True):
            out[i][k] = score
    return out


def accuracy_by_task(draws: Sequence[Draw], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """Share of draws whose best option is the right one, a task."""
    hits: dict[str, list[bool]] = defaultdict(list)
    for draw, row in zip(draws, scores, strict=True):
        hits[draw.task].append(max(range(len(row)), key=row.__getitem__) == draw.gold)
    return {task: sum(h) / len(h) for task, h in hits.items()}


def chance_by_task(draws: Sequence[Draw]) -> dict[str, float]:
    """What guessing gets."""
    parts: dict[str, list[float]] = defaultdict(list)
    for draw in draws:
        parts[draw.task].append(1 / len(draw.options))
    return {task: sum(p) / len(p) for task, p in parts.items()}
