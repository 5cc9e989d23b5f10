"""`obverse audit`: the plan of ways, the figures they give, the halves, the page, and what is refused in which words.

Expected numbers are worked out by hand, or in other ways than the code's. The counting model says after N words read,
n of them the word w, P(w) = (n + 1) / (N + 1000): for one-word labels under a given prompt the denominators are equal,
so under `direct` the label wins that stands in the text more often, and of equals the first.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obverse.catalog.wordings import WordingSet, wording_sets
from obverse.cli.main import main
from obverse.errors import DataError, LabelError
from obverse.evaluation import robustness
from obverse.labelling import make_scorer
from obverse.metrics.intervals import wilson
from obverse.models.base import Conventions, LanguageModel, Window
from obverse.models.counting import CountingModel
from obverse.recipes import audit as recipe
from obverse.recipes.audit import AuditSettings, audit
from obverse.recipes.predict import Stopped
from obverse.recipes.predict_task import PredictSettings
from obverse.reports.audit import Trial, verdict
from obverse.reports.guess import Hits
from obverse.reports.phrases import whole_percent, whole_points
from obverse.runs.partial import partial_path
from obverse.tasks.labels import LabelSet
from obverse.tasks.substitution import Substitution

ROWS = [
    ("good good film", "good"),
    ("a good day", "good"),
    ("bad bad day", "bad"),
    ("bad film", "bad"),
    ("fine", "good"),
    ("great great bad", "good"),
    ("terrible", "bad"),
    ("bad good bad", "bad"),
    ("good", "good"),
    ("terrible film", "bad"),
]
CSV = "text,gold\n" + "".join(f"{text},{gold}\n" for text, gold in ROWS)
GREAT = LabelSet.parse("great, terrible")
ASK = ("--labels", "good, bad", "--instruction", "Sentiment?", "--model", "counting", "--text", "text")


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def obverse(monkeypatch, tmp_path, capsys):
    """Run the command line in a fresh folder with `rows.csv`, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "rows.csv").write_text(CSV, encoding="utf-8")

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["obverse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def refused(obverse, tmp_path):
    """Run something that must be refused: exit code 2, a plain message, nothing written."""

    def run(*arguments, says: str):
        before = sorted(path.name for path in tmp_path.rglob("*"))
        ran = obverse(*arguments)
        assert ran.code == 2, ran
        assert ran.out == ""
        assert ran.err == f"obverse: {says}\n"
        assert sorted(path.name for path in tmp_path.rglob("*")) == before

    return run


@pytest.fixture
def settings(tmp_path):
    """Settings for a table that holds `CSV` unless another text is given."""

    def make(text=CSV, labels="good, bad", instruction="Sentiment?", gold="gold", changes=(), **own):
        (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
        asked = PredictSettings(
            input=tmp_path / "rows.csv",
            output=tmp_path / "page.html",
            labels=LabelSet.parse(labels),
            instruction=instruction,
            text=("text",),
            gold=gold,
            skip_blank=True,
            **{"overwrite": True, **dict(changes)},
        )
        return AuditSettings(asked, **own)

    return make


class Recording(LanguageModel):
    """The counting model with a prior, which remembers what it was asked."""

    family = "stub"

    def __init__(self, *, stop_after=None, **conventions):
        self.name = "recording"
        self.window = Window()
        self.conventions = Conventions(**conventions)
        self.queries, self.compared = [], []
        self.stop_after = stop_after
        self._counting = CountingModel()

    def log_likelihoods(self, queries, *, progress=None, pieces=False):
        if self.stop_after is not None and len(self.queries) >= self.stop_after:
            raise KeyboardInterrupt
        self.queries += [(query.given, query.said) for query in queries]
        return self._counting.log_likelihoods(queries)

    def similarities(self, texts, labels):
        self.compared += [(text, tuple(row)) for text, row in zip(texts, labels, strict=True)]
        return [[1.0 / (1 + len(label) + len(text)) for label in row] for text, row in zip(texts, labels, strict=True)]

    def pieces(self, query):
        return (), ()

    def count_tokens(self, text):
        return len(text.split())

    def digest(self):
        return "0" * 16


MINI_LIKE = {
    "method": "blend",
    "trained": ("flipped", "direct"),
    "blend": {"direct": 0.5, "flipped": 2.0, "prior": 3.0},
    "temperatures": {"direct/sum": 2.0, "flipped/sum": 0.5},
}


# The plan


def labels_of(found):
    return [wording.labels.wordings for wording in found]


def test_the_plan_of_wordings():
    labels = LabelSet.parse("Good: likes it, Bad")
    found = robustness.plan_wordings(labels, [LabelSet.parse("fine, poor")], wording_sets(), most=3)
    assert [wording.origin for wording in found] == [
        "yours",
        "given",
        "bare",
        *["catalogue: positive-negative"] * 3,
    ]
    assert [wording.labels.texts for wording in found[:3]] == [
        ("Good: likes it", "Bad"),
        ("fine", "poor"),
        ("Good", "Bad"),
    ]
    # The case is kept, the description stays with its label, and results keep the user's names.
    assert found[3].labels.texts == ("Positive: likes it", "Negative")
    assert all(wording.labels.names == ("Good", "Bad") for wording in found)


@pytest.mark.parametrize(
    ("labels", "name", "first"),
    [
        ("no, yes", "yes-no", ("disagree", "agree")),  # the order is the user's
        ("false, true", "true-false", ("no", "yes")),  # the set made for them, not one that has them somewhere
        ("positive, negative", "positive-negative", ("good", "bad")),
        ("bad, good, okay", "positive-neutral-negative", ("negative", "positive", "neutral")),
        ("love, hate", "positive-negative", ("positive", "negative")),
        ("positive, mixed, negative", "positive-negative", ("good", "mixed", "bad")),  # the others stay
    ],
)
def test_substitutes_from_the_catalogue(labels, name, first):
    found = robustness.substitutes(LabelSet.parse(labels), wording_sets(), most=2)
    assert [wording.origin for wording in found] == [f"catalogue: {name}"] * 2
    assert found[0].labels.wordings == first


def test_no_substitutes_where_the_catalogue_has_no_such_words():
    assert robustness.substitutes(LabelSet.parse("praise, complaint, question"), wording_sets(), most=4) == []
    own = [WordingSet("mine", "a/task", "its template", ("yes", "no"), (("yes", "no"), ("true", "false")))]
    assert robustness.substitutes(LabelSet.parse("yes, no"), own, most=4) == []


def test_a_substitute_that_is_a_label_already_is_left_out():
    sets = [WordingSet("mine", None, None, ("yes", "no"), (("yes", "no"), ("true", "maybe"), ("aye", "nay")))]
    found = robustness.substitutes(LabelSet.parse("yes, no, maybe"), sets, most=4)
    assert labels_of(found) == [("aye", "nay", "maybe")]


def test_equal_wordings_are_asked_once():
    given = [LabelSet.parse("Positive, negative"), LabelSet.parse("good,bad"), LabelSet.parse("GOOD, BAD")]
    found = robustness.plan_wordings(LabelSet.parse("good, bad"), given, wording_sets(), most=2)
    assert labels_of(found) == [("good", "bad"), ("Positive", "negative"), ("favorable", "unfavorable")]


def test_a_wording_of_another_length_is_refused():
    with pytest.raises(LabelError, match=r"the wording has 3 labels \(a, b, c\) where there are 2"):
        robustness.plan_wordings(
            LabelSet.parse("good, bad"), [LabelSet.parse("a, b, c", where="--wording")], (), most=0
        )


def wordings(*texts):
    return robustness.plan_wordings(LabelSet.parse(texts[0]), [LabelSet.parse(each) for each in texts[1:]], (), most=0)


def test_the_plan_of_instructions():
    found = robustness.plan_instructions(
        wordings("good, bad", "fine, poor"), ["Is {text} it?", "Good or BAD {{good}}?"]
    )
    assert [(each.origin, each.texts) for each in found] == [
        ("yours", ("Is {text} it?", "Is {text} it?")),
        # Label words in an instruction change with the wording, in their case; braces that are letters stay letters.
        ("given", ("Good or BAD {{good}}?", "Fine or POOR {{fine}}?")),
        ("labels named", ("Is {text} it? Options: good or bad.", "Is {text} it? Options: fine or poor.")),
        ("default", ("Does this text belong to good or bad?", "Does this text belong to fine or poor?")),
        ("ours", ("Which label describes this text best: good or bad?",
                  "Which label describes this text best: fine or poor?")),
        ("ours", ("What would you call this text: good or bad?", "What would you call this text: fine or poor?")),
    ]  # fmt: skip


def test_instructions_where_nothing_is_given():
    found = robustness.plan_instructions(wordings("a, b, c"), [])
    assert [(each.origin, each.texts[0]) for each in found] == [
        ("yours", "Does this text belong to a, b or c?"),
        ("ours", "Which label describes this text best: a, b or c?"),
        ("ours", "What would you call this text: a, b or c?"),
        ("ours", "Choose the label that fits the text: a, b or c."),
    ]


def test_instructions_with_many_labels_and_with_braces():
    many = ", ".join(f"label{i}" for i in range(12))
    found = robustness.plan_instructions(wordings(many), ["What is it?"])
    assert [each.texts[0] for each in found] == [
        "What is it?",
        "Which of the given labels fits this text best?",
        "Which label describes this text best?",
        "What would you call this text?",
        "Choose the label that fits the text.",
    ]
    found = robustness.plan_instructions(wordings("{x}, y", "{z}, y"), ["Say {text}, {{x}} or y?"])
    assert found[0].texts == ("Say {text}, {{x}} or y?", "Say {text}, {{z}} or y?")
    assert found[1].texts[0] == "Does this text belong to {{x}} or y?"


def test_slots_keep_their_columns():
    changed = robustness.reworded("{good} is good; {{good}}", Substitution({"good": "a {fine} thing"}))
    assert changed == "{good} is a {{fine}} thing; {{a {{fine}} thing}}"


def test_methods_that_suit_a_model():
    def of(**conventions):
        return robustness.plan_methods(Conventions(**conventions))

    assert of(method="blend", trained=("flipped", "direct"), blend={"direct": 1.0}) == (
        "blend", "direct", "flipped", "product",
    )  # fmt: skip
    assert of() == ("direct", "flipped", "product")
    assert of(method="flipped", trained=("flipped",)) == ("flipped",)
    assert of(method="direct", trained=("direct",)) == ("direct", "pmi")
    assert of(method="channel", trained=("channel", "direct")) == ("channel", "direct")


# What labels say together


def test_agreement_by_hand():
    # Three variants, two rows: aab -> 1 of 3 pairs, bbb -> 3 of 3.
    votes = np.array([[0, 1], [0, 1], [1, 1]])
    assert robustness.agreement(votes, 2).tolist() == pytest.approx([1 / 3, 1])
    assert robustness.votes(votes, 2).tolist() == [[2, 1], [0, 3]]
    # P = 2/3; shares a 2/6, b 4/6, Pe = 5/9; kappa = (2/3 - 5/9) / (4/9) = 1/4.
    assert robustness.fleiss_kappa(votes, 2) == pytest.approx(0.25)
    assert robustness.fleiss_kappa(np.zeros((3, 4), int), 2) is None
    with pytest.raises(DataError):
        robustness.agreement(votes[:1], 2)


def test_kappa_of_a_published_table():
    """The worked example of the formula's usual textbook table: 10 subjects, 14 raters, kappa 0.210."""
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    votes = np.array([[k for k, n in enumerate(row) for _ in range(n)] for row in table]).T
    assert robustness.fleiss_kappa(votes, 5) == pytest.approx(0.210, abs=5e-4)


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=2, max_size=6))
def test_agreement_is_the_mean_over_pairs(rows):
    votes = np.array(rows)
    pairs = [float((a == b).mean()) for a, b in itertools.combinations(votes, 2)]
    assert robustness.agreement(votes, 3).mean() == pytest.approx(sum(pairs) / len(pairs))


