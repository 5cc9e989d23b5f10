"""Asking a model about the cells of a plan: in blocks, each number once, every record as soon as it is known.

The plan's instances are cut into blocks, over the borders of cells, and a block is asked whole or not at all. The first
blocks are small, so that something is kept early, and each is twice as large as the one before, up to the batch size.
Their sizes follow from the plan alone and never from the clock: what a batch holds does not depend on how often the run
was stopped, nor on the machine's other work, and so neither does the last bit of any score. Raw scores of one term (a
direction under a length rule) are shared by methods and calibrations, and kept in the score store, if there is one,
before any record is written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from obverse.errors import ModelError, WindowError
from obverse.evaluation.cells import GENERATE, EvaluationCell, Generation, Instance, Slot
from obverse.labelling import Labeller
from obverse.metrics.choices import chosen, is_tie
from obverse.models.base import LanguageModel
from obverse.runs.records import Record
from obverse.runs.scores import ScoreKey, ScoreStore
from obverse.runs.store import RunWriter
from obverse.scoring import calibration as calibrations
from obverse.scoring.scorers import NULL, PRIOR, Scorer
from obverse.tasks.directions import Direct, shorten
from obverse.tasks.templates import InstructionTemplate, Mask, Rendering

BATCH_SIZE = 256
"""The most instances in a block."""
FIRST_BLOCK = 4
"""Instances in the first block, where the batch size is not smaller still."""
FORMAT = 1
"""Goes up whenever the same prompt is asked in other words: scores that are kept then count as not there."""
_SHORTENED_AT_MOST = 40  # times, for one prompt
_TOO_LONG = "the model's window is too small, even with the input left out"


@dataclass(frozen=True)
class Method:
    """A scorer with a calibration.

    Attributes:
        calibration: one of `obverse.scoring.calibration.CALIBRATIONS`.
    """

    scorer: Scorer
    calibration: str = "none"

    @property
    def name(self) -> str:
        """As in records: "flipped", "flipped, contextual"."""
        plain = self.calibration == "none"
        return self.scorer.method if plain else f"{self.scorer.method}, {self.calibration}"

    @property
    def temperature(self) -> float:
        """What its scores are to be divided by before the softmax; calibrated ones have that behind them."""
        return self.scorer.temperature if self.calibration == "none" else 1.0


@dataclass
class Asked:
    """What an evaluation came to, beside its records.

    Attributes:
        asked: scores (of all options of a prompt in one term) and answers that the model gave.
        kept: those that were taken from the store.
        uncalibrated: tasks in which batch calibration had to be left out -> why.
    """

    asked: int = 0
    kept: int = 0
    uncalibrated: dict[str, str] = field(default_factory=dict)


Advance = Callable[[EvaluationCell, int], None]
"""Told that so many more instances of a cell are answered: within a block as the model answers, and the last of it when
the block's records are on the disk."""


def evaluate(
    model: LanguageModel,
    cells: Sequence[EvaluationCell],
    methods: Sequence[Method],
    writer: RunWriter,
    *,
    store: ScoreStore | None = None,
    batch_size: int = BATCH_SIZE,
    advance: Advance | None = None,
) -> Asked:
    """Write the records that are not there yet.

    Args:
        methods: of cells whose options are chosen between.
        batch_size: the most instances in a block. Records do not depend on it but for the rounding of a model's floats.

    Raises:
        ModelError: the model cannot generate where it must, or gives scores that are not numbers.
        OutputError: a disk refuses; what is written is safe.
    """
    if any(cell.generation is not None for cell in cells):
        check_generates(model)
    evaluation = _Evaluation(model, tuple(methods), writer, store)
    through: Counter[int] = Counter()
    for block in _blocks(cells, batch_size):
        told = _Told(block, advance)
        evaluation.ask(block, told)
        for number, count in Counter(number for number, _, _ in block).items():
            through[number] += count
            if through[number] == cells[number].rows:
                evaluation.end(number, cells[number])
        told.end()
    return evaluation.told


def check_generates(model: LanguageModel) -> None:
    """Refuse a model that cannot generate.

    Raises:
        ModelError: it cannot.
    """
    model.generate([], most_tokens=1)


_Block = list[tuple[int, EvaluationCell, Slot]]


def _blocks(cells: Sequence[EvaluationCell], most: int) -> Iterator[_Block]:
    block: _Block = []
    size = min(FIRST_BLOCK, most)
    for number, cell in enumerate(cells):
        for slot in cell.read():
            block.append((number, cell, slot))
            if len(block) == size:
                yield block
                block = []
                size = min(2 * size, most)
    if block:
        yield block


