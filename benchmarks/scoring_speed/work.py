"""The least work that a list of requests can be answered with, and what the machine could do it in.

Nothing is computed twice: of a causal model each different beginning of a text once, of an encoder-decoder each
different given text once, and behind it each different beginning of a said text.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from obverse.models.precision import choose_dtype

_HEAD_ROWS = 256
_OF_READ = r"encoder\.|.*EncDecAttention\.[kv]$"  # keys and values across are made of what was read

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids read, and scored."""


@dataclass(frozen=True, slots=True)
class Work:
    """What must be computed.

    Attributes:
        positions: of tokens that go through the network.
        matrices: (n, m) -> FLOP of the linear layers of that shape, the head included.
        attention: FLOP of the products of queries with keys and of weights with values.
        head: positions at which the head is needed.
    """

    positions: int
    matrices: Counter[tuple[int, int]]
    attention: int
    head: int

    @property
    def flop(self) -> int:
        """All of it."""
        return sum(self.matrices.values()) + self.attention


def least_work(network: Any, rows: Sequence[Row]) -> Work:
    """The least work of token ids as Obverse's models encode them."""
    config = network.config
    heads = network.get_output_embeddings()
    vocabulary, width = heads.weight.shape
    matrices: Counter[tuple[int, int]] = Counter()
    if config.is_encoder_decoder:
        start = (config.decoder_start_token_id,)
        groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for given, said in rows:
            groups.setdefault(given, []).append(said)
        read, said_nodes, attention = 0, 0, 0
        every = config.num_heads * config.d_kv * 4
        for given, texts in groups.items():
            nodes, depths, _ = beginnings([(start, said) for said in texts])
            read += len(given)
            said_nodes += nodes
            attention += every * config.num_layers * len(given) ** 2
            attention += every * config.num_decoder_layers * (depths + nodes * len(given))
        head, positions = said_nodes, read + said_nodes
    else:
        positions, depths, head = beginnings(rows)
        read, said_nodes = positions, positions
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        attention = 4 * config.num_attention_heads * size * config.num_hidden_layers * depths
    for name, layer in network.named_modules():
        shape = _shape(layer)
        if shape and layer is not heads:
            matrices[shape] += 2 * shape[0] * shape[1] * (read if re.match(_OF_READ, name) else said_nodes)
    matrices[width, vocabulary] += 2 * width * vocabulary * head
    return Work(positions, matrices, attention, head)


def beginnings(rows: Sequence[Row]) -> tuple[int, int, int]:
    """Different beginnings of rows, the sum of their lengths, and at how many of them a token is asked for.

    The last token of a row is never read.
    """
    places: dict[tuple[int, int], int] = {}
    asked: set[int] = set()
    depths = 0
    for given, said in dict.fromkeys(rows):
        node = 0
        for depth, token in enumerate((given + said)[:-1], 1):
            key = (node, token)
            if key not in places:
                places[key] = len(places) + 1
                depths += depth
            node = places[key]
            if depth >= len(given):
                asked.add(node)
    return len(places), depths, len(asked)


def matrix_rates(
    shapes: Sequence[tuple[int, int]], device: torch.device, *, rows: int, flop: float
) -> list[tuple[int, int, float]]:
    """(n, m, FLOP/s) of (rows, n) @ (n, m) as a linear layer computes it, in the number type of the device.

    The head, which is far wider than the rest, runs on few rows at a time, so that its logits stay in cache.

    Args:
        rows: as many as go through a layer at a time.
        flop: how much is to be computed in each of six runs, of which the first does not count.
    """
    return [(n, m, _rate(n, m, min(rows, _HEAD_ROWS) if m > 8 * n else rows, device, flop)) for n, m in sorted(shapes)]


def cube_rate(device: torch.device, *, width: int, flop: float) -> float:
    """FLOP/s of a product of two square matrices."""
    return _rate(width, width, width, device, flop)


def _rate(n: int, m: int, rows: int, device: torch.device, flop: float) -> float:
    layer = torch.nn.Linear(n, m, bias=False, device=device, dtype=choose_dtype(device))
    states = torch.randn(rows, n, device=device, dtype=layer.weight.dtype)
    repeat = max(1, round(flop / (2 * rows * n * m)))
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        with torch.inference_mode():
            for _ in range(repeat):
                layer(states)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return repeat * 2 * rows * n * m / statistics.median(seconds[1:])


def _shape(layer: Any) -> tuple[int, int] | None:
    if isinstance(layer, torch.nn.Linear):
        return layer.in_features, layer.out_features
    if type(layer).__name__ == "Conv1D":  # GPT-2's linear layer, whose weight lies the other way round
        return tuple(layer.weight.shape)
    return None