def test_ranges_and_changes_by_hand():
    figures = np.array([[0.5, 0.7], [0.6, 0.9]]).reshape(2, 2, 1, 1)
    # Wording: |0.6 - 0.5| and |0.9 - 0.7|; instruction: 0.2 and 0.3.
    assert robustness.mean_ranges(figures) == (pytest.approx(0.15), pytest.approx(0.25), None, None)
    labels = np.array([[[0, 0], [0, 1]], [[1, 1], [0, 1]]]).reshape(2, 2, 1, 1, 2)
    # Wording changes 2 of 2 rows under instruction 1 and none under 2; instruction 1 of 2 and 1 of 2.
    assert robustness.changed_shares(labels, 2) == (pytest.approx(0.5), pytest.approx(0.5), None, None)


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.integers(0, 5))
def test_halves_are_apart_and_balanced(gold, seed):
    first, second = robustness.halves(gold, list(map(str, range(len(gold)))), seed)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(gold)))
    assert 0 <= len(first) - len(second) <= 1
    for label in set(gold):
        counts = [sum(gold[i] == label for i in half) for half in (first, second)]
        assert abs(counts[0] - counts[1]) <= 1


def test_halves_depend_on_the_seed():
    gold, texts = [0, 1] * 30, list(map(str, range(60)))
    assert robustness.halves(gold, texts, 0)[0].tolist() == robustness.halves(gold, texts, 0)[0].tolist()
    assert robustness.halves(gold, texts, 0)[0].tolist() != robustness.halves(gold, texts, 1)[0].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_one_text_stay_in_one_half(seed):
    texts = [str(i % 20) for i in range(60)]  # each text three times, once under another label
    gold = [int(i % 20 < 10) if i < 40 else int(i % 20 >= 10) for i in range(60)]
    first, second = robustness.halves(gold, texts, seed)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(60))
    assert not {texts[i] for i in first} & {texts[i] for i in second}
    assert len(first) == len(second) == 30