class _Told:
    """Tells the instances of a block as the model answers, in their order."""

    def __init__(self, block: _Block, advance: Advance | None) -> None:
        self._block = block
        self._advance = advance
        self._rows = 0
        self._asked = self._answered = 0

    def expect(self, asked: int) -> None:
        """So many questions are put to the model about the block, in one go or in several."""
        self._asked += asked

    def answered(self, questions: int) -> None:
        """So many more of them are answered."""
        self._answered += questions
        share = self._answered / max(1, self._asked)
        self._tell(min(int(share * len(self._block)), len(self._block) - 1))

    def end(self) -> None:
        """The block is through."""
        self._tell(len(self._block))

    def _tell(self, rows: int) -> None:
        fresh = self._block[self._rows : rows]
        self._rows = max(self._rows, rows)
        if self._advance is not None:
            for _, run in itertools.groupby(fresh, key=lambda each: each[0]):
                same = list(run)
                self._advance(same[0][1], len(same))


@dataclass(frozen=True)
class _Ask:
    """What one term is to say about the options of one prompt."""

    term: str
    rendering: Rendering
    options: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class _Scored:
    """An instance under a scorer, with the keys of what is asked about it.

    Attributes:
        terms: term -> key.
        free: the same for each content-free input; empty where none is asked.
        reason: why nothing is asked, else empty.
    """

    instance: Instance
    scorer: Scorer
    terms: Mapping[str, ScoreKey] = field(default_factory=dict)
    free: tuple[Mapping[str, ScoreKey], ...] = ()
    shortened: int = 0
    dropped: int = 0
    reason: str = ""


