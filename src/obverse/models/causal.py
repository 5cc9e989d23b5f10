"""Causal models: GPT-2, Llama and every other left-to-right network of the transformers library.

Given and said text are one sequence of tokens. No beginning that queries share is computed twice: they are a tree
(`prefix_tree`), whose parts go through the network in packed rows (`tree_attention`). A network that computes attention
in a way of its own is run in stages, each going on from the cache of the one before: the tokens that all contexts of a
block have in common, the rest of each context, the said texts. One that keeps no such cache is run on whole sequences.
The head runs at said positions only, where the network's own logits are plainly its head applied to its last states.

Axes: B rows of a batch, S positions of a row, N chosen positions, D width, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby, pairwise
from math import fsum
from typing import Any

import torch
from torch import Tensor

from obverse.errors import ModelError, WindowError
from obverse.models.base import Conventions, LanguageModel, Progress, Window
from obverse.models.causal_network import Network
from obverse.models.forward import (
    cache_rows,
    end_tokens,
    evaluating,
    likeliest,
    padded,
    read_off,
    target_log_probs,
    token_bytes,
    weights_digest,
)
from obverse.models.generation import Generated, Limits, Saying, check_count, search
from obverse.models.low_precision import set_number_type
from obverse.models.plan import Shared, batches, blocks, common_prefix, share
from obverse.models.prefix_tree import Ask, Group, Stored, tree_batches
from obverse.models.tokens import Tokens, surely_within
from obverse.models.tree_attention import lay_out, shortened
from obverse.models.work import Budget, NoMemory, Work, divided
from obverse.queries import Likelihood, Query

_BLOCK_ROWS = 4096

Sides = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a query: what is read, and what is scored."""

# Tokens of stored beginnings that are kept for the next block, in batches.
_STEM_BATCHES = 4

# A shared beginning shorter than this is not worth a stage of its own.
_WORTH_SHARING = 16


