"""What `obverse audit` found: how much labels hang on the way of asking, and which way to take."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obverse.metrics.intervals import Interval, PairedDifference
from obverse.reports.guess import Hits
from obverse.reports.phrases import p_words, whole_between, whole_percent, whole_points, whole_points_between
from obverse.reports.typography import collapsed, counted, one_line, shorten

SURE_BELOW = 0.05
"""A difference counts as more than chance where the test's p-value is below this."""
FACTOR_NOUNS = {
    "wording": "the words for the labels",
    "instruction": "the instruction",
    "method": "the method",
    "calibration": "the calibration",
}
_ORIGINS = {
    "yours": "yours",
    "given": "you gave it to compare",
    "bare": "yours, without the descriptions",
    "labels named": "yours, with the labels named",
    "default": "built from the labels",
    "ours": "a neutral one of ours",
}
_MANY_SAME = 0.9
_WIDTH_ELSEWHERE = 120
_TEXT_CELLS = 90

Place = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Level:
    """One wording, instruction, method or calibration, over all ways of asking that have it.

    Attributes:
        name: the labels as the model reads them, the instruction, or the method's or calibration's name.
        origin: where it comes from, as in the plan; empty for methods and calibrations.
        mean, worst, best: accuracies of its ways; None without right answers.
        with_most: the share of rows to which its ways give the label that most of all ways give, the mean over them.
    """

    name: str
    origin: str
    mean: float | None
    worst: float | None
    best: float | None
    with_most: float

    @property
    def from_where(self) -> str:
        """The origin in words."""
        if self.origin.startswith("catalogue: "):
            return f"other words from the list {self.origin.removeprefix('catalogue: ')}"
        return _ORIGINS.get(self.origin, self.origin)


@dataclass(frozen=True, slots=True)
class Trial:
    """A way that was chosen on one half of the rows and tried against the user's own on the other.

    Attributes:
        place: the way.
        chosen, own_chosen: how it and the user's own did where it was chosen; too good to be trusted.
        confirmed, own_confirmed: how they did on the other half.
        difference: of the two accuracies there, with its interval.
        p_value: McNemar's test that both are right equally often; corrected where several were tried (Holm).
    """

    place: Place
    chosen: Hits
    own_chosen: Hits
    confirmed: Hits
    own_confirmed: Hits
    difference: PairedDifference
    p_value: float

    @property
    def is_own(self) -> bool:
        """Whether nothing did better than the user's own way where it was chosen."""
        return not any(self.place)

    @property
    def is_sure(self) -> bool:
        """Whether the difference is more than chance would make."""
        return self.p_value < SURE_BELOW

    @property
    def is_better(self) -> bool:
        """Whether it is surely better than the user's own."""
        return self.is_sure and self.difference.difference > 0


@dataclass(frozen=True, slots=True)
class Factor:
    """One of the four things that ways of asking differ in.

    Attributes:
        name: wording, instruction, method or calibration.
        levels: the user's own first.
        moves: by how much accuracy moves on average when only this changes: largest less smallest; None without right
            answers, or for a single level.
        changes: the share of labels that change when only this changes from one level to another; None for one level.
        alone: the best one where only this is changed, tried; None without right answers, or for a single level.
    """

    name: str
    levels: tuple[Level, ...]
    moves: float | None
    changes: float | None
    alone: Trial | None


@dataclass(frozen=True, slots=True)
class Method:
    """One method over all wordings and instructions, with the user's own calibration.

    Attributes:
        steadiness: the share of pairs of wordings and instructions under which a row keeps its label; None where there
            is only one of both.
        accuracy: the mean; None without right answers.
        most_frequent: the share of its most frequent label.
    """

    name: str
    steadiness: float | None
    steadiness_interval: Interval | None
    accuracy: float | None
    accuracy_interval: Interval | None
    most_frequent: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods on the same rows, over all wordings and instructions, with the user's own calibration.

    Attributes:
        same: the share of rows to which both give the same label.
        accuracy: of the first less that of the second; None without right answers.
        steadiness: likewise; None where there is only one wording and instruction.
    """

    first: str
    second: str
    same: float
    accuracy: PairedDifference | None
    steadiness: PairedDifference | None


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of asking.

    Attributes:
        hits: None without right answers, and so the next two.
        shares: of each label.
        same_as_own: the share of rows to which it gives the label that the user's own way gives.
        with_most: .. the label that most of all ways give.
    """

    place: Place
    hits: Hits | None
    macro_f1: float | None
    macro_f1_interval: Interval | None
    shares: tuple[float, ...]
    same_as_own: float
    with_most: float


