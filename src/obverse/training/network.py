"""From pairs to token log-probabilities with gradient, on the networks and token ids that also score.

Axes: N rows, T said tokens of a row, padded; C different given texts, G their positions; S positions of the said side,
M said tokens of all rows; D width.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn

from obverse.errors import ModelError, OutputError, RecipeError, nearest
from obverse.models.base import Conventions, LanguageModel
from obverse.models.bundled import BundledModel
from obverse.models.causal import CausalModel
from obverse.models.conventions import write_conventions
from obverse.models.forward import padded
from obverse.models.sentence_encoder import LONGEST, SentenceEncoderModel, pooled
from obverse.models.seq2seq import Seq2SeqModel, positions
from obverse.models.tokens import Tokens
from obverse.objectives.losses import LinearHead, said_log_probs
from obverse.objectives.objectives import Objective, Pair
from obverse.queries import Query
from obverse.tasks.directions import shorten
from obverse.tasks.mixture import Draw
from obverse.training.adapters import merged_weights
from obverse.training.sharding import is_sharded, whole

TRUNCATIONS = ("fields", "reference")
SINK = "<sink>"

# Texts of which the ids are kept: those of a step or two, so that what `fit` has read `rows` finds.
_REMEMBERED = 4096
# A label more or less can move a token border or two.
_SLACK = 4
# A micro-batch costs a time of its own, about that of so many positions; see `models.plan.batches`.
_SPARE = 128


@dataclass(frozen=True, slots=True)
class Lengths:
    """The most tokens of each side, special tokens included.

    Raises:
        RecipeError: one of them is no whole number from 1 up.
    """

    given: int
    said: int

    def __post_init__(self) -> None:
        for side in ("given", "said"):
            limit: object = getattr(self, side)
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                raise RecipeError(
                    f"is {limit!r} and must be a whole number of tokens from 1 up", where=f"lengths.{side}"
                )


@dataclass(frozen=True, slots=True)
class Row:
    """A pair as token ids.

    Attributes:
        given: what is read first.
        said: what is scored; a causal model reads both sides as one sequence.
        gold: whether the pair is right.
        group: which draw it belongs to.
        option: which of the draw's options it is about.
        objective: the number of the objective that asks.
        prior: what is known about the option beforehand, in nats.
        cut: how many tokens the lengths took away.
    """

    given: tuple[int, ...]
    said: tuple[int, ...]
    gold: bool
    group: int
    option: int
    objective: int
    prior: float = 0.0
    cut: int = 0


SPARE = Row((0,), (0,), True, 0, 0, 0)
"""The smallest row there is, for a pass whose loss counts nothing."""


@dataclass(frozen=True, slots=True)
class PairLogProbs:
    """Natural-log probabilities of the said tokens of N rows, in fp32; 0 where `mask_NT` is 0.

    Attributes:
        log_probs_NT: of the said tokens.
        sink_log_probs_NT: of the sink token in their places; None where it was not asked for.
        mask_NT: 1 on real tokens.
    """

    log_probs_NT: Tensor
    sink_log_probs_NT: Tensor | None
    mask_NT: Tensor


def pair_network(
    model: LanguageModel,
    *,
    lengths: Lengths,
    truncation: str = "fields",
    gradient_checkpointing: bool = False,
    compiled: bool = False,
) -> PairNetwork:
    """The network of a language model, to be trained. Both share the weights: what is trained is what is scored.

    Args:
        model: an encoder-decoder or a causal model of the transformers library, or the bundled one.
        lengths: the most tokens of each side.
        truncation: `fields`: the longest input field is shortened (`PairNetwork.fit`); `reference`: both sides are cut
            from the right, as the released code does.
        gradient_checkpointing: hold less, compute more: each layer runs again in the backward pass.
        compiled: run the network's body through torch.compile, which needs a C++ compiler and some minutes at first.

    Raises:
        RecipeError: the model has no network to train, the lengths do not fit it, or an argument is unknown.
    """
    if truncation not in TRUNCATIONS:
        raise RecipeError(f"there is no truncation {truncation!r}", mend=nearest(truncation, TRUNCATIONS))
    if isinstance(model, BundledModel):
        model = model.language_model
    kind: type[PairNetwork]
    if isinstance(model, Seq2SeqModel):
        kind = Seq2SeqNetwork
    elif isinstance(model, CausalModel):
        kind = CausalNetwork
    elif isinstance(model, SentenceEncoderModel):
        kind = SimilarityNetwork
    else:
        raise RecipeError(
            f"{model.name} has no network that could be trained",
            mend="Choose an encoder-decoder (T5, BART, ..) or a causal model (GPT-2, Llama, ..).",
        )
    network = kind(model, lengths=lengths, truncation=truncation, compiled=compiled)
    if gradient_checkpointing:
        _checkpoint(network)
    return network


class PairNetwork(nn.Module, ABC):
    """A language model's network with gradient. Subclasses are final and belong to one family.

    Attributes:
        model: the network as the transformers library has it; its parameters are this module's.
        language_model: scores with the same weights.
        tokenizer: of both.
        lengths: the most tokens of each side.
        truncation: `fields` or `reference`.
        compiled: whether its body goes through torch.compile.
        sink: the number of the token `<sink>`, None where the vocabulary has none.
    """

    language_model: Seq2SeqModel | CausalModel | SentenceEncoderModel

    def __init__(
        self,
        language_model: Seq2SeqModel | CausalModel | SentenceEncoderModel,
        *,
        lengths: Lengths,
        truncation: str,
        compiled: bool,
    ) -> None:
        super().__init__()
        self.model: nn.Module = language_model.model
        self.language_model = language_model
        self.tokenizer: Any = language_model.tokenizer
        self.lengths = lengths
        self.truncation = truncation
        self.sink: int | None = self.tokenizer.get_vocab().get(SINK)
        fill = getattr(self.tokenizer, "pad_token_id", None)
        self._fill = 0 if fill is None else fill
        self._tokens = Tokens(self.tokenizer, remembered=_REMEMBERED)
        self.compiled = compiled
        self.eval()
        self._check_lengths()

    def rows(self, pairs: Sequence[Pair], objective: int) -> list[Row]:
        """Pairs as token ids, in the same order; a side that is too long is cut from the right, end marks kept.

        Args:
            objective: the number that the rows carry.
        """
        sides = self._sides([pair.query for pair in pairs])
        rows = []
        for pair, (given, said) in zip(pairs, sides, strict=True):
            read, scored = self._cut(given, said)
            rows.append(
                Row(
                    read,
                    scored,
                    pair.gold,
                    pair.group,
                    pair.option,
                    objective,
                    cut=len(given) - len(read) + len(said) - len(scored),
                )
            )
        return rows

    def fit(self, draw: Draw, objective: Objective) -> tuple[Draw, int]:
        """`fit_draw` to this network's lengths; untouched under the truncation `reference`.

        Returns:
            The draw, and how many tokens its right pair lost.
        """
        if self.truncation == "reference":
            return draw, 0
        fitted = fit_draw(draw, objective, self.lengths, sides=self._sides)
        if fitted is draw:
            return draw, 0
        whole, rest = self._sides([_query(objective, d, d.options[d.gold]) for d in (draw, fitted)])
        return fitted, sum(map(len, whole)) - sum(map(len, rest))

    def micro_batches(self, rows: Sequence[Row], *, token_budget: int) -> list[list[Row]]:
        """`micro_batches` by what this network pads."""
        return micro_batches(rows, token_budget=token_budget, joint=self._joint)

    @abstractmethod
    def forward(self, rows: Sequence[Row], *, sink: bool = False) -> PairLogProbs:
        """Log-probabilities of the said tokens of each row, in the order given.

        Args:
            rows: one micro-batch; it goes through the network at once.
            sink: also those of the sink token.

        Raises:
            ModelError: `sink` is asked for, and the vocabulary has no such token.
        """

    _joint: bool

    @abstractmethod
    def _check_lengths(self) -> None:
        """Refuse lengths that the network has no positions for."""

    @abstractmethod
    def _marks(self) -> tuple[int, int, int]:
        """How many special tokens stand in front of the given side, behind it, and behind the said side."""

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _sides(self, queries: Sequence[Query]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        return self.language_model.encode_all(queries, tokens=self._tokens)

    def _cut(self, given: tuple[int, ...], said: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        _, after, end = self._marks()
        if len(given) > self.lengths.given:
            given = given[: self.lengths.given - after] + given[len(given) - after :]
        if len(said) > self.lengths.said:
            said = said[: self.lengths.said - end] + said[len(said) - end :]
        return given, said

    def _answer(
        self,
        rows: Sequence[Row],
        states_MD: Tensor,
        head: Callable[[Tensor], Tensor],
        *,
        sink: bool,
    ) -> PairLogProbs:
        """Log-probabilities of all said tokens, put in their places."""
        if sink and self.sink is None:
            raise ModelError(
                f"the vocabulary of {self.language_model.name} has no token {SINK}",
                mend="Train without the sink (sink = 0), or add the token to the tokenizer and the model.",
            )
        device = states_MD.device
        targets_M = torch.tensor([token for row in rows for token in row.said], dtype=torch.long, device=device)
        log_probs_M, sinks_M = said_log_probs(states_MD, targets_M, head, sink=self.sink if sink else None)
        width = max(1, *(len(row.said) for row in rows))
        mask_NT = torch.arange(width)[None] < torch.tensor([len(row.said) for row in rows])[:, None]
        row_M, column_M = mask_NT.nonzero().to(device).unbind(1)

        def placed(values_M: Tensor) -> Tensor:
            # Not flat and viewed in its shape: a view would lose the hook by which divided weights are gathered.
            zeros_NT = torch.zeros(mask_NT.shape, dtype=values_M.dtype, device=device)
            return zeros_NT.index_put((row_M, column_M), values_M)

        return PairLogProbs(
            placed(log_probs_M), None if sinks_M is None else placed(sinks_M), mask_NT.to(device, torch.float32)
        )


class Seq2SeqNetwork(PairNetwork):
    """An encoder-decoder. Each different given text is read once, and its states repeated for its said texts."""

    language_model: Seq2SeqModel
    _joint = False

    def forward(self, rows: Sequence[Row], *, sink: bool = False) -> PairLogProbs:
        encode, _ = self._body
        numbers = {given: c for c, given in enumerate(dict.fromkeys(row.given for row in rows))}
        contexts = [numbers[row.given] for row in rows]
        ids_CG, mask_CG = padded(list(numbers), self._fill, self._device)
        states_CGD = encode(ids_CG, mask_CG)
        read = self._pack if self._is_packed(rows, contexts) else self._repeat
        states_MD = read(rows, contexts, states_CGD, mask_CG)
        network = self.language_model.network
        linear = network.linear(states_MD)
        if linear is None:
            return self._answer(rows, states_MD, network.head, sink=sink)
        states_MD, weight_VD, bias_V, scale = linear
        return self._answer(rows, states_MD, LinearHead(weight_VD, bias_V, scale), sink=sink)

    def _repeat(self, rows: Sequence[Row], contexts: Sequence[int], states: Tensor, mask: Tensor | None) -> Tensor:
        """Decoder states of the said tokens (M, D), from one decoder row a row."""
        if max(contexts) + 1 < len(rows):
            index_N = torch.tensor(contexts, device=states.device)
            # Not by brackets: the gradient of those adds up in no fixed order.
            states = states.index_select(0, index_N)
            mask = None if mask is None else mask[index_N]
        start = self.language_model.frame.start
        # No mask on the said side: padding stands on the right, where a decoder does not look.
        ids_NS, _ = padded([(*start, *row.said[:-1]) for row in rows], self._fill, states.device)
        states_NSD = self._body[1](ids_NS, states, mask, None)
        return _chosen(states_NSD, [(n, len(start) - 1, len(row.said)) for n, row in enumerate(rows)])

    def _pack(self, rows: Sequence[Row], contexts: Sequence[int], states_CGD: Tensor, mask_CG: Tensor | None) -> Tensor:
        """The same, from one decoder row a context.

        What is said of a context stands there end to end. Each text sees itself alone and counts its positions from 0,
        so the states are those of separate rows, but keys and values of the cross-attention are made once a context.
        """
        start = self.language_model.frame.start
        ids: list[list[int]] = [[] for _ in states_CGD]
        places: list[list[int]] = [[] for _ in ids]
        owners: list[list[int]] = [[] for _ in ids]
        spans = []
        for n, (row, c) in enumerate(zip(rows, contexts, strict=True)):
            spans.append((c, len(ids[c]), len(row.said)))
            ids[c] += (*start, *row.said[:-1])
            places[c] += range(len(row.said))
            owners[c] += [n] * len(row.said)
        device = states_CGD.device
        owners_CS, _ = padded(owners, -1, device)
        mask_CSS = (owners_CS[:, :, None] == owners_CS[:, None, :]).tril()
        model: Any = self.model
        states_CSD = model.decoder.base_model(
            input_ids=padded(ids, self._fill, device)[0],
            position_ids=padded(places, 0, device)[0],
            attention_mask=mask_CSS[:, None],
            encoder_hidden_states=states_CGD,
            encoder_attention_mask=mask_CG,
            use_cache=False,
        ).last_hidden_state
        return _chosen(states_CSD, spans)

    def _is_packed(self, rows: Sequence[Row], contexts: Sequence[int]) -> bool:
        """Whether the decoder can read packed rows, and they are worth it: contexts are shared, and about equally."""
        if max(contexts) + 1 == len(rows) or not self._packs or not all(row.said for row in rows):
            return False
        filled = Counter[int]()
        for row, c in zip(rows, contexts, strict=True):
            filled[c] += len(row.said)
        apart = len(rows) * max(len(row.said) for row in rows)
        return 4 * len(filled) * max(filled.values()) <= 5 * apart

    @cached_property
    def _packs(self) -> bool:
        # T5 and BART take no positions. Only this kind of attention takes a mask of yes and no.
        config: Any = self.model.config
        return (
            config.model_type == "encoder-decoder"
            and config.decoder.model_type == "bert"
            and config.decoder._attn_implementation == "sdpa"
            and len(self.language_model.frame.start) == 1
            and not self.compiled
        )

    def _check_lengths(self) -> None:
        name = self.language_model.name
        config: Any = self.model.config
        before, after, end = self._marks()
        given = positions(getattr(config, "encoder", None) or config)
        said = positions(getattr(config, "decoder", None) or config)
        if said is not None:
            said -= len(self.language_model.frame.start) - 1  # the last scored token is never read
        _check_room("given", self.lengths.given, before + after, given, name)
        _check_room("said", self.lengths.said, end, said, name)

    def _marks(self) -> tuple[int, int, int]:
        frame = self.language_model.frame
        return len(frame.before_given), len(frame.after_given), len(frame.after_said)

    @cached_property
    def _body(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        network = self.language_model.network
        if self.compiled:
            return torch.compile(network.encode, dynamic=True), torch.compile(network.decode, dynamic=True)
        return network.encode, network.decode


class CausalNetwork(PairNetwork):
    """A causal model. Given and said tokens are one sequence, of which the head sees the said part."""

    language_model: CausalModel
    _joint = True

    def forward(self, rows: Sequence[Row], *, sink: bool = False) -> PairLogProbs:
        # No mask: padding stands on the right, where a causal network does not look.
        ids_NS, _ = padded([(row.given + row.said)[:-1] or row.given for row in rows], self._fill, self._device)
        states_NSD = self._body(ids_NS)
        states_MD = _chosen(states_NSD, [(n, len(row.given) - 1, len(row.said)) for n, row in enumerate(rows)])
        network = self.language_model.network
        return self._answer(rows, states_MD, network.output or network.head, sink=sink)

    def _check_lengths(self) -> None:
        lengths, name = self.lengths, self.language_model.name
        config: Any = self.model.config
        _check_room("given", lengths.given, self._marks()[0], None, name)
        most = positions(config)
        # The last scored token is never read.
        if most is not None and lengths.given + lengths.said - 1 > most:
            raise RecipeError(
                f"a given side of {lengths.given:,} tokens and a said side of {lengths.said:,} are "
                f"{lengths.given + lengths.said:,} together, and {name} reads {most:,} before the last one",
                where="lengths",
                mend="Lower one of them.",
            )

    def _marks(self) -> tuple[int, int, int]:
        return len(self.language_model.opening), 0, 0

    @cached_property
    def _body(self) -> Callable[[Tensor], Tensor]:
        with torch.no_grad():
            network = self.language_model.network  # finds out on a few tokens how it may be taken apart

        def states(ids_NS: Tensor) -> Tensor:
            return network.run(ids_NS, None, keep=False)[0]

        compiled: Callable[[Tensor], Tensor] = torch.compile(states, dynamic=True) if self.compiled else states
        return compiled


class SimilarityNetwork(PairNetwork):
    """A sentence encoder. What it gives for a row is one number, the cosine of both sides.

    Cosines are no log-probabilities: of an objective's terms `choice` alone means something here, with `choice_scale`
    the nats a unit of cosine.
    """

    language_model: SentenceEncoderModel
    _joint = False

    def forward(self, rows: Sequence[Row], *, sink: bool = False) -> PairLogProbs:
        if sink:
            raise RecipeError("a sentence encoder says no tokens, so no sink token", where="objectives")
        # Texts and labels apart: padded together, every label would cost as much as a text.
        order = sorted(dict.fromkeys(ids for row in rows for ids in (row.given, row.said)), key=len)
        cut = _split([len(ids) for ids in order])
        vectors_ND = torch.cat([self._vectors(some) for some in (order[:cut], order[cut:]) if some])
        place = {ids: n for n, ids in enumerate(order)}
        given = torch.tensor([place[row.given] for row in rows], device=self._device)
        said = torch.tensor([place[row.said] for row in rows], device=self._device)
        # Not by brackets: the gradient of those adds up in no fixed order.
        cosines_N1 = (vectors_ND.index_select(0, given) * vectors_ND.index_select(0, said)).sum(1, keepdim=True)
        return PairLogProbs(cosines_N1.float(), None, torch.ones_like(cosines_N1, dtype=torch.float32))

    def _vectors(self, texts: Sequence[tuple[int, ...]]) -> Tensor:
        ids_BT, mask_BT = padded(list(texts), self._fill, self._device)
        states_BTD = self.model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        return pooled(states_BTD, torch.ones_like(ids_BT) if mask_BT is None else mask_BT)

    def _check_lengths(self) -> None:
        for side in ("given", "said"):
            length = getattr(self.lengths, side)
            if length > LONGEST:
                raise RecipeError(
                    f"is {length:,}, and {self.language_model.name} reads at most {LONGEST} tokens there",
                    where=f"lengths.{side}",
                    mend=f"Lower it to {LONGEST}.",
                )

    def _marks(self) -> tuple[int, int, int]:
        before, after = self.language_model.marks
        return len(before), len(after), len(after)


def micro_batches(rows: Sequence[Row], *, token_budget: int, joint: bool = False) -> list[list[Row]]:
    """Rows in micro-batches of like lengths, the longest first.

    Rows of one objective and group stay together, for some losses compare them; a group that is larger than the budget
    stands alone.

    Args:
        token_budget: the largest padded area: the different given texts times the longest, and the rows times the
            longest said one.
        joint: both sides are one sequence, of which every row is read anew: the rows times the longest sequence.

    Raises:
        RecipeError: the budget is no whole number from 1 up.
    """
    if isinstance(token_budget, bool) or not isinstance(token_budget, int) or token_budget < 1:
        raise RecipeError(f"is {token_budget!r} and must be a whole number from 1 up", where="token_budget")
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.objective, row.group), []).append(row)
    units = [_Unit.of(members, joint=joint) for members in groups.values()]
    units.sort(key=lambda unit: unit.order)  # stable: equal ones stay as they came
    out: list[list[Row]] = []
    batch: _Unit | None = None
    for unit in units:
        grown = None if batch is None else batch.and_also(unit)
        if grown is None or grown.area > token_budget or grown.padding > _SPARE + grown.area // 8:
            out.append([])
            grown = unit
        out[-1] += unit.rows
        batch = grown
    return out


def fit_draw(
    draw: Draw,
    objective: Objective,
    lengths: Lengths,
    *,
    sides: Callable[[Sequence[Query]], Sequence[tuple[tuple[int, ...], tuple[int, ...]]]],
) -> Draw:
    """The draw with its longest input shortened until every pair of the objective fits the lengths.

    The same text is then asked about every option. Instruction and options are not touched: where they are too long
    by themselves, a draw that came hours into a run, `PairNetwork.rows` cuts the pair from the right and counts what
    it cuts. A draw that fits, and most do, is returned as it is, with no text tokenised that its pairs are not made of.

    Args:
        sides: token ids of queries, special tokens included, nothing cut.
    """
    options = draw.options
    limits = (lengths.given, lengths.said)
    gold = _query(objective, draw, options[draw.gold])
    longer = max(len(option.encode("utf-8", "surrogatepass")) for option in options)
    # No token is shorter than a byte; 8 stand for special tokens and word marks.
    if all(
        len(text.encode("utf-8", "surrogatepass")) + longer + 8 <= limit
        for text, limit in zip((gold.given, gold.said), limits, strict=True)
    ):
        return draw
    # An option takes as many tokens more or less than the right one as it has alone, but for the borders.
    alone = [len(said) for _, said in sides([Query("", option) for option in options])]
    room = max(alone) - alone[draw.gold] + _SLACK if len(options) > 1 else 0
    if all(len(ids) + room <= limit for ids, limit in zip(sides([gold])[0], limits, strict=True)):
        return draw

    def over(fitted: Draw) -> tuple[int, int]:
        """By how many tokens the longest pair is over the given and the said length (0 or less: it fits)."""
        made = sides([_query(objective, fitted, option) for option in options])
        return max(len(g) for g, _ in made) - limits[0], max(len(s) for _, s in made) - limits[1]

    # Shortening the input helps the side that it stands on.
    place = int(objective.direction.said_fields)
    fitted, excess = draw, over(draw)
    while excess[place] > 0:
        inputs = [s.text for s in fitted.rendering.segments if s.is_input]
        text = max(inputs, key=len, default="")
        if not text:
            break
        tokens = len(sides([Query("", text)])[0][1])
        characters = int(excess[place] * max(1.0, len(text) / max(1, tokens))) + 1
        fitted = replace(fitted, rendering=shorten(fitted.rendering, min(len(text), characters)))
        excess = over(fitted)
    return fitted


def trainable_weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters that training changes, by name."""
    return {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}