class CausalModel(LanguageModel):
    """A causal model of the transformers library.

    `given + said` is tokenised as one text, as lm-evaluation-harness does it: white space at the end of the given text
    joins the said text, and the said tokens are those behind the first `n`, where `n` is the number of tokens of the
    given text alone. Where a token reaches over the border so far that no said token would be left, the said tokens
    begin at the first token in which the two tokenisations differ. No end-of-sequence token is scored. A BOS stands in
    front only where the tokenizer itself puts one; an empty given side starts from the BOS or, lacking one, the EOS.

    Args:
        model: the network; it is set to evaluation.
        tokenizer: its tokenizer.
        name: how it was asked for.
        conventions: `truncation="reference"` cuts texts at the window (both sides on their right) instead of refusing.
        window: the limit on both sides together; None reads it off the configuration.
        token_budget: tokens of a batch at most; None chooses by device. No answer depends on it.
    """

    family = "causal"

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
        self.name = name
        self.conventions = conventions
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.device = next(model.parameters()).device
        self._tokens = Tokens(tokenizer)
        self._bos = tuple(self._tokens.leading)
        bos, eos = getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "eos_token_id", None)
        self._opening = self._bos or ((bos,) if bos is not None else (eos,) if eos is not None else ())
        limit = getattr(model.config, "max_position_embeddings", None)
        # The last token is never read, but an empty given side needs one place for its opening token.
        self.window = window or Window(joint=None if limit is None else limit - len(self._bos))
        self._work = Work()
        self._budget = Budget(
            self.device,
            token_budget,
            token_bytes=token_bytes(model.config.get_text_config(), next(model.parameters()).element_size()),
        )
        self._naive = False
        self._stems = _Stems(lambda: _STEM_BATCHES * self._budget())
        self._one_at_a_time = threading.RLock()
        fill = getattr(tokenizer, "pad_token_id", None)
        self._fill = 0 if fill is None else fill

    def log_likelihoods(
        self, queries: Sequence[Query], *, progress: Progress | None = None, pieces: bool = False
    ) -> list[Likelihood]:
        answers: list[Likelihood | None] = [None] * len(queries)
        with self._one_at_a_time, self._work.timed(), evaluating(self.model), torch.inference_mode():
            self._stems.clear()
            with self._work.planning_timed():
                groups = share(_sides(query) for query in queries)
            self._refuse_overlong(groups)
            for block in blocks(groups, _BLOCK_ROWS):
                self._answer(block, answers, progress, pieces)
            self._stems.clear()
        return [answer for answer in answers if answer is not None]

    def limit(self, *, memory: int | None = None, naive: bool = False) -> None:
        self._budget.limit(memory)
        self._naive = naive

    def set_number_type(self, number_type: str) -> None:
        # What the network can do is found out in exact numbers, before.
        _ = self._network
        set_number_type(self.model, number_type, self.device)
        vars(self).pop("_digest", None)

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
        Limits(most_tokens, stop=stop)
        places: dict[str, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(prompt + begin_with, []).append(place)
        texts = list(places)
        ids_of = self._tokens.begun if begin_with else self._tokens.passing
        ends = end_tokens(self.model, self.tokenizer)
        # Rows of one length and with as much room go together: no position of theirs is padding.
        alike: dict[tuple[int, int], list[tuple[tuple[int, ...], str]]] = {}
        for text, ids in zip(texts, ids_of(texts), strict=True):
            read, room = self._prompt(text, ids, most_tokens)
            alike.setdefault((len(read), room), []).append((read, text))
        answers: list[list[Generated]] = [[] for _ in prompts]
        with torch.inference_mode():
            stem, skipped = self._stem([read for rows in alike.values() for read, _ in rows])
            unsaid = [i for i in self._tokens.unsaid(self._network.vocabulary) if i not in ends]
            unsaid_M = torch.tensor(unsaid, dtype=torch.long, device=self.device)
            for (length, room), rows in sorted(alike.items(), reverse=True):
                limits = Limits(room, ends, stop)
                at_once = max(1, self._budget() // (width * (length - skipped)))
                for start in range(0, len(rows), at_once):
                    some = rows[start : start + at_once]
                    ids_BS, _ = padded([read[skipped:] for read, _ in some], self._fill, self.device)
                    opened = _Going(self._network, ids_BS, self._grown(stem, len(some)), unsaid_M)
                    found = search(
                        opened,
                        len(some),
                        beams=width,
                        limits=limits,
                        text_of=partial(self._text_behind, [read for read, _ in some]),
                    )
                    for (_, text), candidates in zip(some, found, strict=True):
                        for place in places[text]:
                            answers[place] = candidates[:count]
                    if progress is not None:
                        progress(sum(len(places[text]) for _, text in some))
        return answers

    def encode(self, query: Query) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids of a query: what is read first (a BOS included), and what is scored.

        Raises:
            WindowError: it does not fit, and the truncation is not `reference`.
        """
        row = self._rows([_Asked(*_sides(query), ())])[0]
        return row.given, row.said

    def encode_all(self, queries: Sequence[Query], *, tokens: Tokens | None = None) -> list[Sides]:
        """Token ids of queries as `encode` gives them, however long they are.

        Args:
            tokens: remembers texts; None remembers none.
        """
        asked = [_Asked(*_sides(query), ()) for query in queries]
        return [(row.given, row.said) for row in self._rows(asked, tokens=tokens, limited=False)]

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
    def work(self) -> Work:
        self._work.estimated, self._work.peak = self._budget.estimate, self._budget.peak
        return self._work

    @property
    def opening(self) -> tuple[int, ...]:
        """The tokens in front of every given text: the tokenizer's own BOS, if it puts one."""
        return self._bos

    @property
    def network(self) -> Network:
        """The network's body and head."""
        return self._network

    @cached_property
    def _network(self) -> Network:
        return Network(self.model, self.device)

    def _text_behind(self, prompts: Sequence[tuple[int, ...]], row: int, ids: Sequence[int]) -> str:
        # The prompt's last token is decoded along, or a tokenizer may take the space behind it for the text's edge.
        return self._tokens.text(ids, behind=prompts[row][-1:])

    def _prompt(self, text: str, ids: tuple[int, ...], most_tokens: int) -> tuple[tuple[int, ...], int]:
        """What is read of a prompt, and how many tokens may follow."""
        limit = self.window.joint
        room = most_tokens
        if limit is not None:
            taken = len(ids) if ids or self._bos else 1
            if taken >= limit or (taken + room > limit and self.conventions.truncation == "reference"):
                # Cut on its right, as a query is, so that what may be said fits.
                ids = ids[: max(0, limit - room)]
                if self.conventions.truncation != "reference" or not ids:
                    raise WindowError(
                        f"a prompt has {taken} tokens, and {self.name} reads and says at most {limit} together",
                        where=f"prompt that begins {text[:60]!r}",
                        mend="Shorten the text, or choose a model with a larger window.",
                    )
                taken = len(ids)
            room = min(room, limit - taken)
        read = (*self._bos, *ids) if ids else self._opening
        if not read:
            raise ModelError(
                f"{self.name} has neither a BOS nor an EOS token, so it cannot begin without a prompt",
                mend="Give it at least one word to begin with.",
            )
        return read, room

    def _refuse_overlong(self, groups: Sequence[Shared]) -> None:
        """Find queries that do not fit before any work is done."""
        limit = self.window.joint
        if limit is None or self.conventions.truncation == "reference":
            return
        suspects = [
            _Asked(group.given, said, ())
            for group in groups
            for said in group.said
            if not surely_within(group.given + said, limit)
        ]
        for start in range(0, len(suspects), 1024):
            self._rows(suspects[start : start + 1024])

    def _rows(self, asked: Sequence[_Asked], *, tokens: Tokens | None = None, limited: bool = True) -> list[_Row]:
        ids_of = self._tokens.passing if tokens is None else tokens.of
        givens = list(dict.fromkeys(ask.given for ask in asked))
        alone = dict(zip(givens, ids_of(givens), strict=True))
        wholes = ids_of(ask.given + ask.said for ask in asked)
        limit = self.window.joint if limited else None
        return [self._row(ask, alone[ask.given], whole, limit) for ask, whole in zip(asked, wholes, strict=True)]

    def _row(self, ask: _Asked, given: tuple[int, ...], whole: tuple[int, ...], limit: int | None) -> _Row:
        border = min(len(given), len(whole))
        if border == len(whole) and ask.said:
            border = common_prefix([given, whole])
        read, said = whole[:border], whole[border:]
        cut = 0
        # A given side without tokens still takes one place, for the opening token that is not the tokenizer's own.
        taken = 0 if read or self._bos else 1
        if limit is not None and len(whole) + taken > limit:
            if self.conventions.truncation != "reference":
                raise WindowError(
                    f"a query has {len(read)} given and {len(said)} said tokens, and {self.name} reads at most "
                    f"{limit} together",
                    where=f"given text that begins {ask.given[:60]!r}",
                    mend="Shorten the text, or choose a model with a larger window.",
                )
            said = said[: limit - taken]
            read = read[: limit - len(said)]
            cut = len(whole) - len(read) - len(said)
        opened = (*self._bos, *read) if read else self._opening
        if not opened:
            raise ModelError(
                f"{self.name} has neither a BOS nor an EOS token, so nothing can be asked of it without given text",
                mend="Choose a method whose given side is never empty.",
            )
        return _Row(opened, said, cut, ask.places)

    def _answer(
        self, block: Sequence[Shared], answers: list[Likelihood | None], progress: Progress | None, pieces: bool
    ) -> None:
        asked = [
            _Asked(group.given, said, places)
            for group in block
            for said, places in zip(group.said, group.places, strict=True)
        ]

        def settle(rows: Sequence[_Row], scored: Sequence[Sequence[float]]) -> None:
            for row, token_nats in zip(rows, scored, strict=True):
                likelihood = Likelihood(
                    fsum(token_nats),
                    len(row.said),
                    tuple(token_nats),
                    self._tokens.pieces(row.said) if pieces else (),
                    row.cut,
                )
                for place in row.places:
                    answers[place] = likelihood
            if progress is not None:
                progress(sum(len(row.places) for row in rows))

        with self._work.planning_timed():
            rows = self._rows(asked)
        for row in rows:
            self._work.queries += len(row.places)
            self._work.asked += len(row.places) * (len(row.given) + max(0, len(row.said) - 1))
        if self._naive:
            for row in rows:
                for _ in row.places:
                    scored = self._whole([row], None, 0)
                settle([row], scored)
            return
        short, apart = _parted(rows, self._network.border)
        self._work.unshared += sum(len(row.places) for row in apart)
        for row in apart:
            settle([row], self._whole([row], None, 0))
        packed, staged = _parted(short, self._network.reach) if self._network.packs else ([], short)
        if packed:
            self._packed(packed, settle)
        if staged:
            self._staged(staged, settle)

    def _packed(self, rows: Sequence[_Row], settle: _Settle) -> None:
        """Scores of rows as one tree."""
        silent = [row for row in rows if not row.said]
        settle(silent, [()] * len(silent))
        rows = [row for row in rows if row.said]
        while rows:
            planned = self._budget()
            done: set[int] = set()
            try:
                self._tree(rows, settle, done)
            except NoMemory:
                # What shares a beginning is divided by planning it anew, for smaller batches.
                if planned <= max(len(row.given) + len(row.said) for row in rows):
                    raise
            rows = [row for i, row in enumerate(rows) if i not in done]

    def _tree(self, rows: Sequence[_Row], settle: _Settle, done: set[int]) -> None:
        """Settle rows as they are answered, and add their numbers to `done`."""
        scored: list[list[float]] = [[0.0] * len(row.said) for row in rows]
        missing = [len(row.said) for row in rows]
        tree = [(row.given, row.said) for row in rows]
        for batch in self._work.planned(tree_batches(tree, self._budget, recall=self._stems.recalled)):
            answered = set()
            for asks in divided(batch, self._read_off, halve=self._budget.halve):
                for ask, log_prob in asks:
                    scored[ask.row][ask.index] = log_prob
                    missing[ask.row] -= 1
                    answered.add(ask.row)
            whole = sorted(i for i in answered if not missing[i])
            settle([rows[i] for i in whole], [scored[i] for i in whole])
            done.update(whole)

    def _read_off(self, batch: Sequence[Group]) -> list[list[tuple[Ask, float]]]:
        """All that is asked of each group of a batch."""
        layout = lay_out(batch, self.device, self._network.dtype)
        states_TD = self._network.run_packed(layout)
        asked: list[tuple[int, int, Ask]] = []
        for i, (group, start) in enumerate(zip(batch, layout.starts, strict=True)):
            place = start
            for run in group.runs:
                asked.extend((place + ask.offset, i, ask) for ask in run.asks)
                place += len(run.tokens)
        out = read_off(self._network.head, states_TD, asked, len(batch), self._head_rows)
        kept = [group.keep for group in batch if group.keep is not None]
        self._stems.remember(kept)
        self._work.stored += sum(len(each.tokens) for each in kept)
        self._count(states_TD.shape[0], states_TD.shape[0])
        return out

    @property
    def _head_rows(self) -> int:
        return self._budget.head_rows(self._network.vocabulary)

    def _count(self, tokens: int, real: int) -> None:
        """A batch of so many places, of which so many are no padding, has been computed."""
        self._work.computed += tokens
        self._work.padding += tokens - real
        self._work.batches += 1
        self._budget.note(tokens)

    def _staged(self, rows: Sequence[_Row], settle: _Settle) -> None:
        """Scores of rows, stage by stage or whole."""
        contexts: dict[tuple[int, ...], list[_Row]] = {}
        for row in rows:
            contexts.setdefault(row.given, []).append(row)
        stem, skipped = self._stem(list(contexts))
        single = [rows[0] for rows in contexts.values() if len(rows) == 1]
        several = [rows for rows in contexts.values() if len(rows) > 1]
        if not self._network.shares:
            single, several = [row for rows in contexts.values() for row in rows], []
            self._work.unshared += sum(len(row.places) for row in single)
        for batch in batches([len(row.given) - skipped + len(row.said) for row in single], self._budget()):
            alone = [single[i] for i in batch]
            settle(alone, divided(alone, lambda some: self._whole(some, stem, skipped), halve=self._budget.halve))
        # Contexts of one length go together, so that no position of theirs is padding and no mask is needed.
        several.sort(key=lambda rows: len(rows[0].given))
        for length, alike in groupby(several, key=lambda rows: len(rows[0].given)):
            some = list(alike)
            at_once = max(1, self._budget() // (length - skipped))
            for start in range(0, len(some), at_once):
                self._branches(some[start : start + at_once], stem, skipped, settle)

    def _stem(self, contexts: Sequence[tuple[int, ...]]) -> tuple[Any, int]:
        """The cache of the tokens that all contexts begin with, and their number; (None, 0) where there are few."""
        if len(contexts) < 2 or not self._network.shares:
            return None, 0
        # At least one token of each context stays, for its state is what the first said token is read off.
        length = min(common_prefix(contexts), min(map(len, contexts)) - 1)
        if length < _WORTH_SHARING:
            return None, 0
        ids_BS, _ = padded([contexts[0][:length]], self._fill, self.device)
        self._count(length, length)
        return self._network.run(ids_BS, None, keep=True)[1], length

    def _grown(self, stem: Any, rows: int) -> Any:
        if stem is None:
            return None
        return cache_rows(stem, torch.zeros(rows, dtype=torch.long, device=self.device))

    def _whole(self, rows: Sequence[_Row], stem: Any, skipped: int) -> list[list[float]]:
        """Scores of rows that share no more than the stem."""
        # No mask: padding stands on the right, where a causal network does not look.
        ids_BS, _ = padded(
            [(row.given + row.said)[skipped:-1] or (self._fill,) for row in rows], self._fill, self.device
        )
        states_BSD, _ = self._network.run(ids_BS, self._grown(stem, len(rows)), keep=stem is not None)
        self._count(ids_BS.numel(), sum(max(1, len(row.given) + len(row.said) - 1 - skipped) for row in rows))
        leads = [len(row.given) - skipped - 1 for row in rows]
        return self._scores(states_BSD, leads, [row.said for row in rows])

    def _branches(self, contexts: Sequence[Sequence[_Row]], stem: Any, skipped: int, settle: _Settle) -> None:
        """Scores of rows whose contexts, all of one length, have several said texts each."""
        ids_BS, _ = padded([rows[0].given[skipped:] for rows in contexts], self._fill, self.device)
        states_BSD, cache = self._network.run(ids_BS, self._grown(stem, len(contexts)), keep=True)
        self._count(ids_BS.numel(), ids_BS.numel())
        branches = [(owner, row) for owner, rows in enumerate(contexts) for row in rows]
        opened = [i for i, (_, row) in enumerate(branches) if row.said]
        scored: list[list[float]] = [[] for _ in branches]
        first = target_log_probs(
            self._network.head,
            states_BSD[:, -1],
            [branches[i][0] for i in opened],
            [branches[i][1].said[0] for i in opened],
            self._head_rows,
        )
        for i, log_prob in zip(opened, first, strict=True):
            scored[i].append(log_prob)
        wanted = [i for i in opened if len(branches[i][1].said) > 1]
        # A row carries its context's keys and values along, which weigh on memory as positions do.
        load = len(contexts[0][0].given) // 4
        for batch in batches([len(branches[i][1].said) - 1 + load for i in wanted], self._budget()):
            chosen = [wanted[i] for i in sorted(batch)]
            index_B = torch.tensor([branches[i][0] for i in chosen], device=self.device)
            said = [branches[i][1].said for i in chosen]
            ids_BS, _ = padded([ids[:-1] for ids in said], self._fill, self.device)
            states_BSD, _ = self._network.run(ids_BS, cache_rows(cache, index_B), keep=True)
            self._count(ids_BS.numel(), sum(len(ids) - 1 for ids in said))
            rest = self._scores(states_BSD, [0] * len(said), [ids[1:] for ids in said])
            for i, log_probs in zip(chosen, rest, strict=True):
                scored[i].extend(log_probs)
        settle([row for _, row in branches], scored)

    def _scores(
        self, states_BSD: Tensor, leads: Sequence[int], targets: Sequence[tuple[int, ...]]
    ) -> list[list[float]]:
        """Log-probabilities of each row's targets, the first of which follows position `leads[row]`."""
        width = states_BSD.shape[1]
        rows = zip(leads, targets, strict=True)
        places = [b * width + lead + s for b, (lead, ids) in enumerate(rows) for s in range(len(ids))]
        flat = [token for ids in targets for token in ids]
        if not flat:
            return [[] for _ in targets]
        states_ND = states_BSD.flatten(0, 1)[torch.tensor(places, device=states_BSD.device)]
        log_probs = target_log_probs(self._network.head, states_ND, range(len(flat)), flat, self._head_rows)
        ends = [0]
        for ids in targets:
            ends.append(ends[-1] + len(ids))
        return [log_probs[low:high] for low, high in pairwise(ends)]


class _Going(Saying):
    """Rows of one length that are being gone on with.

    Args:
        ids_BS: the rows, but for what stands in the cache at first.
        cache: keys and values of what was read before, or None. A network that cannot go on from one reads its rows
            again and again.
        unsaid: tokens that may not be said.
    """

    def __init__(self, network: Network, ids_BS: Tensor, cache: Any, unsaid: Tensor) -> None:
        self._network = network
        self._ids_BS = ids_BS
        self._unsaid = unsaid
        states_BSD, self._cache = network.run(ids_BS, cache, keep=network.shares)
        self._state_BD = states_BSD[:, -1]

    def best(self, most: int) -> list[list[tuple[int, float]]]:
        return likeliest(self._network.head, self._state_BD, most, self._unsaid)

    def extended(self, rows: Sequence[int], tokens: Sequence[int]) -> Saying:
        index_B = torch.tensor(rows, device=self._ids_BS.device)
        fresh_B1 = torch.tensor(tokens, device=self._ids_BS.device)[:, None]
        if self._network.shares:
            return _Going(self._network, fresh_B1, cache_rows(self._cache, index_B), self._unsaid)
        whole_BS = torch.cat([self._ids_BS[index_B], fresh_B1], dim=1)
        return _Going(self._network, whole_BS, None, self._unsaid)


class _Stems:
    """The last beginnings that were stored in a call, for the blocks that follow.

    They do not outlive the call: nobody could tell for certain that the network is still the same.

    Args:
        most: tokens kept at most, but for a single longer beginning.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._kept: list[Stored] = []

    def recalled(self, tokens: tuple[int, ...], most: int) -> Stored | None:
        """The longest kept beginning of a text, at most so many tokens of it; None where all are short."""
        best, length = None, _WORTH_SHARING - 1
        for stored in self._kept:
            alike = min(common_prefix([stored.tokens, tokens]), most)
            if alike > length:
                best, length = stored, alike
        if best is None:
            return None
        return best if length == len(best.tokens) else shortened(best, length)

    def remember(self, stored: Iterable[Stored]) -> None:
        """Keep beginnings that a text begins with; the oldest are dropped."""
        self._kept.extend(each for each in stored if each.behind is None and len(each.tokens) >= _WORTH_SHARING)
        while len(self._kept) > 1 and sum(len(each.tokens) for each in self._kept) > self._most():
            self._kept.pop(0)

    def clear(self) -> None:
        """Forget them all."""
        self._kept.clear()


_Settle = Callable[[Sequence["_Row"], Sequence[Sequence[float]]], None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A given and a said text, and where in the list of queries the pair is asked."""

    given: str
    said: str
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """The same as tokens: what is read, what is scored, how many tokens a hard limit took away."""

    given: tuple[int, ...]
    said: tuple[int, ...]
    cut: int
    places: tuple[int, ...]


def _parted(rows: Sequence[_Row], longest: int | None) -> tuple[Sequence[_Row], Sequence[_Row]]:
    """The rows of at most so many tokens, and the longer ones."""
    if longest is None:
        return rows, []
    sizes = [len(row.given) + len(row.said) for row in rows]
    return (
        [row for row, size in zip(rows, sizes, strict=True) if size <= longest],
        [row for row, size in zip(rows, sizes, strict=True) if size > longest],
    )


def _sides(query: Query) -> tuple[str, str]:
    given = query.given.rstrip()
    return given, query.given[len(given) :] + query.said