@dataclass(frozen=True, slots=True)
class TouchyRow:
    """A row whose label hangs on the way of asking.

    Attributes:
        where: file and row.
        votes: how many ways give it each label.
        own: the label that the user's own way gives, by its place.
        gold: the right one's place; None where it is not known.
    """

    where: str
    text: str
    votes: tuple[int, ...]
    own: int
    gold: int | None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All that was found.

    Attributes:
        input, model: as they were named.
        options: further options of the command line that reading the input or asking the model takes.
        text: the columns.
        gold: the column of right answers; None without.
        labels: the user's names.
        rows: how many were labelled.
        rows_in_file: how many could have been.
        factors: wording, instruction, method, calibration.
        instruction_texts: for each wording each instruction in its words.
        variants: every way of asking.
        methods: in the order of the factor.
        pair: direct and flipped, where both were asked.
        trial: the best way of all, tried; None without right answers.
        gold_counts: rows of each label; empty without right answers.
        agreement: the mean share of equal labels of two ways.
        kappa: Fleiss'; None where only one label was ever chosen.
        unanimous: rows to which all ways give one label.
        touchy: rows whose label changes most, the worst first.
        notes: what the reader should know besides.
        seed: of the draw of rows and the halves.
        asked: how many scores were asked of the model: one for each row, wording, instruction, label and direction.
    """

    input: str
    model: str
    options: tuple[str, ...]
    text: tuple[str, ...]
    gold: str | None
    labels: tuple[str, ...]
    rows: int
    rows_in_file: int
    factors: tuple[Factor, ...]
    instruction_texts: tuple[tuple[str, ...], ...]
    variants: tuple[Variant, ...]
    methods: tuple[Method, ...]
    pair: Pair | None
    trial: Trial | None
    gold_counts: tuple[int, ...]
    agreement: float
    kappa: float | None
    unanimous: int
    touchy: tuple[TouchyRow, ...]
    notes: tuple[str, ...]
    seed: int
    asked: int

    @property
    def source(self) -> str:
        """The input's name for people."""
        return "standard input" if self.input == "-" else one_line(self.input)

    @property
    def own(self) -> Variant:
        """The user's own way."""
        return self.variants[0]

    @property
    def recommended(self) -> Place:
        """The way to take: the one that was tried if it is surely better, else the user's own."""
        return self.trial.place if self.trial is not None and self.trial.is_better else self.own.place

    @property
    def steadiest(self) -> Method | None:
        """The method with the highest steadiness, the user's own among equals; None where nothing was varied."""
        known = [method for method in self.methods if method.steadiness is not None]
        return max(known, key=lambda method: round(method.steadiness or 0.0, 12)) if known else None

    def level(self, place: Place, factor: int) -> Level:
        """What a way has of a factor."""
        return self.factors[factor].levels[place[factor]]

    def instruction(self, place: Place) -> str:
        """The instruction of a way, in the words of its wording."""
        return self.instruction_texts[place[0]][place[1]]

    def changed(self, place: Place) -> list[tuple[str, str]]:
        """What a way has that the user's own has not: (factor, what)."""
        return [
            (factor.name, self.instruction(place) if factor.name == "instruction" else factor.levels[at].name)
            for factor, at in zip(self.factors, place, strict=True)
            if at
        ]

    def command(self, place: Place, label_texts: Sequence[str]) -> str | None:
        """The command that labels a whole table this way; None where the labels need a file.

        Args:
            label_texts: of its wording, descriptions included.
        """
        if any(set(text) & set(",\n\r") for text in label_texts):
            return None
        parts = ["obverse", "predict", self.input]
        for column in self.text:
            parts += ["--text", column]
        parts += ["--labels", ", ".join(label_texts), "--instruction", self.instruction(place)]
        parts += ["--model", self.model, "--method", self.level(place, 2).name]
        if self.level(place, 3).name != "none":
            parts += ["--calibration", self.level(place, 3).name]
        return shlex.join([*parts, *self.options, "--output", "labelled.csv"])

    def answers(self) -> list[tuple[str, str]]:
        """The report in a few questions and answers, for people who read nothing else."""
        return _answers(self)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        return _json(self)

    def render(self, console: Console) -> None:
        """Print the short form for people."""
        if not console.is_terminal:
            console.width = max(console.width, _WIDTH_ELSEWHERE)
        _print(self, console)