def test_the_best_changes_least():
    figures = np.full((2, 2, 2, 1), 0.5)
    assert robustness.best_place(figures) == (0, 0, 0, 0)
    figures[1, 1, 0, 0] = figures[0, 1, 0, 0] = figures[1, 0, 0, 0] = 0.8
    assert robustness.best_place(figures) == (0, 1, 0, 0)
    assert robustness.best_place(figures, along=0) == (1, 0, 0, 0)
    assert robustness.best_place(figures, along=2) == (0, 0, 1, 0)


# The whole, on the counting model


def direct(text, instruction, labels):
    """What the counting model chooses under direct: the label that stands in the prompt more often, else the first."""
    counts = [f"{text}\n{instruction}".casefold().split().count(label) for label in labels]
    return counts.index(max(counts))


def share(a, b):
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)


def test_figures_equal_a_computation_by_hand(settings):
    report = audit(
        settings(methods=("direct",), calibrations=("none",), substitutes=0, wordings=(GREAT,)),
        model=CountingModel(),
    )
    gold = [("good", "bad").index(label) for _, label in ROWS]
    chosen = {
        (w, i): [direct(text, report.instruction((w, i, 0, 0)), names) for text, _ in ROWS]
        for w, names in enumerate((("good", "bad"), ("great", "terrible")))
        for i in range(5)
    }
    yours = chosen[0, 0]
    # "great great bad" has one "bad"; "fine" and "terrible" hold neither word: the first wins.
    assert yours == [0, 0, 1, 1, 0, 1, 0, 1, 0, 0]
    assert chosen[1, 0] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    # "Does this text belong to good or bad?" holds the word "good" once more, for the other is "bad?".
    assert chosen[0, 2] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert [variant.place for variant in report.variants] == [(w, i, 0, 0) for w, i in chosen]
    right = {}
    for variant, labels in zip(report.variants, chosen.values(), strict=True):
        right[variant.place[:2]] = share(labels, gold)
        assert variant.hits.right == 10 * share(labels, gold)
        assert variant.hits.interval == wilson(variant.hits.right, 10)
        assert variant.shares == (labels.count(0) / 10, labels.count(1) / 10)
        assert variant.same_as_own == share(labels, yours)
    # 7 right: good has TP 4, FP 2, FN 1; bad has TP 3, FP 1, FN 2: F1 8/11 and 6/9.
    assert report.own.hits.right == 7
    assert report.own.macro_f1 == pytest.approx((8 / 11 + 6 / 9) / 2)
    wording, instruction, method, calibration = report.factors
    assert wording.changes == pytest.approx(sum(1 - share(chosen[0, i], chosen[1, i]) for i in range(5)) / 5)
    pairs = list(itertools.combinations(range(5), 2))
    assert instruction.changes == pytest.approx(
        sum(1 - share(chosen[w, i], chosen[w, j]) for w in (0, 1) for i, j in pairs) / 20
    )
    assert wording.moves == pytest.approx(sum(abs(right[0, i] - right[1, i]) for i in range(5)) / 5)
    spans = [[right[w, i] for i in range(5)] for w in (0, 1)]
    assert instruction.moves == pytest.approx(sum(max(span) - min(span) for span in spans) / 2)
    assert [level.mean for level in wording.levels] == pytest.approx([sum(span) / 5 for span in spans])
    assert [(level.worst, level.best) for level in wording.levels] == [(min(span), max(span)) for span in spans]
    assert method.changes is method.moves is calibration.alone is None
    every = [share(a, b) for a, b in itertools.combinations(chosen.values(), 2)]
    assert report.agreement == pytest.approx(sum(every) / 45)
    assert report.methods[0].steadiness == pytest.approx(sum(every) / 45)
    assert report.methods[0].accuracy == pytest.approx(sum(right.values()) / 10)
    votes = [[[labels[n] for labels in chosen.values()].count(k) for k in (0, 1)] for n in range(10)]
    assert report.unanimous == sum(0 in each for each in votes)
    most = [each.index(max(each)) for each in votes]
    assert [level.with_most for level in wording.levels] == pytest.approx(
        [sum(share(chosen[w, i], most) for i in range(5)) / 5 for w in (0, 1)]
    )
    touchy = sorted((n for n in range(10) if 0 not in votes[n]), key=lambda n: max(votes[n]))
    assert [row.where for row in report.touchy] == [f"{report.input}, row {n + 1} (line {n + 2})" for n in touchy]
    assert [list(row.votes) for row in report.touchy] == [votes[n] for n in touchy]
    assert [row.own for row in report.touchy] == [yours[n] for n in touchy]
    assert report.pair is None


