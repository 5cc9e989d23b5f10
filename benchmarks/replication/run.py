"""Train the arms of the small-scale replication, and score each on label words it has and has not seen.

    python benchmarks/replication/run.py --data DATA --output OUT --arms flipped:0 direct:0 ..

Every arm starts from the same base and sees the same examples under the same instructions and label words in the same
order; only the objective differs. Scores go to OUT/scores.jsonl as each arm ends, which `report.py` reads. An arm that
was stopped goes on where it was; one that has its scores is passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import random as python_random
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from obverse.catalog.promptsource import read_split
from obverse.objectives import objectives as made
from obverse.objectives.objectives import Objective
from obverse.recipes.mini_base import mini_base, prepare_mini
from obverse.recipes.recipe import ModelPart
from obverse.seeds import stream
from obverse.tasks.examples import Example
from obverse.tasks.mixture import Draw, Mixture
from obverse.tasks.wordings import Facet, WordedSource, read_facets, word

HERE = Path(__file__).parent
STEPS, EXAMPLES = 500, 16  # 8,000 examples
GIVEN, SAID = 64, 32  # tokens
ROWS = 200  # judged, of each set
CHARACTERS = 300  # of a text
KEPT = 8  # every eighth instruction is for judging alone

# The best variant of earlier trials: the sink token takes what a wrong label takes from the instruction, and options
# are compared in training as they are in use.
_SINK_AND_CHOICE: dict[str, Any] = {
    "negatives": 2,
    "likelihood": 0.5,
    "sink": 0.5,
    "choice": 1.0,
    "choice_scale": 4.0,
    "choice_mean": True,
}


def arms() -> dict[str, list[Objective]]:
    """Objectives by the name of the arm."""
    sink = replace(made.flipped(), unlikelihood=0.0, name="flipped", **_SINK_AND_CHOICE)
    contrast = replace(made.direct(), negatives=3, likelihood=0.5, choice=1.0, choice_scale=3.0, choice_mean=True)
    return {
        "direct": [made.direct()],
        "direct-unlikelihood": [made.direct_unlikelihood()],
        "channel": [made.channel()],
        "flipped": [made.flipped()],
        "flipped-without-unlikelihood": [made.flipped_without_unlikelihood()],
        "flipped-sink": [replace(sink, negatives=1, likelihood=1.0, sink=1.0, choice=0.0)],
        "flipped-choice": [replace(sink, sink=0.0)],
        "flipped-sink-choice": [sink],
        "direct-choice": [contrast],
        "joint": [sink, contrast],
    }


def read_sets(data: Path) -> list[dict[str, Any]]:
    """The table's entries with their texts.

    Each gets `role`, `facet` (a `Facet` without labels of its own), `train` and `rows` (examples whose label is the
    place of the right label word).
    """
    table = tomllib.loads((HERE / "sets.toml").read_text(encoding="utf-8"))
    facets = read_facets(HERE.parents[1] / "bundled" / "facets.toml")
    names = {e["name"]: e.get("label_names") for e in json.loads((data / "index.json").read_text())["p3"]}
    found = []
    for role in ("trained", "held_out"):
        for entry in table[role]:
            if entry.get("names"):
                entry["new"] = [[names[entry["name"]][v].replace("_", " ") for v in entry["values"]]]
            rows = examples(data, entry, entry["judged"])
            python_random.Random(7).shuffle(rows)
            found.append(
                {
                    **entry,
                    "role": role,
                    "facet": facets[entry["facet"]],
                    "train": examples(data, entry, "train") if role == "trained" else [],
                    "rows": rows[:ROWS],
                }
            )
    return found


def examples(data: Path, entry: Mapping[str, Any], split: str) -> list[Example]:
    """Rows of the classes that are asked for; a label is the place of its class, as text."""
    out = []
    for row in read_split(data, entry["name"], split):
        value = int(str(row.fields[entry.get("label", "class" if entry["text"] == "tweet" else "label")]))
        if value in entry["values"]:
            text = str(row.fields[entry["text"]]).strip()
            if len(text) > CHARACTERS:
                text = text[:CHARACTERS].rsplit(" ", 1)[0]
            out.append(Example(row.id, {"text": text}, str(entry["values"].index(value)), where=row.where))
    return out


def training_mixture(sets: Sequence[Mapping[str, Any]], seed: int) -> Mixture:
    """Trained sets in equal shares, under instructions for training and known label words."""
    sources = []
    for entry in sets:
        if entry["role"] == "trained":
            asked = [q for i, q in enumerate(entry["facet"].instructions) if i % KEPT != KEPT - 1]
            labels = {str(i): tuple(words[i] for words in entry["known"]) for i in range(len(entry["values"]))}
            facet = Facet(entry["facet"].name, tuple(asked), labels)
            sources.append(WordedSource(entry["name"], entry["train"], facet, list_options=0.0))
    return Mixture(sources, rates=[1.0] * len(sources), seed=seed)


def judging_draws(entry: Mapping[str, Any], wording: str) -> list[Draw]:
    """Every judged row under one kept instruction and one wording, the same at every call; all classes are options."""
    asked = [q for i, q in enumerate(entry["facet"].instructions) if i % KEPT == KEPT - 1]
    draws = []
    for i, row in enumerate(entry["rows"]):
        random = stream(0, entry["name"], wording, i)
        options = tuple(random.choice(entry[wording]))
        rendering = word(row, random.choice(asked), options, random, 0.0)
        draws.append(Draw(entry["name"], row.id, rendering, options, int(row.label or 0)))
    return draws


def score(network: Any, objectives: Sequence[Objective], sets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Right and chosen classes of every judged row, by set, wording and direction.

    Options are compared by the mean over their said tokens. It differs from the sum in the direct direction alone,
    where a sum would favour short labels.
    """
    out = []
    for entry in sets:
        for wording in ("known", "new"):
            if not entry[wording]:
                continue
            draws = judging_draws(entry, wording)
            total: list[list[float]] | None = None
            for objective in objectives:
                fitted = [network.fit(draw, objective)[0] for draw in draws]
                queries = [objective.direction.query(d.rendering, option) for d in fitted for option in d.options]
                answers = iter(network.language_model.log_likelihoods(queries))
                means = [[(a := next(answers)).nats / max(1, a.tokens) for _ in d.options] for d in fitted]
                out.append(_record(entry, wording, objective.name, draws, means))
                scaled = [_log_softmax([objective.choice_scale * m for m in row]) for row in means]
                total = (
                    scaled
                    if total is None
                    else [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(total, scaled, strict=True)]
                )
            if len(objectives) > 1 and total:
                out.append(_record(entry, wording, "product", draws, total))
    return out


def _record(
    entry: Mapping[str, Any], wording: str, direction: str, draws: Sequence[Draw], scores: Sequence[Sequence[float]]
) -> dict[str, Any]:
    chosen = [max(range(len(row)), key=row.__getitem__) for row in scores]
    return {
        "set": entry["name"],
        "role": entry["role"],
        "wording": wording,
        "asked_in_training": bool(entry["known"]),
        "direction": direction,
        "classes": len(entry["values"]),
        "gold": [d.gold for d in draws],
        "chosen": chosen,
    }


def _log_softmax(values: Sequence[float]) -> list[float]:
    from obverse.scoring.scorers import log_softmax

    return [float(v) for v in log_softmax(np.array(values))]


def run_arm(arm: str, seed: int, data: Path, output: Path, sets: Sequence[Mapping[str, Any]]) -> None:
    """Train, score, and add a line to the scores."""
    import torch

    from obverse.training.loop import TrainingSettings, denormals_flushed, train
    from obverse.training.network import Lengths, pair_network
    from obverse.training.optimizers import OptimizerSettings
    from obverse.training.watch import JsonLog

    folder = output / f"{arm}-{seed}"
    torch.manual_seed(seed)
    with denormals_flushed():
        objectives = arms()[arm]
        model = mini_base(ModelPart("obverse-mini-base", decoder_layers=(2, 5), frozen_encoder_layers=2, dropout=0.1))
        network = pair_network(model, lengths=Lengths(GIVEN, SAID))
        mixture = training_mixture(sets, seed)
        prepare_mini(network, mixture, objectives, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        state = train(
            network,
            mixture,
            objectives,
            TrainingSettings(
                steps=STEPS,
                examples_per_step=EXAMPLES,
                optimizer=OptimizerSettings(
                    "adamw",
                    4e-4,
                    0.01,
                    {"encoder": 1.5e-4, "decoder.cls.predictions.bias": 1e-3},
                    warmup_steps=40,
                    decay_steps=150,
                ),
                seed=seed,
                clip=1.0,
                save_every=50,
                keep_last=1,
            ),
            output=folder,
            watcher=JsonLog(folder / "log.jsonl"),
            fingerprint={"arm": arm, "seed": seed},
            resume=(folder / "log.jsonl").exists(),
        )
        minutes = (time.monotonic() - began) / 60
        network.eval()
        records = score(network, objectives, sets)
    line = {"arm": arm, "seed": seed, "examples": state.draws_seen, "minutes": minutes, "scores": records}
    # One write to a file opened for appending: arms that run side by side do not mix their lines.
    handle = os.open(output / "scores.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, (json.dumps(line) + "\n").encode())
    finally:
        os.close(handle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", required=True, help="arm:seed ..")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    unknown = [
        each for each in options.arms if each.partition(":")[0] not in arms() or not each.partition(":")[2].isdigit()
    ]
    if unknown:
        parser.error(f"{unknown[0]!r} is no arm and seed, as in flipped:0; arms: {', '.join(arms())}")
    if not (options.data / "index.json").is_file():
        parser.error(f"{options.data} is no data folder: it has no index.json")
    import torch

    torch.set_num_threads(options.threads)
    sets = read_sets(options.data)
    scores = options.output / "scores.jsonl"
    for each in options.arms:
        arm, _, seed = each.partition(":")
        done = [json.loads(line) for line in scores.read_text().splitlines()] if scores.exists() else []
        if any((d["arm"], d["seed"]) == (arm, int(seed)) for d in done):
            continue
        began = time.monotonic()
        run_arm(arm, int(seed), options.data, options.output, sets)
        print(f"{each}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
