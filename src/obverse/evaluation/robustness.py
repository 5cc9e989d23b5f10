"""How much labels hang on the way of asking: the plan of variants, and what their labels say together.

A variant is one wording of the labels under one instruction, by one method, with one calibration. The first of each is
the user's own. Labels chosen by all variants stand in one array (W, I, M, C, N), everything here is a function of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from obverse.catalog.wordings import WordingSet
from obverse.errors import DataError, LabelError
from obverse.metrics.classification import accuracy
from obverse.metrics.comparisons import McNemar, mcnemar
from obverse.metrics.intervals import PairedDifference, paired_difference
from obverse.models.base import Conventions
from obverse.scoring import calibration as calibrations
from obverse.scoring.scorers import PRIOR, Scorer
from obverse.seeds import stream
from obverse.tasks.labels import LabelSet
from obverse.tasks.substitution import Substitution
from obverse.tasks.templates import default_instruction

# Axes: W wordings, I instructions, M methods, C calibrations, V variants, N rows, K labels, B texts without content.

FACTORS = ("wording", "instruction", "method", "calibration")
"""The axes of a plan, in order."""
CALIBRATIONS = ("none", "contextual", "batch")
"""Those that are compared where none are named."""
MOST_BUILT = 4
"""Instructions that are built from the labels."""

Place = tuple[int, int, int, int]
"""A variant: the places of its wording, instruction, method and calibration in the plan."""


# The plan


@final
@dataclass(frozen=True, slots=True)
class Wording:
    """Words for the labels.

    Attributes:
        labels: named as the user's are; its wordings are what the model reads.
        origin: `yours`, `given` (by the user, to compare with), `bare` (yours without the descriptions), or
            `catalogue: NAME` of the set that offers it.
    """

    labels: LabelSet
    origin: str


@final
@dataclass(frozen=True, slots=True)
class Instruction:
    """One way to ask.

    Attributes:
        texts: one a wording, for label words that stand in it change with the wording; as for `InstructionTemplate`.
        origin: `yours`, `given`, `labels named` (yours with the labels behind it), `default` (what is asked where
            nothing is given) or `ours`.
    """

    texts: tuple[str, ...]
    origin: str


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """All variants: every wording under every instruction, by every method, with every calibration."""

    wordings: tuple[Wording, ...]
    instructions: tuple[Instruction, ...]
    methods: tuple[str, ...]
    calibrations: tuple[str, ...]

    @property
    def shape(self) -> Place:
        """(W, I, M, C)."""
        return len(self.wordings), len(self.instructions), len(self.methods), len(self.calibrations)

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def places(self) -> list[Place]:
        """All variants, in the order of the axes."""
        return [tuple(map(int, place)) for place in np.ndindex(*self.shape)]  # type: ignore[misc]


OWN: Place = (0, 0, 0, 0)
"""The user's own variant in any plan."""


def plan_wordings(
    labels: LabelSet, given: Sequence[LabelSet], sets: Sequence[WordingSet], *, most: int
) -> tuple[Wording, ...]:
    """The user's wording, those given beside it, the bare names of labels with descriptions, and substitutes.

    Args:
        given: other words, label by label; only their texts count.
        sets: where substitutes are looked for.
        most: so many substitutes at most.

    Raises:
        LabelError: one that is given has another number of labels.
    """
    found = [Wording(labels, "yours")]
    for each in given:
        if len(each) != len(labels):
            raise LabelError(
                f"the wording has {_labels(len(each))} ({', '.join(each.names)}) where there are {len(labels)}",
                where=each.where,
                mend=f"Write one for each of {', '.join(labels.names)}, in this order.",
            )
        found.append(Wording(LabelSet(labels.names, each.descriptions, each.where, each.wordings), "given"))
    if any(labels.descriptions):
        found.append(Wording(LabelSet(labels.names, (), labels.where, labels.wordings), "bare"))
    found += substitutes(labels, sets, most=most)
    seen: set[tuple[str, ...]] = set()
    kept = []
    for wording in found:
        key = tuple(map(_folded, wording.labels.texts))
        if key not in seen:
            kept.append(wording)
        seen.add(key)
    return tuple(kept)