def test_labels_are_those_of_predict(settings, tmp_path, obverse):
    """Every method and calibration against the command that the page tells people to run."""
    report = audit(
        settings(methods=("direct", "flipped", "product", "pmi"), substitutes=1),
        model=CountingModel(),
    )
    gold = [label for _, label in ROWS]
    for variant in report.variants:
        wording, _, method, calibration = (report.level(variant.place, axis).name for axis in range(4))
        if variant.place[:2] not in ((0, 0), (1, 3)):
            continue
        (tmp_path / "rows.csv").write_text(CSV, encoding="utf-8")
        ran = obverse(
            "predict", "rows.csv", "--text", "text", "--labels", wording, "--instruction",
            report.instruction(variant.place), "--model", "counting", "--method", method, "--calibration", calibration,
            "--output", "out.jsonl", "--overwrite",
        )  # fmt: skip
        assert ran.code == 0
        names = wording.split(", ")
        chosen = [names.index(json.loads(line)["label"]) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert variant.shares == (chosen.count(0) / 10, chosen.count(1) / 10)
        assert variant.hits.right == sum(("good", "bad")[k] == g for k, g in zip(chosen, gold, strict=True))


def test_calibrations_by_hand():
    scorer = make_scorer(Conventions(), method="direct")
    scores = np.log(np.array([[0.6, 0.4], [0.7, 0.3], [0.9, 0.1]]))
    cell = robustness.CellScores({"direct": scores}, {"direct": np.log(np.array([[0.65, 0.35], [0.65, 0.35]]))})
    assert cell.choose(scorer, "none").tolist() == [0, 0, 0]
    # 0.6 / 0.65 < 0.4 / 0.35; 0.7 / 0.65 > 0.3 / 0.35.
    assert cell.choose(scorer, "contextual").tolist() == [1, 0, 0]
    # The mean of all is (0.733, 0.267); of the first two alone (0.65, 0.35).
    assert cell.choose(scorer, "batch").tolist() == [1, 1, 0]
    assert cell.choose(scorer, "batch", np.array([0, 1])).tolist() == [1, 0]
    with pytest.raises(DataError):
        robustness.CellScores({"direct": scores}).choose(scorer, "contextual")


def test_every_score_is_asked_once(settings):
    model = Recording(**MINI_LIKE)
    report = audit(settings(substitutes=1), model=model)
    assert report.factors[2].levels[0].name == "blend"
    assert [level.name for level in report.factors[2].levels] == ["blend", "direct", "flipped", "product"]
    assert len(model.queries) == len(set(model.queries))
    # 2 wordings, 5 instructions, 10 rows and 3 texts without content, 2 labels, direct and flipped.
    assert len(model.queries) == 2 * 5 * 13 * 2 * 2
    # The prior compares text and labels alone: once a wording. A blank text and a text may not be the same here.
    assert len(model.compared) == len(set(model.compared)) == 2 * 13
    assert report.asked == len(model.queries) + 2 * len(model.compared)


def test_without_contextual_calibration_no_blank_text_is_asked(settings):
    model = Recording()
    audit(settings(substitutes=0, methods=("direct",), calibrations=("none",)), model=model)
    assert len(model.queries) == 5 * 10 * 2


def test_choosing_and_confirming_use_other_rows(settings, monkeypatch):
    """The half that confirms may hold anything: the choice stays. And the two share no row."""
    used = []
    whole = robustness.choose_all

    def spy(cells, scorers, names, rows=None):
        used.append(rows)
        return whole(cells, scorers, names, rows)

    monkeypatch.setattr(robustness, "choose_all", spy)
    options = {"methods": ("direct", "flipped"), "wordings": (GREAT,), "substitutes": 0}
    text = "text,gold\n" + "".join(f"{t} {i},{g}\n" for i, (t, g) in enumerate(ROWS * 4))
    first = audit(settings(text, **options), model=CountingModel())
    assert used[0] is None
    choosing, confirming = used[1], used[2]
    assert not set(choosing.tolist()) & set(confirming.tolist())
    assert len(choosing) == first.trial.chosen.judged == 20
    assert len(confirming) == first.trial.confirmed.judged == 20
    # Other texts of the same gold in the confirming half: another confirmation, the same choice.
    rows = [[f"{t} {i}", g] for i, (t, g) in enumerate(ROWS * 4)]
    for i in confirming.tolist():
        rows[i][0] = f"bad bad great great great {i}"
    used.clear()
    text = "text,gold\n" + "".join(f"{t},{g}\n" for t, g in rows)
    second = audit(settings(text, **options), model=CountingModel())
    assert used[1].tolist() == choosing.tolist()
    assert second.trial.place == first.trial.place
    assert second.trial.chosen == first.trial.chosen
    assert second.trial.confirmed != first.trial.confirmed
    assert [f.alone.place for f in second.factors if f.alone] == [f.alone.place for f in first.factors if f.alone]


def decided(n, right_by_wording):
    """A table where so many tenths of the rows are decided by the words "great" and "terrible" only."""
    lines = ["text,gold"]
    for i in range(n):
        gold = ("good", "bad")[i % 2]
        word = {"good": "great", "bad": "terrible"}[gold] if i // 2 % 10 < right_by_wording else "thing"
        lines.append(f"{word} number{i},{gold}")
    return "\n".join(lines) + "\n"


def test_a_way_that_is_surely_better_is_recommended(settings):
    # "thing" rows go to the first label under both wordings; the others are right under "great, terrible" only.
    report = audit(
        settings(decided(200, 9), methods=("direct",), calibrations=("none",), wordings=(GREAT,)),
        model=CountingModel(),
    )  # fmt: skip
    trial = report.trial
    assert trial.is_better
    assert trial.place == report.recommended == (1, 0, 0, 0)
    assert trial.own_confirmed.right == 50
    assert trial.confirmed.accuracy > 0.9
    assert trial.difference.difference == pytest.approx(trial.confirmed.accuracy - 0.5)
    question, answer = report.answers()[0]
    assert question == "Which wording and which method?"
    assert answer == 'Change the words for the labels to "great, terrible".'
    assert "chance alone would hardly make that (p < 0.001)" in report.answers()[1][1]
    assert report.command(trial.place, ("great", "terrible")).endswith(
        "--labels 'great, terrible' --instruction 'Sentiment?' --model counting --method direct --output labelled.csv"
    )
    assert report.command(trial.place, ("a, b", "c")) is None


def test_keep_yours_where_nothing_can_be_told_apart(settings):
    report = audit(
        settings(decided(120, 1), methods=("direct",), calibrations=("none",), wordings=(GREAT,)),
        model=CountingModel(),
    )  # fmt: skip
    assert report.trial.place == (1, 0, 0, 0)
    assert not report.trial.is_better
    assert report.recommended == (0, 0, 0, 0)
    assert report.answers()[0][1].startswith("Keep yours. The best of ")
    assert "cannot be told apart from yours" in report.answers()[0][1]
    assert "that is not enough to be sure of it (p = 0.12)" in report.answers()[1][1]


def test_where_test_and_interval_differ_the_test_decides(settings):
    # On 30 rows five that the other way alone has right: the bootstrap leaves out 0, McNemar's exact test has 2 / 2^5.
    gold = np.zeros(30, dtype=np.int64)
    own = np.array([1] * 5 + [0] * 25)
    found = robustness.confirm(gold, np.zeros_like(gold), own)
    assert found.difference.interval.low > 0
    assert found.test.p_value == pytest.approx(1 / 16)
    hits = Hits(30, 30), Hits(25, 30)
    trial = Trial((1, 0, 0, 0), *hits, *hits, found.difference, found.test.p_value)
    assert verdict(trial) == "perhaps better, not sure"
    report = audit(settings(methods=("direct",), wordings=(GREAT,)), model=CountingModel())
    answer = dict(replace(report, trial=trial).answers())["How sure is that?"]
    assert "that is not enough to be sure of it (p = 0.062)" in answer
    assert "chance alone could make" not in answer


def test_keeping_every_label_is_not_certain(settings):
    # neither label stands in any text: all are tied, whatever the instruction
    report = audit(settings(labels="x, y", gold=None, substitutes=0, methods=("direct",)), model=CountingModel())
    (method,) = report.methods
    assert method.steadiness == 1
    assert method.steadiness_interval == wilson(10, 10)


def test_keep_yours_where_yours_is_best(settings):
    text = decided(60, 9).replace("great", "good").replace("terrible", "bad")
    report = audit(
        settings(text, methods=("direct",), calibrations=("none",), wordings=(LabelSet.parse("x, y"),)),
        model=CountingModel(),
    )
    assert report.trial.is_own
    assert report.answers()[0][1].startswith("Keep yours. None of ")
    assert "your own way has" in report.answers()[1][1]


def test_without_right_answers(settings):
    report = audit(settings(gold=None, substitutes=0), model=CountingModel())
    assert report.trial is report.gold is None
    assert report.recommended == (0, 0, 0, 0)
    assert all(variant.hits is None for variant in report.variants)
    questions = [question for question, _ in report.answers()]
    assert questions[0] == "Which wording and which method?"
    assert report.answers()[0][1].startswith("Nothing here can say which way is right")
    assert "Which method is steadiest?" in questions
    assert json.loads(json.dumps(report.to_json()))["trial"] is None


def test_direct_against_flipped_shows(settings):
    """With lengths of labels that differ, direct and flipped choose differently; the page says how far."""
    report = audit(settings(labels="good, bad: it is not good", substitutes=0), model=Recording(**MINI_LIKE))
    assert {report.pair.first, report.pair.second} == {"direct", "flipped"}
    assert report.pair.same < 1
    merits = {method.name: method.accuracy for method in report.methods}
    assert report.pair.accuracy.difference == pytest.approx(merits[report.pair.first] - merits[report.pair.second])
    assert report.pair.accuracy.difference >= 0
    assert any(question in ("Direct or flipped?", "Flipped or direct?") for question, _ in report.answers())


# Rows


def test_rows_are_drawn_by_seed(settings):
    text = "text,gold\n" + "".join(f"text{i},{('good', 'bad')[i % 2]}\n" for i in range(200))
    options = {"methods": ("direct",), "calibrations": ("none",), "substitutes": 0, "rows": 20}

    def drawn(seed):
        model = Recording()
        report = audit(settings(text, seed=seed, **options), model=model)
        assert (report.rows, report.rows_in_file) == (20, 200)
        found = (re.fullmatch(r"text(\d+)\nSentiment\?", given) for given, _ in model.queries)
        return [int(each[1]) for each in found if each][::2]

    assert drawn(0) == drawn(0) == sorted(drawn(0)) != drawn(1)
    assert len(set(drawn(0))) == 20


def test_rows_without_text_or_answer_are_left_out_and_told(settings):
    text = CSV + '"  ",good\n"some text",\n"some text","  "\n'
    report = audit(settings(text, substitutes=0), model=CountingModel())
    assert report.rows == 10
    assert report.notes[-2:] == ("Left out: 1 row without text.", "Left out: 2 rows without a right answer.")


def test_the_command_for_the_whole_table_works_with_rows_without_text(settings, obverse, tmp_path):
    report = audit(settings(CSV + '"  ",good\n', substitutes=0), model=CountingModel())
    command = report.command((0, 0, 0, 1), ("good", "bad"))
    ran = obverse(*shlex.split(command)[1:])
    assert ran.code == 0, ran
    assert len((tmp_path / "labelled.csv").read_text(encoding="utf-8").splitlines()) == 1 + 11


def test_gold_is_matched_without_case_and_white_space(settings):
    text = CSV.replace(",good\n", ", GOOD \n", 2)
    assert audit(settings(text, substitutes=0), model=CountingModel()).gold_counts == (5, 5)
    text = "text,gold\n" + "".join(f"a b{i},{' VERY   good' if i % 2 else 'bad'}\n" for i in range(8))
    report = audit(settings(text, labels="very good, bad", substitutes=0), model=CountingModel())
    assert report.gold_counts == (4, 4)


def test_one_right_answer_for_all_is_told(settings):
    report = audit(settings(CSV.replace(",bad\n", ",good\n"), substitutes=0), model=CountingModel())
    assert any("All rows have the same right answer, 'good'" in note for note in report.notes)


def test_texts_are_cut_to_the_window(settings):
    model = Recording()
    model.window = Window(given=12)
    long = CSV + "long " * 30 + "good,good\n"
    report = audit(settings(long, substitutes=0, methods=("direct",)), model=model)
    assert "1 row cut at the end to fit the model's window." in report.notes
    assert max(len(given.split()) for given, _ in model.queries) <= 12


def test_a_task_file_brings_its_instructions_and_wordings(tmp_path, obverse):
    (tmp_path / "own.toml").write_text(
        'name = "own"\ninstructions = ["What is it?", "Say what it is."]\n'
        '[data]\nfile = "rows.csv"\ntext = "text"\ngold = "gold"\n'
        '[[labels]]\nname = "plus"\nvalue = "good"\nwording = ["good", "great"]\n'
        '[[labels]]\nname = "minus"\nvalue = "bad"\nwording = ["bad", "terrible"]\n',
        encoding="utf-8",
    )
    ran = obverse("audit", "own.toml", "--model", "counting", "--substitutes", "0", "--json")
    assert ran.code == 0, ran
    found = json.loads(ran.out)
    assert [level["name"] for level in found["factors"][0]["levels"]] == ["good, bad", "great, terrible"]
    assert [level["name"] for level in found["factors"][1]["levels"]][:2] == ["What is it?", "Say what it is."]
    assert found["gold_counts"] == {"plus": 5, "minus": 5}


# Stopping and going on


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_a_stopped_run_goes_on_to_the_same_page(settings, tmp_path, monkeypatch, blocks):
    monkeypatch.setattr(recipe, "PROMPTS_AT_ONCE", 4)
    options = {"substitutes": 1, "seed": 3}
    whole = Recording(**MINI_LIKE)
    expected = audit(settings(**options), model=whole)
    page = (tmp_path / "page.html").read_bytes()
    (tmp_path / "page.html").unlink()
    # A piece of 4 texts is 4 x 2 labels x 2 directions.
    stopping = Recording(**MINI_LIKE, stop_after=16 * blocks)
    with pytest.raises(
        Stopped, match=rf"stopped; .* safe in {re.escape(str(tmp_path / 'page.html.partial'))}"
    ) as stopped:
        audit(settings(**options), model=stopping)
    assert stopped.value.mend == "The same command with --resume in place of --overwrite goes on from there."
    assert not (tmp_path / "page.html").exists()
    going_on = Recording(**MINI_LIKE)
    changes = {"overwrite": False, "resume": True}
    assert audit(settings(changes=changes.items(), **options), model=going_on) == expected
    assert (tmp_path / "page.html").read_bytes() == page
    assert not partial_path(tmp_path / "page.html").exists()
    assert len(stopping.queries) + len(going_on.queries) == len(whole.queries)


def test_a_kill_in_the_middle_of_a_piece(settings, tmp_path, monkeypatch):
    """Lines of a piece that did not reach the disk, and one torn in the middle: the whole piece is asked again."""
    monkeypatch.setattr(recipe, "PROMPTS_AT_ONCE", 4)
    expected = audit(settings(substitutes=1), model=Recording(**MINI_LIKE))
    page = (tmp_path / "page.html").read_bytes()
    (tmp_path / "page.html").unlink()
    with pytest.raises(Stopped):
        audit(settings(substitutes=1), model=Recording(**MINI_LIKE, stop_after=16 * 6))
    partial = partial_path(tmp_path / "page.html")
    lines = partial.read_bytes().splitlines(keepends=True)
    partial.write_bytes(b"".join(lines[:-2]) + lines[-2][:30])
    going_on = Recording(**MINI_LIKE)
    assert (
        audit(settings(substitutes=1, changes={"overwrite": False, "resume": True}.items()), model=going_on) == expected
    )
    assert (tmp_path / "page.html").read_bytes() == page


def test_a_stop_before_anything_leaves_nothing(settings, tmp_path):
    with pytest.raises(Stopped, match="nothing is kept"):
        audit(settings(), model=Recording(stop_after=0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]


def test_only_the_same_run_is_gone_on_with(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "PROMPTS_AT_ONCE", 4)
    with pytest.raises(Stopped):
        audit(settings(), model=Recording(stop_after=16))
    changes = {"overwrite": False, "resume": True}.items()
    with pytest.raises(Exception, match="made with other settings"):
        audit(settings(CSV.replace("fine", "finer"), changes=changes), model=Recording())


# The page


class Reader(HTMLParser):
    """Tags, and the text between them."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_hostile_texts_stay_texts(settings, tmp_path):
    nasty = '<script>alert(1)</script>" onload="x'
    rows = "".join(
        f'"<img src=x onerror=y> {i} {"<b>" if i % 2 else ""}","<b>good"\n"</td> & {i}",bad\n' for i in range(6)
    )
    model = Recording()
    model.name = "<svg onload=z>"
    audit(
        settings(
            f"text,gold\n{rows}",
            labels="<b>good, bad",
            instruction=nasty,
            methods=("direct",),
            wordings=(LabelSet.parse("<i>x</i>, {{7*7}}"),),
        ),
        model=model,
    )
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert not {"script", "img", "svg", "b", "iframe", "link"} & {tag for tag, _ in reader.tags}
    assert not any(
        name.startswith("on") or name in ("src", "href") for _, attributes in reader.tags for name in attributes
    )
    words = " ".join("".join(reader.words).split())
    assert nasty in words
    assert "{{7*7}}" in words
    assert "http" not in page.replace("http-equiv", "")
    (csp,) = [a["content"] for t, a in reader.tags if t == "meta" and a.get("http-equiv")]
    assert csp.startswith("default-src 'none'")
    assert "script-src" not in csp


def test_the_page_and_the_terminal_say_the_same(obverse, tmp_path):
    ran = obverse("audit", "rows.csv", *ASK, "--gold", "gold", "--wording", "great, terrible", "--substitutes", "1")
    assert ran.code == 0, ran
    assert ran.out.endswith("Page: audit.html\n")
    assert "Other words for your labels, from the list positive-negative: positive, negative" in ran.err
    assert "3 wordings x 5 instructions x 3 methods x 3 calibrations = 135 ways to ask about 10 rows" in (
        " ".join(ran.err.split())
    )
    reader = Reader()
    reader.feed((tmp_path / "audit.html").read_text(encoding="utf-8"))
    assert reader.open == []
    page, terminal = " ".join("".join(reader.words).split()), " ".join(ran.out.split())
    again = obverse("audit", "rows.csv", *ASK, "--gold", "gold", "--wording", "great, terrible", "--substitutes", "1",
                    "--overwrite", "--json")  # fmt: skip
    assert again.err.endswith("Page: audit.html\n")
    for each in json.loads(again.out)["answers"]:
        for text in each.values():
            assert " ".join(text.split()) in page
            assert " ".join(text.split()) in terminal
    assert len(json.loads(again.out)["variants"]) == 135
    assert page.count("row 2 (line 3)") <= 1


def test_numbers_in_words():
    assert [whole_percent(x) for x in (0, 0.001, 0.5, 0.999, 1)] == ["0 %", "under 1 %", "50 %", "over 99 %", "100 %"]
    assert [whole_points(x) for x in (0.062, -0.01, 0.001, -0.001)] == ["+6 points", "-1 point", "0 points", "0 points"]


# What is refused


def test_refusals(refused, tmp_path):
    gold = ("--gold", "gold")
    refused("audit", "rows.csv", *ASK, "--gold", "golden",
            says="rows.csv: there is no column 'golden' in the table (--gold)\nDid you mean 'gold'?")  # fmt: skip
    refused("audit", "rows.csv", *ASK[:-1], "txt",
            says="rows.csv: there is no column 'txt' in the table (--text)\nDid you mean 'text'?")  # fmt: skip
    refused("audit", "rows.csv", "--labels", "good", "--model", "counting",
            says='--labels: there is only one label; a choice needs at least two\n'
            'Write them with commas between, as in --labels "praise, complaint, question".')  # fmt: skip
    refused("audit", "rows.csv", "--model", "counting",
            says='there are no labels to choose from\nGive --labels "praise, complaint, question", or a file with one '
            "label a line.")  # fmt: skip
    refused("audit", "rows.csv", *ASK, "--wording", "a, b, c",
            says="--wording: the wording has 3 labels (a, b, c) where there are 2\n"
            "Write one for each of good, bad, in this order.")  # fmt: skip
    refused("audit", "rows.csv", *ASK, *gold, "--output", "nowhere/page.html",
            says="nowhere: there is no such folder\nMake it first.")  # fmt: skip
    refused("audit", "rows.csv", *ASK, "--output", "page.csv",
            says="page.csv: the page is HTML, and the name should say so\nAs in --output audit.html.")  # fmt: skip
    refused("audit", "rows.csv", *ASK, "--method", "direct, flippd",
            says="--method: unknown method 'flippd'\nDid you mean 'flipped'?")  # fmt: skip
    refused("audit", "rows.csv", *ASK, "--calibration", "bach",
            says="--calibration: unknown calibration 'bach'\nDid you mean 'batch' or 'batch-log'?")  # fmt: skip
    refused("audit", "rows.csv", *ASK, "--method", "blend",
            says="--method: this model keeps no blend weights\n"
            "Use direct, channel, flipped, pmi or product.")  # fmt: skip
    refused("audit", "rows.csv", *ASK, "--rows", "1", says="--rows: 1 is too small\nGive a number from 2 on.")
    refused("audit", "rows.csv", *ASK, "--substitutes", "-1",
            says="--substitutes: -1 is too small\nGive a number from 0 on.")  # fmt: skip
    refused("audit", "rows.csv", "--labels", "good, bad", "--instruction", "Is {this} it?", "--text", "text",
            says="--instruction: the instruction's slot {this} names no text column\nKnown: text. For a literal brace "
            "write {{ or }}.")  # fmt: skip
    refused("audit", "rows.csv", *ASK, "--resume", "--overwrite",
            says="--resume and --overwrite exclude each other\n--resume goes on, --overwrite begins anew.")  # fmt: skip
    refused("audit", "row.csv", *ASK, says="row.csv: there is no such file\nDid you mean 'rows.csv'?")


def test_refused_tables(refused, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    refused("audit", "empty.csv", *ASK, says="empty.csv: the file is empty\nCheck how it was written.")
    (tmp_path / "head.csv").write_text("text,gold\n")
    refused("audit", "head.csv", *ASK,
            says="head.csv: there is a header but no rows\nPut at least one row of data into the file.")  # fmt: skip
    (tmp_path / "blank.csv").write_text('text,gold\n" ",good\n')
    refused("audit", "blank.csv", *ASK,
            says="blank.csv: there is no row with text; an audit needs at least 2\n"
            "Give it a hundred or more.")  # fmt: skip
    (tmp_path / "few.csv").write_text("text,gold\n" + "a,good\nb,bad\n" * 3)
    refused("audit", "few.csv", *ASK, "--gold", "gold",
            says="few.csv: there are only 6 rows with text and a right answer in column 'gold'; to choose on one half "
            "and confirm on the other at least 8 are needed\n"
            "Give it a hundred or more, or leave out --gold.")  # fmt: skip
    (tmp_path / "wrong.csv").write_text("text,gold\n" + "a,Yes\nb,no\nc,good\nd,Yes\n" * 3)
    refused("audit", "wrong.csv", *ASK, "--gold", "gold",
            says="wrong.csv: the column 'gold' (--gold) holds 2 values that are none of the labels: 'Yes' (6 rows), "
            "'no' (3 rows)\n"
            "Labels: good, bad. Name them as the column does; case and white space do not matter.")  # fmt: skip


def test_a_page_is_not_overwritten_unasked(obverse, tmp_path):
    assert obverse("audit", "rows.csv", *ASK, "--substitutes", "0").code == 0
    before = (tmp_path / "audit.html").read_bytes()
    ran = obverse("audit", "rows.csv", *ASK, "--substitutes", "0")
    assert (ran.code, ran.err) == (2, "obverse: audit.html: exists already\n--overwrite replaces it.\n")
    ran = obverse("audit", "rows.csv", *ASK, "--resume")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2, "obverse: audit.html: is finished already; there is nothing to resume",
    )  # fmt: skip
    assert (tmp_path / "audit.html").read_bytes() == before


# On the bundled model

WEIGHTS = Path(__file__).parents[1] / "src" / "obverse" / "models" / "mini" / "weights.safetensors"


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the bundled model's weights are not in this checkout")
def test_the_bundled_model_direct_against_flipped(settings):
    from obverse import ZeroShotClassifier, load_model

    model = load_model("obverse-mini")
    texts = ["It broke at once.", "What a joy!", "Never again.", "Splendid."]
    table = "text,gold\n" + "".join(f'"{text}",\n' for text in texts)
    report = audit(settings(table, gold=None, substitutes=0, calibrations=("none",)), model=model)
    assert [method.name for method in report.methods] == ["blend", "direct", "flipped", "product"]
    assert {report.pair.first, report.pair.second} == {"direct", "flipped"}
    assert any(question in ("Direct or flipped?", "Flipped or direct?") for question, _ in report.answers())
    for m, method in enumerate(report.methods):
        chosen = (
            ZeroShotClassifier(["good", "bad"], "Sentiment?", model=model, method=method.name).predict(texts).tolist()
        )
        variant = next(each for each in report.variants if each.place == (0, 0, m, 0))
        assert variant.shares == (chosen.count("good") / 4, chosen.count("bad") / 4)


# In a browser


BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.mark.skipif(BROWSER is None, reason="no headless browser")
def test_the_page_fits_a_telephone(settings, tmp_path):
    """At 360 pixels nothing sticks out of the page: wide tables scroll inside their own boxes."""
    audit(settings(substitutes=2), model=CountingModel())
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    # Its own policy forbids scripts; the copy that measures itself goes without.
    measured = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace(
        "</body>",
        "<script>document.title = [document.documentElement.scrollWidth, innerWidth].join();</script></body>",
    )
    (tmp_path / "measured.html").write_text(measured, encoding="utf-8")
    # The browser's windows are at least 500 wide, a frame may be narrower.
    (tmp_path / "frame.html").write_text(
        '<iframe id="f" src="measured.html" style="width:360px;height:800px;border:0"></iframe>'
        "<script>onload = () => { document.title = f.contentDocument.title; }</script>",
        encoding="utf-8",
    )
    ran = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    found = re.search(r"<title>(\d+),(\d+)</title>", ran.stdout)
    if found is None:
        pytest.skip("the browser does not run here")
    assert int(found[1]) <= int(found[2]) == 360
