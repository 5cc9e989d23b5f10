"""`obverse train` through its command line, on a tiny T5 and data made here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer  # noqa: E402

import tiny  # noqa: E402
from obverse.cli.main import main  # noqa: E402
from obverse.models.checkpoints import load_model  # noqa: E402
from obverse.queries import Query  # noqa: E402
from obverse.recipes.recipe import read_recipe  # noqa: E402
from obverse.recipes.recipe_layers import library_names  # noqa: E402
from obverse.recipes.train import TrainSettings, train_recipe  # noqa: E402

TEMPLATES = """\
dataset: films
templates:
  a1: !Template
    answer_choices: bad ||| good
    id: a1
    jinja: "{{text}} was it good ? ||| {{answer_choices[label]}}"
    metadata: !TemplateMetadata
      choices_in_prompt: false
      metrics: [Accuracy]
      original_task: true
    name: was it good
    reference: ''
"""
RECIPE = """\
steps = 6
examples_per_step = 4
token_budget = 256
seed = 3

[model]
base = "{base}"
eos = "flipped"
slots = "sentinels"
dropout = 0.1

[lengths]
given = 48
said = 24

[optimizer]
name = "adafactor"
rate = 1e-3
clip = 0.5

[[objectives]]
direction = "flipped"
negatives = 1
unlikelihood = 3.0

[mixture]
tasks = ["films"]

[held_out]
tasks = ["films"]
rows = 8
every = 3