def substitutes(labels: LabelSet, sets: Sequence[WordingSet], *, most: int) -> list[Wording]:
    """Other words that sets of wordings offer for these labels; the case of what they replace is kept.

    The set is taken that has all the labels side by side in one of its wordings, best in the first, which it was made
    for; else one whose wording is part of the labels, and the others stay as they are. Sets that were written for a
    task of their own are left out: their words may fit its question only.
    """
    own = [_folded(word) for word in labels.wordings]
    offers = []
    for order, each in enumerate(sets):
        if each.task is not None:
            continue
        for row, words in enumerate(each.wordings):
            folded = set(map(_folded, words))
            shared = len(folded & set(own))
            if shared in (len(own), len(folded)):
                offers.append((shared < len(own), row > 0, len(folded) - shared, -shared, order, row))
    if not offers:
        return []
    *_, order, row = min(offers)
    chosen = sets[order]
    found: list[Wording] = []
    for number, words in enumerate(chosen.wordings):
        if number == row or len(found) == most:
            continue
        pairs = {
            old: new for old, new in zip(chosen.wordings[row], words, strict=True) if _folded(old) in own and old != new
        }
        try:
            substitution = Substitution(pairs)
            known = set(map(_folded, pairs))
            fresh = tuple(substitution(word) if _folded(word) in known else word for word in labels.wordings)
            reworded = LabelSet(labels.names, labels.descriptions, labels.where, fresh)
        except LabelError:  # the new words stand among the labels already
            continue
        found.append(Wording(reworded, f"catalogue: {chosen.name}"))
    return found


def plan_instructions(wordings: Sequence[Wording], own: Sequence[str]) -> tuple[Instruction, ...]:
    """The user's instructions and those that are built from the labels, each in the words of every wording.

    Args:
        own: as for `InstructionTemplate`, the user's first; none takes what is asked where nothing is given.
    """
    first = wordings[0].labels.wordings
    changes = [_substitution(first, wording.labels.wordings) for wording in wordings]

    def everywhere(text: str) -> tuple[str, ...]:
        return tuple(text if change is None else reworded(text, change) for change in changes)

    found = [Instruction(everywhere(text), "given" if i else "yours") for i, text in enumerate(own)]
    built: list[Instruction] = []
    listed = _listed(first)
    if own and listed is not None and not all(_folded(word) in _folded(own[0]) for word in first):
        texts = zip(everywhere(own[0]), wordings, strict=True)
        built.append(
            Instruction(tuple(f"{text} Options: {_listed(w.labels.wordings)}." for text, w in texts), "labels named")
        )
    built.append(
        Instruction(tuple(default_instruction(w.labels.wordings) for w in wordings), "default" if own else "yours")
    )
    for with_labels, without in _NEUTRAL:
        built.append(
            Instruction(
                tuple(without if listed is None else with_labels.format(_listed(w.labels.wordings)) for w in wordings),
                "ours",
            )
        )
    seen: set[str] = set()
    kept = []
    for instruction in [*found, *built[:MOST_BUILT]]:
        if instruction.texts[0] not in seen:
            kept.append(instruction)
        seen.add(instruction.texts[0])
    return tuple(kept)


def reworded(instruction: str, substitution: Substitution) -> str:
    """An instruction in other label words; its slots `{column}` stay, and literal braces stay doubled."""
    out: list[str] = []
    literal = ""
    position = 0
    for match in [*_SLOT.finditer(instruction), None]:
        literal += instruction[position : match.start() if match else None]
        if match and match.group() in ("{{", "}}"):
            literal += match.group()[0]
        else:
            out.append(_escaped(substitution(literal)))
            out.append(match.group() if match else "")
            literal = ""
        position = match.end() if match else 0
    return "".join(out)


def plan_methods(conventions: Conventions) -> tuple[str, ...]:
    """The methods that suit a model, its own first.

    Those that ask in the directions it was trained on; where that is not known, direct, flipped and both.
    """
    trained = set(conventions.trained) or {"direct", "flipped"}
    found = [conventions.method]
    found += [name for name in ("direct", "flipped", "channel") if name in trained]
    if {"direct", "flipped"} <= trained:
        found.append("product")
    if conventions.blend:
        found.append("blend")
    if trained == {"direct"}:
        found.append("pmi")
    return tuple(dict.fromkeys(found))