# In words


def hits_text(hits: Hits) -> str:
    """`84 % right (77 to 90)`."""
    return f"{whole_percent(hits.accuracy)} right ({whole_between(hits.interval)})"


def _answers(report: AuditReport) -> list[tuple[str, str]]:
    return _gold_answers(report) if report.trial is not None else _goldless_answers(report)


def _gold_answers(report: AuditReport) -> list[tuple[str, str]]:
    trial = report.trial
    assert trial is not None
    others = counted(len(report.variants) - 1, "other way")
    found = [("Which wording and which method?", _recommendation(report, trial, others))]
    if trial.is_own:
        sure = (
            f"On the {counted(trial.confirmed.judged, 'row')} that took no part in choosing, your own way has "
            f"{hits_text(trial.own_confirmed)}. Over all {counted(report.rows, 'row')} it has "
            f"{hits_text(_hits(report.own))}."
        )
    else:
        which = "new" if trial.is_better else "other"
        sure = (
            f"The {which} way was chosen on {counted(trial.chosen.judged, 'row')} and tried on "
            f"{trial.confirmed.judged:,} others, "
            f"on which it has {hits_text(trial.confirmed)} and yours {hits_text(trial.own_confirmed)}. "
            f"{_chance(trial)}"
        )
    found.append(("How sure is that?", f"{sure} {_baseline(report)}"))
    found.append(("What matters most?", _matters(report)))
    found += _pair_answer(report)
    found.append(("How much hangs on the way of asking?", _agreement(report)))
    return found


def _recommendation(report: AuditReport, trial: Trial, others: str) -> str:
    if trial.is_own:
        return f"Keep yours. None of {others} labels more rows right on the half that was used for choosing."
    changes = report.changed(trial.place)
    if trial.is_better:
        return f"Change {_spelled(changes, ' to ')}."
    if trial.is_sure:
        return f"Keep yours. The way that looked best at first ({_spelled(changes, ' ')}) proved worse on other rows."
    if trial.difference.difference <= 0:
        return (
            f"Keep yours. The best of {others}, with {_spelled(changes, ' ')}, did no better than yours on rows that "
            "took no part in choosing."
        )
    return (
        f"Keep yours. The best of {others}, with {_spelled(changes, ' ')}, cannot be told apart from yours: "
        "what it gains may well be chance."
    )


def _spelled(changes: Sequence[tuple[str, str]], between_them: str) -> str:
    parts = [f'{FACTOR_NOUNS[name]}{between_them}"{collapsed(what)}"' for name, what in changes]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _baseline(report: AuditReport) -> str:
    """What somebody gets right who reads no text at all."""
    most = max(report.gold_counts)
    label = report.labels[report.gold_counts.index(most)]
    return (
        f'For comparison: always saying "{one_line(label)}" without reading anything would be right in '
        f"{whole_percent(most / report.rows)} of all rows."
    )


def _chance(trial: Trial) -> str:
    if trial.difference.interval == Interval(0.0, 0.0):
        return "Both label the same rows right."
    found = trial.difference
    said = f"The difference is {whole_points(found.difference)} ({whole_points_between(found.interval)}); "
    if trial.is_better:
        return f"{said}chance alone would hardly make that ({p_words(trial.p_value)})."
    if trial.is_sure:
        return f"{said}it is worse by more than chance would make ({p_words(trial.p_value)})."
    low, high = trial.difference.interval
    if low > 0 or high < 0:  # the interval and the test are not the same, and the test decides
        return f"{said}that is not enough to be sure of it ({p_words(trial.p_value)})."
    return f"{said}chance alone could make that ({p_words(trial.p_value)})."