[save]
every = 2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Base, data and recipe, in a fresh current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OBVERSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    tokenizer = tiny.t5_tokenizer()
    tiny.t5(tied=False, vocab_size=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    for split in ("train", "validation"):
        path = tmp_path / "data" / "p3" / "films" / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [f"the film {verb} {word}" for verb in ("was", "is") for word in ("good", "bad", "it", "the")]
        pq.write_table(pa.table({"text": texts, "label": [1, 0, 1, 0, 1, 0, 1, 0]}), path)
    templates = tmp_path / "data" / "promptsource" / "films" / "templates.yaml"
    templates.parent.mkdir(parents=True)
    templates.write_text(TEMPLATES)
    (tmp_path / "recipe.toml").write_text(RECIPE.format(base=tmp_path / "base"))
    return tmp_path


@pytest.fixture
def obverse(folder, capsys, monkeypatch):
    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["obverse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def parts(output: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [line["parts"] for line in lines if "parts" in line]


def test_a_run_leaves_a_model_that_plain_transformers_load(obverse, folder):
    code, out, err = obverse("train", "recipe.toml", "--data", "data", "--output", "run")
    assert code == 0, err
    assert "films: " in out and "Model: run/model" in out
    assert len(parts(folder / "run")) == 6
    assert {p.name for p in (folder / "run").iterdir()} >= {"recipe.toml", "log.jsonl", "best", "model", "training.png"}
    again = read_recipe(folder / "run" / "recipe.toml")
    assert (again.steps, again.optimizer.name, again.objectives[0].unlikelihood) == (6, "adafactor", 3.0)
    card = (folder / "run" / "model" / "README.md").read_text()
    assert "| films | 8 | 24 |" in card and str(folder / "data") not in card

    # The folder scores the same through obverse and through plain transformers.
    scored = load_model(str(folder / "run" / "model"), device="cpu")
    assert (scored.conventions.method, scored.conventions.eos, scored.conventions.datasets) == (
        "flipped",
        "flipped",
        ("films",),
    )
    query = Query("the film was good", " bad film")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "run" / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "run" / "model")
    given = tokenizer("the film was good", return_tensors="pt").input_ids
    said = tokenizer("bad film", return_tensors="pt").input_ids
    with torch.no_grad():
        loss = model(input_ids=given, labels=said).loss
    assert scored.log_likelihoods([query])[0].nats == pytest.approx(-float(loss) * said.shape[1], abs=1e-4)


def test_stopped_and_resumed_equals_uninterrupted(obverse, folder):
    assert obverse("train", "recipe.toml", "--data", "data", "--output", "whole")[0] == 0
    code, out, err = obverse("train", "recipe.toml", "--data", "data", "--output", "cut", "--stop-after", "0")
    assert code == 0 and "--resume goes on" in out, err
    steps = len(parts(folder / "cut"))
    assert steps < 6
    code, _, err = obverse("train", "recipe.toml", "--data", "data", "--output", "cut")
    assert code == 2 and "--resume" in err
    assert obverse("train", "recipe.toml", "--data", "data", "--output", "cut", "--resume")[0] == 0
    assert parts(folder / "cut") == parts(folder / "whole")
    same = [(folder / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "cut")]
    assert same[0] == same[1]


def test_a_killed_process_goes_on_where_its_last_checkpoint_was(obverse, folder):
    overrides = ("--set", "steps=60", "--set", "save.every=2", "--set", "held_out.every=30")
    arguments = ["train", "recipe.toml", "--data", "data", "--output", "run", *overrides]
    process = subprocess.Popen(
        [sys.executable, "-m", "obverse", *arguments],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not list((folder / "run").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((folder / "run").glob("step-*"))
    code, _, err = obverse(*arguments, "--resume")
    assert code == 0, err
    assert "going on from step" in err
    assert len(parts(folder / "run")) == 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing.toml",), "nothing.toml"),
        (("flipped-3",), "flipped-3b"),
        (("recipe.toml", "--set", "optimizer.rat=1"), "Did you mean 'rate'"),
        (("recipe.toml", "--set", "steps=0"), "steps"),
        (("recipe.toml", "--set", 'mixture.tasks=["films", "plays"]'), "plays"),
        (("recipe.toml", "--set", 'model.base="nowhere/at/all"'), "nowhere/at/all"),
        (("recipe.toml", "--set", "lengths.said=0"), "lengths.said"),
    ],
)
def test_wrong_settings_end_in_one_error_before_any_step(obverse, folder, arguments, words):
    code, out, err = obverse("train", *arguments, "--data", "data", "--output", "run")
    assert (code, out) == (2, "")
    assert words in err and "Traceback" not in err
    assert not list(folder.glob("run/step-*"))


def test_a_vocabulary_without_sentinels_is_refused(obverse, folder):
    tiny.gpt2().save_pretrained(folder / "causal")
    tiny.gpt2_tokenizer().save_pretrained(folder / "causal")
    other = ("--set", f'model.base="{folder / "causal"}"', "--set", "model.eos=", "--set", "model.dropout=")
    code, _, err = obverse("train", "recipe.toml", "--data", "data", "--output", "run", *other)
    assert code == 2 and "<extra_id_0>" in err and 'slots = "numbered"' in err
    other = (*other, "--set", "model.slots=", "--set", "lengths.given=32")
    code, _, err = obverse("train", "recipe.toml", "--data", "data", "--output", "run", *other)
    assert code == 0, err


def test_missing_sets_are_left_out_when_allowed_and_recorded(obverse, folder):
    code, _, err = obverse(
        "train", "recipe.toml", "--data", "data", "--output", "run", "--allow-missing",
        "--set", 'mixture.tasks=["films", "plays"]', "--set", "steps=1",
    )  # fmt: skip
    assert code == 0, err
    assert "left out: plays" in err
    assert "plays" in (folder / "run" / "model" / "README.md").read_text()


def test_another_recipe_does_not_go_on(obverse, folder):
    assert obverse("train", "recipe.toml", "--data", "data", "--output", "run", "--set", "steps=2")[0] == 0
    code, _, err = obverse(
        "train", "recipe.toml", "--data", "data", "--output", "run", "--resume", "--set", "optimizer.rate=2e-3"
    )
    assert code == 2 and "optimizer.rate" in err


def test_a_share_of_the_trained_weights_and_the_rest_of_the_base(obverse, folder):
    """WiSE-FT: what is written lies between the base and what was trained, after a resume too."""

    def weights(path):
        return AutoModelForSeq2SeqLM.from_pretrained(folder / path).state_dict()

    run = ("train", "recipe.toml", "--data", "data", "--output")
    assert obverse(*run, "whole", "--set", "steps=2")[0] == 0
    assert obverse(*run, "part", "--set", "steps=2", "--set", "model.trained_share=0.25")[0] == 0
    base, whole, part = weights("base"), weights("whole/model"), weights("part/model")
    assert any(not torch.equal(base[name], whole[name]) for name in base)
    for name in base:
        assert torch.allclose(part[name], base[name] + 0.25 * (whole[name] - base[name]), atol=1e-6), name
    # The share changes nothing of the training, so a finished run may be written again with another one.
    assert obverse(*run, "part", "--resume", "--set", "steps=2", "--set", "model.trained_share=0.5")[0] == 0
    again = weights("part/model")
    assert all(torch.allclose(again[n], (base[n] + whole[n]) / 2, atol=1e-6) for n in base)


@pytest.mark.parametrize("name", library_names())
def test_every_library_recipe_makes_two_steps_on_a_tiny_base(folder, name):
    """The published recipes, with what they train on and how long cut down; formats and objectives are theirs."""
    overrides = (
        f'model.base="{folder / "base"}"', "steps=2", "examples_per_step=4", "save.every=2", "token_budget=4096",
        "lengths.truncation=reference",
    )  # fmt: skip
    tasks, said = "films", []
    if name == "symbol-tuning":
        tasks = "rotten_tomatoes"  # whose plain form the package knows; the rows are those made here
        shutil.copytree(folder / "data" / "p3" / "films", folder / "data" / "p3" / tasks)
        (folder / "words.txt").write_text("\n".join(f"word{i}" for i in range(100)))
        overrides = (*overrides, f'mixture.symbols.words="{folder / "words.txt"}"', "mixture.symbols.per_class=[1, 1]")
    outcome = train_recipe(
        TrainSettings(name, folder / "data", folder / name, (*overrides, f'mixture.tasks=["{tasks}"]'), device="cpu"),
        say=said.append,
    )
    assert ("symbols from 10,000 integers, 10,000 letters, 50 words" in said[0]) == (name == "symbol-tuning")
    assert outcome.steps == 2 and outcome.model is not None
    assert all(value == value for step in parts(folder / name) for value in step.values())