class _Evaluation:
    """The state of one evaluation."""

    def __init__(
        self, model: LanguageModel, methods: tuple[Method, ...], writer: RunWriter, store: ScoreStore | None
    ) -> None:
        self.told = Asked()
        self._model = model
        self._methods = methods
        self._writer = writer
        self._store = store
        self._digest = f"{model.digest()}, asked as in {FORMAT}"
        self._scorers = {method.scorer.method: method.scorer for method in methods}
        self._labellers = {name: _labeller(model, scorer) for name, scorer in self._scorers.items()}
        self._asking = {
            term: _labeller(model, _alone(scorer, term)) for scorer in self._scorers.values() for term in scorer.terms
        }
        # A batch's bias is known when its cell is through.
        self._held: dict[int, dict[str, list[tuple[_Scored, NDArray[np.float64] | None, int]]]] = {}
        self._open: dict[int, bool] = {}

    def ask(self, block: _Block, told: _Told) -> None:
        """Ask about a block, unless all its records are there, and write them."""
        if not any(self._wanted(number, cell, slot) for number, cell, slot in block):
            return
        rendered = [(number, cell, slot.render()) for number, cell, slot in block]
        records = self._generated([(c, i) for _, c, i in rendered if c.generation is not None], told)
        records += self._chosen([each for each in rendered if each[1].generation is None], told)
        self._write(records)

    def end(self, number: int, cell: EvaluationCell) -> None:
        """A cell is through: decide what had to wait for all of it."""
        held = self._held.pop(number, {})
        for method in self._methods:
            if method.name in held:
                self._write(self._in_batch(cell, method, held[method.name]))

    def _write(self, records: Iterable[Record]) -> None:
        self._writer.append(record for record in records if not self._writer.done(record.key))

    def _wanted(self, number: int, cell: EvaluationCell, slot: Slot) -> bool:
        if cell.generation is not None:
            return not self._writer.done(cell.key(GENERATE, slot.row))
        return self._batch_is_open(number, cell) or not all(
            self._writer.done(cell.key(method.name, slot.row))
            for method in self._methods
            if not method.calibration.startswith("batch")
        )

    def _batch_is_open(self, number: int, cell: EvaluationCell) -> bool:
        """Whether a batch calibration of the cell lacks a record, so that all of its scores are needed."""
        if number not in self._open:
            names = [method.name for method in self._methods if method.calibration.startswith("batch")]
            self._open[number] = any(
                not self._writer.done(cell.key(name, slot.row))
                for slot in (cell.read() if names else ())
                for name in names
            )
        return self._open[number]

    # Choosing between options

    def _chosen(self, rendered: Sequence[tuple[int, EvaluationCell, Instance]], told: _Told) -> list[Record]:
        asks: dict[ScoreKey, _Ask] = {}
        prepared = [
            (number, cell, {name: self._prepared(cell, instance, name, asks) for name in self._scorers})
            for number, cell, instance in rendered
        ]
        values = self._values(asks, told)
        records: list[Record] = []
        for number, cell, scored in prepared:
            for method in self._methods:
                each = scored[method.scorer.method]
                terms, cut = _terms(each.terms, values)
                if method.calibration.startswith("batch"):
                    if not self._batch_is_open(number, cell):
                        continue  # asked for another cell's sake
                    log_p = method.scorer.log_probabilities(terms) if terms else None
                    self._held.setdefault(number, {}).setdefault(method.name, []).append((each, log_p, cut))
                elif not terms:
                    records.append(_record(cell, method.name, each))
                elif method.calibration == "none":
                    records.append(_record(cell, method.name, each, method.scorer.score(terms), cut))
                else:
                    free = [method.scorer.log_probabilities(_terms(keys, values)[0]) for keys in each.free]
                    bias = calibrations.bias(np.stack(free), of_logs=method.calibration.endswith("-log"))
                    log_p = calibrations.apply(method.scorer.log_probabilities(terms), bias)
                    records.append(_record(cell, method.name, each, log_p, cut))
        return records

    def _prepared(self, cell: EvaluationCell, instance: Instance, name: str, asks: dict[ScoreKey, _Ask]) -> _Scored:
        """What is asked about an instance by a scorer, put among the asks."""
        scorer, labeller = self._scorers[name], self._labellers[name]
        if instance.show is None:
            return _Scored(instance, scorer, reason=instance.reason)

        def fits(rendering: Rendering) -> bool:
            return _fits(self._model, scorer, rendering, rendering.options or instance.options)

        try:
            shown = instance.show(fits, None)
            rendering, shortened = labeller.fit(shown.rendering, instance.options)
            free = []
            if any(m.scorer.method == name and m.calibration.startswith("contextual") for m in self._methods):
                for text in calibrations.CONTENT_FREE:
                    blank = instance.show(fits, text).rendering
                    free.append(labeller.fit(blank, instance.options)[0])
        except WindowError:
            return _Scored(instance, scorer, reason=_TOO_LONG)

        def put(about: Rendering) -> dict[str, ScoreKey]:
            keys = {}
            for term in scorer.terms:
                asked = about.without_input() if term == NULL else about  # the same for all rows, and asked once
                key = self._term_key(cell, scorer, term, asked, instance.options)
                asks.setdefault(key, _Ask(term, asked, instance.options, f"{cell.name}, row {instance.row}"))
                keys[term] = key
            return keys

        return _Scored(instance, scorer, put(rendering), tuple(map(put, free)), shortened, shown.dropped)

    def _values(self, asks: Mapping[ScoreKey, _Ask], told: _Told) -> dict[ScoreKey, tuple[float, ...]]:
        """One number an option, and the number of tokens cut behind them, for each ask."""
        known: dict[ScoreKey, tuple[float, ...]] = {}
        if self._store is not None:
            found = self._store.get_many(asks)
            known = {key: value for key, value in found.items() if len(value) == len(asks[key].options) + 1}
        fresh: dict[ScoreKey, tuple[float, ...]] = {}
        told.expect(sum(len(ask.options) for key, ask in asks.items() if key not in known))
        for term, labeller in self._asking.items():
            keys = [key for key, ask in asks.items() if ask.term == term and key not in known]
            if not keys:
                continue
            rows = labeller.score_renderings(
                [asks[k].rendering for k in keys], [asks[k].options for k in keys], progress=told.answered
            )
            for key, row in zip(keys, rows, strict=True):
                scores = row.terms[term]
                if not all(map(math.isfinite, scores)):
                    raise ModelError(
                        f"the model's {term} scores are not all numbers: {', '.join(f'{each:g}' for each in scores)}",
                        where=asks[key].where,
                        mend="Its weights may be damaged, or its number type too small for it.",
                    )
                fresh[key] = (*scores, float(row.lost))
        if self._store is not None:
            self._store.put_many(fresh)
        self.told.kept += len(known)
        self.told.asked += len(fresh)
        return known | fresh

    def _in_batch(
        self,
        cell: EvaluationCell,
        method: Method,
        held: Sequence[tuple[_Scored, NDArray[np.float64] | None, int]],
    ) -> Iterator[Record]:
        reason = ""
        log_ps = [log_p for _, log_p, _ in held if log_p is not None]
        if len({each.instance.options for each, log_p, _ in held if log_p is not None}) > 1:
            reason = "batch calibration needs the same options in every row"
        elif len(log_ps) < 2:
            reason = "batch calibration needs at least two rows"
        if reason:
            self.told.uncalibrated.setdefault(cell.task, reason)
        bias = (
            None if reason else calibrations.batch_bias(np.stack(log_ps), of_logs=method.calibration.endswith("-log"))
        )
        for each, log_p, cut in held:
            if log_p is None:
                yield _record(cell, method.name, each)
            elif bias is None:
                # Without its right answer: the method does not apply here, which is no wrong answer.
                untold = replace(each.instance, gold=(), credits=())
                yield _record(cell, method.name, replace(each, instance=untold, reason=reason))
            else:
                yield _record(cell, method.name, each, calibrations.apply(log_p, bias), cut)

    # Free answers

    def _generated(self, rendered: Sequence[tuple[EvaluationCell, Instance]], told: _Told) -> list[Record]:
        prompts: dict[ScoreKey, tuple[str, Generation]] = {}
        said: list[tuple[EvaluationCell, Instance, ScoreKey | None, int, int, int, str]] = []
        for cell, instance in rendered:
            assert cell.generation is not None
            reason = instance.reason
            key, shortened, cut, dropped = None, 0, 0, 0
            if instance.show is not None:
                fitting = _PromptFitting(self._model, cell.generation.most_tokens)
                shown = instance.show(fitting.fits, None)
                try:
                    prompt, shortened, cut = fitting.prompt(shown.rendering)
                except WindowError:
                    reason = _TOO_LONG
                else:
                    dropped = shown.dropped
                    term = f"{GENERATE}, {cell.generation.most_tokens} tokens, to {cell.generation.stop!r}"
                    key = self._key(cell, term, _sha256(prompt))
                    prompts[key] = (prompt, cell.generation)
            said.append((cell, instance, key, shortened, cut, dropped, reason))
        answers = self._answers(prompts, told)
        return [
            Record(
                task=cell.task,
                split=cell.split,
                row=instance.row,
                position=instance.position,
                template=cell.template,
                method=GENERATE,
                setting=cell.setting,
                wording=cell.wording,
                prediction=None if key is None else answers[key],
                references=instance.references,
                shortened=shortened,
                cut=cut,
                dropped=dropped,
                reason=reason,
            )
            for cell, instance, key, shortened, cut, dropped, reason in said
        ]

    def _answers(self, prompts: Mapping[ScoreKey, tuple[str, Generation]], told: _Told) -> dict[ScoreKey, str]:
        """The stripped answer to each prompt; the store keeps a text as the numbers of its characters."""
        kept = {} if self._store is None else self._store.get_many(prompts)
        known = {key: "".join(chr(int(number)) for number in value) for key, value in kept.items()}
        fresh: dict[ScoreKey, str] = {}
        told.expect(len(prompts) - len(known))
        for generation in dict.fromkeys(generation for _, generation in prompts.values()):
            keys = [key for key, (_, each) in prompts.items() if each == generation and key not in known]
            if not keys:
                continue
            found = self._model.generate(
                [prompts[key][0] for key in keys],
                most_tokens=generation.most_tokens,
                stop=generation.stop,
                progress=told.answered,
            )
            fresh |= {key: each.text.strip() for key, each in zip(keys, found, strict=True)}
        if self._store is not None:
            self._store.put_many({key: map(float, map(ord, text)) for key, text in fresh.items()})
        self.told.kept += len(known)
        self.told.asked += len(fresh)
        return known | fresh

    def _term_key(
        self, cell: EvaluationCell, scorer: Scorer, term: str, asked: Rendering, options: Sequence[str]
    ) -> ScoreKey:
        if term == PRIOR:  # knows of no template
            text = json.dumps([asked.input_text, list(options)])
            return ScoreKey(self._digest, cell.task, cell.split, "", term, _sha256(text))
        return self._key(cell, f"{term}, {scorer.rule(term)}", _row_digest(asked, options))

    def _key(self, cell: EvaluationCell, term: str, row: str) -> ScoreKey:
        template = json.dumps([cell.template, cell.wording])
        return ScoreKey(self._digest, cell.task, cell.split, template, term, row)