def _matters(report: AuditReport) -> str:
    if report.trial is not None:
        moved = sorted(((f.moves, f.name) for f in report.factors if f.moves is not None), reverse=True)
        parts = [f"{FACTOR_NOUNS[name]} {whole_points(moves).lstrip('+')}" for moves, name in moved]
        return f"Where only one thing changes, the share of right labels moves on average: {', '.join(parts)}."
    changed = sorted(((f.changes, f.name) for f in report.factors if f.changes is not None), reverse=True)
    parts = [f"{FACTOR_NOUNS[name]} {whole_percent(share)}" for share, name in changed]
    return f"Where only one thing changes, this share of the labels changes with it: {', '.join(parts)}."


def _pair_answer(report: AuditReport) -> list[tuple[str, str]]:
    pair = report.pair
    if pair is None:
        return []
    over = "over all wordings and instructions"
    if pair.same == 1:
        return [
            (f"{pair.first.capitalize()} or {pair.second}?", "They give every row the same label, whatever the words.")
        ]
    parts = [f"They give the same label to {whole_percent(pair.same)} of the rows."]
    if pair.accuracy is not None:
        own = {method.name: method.accuracy or 0.0 for method in report.methods}
        parts.append(
            f"{pair.first.capitalize()} has {whole_percent(own[pair.first])} right and {pair.second} "
            f"{whole_percent(own[pair.second])}, {over}: {whole_points(pair.accuracy.difference)} for {pair.first} "
            f"({whole_points_between(pair.accuracy.interval)}), {_told_apart(pair.accuracy)}."
        )
    if pair.steadiness is not None:
        steady = {method.name: method.steadiness or 0.0 for method in report.methods}
        parts.append(
            f"When words change, {pair.first} keeps {whole_percent(steady[pair.first])} of its labels and "
            f"{pair.second} {whole_percent(steady[pair.second])}: {whole_points(pair.steadiness.difference)} "
            f"({whole_points_between(pair.steadiness.interval)}), {_told_apart(pair.steadiness)}."
        )
    return [(f"{pair.first.capitalize()} or {pair.second}?", " ".join(parts))]


def _told_apart(difference: PairedDifference) -> str:
    low, high = difference.interval
    return "more than chance" if low > 0 or high < 0 else "which may be chance"


def _goldless_answers(report: AuditReport) -> list[tuple[str, str]]:
    found = [
        (
            "Which wording and which method?",
            "Nothing here can say which way is right, for the rows bring no right answers: keep yours until you know "
            "more. Label a hundred rows by hand, put the labels in a column, and run this again with --gold.",
        ),
        ("How much hangs on the way of asking?", _agreement(report)),
        ("What matters most?", _matters(report)),
    ]
    steadiest = report.steadiest
    if steadiest is not None and steadiest.steadiness_interval is not None and len(report.methods) > 1:
        own = report.methods[0]
        text = (
            f"{steadiest.name.capitalize()}: when the wording or the instruction changes, it keeps "
            f"{whole_percent(steadiest.steadiness or 0)} of its labels "
            f"({whole_between(steadiest.steadiness_interval)})."
        )
        if own.name != steadiest.name and own.steadiness is not None and own.steadiness_interval is not None:
            text += (
                f" Yours, {own.name}, keeps {whole_percent(own.steadiness)} ({whole_between(own.steadiness_interval)})."
            )
        if steadiest.most_frequent > _MANY_SAME:
            text += (
                f" But {whole_percent(steadiest.most_frequent)} of its labels are the same one, and that is steady by "
                "itself."
            )
        text += " Steady is not the same as right."
        found.append(("Which method is steadiest?", text))
    found += _pair_answer(report)
    found.append(("Which words stand apart?", _apart(report)))
    return found