def draw_towards(network: nn.Module, weights: Mapping[str, Tensor], *, share: float) -> None:
    """Move the parameters in `weights` towards those: `share` of them, and the rest of what is there (WiSE-FT)."""
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            parameters[name].lerp_(tensor.to(parameters[name].device), share)


def save_pretrained(
    network: PairNetwork, folder: str | Path, *, conventions: Conventions | None = None, writes: bool = True
) -> Path:
    """Write the network as a folder that the transformers library and `load_model` read. Adapters are merged into it.

    The folder appears whole or not at all.

    Args:
        conventions: what `obverse.json` says, such as the directions and data sets it was trained on; None takes the
            language model's.
        writes: whether this process is the one that writes. Where the weights are divided, all of them call.

    Raises:
        OutputError: the folder exists already, or cannot be written.
    """
    folder = Path(folder)
    model: Any = network.model
    weights = _weights(model, keep=writes) if writes or is_sharded(network) else {}
    if not writes:
        return folder
    if folder.exists() or folder.is_symlink():
        raise OutputError("exists already", where=str(folder), mend="Name a folder that does not exist yet.")
    building: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        with _quiet():
            model.save_pretrained(building, state_dict=weights)
            network.tokenizer.save_pretrained(building)
        write_conventions(_without_prior(conventions or network.language_model.conventions), building)
        building.chmod(0o755)
        os.replace(building, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"cannot be written: {reason}", where=str(folder)) from None
    finally:
        if building is not None and building.exists():
            shutil.rmtree(building, ignore_errors=True)
    return folder


