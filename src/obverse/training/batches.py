"""From pairs to token log-probabilities with gradient, for an encoder-decoder.

Axes: C contexts, S given tokens, N rows, T said tokens, V vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from obverse.objectives.objectives import Pair


@dataclass(frozen=True, slots=True)
class TokenPairs:
    """Pairs as token ids: each distinct given text once, each row pointing to its own."""

    given: tuple[tuple[int, ...], ...]
    said: tuple[tuple[int, ...], ...]
    context: tuple[int, ...]
    gold: tuple[bool, ...]
    group: tuple[int, ...]


def tokenize(tokenizer, pairs: Sequence[Pair], *, given_limit: int, said_limit: int) -> TokenPairs:
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


def token_log_probs(
    model: nn.Module, pairs: TokenPairs, *, start: int, sink: int, contexts_at_once: int = 24
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
        rows = [row for c in chunk for row in rows_of[c]]
        owner = torch.tensor([i for i, c in enumerate(chunk) for _ in rows_of[c]], device=device)
        said_NT, said_mask_NT = pad([pairs.said[row] for row in rows], device)
        inputs_NT = torch.cat([torch.full((len(rows), 1), start, device=device), said_NT[:, :-1]], 1)
        states_NTH = model.decoder.bert(
            input_ids=inputs_NT,
            attention_mask=said_mask_NT,
            encoder_hidden_states=states_CSH[owner],
            encoder_attention_mask=given_mask_CS[owner],
            use_cache=False,
        ).last_hidden_state
        real = said_mask_NT.bool()
        hidden.append(states_NTH[real])
        targets.append(said_NT[real])
        row_NT = torch.tensor(rows, device=device)[:, None].expand_as(said_NT)
        time_NT = torch.arange(said_NT.shape[1], device=device)[None].expand_as(said_NT)
        places.append((row_NT * width + time_NT)[real])
    logits = model.decoder.cls(torch.cat(hidden))  # (said positions, V)
    target = torch.cat(targets)
    total = torch.logsumexp(logits, -1)
    place = torch.cat(places)
    flat = torch.zeros(len(pairs.said) * width, device=device)
    log_probs = flat.index_put((place,), logits.gather(1, target[:, None])[:, 0] - total)
    sinks = flat.index_put((place,), logits[:, sink] - total)
    mask = flat.index_fill(0, place, 1.0)
    shape = (len(pairs.said), width)
    return log_probs.view(shape), sinks.view(shape), mask.view(shape)