def _record(
    cell: EvaluationCell,
    method: str,
    scored: _Scored,
    scores: NDArray[np.float64] | None = None,
    cut: int = 0,
) -> Record:
    instance = scored.instance
    numbers = () if scores is None else tuple(float(score) for score in scores)
    return Record(
        task=cell.task,
        split=cell.split,
        row=instance.row,
        position=instance.position,
        template=cell.template,
        method=method,
        setting=cell.setting,
        wording=cell.wording,
        options=instance.options,
        scores=numbers,
        chosen=chosen(numbers) if numbers else None,
        gold=instance.gold,
        credits=instance.credits,
        shortened=scored.shortened,
        cut=cut,
        dropped=scored.dropped,
        tied=bool(numbers) and is_tie(numbers),
        reason="" if numbers else scored.reason,
    )


def _terms(
    keys: Mapping[str, ScoreKey], values: Mapping[ScoreKey, tuple[float, ...]]
) -> tuple[dict[str, tuple[float, ...]], int]:
    """The scores of each term, and how many tokens were cut in all."""
    terms = {term: values[key][:-1] for term, key in keys.items()}
    return terms, int(sum(values[key][-1] for key in keys.values()))


def _alone(scorer: Scorer, term: str) -> Scorer:
    """A scorer that asks for one term only: a blend of it alone."""
    return Scorer("blend", scorer.length_rules, 1.0, MappingProxyType({term: 1.0}), scorer.slots)


