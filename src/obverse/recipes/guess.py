"""`obverse guess`: from labelled texts to the instruction they may have been labelled by.

This is what a model trained in the flipped direction says of its own accord: instructions, given texts and labels. One
half of the rows is read, and proposes; the candidates are compared on the other half, which has proposed none of them.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from obverse.catalog.tables import Table, check_columns, default_text_column, open_table
from obverse.errors import DataError, LabelError, MethodError, ModelError, nearest
from obverse.labelling import Labeller, make_scorer
from obverse.models.base import LanguageModel
from obverse.models.checkpoints import load_model
from obverse.recipes.predict_task import Task
from obverse.reports.guess import GuessedInstruction, GuessReport, Hits, ReadRow
from obverse.scoring.scorers import METHODS, Scorer, decide
from obverse.seeds import stream
from obverse.tasks.directions import Flipped
from obverse.tasks.examples import Example
from obverse.tasks.labels import LabelSet
from obverse.tasks.templates import InstructionTemplate, Rendering, default_instruction

MOST_TOKENS = 32
"""Of an instruction."""
_MOST_LABELS = 200
# A beam just as wide as the candidates fills up with the shortest: they end first, and keep their places.
_BEAMS_A_CANDIDATE = 4
_REPORT_EVERY = 1000

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and of how much (None: not known)."""


@dataclass(frozen=True)
class GuessSettings:
    """What `obverse guess` was asked to do; names as on the command line.

    Attributes:
        label: the column that holds the labels.
        text: columns of text; none takes the one that is plainly meant.
        rows: so many are drawn: half of them are read, the others compare.
        candidates: instructions that each row proposes.
        instructions: the user's own, compared with what is guessed; written as for `obverse predict`.
        show: of so many of the best the accuracy is worked out, and of the user's own.
        method: that the accuracy is by; None takes the model's own, as `obverse predict` does.
        seed: another one draws other rows.
    """

    input: Path
    label: str
    text: tuple[str, ...] = ()
    rows: int = 40
    candidates: int = 5
    instructions: tuple[str, ...] = ()
    show: int = 10
    model: str = "obverse-mini"
    method: str | None = None
    seed: int = 0
    input_format: str | None = None
    device: str | None = None
    allow_pickle: bool = False


def guess(
    settings: GuessSettings,
    *,
    model: LanguageModel | None = None,
    note: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda what, done, total: None,
) -> GuessReport:
    """Guess the instruction behind labelled texts.

    Args:
        model: used in place of loading `settings.model`.
        note: told what the user should know before reading the result.
        progress: told how far the work is.

    Raises:
        ObverseError: bad input or settings, or a model that was not trained to say instructions.
    """
    _check_settings(settings)
    drawn = _drawn(settings, progress)
    for words in settings.instructions:
        InstructionTemplate(words, drawn.columns)  # a slot that names no column is found before a model is loaded
    if model is None:
        progress(f"loading {settings.model}", 0, None)
        model = load_model(settings.model, device=settings.device, allow_pickle=settings.allow_pickle)
    scorer = make_scorer(model.conventions, method=settings.method)
    _check_trained(model, note)
    half = len(drawn.examples) // 2
    read, ranking = drawn.examples[:half], drawn.examples[half:]
    speaker = _Speaker(model, drawn.columns, drawn.labels)
    rows = speaker.propose(read, settings.candidates, progress)
    proposed: dict[str, list[str]] = {}
    for row in rows:
        spelled: dict[str, str] = {}
        for text, _ in row.candidates:
            spelled.setdefault(text.casefold(), text)
        for key, text in spelled.items():
            proposed.setdefault(key, []).append(text)
    if not proposed:
        raise ModelError(f"{model.name} says nothing about these texts", mend="Take another model.")
    # The user's own first, in their spelling; what is guessed is no template, so braces in it are no slots.
    templates = {words.casefold(): words for words in settings.instructions}
    own = len(templates)
    for key, spellings in proposed.items():
        templates.setdefault(key, _escaped(spellings[0]))
    keys, written = list(templates), list(templates.values())
    scores = speaker.scores(written, ranking, progress)
    order = sorted(range(len(written)), key=lambda i: -scores[i])
    plain = default_instruction(drawn.labels.names)
    tried = [i for place, i in enumerate(order) if place < settings.show or i < own]
    hits: list[Hits] = []
    for template in (plain, *(written[i] for i in tried)):
        progress("trying instructions", len(hits), len(tried) + 1)
        hits.append(speaker.hits(template, ranking, scorer))
    hits_of = dict(zip(tried, hits[1:], strict=True))
    found = [
        GuessedInstruction(
            written[i] if i < own else proposed[keys[i]][0],
            scores[i],
            len(proposed.get(keys[i], ())),
            hits_of.get(i),
            own=i < own,
        )
        for i in order
    ]
    return GuessReport(
        input=str(settings.input),
        model=model.name,
        method=scorer.method,
        labels=drawn.counts,
        left_out=drawn.left_out,
        read=tuple(rows),
        ranked_on=len(ranking),
        instructions=tuple(found),
        # As it is asked: what stands doubled for the template is one brace.
        plain=plain.replace("{{", "{").replace("}}", "}"),
        plain_hits=hits[0],
        most_frequent=Counter(example.label for example in ranking).most_common(1)[0][1],
        seed=settings.seed,
    )


