"""From pairs to token log-probabilities with gradient, for an encoder-decoder.

Axes: C contexts, S given tokens, N rows, T said tokens, V vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from obverse.objectives.objectives import Pair


@dataclass(frozen=True, slots=True)
class TokenPairs:
    """Pairs as token ids: each distinct given text once, each row pointing to its own."""

    given: tuple[tuple[int, ...], ...]
    said: tuple[tuple[int, ...], ...]
    context: tuple[int, ...]
    gold: tuple[bool, ...]
    group: tuple[int, ...]


def tokenize(tokenizer: Any, pairs: Sequence[Pair], *, given_limit: int, said_limit: int) -> TokenPairs:
    """Token ids of both sides, special tokens included; the input's end is cut where a side is too long.

    On the given side the cut is made before the last `given_limit // 2` tokens, so that a label or an instruction
    behind the input survives.
    """
    contexts: dict[str, int] = {}
    for pair in pairs:
        contexts.setdefault(pair.query.given, len(contexts))
    given = tokenizer(list(contexts), add_special_tokens=True)["input_ids"]
    said = tokenizer([pair.query.said.lstrip() for pair in pairs], add_special_tokens=False)["input_ids"]
    tail = given_limit // 2
    cut = [ids if len(ids) <= given_limit else ids[: given_limit - tail] + ids[-tail:] for ids in given]
    end = tokenizer.sep_token_id
    return TokenPairs(
        tuple(tuple(ids) for ids in cut),
        tuple((*ids[: said_limit - 1], end) for ids in said),
        tuple(contexts[pair.query.given] for pair in pairs),
        tuple(pair.gold for pair in pairs),
        tuple(pair.group for pair in pairs),
    )


def pad(rows: Sequence[Sequence[int]], device: torch.device, value: int = 0) -> tuple[Tensor, Tensor]:
    """Rows as one tensor and its mask."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), value, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids.to(device), mask.to(device)


@dataclass(frozen=True, slots=True)
class Packed:
    """All that is said about each context, end to end in one decoder row.

    Each text sees itself alone and counts its positions from 0, so the numbers are those of separate rows, but the
    keys and values of the cross-attention are computed once a context. Real positions stand in reading order.
    """

    inputs_CT: Tensor
    targets_CT: Tensor
    positions_CT: Tensor
    mask_C1TT: Tensor
    real_CT: Tensor


def pack(texts: Sequence[Sequence[Sequence[int]]], start: int, device: torch.device) -> Packed:
    """Pack the said texts of each context; every text is led by `start` and ends before its last token."""
    width = max(sum(map(len, said)) for said in texts)
    inputs_CT = torch.zeros((len(texts), width), dtype=torch.long)
    targets_CT = torch.zeros_like(inputs_CT)
    positions_CT = torch.zeros_like(inputs_CT)
    real_CT = torch.zeros((len(texts), width), dtype=torch.bool)
    allowed_CTT = torch.eye(width, dtype=torch.bool).repeat(len(texts), 1, 1)  # padding sees itself: no empty softmax
    for c, said in enumerate(texts):
        at = 0
        for ids in said:
            to = at + len(ids)
            inputs_CT[c, at:to] = torch.tensor([start, *ids[:-1]])
            targets_CT[c, at:to] = torch.tensor(ids)
            positions_CT[c, at:to] = torch.arange(len(ids))
            allowed_CTT[c, at:to, at:to] = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
            real_CT[c, at:to] = True
            at = to
    mask_CTT = torch.zeros(allowed_CTT.shape).masked_fill_(~allowed_CTT, torch.finfo(torch.float32).min)
    return Packed(
        inputs_CT.to(device),
        targets_CT.to(device),
        positions_CT.to(device),
        mask_CTT[:, None].to(device),
        real_CT.to(device),
    )


def token_log_probs(
    model: Any, pairs: TokenPairs, *, start: int, sink: int, contexts_at_once: int = 24
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of said tokens, of the sink token in their places, and the mask; each (N, T).

    Contexts are taken in order of length and in small groups, so that little is computed on padding.
    """
    rows_of: list[list[int]] = [[] for _ in pairs.given]
    for row, context in enumerate(pairs.context):
        rows_of[context].append(row)
    device = next(model.parameters()).device
    order = sorted(
        range(len(pairs.given)), key=lambda c: (len(pairs.given[c]), max(len(pairs.said[r]) for r in rows_of[c]))
    )
    width = max(len(said) for said in pairs.said)
    hidden, targets, places = [], [], []
    for begin in range(0, len(order), contexts_at_once):
        chunk = order[begin : begin + contexts_at_once]
        given_CS, given_mask_CS = pad([pairs.given[c] for c in chunk], device)
        states_CSH = model.encoder(input_ids=given_CS, attention_mask=given_mask_CS).last_hidden_state
        packed = pack([[pairs.said[row] for row in rows_of[c]] for c in chunk], start, device)
        states_CTH = model.decoder.bert(
            input_ids=packed.inputs_CT,
            position_ids=packed.positions_CT,
            attention_mask=packed.mask_C1TT,
            encoder_hidden_states=states_CSH,
            encoder_attention_mask=given_mask_CS,
            use_cache=False,
        ).last_hidden_state
        hidden.append(states_CTH[packed.real_CT])
        targets.append(packed.targets_CT[packed.real_CT])
        places += [row * width + t for c in chunk for row in rows_of[c] for t in range(len(pairs.said[row]))]
    logits = model.decoder.cls(torch.cat(hidden))  # (said positions, V)
    target = torch.cat(targets)
    total = torch.logsumexp(logits, -1)
    place = torch.tensor(places, device=device)
    flat = torch.zeros(len(pairs.said) * width, device=device)
    log_probs = flat.index_put((place,), logits.gather(1, target[:, None])[:, 0] - total)
    sinks = flat.index_put((place,), logits[:, sink] - total)
    mask = flat.index_fill(0, place, 1.0)
    shape = (len(pairs.said), width)
    return log_probs.view(shape), sinks.view(shape), mask.view(shape)
