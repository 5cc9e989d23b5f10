"""The ways to get log-likelihoods out of a network: lm-evaluation-harness, the usual loops, and Obverse.

All of them take the same list of (given, said) texts and tokenise it themselves, so all of that is in their time.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from obverse.models.base import LanguageModel
from obverse.queries import Query
from scoring_speed.cases import HARNESS, ONE_BY_ONE, PADDED, SORTED, Request

WINDOWS = (384, 64)
"""What encoder-decoders' texts are padded to by the usual loop: the longer side, and the shorter one."""
BATCHES = (1, 4, 8, 16)
AUTO = "auto"

Batch = int | str


class Way(ABC):
    """A way to answer requests."""

    def prepare(self) -> None:  # noqa: B027
        """Forget what was answered before, so that every call begins with as little as the first."""

    @abstractmethod
    def answer(self, requests: Sequence[Request]) -> list[float]:
        """The log-likelihood of each request in nats."""

    def free(self) -> float:
        """Seconds since the last call of this that are not to count."""
        return 0.0


def make_way(name: str, network: Any, tokenizer: Any, fresh: Callable[[], LanguageModel], *, batch: Batch) -> Way:
    """The way of that name.

    Args:
        fresh: Obverse's model of the network, with nothing remembered.
        batch: counts for ways that have batches of their own.
    """
    if name == HARNESS:
        return _Harness(network, tokenizer, batch)
    if name == PADDED:
        return _Loop(network, tokenizer, int(batch), sort=False)
    if name == SORTED:
        return _Loop(network, tokenizer, int(batch), sort=True)
    return Own(fresh, naive=name == ONE_BY_ONE)


def harness_is_here() -> bool:
    """Whether lm-evaluation-harness is installed."""
    return importlib.util.find_spec("lm_eval") is not None


class _Harness(Way):
    """`HFLM.loglikelihood` of lm-evaluation-harness on the same network."""

    def __init__(self, network: Any, tokenizer: Any, batch: Batch) -> None:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        from lm_eval.models.huggingface import HFLM

        backend = "seq2seq" if network.config.is_encoder_decoder else "causal"
        self._lm = HFLM(pretrained=network, tokenizer=tokenizer, backend=backend, batch_size=batch)
        self._free = 0.0
        detect = self._lm._detect_batch_size

        sizes: list[int] = []

        def once(*arguments: Any, **named: Any) -> int:
            began = time.perf_counter()
            if not sizes:  # requests of a case are alike: what fits once fits again
                sizes.append(detect(*arguments, **named))
            self._free += time.perf_counter() - began
            return sizes[0]

        self._lm._detect_batch_size = once

    def answer(self, requests: Sequence[Request]) -> list[float]:
        from lm_eval.api.instance import Instance

        asked = [
            Instance(request_type="loglikelihood", doc={}, arguments=request, idx=i)
            for i, request in enumerate(requests)
        ]
        return [nats for nats, _ in self._lm.loglikelihood(asked, disable_tqdm=True)]

    def free(self) -> float:
        """What `auto` took to find its batch size, which long runs do not notice."""
        found, self._free = self._free, 0.0
        return found