@dataclass(frozen=True)
class _Drawn:
    """The rows to work on, in the order drawn; their labels' names, and how many rows of the file have each."""

    columns: tuple[str, ...]
    examples: tuple[Example, ...]
    labels: LabelSet
    counts: tuple[tuple[str, int], ...]
    left_out: int


class _Speaker:
    """A model asked in the flipped direction about the rows of one table.

    Args:
        columns: of text, in the order in which they stand in a prompt.
        labels: all labels of the table.
    """

    def __init__(self, model: LanguageModel, columns: Sequence[str], labels: LabelSet) -> None:
        self._model = model
        self._columns = columns
        self._labels = labels
        self._scorer = Scorer("flipped", slots=model.conventions.slots)
        self._flipped = Flipped(slots=model.conventions.slots)

    def propose(self, examples: Sequence[Example], count: int, progress: Progress) -> list[ReadRow]:
        """What the model says in the place of each row's instruction."""
        # It stands for the instruction while the text is shortened to fit, so it is as long as one may be. The given
        # side does not hold it, and the said side ends with it.
        stand_in = " ".join(["word"] * MOST_TOKENS)
        queries = [
            self._flipped.query(rendering, str(example.label))
            for rendering, example in zip(self._renderings(stand_in, examples), examples, strict=True)
        ]
        begin_with = queries[0].said.removesuffix(stand_in)
        done = _Counted("guessing", len(queries), progress)
        # One line: where no end of sequence was trained (causal models), the line's end is the instruction's.
        found = self._model.candidates(
            [query.given for query in queries],
            count=count,
            beams=_BEAMS_A_CANDIDATE * count,
            most_tokens=MOST_TOKENS,
            stop=("\n",),
            begin_with=begin_with,
            progress=done,
        )
        rows = []
        for example, generated in zip(examples, found, strict=True):
            said = [(" ".join(each.text.split()), each.nats_per_token) for each in generated]
            text = "  ".join(str(value) for value in example.fields.values())
            rows.append(ReadRow(example.where, text, str(example.label), tuple(pair for pair in said if pair[0])))
        return rows

    def scores(self, templates: Sequence[str], examples: Sequence[Example], progress: Progress) -> list[float]:
        """Mean log P(instruction | text, its label) over rows, in nats a token, for each instruction."""
        queries = [
            self._flipped.query(rendering, str(example.label))
            for template in templates
            for rendering, example in zip(self._renderings(template, examples), examples, strict=True)
        ]
        done = _Counted("comparing", len(queries), progress)
        answers = self._model.log_likelihoods(queries, progress=done)
        per_token = [answer.nats / max(1, answer.tokens) for answer in answers]
        if not all(map(math.isfinite, per_token)):
            raise ModelError(
                f"{self._model.name} gives scores that are not numbers", mend="Its weights may be damaged."
            )
        n = len(examples)
        return [math.fsum(per_token[i * n : (i + 1) * n]) / n for i in range(len(templates))]

    def hits(self, template: str, examples: Sequence[Example], scorer: Scorer) -> Hits:
        """How many rows get their label by an instruction."""
        labeller = Labeller(self._model, scorer, InstructionTemplate(template, self._columns))
        scored = labeller.score(examples, [self._labels.texts] * len(examples))
        chosen = [decide(scorer.log_probabilities(row.terms)).index for row in scored]
        right = sum(
            index is not None and self._labels.names[index] == example.label
            for index, example in zip(chosen, examples, strict=True)
        )
        return Hits(right, len(examples))

    def _renderings(self, instruction: str, examples: Sequence[Example]) -> list[Rendering]:
        template = InstructionTemplate(instruction, self._columns)
        labeller = Labeller(self._model, self._scorer, template)
        return [
            labeller.fit(template.render(example), self._labels.texts, where=example.where)[0] for example in examples
        ]


