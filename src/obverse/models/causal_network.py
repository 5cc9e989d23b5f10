"""The body and the head of a causal network, and what is found out about them.

Axes: B rows of a batch, S positions of a row, T places of a packed row, N chosen positions, D width, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from obverse.models import tree_attention
from obverse.models.forward import same_numbers
from obverse.models.prefix_tree import Group, Run, Stored
from obverse.models.tree_attention import Layout, lay_out

# Held while a configuration names the packed attention: two that swap it at once would leave it there.
_SWAPPING = threading.RLock()


class Network:
    """The body and the head of a causal network.

    What they can do is found out on a few tokens, by comparing numbers: some classes scale or bend their logits behind
    the head, some keep a state that cannot be repeated, and some compute attention in a way of their own.

    Attributes:
        vocabulary: V.
        shares: whether the body can go on from a cache whose rows were chosen and repeated.
        packs: whether it computes packed rows (`run_packed`).
        reach: how many places back a packed row sees; None for all.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.vocabulary: int = model.config.get_text_config().vocab_size
        self._model = model
        self._body = model.base_model
        self._head = model.get_output_embeddings()
        self._device = device
        self._apart = False
        self.shares = False
        self.packs = False
        probe_BS = torch.tensor([[i % self.vocabulary for i in (3, 1, 4, 1, 5)]], device=device)
        whole_BSV = model(input_ids=probe_BS, use_cache=False).logits
        if self._head is None or self._body is model:
            return
        out = self._body(input_ids=probe_BS[:, :2], use_cache=True)
        cache = getattr(out, "past_key_values", None)
        states_BSD = self._body(input_ids=probe_BS, use_cache=False).last_hidden_state
        # The same numbers in the same order: anything done to the logits besides shows up in the last bits.
        self._apart = torch.equal(self._head(states_BSD), whole_BSV)
        if not self._apart:
            return
        if _repeatable(cache):
            rest_BSD = self._body(input_ids=probe_BS[:, 2:], past_key_values=cache, use_cache=True).last_hidden_state
            self.shares = same_numbers(rest_BSD, states_BSD[:, 2:])
        self.packs = self._finds_packing()

    @property
    def border(self) -> int | None:
        """A length beyond which a text's positions are all read in another way (LongRoPE); None where there is none."""
        config = self._body.config
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type")) not in ("longrope", "su"):
            return None
        known = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        return None if known is None else int(known)

    @property
    def reach(self) -> int | None:
        config = self._body.config
        window = getattr(config, "sliding_window", None)
        return window if window and getattr(config, "use_sliding_window", True) else None

    def run(self, ids_BS: Tensor, cache: Any, *, keep: bool) -> tuple[Tensor, Any]:
        """States of the ids behind what the cache holds, and the cache that has grown by them."""
        if not self._apart:
            return self._model(input_ids=ids_BS, use_cache=False).logits, None
        out = self._body(input_ids=ids_BS, past_key_values=cache, use_cache=keep)
        return out.last_hidden_state, out.past_key_values if keep else None

    def run_packed(self, layout: Layout) -> Tensor:
        """States (T, D) of a packed row; what it says to keep is stored."""
        with self._tree_attention():
            out = self._body(
                input_ids=layout.ids_T[None], position_ids=layout.positions_T[None], use_cache=False, tree=layout
            )
        states_TD: Tensor = out.last_hidden_state[0]
        return states_TD

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the body."""
        dtype: torch.dtype = next(self._body.parameters()).dtype
        return dtype

    @property
    def output(self) -> Any:
        """The module that the head is; None where the network is run whole, and its states are logits already."""
        return self._head if self._apart else None

    def head(self, states_ND: Tensor) -> Tensor:
        """Logits (N, V)."""
        if not self._apart:
            return states_ND
        logits_NV: Tensor = self._head(states_ND)
        return logits_NV

    @contextmanager
    def _tree_attention(self) -> Iterator[None]:
        from transformers import AttentionInterface

        AttentionInterface.register(tree_attention.NAME, tree_attention.attend)
        config = self._body.config
        # The setting belongs to the network, which other models and threads may hold too.
        with _SWAPPING:
            usual = config._attn_implementation
            config._attn_implementation = tree_attention.NAME
            try:
                yield
            finally:
                config._attn_implementation = usual

    def _finds_packing(self) -> bool:
        """Whether texts with a stored beginning, a fork and a neighbour come out of packed rows as they do alone."""
        stem, trunk, left, right, apart = (
            tuple(i % self.vocabulary for i in text) for text in ((3, 1), (4, 1), (5, 9), (2,), (6, 5, 3))
        )
        stored = Stored(stem)
        fork = Group((Run(trunk, -1, ()), Run(left, 0, ()), Run(right, 0, ())), stored)
        try:
            self.run_packed(lay_out([Group((Run(stem, -1, ()),), None, stored)], self._device, self.dtype))
            states_TD = self.run_packed(lay_out([fork, Group((Run(apart, -1, ()),))], self._device, self.dtype))
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError):
            # Whatever a class of somebody else's does with what it does not know: it is run in another way.
            return False
        texts = {stem + trunk + left: [0, 1, 2, 3], stem + trunk + right: [0, 1, 4], apart: [5, 6, 7]}
        for text, places in texts.items():
            alone_BSD = self._body(input_ids=torch.tensor([text], device=self._device), use_cache=False)[0]
            if not same_numbers(states_TD[places], alone_BSD[0, -len(places) :]):
                return False
        return True


def _repeatable(cache: Any) -> bool:
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    return type(cache) is DynamicCache and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )
