"""`obverse guess`: what is asked of the model, what is counted, and what is refused in which words.

Expected numbers are worked out by hand from the counting model: after N words read, n of them the word w,
P(w) = (n + 1) / (N + 1000).
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from obverse.cli.main import main
from obverse.errors import DataError, LabelError, MethodError, ModelError, TemplateError
from obverse.metrics.intervals import wilson
from obverse.models.base import Conventions, LanguageModel, Window
from obverse.models.generation import Generated
from obverse.queries import Likelihood
from obverse.recipes.guess import MOST_TOKENS, GuessSettings, guess

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "src" / "obverse" / "models" / "mini" / "weights.safetensors"
ROWS = "text,label\n" + "good,good\nbad,bad\n" * 4


class Stub(LanguageModel):
    """Says the same of every prompt, finds every text equally likely, and remembers what it was asked."""

    family = "stub"

    def __init__(self, said=("What is it?",), *, window=None, **conventions):
        self.name = "stub"
        self.window = window or Window()
        self.conventions = Conventions(**{"slots": "sentinels", "trained": ("flipped",), **conventions})
        self.said = said
        self.prompts, self.begin_with, self.queries = [], None, []

    def candidates(self, prompts, *, count, most_tokens, stop=(), begin_with="", beams=None, progress=None):
        self.prompts, self.begin_with = list(prompts), begin_with
        assert stop == ("\n",)
        assert most_tokens == MOST_TOKENS
        return [
            [Generated(text, -1.0 * (i + 1), 2, "end") for i, text in enumerate(self.said[:count])] for _ in prompts
        ]

    def log_likelihoods(self, queries, *, progress=None, pieces=False):
        self.queries += queries
        return [Likelihood(-2.0, 4, (-0.5,) * 4) for _ in queries]

    def pieces(self, query):
        return (), ()

    def count_tokens(self, text):
        return len(text.split())

    def digest(self):
        return "0" * 16


@pytest.fixture
def table(tmp_path):
    def write(text=ROWS, name="rows.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def obverse(monkeypatch, tmp_path, capsys):
    """Run the command line in a fresh folder, in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["obverse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def settings(path, **changes):
    return GuessSettings(**{"input": path, "label": "label", "text": ("text",), **changes})


def numbered(n):
    """As many rows, each with a text of its own."""
    return "text,label\n" + "".join(f"text{i},{'ab'[i % 2]}\n" for i in range(n))


def test_the_model_gets_the_text_that_flipped_scoring_uses(table):
    model = Stub()
    guess(settings(table("text,label\nI like it,praise\nI do not,blame\n")), model=model)
    # Two rows: one is read, the other is ranked on.
    (prompt,) = model.prompts
    assert prompt in (
        "input: I like it<extra_id_0>\n output: praise",
        "input: I do not<extra_id_0>\n output: blame",
    )
    assert model.begin_with == "\n<extra_id_0> \n"
    asked = {(query.given, query.said) for query in model.queries}
    other = "I do not" if "like" in prompt else "I like it"
    right = "blame" if "like" in prompt else "praise"
    assert (f"input: {other}<extra_id_0>\n output: {right}", "\n<extra_id_0> \nWhat is it?") in asked


def test_numbered_slots_and_several_columns(table):
    model = Stub(slots="numbered")
    rows = "head,body,label\nA,B,x\nA,B,y\n"
    guess(settings(table(rows), text=("head", "body")), model=model)
    assert model.prompts[0][:-1] == "input: [1]A[2]B[3]\n output: "
    assert model.begin_with == "\n[1] head: [2] \nbody: [3] \n"


def test_rows_that_propose_are_not_ranked_on(table):
    model = Stub()
    report = guess(settings(table(numbered(100)), rows=11), model=model)
    read = {row.text for row in report.read}
    judged = {query.given for query in model.queries}
    assert len(read) == len(model.prompts) == 5
    assert report.ranked_on == 6
    assert not any(f"{text}<" in given or f"{text}\n" in given for text in read for given in judged)


def test_draws_are_seeded_and_reach_the_whole_file(table):
    path = table(numbered(300))

    def drawn(seed):
        return [row.text for row in guess(settings(path, seed=seed, rows=40), model=Stub()).read]

    assert drawn(0) == drawn(0) != drawn(1)
    places = sorted(int(text.removeprefix("text")) for seed in range(4) for text in drawn(seed))
    # 80 of 300 uniform draws: none below 100 or above 200 has a chance below 1e-13.
    assert places[0] < 100 < 200 < places[-1]


def test_equal_candidates_are_one_and_blank_ones_none(table):
    model = Stub(("What  is\tit?", "what is it?", " ", "Which {one}?"))
    report = guess(settings(table(), candidates=4), model=model)
    assert [each.text for each in report.instructions] == ["What is it?", "Which {one}?"]
    assert [each.proposed for each in report.instructions] == [4, 4]
    assert report.read[0].candidates == (("What is it?", -0.5), ("what is it?", -1.0), ("Which {one}?", -2.0))
    # Braces are the model's words and no slots.
    assert any(query.said == "\n<extra_id_0> \nWhich {one}?" for query in model.queries)
    with pytest.raises(ModelError, match="says nothing about these texts"):
        guess(settings(table()), model=Stub((" ",)))


def test_own_instructions_are_compared_too(table):
    model = Stub(("What is it?",))
    report = guess(settings(table(), instructions=("WHAT IS IT?", "Is {text} it?"), show=1), model=model)
    assert [(each.text, each.own, each.proposed) for each in report.instructions] == [
        ("WHAT IS IT?", True, 4),
        ("Is {text} it?", True, 0),
    ]
    assert all(each.hits is not None for each in report.instructions)
    with pytest.raises(TemplateError, match=r"slot \{txt\} names no text column"):
        guess(settings(table(), instructions=("Is {txt} it?",)), model=model)


def test_only_the_best_are_tried(table):
    report = guess(settings(table(), show=1), model=Stub(("a?", "b?", "c?")))
    assert [each.hits is None for each in report.instructions] == [False, True, True]


def test_scores_and_accuracies_by_hand(table):
    # Direct: the text's own word is the likelier label, whatever the instruction says: all 4 ranking rows are right.
    report = guess(settings(table(), model="counting", candidates=1, instructions=("Sentiment?",)))
    best, own = report.instructions
    # 4 words read; then [1] and Sentiment?, neither of which was among them.
    assert own.score == pytest.approx((math.log(1 / 1004) + math.log(1 / 1005)) / 2)
    # It repeats the word read first: `input:` stood there once, then [1] is said, then it is the 2nd, 3rd, ..
    assert best.text == " ".join(["input:"] * MOST_TOKENS)
    said = [math.log(1 / 1004), *(math.log((2 + i) / (1005 + i)) for i in range(MOST_TOKENS))]
    assert best.score == pytest.approx(sum(said) / (MOST_TOKENS + 1))
    assert best.proposed == 4
    for each in (best, own):
        assert (each.hits.right, each.hits.judged) == (4, 4)
        assert each.hits.interval == wilson(4, 4)
    # "Does this text belong to bad or good?" has the word bad, so a good text is a tie, which the first label takes.
    bad = sum("output: bad" in _given(row) for row in _ranked(report, table))
    assert report.plain == "Does this text belong to bad or good?"
    assert report.plain_hits.right == bad
    assert report.most_frequent == max(bad, 4 - bad)
    assert report.method == "direct"


def _ranked(report, table):
    """The rows of the file that were not read."""
    read = {row.where for row in report.read}
    path = table()
    lines = path.read_text().splitlines()[1:]
    return [line for i, line in enumerate(lines, 1) if f"{path}, row {i} (line {i + 1})" not in read]


def _given(line):
    return f"output: {line.split(',')[1]}"


def test_texts_are_shortened_to_the_window(table):
    model = Stub(window=Window(given=12))
    long = "word " * 50
    guess(settings(table(f"text,label\n{long},x\n{long},y\n")), model=model)
    assert all(model.count_tokens(prompt) <= 12 for prompt in model.prompts)
    assert all(model.count_tokens(query.given) <= 12 for query in model.queries)
    assert "word word" in model.prompts[0]


def test_rows_without_text_or_label_are_left_out_and_counted(table):
    rows = "text,label\na,x\n,x\nb,\n  ,y\nc,y\nd, y \n"
    report = guess(settings(table(rows)), model=Stub())
    assert report.left_out == 3
    assert report.labels == (("y", 2), ("x", 1))


def test_json_lines_and_labels_that_are_numbers(table):
    rows = "".join(json.dumps({"text": f"t{i}", "label": i % 3}) + "\n" for i in range(9))
    report = guess(settings(table(rows, "rows.jsonl")), model=Stub())
    assert report.labels == (("0", 3), ("1", 3), ("2", 3))


def test_models_that_have_not_learnt_it(table):
    with pytest.raises(MethodError, match="stub was trained on direct, not on flipped"):
        guess(settings(table()), model=Stub(trained=("direct",)))
    told = []
    guess(settings(table()), model=Stub(trained=()), note=told.append)
    assert told == ["stub does not say whether it was trained on flipped; if it was not, its guesses mean nothing."]
    silent = Stub()
    silent.candidates = lambda *args, **options: LanguageModel.candidates(silent, *args, **options)
    with pytest.raises(ModelError, match="stub cannot generate text"):
        guess(settings(table()), model=silent)


def test_damaged_weights_are_told(table):
    model = Stub()
    model.log_likelihoods = lambda queries, **_: [Likelihood(math.nan, 1) for _ in queries]
    with pytest.raises(ModelError, match="not numbers"):
        guess(settings(table()), model=model)


def test_progress_is_told(table):
    told = []
    guess(settings(table(), model="counting"), progress=lambda *what: told.append(what))
    assert told[0] == ("reading", 0, None) or told[0][:2] == ("reading", 0)
    assert ("guessing", 4, 4) in told
    assert any(what == "comparing" and done == total > 0 for what, done, total in told)
    assert any(what == "trying instructions" for what, _, _ in told)


# The command


def test_the_command_prints_and_writes(obverse, table, tmp_path):
    path = table()
    code, out, err = obverse(
        "guess", path, "--text", "text", "--label", "label", "--model", "counting", "--candidates", "1",
        "-i", "Sentiment?", "--per-row", "-o", "found.json",
    )  # fmt: skip
    assert code == 0, err
    assert "Sentiment? (yours)" in out
    assert "100 % (51 to 100)" in out
    assert "compared on 4 other rows" in out
    assert out.count(" -> ") == 4
    assert "found.json" in err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["instructions"][1]["instruction"] == "Sentiment?"
    assert found["instructions"][1]["accuracy"] == 1.0
    assert len(found["rows"]) == 4
    code, out, _ = obverse(
        "guess", path, "-t", "text", "-l", "label", "-m", "counting", "--candidates", "1", "-i", "Sentiment?", "--json"
    )
    assert code == 0
    assert json.loads(out) == found


@pytest.mark.parametrize(
    ("rows", "arguments", "says"),
    [
        (ROWS, ("--label", "lable"), "there is no column 'lable' in the table (--label)\nDid you mean 'label'?"),
        (ROWS, ("-l", "label", "-t", "txt"), "there is no column 'txt' in the table (--text)\nDid you mean 'text'?"),
        (ROWS, ("--label", "text", "--text", "text"), "the column 'text' is text and label at once\nName two columns."),
        ("", ("--label", "label"), "the file is empty\nCheck how it was written."),
        (
            "text,label\na,x\nb,x\n",
            ("--label", "label"),
            ", column 'label': there is only one label, 'x': an instruction shows only where labels differ\n"
            "Name the column that holds the labels: --label NAME.",
        ),
        ("text,label\n,x\nb,\n", ("--label", "label"), "there is no row with text and label"),
        ("text,label\na,x\nb,X\n", ("--label", "label"), "the label 'x' stands there twice (as 'X')"),
        (numbered(2) + "".join(f"t,l{i}\n" for i in range(200)), ("--label", "label"),
         "there are more than 200 different labels ('a', 'b', 'l0', ..)"),
        (ROWS, ("--label", "label", "--rows", "1"), "--rows: 1 is too small\nGive a number from 2 on."),
        (ROWS, ("--label", "label", "--candidates", "0"), "--candidates: 0 is too small\nGive a number from 1 on."),
        (ROWS, ("-l", "label", "--method", "flippd"), "--method: unknown method 'flippd'\nDid you mean 'flipped'?"),
        (ROWS, ("--label", "label", "--model", "./nowhere"), "there is no model folder './nowhere'"),
        (ROWS, ("--label", "label", "--method", "blend", "--model", "counting"), "this model keeps no blend weights"),
        (ROWS, ("--label", "label", "-o", "rows.csv"), "rows.csv: is the input itself"),
        (ROWS, ("--label", "label", "-o", "no/such.json"), "no: there is no such folder"),
    ],
)  # fmt: skip
def test_bad_input_is_one_error(obverse, table, rows, arguments, says):
    path = table(rows)
    code, out, err = obverse("guess", "rows.csv", *arguments)
    assert code == 2
    assert out == ""
    assert says in err
    assert err.startswith("obverse: ")
    assert "Traceback" not in err
    assert path.read_text(encoding="utf-8") == rows
    assert sorted(each.name for each in path.parent.iterdir()) == ["rows.csv"]


def test_labels_that_are_no_text(table):
    path = table(json.dumps({"text": "a", "label": ["x"]}) + "\n", "rows.jsonl")
    with pytest.raises(DataError, match="neither text nor a number"):
        guess(settings(path), model=Stub())
    with pytest.raises(LabelError, match="only one label"):
        guess(settings(table("text,label\na,x\n")), model=Stub())


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the bundled model's weights are absent; `make bundled` trains them")
def test_the_bundled_model_says_words():
    report = guess(
        GuessSettings(ROOT / "examples" / "messages.csv", "gold", ("message",), rows=6, candidates=2, show=1)
    )
    texts = [text for row in report.read for text, _ in row.candidates]
    assert len(texts) >= 3
    for text in texts:
        # Plain words: no sink, no sentinels, no other special tokens.
        assert not set(text) & set("<>[]")
        assert any(character.isalpha() for character in text)
    assert report.method == "blend"
