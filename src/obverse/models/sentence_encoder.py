"""Sentence encoders: a text as one vector, and how alike two texts are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from obverse.models.base import Conventions, LanguageModel, Progress, Window
from obverse.queries import Likelihood, Query

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse.models.tokens import Tokens

LONGEST = 256
"""Tokens of a text, special ones included, as the sentence encoder of obverse-mini was made."""


class SentenceEncoderModel(LanguageModel):
    """A BERT-shaped encoder that answers with the cosine of both sides' vectors in place of a log-probability.

    Its answers compare options of one text. They are no likelihoods, so no method of scoring but the comparison itself
    makes sense of them; it is here to be trained by the same loop as every other model.

    Args:
        network: states (B, T, D) from token ids and mask, as transformers' `BertModel`.
        tokenizer: puts its own special tokens round a text.
    """

    family = "sentence-encoder"

    def __init__(self, network: nn.Module, tokenizer: Any, *, name: str) -> None:
        self.name = name
        self.model = network
        self.tokenizer = tokenizer
        self.window = Window(given=LONGEST, said=LONGEST)
        self.conventions = Conventions(method="similarity", trained=("similarity",))
        self.device: torch.device = next(network.parameters()).device

    @cached_property
    def marks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens in front of a text and behind it."""
        empty = tuple(self.tokenizer("")["input_ids"])
        return empty[: len(empty) // 2], empty[len(empty) // 2 :]

    def encode_all(self, queries: Sequence[Query], *, tokens: Tokens) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Token ids of both sides of each query, special tokens included, nothing cut."""
        before, after = self.marks
        given = tokens.of([query.given for query in queries])
        said = tokens.of([query.said.lstrip() for query in queries])
        return [((*before, *g, *after), (*before, *s, *after)) for g, s in zip(given, said, strict=True)]

    def log_likelihoods(
        self, queries: Sequence[Query], *, progress: Progress | None = None, pieces: bool = False
    ) -> list[Likelihood]:
        """The cosine of each query's sides, in the place of nats."""
        texts = sorted({text for query in queries for text in (query.given, query.said.lstrip())})
        known = dict(zip(texts, sentence_vectors(self.model, self.tokenizer, texts), strict=True))
        if progress is not None:
            progress(len(queries))
        return [Likelihood(float(known[query.given] @ known[query.said.lstrip()]), 1) for query in queries]

    def count_tokens(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def pieces(self, query: Query) -> tuple[tuple[str, ...], tuple[str, ...]]:
        given, said = (self.tokenizer(text)["input_ids"] for text in (query.given, query.said.lstrip()))
        return tuple(self.tokenizer.convert_ids_to_tokens(given)), tuple(self.tokenizer.convert_ids_to_tokens(said))

    def digest(self) -> str:
        from obverse.models.forward import weights_digest

        return weights_digest(self.model, self.tokenizer.get_vocab(), self.conventions)


def pooled(states_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The mean state of each text, of length 1; shape (B, D)."""
    import torch

    mask_BT1 = mask_BT[..., None].to(states_BTD.dtype)
    return torch.nn.functional.normalize((states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1), dim=-1)


def sentence_vectors(
    encoder: nn.Module, tokenizer: Any, texts: Sequence[str], *, tokens_at_once: int = 1024
) -> np.ndarray:
    """Mean-pooled states of length 1, shape (n, hidden); texts beyond 256 tokens are cut, as the encoder was made."""
    import torch

    from obverse.models.plan import batches

    if not texts:
        return np.zeros((0, 0), dtype=np.float32)
    ids = tokenizer(list(texts), truncation=True, max_length=LONGEST)["input_ids"]
    out: list[np.ndarray | None] = [None] * len(ids)
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        for chunk in batches([len(row) for row in ids], tokens_at_once):
            width = max(len(ids[i]) for i in chunk)
            batch = torch.zeros((len(chunk), width), dtype=torch.long)
            mask = torch.zeros((len(chunk), width), dtype=torch.long)
            for row, i in enumerate(chunk):
                batch[row, : len(ids[i])] = torch.tensor(ids[i])
                mask[row, : len(ids[i])] = 1
            full = bool(mask.all())
            batch, mask = batch.to(device), mask.to(device)
            states = encoder(input_ids=batch, attention_mask=None if full else mask).last_hidden_state
            vectors = pooled(states, mask).float().cpu().numpy()
            for row, i in enumerate(chunk):
                out[i] = vectors[row]
    return np.stack([vector for vector in out if vector is not None])
