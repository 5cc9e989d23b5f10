"""Recipes: the published figures, everything that may be wrong with one, layers, and the exact copy."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obverse.errors import DataError, RecipeError
from obverse.recipes.recipe import (
    DataPart,
    HeldOutPart,
    LengthsPart,
    LoraPart,
    MixturePart,
    ModelPart,
    ObjectivePart,
    OptimizerPart,
    OwnPart,
    Recipe,
    SavePart,
    SymbolsPart,
    TaskPart,
    TemplatedPart,
    check_data,
    fingerprint,
    read_recipe,
    resolved_toml,
)
from obverse.recipes.recipe_layers import library_names
from obverse.recipes.recipe_table import toml_value
from obverse.tasks.exemplars import LAYOUTS

# Machines may be busy: how long an example takes says nothing here.
patient = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
BUNDLED = Path(__file__).parents[1] / "bundled"
DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "p3").is_dir(), reason="no data folder")

SOUND = """
steps = 10
examples_per_step = 4
[model]
base = "google/t5-v1_1-small"
[lengths]
given = 64
said = 16
[optimizer]
rate = 1e-4
[[objectives]]
direction = "direct"
[mixture]
tasks = ["glue/qqp"]
"""
OWN = """
name = "n"
instructions = ["Which is it?"]
[data]
file = "rows.csv"
text = "t"
[[labels]]
name = "a"
[[labels]]
name = "b"
"""
PLAIN = Recipe(
    "mine",
    10,
    4,
    ModelPart("google/t5-v1_1-small"),
    LengthsPart(64, 16),
    OptimizerPart(1e-4),
    (ObjectivePart("direct", "direct"),),
    mixture=MixturePart((TaskPart("glue/qqp"),)),
)
FLIPPED_20 = [
    "commonsense_qa", "dream", "quail", "quartz", "social_i_qa", "wiqa", "cosmos_qa", "qasc", "quarel", "sciq",
    "amazon_polarity", "app_reviews", "imdb", "rotten_tomatoes", "yelp_review_full", "ag_news", "dbpedia_14",
    "glue/mrpc", "paws/labeled_final", "glue/qqp",
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(content: str | bytes, name: str = "mine.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(content: str = SOUND, *overrides: str) -> Recipe:
    return read_recipe(write(content), overrides=overrides)


def refusal(content: str | bytes = SOUND, *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as error:
        read_recipe(write(content), overrides=overrides)
    return error.value


def faults(content: str | bytes = SOUND, *overrides: str) -> list[str]:
    """What is said of a recipe, a line a fault."""
    head, *listed = refusal(content, *overrides).what.split("\n  ")
    if not listed:
        return [head]
    assert head == f"has {len(listed)} faults:"
    return listed


def changed(old: str, new: str, text: str = SOUND) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


# The library


FLIPPED = ObjectivePart("flipped", "flipped", negatives=1, likelihood=1.0, unlikelihood=3.0)
DIRECT = ObjectivePart("direct", "direct", negatives=0, likelihood=1.0)
T5, T5_LM = "google/t5-v1_1-xl", "google/t5-xl-lm-adapt"
# name: base, rate, examples a step, steps, given, said, objective, training sets
PUBLISHED = {
    "flipped-11b": ("google/t5-v1_1-xxl", 5e-5, 240, 5000, 384, 64, FLIPPED, 20),
    "flipped-3b": (T5, 5e-5, 240, 5000, 384, 64, FLIPPED, 20),
    "direct-3b": (T5_LM, 1e-4, 240, 5000, 384, 64, DIRECT, 20),
    "channel-3b": (T5_LM, 1e-4, 240, 5000, 128, 512, ObjectivePart("channel", "channel"), 20),
    "flipped-3b-no-unlikelihood": (T5, 5e-5, 240, 5000, 384, 64, ObjectivePart("flipped", "flipped"), 20),
    "direct-3b-unlikelihood": (
        T5_LM, 1e-4, 240, 5000, 384, 64, ObjectivePart("direct", "direct", negatives=1, unlikelihood=3.0), 20,
    ),
    "flipped-3b-8-sets": (T5, 5e-5, 240, 5000, 384, 64, FLIPPED, 8),
    "flipped-3b-4-sets": (T5, 5e-5, 240, 5000, 384, 64, FLIPPED, 4),
    "symbol-tuning": (
        "google/flan-t5-large", 3e-3, 32, 4000, 2048, 512, ObjectivePart("symbol", "symbol"), 22,
    ),
}  # fmt: skip


def test_the_library_is_what_is_published():
    assert library_names() == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_figures(name):
    recipe = read_recipe(name)
    base, rate, examples, steps, given, said, objective, sets = PUBLISHED[name]
    assert recipe.name == name
    assert recipe.model.base == base
    assert (recipe.optimizer.name, recipe.optimizer.rate) == ("adafactor", rate)
    assert (recipe.examples_per_step, recipe.steps) == (examples, steps)
    assert (recipe.lengths.given, recipe.lengths.said) == (given, said)
    assert recipe.objectives == (objective,)
    assert objective.normalisation == "example"
    assert len(recipe.mixture.tasks) == sets
    # A constant rate without warm-up and without weight decay, everywhere.
    assert (recipe.optimizer.warmup_steps, recipe.optimizer.decay_steps, recipe.optimizer.weight_decay) == (0, 0, 0)
    assert recipe.optimizer.rates == {}
    assert recipe.model.eos == "flipped"
    assert recipe.mixture.cap == 500_000
    assert recipe.mixture.temperature == 1
    assert {task.rate for task in recipe.mixture.tasks} == {None}
    assert {task.templates for task in recipe.mixture.tasks} == {"usable"}
    assert recipe.description
    assert recipe.source == ("arXiv 2305.08298" if name == "symbol-tuning" else "arXiv 2210.02969")
    if name == "symbol-tuning":
        assert recipe.mixture.symbols == SymbolsPart((2, 10), tuple(LAYOUTS), 0.0, None, None)
        assert "not public" in recipe.description
    else:
        assert recipe.optimizer.clip == 0.5
        assert recipe.optimizer.scale_parameter is False
        assert recipe.model.dropout == 0.1
        assert recipe.mixture.symbols is None


def test_the_training_sets_of_the_flipped_recipes():
    assert [task.task for task in read_recipe("flipped-3b").mixture.tasks] == FLIPPED_20
    assert sorted(task.task for task in read_recipe("flipped-3b-8-sets").mixture.tasks) == [
        "ag_news", "commonsense_qa", "dbpedia_14", "glue/qqp", "imdb", "paws/labeled_final", "rotten_tomatoes",
        "social_i_qa",
    ]  # fmt: skip
    assert read_recipe("flipped-3b-4-sets").trained_sets == (
        "ag_news", "commonsense_qa", "imdb", "paws/labeled_final",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ablation", "of", "keys"),
    [
        ("flipped-3b-no-unlikelihood", "flipped-3b", {"objectives[1].negatives", "objectives[1].unlikelihood"}),
        ("direct-3b-unlikelihood", "direct-3b", {"objectives[1].negatives", "objectives[1].unlikelihood"}),
        ("direct-3b", "flipped-3b", {
            "model.base", "optimizer.rate", "objectives[1].direction", "objectives[1].name",
            "objectives[1].negatives", "objectives[1].unlikelihood",
        }),
        ("channel-3b", "direct-3b", {
            "lengths.given", "lengths.said", "objectives[1].direction", "objectives[1].name",
        }),
        ("flipped-11b", "flipped-3b", {"model.base", "token_budget"}),
    ],
)  # fmt: skip
def test_an_ablation_differs_in_what_it_says(ablation, of, keys):
    one, other = fingerprint(read_recipe(ablation)), fingerprint(read_recipe(of))
    assert {key for key in {*one, *other} if one.get(key) != other.get(key)} == keys


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_resolved_copy_is_the_recipe(name, folder):
    recipe = read_recipe(name)
    text = resolved_toml(recipe)
    path = write(text, "deep/below/copy.toml")
    assert read_recipe(path) == recipe
    assert resolved_toml(read_recipe(path)) == text
    assert fingerprint(read_recipe(path)) == fingerprint(recipe)
    assert "suite" not in tomllib.loads(text)["mixture"]  # a later version of the suite changes no old run


# What is read


def test_what_is_left_out():
    assert read() == PLAIN


def test_every_key_is_read(folder):
    write("", "own.toml")
    write("dog\ncat\n", "words.txt")
    (folder / "base").mkdir()
    recipe = read(
        """
        name = "everything"
        source = "a notebook"
        description = "two\\n lines"
        seed = 7
        steps = 100
        examples_per_step = 8
        token_budget = 999
        earlier_data = ["snli"]
        [model]
        base = "base"
        eos = "t0"
        slots = "numbered"
        dropout = 0
        precision = "bf16"
        gradient_checkpointing = true
        compile = true
        lora = { rank = 4, dropout = 0.5, targets = ["q", "v"] }
        [lengths]
        given = 700
        said = 80
        truncation = "reference"
        [optimizer]
        name = "adafactor"
        rate = 1
        rates = { "encoder.block" = 0, lm_head = 0.5 }
        weight_decay = 0.25
        clip = 2
        warmup_steps = 5
        decay_steps = 50
        scale_parameter = true
        [[objectives]]
        direction = "symbol"
        name = "first"
        weight = 2
        likelihood = 0
        choice = 1
        choice_scale = 3
        choice_mean = true
        normalisation = "token"
        [[objectives]]
        direction = "channel"
        masked = true
        negatives = 3
        unlikelihood = 0.5
        sink = 0.25
        [mixture]
        tasks = ["glue/rte", { task = "trec", split = "test" }]
        cap = 1000
        temperature = 2
        cutting = "flipped-reference"
        [mixture.symbols]
        per_class = [1, 3]
        layouts = ["arrow", "q-a"]
        instruction = 0.5
        words = "words.txt"
        [mixture.symbols.templated]
        share = 0.25
        tasks = [
            { task = "own.toml", rate = 2, templates = ["instruction 1"], wordings = ["yes-no"] },
            { task = "superni/*", rate = 1 },
        ]
        tasks_from = "superni/list.txt"
        [held_out]
        tasks = [{ task = "trec", split = "validation" }]
        rows = 20
        every = 30
        patience = 4
        [save]
        every = 40
        keep = 5
        """
    )
    assert recipe == Recipe(
        name="everything",
        source="a notebook",
        description="two lines",
        seed=7,
        steps=100,
        examples_per_step=8,
        token_budget=999,
        earlier_data=("snli",),
        model=ModelPart(
            str(folder / "base"), "t0", "numbered", 0.0, "bf16", True, True, LoraPart(4, 8.0, 0.5, ("q", "v"))
        ),
        lengths=LengthsPart(700, 80, "reference"),
        optimizer=OptimizerPart(
            1.0, "adafactor", {"encoder.block": 0.0, "lm_head": 0.5}, 0.25, 2.0, 5, 50, scale_parameter=True
        ),
        objectives=(
            ObjectivePart("symbol", "first", 2.0, 1, 0.0, 0.0, 0.0, 1.0, 3.0, True, "token"),
            ObjectivePart("channel", "channel", 1.0, 3, 1.0, 0.5, 0.25, masked=True),
        ),
        mixture=MixturePart(
            tasks=(TaskPart("glue/rte"), TaskPart("trec", "test")),
            cap=1000,
            temperature=2.0,
            cutting="flipped-reference",
            symbols=SymbolsPart(
                (1, 3),
                ("arrow", "q-a"),
                0.5,
                str(folder / "words.txt"),
                TemplatedPart(
                    0.25,
                    (
                        TaskPart(str(folder / "own.toml"), None, 2.0, ("instruction 1",), ("yes-no",)),
                        TaskPart("superni/*", None, 1.0),
                    ),
                    "superni/list.txt",
                ),
            ),
        ),
        held_out=HeldOutPart((TaskPart("trec", "validation"),), None, 20, 30, 4),
        save=SavePart(40, 5),
    )
    assert recipe.trained_sets == ("glue/rte", "own", "snli", "superni/*", "trec")
    assert read_recipe(write(resolved_toml(recipe), "elsewhere/copy.toml")) == recipe


MINI = """
steps = 20
examples_per_step = 2
prior = 15
prior_share = 0.25
[model]
base = "obverse-mini-base"
decoder_layers = [0, 5]
frozen_encoder_layers = 2
[lengths]
given = 80
said = 32
[optimizer]
rate = 4e-4
rates = { encoder = 1e-4, "decoder.cls" = 1e-3 }
[[objectives]]
direction = "flipped"
sink = 0.5
[own]
rate = 60
[held_out]
every_instruction = 8
every_text = 10
[[data]]
dataset = "toy"
facets = ["mood", "tone"]
fields = { text = "sentence" }
label = "label"
values = { mood = ["bad", "good"], tone = ["low", "high"] }
rate = 2
templates = 0.3
most_characters = 300
[[data]]
dataset = "quiz"
facets = ["answer"]
fields = { text = "question" }
label = "key"
options = ["a", "b"]
first_label = 1
rate = 1
[[data]]
dataset = "quiz2"
facets = ["answer"]
fields = { text = "question" }
label = "key"
choices = "choices"
rate = 1
[[data]]
task = "own.toml"
rate = 3
"""


@pytest.fixture
def texts(folder):
    write("", "facets.toml")
    write("", "own.toml")
    write('{"text": "a"}\n', "texts/a.jsonl")
    return folder


def test_facets_and_own_texts(texts):
    recipe = read(MINI)
    assert recipe.model == ModelPart("obverse-mini-base", dropout=0.1, decoder_layers=(0, 5), frozen_encoder_layers=2)
    assert (recipe.prior, recipe.prior_share) == (15.0, 0.25)
    assert recipe.own == OwnPart(60.0, str(texts / "facets.toml"), str(texts / "texts"))
    assert recipe.held_out == HeldOutPart(every_instruction=8, every_text=10)
    assert recipe.mixture is None
    assert recipe.data == (
        DataPart(
            2.0,
            "toy",
            None,
            ("mood", "tone"),
            {"text": "sentence"},
            "label",
            {"mood": ("bad", "good"), "tone": ("low", "high")},
            most_characters=300,
            templates=0.3,
        ),
        DataPart(1.0, "quiz", None, ("answer",), {"text": "question"}, "key", options=("a", "b"), first_label=1),
        DataPart(1.0, "quiz2", None, ("answer",), {"text": "question"}, "key", choices="choices"),
        DataPart(3.0, task=str(texts / "own.toml")),
    )
    assert recipe.trained_sets == ("own", "quiz", "quiz2", "toy")
    assert read_recipe(write(resolved_toml(recipe), "elsewhere/copy.toml")) == recipe
    assert read(MINI, "model.decoder_layers=").model.decoder_layers == (1, 3, 5)


def test_the_bundled_recipes_are_readable():
    recipe = read_recipe(BUNDLED / "recipe.toml")
    assert recipe.model.decoder_layers == (1, 3, 5)
    assert [o.direction for o in recipe.objectives] == ["flipped", "direct"]
    similarity = read_recipe(BUNDLED / "similarity.toml")
    assert similarity.model.base == "obverse-mini-encoder"
    assert [(o.direction, o.likelihood, o.choice) for o in similarity.objectives] == [("similarity", 0.0, 1.0)]
    assert (similarity.data, similarity.held_out) == (recipe.data, recipe.held_out)
    assert similarity.own is not None and recipe.own is not None
    assert (similarity.own.texts, similarity.own.asked) == (recipe.own.texts, recipe.own.asked)
    assert recipe.own.asked == str(BUNDLED.resolve() / "asked")
    assert [entry.dataset for entry in recipe.data] == [
        "glue/sst2", "rotten_tomatoes", "imdb", "trec", "dbpedia_14",
    ]  # fmt: skip


def test_a_suite_stands_as_its_tasks(folder):
    write(SOUND, "task.toml")
    suite = 'kind = "training"\ncap = 9\nsplit = "test"\n'
    suite += 'tasks = [{name = "imdb", rate = 2}, {name = "task.toml", rate = 1}]'
    write(suite, "suites/two.toml")
    write(SOUND, "suites/task.toml")
    mixture = read(changed('tasks = ["glue/qqp"]', 'suite = "suites/two.toml"')).mixture
    assert mixture == MixturePart(
        (TaskPart("imdb", "test", 2.0), TaskPart(str(folder / "suites/task.toml"), "test", 1.0)), cap=9
    )
    assert read(changed('tasks = ["glue/qqp"]', 'suite = "suites/two.toml"\ncap = 5')).mixture.cap == 5


def test_paths_are_seen_from_the_recipe_first_and_then_from_here(folder):
    write("", "there.toml")
    path = write(changed('"glue/qqp"', '"there.toml", "here.toml"'), "sub/mine.toml")
    write("", "sub/there.toml")
    write("", "here.toml")
    assert [task.task for task in read_recipe(path).mixture.tasks] == [
        str(folder / "sub/there.toml"),
        str(folder / "here.toml"),
    ]
    # The package's own recipes lie nowhere that a user could put a file beside.
    recipe = read_recipe("flipped-3b", overrides=['mixture.tasks=["here.toml"]'])
    assert recipe.mixture.tasks == (TaskPart(str(folder / "here.toml")),)


# What may be wrong

LOOKED = "Looked for"
FAULTY = {
    "nothing at all": (
        "",
        [
            "`steps` is missing. Write how many steps to train, as in steps = 5000.",
            "`examples_per_step` is missing. Write how many draws make a step, as in examples_per_step = 32.",
            '`model` is missing. Write [model] and below it base = "..".',
            "`lengths` is missing. Write [lengths] and below it given = 384 and said = 64.",
            "`optimizer` is missing. Write [optimizer] and below it rate = 1e-4.",
            '`objectives` is missing. Write [[objectives]] and below it direction = "flipped".',
            '`mixture` is missing. Write [mixture] and below it suite = "flipped-20" or tasks = [..].',
        ],
    ),
    "a misspelt key": (
        changed("steps = 10", "stesp = 10"),
        [
            "`steps` is missing. Write how many steps to train, as in steps = 5000.",
            "`stesp` is unknown. Did you mean 'steps'?",
        ],
    ),
    "a misspelt table": (
        changed("[model]", "[modle]"),
        [
            '`model` is missing. Write [model] and below it base = "..".',
            "`modle` is unknown. Did you mean 'model'?",
        ],
    ),
    "values for tables": (
        'name = ""\nsource = 3\nseed = -1\nsteps = true\nexamples_per_step = 1.5\nprior = 0\nearlier_data = [1]\n'
        'model = "x"\nlengths = 1\noptimizer = []\nobjectives = {}\nmixture = "flipped-20"\nheld_out = 2000-01-01\n'
        "save = 2",
        [
            "`name` is blank.",
            "`source` is 3. Write a text in quotation marks.",
            "`seed` is -1. Write a whole number from 0 up.",
            "`steps` is true. Write a whole number from 1 up.",
            "`examples_per_step` is 1.5. Write a whole number from 1 up.",
            "`prior` is 0. Write a number above 0.",
            '`earlier_data` is [1]. Write names of sets, as in ["snli"].',
            "`model` is 'x'. Write a table: [model].",
            "`lengths` is 1. Write a table: [lengths].",
            "`optimizer` is an empty list. Write a table: [optimizer].",
            "`objectives` is a table. Begin each with [[objectives]].",
            "`mixture` is 'flipped-20'. Write a table: [mixture].",
            "`held_out` is 2000-01-01. Write a table: [held_out].",
            "`save` is 2. Write a table: [save].",
        ],
    ),
    "numbers out of range": (
        changed("said = 16", "said = 1", changed("rate = 1e-4", "rate = 0\nclip = nan\nweight_decay = -1")),
        [
            "`lengths.said` is 1. Write a whole number from 2 up.",
            "`optimizer.rate` is 0. Write a number above 0.",
            "`optimizer.weight_decay` is -1. Write a number from 0 up.",
            "`optimizer.clip` is nan. Write a number from 0 up.",
        ],
    ),
    "an optimizer": (
        changed("rate = 1e-4", 'name = "adam"\nwarmup = 3\nscale_parameter = true\nrates = { "a.b" = "x", "" = 1 }'),
        [
            "`optimizer.rate` is missing. Write the learning rate, as in rate = 1e-4.",
            "`optimizer.rates.\"a.b\"` is 'x'. Write a number from 0 up.",
            "`optimizer.rates` has a blank name. Write how names of parameters begin.",
            "`optimizer.name` is 'adam'. Did you mean 'adamw'?",
            "`optimizer.scale_parameter` is for adafactor alone. Take it out.",
            "`optimizer.warmup` is unknown. Did you mean 'warmup_steps'?",
        ],
    ),
    "an objective": (
        changed('"direct"', '"flipt"\nlikelihood = -1\nunlikelihood = "x"\nchoice = inf\nnegative = 2\nweight = 0'),
        [
            "`objectives[1].direction` is 'flipt'. Did you mean 'flipped'?",
            "`objectives[1].unlikelihood` is 'x'. Write a number from 0 up.",
            "`objectives[1].choice` is inf. Write a number from 0 up.",
            "`objectives[1].weight` is 0. Write a number above 0.",
            "`objectives[1].likelihood` is -1. Write a number from 0 up.",
            "`objectives[1].negative` is unknown. Did you mean 'negatives' or 'name'?",
        ],
    ),
    "objectives that ask for nothing": (
        changed('"direct"\n', '"direct"\nnegatives = 0\nsink = 1\nmasked = true\n[[objectives]]\ndirection = "direct"\n'
                "likelihood = 0\n[[objectives]]\n"),
        [
            "`objectives[1].negatives` is 0. `sink` compares with wrong options: write 1 or more.",
            "`objectives[1].masked` is for the channel direction alone. Take it out.",
            "`objectives[2]` has no term. Give likelihood, unlikelihood, sink or choice a weight above 0.",
            "`objectives[2]` is the second called 'direct'. Give it a `name` of its own.",
            "`objectives[3].direction` is missing. Known: channel, direct, flipped, similarity, symbol.",
        ],
    ),
    "no objectives": (
        changed('[[objectives]]\ndirection = "direct"\n', "", changed("steps = 10", "objectives = []\nsteps = 10")),
        ['`objectives` is missing. Write [[objectives]] and below it direction = "flipped".'],
    ),
    "a model": (
        changed('"google/t5-v1_1-small"', '"./nope"\neos = "t5"\nslots = "s"\nprecision = "fp16"\ndropout = 1\n'
                "compile = 1\ndecoder_layers = [1]\nfrozen_encoder_layers = 2\nlora = { rnk = 8, dropout = -1 }"),
        [
            "`model.base` is './nope', neither a folder nor a hub id. A hub id reads google/t5-v1_1-base.",
            "`model.decoder_layers` is for obverse-mini-base alone. Take it out.",
            "`model.frozen_encoder_layers` is for obverse-mini-base alone. Take it out.",
            "`model.eos` is 't5'. Did you mean 't0'?",
            "`model.slots` is 's'. Known: numbered, sentinels.",
            "`model.dropout` is 1. Write a number from 0 to below 1.",
            "`model.precision` is 'fp16'. Did you mean 'bf16' or 'fp32'?",
            "`model.compile` is 1. Write true or false.",
            "`model.lora.rank` is missing. Write how many directions an adapter has, as in rank = 16.",
            "`model.lora.dropout` is -1. Write a number from 0 to below 1.",
            "`model.lora.rnk` is unknown. Did you mean 'rank'?",
        ],
    ),
    "a share of weights that are not there as such": (
        changed('"google/t5-v1_1-small"', '"google/t5-v1_1-small"\ntrained_share = 0.5\nlora = { rank = 8 }'),
        ["`model.trained_share` does not go with lora. Take it out."],
    ),
    "no share at all": (
        changed('"google/t5-v1_1-small"', '"google/t5-v1_1-small"\ntrained_share = 0'),
        ["`model.trained_share` is 0. Write a number above 0 to 1."],
    ),
    "the layers of obverse-mini's base": (
        changed('"google/t5-v1_1-small"', '"obverse-mini-base"\ndecoder_layers = [6, 0]\nfrozen_encoder_layers = 7'),
        [
            "`model.decoder_layers` is [6, 0]. Write a list of encoder layers, 0 to 5, as in [1, 3, 5].",
            "`model.frozen_encoder_layers` is 7. Write a whole number from 0 to 6.",
        ],
    ),
    "a model without weights": (
        changed('"google/t5-v1_1-small"', '"counting"'),
        ["`model.base` is 'counting', which has nothing to train. For a first try write \"obverse-mini-base\"."],
    ),
    "a suite and tasks": (
        SOUND + 'suite = "flipped-20"',
        ["`mixture.tasks` stands beside `suite`. Keep one of the two."],
    ),
    "a suite that is none": (
        changed('tasks = ["glue/qqp"]', 'suite = "flipped-2"\ncap = 0'),
        [
            "`mixture.suite` is 'flipped-2': there is no suite 'flipped-2'. "
            "Did you mean 'flipped-20' or 'flipped-8' or 'flipped-4'?",
            "`mixture.cap` is 0. Write a whole number from 1 up.",
        ],
    ),
    "a suite for evaluation": (
        changed('tasks = ["glue/qqp"]', 'suite = "t0-heldout"'),
        [
            "`mixture.suite` is 't0-heldout', for evaluation alone. "
            "For training: flipped-20, flipped-4, flipped-8, symbol-tuning."
        ],
    ),
    "no tasks": (
        changed('tasks = ["glue/qqp"]', "tasks = []\ncutting = \"x\"\ntemperature = 0"),
        [
            '`mixture` says nothing to train on. Write suite = "flipped-20", or tasks = ["glue/qqp", ..].',
            "`mixture.temperature` is 0. Write a number above 0.",
            "`mixture.cutting` is 'x'. Known: flipped-reference, segments.",
        ],
    ),
    "tasks": (
        changed('["glue/qqp"]', '["glue/qqp", {task = "imdb", rate = 3}, {taks = "x"}, 4, "no.toml", "glue/qqp", '
                '"a//b", {task = "imdb", wordings = ["rte", "yes-noo"], templates = []}]\ntasks_from = "/abs/list"'),
        [
            "`mixture.tasks[4]` is 4. Write a name or a table with `task`.",
            '`mixture.tasks[3].task` is missing. Write a name such as "glue/qqp", or a file such as "mine.toml".',
            "`mixture.tasks[3].taks` is unknown. Did you mean 'task'?",
            "`mixture.tasks[5].task` is 'no.toml', a file that is not there. Looked for FOLDER/no.toml.",
            "`mixture.tasks[7].task` is 'a//b', no task's name. Write it as in \"glue/qqp\" or \"superni/*\".",
            '`mixture.tasks[8].templates` is an empty list. Write "usable" or a list of names.',
            "`mixture.tasks[8].wordings` has 'yes-noo'. Did you mean 'yes-no' or 'yes-no-maybe'?",
            "`mixture.tasks[8].wordings` has 'rte', which was written for super_glue/rte. Take a general one.",
            "`mixture.tasks_from` is '/abs/list'. Name a file below the data folder.",
            "`mixture.tasks[6]` has 'glue/qqp' a second time.",
            "`mixture` gives a rate to 1 of 7 tasks. Give every task one, or none.",
        ],
    ),
    "no rate": (
        changed('["glue/qqp"]', '[{task = "imdb", rate = 0}]'),
        ["`mixture` has no rate above 0."],
    ),
    "symbols": (
        SOUND + '[mixture.symbols]\nper_class = [10, 2]\nlayouts = ["x-z"]\ninstruction = 2\nwords = "w.txt"\n'
        '[mixture.symbols.templated]\nsuite = "flipped-4"',
        [
            "`mixture.symbols.per_class` is [10, 2]. "
            "Write the fewest and the most exemplars of a class, as in [2, 10].",
            "`mixture.symbols.layouts` has 'x-z'. Did you mean 'x-y'?",
            "`mixture.symbols.templated.share` is missing. Write which part of all draws it makes, as in share = 0.25.",
            "`mixture.symbols.instruction` is 2. Write a number from 0 to 1.",
            "`mixture.symbols.words` names a file that is not there. Looked for FOLDER/w.txt.",
            "`mixture.symbols` goes with the direction 'symbol', which no objective has. "
            "Take it out, or add such an objective.",
        ],
    ),
    "a task without a plain form": (
        changed('"direct"', '"symbol"', changed('"glue/qqp"', '"tree", {task = "trec", templates = ["a"]}'))
        + "symbols = {}",
        [
            "`mixture.tasks[1]` is 'tree', which has no plain form. Did you mean 'trec'? "
            "Other tasks go under [mixture.symbols.templated].",
            "`mixture.tasks[2]` has `templates`, and symbols stand without templates. Take it out.",
        ],
    ),
    "symbols without prompts": (
        changed('"direct"', '"symbol"'),
        ["`objectives[1]` learns symbols. Say under [mixture.symbols] what prompts hold."],
    ),
    "held out": (
        SOUND + '[held_out]\ntasks = [{task = "glue/qqp", split = "train"}, {task = "imdb", rate = 1}]\nevery = 0\n'
        "patience = 0\nevery_text = 3",
        [
            "`held_out.tasks[2].rate` is unknown. Known: split, task, templates, wordings.",
            "`held_out.every_text` goes with [own] alone. Take it out.",
            "`held_out.every` is 0. Write a whole number from 1 up.",
            "`held_out.patience` is 0. Write a whole number from 1 up.",
            "`held_out.tasks` has 'glue/qqp', split 'train', which is trained on. Name another split or task.",
        ],
    ),
    "nothing held out": (
        SOUND + "[held_out]\nrows = 3",
        ['`held_out` names no tasks. Write tasks = ["rotten_tomatoes", ..].'],
    ),
    "two kinds of data": (
        changed("steps = 10", "steps = 10\nprior = 3\ntoken_budget = 79") + "[own]\nrate = 0\n[[data]]\nrate = 1\n"
        'dataset = "imdb"\nfacets = ["a"]\nfields = {}\nvalues = { b = ["x"], a = 3 }\noptions = ["o"]\n'
        '[[data]]\ntask = "no.toml"\nrate = 1\nlabel = "x"',
        [
            "`own.rate` is 0. Write a number above 0.",
            "`own.facets` names a file that is not there. Looked for FOLDER/facets.toml.",
            "`own.texts` names a folder that is not there. Looked for FOLDER/texts.",
            '`data[1].fields` is empty. Write which column each field is, as in { text = "sentence" }.',
            "`data[1].label` is missing. Name the column of the right value.",
            '`data[1].values.b` is [\'x\']. Write a list of at least two texts.',
            "`data[1].values.b` is none of the `facets`. Known: a.",
            "`data[1].values.a` is 3. Write a list of at least two texts.",
            "`data[1]` has `values` and `options`. Give one of `values`, `choices` and `options`.",
            "`data[2].task` is 'no.toml', a file that is not there. Looked for FOLDER/no.toml.",
            "`data[2].label` does not go with `task`. Take it out, or name a `dataset` instead.",
            '`prior` needs the encoder of another base. Take it out, or write base = "obverse-mini-base".',
            "`token_budget` is 79, less than one pair of 64 + 16 tokens. Raise it, or shorten [lengths].",
            "`mixture` stands beside `own`. Draw from one of the two.",
            "`held_out` is missing. Beside [own] it says which texts are kept aside.",
        ],
    ),
    "columns without texts": (
        changed('[mixture]\ntasks = ["glue/qqp"]', '[[data]]\ndataset = "imdb"\nfacets = ["a", "a"]\n'
                'fields = { x = 1 }\nlabel = "y"\nvalues = { a = ["b", "c"] }\ntemplates = 2'),
        [
            "`data[1].rate` is missing. Write its draws, as in rate = 10.",
            "`data[1].facets` has 'a' twice.",
            "`data[1].fields.x` is 1. Write a column's name in quotation marks.",
            "`data[1].templates` is 2. Write a number from 0 to 1.",
            "`data` needs [own]. Write tasks under [mixture] instead, or add [own].",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTY)
def test_all_faults_at_once(case, folder):
    text, expected = FAULTY[case]
    assert faults(text) == [fault.replace("FOLDER", str(folder)) for fault in expected]


def test_a_lone_fault_is_no_list():
    error = refusal(changed("steps = 10", "steps = 0"))
    assert str(error) == "mine.toml: `steps` is 0. Write a whole number from 1 up."


def test_a_task_file_with_one_table_is_not_held_out_from_itself():
    text = changed("glue/qqp", "own.toml") + '[held_out]\ntasks = ["own.toml"]\n'
    write(OWN, "own.toml")
    assert faults(text) == ["`held_out.tasks` has 'own.toml' which is trained on. Name another split or task."]
    write(changed('file = "rows.csv"', 'files = {train = "rows.csv", test = "test.csv"}', OWN), "own.toml")
    assert read(text).held_out.tasks == read(text).mixture.tasks


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "mine.toml: is not UTF-8 text\nSave it as UTF-8."),
        ("steps = \x01", "mine.toml: is not TOML: Invalid value (at line 1, column 9)"),
        ("x = " + "[" * 3000, "mine.toml: is nested too deeply"),
        ("extends = 3", 'mine.toml: `extends` is 3\nName a recipe: extends = "flipped-3b".'),
        (
            'extends = "flipped-2b"',
            "mine.toml: `extends`: there is no recipe 'flipped-2b'\nDid you mean 'flipped-3b' or 'flipped-11b' or "
            "'flipped-3b-8-sets'? A recipe of your own is named by its file, such as mine.toml.",
        ),
        ('extends = "nope.toml"', "nope.toml: cannot be read: No such file or directory"),
        ('extends = "mine.toml"', "mine.toml: `extends` leads back to mine.toml\nTake it out."),
        ('extends = "a\\u0000b.toml"', "a\x00b.toml: cannot be read: embedded null byte"),
    ],
)
def test_files_that_are_none(content, message, folder):
    assert str(refusal(content)).replace(f"{folder}/", "") == message


def test_names_that_are_none():
    with pytest.raises(RecipeError, match=r"there is no recipe 'flipped-3'\nDid you mean 'flipped-3b'"):
        read_recipe("flipped-3")
    with pytest.raises(RecipeError, match=r"no\.toml: cannot be read: No such file"):
        read_recipe("no.toml")
    with pytest.raises(RecipeError, match=r"there is no recipe '\.'"):
        read_recipe(".")


# Layers


def test_what_a_recipe_extends():
    write(SOUND + 'temperature = 2\n[held_out]\nsuite = "t0-heldout"\n', "base.toml")
    write(
        'extends = "base.toml"\ndescription = "x"\nsource = "s"\nsteps = 11\n[optimizer]\nclip = 2', "sub/middle.toml"
    )
    write('extends = "sub/middle.toml"\n[mixture]\nsuite = "flipped-4"\n[optimizer]\nrate = 2', "top.toml")
    Path("base.toml").rename("sub/base.toml")
    recipe = read_recipe("top.toml")
    assert (recipe.name, recipe.description, recipe.source, recipe.steps) == ("top", "", "s", 11)
    assert (recipe.optimizer.rate, recipe.optimizer.clip) == (2.0, 2.0)
    assert len(recipe.mixture.tasks) == 4
    assert recipe.mixture.temperature == 2
    write('extends = "sub/middle.toml"\n[held_out]\ntasks = ["imdb"]', "top.toml")
    assert read_recipe("top.toml").held_out.tasks == (TaskPart("imdb"),)


@pytest.mark.parametrize(
    ("override", "change"),
    [
        ("steps=11", {"steps": 11}),
        ("seed = 1_000", {"seed": 1000}),
        ("optimizer.rate=2e-3", {"optimizer": OptimizerPart(2e-3)}),
        ("model.base=google/t5-v1_1-base", {"model": ModelPart("google/t5-v1_1-base")}),
        ('model.base="a"', {"model": ModelPart("a")}),
        ("model.lora.rank=2", {"model": ModelPart("google/t5-v1_1-small", lora=LoraPart(2, 4.0))}),
        ('optimizer.rates."a.b"=3', {"optimizer": OptimizerPart(1e-4, rates={"a.b": 3.0})}),
        ("objectives[1].weight=2", {"objectives": (ObjectivePart("direct", "direct", 2.0),)}),
        ('mixture.tasks=["imdb"]', {"mixture": MixturePart((TaskPart("imdb"),))}),
        ("mixture.tasks[1]=imdb", {"mixture": MixturePart((TaskPart("imdb"),))}),
        ("optimizer.clip=0", {}),
        ("save.every=7", {"save": SavePart(7)}),
    ],
)
def test_one_override(override, change):
    assert read(SOUND, override) == dataclasses.replace(PLAIN, **change)


def test_overrides_in_order():
    assert read(SOUND, "steps=1", "steps=2").steps == 2
    assert read(SOUND, "held_out.rows=3", "held_out=") == PLAIN
    assert len(read(SOUND, "mixture.suite=flipped-8").mixture.tasks) == 8
    assert read_recipe("flipped-3b", overrides=['mixture.tasks=["imdb"]']).mixture.tasks == (TaskPart("imdb"),)
    both = ['objectives=[{direction="direct"}, {direction="flipped"}]', "objectives[1]="]
    assert read(SOUND, *both).objectives == (ObjectivePart("flipped", "flipped"),)


def test_all_faults_of_overrides_at_once():
    overrides = [
        "optimiser.rate=1", "objectives[2].weight=1", "objectives[0].weight=1", "objectives.weight=3", "steps.x=1", "x",
        "=3", "a..b=1", "steps[1]=3", "objectives[1].negatives=True", "seed=\udc80", "model.lroa=",
        "seed=0x" + "f" * 5000,
    ]  # fmt: skip
    entry = "`objectives` has 1 entry, counted from 1."
    hint = "is not understood. Write it as in --set optimizer.rate=1e-4."
    assert faults(SOUND, *overrides) == [
        f"--set objectives[2].weight=1: there is no `objectives[2]`; {entry}",
        f"--set objectives[0].weight=1: there is no `objectives[0]`; {entry}",
        "--set objectives.weight=3: `objectives` is no table. Name an entry, as in objectives[1].weight.",
        "--set steps.x=1: `steps` is no table.",
        f"--set x {hint}",
        f"--set =3 {hint}",
        f"--set a..b=1 {hint}",
        "--set steps[1]=3: `steps` is no list.",
        "--set seed=\ufffd is not UTF-8 text.",
        "--set model.lroa=: there is no `model.lroa` to take out. Known: base.",
        "`seed` is a number beyond all bounds. Write a whole number from 0 up.",
        "`objectives[1].negatives` is 'True'. Write a whole number from 0 up.",
        "`optimiser` is unknown. Did you mean 'optimizer'?",
    ]
    assert str(refusal(SOUND, "steps=0", "seed=1\nsteps=3")) == (
        "mine.toml with --set steps=0 --set seed=1\ufffdsteps=3: has 2 faults:\n"
        "  `seed` is '1\\nsteps=3'. Write a whole number from 0 up.\n"
        "  `steps` is 0. Write a whole number from 1 up."
    )


# What changes numbers


def test_the_fingerprint_of_a_plain_recipe():
    found = fingerprint(read())
    assert found == json.loads(json.dumps(found))
    assert found == {
        "seed": 0,
        "examples_per_step": 4,
        "token_budget": 16_384,
        "prior_share": 0.5,
        "model.base": "google/t5-v1_1-small",
        "model.precision": "auto",
        "model.frozen_encoder_layers": 0,
        "lengths.given": 64,
        "lengths.said": 16,
        "lengths.truncation": "fields",
        "optimizer.rate": 1e-4,
        "optimizer.name": "adamw",
        "optimizer.weight_decay": 0.0,
        "optimizer.warmup_steps": 0,
        "optimizer.decay_steps": 0,
        "optimizer.scale_parameter": False,
        "objectives[1].direction": "direct",
        "objectives[1].name": "direct",
        "objectives[1].weight": 1.0,
        "objectives[1].negatives": 0,
        "objectives[1].likelihood": 1.0,
        "objectives[1].unlikelihood": 0.0,
        "objectives[1].sink": 0.0,
        "objectives[1].choice": 0.0,
        "objectives[1].choice_scale": 1.0,
        "objectives[1].choice_mean": False,
        "objectives[1].normalisation": "example",
        "objectives[1].masked": False,
        "mixture.tasks[1].task": "glue/qqp",
        "mixture.tasks[1].templates": "usable",
        "mixture.cap": 500_000,
        "mixture.temperature": 1.0,
        "mixture.cutting": "segments",
    }


@pytest.mark.parametrize(
    ("override", "keys"),
    [
        ("name=x", set()),
        ("description=x", set()),
        ("save.every=1", set()),
        ("model.gradient_checkpointing=true", set()),
        ("model.compile=true", set()),
        ("steps=99", set()),
        ("optimizer.decay_steps=5", {"optimizer.decay_steps", "steps"}),
        ("seed=3", {"seed"}),
        ("token_budget=3000", {"token_budget"}),
        ("model.dropout=0", {"model.dropout", "token_budget"}),
        ("model.eos=t0", {"model.eos"}),
        ("optimizer.clip=1", {"optimizer.clip"}),
        ("model.lora.rank=2", {"model.lora.rank", "model.lora.alpha", "model.lora.dropout"}),
        ('held_out={tasks=["imdb"], every=3, patience=2}', {
            "held_out.rows", "held_out.tasks[1].task", "held_out.tasks[1].templates",
        }),
    ],
)  # fmt: skip
def test_what_the_fingerprint_leaves_out(override, keys):
    one, other = fingerprint(read()), fingerprint(read(SOUND, override))
    assert {key for key in {*one, *other} if one.get(key) != other.get(key)} == keys


def test_files_count_by_what_they_hold(texts):
    Path("place").mkdir()
    write(OWN, "own.toml")
    write("t\nx\n", "rows.csv")
    text = changed('"obverse-mini-base"\ndecoder_layers = [0, 5]\nfrozen_encoder_layers = 2', '"place"', MINI)
    text = changed("prior = 15\n", "", text)
    here = fingerprint(read(text))
    assert here["model.base"] == "place"
    # The same files elsewhere, under a name of the recipe's own.
    for name in ("own.toml", "rows.csv", "facets.toml", "texts/a.jsonl"):
        write(Path(name).read_bytes(), f"moved/{name}")
    (texts / "moved/place").mkdir()
    moved = write(text, "moved/recipe.toml")
    assert fingerprint(read_recipe(moved)) == here
    for name, key in (
        ("rows.csv", "data[4].task"),
        ("own.toml", "data[4].task"),
        ("facets.toml", "own.facets"),
        ("texts/a.jsonl", "own.texts"),
    ):
        before = Path("moved", name).read_bytes()
        Path("moved", name).write_bytes(before + b"\n# more\n")
        there = fingerprint(read_recipe(moved))
        assert {k for k in here if here[k] != there[k]} == {key}, name
        Path("moved", name).write_bytes(before)
    recipe = read_recipe(moved)
    Path("moved/facets.toml").unlink()
    with pytest.raises(RecipeError, match=r"moved/facets.toml: cannot be read: No such file"):
        fingerprint(recipe)


# What a data folder holds


@pytest.fixture
def data(folder):
    for name in ("imdb/train", "imdb/test", "glue/qqp/train", "glue/rte/validation", "trec/train", "toy/train"):
        write(b"", f"data/p3/{name}.parquet")
    for name in ("imdb", "glue/qqp", "glue/rte", "toy"):
        write(b"", f"data/promptsource/{name}/templates.yaml")
    write(b"", "data/superni/tasks/task1_a.json")
    write(b"", "data/superni/tasks/task2_b.json")
    write("task2_b\ntask3_c\n", "data/superni/list.txt")
    return folder / "data"


def names(recipe: Recipe) -> list[str]:
    return [task.task for task in recipe.mixture.tasks]


def test_a_folder_that_holds_everything(data):
    recipe = read()
    assert check_data(recipe, data) == (recipe, ())


def test_sets_that_lack_are_one_error(data):
    tasks = '["imdb", "glue/qpq", "glue/rte", "trec", "superni/task2_c", {task = "imdb", split = "validation"}'
    tasks += ', "list-functions/*"]'
    recipe = read(changed('["glue/qqp"]', tasks) + '[held_out]\ntasks = ["glue/rte", "snli"]\n')
    with pytest.raises(RecipeError) as error:
        check_data(recipe, data)
    assert str(error.value) == (
        f"mine: {data} lacks 6 of its sets:\n"
        "  glue/qpq. Did you mean 'glue/qqp' or 'glue/rte'?\n"
        "  glue/rte\n"
        "  templates of trec\n"
        "  superni/task2_c. Did you mean 'superni/task2_b' or 'superni/task1_a'?\n"
        "  imdb, split 'validation'\n"
        "  snli\n"
        "Add them, take them out of the recipe, or train without them: --allow-missing."
    )
    cut, missing = check_data(recipe, data, allow_missing=True)
    assert missing == (
        "glue/qpq", "glue/rte", "templates of trec", "superni/task2_c", "imdb, split 'validation'", "snli",
    )  # fmt: skip
    assert names(cut)[0] == "imdb"
    assert len(names(cut)) > 1
    assert all(name.startswith("list-functions/") and "*" not in name for name in names(cut)[1:])
    assert cut.held_out.tasks == (TaskPart("glue/rte"),)
    assert dataclasses.replace(cut, mixture=recipe.mixture, held_out=recipe.held_out) == recipe


def test_patterns_are_replaced(data):
    recipe = read(changed('["glue/qqp"]', '["superni/task2_b", {task = "superni/*", wordings = ["yes-no"]}]'))
    cut, missing = check_data(recipe, data)
    assert cut.mixture.tasks == (TaskPart("superni/task2_b"), TaskPart("superni/task1_a", wordings=("yes-no",)))
    assert missing == ()
    recipe = read(changed('["glue/qqp"]', '["superni/*"]\ntasks_from = "superni/list.txt"'))
    cut, missing = check_data(recipe, data, allow_missing=True)
    assert (names(cut), cut.mixture.tasks_from, missing) == (["superni/task2_b"], None, ("superni/task3_c",))


def test_nothing_is_left(data):
    recipe = read(changed("glue/qqp", "sciq"))
    with pytest.raises(RecipeError, match="That is everything the recipe trains on"):
        check_data(recipe, data, allow_missing=True)
    with pytest.raises(DataError, match="there is no such folder"):
        check_data(recipe, data / "no")


def test_symbols_need_no_templates(data):
    text = changed('"direct"', '"symbol"', changed('"glue/qqp"', '"trec", "glue/qqp"'))
    text += '[mixture.symbols.templated]\nshare = 0.5\ntasks = ["imdb", "trec"]'
    cut, missing = check_data(read(text), data, allow_missing=True)
    assert names(cut) == ["trec", "glue/qqp"]
    assert cut.mixture.symbols.templated.tasks == (TaskPart("imdb"),)
    assert missing == ("templates of trec",)
    cut, _ = check_data(read(text, 'mixture.symbols.templated.tasks=["trec"]'), data, allow_missing=True)
    assert cut.mixture.symbols.templated is None


def test_columns_of_sets_that_lack(data, texts):
    recipe = read(MINI)
    cut, missing = check_data(recipe, data, allow_missing=True)
    assert missing == ("quiz, split 'train'", "quiz2, split 'train'")
    assert cut.data == (recipe.data[0], recipe.data[3])


@needs_data
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        ("flipped-3b", ("amazon_polarity, split 'train'", "app_reviews, split 'train'")),
        ("flipped-3b-8-sets", ()),
        ("flipped-3b-4-sets", ()),
        ("symbol-tuning", ("glue/wnli, split 'train'", "glue/qnli, split 'train'")),
    ],
)
def test_the_data_folder(name, lacking):
    recipe = read_recipe(name)
    cut, missing = check_data(recipe, DATA, allow_missing=True)
    assert missing == lacking
    assert len(cut.mixture.tasks) == len(recipe.mixture.tasks) - len(lacking)


# Whatever is written

VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-3, 3),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.sampled_from(["", "direct", "symbol", "imdb", "superni/*", "a.toml", "flipped-4", "x\x7f\n", "\u0000", "~"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["task", "rate", "share", "tasks", "rank", "a b"]), inner, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip
KEYS = [
    "name", "seed", "steps", "examples_per_step", "token_budget", "prior", "earlier_data", "model", "model.base",
    "model.eos", "model.dropout", "model.lora", "model.lora.rank", "model.decoder_layers", "lengths", "lengths.given",
    "optimizer", "optimizer.rate", "optimizer.rates", "optimizer.clip", "objectives", "objectives[1]",
    "objectives[1].direction", "objectives[1].choice", "mixture", "mixture.suite", "mixture.tasks", "mixture.tasks[1]",
    "mixture.tasks[1].wordings", "mixture.tasks_from", "mixture.symbols", "mixture.symbols.layouts",
    "mixture.symbols.templated", "held_out", "held_out.tasks", "held_out.every_text", "save", "own", "own.facets",
    "data", "data[1]", "extends",
]  # fmt: skip


@patient
@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=3))
def test_any_value_anywhere_reads_or_is_refused(changes):
    overrides = [f"{key}={toml_value(value)}" for key, value in changes]
    try:
        recipe = read(SOUND, *overrides)
    except RecipeError as error:
        assert "`" in error.what
        assert error.what.replace("\n", " ").isprintable()
        return
    assert read_recipe(write(resolved_toml(recipe), "copy/copy.toml")) == recipe
    json.dumps(fingerprint(recipe), allow_nan=False)


@patient
@given(st.text(max_size=20))
def test_any_text_as_override(text):
    try:
        assert isinstance(read(SOUND, text), Recipe)
    except RecipeError as error:
        assert error.where.startswith("mine.toml with --set")


@patient
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10).filter(str.strip))
def test_any_text_survives_the_copy(text):
    recipe = dataclasses.replace(
        PLAIN,
        name=text,
        model=dataclasses.replace(PLAIN.model, lora=LoraPart(1, 2.0, targets=(text,))),
        optimizer=OptimizerPart(1e-4, rates={text: 1e-300}),
    )
    assert read_recipe(write(resolved_toml(recipe))) == recipe