@dataclass(frozen=True, slots=True)
class _Unit:
    """Rows that go together, and what they would be padded to."""

    rows: list[Row]
    contexts: int
    given: int
    said: int
    tokens: int
    joint: bool
    order: tuple[int, ...]

    @classmethod
    def of(cls, rows: list[Row], *, joint: bool) -> _Unit:
        if joint:
            given = max(len(row.given) + len(row.said) for row in rows)
            tokens = sum(len(row.given) + len(row.said) for row in rows)
            return cls(rows, len(rows), given, 0, tokens, True, (-given,))
        read = dict.fromkeys(row.given for row in rows)
        given, said = max(map(len, read)), max(len(row.said) for row in rows)
        tokens = sum(map(len, read)) + sum(len(row.said) for row in rows)
        # The longer side is most of the area, so like ones of it stand together, and the two kinds apart.
        order = (int(given < said), -max(given, said), -min(given, said))
        return cls(rows, len(read), given, said, tokens, False, order)

    @property
    def area(self) -> int:
        return self.contexts * self.given + len(self.rows) * self.said

    @property
    def padding(self) -> int:
        return self.area - self.tokens

    def and_also(self, other: _Unit) -> _Unit:
        # A given text that both have would be counted twice; draws hardly ever share one.
        return _Unit(
            self.rows + other.rows,
            self.contexts + other.contexts,
            max(self.given, other.given),
            max(self.said, other.said),
            self.tokens + other.tokens,
            self.joint,
            self.order,
        )


