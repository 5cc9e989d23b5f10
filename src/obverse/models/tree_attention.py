"""Attention along a tree: many texts in one row of tokens, none of them padded, each token seeing its own ancestors.

The groups of a batch stand one after another in a single row. Everything in a network but attention works on tokens one
by one and does not notice. Attention is computed a part at a time and put together by the logarithms of the parts'
sums, as flash attention does it with blocks: first the tokens of the group itself, then each stored beginning, whose
keys and values are never copied, however many groups look at them.

Axes: T tokens of the batch, B groups of one shape, H heads, K heads of keys and values (H is a multiple of it), S
places of a group, F places of a stored beginning, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from obverse.models.prefix_tree import Group, Stored

NAME = "obverse_tree"
"""Under which the attention is known to transformers."""


@dataclass(frozen=True, slots=True)
class Span:
    """Groups of one shape, side by side.

    Attributes:
        start: their first place in the row.
        count: B.
        length: S.
        mask_SS: what is added to the scores, 0 or minus infinity; None where each place sees all in front of it.
    """

    start: int
    count: int
    length: int
    mask_SS: Tensor | None

    @property
    def stop(self) -> int:
        return self.start + self.count * self.length


@dataclass(frozen=True, slots=True)
class Reach:
    """Places that all see the same stored beginnings."""

    start: int
    stop: int
    path: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A batch as one row.

    Attributes:
        ids_T: token ids.
        positions_T: how many tokens each one has in front of it in its own text.
        starts: where each group begins.
    """

    ids_T: Tensor
    positions_T: Tensor
    starts: tuple[int, ...]
    spans: tuple[Span, ...]
    reaches: tuple[Reach, ...]
    keeps: tuple[tuple[int, int, Stored], ...]


