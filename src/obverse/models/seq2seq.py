"""Encoder-decoders: T5 and mT5, BART and its kin, and pairs such as bert2bert.

Each different given text goes through the encoder once. Its said texts are then read by the decoder as a tree in one
row, so that the start position and beginnings they share are computed once, and so are the keys and values of the
cross-attention (`decoder_rows`). A class that cannot be told of positions reads each said text in a row of its own.
The head runs at said positions only.

Axes: B rows of a batch, G positions of the given side, S positions of the said side, N chosen positions, D width,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum
from typing import Any

import torch
from torch import Tensor

from obverse.errors import ModelError, WindowError
from obverse.models.base import Conventions, LanguageModel, Progress, Window
from obverse.models.conventions import EOS_PRESETS
from obverse.models.decoder_rows import DecoderRows, decoder_rows, stacked
from obverse.models.forward import (
    cache_rows,
    end_tokens,
    evaluating,
    likeliest,
    padded,
    read_off,
    same_numbers,
    target_log_probs,
    token_bytes,
    weights_digest,
)
from obverse.models.generation import Generated, Limits, Saying, check_count, search
from obverse.models.low_precision import set_number_type
from obverse.models.plan import Shared, batches, blocks, share
from obverse.models.prefix_tree import Ask, Group, Run, packed
from obverse.models.tokens import Tokens, surely_within
from obverse.models.work import Budget, Work, divided
from obverse.queries import Likelihood, Query

# Different (given, said) pairs worked on at a time: bounds what is held beside the answers.
_BLOCK_ROWS = 8192
# Tokens of a decoder's row at most: in a longer one more pairs of places are compared than reading the context again
# for a second row would cost.
_ROW = 128
# So many tokens of a context weigh as much as one that is said, for keys and values alone are computed of them.
_CONTEXT = 8

Sides = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a query: what is read, and what is scored."""