class _Loop(Way):
    """The usual loop: batches of rows through the whole network, a log-softmax over all logits.

    Args:
        batch: rows at a time.
        sort: whether rows are sorted by length and padded to the longest of their batch. Otherwise they stay in order
            and are padded to the longest of the run, or with an encoder-decoder to `WINDOWS`.
    """

    def __init__(self, network: Any, tokenizer: Any, batch: int, *, sort: bool) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._batch = batch
        self._sort = sort
        self._two = network.config.is_encoder_decoder

    def answer(self, requests: Sequence[Request]) -> list[float]:
        givens, saids = ([request[side] for request in requests] for side in (0, 1))
        read = self._tokenizer(givens)["input_ids"]
        if self._two:
            said = self._tokenizer(saids, add_special_tokens=False)["input_ids"]
        else:
            wholes = self._tokenizer([given + said for given, said in requests])["input_ids"]
            said = [whole[len(ids) :] for whole, ids in zip(wholes, read, strict=True)]
        order = list(range(len(requests)))
        widths: tuple[int, int] | None = None
        if self._sort:
            order.sort(key=lambda i: (-len(read[i]) - len(said[i]), i))
        elif self._two:
            longest = max(map(len, read)), max(map(len, said))
            widths = WINDOWS if longest[0] >= longest[1] else WINDOWS[::-1]
            widths = max(widths[0], longest[0]), max(widths[1], longest[1])
        else:
            widths = max(len(a) + len(b) - 1 for a, b in zip(read, said, strict=True)), 0
        found = [0.0] * len(requests)
        with torch.inference_mode():
            for start in range(0, len(order), self._batch):
                some = order[start : start + self._batch]
                rows = [(read[i], said[i]) for i in some]
                nats = self._pairs(rows, widths) if self._two else self._texts(rows, widths)
                for i, one in zip(some, nats, strict=True):
                    found[i] = one
        return found

    def _texts(self, rows: list[tuple[list[int], list[int]]], widths: tuple[int, int] | None) -> list[float]:
        wholes = [[*read, *said][:-1] for read, said in rows]
        ids_BS, mask_BS = self._padded(wholes, widths[0] if widths else None)
        log_probs_BSV = self._network(input_ids=ids_BS, attention_mask=mask_BS).logits.float().log_softmax(-1)
        return [
            _sum(log_probs_BSV[b, len(read) - 1 : len(read) - 1 + len(said)], said)
            for b, (read, said) in enumerate(rows)
        ]

    def _pairs(self, rows: list[tuple[list[int], list[int]]], widths: tuple[int, int] | None) -> list[float]:
        ids_BG, mask_BG = self._padded([read for read, _ in rows], widths[0] if widths else None)
        start = self._network.config.decoder_start_token_id
        ids_BS, _ = self._padded([[start, *said[:-1]] for _, said in rows], widths[1] if widths else None)
        logits_BSV = self._network(input_ids=ids_BG, attention_mask=mask_BG, decoder_input_ids=ids_BS).logits
        log_probs_BSV = logits_BSV.float().log_softmax(-1)
        return [_sum(log_probs_BSV[b, : len(said)], said) for b, (_, said) in enumerate(rows)]

    def _padded(self, rows: list[list[int]], width: int | None) -> tuple[Tensor, Tensor]:
        width = width or max(map(len, rows))
        device = self._network.device
        ids_BS = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
        mask_BS = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        return ids_BS, mask_BS


class Own(Way):
    """Obverse: all requests in one call, or naive: one at a time, and nothing shared.

    Attributes:
        model: the model that has answered.
    """

    def __init__(self, fresh: Callable[[], LanguageModel], *, naive: bool) -> None:
        self._fresh = fresh
        self._naive = naive
        self.prepare()

    def prepare(self) -> None:
        """A new model: beginnings that one has read are kept between its calls."""
        self.model = self._fresh()
        self.model.limit(naive=self._naive)

    def answer(self, requests: Sequence[Request]) -> list[float]:
        asked = [Query(given, said) for given, said in requests]
        calls = [[query] for query in asked] if self._naive else [asked]
        return [likelihood.nats for call in calls for likelihood in self.model.log_likelihoods(call)]


def batches_to_try(name: str, *, few: bool = False) -> Iterator[Batch]:
    """The batch sizes of which a way is to take the best; none where it has no batches of its own."""
    if name in (HARNESS, PADDED, SORTED):
        yield from BATCHES[1:2] if few else BATCHES
    if name == HARNESS and not few:
        yield AUTO


def _sum(log_probs_SV: Tensor, said: list[int]) -> float:
    chosen_S = log_probs_SV.gather(-1, torch.tensor(said, device=log_probs_SV.device)[:, None])
    return float(chosen_S.double().sum())