def _apart(report: AuditReport) -> str:
    texts = []
    for factor, noun in zip(report.factors, ("words for the labels", "instructions"), strict=False):
        if len(factor.levels) < 2:
            continue
        lowest = min(factor.levels, key=lambda level: level.with_most)
        first = factor.levels[0]
        whose = "these are yours" if lowest is first else f"yours: {whole_percent(first.with_most)}"
        texts.append(
            f'Of the {noun}, "{collapsed(lowest.name)}" differ most from the others: they give '
            f"{whole_percent(lowest.with_most)} of the rows the label that most ways give ({whose})."
            if noun != "instructions"
            else f'Of the {noun}, "{collapsed(lowest.name)}" differs most from the others: '
            f"{whole_percent(lowest.with_most)} ({whose.replace('these are', 'this is')})."
        )
    return " ".join(texts)


def _agreement(report: AuditReport) -> str:
    kappa = "" if report.kappa is None else f" (kappa {report.kappa:.2f}: 1 is full agreement, 0 what chance gives)"
    return (
        f"All {len(report.variants):,} ways give the same label to {report.unanimous:,} of "
        f"{counted(report.rows, 'row')}. Two ways taken at random agree on {whole_percent(report.agreement)}{kappa}."
    )


def _hits(variant: Variant) -> Hits:
    assert variant.hits is not None
    return variant.hits


# On the terminal


def _print(report: AuditReport, console: Console) -> None:
    console.print(Text(f"{report.model}: {counted(len(report.variants), 'way')} to ask about "
                       f"{counted(report.rows, 'row')} of {report.source}", style="bold"))  # fmt: skip
    for question, answer in report.answers():
        console.print()
        console.print(Text(question, style="bold"))
        console.print(Text(answer))
    console.print()
    console.print(_factor_table(report))
    console.print()
    console.print(_method_table(report))
    if report.touchy:
        row = report.touchy[0]
        console.print()
        said = ", ".join(f"{one_line(n)} {v:,}" for n, v in zip(report.labels, row.votes, strict=True) if v)
        console.print(Text("The row that changes most", style="bold"))
        console.print(Text(f"{row.where}: {shorten(collapsed(row.text), _TEXT_CELLS)} ({said})"))
    for note in report.notes:
        console.print(Text(f"- {note}", style="dim"))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0))


def _factor_table(report: AuditReport) -> Table:
    gold = report.trial is not None
    table = _table()
    table.add_column("what changes")
    table.add_column("ways", justify="right")
    table.add_column("labels that change", justify="right")
    if gold:
        table.add_column("accuracy moves", justify="right")
        table.add_column("best if only this changes, against yours")
    for factor in report.factors:
        cells = [
            FACTOR_NOUNS[factor.name],
            f"{len(factor.levels)}",
            "-" if factor.changes is None else whole_percent(factor.changes),
        ]
        if gold:
            cells += [
                "-" if factor.moves is None else whole_points(factor.moves).lstrip("+"),
                "-" if factor.alone is None else _alone_text(report, factor, factor.alone),
            ]
        table.add_row(*map(Text, cells))
    return table


def _alone_text(report: AuditReport, factor: Factor, trial: Trial) -> str:
    at = report.factors.index(factor)
    name = report.instruction(trial.place) if factor.name == "instruction" else report.level(trial.place, at).name
    return (
        f"{shorten(collapsed(name), 40)}: {whole_points(trial.difference.difference)} "
        f"({whole_points_between(trial.difference.interval)}), {verdict(trial)}"
    )


def verdict(trial: Trial) -> str:
    """What a trial shows, in two or three words."""
    if trial.difference.interval == Interval(0.0, 0.0):
        return "no difference"
    if not trial.is_sure:
        low, high = trial.difference.interval
        # The interval stands alone; the test, which decides, is corrected for the others that were tried.
        if low > 0 or high < 0:
            return f"perhaps {'better' if low > 0 else 'worse'}, not sure"
        return "may be chance"
    return "better" if trial.difference.difference > 0 else "worse"


def _method_table(report: AuditReport) -> Table:
    table = _table()
    table.add_column("method")
    if report.trial is not None:
        table.add_column("accuracy, 95 % interval", justify="right")
    table.add_column("labels kept when words change", justify="right")
    for i, method in enumerate(report.methods):
        cells = [f"{method.name} (yours)" if i == 0 else method.name]
        if method.accuracy is not None and method.accuracy_interval is not None:
            cells.append(f"{whole_percent(method.accuracy)} ({whole_between(method.accuracy_interval)})")
        if method.steadiness is None or method.steadiness_interval is None:
            cells.append("-")
        else:
            cells.append(f"{whole_percent(method.steadiness)} ({whole_between(method.steadiness_interval)})")
        table.add_row(*map(Text, cells))
    return table


