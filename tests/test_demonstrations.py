"""Demonstrations of other tasks: the text to the character, what is dropped, files, how sets are built, and predict."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import string
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obverse.catalog import abuse
from obverse.catalog.abuse import announces_abuse, holds_abuse, word_hash
from obverse.catalog.demonstrations import (
    Heuristics,
    as_json,
    as_toml,
    build_demonstrations,
    estimated_tokens,
    read_demonstrations,
)
from obverse.cli.main import main
from obverse.errors import DataError, LabelError, ObverseError, RecipeError
from obverse.labelling import Labeller
from obverse.models.base import Conventions, Window
from obverse.models.counting import CountingModel
from obverse.models.seq2seq import Seq2SeqModel
from obverse.recipes import predict as recipe
from obverse.scoring.scorers import Scorer
from obverse.tasks.definition import Definition, DefinitionTemplate
from obverse.tasks.demonstrations import DemonstrationSet, TaskDemonstration, as_target, in_context
from obverse.tasks.directions import Channel, Direct, Flipped, Similarity, shorten
from obverse.tasks.examples import Example
from obverse.tasks.templates import InstructionTemplate, Mask, Rendering, Segment
from tiny import t5, t5_tokenizer

# Machines may be busy: how long an example takes says nothing here.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
DATA = Path(__file__).parents[2] / "shared" / "data"

SKY = TaskDemonstration("Say what falls from the sky", "Grey clouds ", " rain\n", ("rain", "snow"), "sky")
SIZE = TaskDemonstration("Is it big or small?", "An ant!", "small", ("big", "small"), "size")
TWO = DemonstrationSet((SKY, SIZE), "two")
SKY_TEXT = "Definition: Say what falls from the sky.\n\nInput: Grey clouds.\nOutput: rain\n\n"
SIZE_TEXT = "Definition: Is it big or small?\n\nInput: An ant!\nOutput: small\n\n"


def prompt(**changes):
    return Rendering((Segment("  Film: "), Segment("good", "text"), Segment("\nGood or bad? ")), **changes)


# The text


def test_the_context_to_the_character():
    assert TWO.context() == (
        "Definition: Say what falls from the sky.\n\nInput: Grey clouds.\nOutput: rain\n\n"
        "Definition: Is it big or small?\n\nInput: An ant!\nOutput: small\n\n"
    )
    assert TWO.context(1) == SKY_TEXT
    assert TWO.context(0) == ""
    assert len(TWO) == 2


def test_a_super_ni_prompt_behind_demonstrations_to_the_character():
    template = as_target(DefinitionTemplate(Definition("Name the fruit"), labels=("fig", "pear")))
    rendering = template.render(Example("1", {"input": "It is green", "output": ("pear",)}))
    shown = in_context(rendering, TWO, fits=lambda each: True)
    query = Direct().query(shown.rendering, "pear")
    assert query.given == (f"{SKY_TEXT}{SIZE_TEXT}Definition: Name the fruit.\n\nInput: It is green.\nOutput:")
    # The space behind "Output:" belongs to the answer, so that the whole reads like one more demonstration.
    assert query.given + query.said == (
        SKY_TEXT + SIZE_TEXT + TaskDemonstration("Name the fruit", "It is green", "pear").text
    )
    assert (shown.dropped, rendering.references) == (0, ("pear",))


def test_the_line_that_says_what_to_do_is_left_out_of_definitions_only():
    template = DefinitionTemplate(Definition("Wet or dry?"), labels=("dry", "wet"), name="own")
    target = as_target(template)
    assert (target.name, target.labels, target.now_complete) == ("own", ("dry", "wet"), False)
    assert as_target(target) is target
    other = InstructionTemplate("Wet?", ["text"])
    assert as_target(other) is other


def test_context_stands_in_front_of_what_is_given_in_every_direction():
    bare, full = prompt(), prompt(context="C\n\n")
    assert Direct().query(full, "bad").given == "C\n\nFilm: good\nGood or bad?"
    assert Channel().query(full, "bad").given == "C\n\nbad"
    assert Channel(plain=False).query(full, "bad").given == "C\n\nbad"
    assert Flipped().query(full, "bad").given == "C\n\ninput: <extra_id_0>good<extra_id_1>\n output: bad"
    assert Similarity().query(full, "bad") == Similarity().query(bare, "bad")
    for direction in (Direct(), Channel(), Channel(plain=False), Flipped(), Flipped(slots="numbered")):
        assert direction.query(full, "bad").said == direction.query(bare, "bad").said
        assert direction.query(full, "bad").given == "C\n\n" + direction.query(bare, "bad").given
    masked = prompt(context="C\n\n", mask=Mask((Segment("good", "text"), 0), ("why",)))
    assert Flipped().query(masked, "bad").given == "C\n\ninput: good<extra_id_0>\n output: bad"


def test_context_is_no_input():
    full = prompt(context="Input: good\n\n")
    assert full.text == "Film: good\nGood or bad?"
    assert full.input_text == "good"
    assert full.with_inputs("N/A").context == full.context
    assert shorten(full, 2).context == full.context
    null = Scorer("pmi").ask(full, ["bad"], "null")[0]
    assert (null.given, null.said) == ("Input: good\n\nFilm: \nGood or bad?", " bad")


def test_tokens_of_a_model_behind_demonstrations():
    film = TaskDemonstration("film ?", "it was bad ?", "bad")
    assert film.text == "Definition: film ?\n\nInput: it was bad ?\nOutput: bad"
    model = Seq2SeqModel(t5(vocab_size=18), t5_tokenizer(), name="tiny", conventions=Conventions(eos="t0"))
    rendering = InstructionTemplate("is it good ?", ["text"]).render(Example("1", {"text": "the film"}))
    shown = in_context(rendering, DemonstrationSet((film,)), fits=lambda each: True).rendering
    # Unigrams of whole words with a lone word mark; a word that is not known is the mark and <unk>.
    unknown = ["▁", "<unk>"]
    read, said = model.pieces(Direct().query(shown, "bad"))
    assert list(read) == [
        *unknown, "▁film", "▁?", *unknown, "▁it", "▁was", "▁bad", "▁?", *unknown, "▁bad",
        "▁the", "▁film", "▁is", "▁it", "▁good", "▁?",
    ]  # fmt: skip
    assert list(said) == ["▁bad", "</s>"]
    read, said = model.pieces(Flipped().query(shown, "bad"))
    assert list(read)[13:] == ["▁input:", "▁the", "▁film", "<extra_id_0>", "▁output:", "▁bad"]
    assert list(said) == ["<extra_id_0>", "▁is", "▁it", "▁good", "▁?", "</s>"]


# What a window has no room for


@patient
@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(0, 300))
def test_the_most_demonstrations_that_fit_are_kept_and_none_is_cut(lengths, limit):
    shown = DemonstrationSet(tuple(TaskDemonstration("d" * n, "i", "o") for n in lengths))
    rendering = Rendering((Segment("x" * 20, "text"),))
    result = in_context(rendering, shown, fits=lambda each: len(each.context + each.text) <= limit)
    kept = max([n for n in range(len(lengths) + 1) if len(shown.context(n)) + 20 <= limit], default=0)
    assert result.dropped == len(lengths) - kept
    assert result.rendering.context == shown.context(kept)
    assert result.rendering.segments == rendering.segments


class Narrow(CountingModel):
    """The counting model with a window of so many words."""

    def __init__(self, joint, truncation="fields"):
        super().__init__()
        self.window = Window(joint=joint)
        self.conventions = Conventions(truncation=truncation)


GOOD = TaskDemonstration("Say good or bad here", "A good day", "good", ("good", "bad"))
"""12 words: good three times, bad once."""
LONG = TaskDemonstration("Say warm or cold here", "A warm long day", "warm", ("warm", "cold"))
"""13 words."""
PAIR = DemonstrationSet((GOOD, LONG), "pair")


@pytest.mark.parametrize(
    ("window", "dropped", "shortened"),
    [(29, 0, 0), (28, 1, 0), (16, 1, 0), (15, 2, 0), (4, 2, 0), (3, 2, 5)],
)
def test_demonstrations_go_before_any_text_is_shortened(window, dropped, shortened):
    labeller = Labeller(Narrow(window), Scorer("direct"), InstructionTemplate("So?", ["text"]), demonstrations=PAIR)
    # Two words of text, one of instruction, one of label: 4; with the first demonstration 16, with both 29.
    (row,) = labeller.score([Example("1", {"text": "good film"})], [("good", "bad")])
    assert (row.dropped, row.shortened) == (dropped, shortened)
    good, read = (4, 15) if dropped == 1 else (4, 28) if dropped == 0 else (1, 3 if not shortened else 2)
    assert row.terms["direct"][0] == pytest.approx(math.log((good + 1) / (read + 1000)), abs=1e-12)


def test_rows_lose_only_what_they_must():
    labeller = Labeller(Narrow(30), Scorer("direct"), InstructionTemplate("So?", ["text"]), demonstrations=PAIR)
    texts = ("a b c", "a b c d", "a", "a " * 27, "a " * 28)
    rows = labeller.score([Example(str(i), {"text": t}) for i, t in enumerate(texts)], [("good", "bad")] * 5)
    assert [row.dropped for row in rows] == [0, 1, 0, 2, 2]


def test_reference_truncation_drops_demonstrations_too_before_it_cuts():
    labeller = Labeller(
        Narrow(16, "reference"), Scorer("direct"), InstructionTemplate("So?", ["text"]), demonstrations=PAIR
    )
    (row,) = labeller.score([Example("1", {"text": "good film"})], [("good", "bad")])
    assert row.dropped == 1


def test_content_free_inputs_stand_behind_the_demonstrations():
    template, options = InstructionTemplate("So?", ["text"]), ("good", "bad")
    labeller = Labeller(CountingModel(), Scorer("direct"), template, demonstrations=DemonstrationSet((GOOD,)))
    # good stands there three times and bad once, whatever the content-free text: 4 to 2.
    bias = labeller.content_free(Example("", {"text": ""}), options)
    assert list(bias) == pytest.approx([math.log(4 / 6), math.log(2 / 6)], abs=1e-9)
    tokens, _ = labeller.explain(Example("1", {"text": "film"}), options)
    assert tokens == ["[1]", "So?"]


# What no demonstration is


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"definition": " \n"}, DataError, "the definition is blank"),
        ({"input": ""}, DataError, "the input is blank"),
        ({"output": " "}, DataError, "the output is blank"),
        ({"output": "a\n \nb"}, DataError, "the output holds a blank line"),
        ({"output": "hail"}, LabelError, "'hail' is none of the choices"),
        ({"choices": ("rain",)}, LabelError, "needs at least two|at least two|fewer"),
        ({"choices": ("rain", "Rain")}, LabelError, "stands there twice"),
    ],
)
def test_demonstrations_that_are_none(changes, kind, says):
    whole = {"definition": "What falls?", "input": "Clouds", "output": "rain", "choices": ("rain", "snow")}
    with pytest.raises(kind, match=says):
        TaskDemonstration(**(whole | changes))


def test_an_output_may_be_a_choice_in_another_case():
    assert TaskDemonstration("What?", "Clouds", "Rain", ("rain", "snow")).text.endswith("Output: Rain")


def test_a_set_has_something_in_it():
    with pytest.raises(DataError, match="holds no demonstrations"):
        DemonstrationSet(())


def test_the_digest_is_of_the_text_alone():
    renamed = DemonstrationSet((TaskDemonstration("Say what falls from the sky.", "Grey clouds", "rain"), SIZE), "b")
    assert renamed.digest == TWO.digest
    assert DemonstrationSet((SIZE, SKY)).digest != TWO.digest


# Files

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@patient
@given(
    st.lists(
        st.tuples(texts, texts, texts.filter(lambda t: not re.search(r"\n\s*\n", t.strip())), texts, texts),
        min_size=1,
        max_size=3,
    )
)
def test_a_written_set_is_read_again(tmp_path, parts):
    shown = DemonstrationSet(tuple(TaskDemonstration(d, i, o, (), t, li) for d, i, o, t, li in parts), source="\x7f\\u")
    for ending, text in ((".toml", as_toml(shown)), (".json", json.dumps(as_json(shown)))):
        path = tmp_path / f"set{ending}"
        path.write_bytes(text.encode())
        again = read_demonstrations(str(path))
        assert again.demonstrations == shown.demonstrations
        assert again.source == shown.source


def test_a_file_as_it_is_written():
    one = DemonstrationSet((TaskDemonstration('Say "a".', "x\ny", "a", ("a", "b"), "t", "MIT"),), source="mine")
    assert as_toml(one) == (
        'source = "mine"\n\n[[demonstrations]]\ntask = "t"\ndefinition = "Say \\"a\\"."\ninput = "x\\ny"\n'
        'output = "a"\nchoices = ["a", "b"]\nlicence = "MIT"\n'
    )


ENTRY = '[[demonstrations]]\ndefinition = "d"\ninput = "i"\noutput = "o"\n'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.toml", "x = ", "a.toml: is not TOML"),
        ("a.toml", "", "a.toml: there are no demonstrations"),
        ("a.toml", "demonstrations = []", "there are no demonstrations"),
        ("a.toml", "demonstrations = 3", "`demonstrations` is the number 3"),
        ("a.toml", "demonstrations = [3]", "a.toml, demonstration 1: is the number 3"),
        ("a.toml", f"sourse = 'x'\n{ENTRY}", "there is no key 'sourse'\nDid you mean 'source'"),
        ("a.toml", f"source = 4\n{ENTRY}", "`source` is the number 4"),
        ("a.toml", f"{ENTRY}outputs = 'x'\n", "demonstration 1: there is no key 'outputs'\nDid you mean 'output'"),
        ("a.toml", f"{ENTRY}{ENTRY.replace('output', 'task')}", "demonstration 2: there is no `output`"),
        ("a.toml", f"{ENTRY}choices = 'o'\n", "`choices` is the text 'o', not a list"),
        ("a.toml", f"{ENTRY}choices = [1, 2]\n", "a choice is the number 1, not text"),
        ("a.toml", f"{ENTRY}choices = ['p', 'q']\n", "a.toml, demonstration 1: the output 'o' is none of the choices"),
        ("a.toml", f"{ENTRY}licence = true\n", "`licence` is true, not text"),
        ("a.toml", ENTRY.replace('"d"', "7"), "`definition` is the number 7, not text"),
        ("a.toml", ENTRY.replace('"i"', '" "'), "a.toml, demonstration 1: the input is blank"),
        ("a.toml", ENTRY.replace('"i"', "1979-05-27"), "`input` is .*, not text"),
        ("a.json", "[]", "the file is a list, not an object"),
        ("a.json", "{", "a.json: is not JSON"),
        ("a.json", '{"demonstrations": {"a": 1}}', "`demonstrations` is an object"),
        ("a.json", '{"demonstrations": [{"definition": "\\ud800", "input": "i", "output": "o"}]}', "half a character"),
    ],
)
def test_files_that_are_not_as_they_should_be(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ObverseError, match=says):
        read_demonstrations(str(path))


def test_sets_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"no set of demonstrations 'defualt'\nDid you mean 'default'\? Or name a"):
        read_demonstrations("defualt")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_demonstrations(str(tmp_path / "a.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_demonstrations(str(tmp_path / "folder.toml"))


# The set that comes with the package


def stands_in(answer, text):
    """Independent of the package's own: the text's words, outer punctuation taken off."""
    words = [word.strip(string.punctuation).lower() for word in text.split()]
    wanted = [word.strip(string.punctuation).lower() for word in answer.split()]
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words)))


def test_the_default_set_keeps_its_own_rules():
    raw = tomllib.loads((Path(abuse.__file__).parent / "demonstrations" / "default.toml").read_text())
    entries = raw["demonstrations"]
    assert len(entries) == 8
    counts = [len(entry["choices"]) for entry in entries]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (2, 5)
    answers = [choice.lower() for entry in entries for choice in entry["choices"]]
    assert len(set(answers)) == len(answers) == sum(counts)
    assert not {"yes", "no", "true", "false", "positive", "negative", "neutral"} & set(answers)
    assert len({entry["task"] for entry in entries}) == 8
    for entry in entries:
        assert entry["output"] in entry["choices"]
        assert all(stands_in(choice, entry["definition"]) for choice in entry["choices"])
        assert not holds_abuse(" ".join((entry["definition"], entry["input"], *entry["choices"])))
        # Bytes are at least as many as tokens.
        assert len("".join((entry["definition"], entry["input"], entry["output"]))) < 256
    shown = read_demonstrations("default")
    assert (len(shown), shown.name) == (8, "default")
    assert shown.context().count("\n\nDefinition: ") == 7
    assert shown.context().startswith("Definition: Read the sentence")


# Abusive language


def test_words_are_found_in_every_dress(monkeypatch):
    monkeypatch.setattr(abuse, "_hashes", lambda: frozenset({word_hash("zorgle"), word_hash("plosh")}))
    for text in (
        "You Zorgle!", "zorgles", "ploshing about", "ploshed", "plóshy", "PLOSH",
        "zoooorgle", "zorrrgle", "z0rgle", "pl0$h", "(plosh)", "plosh_plosh", "a p**sh", "zor*le", "plossssh",
    ):  # fmt: skip
        assert holds_abuse(text), text
    for text in ("zorg le", "plos", "ploshlike", "2*3 = 6", "a*b", "** bold **", "105 415", "", "?!", "plo sh"):
        assert not holds_abuse(text), text


def test_the_list_that_comes_with_the_package():
    assert holds_abuse("Only an idiot would ask")
    assert holds_abuse("IDIOTS!!!")
    for text in (
        "A classic assessment of Scunthorpe's grass", "The cocktail class passed", "He dressed for the analysis",
        "Whatever the title, Charles hit the shutter", "Press 5 or 55 to assign a passenger", "Ask the assistant",
    ):  # fmt: skip
        assert not holds_abuse(text), text


def test_subjects_that_announce_abuse():
    for text in (
        "Is the post offensive or not?", "superni/task108_contextualabusedetection_classification",
        "task333_hateeval_classification", "Decide whether the comment is TOXIC", "jigsaw_threat", "hate speech",
    ):  # fmt: skip
        assert announces_abuse(text), text
    for text in ("Whatever it takes", "She was intoxicated by the slurry", "Classify the weather", "chateau"):
        assert not announces_abuse(text), text


# Building


def lay(folder, tasks, *, test=("task900_held_out",)):
    """A data folder with task files, given by name as the arguments of `task` or as raw text."""
    tasks_folder = folder / "superni" / "tasks"
    tasks_folder.mkdir(parents=True)
    (folder / "superni" / "splits").mkdir()
    (folder / "superni" / "splits" / "test_tasks.txt").write_text("\n".join(test) + "\n")
    for name, content in tasks.items():
        text = content if isinstance(content, str) else json.dumps(task(**content))
        (tasks_folder / f"{name}.json").write_text(text)
    return folder


def task(definition, answers, *, n=12, inputs=None, categories=("Plain",)):
    """`n` instances whose answers go round."""
    return {
        "Definition": [definition],
        "Categories": list(categories),
        "Instance License": ["CC0"],
        "Instances": [
            {"input": (inputs or (lambda i: f"thing {i}"))(i), "output": [answers[i % len(answers)]], "id": f"id-{i}"}
            for i in range(n)
        ],
    }


SIX = {
    "task1_three": {"definition": "Say red, green or blue.", "answers": ["red", "green", "blue"]},
    "task2_two": {"definition": "Is it wet or dry?", "answers": ["wet", "dry"]},
    "task3_four": {"definition": "One of n, e, s, w.", "answers": ["n", "e", "s", "w"]},
    "task4_free": {"definition": "Write on.", "answers": [f"answer {i}" for i in range(30)], "n": 30},
    "task5_same": {"definition": "Is it WET or damp?", "answers": ["Wet", "damp"]},
    "task900_held_out": "not JSON at all",
}


def built(data, k, **arguments):
    heuristics = {key: arguments.pop(key) for key in list(arguments) if key in Heuristics.__dataclass_fields__}
    return build_demonstrations(data, k, heuristics=Heuristics(**heuristics), **arguments)


def names(result):
    return [shown.task.removeprefix("superni/") for shown in result.demonstrations.demonstrations]


def test_a_set_is_built_from_classification_tasks_in_order_of_choices(tmp_path):
    result = built(lay(tmp_path, SIX), 3)
    assert names(result)[1:] == ["task1_three", "task3_four"]
    assert names(result)[0] in ("task2_two", "task5_same")
    shown = result.demonstrations.demonstrations[1]
    assert shown.choices == ("blue", "green", "red")
    assert re.fullmatch(
        r"Definition: Say red, green or blue\.\n\nInput: thing \d+\.\nOutput: (red|green|blue)", shown.text
    )
    assert shown.licence == "CC0"
    number = int(shown.input.split()[1])
    assert shown.output == ["red", "green", "blue"][number % 3]
    assert result.tasks == 5  # the test task is not there, and its file was never read
    assert not result.faults


def test_the_same_seed_draws_the_same_and_another_draws_anew(tmp_path):
    data = lay(tmp_path, SIX)
    assert built(data, 3, seed=5).demonstrations == built(data, 3, seed=5).demonstrations
    drawn = [built(data, 3, seed=seed, order="drawn") for seed in range(12)]
    assert len({tuple(names(each)) for each in drawn}) > 3
    assert len({each.demonstrations.context() for each in drawn}) > 8
    for seed, each in enumerate(drawn):
        assert "task2_two" not in names(each) or "task5_same" not in names(each)
        # The same demonstrations, sorted; equals stay as drawn.
        by_count = sorted(each.demonstrations.demonstrations, key=lambda shown: len(shown.choices))
        assert list(built(data, 3, seed=seed).demonstrations.demonstrations) == by_count


def test_answers_may_be_shared_where_that_is_allowed(tmp_path):
    data = lay(tmp_path, SIX)
    assert set(names(built(data, 4, distinct_answers=False))) == {
        "task1_three", "task2_two", "task3_four", "task5_same"
    }  # fmt: skip
    with pytest.raises(DataError) as refused:
        built(data, 4)
    first, *table = refused.value.what.splitlines()
    assert first == "3 of 4 demonstrations can be found in 5 training tasks:"
    assert sorted(table) == [
        "  1  an answer does not stand in the definition",
        "  1  an answer is another demonstration's too",
        "  3  taken",
    ]
    assert refused.value.mend == (
        "What would give more, and how many:\n"
        "  --no-distinct-answers: 4\n"
        "Or ask for --k 3, or try another --seed, or put more task files there."
    )


def test_too_few_are_told_with_what_each_switch_would_give(tmp_path):
    up = {"definition": "Up or down?", "answers": ["up", "down"]}
    data = lay(
        tmp_path,
        {
            "task1_short": up,
            # 2,000 characters are 500 tokens and more.
            "task2_long": {"definition": "In or out?", "answers": ["in", "out"], "inputs": lambda i: "x" * 2000},
            "task3_unnamed": {"definition": "Choose.", "answers": ["hot", "cold"]},
            "task4_shared_and_long": up | {"inputs": lambda i: f"{i}" + "x" * 2000},
            "task5_free": {"definition": "Write.", "answers": [f"text {i}" for i in range(12)]},
            "task6_same": {"definition": "Yes or no?", "answers": ["yes"]},
            "task7_damaged": "{",
        },
    )
    refusals = {}
    for k, order in ((3, "choices"), (6, "drawn")):
        with pytest.raises(DataError) as refused:
            built(data, k, order=order, seed=2)
        refusals[k] = refused.value
    # The short one comes first under this seed: the long one is then one that shares its answers.
    assert refusals[6].what.splitlines() == [
        "1 of 6 demonstrations can be found in 7 training tasks:",
        "  1  taken",
        "  2  an answer does not stand in the definition",
        "  1  all instances have the same answer",
        "  1  an answer is another demonstration's too",
        "  1  no instance is short enough",
        "  1  cannot be read",
    ]
    assert refusals[6].mend.splitlines() == [
        "What would give more, and how many:",
        "  --most-tokens 512: 2",
        "  --no-answer-in-definition: 2",
        "  --no-answer-in-definition --no-distinct-answers --most-tokens 512: 4",
        "Or ask for --k 1, or try another --seed, or put more task files there.",
    ]
    assert "  --no-distinct-answers --most-tokens 512: 3" in refusals[3].mend.splitlines()


@pytest.mark.parametrize(
    ("definition", "answers", "strict", "loose"),
    [
        ("Choose.", ["hot", "cold"], False, True),
        ("Hot or cold?", ["hot", "cold"], True, True),
        ("Not known: note it.", ["no", "not"], False, True),  # "no" stands inside words only
        ("Tags: NN and `,` or .", ["NN", ",", "."], True, True),
        ("Say very hot, or cold.", ["very hot", "cold"], True, True),
    ],
)
def test_answers_that_the_definition_names(tmp_path, definition, answers, strict, loose):
    data = lay(tmp_path, {"task1_a": {"definition": definition, "answers": answers, "n": 20}})
    for switched, expected in ((True, strict), (False, loose)):
        if expected:
            assert len(built(data, 1, answer_in_definition=switched).demonstrations) == 1
        else:
            with pytest.raises(DataError, match="  1  an answer does not stand in the definition"):
                built(data, 1, answer_in_definition=switched)


def test_each_of_the_first_64_instances_counts_and_no_other(tmp_path):
    answers = ["hot", "cold"] * 32 + ["tepid"] * 4
    data = lay(tmp_path / "behind", {"task1_a": {"definition": "Hot or cold?", "answers": answers, "n": 68}})
    assert built(data, 1).demonstrations.demonstrations[0].choices == ("cold", "hot")
    answers[63] = "tepid"
    data = lay(tmp_path / "among", {"task1_a": {"definition": "Hot or cold?", "answers": answers, "n": 68}})
    with pytest.raises(DataError, match="does not stand in the definition"):
        built(data, 1)


def test_what_is_no_classification(tmp_path):
    data = lay(
        tmp_path,
        {
            "task1_one": {"definition": "Say a.", "answers": ["a"]},
            "task4_blank": {"definition": "Say a or nothing.", "answers": ["a", " "]},
        },
    )
    with pytest.raises(DataError) as refused:
        built(data, 1)
    assert refused.value.what.splitlines()[0] == "0 of 1 demonstrations can be found in 2 training tasks:"
    assert sorted(refused.value.what.splitlines()[1:]) == [
        "  0  taken",
        "  1  all instances have the same answer",
        "  1  an answer does not stand in the definition",
    ]
    assert refused.value.mend == "Put more task files there."


def test_any_number_of_answers_counts_if_the_definition_names_them(tmp_path):
    many = [f"w{i}" for i in range(40)]
    data = lay(tmp_path / "many", {"task1_a": {"definition": " ".join(many), "answers": many, "n": 64}})
    assert len(built(data, 1).demonstrations.demonstrations[0].choices) == 40
    several = task("A, b or c.", ["a", "b"])
    several["Instances"][3]["output"] = ["b", "c"]
    data = lay(tmp_path / "several", {"task1_a": json.dumps(several)})
    shown = [built(data, 1, seed=seed).demonstrations.demonstrations[0] for seed in range(40)]
    assert {each.choices for each in shown} == {("a", "b", "c")}
    assert {each.output for each in shown if each.input == "thing 3"} == {"b"}
    several["Instances"][3]["output"] = ["b", "d"]
    data = lay(tmp_path / "unnamed", {"task1_a": json.dumps(several)})
    with pytest.raises(DataError, match="does not stand in the definition"):
        built(data, 1)


def test_a_task_whose_demonstration_would_end_too_early_is_told(tmp_path):
    broken = "up\n\nand away"
    data = lay(tmp_path, {"task1_a": {"definition": f"{broken}, or down?", "answers": [broken, "down"]}})
    with pytest.raises(DataError, match="  1  cannot be read"):
        built(data, 1, seed=4, most_tokens=100)


def test_the_shortest_instances_are_found(tmp_path):
    lengths = {"definition": "Up or down?", "answers": ["up", "down"], "inputs": lambda i: "x" * (400 - 30 * i)}
    data = lay(tmp_path, {"task1_a": lengths})
    # "Definition: Up or down?\n\nInput: " is 32 characters, ".\nOutput: down" 14, ".\nOutput: up" 12; the last instance
    # has 70 and "down", the one before 100 and "up".
    assert len(built(data, 1, most_tokens=116, count_tokens=len).demonstrations.demonstrations[0].input) == 70
    with pytest.raises(DataError, match="  1  no instance is short enough") as refused:
        built(data, 1, most_tokens=115, count_tokens=len)
    assert "  --most-tokens 230: 1\n" in refused.value.mend
    found = {len(built(data, 1, most_tokens=144, count_tokens=len, seed=s).demonstrations.context()) for s in range(9)}
    assert found == {118, 146}


def test_the_estimate_is_a_quarter_of_the_bytes():
    assert [estimated_tokens(text) for text in ("", "a", "abcd", "abcde", "ééé")] == [0, 1, 1, 2, 2]


def test_abusive_tasks_and_instances_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(abuse, "_hashes", lambda: frozenset({word_hash("zorgle")}))
    good = {"definition": "Up or down?", "answers": ["up", "down"]}
    one_clean = good | {"inputs": lambda i: "clean" if i == 7 else f"you zorgle {i}"}
    none_clean = good | {"inputs": lambda i: f"you ZORGLES {i}"}
    for i, (name, content, clean) in enumerate(
        [
            ("task1_a", good, True),
            ("task1_a", good | {"categories": ["Toxic Language Detection"]}, False),
            ("task1_a", good | {"definition": "Is it offensive? Up or down?"}, False),
            ("task1_a", good | {"definition": "Does the zorgle go up or down?"}, False),
            ("task1_hateful", good, False),
            ("task1_a", {"definition": "Zorgle or down?", "answers": ["zorgle", "down"]}, False),
            ("task1_a", one_clean, True),
            ("task1_a", none_clean, False),
        ]
    ):
        data = lay(tmp_path / str(i), {name: content})
        assert len(built(data, 1, allow_abusive=True).demonstrations) == 1
        if clean:
            shown = built(data, 1).demonstrations.demonstrations[0]
            assert "zorgle" not in shown.text
        else:
            with pytest.raises(DataError, match="  1  abusive language") as refused:
                built(data, 1)
            assert "--allow-abusive" in refused.value.mend


def test_a_task_that_cannot_be_read_is_passed_over_and_told(tmp_path):
    data = lay(tmp_path, {"task1_a": "{", "task2_b": {"definition": "Up or down?", "answers": ["up", "down"]}})
    faults = [built(data, 1, seed=seed).faults for seed in range(8)]
    assert {len(each) for each in faults} == {0, 1}  # looked at only where it comes first
    assert all("task1_a.json: is not JSON" in each[0] for each in faults if each)
    with pytest.raises(DataError, match="  1  cannot be read"):
        built(data, 2)


def test_settings_and_folders_that_cannot_be(tmp_path):
    data = lay(tmp_path, SIX)
    for k in (0, -3):
        with pytest.raises(RecipeError, match=f"--k: {k} demonstrations cannot be built"):
            built(data, k)
    with pytest.raises(RecipeError, match="0 tokens hold no demonstration"):
        Heuristics(most_tokens=0)
    with pytest.raises(RecipeError, match=r"there is no order 'choice'\nDid you mean 'choices'"):
        Heuristics(order="choice")
    with pytest.raises(DataError, match="the list of test tasks cannot be read"):
        built(tmp_path / "nowhere", 1)
    empty = lay(tmp_path / "empty", {"task900_held_out": "{}"})
    with pytest.raises(DataError, match="holds no training task"):
        built(empty, 1)


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "superni").is_dir(), reason="the data folder is not there")
def test_sets_from_the_real_tasks_hold_every_heuristic():
    listed = set((DATA / "superni" / "splits" / "test_tasks.txt").read_text().split())
    assert len(listed) == 119
    result = built(DATA, 3, seed=1, most_tokens=400)
    entries = as_json(result.demonstrations)["demonstrations"]
    assert [len(entry["choices"]) for entry in entries] == sorted(len(entry["choices"]) for entry in entries)
    taken = [choice.lower() for entry in entries for choice in entry["choices"]]
    assert len(taken) == len(set(taken))
    for entry, shown in zip(entries, result.demonstrations.demonstrations, strict=True):
        name = entry["task"].removeprefix("superni/")
        assert name not in listed
        raw = json.loads((DATA / "superni" / "tasks" / f"{name}.json").read_text())
        assert "Toxic Language Detection" not in raw["Categories"]
        instances = raw["Instances"][:64]
        answers = {answer.strip() for instance in instances for answer in instance["output"]}
        assert {choice.lower() for choice in entry["choices"]} == {answer.lower() for answer in answers}
        assert all(answer.lower() in raw["Definition"][0].lower() for answer in answers)
        assert any(i["input"] == entry["input"] and i["output"][0] == entry["output"] for i in instances)
        assert len(shown.text.encode()) <= 1600
    assert len(built(DATA, 3, seed=0).demonstrations) == 3
    with pytest.raises(DataError, match="3 of 8 demonstrations can be found in 118 training tasks"):
        built(DATA, 8, seed=0)


# The commands


@pytest.fixture
def obverse(monkeypatch, tmp_path, capsys):
    """Run the command line in a fresh folder, in this process: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("OBVERSE_DATA", raising=False)

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["obverse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def test_build_and_show(obverse, tmp_path):
    lay(tmp_path / "data", SIX)
    code, out, err = obverse("demos", "build", "--data", "data", "--k", 2, "--seed", 3)
    assert code == 0
    assert tomllib.loads(out)["source"].endswith(
        "no answer shared; checked for abusive language; fewest choices first; seed 3"
    )
    assert re.match(r"2 demonstrations from \d of 5 training tasks\.\n", err)
    for ending in ("toml", "json"):
        code, printed, err = obverse("demos", "build", "--data", "data", "-k", 2, "--seed", 3, "-o", f"set.{ending}")
        assert (code, printed) == (0, "")
        assert err.endswith(f"Demonstrations: set.{ending}\n")
        assert read_demonstrations(f"set.{ending}").demonstrations == read_demonstrations("set.toml").demonstrations
    assert (tmp_path / "set.toml").read_text() == out
    code, out, _ = obverse("demos", "show", "set.toml", "--model", "counting")
    assert code == 0
    first = read_demonstrations("set.toml").demonstrations[0]
    words = len(first.text.split())
    assert out.startswith(f"--- 1. {first.task}, {words} tokens, {len(first.choices)} choices: ")
    assert f"{first.text}\n\n--- 2. " in out
    assert "(counted by the tokenizer of counting)" in out
    code, out, _ = obverse("demos", "show", "--json")
    assert code == 0
    shown = json.loads(out)
    assert shown["counted_by"] == "a quarter of the bytes"
    assert [each["tokens"] for each in shown["demonstrations"]] == [
        -(-len(each["text"].encode()) // 4) for each in shown["demonstrations"]
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "set.json", "set.toml"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("build",), "--data: demonstrations are built from Super-NaturalInstructions\n"),
        (("build", "--data", "data", "--k", "0"), "--k: 0 demonstrations cannot be built\n"),
        (("build", "--data", "data", "--k", "9"), "of 9 demonstrations can be found in 5 training tasks"),
        (("build", "--data", "data", "--order", "random"), "--order: there is no order 'random'\n"),
        (("build", "--data", "data", "--most-tokens", "0"), "--most-tokens: 0 tokens hold no demonstration\n"),
        (("build", "--data", "data", "-o", "x.csv"), "x.csv: must end in .toml or .json\n"),
        (("build", "--data", "data", "-o", "no/x.toml"), "no: there is no such folder\n"),
        (("build", "--data", "data", "-o", "there.toml"), "there.toml: exists already\n"),
        (("build", "--data", "none"), "the list of test tasks cannot be read"),
        (("show", "nothing"), "there is no set of demonstrations 'nothing'\n"),
        (("show", "nothing.toml"), "nothing.toml: cannot be read: No such file or directory\n"),
        (("show", "--model", "./nowhere"), "nowhere"),
    ],
)
def test_what_the_commands_refuse(obverse, tmp_path, arguments, says):
    lay(tmp_path / "data", SIX)
    (tmp_path / "there.toml").write_text("mine")
    code, out, err = obverse("demos", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("obverse: ")
    assert says in err
    assert len(err.splitlines()) <= (8 if "--k" in arguments else 3)
    assert (tmp_path / "there.toml").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "there.toml"]