def lay_out(batch: Sequence[Group], device: torch.device, dtype: torch.dtype) -> Layout:
    """The row of a batch.

    Args:
        dtype: of the network's scores, which masks are added to.
    """
    ids: list[int] = []
    positions: list[int] = []
    starts: list[int] = []
    keeps: list[tuple[int, int, Stored]] = []
    for group in batch:
        starts.append(len(ids))
        before = sum(len(each.tokens) for each in group.behind.path) if group.behind is not None else 0
        ends: list[int] = []
        for run in group.runs:
            first = before if run.parent < 0 else ends[run.parent]
            ends.append(first + len(run.tokens))
            ids.extend(run.tokens)
            positions.extend(range(first, ends[-1]))
        if group.keep is not None:
            keeps.append((starts[-1], len(ids), group.keep))
    stops = [*starts[1:], len(ids)]
    spans = []
    for shape, alike in groupby(range(len(batch)), key=lambda i: batch[i].shape):
        members = list(alike)
        length = sum(tokens for tokens, _ in shape)
        mask_SS = None if len(shape) == 1 else visible(shape, dtype).to(device)
        spans.append(Span(starts[members[0]], len(members), length, mask_SS))
    reaches = []
    for _, alike in groupby(range(len(batch)), key=lambda i: id(batch[i].behind)):
        members = list(alike)
        behind = batch[members[0]].behind
        if behind is not None:
            reaches.append(Reach(starts[members[0]], stops[members[-1]], behind.path))
    return Layout(
        torch.tensor(ids, dtype=torch.long, device=device),
        torch.tensor(positions, dtype=torch.long, device=device),
        tuple(starts),
        tuple(spans),
        tuple(reaches),
        tuple(keeps),
    )


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    tree: Layout | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention in the form that transformers asks for, over a row that a `Layout` describes.

    Args:
        module: the attention layer; its `layer_idx` says whose keys and values a stored beginning takes.
        query: (1, H, T, D).
        key, value: (1, K, T, D).
        tree: the row. It is handed through the network's own forward.

    Returns:
        (1, T, H, D), and no weights.

    Raises:
        NotImplementedError: the layer bends its scores in a way that the parts cannot be put together again from.
    """
    if tree is None or any(each is not None for each in (attention_mask, softcap, s_aux, position_bias)):
        raise NotImplementedError("scores of this layer are changed on their way")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    for start, stop, stored in tree.keeps:
        if stored.payload is None:
            stored.payload = {}
        stored.payload[module.layer_idx] = (key[:, :, start:stop].clone(), value[:, :, start:stop].clone())
    out_HTD, sums_HT = torch.empty_like(query[0]), None
    if tree.reaches:
        sums_HT = torch.empty(query.shape[1:3], dtype=torch.float32, device=query.device)
    for span in tree.spans:
        own_BHSD, sums_BHS = _part(
            _cut(query, span), _cut(key, span), _cut(value, span), scale, span.mask_SS, causal=span.mask_SS is None
        )
        _joined(out_HTD, span).copy_(own_BHSD)
        if sums_HT is not None:
            _joined(sums_HT[..., None], span).copy_(sums_BHS[..., None])
    for reach in tree.reaches:
        assert sums_HT is not None
        part = slice(reach.start, reach.stop)
        for stored in reach.path:
            stored_key, stored_value = stored.payload[module.layer_idx]
            far_BHSD, far_BHS = _part(query[:, :, part], stored_key, stored_value, scale, None, causal=False)
            _merge(out_HTD[:, part], sums_HT[:, part], far_BHSD[0], far_BHS[0])
    return out_HTD.transpose(0, 1)[None], None


def shortened(stored: Stored, length: int) -> Stored:
    """The first tokens of something stored, with no copy made."""
    payload = {layer: (key[:, :, :length], value[:, :, :length]) for layer, (key, value) in stored.payload.items()}
    return Stored(stored.tokens[:length], stored.behind, payload)


def _part(
    query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """Attention to some of the places: the outputs (B, H, S, D), and the logarithms of their sums (B, H, S), fp32."""
    rows, heads, length, width = query.shape
    kept = key.shape[1]
    if heads != kept and mask is None and not causal:
        # Heads that look at the same keys are more places of one head, so that a stored beginning is not repeated.
        out, sums = _part(query.reshape(rows, kept, -1, width), key, value, scale, None, causal=False)
        return out.reshape(rows, heads, length, -1), sums.reshape(rows, heads, length)
    if heads != kept:
        key, value = (each.repeat_interleave(heads // kept, dim=1) for each in (key, value))
    if query.device.type == "cpu":
        added = None if mask is None else mask[None, None].to(query.dtype)
        out, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query,
            key,
            value,
            0.0,
            causal,
            attn_mask=added,
            scale=scale,
        )
        return out, sums
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if causal:
        places = torch.arange(query.shape[2], device=query.device)
        scores = scores.masked_fill(places[:, None] < places[None, :], -torch.inf)
    elif mask is not None:
        scores = scores + mask
    sums = torch.logsumexp(scores, dim=-1)
    return (scores - sums[..., None]).exp().to(value.dtype) @ value, sums


def _merge(out_HTD: Tensor, sums_HT: Tensor, more_HTD: Tensor, more_HT: Tensor) -> None:
    """Add a part to those computed before, in place."""
    total_HT = torch.logaddexp(sums_HT, more_HT)
    out_HTD.mul_((sums_HT - total_HT).exp()[..., None]).add_(more_HTD * (more_HT - total_HT).exp()[..., None])
    sums_HT.copy_(total_HT)


def _cut(each: Tensor, span: Span) -> Tensor:
    """The span's part of (1, H, T, D) as (B, H, S, D)."""
    return _joined(each[0], span)


def _joined(each_HTD: Tensor, span: Span) -> Tensor:
    heads, _, width = each_HTD.shape
    part = each_HTD[:, span.start : span.stop]
    return part.view(heads, span.count, span.length, width).transpose(0, 1)


def visible(shape: Sequence[tuple[int, int]], dtype: torch.dtype) -> Tensor:
    """Which places of a group see which: (S, S), 0 where one sees the other and minus infinity elsewhere."""
    size = sum(length for length, _ in shape)
    mask_SS = torch.full((size, size), -torch.inf, dtype=dtype)
    starts: list[int] = []
    place = 0
    for length, parent in shape:
        starts.append(place)
        rows = mask_SS[place : place + length]
        rows[:, place : place + length] = torch.full((length, length), -torch.inf, dtype=dtype).triu(1)
        if parent >= 0:
            # What the last token of the run before sees, all of this one sees.
            rows[:, :place] = mask_SS[starts[parent] + shape[parent][0] - 1, :place]
        place += length
    return mask_SS