class Seq2SeqModel(LanguageModel):
    """An encoder-decoder of the transformers library.

    What stands round the texts is decided by the end-of-sequence preset of the conventions:

    =========  ==================================  ========================================  ===================
    preset     given side                          said side, read by the decoder            scored
    =========  ==================================  ========================================  ===================
    t0         tokens                              start, tokens                             tokens, EOS
    flipped    tokens, EOS                         start, tokens                             tokens, EOS
    lm-eval    tokens, EOS                         start, tokens without the last            tokens
    own        the tokenizer's own special tokens  start, leading mark if another, tokens    tokens, end
    =========  ==================================  ========================================  ===================

    The start is the configured `decoder_start_token_id`. Under `own`, a mark that the tokenizer puts in front of a text
    and that is not the start itself (BART's `<s>` behind its start `</s>`) is read but not scored, because such models
    are trained to have it there; the end is the configured end token, else the tokenizer's EOS or SEP.

    White space at the front of the said text is dropped, for a fresh text starts there. Under `lm-eval` it is kept, and
    white space at the end of the given text joins it, as that harness does. A given side without any token is
    replaced by a single EOS, since an encoder cannot read nothing.

    Args:
        model: the network; it is set to evaluation.
        tokenizer: its tokenizer.
        name: how it was asked for.
        conventions: presets; `truncation="reference"` cuts texts at the window instead of refusing them.
        window: token limits without special tokens; None reads them off the configuration.
        token_budget: the largest padded area of a batch; None chooses by device. No answer depends on it.

    Raises:
        ModelError: no start or end token is known, or the preset does not exist.
    """

    family = "encoder-decoder"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        conventions: Conventions,
        window: Window | None = None,
        token_budget: int | None = None,
    ) -> None:
        if conventions.eos not in EOS_PRESETS:
            raise ModelError(
                f"there is no end-of-sequence preset {conventions.eos!r}", mend=f"Known: {', '.join(EOS_PRESETS)}."
            )
        self.name = name
        self.conventions = conventions
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.device = next(model.parameters()).device
        self._tokens = Tokens(tokenizer)
        self._frame = _frame(model, self._tokens, conventions.eos, name)
        self.window = _window(model, self._frame, conventions) if window is None else window
        self._work = Work()
        self._budget = Budget(
            self.device,
            token_budget,
            token_bytes=token_bytes(model.config.get_text_config(), next(model.parameters()).element_size()),
        )
        self._naive = False
        self._fill = _first(getattr(tokenizer, "pad_token_id", None), 0)

    def log_likelihoods(
        self, queries: Sequence[Query], *, progress: Progress | None = None, pieces: bool = False
    ) -> list[Likelihood]:
        answers: list[Likelihood | None] = [None] * len(queries)
        with self._work.timed(), evaluating(self.model), torch.inference_mode():
            with self._work.planning_timed():
                groups = share(self._sides(query) for query in queries)
            self._refuse_overlong(groups)
            for block in blocks(groups, _BLOCK_ROWS):
                self._answer(block, answers, progress, pieces)
        return [answer for answer in answers if answer is not None]

    def limit(self, *, memory: int | None = None, naive: bool = False) -> None:
        self._budget.limit(memory)
        self._naive = naive

    def set_number_type(self, number_type: str) -> None:
        # What the network can do is found out in exact numbers, before.
        _ = self.packs
        set_number_type(self.model, number_type, self.device)
        vars(self).pop("_digest", None)

    @property
    def work(self) -> Work:
        self._work.estimated, self._work.peak = self._budget.estimate, self._budget.peak
        return self._work

    def candidates(
        self,
        prompts: Sequence[str],
        *,
        count: int,
        most_tokens: int,
        stop: Sequence[str] = (),
        begin_with: str = "",
        beams: int | None = None,
        progress: Progress | None = None,
    ) -> list[list[Generated]]:
        width = check_count(count, beams)
        places: dict[tuple[str, str], list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(self._sides(Query(prompt, begin_with)), []).append(place)
        asked = list(places)
        read = self._tokens.passing(given for given, _ in asked)
        begun = self._tokens.begun(said for _, said in asked)
        given = [self._given_row(text, ids)[0] for (text, _), ids in zip(asked, read, strict=True)]
        ends = end_tokens(self.model, self.tokenizer) | {self._frame.end}
        limits = [self._limits(said, ids, most_tokens, stop, ends) for (_, said), ids in zip(asked, begun, strict=True)]
        answers: list[list[Generated]] = [[] for _ in prompts]
        with torch.inference_mode():
            # White space that joins the said side (`lm-eval`) can make beginnings differ, and their lengths with them.
            for start in dict.fromkeys(begun):
                alike = [i for i, ids in enumerate(begun) if ids == start]
                for batch in batches([len(given[i]) for i in alike], max(1, self._budget() // width)):
                    chosen = [alike[i] for i in batch]
                    opened = self._opened([given[i] for i in chosen], start, ends)
                    found = search(
                        opened,
                        len(chosen),
                        beams=width,
                        limits=limits[chosen[0]],
                        text_of=lambda _, ids: self._tokens.text(ids),
                    )
                    for i, texts in zip(chosen, found, strict=True):
                        for place in places[asked[i]]:
                            answers[place] = texts[:count]
                    if progress is not None:
                        progress(sum(len(places[asked[i]]) for i in chosen))
        return answers

    def encode(self, query: Query) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids of a query: what the encoder reads, and what is scored of the said side.

        Raises:
            WindowError: it does not fit, and the truncation is not `reference`.
        """
        given, said = self._sides(query)
        given_ids, said_ids = self._tokens.passing([given, said])
        return self._given_row(given, given_ids)[0], self._said_row(said, said_ids)[0]

    def pieces(self, query: Query) -> tuple[tuple[str, ...], tuple[str, ...]]:
        read, scored = self.encode(query)
        return self._tokens.pieces(read), self._tokens.pieces(scored)

    def count_tokens(self, text: str) -> int:
        return len(self._tokens.passing([text])[0])

    def digest(self) -> str:
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return weights_digest(self.model, self.tokenizer.get_vocab(), self.conventions)

    @property
    def frame(self) -> Frame:
        """The special tokens that the preset puts round both sides."""
        return self._frame

    @property
    def network(self) -> Network:
        """The network's parts, which are called alike whatever its class."""
        return self._network

    @cached_property
    def _network(self) -> Network:
        return _network(self.model)

    @cached_property
    def packs(self) -> bool:
        """Whether the decoder reads all that is said about a context as one tree; tried out when it is first asked."""
        with evaluating(self.model), torch.inference_mode():
            return _packs(self._network, self.device)

    def encode_all(self, queries: Sequence[Query], *, tokens: Tokens | None = None) -> list[Sides]:
        """Token ids of queries as `encode` gives them, however long they are.

        Args:
            tokens: remembers texts of both sides; None remembers said texts only.
        """
        sides = [self._sides(query) for query in queries]
        read = (self._tokens.passing if tokens is None else tokens.of)([given for given, _ in sides])
        scored = (self._tokens if tokens is None else tokens).of([said for _, said in sides])
        return [
            (self._framed(given), (*said, *self._frame.after_said)) for given, said in zip(read, scored, strict=True)
        ]

    def _sides(self, query: Query) -> tuple[str, str]:
        if self.conventions.eos != "lm-eval":
            return query.given, query.said.lstrip()
        given = query.given.rstrip()
        return given, query.given[len(given) :] + query.said

    def _limits(
        self, said: str, begun: tuple[int, ...], most_tokens: int, stop: Sequence[str], ends: frozenset[int]
    ) -> Limits:
        """The limits of what is said behind a beginning, which leaves less room in the window."""
        if self.window.said is not None and len(begun) >= self.window.said:
            raise WindowError(
                f"what the answers begin with has {len(begun)} tokens, and {self.name} says at most {self.window.said}",
                where=f"beginning {said[:60]!r}",
                mend="Shorten it, or choose a model with a larger window.",
            )
        room = most_tokens if self.window.said is None else min(most_tokens, self.window.said - len(begun))
        return Limits(room, ends, stop)

    def _opened(self, given: Sequence[tuple[int, ...]], begun: tuple[int, ...], ends: frozenset[int]) -> _Decoding:
        """Contexts read, and the beginning said."""
        from transformers import DynamicCache, EncoderDecoderCache

        hidden_BGD, mask_BG = self._encode_rows(given)
        ids_BS = torch.tensor([(*self._frame.start, *begun)] * len(given), device=self.device)
        cache = None
        if self._network.shares:
            config = self._network.decoder_config
            cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        vocabulary = self._network.vocabulary
        unsaid = [i for i in self._tokens.unsaid(vocabulary) if i not in ends]
        return _Decoding(
            self._network,
            hidden_BGD,
            mask_BG,
            ids_BS,
            list(range(len(given))),
            cache,
            torch.tensor(unsaid, dtype=torch.long, device=self.device),
        )

    def _given_row(self, text: str, ids: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        kept = self._fitting("given", text, ids, self.window.given)
        return self._framed(kept), len(ids) - len(kept)

    def _framed(self, given: tuple[int, ...]) -> tuple[int, ...]:
        row = (*self._frame.before_given, *given, *self._frame.after_given)
        return row or (self._frame.end,)

    def _said_row(self, text: str, ids: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        kept = self._fitting("said", text, ids, self.window.said)
        return (*kept, *self._frame.after_said), len(ids) - len(kept)

    def _fitting(self, side: str, text: str, ids: tuple[int, ...], limit: int | None) -> tuple[int, ...]:
        if limit is None or len(ids) <= limit:
            return ids
        if self.conventions.truncation == "reference":
            return ids[:limit]
        raise WindowError(
            f"the {side} side of a query has {len(ids)} tokens, and {self.name} reads at most {limit} there",
            where=f"{side} text that begins {text[:60]!r}",
            mend="Shorten the text, or choose a model with a larger window.",
        )

    def _refuse_overlong(self, groups: Sequence[Shared]) -> None:
        """Find texts that do not fit before any work is done."""
        if self.conventions.truncation == "reference":
            return
        sides = (
            ("given", self.window.given, (group.given for group in groups)),
            ("said", self.window.said, dict.fromkeys(said for group in groups for said in group.said)),
        )
        for side, limit, texts in sides:
            if limit is None:
                continue
            suspects = [text for text in texts if not surely_within(text, limit)]
            for start in range(0, len(suspects), 1024):
                some = suspects[start : start + 1024]
                for text, ids in zip(some, self._tokens.passing(some), strict=True):
                    self._fitting(side, text, ids, limit)

    def _answer(
        self, block: Sequence[Shared], answers: list[Likelihood | None], progress: Progress | None, pieces: bool
    ) -> None:
        with self._work.planning_timed():
            given, said = self._read(block)
        start = len(self._frame.start)
        for group, (row, _) in zip(block, given, strict=True):
            for text, places in zip(group.said, group.places, strict=True):
                self._work.queries += len(places)
                self._work.asked += len(places) * (len(row) + start - 1 + len(said[text][0]))

        def settle(i: int, nats: Sequence[Sequence[float]]) -> None:
            group, cut = block[i], given[i][1]
            for text, places, token_nats in zip(group.said, group.places, nats, strict=True):
                ids, lost = said[text]
                shown = self._tokens.pieces(ids) if pieces else ()
                likelihood = Likelihood(fsum(token_nats), len(ids), tuple(token_nats), shown, cut + lost)
                for place in places:
                    answers[place] = likelihood
            if progress is not None:
                progress(sum(map(len, group.places)))

        if self._naive:
            for i, group in enumerate(block):
                asked = zip(group.said, group.places, strict=True)
                settle(i, [self._alone(given[i][0], said[text][0], len(places)) for text, places in asked])
            return
        if not self.packs:
            self._work.unshared += sum(len(places) for group in block for places in group.places if len(group.said) > 1)
        waiting: list[_Said] = []
        load = 0
        for batch in batches([len(row) for row, _ in given], self._budget):
            contexts = divided(batch, lambda some: self._states([given[i][0] for i in some]), halve=self._budget.halve)
            for i, states_GD in zip(batch, contexts, strict=True):
                with self._work.planning_timed():
                    texts = [said[text][0] for text in block[i].said]
                    groups = packed(self._frame.start, texts, self._row)
                    each = _Said(i, states_GD, [[0.0] * len(ids) for ids in texts], groups)
                waiting.append(each)
                load += each.load
            # The decoder reads little of each context, so it waits until there is enough for a batch.
            if load >= self._budget():
                self._say(waiting, settle)
                waiting, load = [], 0
        self._say(waiting, settle)

    def _states(self, rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """The encoder's states (G, D) of each context."""
        hidden_BGD, _ = self._encode_rows(rows)
        return [hidden_GD[: len(row)] for hidden_GD, row in zip(hidden_BGD, rows, strict=True)]

    def _say(self, contexts: Sequence[_Said], settle: Callable[[int, Sequence[Sequence[float]]], None]) -> None:
        """Settle contexts by the log-probabilities of what is said about them."""
        rows = [(each, group) for each in contexts for group in each.groups]
        for batch in batches([each.width(group) for each, group in rows], self._budget):
            some = [rows[i] for i in batch]
            for (each, _), asked in zip(some, divided(some, self._read_off, halve=self._budget.halve), strict=True):
                for ask, log_prob in asked:
                    each.scored[ask.row][ask.index] = log_prob
        for each in contexts:
            settle(each.number, each.scored)

    def _read_off(self, rows: Sequence[tuple[_Said, Group]]) -> list[list[tuple[Ask, float]]]:
        """All that is asked of each row."""
        hidden_BGD, mask_BG = stacked([each.states_GD for each, _ in rows])
        laid = decoder_rows([group for _, group in rows], self._fill, self.device, hidden_BGD.dtype)
        if laid.is_line:
            # No mask on the said side: padding stands on the right, where a decoder does not look.
            states_BSD = self._network.decode(laid.ids_BS, hidden_BGD, mask_BG, None)
        else:
            assert self._network.decode_tree is not None
            states_BSD = self._network.decode_tree(laid, hidden_BGD, mask_BG)
        self._count(laid.ids_BS.numel(), sum(group.length for _, group in rows))
        asked = [(place, b, ask) for b, some in enumerate(laid.asked) for place, ask in some]
        states_ND = states_BSD.flatten(0, 1)
        return read_off(self._network.head, states_ND, asked, len(rows), self._head_rows)

    def _read(
        self, block: Sequence[Shared]
    ) -> tuple[list[tuple[tuple[int, ...], int]], dict[str, tuple[tuple[int, ...], int]]]:
        """Token ids of each context and of each said text, and how many tokens a hard limit took from them."""
        ids = self._tokens.passing(group.given for group in block)
        given = [self._given_row(group.given, each) for group, each in zip(block, ids, strict=True)]
        texts = list(dict.fromkeys(text for group in block for text in group.said))
        said = {text: self._said_row(text, each) for text, each in zip(texts, self._tokens.of(texts), strict=True)}
        return given, said

    def _alone(self, given: tuple[int, ...], said: tuple[int, ...], times: int) -> list[float]:
        """Log-probabilities of one query, computed by itself as often as it is asked."""
        ids = [*self._frame.start, *said[:-1]]
        for _ in range(times):
            hidden_BGD, _ = self._encode_rows([given])
            states_BSD = self._network.decode(torch.tensor([ids], device=self.device), hidden_BGD, None, None)
            self._count(len(ids), len(ids))
            first = len(self._frame.start) - 1
            found = target_log_probs(self._network.head, states_BSD[0, first:], range(len(said)), said, self._head_rows)
        return found

    def _encode_rows(self, rows: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor | None]:
        ids_BG, mask_BG = padded(rows, self._fill, self.device)
        hidden_BGD = self._network.encode(ids_BG, mask_BG)
        self._count(ids_BG.numel(), sum(map(len, rows)))
        return hidden_BGD, mask_BG

    @property
    def _row(self) -> int:
        """Tokens of a decoder's row at most; a longer text has one for itself."""
        if not self.packs:
            return 1
        # A class that counts the places of a row looks each of them up in its table.
        table = positions(getattr(self.model.config, "decoder", None) or self.model.config)
        return _ROW if table is None else min(_ROW, table)

    @property
    def _head_rows(self) -> int:
        return self._budget.head_rows(self._network.vocabulary)

    def _count(self, tokens: int, real: int) -> None:
        """A batch of so many places, of which so many are no padding, has been computed."""
        self._work.computed += tokens
        self._work.padding += tokens - real
        self._work.batches += 1
        self._budget.note(tokens)


@dataclass(frozen=True, eq=False, slots=True)
class _Said:
    """A context that has been read, and what is said about it.

    Attributes:
        number: of the context in its block.
        states_GD: the encoder's.
        scored: of each said text the log-probabilities of its tokens, filled in as they are found.
        groups: the said texts as the decoder's rows.
    """

    number: int
    states_GD: Tensor
    scored: list[list[float]]
    groups: list[Group]

    @property
    def load(self) -> int:
        return sum(map(self.width, self.groups))

    def width(self, group: Group) -> int:
        """What a row weighs, in tokens: its own, and its context's keys and values."""
        return group.length + len(self.states_GD) // _CONTEXT


class _Decoding(Saying):
    """Rows that the decoder is saying, each after its own context.

    Args:
        hidden_BGD: the encoder's states of every context.
        mask_BG: their mask, or None.
        ids_BS: what each row says so far.
        owners: each row's context.
        cache: keys and values of all that was said before the last token; None where the decoder cannot go on from one,
            and reads the whole row again. It grows by what is not in it yet.
        unsaid: tokens that may not be said.
    """

    def __init__(
        self,
        network: Network,
        hidden_BGD: Tensor,
        mask_BG: Tensor | None,
        ids_BS: Tensor,
        owners: list[int],
        cache: Any,
        unsaid: Tensor,
    ) -> None:
        self._network = network
        self._hidden_BGD = hidden_BGD
        self._mask_BG = mask_BG
        self._ids_BS = ids_BS
        self._owners = owners
        self._cache = cache
        self._unsaid = unsaid
        index_B = torch.tensor(owners, device=ids_BS.device)
        said = 0 if cache is None else cache.get_seq_length()
        # With a cache only the shape of the states is looked at from the second token on.
        states_BGD = hidden_BGD[:1].expand(len(owners), -1, -1) if said else hidden_BGD[index_B]
        mask = None if mask_BG is None else mask_BG[index_B]
        self._state_BD = network.decode(ids_BS[:, said:], states_BGD, mask, cache)[:, -1]

    def best(self, most: int) -> list[list[tuple[int, float]]]:
        return likeliest(self._network.head, self._state_BD, most, self._unsaid)

    def extended(self, rows: Sequence[int], tokens: Sequence[int]) -> Saying:
        from transformers import EncoderDecoderCache

        index_B = torch.tensor(rows, device=self._ids_BS.device)
        fresh_B1 = torch.tensor(tokens, device=self._ids_BS.device)[:, None]
        owners = [self._owners[row] for row in rows]
        cache = self._cache
        if cache is not None:
            # Rows of one context have the same keys and values across: while the contexts stay, so do they.
            across = cache.cross_attention_cache
            if owners != self._owners:
                across = cache_rows(across, index_B)
            cache = EncoderDecoderCache(cache_rows(cache.self_attention_cache, index_B), across)
        ids_BS = torch.cat([self._ids_BS[index_B], fresh_B1], dim=1)
        return _Decoding(self._network, self._hidden_BGD, self._mask_BG, ids_BS, owners, cache, self._unsaid)


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens round both sides."""

    before_given: tuple[int, ...]
    after_given: tuple[int, ...]
    start: tuple[int, ...]
    after_said: tuple[int, ...]
    end: int


@dataclass(frozen=True, slots=True)
class Network:
    """The parts of a network, called as its own forward calls them.

    Attributes:
        encode: ids (B, G) and mask (B, G) or None -> states (B, G, D).
        decode: ids (B, S), encoder states, their mask or None, cache or None -> states (B, S, D).
        head: states (N, D) -> logits (N, V).
        linear: states (N, D) -> states, weight (V, D), bias (V,) or None, and scale, such that the head's logits are
            `(scale * states) @ weight.T + bias`; None where the head is not of that kind.
        shares: whether the decoder can go on from a cache.
        decode_tree: rows of trees, encoder states, their mask or None -> states (B, S, D); None where the class cannot
            be told of positions.
        decoder_config: what a cache is made for.
        vocabulary: V.
    """

    encode: Callable[[Tensor, Tensor | None], Tensor]
    decode: Callable[[Tensor, Tensor, Tensor | None, Any], Tensor]
    head: Callable[[Tensor], Tensor]
    linear: Callable[[Tensor], Linear | None]
    shares: bool
    decoder_config: Any
    vocabulary: int
    decode_tree: Callable[[DecoderRows, Tensor, Tensor | None], Tensor] | None = None


Linear = tuple[Tensor, Tensor, Tensor | None, float]
"""States, weight, bias and scale; see `Network.linear`."""


def _network(model: Any) -> Network:
    kind = model.config.model_type
    if kind in ("t5", "mt5", "umt5", "longt5"):
        return _t5(model)
    if kind in ("bart", "mbart", "pegasus", "marian", "mvp", "plbart", "blenderbot", "blenderbot-small"):
        return _bart(model)
    if kind == "encoder-decoder" and model.decoder.config.model_type in _PAIR_HEADS:
        return _pair(model)
    return _whole(model)


def _t5(model: Any) -> Network:
    config = model.config
    if config.model_type == "mt5":
        scaled = False
    elif config.model_type == "umt5":
        scaled = config.tie_word_embeddings
    else:
        # Not `tie_word_embeddings`, which reads True even for v1.1 models, whose outputs must not be scaled.
        scaled = config.scale_decoder_outputs
    scale = model.model_dim**-0.5

    def head(states_ND: Tensor) -> Tensor:
        logits_NV: Tensor = model.lm_head(states_ND * scale if scaled else states_ND)
        return logits_NV

    def linear(states_ND: Tensor) -> Linear | None:
        weight_VD = _weight(model.lm_head)
        return None if weight_VD is None else (states_ND, weight_VD, None, scale if scaled else 1.0)

    def decode_tree(rows: DecoderRows, hidden_BGD: Tensor, mask_BG: Tensor | None) -> Tensor:
        # The first layer makes a bias of the distances in the row, which all layers use. Those of the texts are others.
        attention = model.decoder.block[0].layer[0].SelfAttention
        distance_USS = rows.positions_US[:, None, :] - rows.positions_US[:, :, None]
        bucket_USS = attention._relative_position_bucket(
            distance_USS,
            bidirectional=False,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        width = rows.ids_BS.shape[1]
        own_UHSS = attention.relative_attention_bias(bucket_USS).permute(0, 3, 1, 2)
        wrong_1HSS = attention.compute_bias(width, width, device=own_UHSS.device)
        mask_UHSS = rows.mask_USS[:, None] + (own_UHSS - wrong_1HSS)
        return _decoded(model.decoder, rows, hidden_BGD, mask_BG, mask_UHSS, input_ids=rows.ids_BS)

    return Network(
        _encoder(model),
        _decoder(model.decoder),
        head,
        linear,
        True,
        model.decoder.config,
        config.vocab_size,
        # Layers of umT5 have a bias each.
        decode_tree if config.model_type != "umt5" else None,
    )


def _bart(model: Any) -> Network:
    decoder = model.get_decoder()

    def head(states_ND: Tensor) -> Tensor:
        logits_NV: Tensor = model.lm_head(states_ND) + model.final_logits_bias.to(states_ND.device)
        return logits_NV

    def linear(states_ND: Tensor) -> Linear | None:
        weight_VD = _weight(model.lm_head)
        bias_V = model.final_logits_bias[0].to(states_ND.device)
        return None if weight_VD is None else (states_ND, weight_VD, bias_V, 1.0)

    def decode_tree(rows: DecoderRows, hidden_BGD: Tensor, mask_BG: Tensor | None) -> Tensor:
        # The decoder counts the places of a row and adds their positions. Those of the texts are others.
        places_S = torch.arange(rows.ids_BS.shape[1], device=rows.ids_BS.device)

        def table(line_S: Tensor) -> Tensor:
            # Learned tables add an axis to these numbers, computed ones do not.
            found: Tensor = decoder.embed_positions(rows.ids_BS[:1], position_ids=line_S)
            return found.reshape(len(line_S), -1)

        own_USD = torch.stack([table(line_S) for line_S in rows.positions_US])
        shift_BSD = (own_USD - table(places_S))[rows.shape_of_B]
        # Two classes multiply what they are given instead of ids, as they do with what they look up.
        scale = decoder.embed_scale if model.config.model_type in ("pegasus", "marian") else 1.0
        mask_U1SS = rows.mask_USS[:, None]
        embedded_BSD = decoder.embed_tokens(rows.ids_BS) + shift_BSD / scale
        return _decoded(decoder, rows, hidden_BGD, mask_BG, mask_U1SS, inputs_embeds=embedded_BSD)

    return Network(
        _encoder(model),
        _decoder(decoder),
        head,
        linear,
        True,
        decoder.config,
        model.lm_head.out_features,
        decode_tree,
    )


_PAIR_HEADS = {"bert": "cls", "roberta": "lm_head", "xlm-roberta": "lm_head", "gpt2": "lm_head"}


def _pair(model: Any) -> Network:
    decoder = model.decoder
    head = getattr(decoder, _PAIR_HEADS[decoder.config.model_type])
    encode = _encoder(model)
    projects = (
        model.encoder.config.hidden_size != decoder.config.hidden_size
        and getattr(decoder.config, "cross_attention_hidden_size", None) is None
    )

    def encode_and_project(ids_BG: Tensor, mask_BG: Tensor | None) -> Tensor:
        hidden_BGD = encode(ids_BG, mask_BG)
        if projects:
            hidden_BGD = model.enc_to_dec_proj(hidden_BGD)
        return hidden_BGD

    def linear(states_ND: Tensor) -> Linear | None:
        if decoder.config.model_type == "bert":
            return _bert_linear(head.predictions, states_ND)
        weight_VD = _weight(head)
        return None if weight_VD is None else (states_ND, weight_VD, None, 1.0)

    def decode_tree(rows: DecoderRows, hidden_BGD: Tensor, mask_BG: Tensor | None) -> Tensor:
        positions_BS = rows.positions_US[rows.shape_of_B]
        mask_U1SS = rows.mask_USS[:, None]
        return _decoded(
            decoder.base_model,
            rows,
            hidden_BGD,
            mask_BG,
            mask_U1SS,
            input_ids=rows.ids_BS,
            position_ids=positions_BS,
        )

    return Network(
        encode_and_project,
        _decoder(decoder.base_model),
        head,
        linear,
        True,
        decoder.config,
        decoder.config.vocab_size,
        # RoBERTa and its kin do not count a padding token that stands in a text.
        decode_tree if decoder.config.model_type in ("bert", "gpt2") else None,
    )


def _whole(model: Any) -> Network:
    """Any other class: its own forward, which applies the head at every position."""
    from transformers.modeling_outputs import BaseModelOutput

    def decode(ids_BS: Tensor, hidden_BGD: Tensor, mask_BG: Tensor | None, cache: Any) -> Tensor:
        logits_BSV: Tensor = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden_BGD),
            attention_mask=mask_BG,
            decoder_input_ids=ids_BS,
            use_cache=False,
        ).logits
        return logits_BSV

    config = getattr(model.config, "decoder", None) or model.config
    return Network(
        _encoder(model), decode, lambda logits_NV: logits_NV, lambda _: None, False, config, config.vocab_size
    )


def _decoded(
    decoder: Any, rows: DecoderRows, hidden_BGD: Tensor, mask_BG: Tensor | None, mask_UHSS: Tensor, **read: Tensor
) -> Tensor:
    """The states of a decoder under a mask that is added to its scores, (U, H or 1, S, S)."""
    states_BSD: Tensor = decoder(
        attention_mask=mask_UHSS if len(mask_UHSS) == 1 else mask_UHSS[rows.shape_of_B],
        encoder_hidden_states=hidden_BGD,
        encoder_attention_mask=mask_BG,
        use_cache=False,
        **read,
    ).last_hidden_state
    return states_BSD


def _packs(network: Network, device: torch.device) -> bool:
    """Whether texts that share a beginning, about two contexts, come out of a tree as they do alone."""
    if network.decode_tree is None:
        return False
    given, start, *said = (
        tuple(i % network.vocabulary for i in ids) for ids in ((3, 1, 4), (1,), (5, 9, 2), (5, 6, 5), (3,), (8, 5))
    )
    ids_BG = torch.tensor([given, given[::-1]], device=device)
    hidden_BGD = network.encode(ids_BG, None)
    groups = [*packed(start, [(*ids, 0) for ids in said], _ROW), Group((Run(start + said[0], -1, ()),))]
    rows = decoder_rows(groups, 0, device, hidden_BGD.dtype)
    try:
        states_BSD = network.decode_tree(rows, hidden_BGD, None)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError):
        # Whatever a class does with what it does not know: its texts are read one a row.
        return False
    flat_ND = states_BSD.flatten(0, 1)
    for place, ask in rows.asked[0]:
        if ask.index == len(said[ask.row]):
            ids_BS = torch.tensor([start + said[ask.row]], device=device)
            alone_D = network.decode(ids_BS, hidden_BGD[:1], None, None)[0, -1]
            if not same_numbers(flat_ND[place], alone_D):
                return False
    line_BS = torch.tensor([start + said[0]], device=device)
    line_SD = network.decode(line_BS, hidden_BGD[1:], None, None)[0]
    return same_numbers(states_BSD[1, : len(line_SD)], line_SD)


def _bert_linear(predictions: Any, states_ND: Tensor) -> Linear | None:
    weight_VD = _weight(predictions.decoder)
    if weight_VD is None:
        return None
    return predictions.transform(states_ND), weight_VD, predictions.decoder.bias, 1.0


def _weight(module: Any) -> Tensor | None:
    """The matrix of a plain linear layer; None for anything else, such as one with adapters on it."""
    return module.weight if type(module) is torch.nn.Linear else None


def _encoder(model: Any) -> Callable[[Tensor, Tensor | None], Tensor]:
    encoder = model.get_encoder()

    def encode(ids_BG: Tensor, mask_BG: Tensor | None) -> Tensor:
        hidden_BGD: Tensor = encoder(input_ids=ids_BG, attention_mask=mask_BG).last_hidden_state
        return hidden_BGD

    return encode


def _decoder(decoder: Any) -> Callable[[Tensor, Tensor, Tensor | None, Any], Tensor]:
    def decode(ids_BS: Tensor, hidden_BGD: Tensor, mask_BG: Tensor | None, cache: Any) -> Tensor:
        states_BSD: Tensor = decoder(
            input_ids=ids_BS,
            encoder_hidden_states=hidden_BGD,
            encoder_attention_mask=mask_BG,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return states_BSD

    return decode


def _first(*values: Any) -> Any:
    """The first value that is known; a list of several stands for its first."""
    for value in values:
        if isinstance(value, list | tuple):
            value = value[0] if value else None
        if value is not None:
            return value
    return None


def _frame(model: Any, tokens: Tokens, eos: str, name: str) -> Frame:
    config, tokenizer = model.config, tokens.tokenizer
    generation = getattr(model, "generation_config", None)
    inner = getattr(config, "decoder", None)
    start = _first(
        getattr(config, "decoder_start_token_id", None),
        getattr(generation, "decoder_start_token_id", None),
        getattr(inner, "decoder_start_token_id", None),
        getattr(tokenizer, "bos_token_id", None),
        getattr(tokenizer, "cls_token_id", None),
    )
    if start is None:
        raise ModelError(
            f"{name} does not say which token its decoder starts from",
            mend="Write decoder_start_token_id into its config.json.",
        )
    own = eos == "own"
    configured = (
        getattr(config, "eos_token_id", None),
        getattr(generation, "eos_token_id", None),
        getattr(inner, "eos_token_id", None),
    )
    end = _first(
        *(configured if own else ()),
        getattr(tokenizer, "eos_token_id", None),
        getattr(tokenizer, "sep_token_id", None),
        *configured,
    )
    if end is None:
        raise ModelError(f"{name} has no end-of-sequence token", mend="Write eos_token_id into its config.json.")
    if not own:
        return Frame((), () if eos == "t0" else (end,), (start,), () if eos == "lm-eval" else (end,), end)
    forced = _first(getattr(generation, "forced_bos_token_id", None), getattr(config, "forced_bos_token_id", None))
    lead = tokens.leading if forced is None else (forced,)
    return Frame(tokens.leading, tokens.trailing, (start,) if lead == (start,) else (start, *lead), (end,), end)


def _window(model: Any, frame: Frame, conventions: Conventions) -> Window:
    if conventions.eos == "flipped" and conventions.truncation == "reference":
        # The lengths of the released training and scoring code, end-of-sequence token included.
        return Window(given=512 - 1, said=128 - 1)
    given = positions(getattr(model.config, "encoder", None) or model.config)
    said = positions(getattr(model.config, "decoder", None) or model.config)
    return Window(
        given=None if given is None else given - len(frame.before_given) - len(frame.after_given),
        # The last scored token is never read, so an end token costs no position.
        said=None if said is None else said - len(frame.start) + 1 - len(frame.after_said),
    )


def positions(config: Any) -> int | None:
    """How many positions a configuration allows; None for relative positions (T5)."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and config.model_type in ("roberta", "xlm-roberta"):
        # Their table counts from behind the padding token's number.
        limit -= config.pad_token_id + 1
    return limit
