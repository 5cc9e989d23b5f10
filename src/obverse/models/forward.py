"""What both families of networks do with tensors: padding, the head at chosen places, cache rows, the digest.

Axes: B rows of a batch, S positions of a row, N chosen positions, D width, V vocabulary, M pairs of position and token.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from obverse.models.base import Conventions
from obverse.models.conventions import conventions_json
from obverse.models.prefix_tree import Ask


def padded(rows: Sequence[Sequence[int]], fill: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Rows of ids, padded on the right, and the mask of real tokens, or None where nothing was padded."""
    width = max(map(len, rows))
    if all(len(row) == width for row in rows):
        return torch.tensor(rows, dtype=torch.long, device=device), None
    ids_BS = torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.long)
    lengths_B = torch.tensor([len(row) for row in rows])
    mask_BS = (torch.arange(width)[None, :] < lengths_B[:, None]).long()
    return ids_BS.to(device), mask_BS.to(device)


def target_log_probs(
    head: Callable[[Tensor], Tensor], states_ND: Tensor, owners: Sequence[int], targets: Sequence[int], rows: int
) -> list[float]:
    """log P of each target token at the position that owns it, in fp32.

    The head runs on some positions at a time, so that the logits never fill the memory.

    Args:
        head: states (N, D) -> logits (N, V).
        states_ND: the states whose next token is asked for.
        owners: for each target, its row in `states_ND`; ascending.
        targets: token ids.
        rows: positions at a time (`Budget.head_rows`).
    """
    device = states_ND.device
    owners_M = torch.tensor(owners, dtype=torch.long)
    targets_M = torch.tensor(targets, dtype=torch.long, device=device)
    count = states_ND.shape[0]
    starts = list(range(0, count, rows))
    cuts = [*torch.searchsorted(owners_M, torch.tensor(starts, dtype=torch.long)).tolist(), len(targets)]
    owners_M = owners_M.to(device)
    pieces = []
    for start, low, high in zip(starts, cuts, cuts[1:], strict=False):
        if low == high:
            continue
        log_probs_NV = torch.log_softmax(head(states_ND[start : start + rows]).float(), dim=-1)
        pieces.append(log_probs_NV[owners_M[low:high] - start, targets_M[low:high]])
    return torch.cat(pieces).tolist() if pieces else []


def read_off(
    head: Callable[[Tensor], Tensor], states_ND: Tensor, asked: Sequence[tuple[int, int, Ask]], owners: int, rows: int
) -> list[list[tuple[Ask, float]]]:
    """What is asked of trees: for each owner its asks with the log P of their tokens.

    Args:
        asked: place among the states, number of the owner, and the ask.
        owners: how many there are.
        rows: as in `target_log_probs`.
    """
    asked = sorted(asked, key=lambda entry: entry[0])
    places = list(dict.fromkeys(place for place, _, _ in asked))
    row_of = {place: i for i, place in enumerate(places)}
    log_probs = target_log_probs(
        head,
        states_ND[torch.tensor(places, dtype=torch.long, device=states_ND.device)],
        [row_of[place] for place, _, _ in asked],
        [ask.token for _, _, ask in asked],
        rows,
    )
    out: list[list[tuple[Ask, float]]] = [[] for _ in range(owners)]
    for (_, owner, ask), log_prob in zip(asked, log_probs, strict=True):
        out[owner].append((ask, log_prob))
    return out


def likeliest(
    head: Callable[[Tensor], Tensor], states_BD: Tensor, most: int, unsaid: Tensor
) -> list[list[tuple[int, float]]]:
    """The tokens that are likeliest to follow each state and their log-probabilities, the likeliest first.

    Args:
        head: states (B, D) -> logits (B, V).
        states_BD: the state of the last token of each row.
        most: how many a row; fewer come back where no more may be said.
        unsaid: numbers of tokens that may not be said. The others' probabilities stay as they are.
    """
    log_probs_BV = torch.log_softmax(head(states_BD).float(), dim=-1)
    log_probs_BV.index_fill_(1, unsaid, -torch.inf)
    nats_BM, tokens_BM = log_probs_BV.topk(min(most, log_probs_BV.shape[1]), dim=-1)
    return [
        # Equal ones by number, so that the choice between them is the same on every machine.
        sorted(((i, n) for i, n in zip(ids, nats, strict=True) if n > -torch.inf), key=lambda pair: (-pair[1], pair[0]))
        for ids, nats in zip(tokens_BM.tolist(), nats_BM.tolist(), strict=True)
    ]


def same_numbers(a: Tensor, b: Tensor) -> bool:
    """Whether two ways to compute the same have come to the same, as far as their number type can tell."""
    tolerance = 1e-3 if a.dtype == torch.float32 else 1e-1
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a sequence by the configurations or the tokenizer."""
    config = model.config
    values = [
        getattr(config, "eos_token_id", None),
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
        getattr(tokenizer, "eos_token_id", None),
    ]
    return frozenset(
        i for value in values if value is not None for i in (value if isinstance(value, list) else [value])
    )


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout, in the number type of the weights, activations in one step; afterwards it is as it was."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device.type
    try:
        with torch.autocast(device, enabled=False), _fused(model):
            yield
    finally:
        model.train(training)


@contextmanager
def _fused(model: torch.nn.Module) -> Iterator[None]:
    """GELU by the hyperbolic tangent as one operation instead of eight, which are a tenth of GPT-2's time."""
    from transformers.activations import FastGELUActivation, NewGELUActivation

    gelu = partial(torch.nn.functional.gelu, approximate="tanh")
    # Where somebody has hung a forward of their own on a module, it stays.
    chosen = [
        module
        for module in model.modules()
        if type(module) in (NewGELUActivation, FastGELUActivation) and "forward" not in vars(module)
    ]
    for module in chosen:
        vars(module)["forward"] = gelu
    try:
        yield
    finally:
        for module in chosen:
            vars(module).pop("forward", None)


def token_bytes(config: Any, element: int) -> int:
    """Bytes that a token takes on its way through a layer: states, queries, keys, values, and the wide states between.

    Args:
        config: of the network, or of the half of it that has the wider states.
        element: bytes of a number.
    """

    def first(*names: str) -> int:
        return next((value for name in names if isinstance(value := getattr(config, name, None), int)), 0)

    width = first("hidden_size", "d_model", "n_embd")
    wide = first("intermediate_size", "d_ff", "n_inner", "ffn_dim", "decoder_ffn_dim") or 4 * width
    return element * (8 * width + 2 * wide)


def cache_rows(cache: Any, index_B: Tensor) -> Any:
    """A new DynamicCache that holds the chosen rows; the old one stays as it was."""
    # Layers replace their tensors and never write into them, so a shallow copy is enough.
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(index_B)
    return chosen


def weights_digest(model: torch.nn.Module, vocabulary: dict[str, int], conventions: Conventions) -> str:
    """16 hexadecimal digits of a SHA-256 over names, shapes, types and bytes of the weights, words and conventions."""
    digest = hashlib.sha256()
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in sorted(model.state_dict().items()):
        # A tied table stands under several names but is one.
        if tensor.device.type != "meta" and tensor.numel():
            place = (tensor.data_ptr(), tensor.shape)
            if place in seen:
                continue
            seen.add(place)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        raw = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
        digest.update(memoryview(raw.numpy()))
    digest.update(json.dumps(sorted(vocabulary.items())).encode())
    digest.update(conventions_json(conventions).encode())
    return digest.hexdigest()[:16]