# As JSON


def _json(report: AuditReport) -> dict[str, Any]:
    gold = report.trial is not None
    return {
        "input": report.input,
        "model": report.model,
        "text": list(report.text),
        "gold": report.gold,
        "labels": list(report.labels),
        "seed": report.seed,
        "rows": report.rows,
        "rows_in_file": report.rows_in_file,
        "scores_asked": report.asked,
        "answers": [{"question": question, "answer": answer} for question, answer in report.answers()],
        "recommended": _way(report, report.recommended),
        "trial": None if report.trial is None else _trial_json(report, report.trial),
        "factors": [
            {
                "factor": factor.name,
                "accuracy_moves": factor.moves,
                "labels_changed": factor.changes,
                "alone": None if factor.alone is None else _trial_json(report, factor.alone),
                "levels": [
                    {
                        "name": level.name,
                        **({"origin": level.origin} if level.origin else {}),
                        **({"mean": level.mean, "worst": level.worst, "best": level.best} if gold else {}),
                        "agrees_with_most": level.with_most,
                    }
                    for level in factor.levels
                ],
            }
            for factor in report.factors
        ],
        "methods": [
            {
                "method": method.name,
                "accuracy": method.accuracy,
                "accuracy_interval": _listed(method.accuracy_interval),
                "steadiness": method.steadiness,
                "steadiness_interval": _listed(method.steadiness_interval),
                "most_frequent_label": method.most_frequent,
            }
            for method in report.methods
        ],
        "pair": None
        if report.pair is None
        else {
            "first": report.pair.first,
            "second": report.pair.second,
            "same_labels": report.pair.same,
            "accuracy_difference": _difference(report.pair.accuracy),
            "steadiness_difference": _difference(report.pair.steadiness),
        },
        "agreement": {"pairwise": report.agreement, "fleiss_kappa": report.kappa, "unanimous_rows": report.unanimous},
        "gold_counts": dict(zip(report.labels, report.gold_counts, strict=True)) if gold else None,
        "touchy_rows": [
            {
                "where": row.where,
                "text": row.text,
                "votes": dict(zip(report.labels, row.votes, strict=True)),
                "own": report.labels[row.own],
                "gold": None if row.gold is None else report.labels[row.gold],
            }
            for row in report.touchy
        ],
        "variants": [
            {
                **_way(report, variant.place),
                **(
                    {}
                    if variant.hits is None
                    else {
                        **variant.hits.to_json(),
                        "macro_f1": variant.macro_f1,
                        "macro_f1_interval": _listed(variant.macro_f1_interval),
                    }
                ),
                "shares": dict(zip(report.labels, variant.shares, strict=True)),
                "same_as_yours": variant.same_as_own,
                "agrees_with_most": variant.with_most,
            }
            for variant in report.variants
        ],
        "notes": list(report.notes),
    }


def _way(report: AuditReport, place: Place) -> dict[str, Any]:
    return {
        "wording": report.level(place, 0).name,
        "instruction": report.instruction(place),
        "method": report.level(place, 2).name,
        "calibration": report.level(place, 3).name,
        "yours": not any(place),
    }


def _trial_json(report: AuditReport, trial: Trial) -> dict[str, Any]:
    return {
        **_way(report, trial.place),
        "chosen_on": {"rows": trial.chosen.judged, **trial.chosen.to_json(), "yours": trial.own_chosen.to_json()},
        "confirmed_on": {
            "rows": trial.confirmed.judged,
            **trial.confirmed.to_json(),
            "yours": trial.own_confirmed.to_json(),
            "difference": trial.difference.difference,
            "difference_interval": list(trial.difference.interval),
            "p_value": trial.p_value,
        },
        "better": trial.is_better,
    }


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _difference(found: PairedDifference | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"difference": found.difference, "interval": list(found.interval), "p_value": found.p_value}