class _Counted:
    """Passes on how many of a known number are done."""

    def __init__(self, what: str, total: int, progress: Progress) -> None:
        self._what = what
        self._done = 0
        self._total = total
        self._progress = progress
        progress(what, 0, total)

    def __call__(self, more: int) -> None:
        self._done += more
        self._progress(self._what, self._done, self._total)


def _escaped(words: str) -> str:
    """A model's words as an instruction template: braces in them are no slots."""
    return words.replace("{", "{{").replace("}", "}}")


def _check_settings(settings: GuessSettings) -> None:
    for flag, number, least in (
        ("--rows", settings.rows, 2),
        ("--candidates", settings.candidates, 1),
        ("--show", settings.show, 1),
    ):
        if number < least:
            raise MethodError(f"{number} is too small", where=flag, mend=f"Give a number from {least} on.")
    if settings.method is not None and settings.method not in METHODS:
        raise MethodError(
            f"unknown method {settings.method!r}", where="--method", mend=nearest(settings.method, METHODS)
        )


def _check_trained(model: LanguageModel, note: Callable[[str], None]) -> None:
    trained = model.conventions.trained
    if trained and "flipped" not in trained:
        raise MethodError(
            f"{model.name} was trained on {' and '.join(trained)}, not on flipped: it has not learnt to say "
            "instructions",
            where="--model",
            mend="Take obverse-mini, or a model trained with the direction flipped.",
        )
    if not trained:
        note(f"{model.name} does not say whether it was trained on flipped; if it was not, its guesses mean nothing.")


def _drawn(settings: GuessSettings, progress: Progress) -> _Drawn:
    """Read the whole table once, holding no more rows than are drawn.

    Raises:
        DataError: no such column, or too few rows with text and label.
        LabelError: not two labels at least.
    """
    table = open_table(settings.input, format=settings.input_format)
    check_columns(table, [settings.label], "--label")
    columns = tuple(dict.fromkeys(settings.text)) or (default_text_column(table),)
    check_columns(table, columns, "--text")
    if settings.label in columns:
        raise DataError(
            f"the column {settings.label!r} is text and label at once", where=table.name, mend="Name two columns."
        )
    task = Task(table, columns, None, None, None, skip_blank=True, limit=None)
    rng = stream(settings.seed, "guess")
    counts: Counter[str] = Counter()
    kept: list[Example] = []
    whole = table.count() if table.rereadable else None
    for number, row in enumerate(table.rows()):
        if number % _REPORT_EVERY == 0:
            progress("reading", number, whole.rows if whole is not None and whole.exact else None)
        example = task.example(row)
        label = _label(row.values.get(settings.label), row.where, settings.label)
        if example is None or label is None:
            continue
        seen = counts.total()
        counts[label] += 1
        _check_labels(counts, table, settings.label)
        labelled = Example(example.id, example.fields, label, where=example.where)
        # Every row stays with the same probability, however many will come (Vitter's algorithm R).
        if len(kept) < settings.rows:
            kept.append(labelled)
        elif (place := rng.randrange(seen + 1)) < settings.rows:
            kept[place] = labelled
    where = f"{table.name}, column {settings.label!r}"
    if len(counts) < 2:
        what = f"only one label, {next(iter(counts))!r}" if counts else "no row with text and label"
        raise LabelError(
            f"there is {what}: an instruction shows only where labels differ",
            where=where,
            mend="Name the column that holds the labels: --label NAME.",
        )
    rng.shuffle(kept)
    labels = LabelSet(tuple(sorted(counts)), where=where)
    frequent = tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return _Drawn(columns, tuple(kept), labels, frequent, number + 1 - counts.total())


def _label(cell: object, where: str, column: str) -> str | None:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    if not isinstance(cell, str | int | float):
        raise DataError(
            f"the label in column {column!r} is {cell!r}, which is neither text nor a number",
            where=where,
            mend="Name the column that holds the labels: --label NAME.",
        )
    return str(cell).strip()


def _check_labels(counts: Counter[str], table: Table, column: str) -> None:
    if len(counts) > _MOST_LABELS:
        some = ", ".join(repr(label[:30]) for label in itertools.islice(counts, 3))
        raise LabelError(
            f"there are more than {_MOST_LABELS} different labels ({some}, ..)",
            where=f"{table.name}, column {column!r}",
            mend="Name the column that holds the labels: --label NAME.",
        )