def _labeller(model: LanguageModel, scorer: Scorer) -> Labeller:
    # Prompts come rendered, so its own template is never asked. Nothing is remembered: a batch must hold the same when
    # the run goes on in another process.
    return Labeller(model, scorer, InstructionTemplate("{text}", ["text"]), remember=0)


def _row_digest(rendering: Rendering, options: Sequence[str]) -> str:
    """Of all that a query about an instance is made of."""
    text = json.dumps(
        [
            rendering.context,
            [(segment.text, segment.field) for segment in rendering.segments],
            _plain_mask(rendering.mask),
            list(options),
        ]
    )
    return _sha256(text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain_mask(mask: Mask | None) -> object:
    if mask is None:
        return None
    given = [piece if isinstance(piece, int) else (piece.text, piece.field) for piece in mask.given]
    return [given, list(mask.chunks)]


# Windows


def _fits(model: LanguageModel, scorer: Scorer, rendering: Rendering, options: Sequence[str]) -> bool:
    """Whether every query about a rendering is within the model's window; a model that cuts takes any."""
    window, count = model.window, model.count_tokens
    if model.conventions.truncation == "reference":
        return True
    if window.given is None and window.said is None and window.joint is None:
        return True
    longest = max(options, key=count)
    for term in scorer.terms:
        if term in (PRIOR, NULL):
            continue
        query = scorer.ask(rendering, [longest], term)[0]
        for limit, text in (
            (window.given, query.given),
            (window.said, query.said),
            (window.joint, query.given + query.said),
        ):
            if limit is not None and count(text) > limit:
                return False
    return True


class _PromptFitting:
    """Makes prompts that leave the model room for its answer."""

    def __init__(self, model: LanguageModel, most_tokens: int) -> None:
        self._model = model
        self._most_tokens = most_tokens

    @cached_property
    def _limit(self) -> int | None:
        """The most tokens of a prompt."""
        window = self._model.window
        limits = [window.given, None if window.joint is None else window.joint - self._most_tokens]
        known = [limit for limit in limits if limit is not None]
        return min(known) if known else None

    def fits(self, rendering: Rendering) -> bool:
        """Whether a rendering leaves room; a model that cuts takes any."""
        return self._model.conventions.truncation == "reference" or self._excess(rendering) <= 0

    def prompt(self, rendering: Rendering) -> tuple[str, int, int]:
        """The prompt, its longest input shortened to fit; the characters taken away, and the tokens that will be cut.

        Raises:
            WindowError: it does not fit with all inputs blank.
        """
        if self._model.conventions.truncation == "reference":
            return _prompt(rendering), 0, max(0, self._excess(rendering))
        taken = 0
        for _ in range(_SHORTENED_AT_MOST):
            excess = self._excess(rendering)
            if excess <= 0:
                return _prompt(rendering), taken, 0
            text = max((s.text for s in rendering.segments if s.is_input), key=len, default="")
            if not text:
                break
            a_token = max(1.0, len(text) / max(1, self._model.count_tokens(text)))
            shorter = shorten(rendering, min(len(text), int(excess * a_token) + 1))
            taken += _input_length(rendering) - _input_length(shorter)
            rendering = shorter
        raise WindowError(
            f"the prompt is {excess} tokens too long for the model's window, its input left out",
            mend="Take a model with a larger window.",
        )

    def _excess(self, rendering: Rendering) -> int:
        """By how many tokens a prompt is too long (0 or less: it fits)."""
        if self._limit is None:
            return 0
        text = _prompt(rendering)
        # A token is at least a byte of text.
        if len(text.encode("utf-8", "surrogatepass")) <= self._limit:
            return 0
        return self._model.count_tokens(text) - self._limit


def _prompt(rendering: Rendering) -> str:
    """What stands before the answer in the direct direction."""
    return Direct().query(rendering, "").given


def _input_length(rendering: Rendering) -> int:
    return sum(len(segment.text) for segment in rendering.segments if segment.is_input)