def _split(lengths: Sequence[int]) -> int:
    """Where to part sorted lengths in two batches so that the least is padded."""
    n = len(lengths)
    return min(range(1, n + 1), key=lambda k: k * lengths[k - 1] + (n - k) * lengths[-1])


def _query(objective: Objective, draw: Draw, option: str) -> Query:
    return objective.direction.query(draw.rendering, option)


def _chosen(states_BSD: Tensor, spans: Iterable[tuple[int, int, int]]) -> Tensor:
    """States of each span, which is its row, its first position and its length; spans end to end, shape (M, D)."""
    width = states_BSD.shape[1]
    places = [b * width + first + t for b, first, length in spans for t in range(length)]
    return states_BSD.flatten(0, 1).index_select(0, torch.tensor(places, dtype=torch.long, device=states_BSD.device))


def _checkpoint(network: PairNetwork) -> None:
    model: Any = network.model
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise RecipeError(
            f"{network.language_model.name} knows no gradient checkpointing",
            where="model.gradient_checkpointing",
            mend="Set it to false, and lower token_budget where memory is short.",
        )
    # The newer name where the library has it, since the older one warns there.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _check_room(side: str, length: int, marks: int, most: int | None, name: str) -> None:
    where = f"lengths.{side}"
    if length <= marks:
        raise RecipeError(f"is {length}, and {name} puts {marks} special tokens there", where=where, mend="Raise it.")
    if most is not None and length > most:
        raise RecipeError(
            f"is {length:,}, and {name} reads at most {most:,} tokens there", where=where, mend=f"Lower it to {most:,}."
        )


