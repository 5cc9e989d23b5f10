"""What a decoder says about several contexts at once: a row a context, in which all its said texts are a tree.

A token of a row sees its own ancestors, and across to the row's context, whose keys and values are so computed once for
all that is said about it, and never copied. The network's own attention does this under a mask of four axes; what a
class knows of positions has to be told it (`Network.decode_tree`).

Axes: B rows, S places of a row, U different shapes of rows, G positions of a context, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from obverse.models.prefix_tree import Ask, Group
from obverse.models.tree_attention import visible


@dataclass(frozen=True, slots=True)
class DecoderRows:
    """Rows as a decoder reads them.

    Attributes:
        ids_BS: token ids.
        positions_US: how many tokens each place has in front of it in its own text.
        mask_USS: 0 where one place sees another and minus infinity elsewhere.
        shape_of_B: each row's place among the shapes.
        is_line: whether every row is a single text, which a decoder reads right without mask and positions.
        asked: for each row, the places in the flat row of all (b * S + s) with what is asked there.
    """

    ids_BS: Tensor
    positions_US: Tensor
    mask_USS: Tensor
    shape_of_B: Tensor
    is_line: bool
    asked: tuple[tuple[tuple[int, Ask], ...], ...]


def decoder_rows(groups: Sequence[Group], fill: int, device: torch.device, dtype: torch.dtype) -> DecoderRows:
    """Groups that begin their texts, one a row, padded to the longest.

    Args:
        fill: the id that stands where nothing is read.
        dtype: of the network's scores.
    """
    width = max(group.length for group in groups)
    shapes = {shape: i for i, shape in enumerate(dict.fromkeys(group.shape for group in groups))}
    mask_USS = torch.full((len(shapes), width, width), -torch.inf, dtype=dtype)
    # Padding sees itself, for a place that sees nothing has no numbers.
    mask_USS.diagonal(dim1=1, dim2=2).zero_()
    positions: list[list[int]] = []
    for shape, i in shapes.items():
        mask_SS = visible(shape, dtype)
        mask_USS[i, : len(mask_SS), : len(mask_SS)] = mask_SS
        line: list[int] = []
        ends: list[int] = []
        for length, parent in shape:
            first = 0 if parent < 0 else ends[parent]
            ends.append(first + length)
            line.extend(range(first, ends[-1]))
        positions.append(line + [0] * (width - len(line)))
    ids = [[token for run in group.runs for token in run.tokens] for group in groups]
    return DecoderRows(
        torch.tensor([[*row, *[fill] * (width - len(row))] for row in ids], dtype=torch.long, device=device),
        torch.tensor(positions, dtype=torch.long, device=device),
        mask_USS.to(device),
        torch.tensor([shapes[group.shape] for group in groups], device=device),
        all(len(shape) == 1 for shape in shapes),
        tuple(tuple(_asked(group, b * width)) for b, group in enumerate(groups)),
    )


def stacked(contexts: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Contexts (G, D) of like length as (B, G, D), padded with zeros, and the mask of real positions, if any is not."""
    longest = max(len(each) for each in contexts)
    if all(len(each) == longest for each in contexts):
        return torch.stack(list(contexts)), None
    hidden_BGD = torch.nn.utils.rnn.pad_sequence(list(contexts), batch_first=True)
    lengths_B = torch.tensor([len(each) for each in contexts], device=hidden_BGD.device)
    mask_BG = (torch.arange(longest, device=hidden_BGD.device)[None, :] < lengths_B[:, None]).long()
    return hidden_BGD, mask_BG


def _asked(group: Group, place: int) -> list[tuple[int, Ask]]:
    out: list[tuple[int, Ask]] = []
    for run in group.runs:
        out.extend((place + ask.offset, ask) for ask in run.asks)
        place += len(run.tokens)
    return out