_SLOT = re.compile(r"\{\{|\}\}|\{[^{}]*\}")
# Questions that say nothing of their own: with the labels named, and for labels too many to name.
_NEUTRAL = (
    ("Which label describes this text best: {}?", "Which label describes this text best?"),
    ("What would you call this text: {}?", "What would you call this text?"),
    ("Choose the label that fits the text: {}.", "Choose the label that fits the text."),
)


def _substitution(old: Sequence[str], new: Sequence[str]) -> Substitution | None:
    pairs = {a: b for a, b in zip(old, new, strict=True) if a != b}
    return Substitution(pairs) if pairs else None


def _listed(names: Sequence[str]) -> str | None:
    """`a, b or c`, braces doubled; None where the default instruction names no labels either."""
    if default_instruction(names) == default_instruction(["-" * 200]):
        return None
    escaped = [_escaped(name) for name in names]
    return f"{', '.join(escaped[:-1])} or {escaped[-1]}"


def _escaped(words: str) -> str:
    return words.replace("{", "{{").replace("}", "}}")


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _labels(n: int) -> str:
    return f"{n} label" if n == 1 else f"{n} labels"


# Labels from raw scores


@final
@dataclass(frozen=True, slots=True)
class CellScores:
    """The raw scores of all rows in one wording under one instruction, which methods and calibrations share.

    Attributes:
        terms: term -> scores (N, K).
        blank: the same for texts without content (B, K); None where contextual calibration is not asked for.
    """

    terms: Mapping[str, NDArray[np.float64]]
    blank: Mapping[str, NDArray[np.float64]] | None = None

    def choose(self, scorer: Scorer, calibration: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The label of each row.

        Args:
            rows: choose for these alone, as if there were no others: a batch's bias comes from them.
        """
        log_p = scorer.log_probabilities(_taken(self.terms, scorer, rows))
        of_logs = calibration.endswith("-log")
        bias = None
        if calibration.startswith("contextual"):
            if self.blank is None:
                raise DataError("there are no scores of texts without content, which contextual calibration needs")
            bias = calibrations.bias(scorer.log_probabilities(_taken(self.blank, scorer, None)), of_logs=of_logs)
        elif calibration.startswith("batch"):
            bias = calibrations.batch_bias(log_p, of_logs=of_logs)
        return np.asarray(np.argmax(log_p if bias is None else calibrations.apply(log_p, bias), axis=-1))


def choose_all(
    cells: Mapping[tuple[int, int], CellScores],
    scorers: Sequence[Scorer],
    names: Sequence[str],
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The labels that all variants choose (W, I, M, C, N).

    Args:
        cells: by the places of wording and instruction.
        scorers: one a method.
        names: the calibrations.
        rows: as for `CellScores.choose`.
    """
    wordings, instructions = 1 + max(w for w, _ in cells), 1 + max(i for _, i in cells)
    return np.array(
        [
            [
                [[cells[w, i].choose(scorer, name, rows) for name in names] for scorer in scorers]
                for i in range(instructions)
            ]
            for w in range(wordings)
        ],
        dtype=np.int64,
    )


def asked_terms(scorers: Sequence[Scorer]) -> tuple[str, ...]:
    """Every term that one of the scorers needs, once, the prior last."""
    terms = dict.fromkeys(term for scorer in scorers for term in scorer.terms)
    return (*(term for term in terms if term != PRIOR), *([PRIOR] if PRIOR in terms else []))


def asking_scorer(terms: Sequence[str], like: Scorer) -> Scorer:
    """A scorer that asks for these terms, under the length rules and slots of another; it is not to decide."""
    return Scorer("blend", like.length_rules, weights=dict.fromkeys(terms, 1.0), slots=like.slots)


def _taken(terms: Mapping[str, NDArray[np.float64]], scorer: Scorer, rows: NDArray[np.int64] | None) -> dict[str, Any]:
    return {term: terms[term] if rows is None else terms[term][rows] for term in scorer.terms}


# What the labels say together


def agreement(votes_VN: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """For each row, the share of pairs of variants that give it the same label (N,).

    With n_k variants for label k, sum n_k (n_k - 1) / (V (V - 1)). Its mean is the mean pairwise agreement.

    Raises:
        DataError: fewer than two variants.
    """
    variants = len(votes_VN)
    if variants < 2:
        raise DataError("one variant alone has nothing to agree with")
    counts = votes(votes_VN, classes)
    return np.asarray((counts * (counts - 1)).sum(1) / (variants * (variants - 1)))


def votes(votes_VN: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How many variants give each row each label (N, K)."""
    return np.stack([(votes_VN == k).sum(0) for k in range(classes)], axis=1)


def fleiss_kappa(votes_VN: NDArray[np.int64], classes: int) -> float | None:
    """Agreement beyond that of variants drawing labels at random by their overall shares (Fleiss 1971).

    kappa = (P - Pe) / (1 - Pe), P the mean pairwise agreement and Pe the sum of the squared shares of the labels over
    all variants and rows: 1 for full agreement, 0 for what chance gives. None where only one label was ever chosen.
    """
    observed = float(agreement(votes_VN, classes).mean())
    shares = votes(votes_VN, classes).sum(0) / votes_VN.size
    expected = float((shares**2).sum())
    return None if expected == 1 else (observed - expected) / (1 - expected)


def mean_ranges(figures: NDArray[np.float64]) -> tuple[float | None, ...]:
    """How far a figure (W, I, M, C) moves with each factor while the others stay: the mean of largest less smallest.

    The mean runs over all combinations of the other factors. None for a factor with one level.
    """
    return tuple(
        float((figures.max(axis) - figures.min(axis)).mean()) if figures.shape[axis] > 1 else None
        for axis in range(figures.ndim)
    )


def changed_shares(labels_WIMCN: NDArray[np.int64], classes: int) -> tuple[float | None, ...]:
    """How many labels change with each factor while the others stay, as a share.

    For two levels of the factor the share of rows with another label; the mean over all pairs of levels and all
    combinations of the other factors. None for a factor with one level.
    """
    shares: list[float | None] = []
    for axis in range(labels_WIMCN.ndim - 1):
        levels = labels_WIMCN.shape[axis]
        votes_VN = np.moveaxis(labels_WIMCN, axis, 0).reshape(levels, -1)
        shares.append(None if levels < 2 else float(1 - agreement(votes_VN, classes).mean()))
    return tuple(shares)


# Choosing on one half, confirming on the other


def halves(gold: Sequence[int], texts: Sequence[str], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the rows in two random halves, each gold label in both as equally often as can be.

    Rows of the same text go together: chosen on one half, a way of asking must not meet the text again on the other.
    """
    groups: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        groups.setdefault(text, []).append(place)
    random = stream(seed, "halves")
    first: list[int] = []
    second: list[int] = []
    for label in sorted(set(gold)):
        members = [group for group in groups.values() if gold[group[0]] == label]
        random.shuffle(members)
        for group in members:
            (first if len(first) <= len(second) else second).extend(group)
    return np.array(sorted(first), dtype=np.int64), np.array(sorted(second), dtype=np.int64)


def best_place(figures: NDArray[np.float64], *, along: int | None = None) -> Place:
    """The variant with the highest figure; among equals the one that changes the least, then the first.

    Args:
        figures: (W, I, M, C).
        along: look only at variants that differ from the user's own in this factor and in nothing else.
    """
    places: list[Place] = [tuple(map(int, place)) for place in np.ndindex(*figures.shape)]  # type: ignore[misc]
    if along is not None:
        places = [place for place in places if place[along] and not any(place[:along] + place[along + 1 :])]
    return min(places, key=lambda place: (-round(float(figures[place]), 12), sum(map(bool, place)), place))


@final
@dataclass(frozen=True, slots=True)
class Confirmation:
    """Two variants on rows that took no part in choosing either.

    Attributes:
        rows: how many.
        right, own_right: how many of them each labels right.
        difference: of the accuracies, the paired bootstrap's.
        test: McNemar's, of both being right equally often.
    """

    rows: int
    right: int
    own_right: int
    difference: PairedDifference
    test: McNemar


def confirm(gold_N: NDArray[np.int64], other_N: NDArray[np.int64], own_N: NDArray[np.int64]) -> Confirmation:
    """Compare a variant with the user's own on the same rows."""
    right, own_right = other_N == gold_N, own_N == gold_N
    return Confirmation(
        rows=len(gold_N),
        right=int(right.sum()),
        own_right=int(own_right.sum()),
        difference=paired_difference(gold_N, other_N, own_N, accuracy),
        test=mcnemar(right, own_right),
    )