# predict


ASK = ("rows.csv", "--labels", "good, bad", "--instruction", "Sentiment?", "--model", "counting")


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "rows.csv").write_text("text\ngood film\nbad bad day\nfine\n")
    (tmp_path / "pair.toml").write_text(as_toml(PAIR))
    (tmp_path / "one.toml").write_text(as_toml(DemonstrationSet((GOOD,))))


def confidences(path):
    return [(row["label"], float(row["confidence"])) for row in csv.DictReader(io.StringIO(Path(path).read_text()))]


def test_predict_behind_demonstrations(obverse, rows):
    code, out, _ = obverse("predict", *ASK, "--demos", "one.toml", "--output", "out.csv")
    assert code == 0
    # Beside what the row says, good was read three times and bad once: 5 to 2, 4 to 4 (the first is taken), 4 to 2.
    assert confidences("out.csv") == [("good", 0.714286), ("good", 0.5), ("good", 0.666667)]
    assert "1 demonstration of other tasks (one.toml) in front of each prompt." in " ".join(out.split())
    assert "dropped" not in out


def test_contextual_calibration_and_pmi_keep_the_demonstrations(obverse, rows):
    obverse("predict", *ASK, "--demos", "one.toml", "--calibration", "contextual", "--output", "out.csv")
    # Divided by 4 to 2: 5/4 to 2/2, 4/4 to 4/2, 4/4 to 2/2.
    assert confidences("out.csv") == [("good", 0.555556), ("bad", 0.666667), ("good", 0.5)]
    obverse("predict", *ASK, "--demos", "one.toml", "--method", "pmi", "--output", "pmi.csv")
    assert confidences("pmi.csv") == confidences("out.csv")