def _weights(model: Any, *, keep: bool) -> dict[str, Tensor]:
    """The state dict as the class reads it back; divided weights are gathered for the processes that keep it."""
    state = _gathered(model, merged_weights(model), keep=keep)
    if not keep:
        return {}
    if model.config.model_type == "encoder-decoder":
        # Loading by class name builds poolers that nothing here uses; zeros spare the reader a warning about them.
        with torch.device("meta"):
            fresh = type(model)(model.config).state_dict()
        missing = {name: tensor for name, tensor in fresh.items() if name not in state and ".pooler." in name}
        state.update({name: torch.zeros(tensor.shape) for name, tensor in missing.items()})
    # One table under names that the class does not tie would be refused: each set of ties has a table of its own.
    first: dict[tuple[int, torch.Size], str] = {}
    copies: dict[str, Tensor] = {}
    for name, tensor in state.items():
        owner = model.all_tied_weights_keys.get(name, name)
        place = (tensor.data_ptr(), tensor.shape)
        if first.setdefault(place, owner) != owner:
            copies.setdefault(owner, tensor.clone())
    return {name: copies.get(model.all_tied_weights_keys.get(name, name), tensor) for name, tensor in state.items()}


def _gathered(model: nn.Module, state: dict[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The state with divided weights in full; names of one parameter still share its memory."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(p), name) for name, p in model.named_parameters(remove_duplicate=False)}
    owners = {name: owner if (owner := names.get(name, name)) in state else name for name in state}
    found = whole({name: tensor for name, tensor in state.items() if owners[name] == name}, keep=keep)
    return {name: found[owner] for name, owner in owners.items()} if keep else {}


def _without_prior(conventions: Conventions) -> Conventions:
    """The folder holds no sentence encoder, so it cannot blend."""
    if not conventions.blend:
        return conventions
    return replace(conventions, blend={}, method="product" if conventions.method == "blend" else conventions.method)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars or notices from the model library; as before afterwards."""
    logging: Any = transformers.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