def test_predict_tells_what_was_dropped(obverse, rows, monkeypatch):
    monkeypatch.setattr(recipe, "load_model", lambda *_, **__: Narrow(29))
    code, out, _ = obverse("predict", *ASK, "--demos", "pair.toml", "--output", "out.csv")
    assert code == 0
    said = " ".join(out.split())
    assert "2 demonstrations of other tasks (pair.toml) in front of each prompt." in said
    assert "1 of 2 demonstrations dropped to fit the model's window, in 1 text." in said
    monkeypatch.setattr(recipe, "load_model", lambda *_, **__: Narrow(16))
    code, out, _ = obverse("predict", *ASK, "--demos", "pair.toml", "--output", "b.csv", "--json")
    assert "1 to 2 of 2 demonstrations dropped to fit the model's window, in all texts." in json.loads(out)["notes"]


def test_a_stopped_run_goes_on_with_the_same_demonstrations_only(obverse, rows, monkeypatch):
    def full(*_):
        raise ObverseError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(recipe, "_write", full)
        assert obverse("predict", *ASK, "--demos", "one.toml", "--output", "out.csv")[0] == 2
    for other in ((), ("--demos", "default")):
        code, _, err = obverse("predict", *ASK, *other, "--output", "out.csv", "--resume")
        assert code == 2
        assert "demonstrations" in err
    assert obverse("predict", *ASK, "--demos", "one.toml", "--output", "out.csv", "--resume")[0] == 0
    assert confidences("out.csv")[0] == ("good", 0.714286)


def test_demonstrations_that_predict_refuses(obverse, rows, tmp_path):
    for name, says in (("defalt", "Did you mean 'default'"), ("gone.toml", "gone.toml: cannot be read")):
        code, out, err = obverse("predict", *ASK, "--demos", name, "--output", "out.csv")
        assert (code, out) == (2, "")
        assert says in err
    assert not (tmp_path / "out.csv").exists()


def test_explain_behind_demonstrations(obverse, rows):
    code, out, _ = obverse("predict", *ASK, "--demos", "one.toml", "--explain", 1, "--json")
    assert code == 0
    assert json.loads(out)["probabilities"] == pytest.approx([5 / 7, 2 / 7], abs=1e-6)
