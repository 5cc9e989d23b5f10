"""Symbol tuning at small scale, on the four in-context settings and on flipped labels.

    python benchmarks/replication/symbols.py --data DATA --output OUT

One base, the direct direction throughout. `untuned` is trained on prompts of exemplars under natural labels with an
instruction. From it two models go on for the same number of steps: `symbols`, with a share of its prompts under
arbitrary symbols and without instruction, and `longer`, on more of the same. All are judged on sets that none of them
saw. Prompts that are too long lose exemplars, evenly over classes, which is counted. Every stage goes on where it was
stopped; scores go to OUT/symbols.json, and tables and a picture to --results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import parquet

from obverse.catalog.plain import open_plain
from obverse.catalog.words import read_words
from obverse.metrics.intervals import wilson
from obverse.objectives import objectives as made
from obverse.objectives.objectives import Objective
from obverse.recipes.mini_base import mini_base, prepare_mini
from obverse.recipes.output_files import write_json, write_text
from obverse.recipes.recipe import ModelPart
from obverse.seeds import stream
from obverse.tasks.exemplars import ExemplarSource, PlainRow, PlainTask, Setting, Window, evaluation_settings, fit
from obverse.tasks.mixture import Draw, Mixture
from obverse.tasks.symbols import SymbolPool, symbol_pools

_HEAD = """# Symbol tuning, at small scale

Accuracy in per cent on sets that no stage saw, {shown} exemplars a class where they fit {given} tokens (those that did
not are counted, over {rows} prompts a set), means over sets with 95 % intervals over rows. All tasks have two classes;
sets of more classes give pairs of them. Stages of {examples} examples a step: `untuned`, {untuned} steps, exemplars
under natural labels with an instruction; `symbols`, {symbols} steps more, six of ten prompts under arbitrary symbols
without instruction (arXiv 2305.08298); `longer`, {longer} steps more of the same as before. Base, direction and rates
are those of `replication.md`.

![accuracy by setting](symbol_tuning.png)

`python benchmarks/replication/symbols.py --data DATA --output OUT --results docs/results`

"""
TUNING = ("glue/sst2", "rotten_tomatoes", "tweet_eval/sentiment", "glue/cola", "trec", "clinc_oos/plus")
"""Sets that stages train on, all of their short texts."""
JUDGED = ("subj", "cr", "tweet_eval/hate", "emotion", "banking77")
GIVEN, SAID = 176, 12  # tokens
SHOWN = 2
LONGEST = 32
"""Words of a text at most: longer ones leave no room for exemplars."""
SET_RATES = {"clinc_oos/plus": 3, "trec": 2}
"""How often a set is drawn, where not once: many classes are many tasks."""
PAIRS = {"clinc_oos/plus": 60, "banking77": 6, "emotion": 3, "trec": 15, "tweet_eval/sentiment": 3}
"""Tasks that are made of a set with more than two classes."""
ROWS = 100
STEPS = {"untuned": 200, "symbols": 400, "longer": 400}
EXAMPLES = 16
SYMBOLS_SHARE = 0.6  # of the symbol-tuned model's draws; the rest stays as it was, the paper's remedy for small models
OBJECTIVE = Objective(
    made.direct().direction, negatives=3, likelihood=0.5, choice=1.0, choice_scale=3.0, choice_mean=True, name="direct"
)
FORMS = {
    "cr": ("text", "label", "Decide how the customer judges the product."),
    "emotion": ("text", "label", "Decide which of two feelings the text expresses."),
    "banking77": ("text", "label", "Decide which of two things the customer of a bank writes about."),
    "clinc_oos/plus": ("text", "intent", "Decide which of two things the user wants."),
}
"""Sets without a plain form: the columns of text and class, and what is asked."""


def two_class_tasks(data: Path, name: str) -> list[PlainTask]:
    """The set itself, or pairs of its classes, each class in as many as any other; texts of few words only."""
    whole = open_formless(data, name) if name in FORMS else open_plain(data, name)
    count = len(whole.labels)
    named = [k for k in range(count) if whole.labels[k] != "oos"]  # out of scope: no class of its own
    pairs = list(itertools.combinations(named, 2))
    if count > 2:
        random = stream(0, "pairs", name)
        random.shuffle(pairs)
        seen = Counter[int]()
        chosen = []
        while len(chosen) < PAIRS[name]:
            pair = min(pairs, key=lambda pair: seen[pair[0]] + seen[pair[1]])
            pairs.remove(pair)
            seen.update(pair)
            chosen.append(pair)
        pairs = chosen
    tasks = []
    for pair in pairs:
        title = name if count == 2 else f"{name}, {' or '.join(whole.labels[k] for k in pair)}"
        splits = {split: partial(_of_classes, whole, split, pair) for split in whole.splits}
        tasks.append(PlainTask(title, tuple(whole.labels[k] for k in pair), whole.instruction, splits))
    return tasks


def open_formless(data: Path, name: str) -> PlainTask:
    """A set whose classes are called as the index of the data folder calls them."""
    text, label, instruction = FORMS[name]
    index = json.loads((data / "index.json").read_text(encoding="utf-8"))
    names = next(entry["label_names"] for entry in index["p3"] if entry["name"] == name)
    labels = [str(each).replace("_", " ").strip("?") for each in names]

    def rows(split: str) -> list[PlainRow]:
        table = parquet.read_table(data / "p3" / name / f"{split}.parquet", columns=[text, label]).to_pydict()
        pairs = zip(table[text], table[label], strict=True)
        return [PlainRow(str(i), words.strip(), int(k)) for i, (words, k) in enumerate(pairs)]

    return PlainTask(
        name, tuple(labels), instruction, {split: partial(rows, split) for split in ("train", "validation")}
    )


def _of_classes(task: PlainTask, split: str, pair: tuple[int, int]) -> list[PlainRow]:
    rows = [row for row in task.rows(split) if row.label in pair and len(row.text.split()) <= LONGEST]
    return [replace(row, label=pair.index(row.label)) for row in rows]


def mixture(stage: str, data: Path, pool: SymbolPool, window: Window) -> Mixture:
    """What a stage trains on: sets are drawn alike, and the pairs of a set."""
    natural = Setting("relevant", True, (1, SHOWN + 1))
    symbols = Setting("symbols", False, (1, SHOWN + 1), pool=pool)
    share = SYMBOLS_SHARE if stage == "symbols" else 0.0
    sources, rates = [], []
    for name in TUNING:
        tasks = two_class_tasks(data, name)
        for setting, rate in ((natural, 1 - share), (symbols, share)):
            if rate:
                sources += [ExemplarSource(task, setting, window=window) for task in tasks]
                rates += [rate * SET_RATES.get(name, 1) / len(tasks)] * len(tasks)
    return Mixture(sources, rates=rates, seed={"untuned": 1, "symbols": 2, "longer": 3}[stage])


def judging_draws(task: PlainTask, setting: Setting, window: Window, rows: int) -> tuple[list[Draw], int]:
    """Prompts about the same rows with the same exemplars in every setting, and how many exemplars did not fit."""
    source = ExemplarSource(task, setting, split="validation", exemplars="train")
    draws, dropped = [], 0
    for i in np.random.default_rng(0).permutation(len(source)):
        fitted = fit(source.prompt(int(i), seed=0), measure=window.measure, limit=window.limit, least=1)
        if not fitted.fits:
            continue
        dropped += fitted.dropped
        prompt = fitted.prompt
        draws.append(Draw(task.name, str(i), prompt.rendering(), prompt.options, prompt.gold))
        if len(draws) == rows:
            break
    return draws, dropped


def score(network: Any, data: Path, pool: SymbolPool, window: Window) -> dict[str, Any]:
    """Hits of every row by setting and set."""
    out: dict[str, Any] = {}
    for title, setting in evaluation_settings(pool, per_class=SHOWN).items():
        for name in JUDGED:
            tasks = two_class_tasks(data, name)
            # Pairs of one set share its rows between them, so that no set counts more than another.
            found = [judging_draws(task, setting, window, ROWS // len(tasks)) for task in tasks]
            fitted = [network.fit(draw, OBJECTIVE)[0] for draws, _ in found for draw in draws]
            queries = [OBJECTIVE.direction.query(d.rendering, option) for d in fitted for option in d.options]
            answers = iter(network.language_model.log_likelihoods(queries))
            hits = []
            for draw in fitted:
                means = [(a := next(answers)).nats / max(1, a.tokens) for _ in draw.options]
                hits.append(int(means.index(max(means)) == draw.gold))
            dropped = sum(count for _, count in found)
            out.setdefault(title, {})[name] = {"hits": hits, "classes": 2, "tasks": len(tasks), "dropped": dropped}
    return out


def train_stage(stage: str, data: Path, output: Path, pool: SymbolPool) -> Any:
    """The network at the end of a stage, trained or read."""
    from obverse.training.checkpoints import load, step_folders
    from obverse.training.loop import TrainingSettings, train
    from obverse.training.network import Lengths, pair_network
    from obverse.training.optimizers import OptimizerSettings
    from obverse.training.watch import JsonLog

    model = mini_base(ModelPart("obverse-mini-base", decoder_layers=(2, 5), frozen_encoder_layers=2, dropout=0.1))
    network = pair_network(model, lengths=Lengths(GIVEN, SAID))
    window = Window(model.count_tokens, GIVEN - 2)
    drawn = mixture(stage, data, pool, window)
    optimizer = OptimizerSettings(
        "adamw", 4e-4, 0.01, {"encoder": 1.5e-4, "decoder.cls.predictions.bias": 1e-3}, warmup_steps=40, decay_steps=100
    )
    prepare_mini(network, mixture("untuned", data, pool, window), [OBJECTIVE], seed=0)
    folder = output / stage
    if stage != "untuned" and not (folder / "log.jsonl").exists():
        load(step_folders(output / "untuned")[-1], network)
    folder.mkdir(parents=True, exist_ok=True)
    train(
        network,
        drawn,
        [OBJECTIVE],
        TrainingSettings(
            steps=STEPS[stage],
            examples_per_step=EXAMPLES,
            optimizer=optimizer,
            seed=0,
            clip=1.0,
            save_every=25,
            keep_last=1,
        ),
        output=folder,
        watcher=JsonLog(folder / "log.jsonl"),
        fingerprint={"stage": stage},
        resume=(folder / "log.jsonl").exists(),
    )
    network.eval()
    return network, window


def markdown(scores: dict[str, Any]) -> str:
    """Accuracy by setting and model, means over sets, with intervals over rows."""
    settings = list(next(iter(scores.values())))
    lines = ["| model | " + " | ".join(settings) + " |", "|---|" + "---|" * len(settings)]
    for stage, found in scores.items():
        cells = []
        for title in settings:
            mean, low, high = mean_accuracy([entry["hits"] for entry in found[title].values()])
            cells.append(f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})")
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    first = next(iter(scores.values()))
    chance = [float(np.mean([1 / entry["classes"] for entry in first[title].values()])) for title in settings]
    lines.append("| chance | " + " | ".join(f"{100 * c:.1f}" for c in chance) + " |")
    lines += [
        "",
        "| set | setting | " + " | ".join(scores) + " | exemplars dropped |",
        "|---|---|" + "---:|" * (len(scores) + 1),
    ]
    for title in settings:
        for name, entry in first[title].items():
            cells = []
            for found in scores.values():
                hits = found[title][name]["hits"]
                low, high = wilson(sum(hits), len(hits))
                cells.append(f"{100 * np.mean(hits):.0f} ({100 * low:.0f} to {100 * high:.0f})")
            lines.append(f"| {name} | {title} | " + " | ".join(cells) + f" | {entry['dropped']} |")
    return "\n".join(lines) + "\n"


def mean_accuracy(hits: Sequence[Sequence[int]]) -> tuple[float, float, float]:
    """The mean over sets and its 95 % interval over rows."""
    random = np.random.default_rng(0)
    each = [np.array(h) for h in hits]
    drawn = np.mean([h[random.integers(0, len(h), (1000, len(h)))].mean(1) for h in each], 0)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(np.mean([h.mean() for h in each])), float(low), float(high)


def draw_picture(scores: dict[str, Any], path: Path) -> None:
    """A group of dots a setting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panel = figure.subplots()
    settings = list(next(iter(scores.values())))
    for k, (stage, colour) in enumerate(zip(scores, ("#6b6b6b", "#0072B2", "#D55E00"), strict=False)):
        for place, title in enumerate(settings):
            mean, low, high = mean_accuracy([entry["hits"] for entry in scores[stage][title].values()])
            x = place + (k - 1) * 0.18
            panel.plot([x, x], [low, high], color=colour, linewidth=2)
            panel.plot(x, mean, "o", color=colour, label=stage if place == 0 else None)
    panel.set_xticks(range(len(settings)), [title.replace(", ", ",\n") for title in settings])
    panel.set_ylabel("accuracy, mean over sets")
    panel.grid(axis="y", color="#e4e4e4")
    panel.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="checkpoints and scores")
    parser.add_argument("--results", type=Path, help="where tables and picture go")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if not (options.data / "p3").is_dir():
        parser.error(f"{options.data} is no data folder: it has no p3")
    import torch

    from obverse.training.loop import denormals_flushed

    torch.set_num_threads(options.threads)
    training, judging = symbol_pools(read_words(None))
    path = options.output / "symbols.json"
    scores = json.loads(path.read_text()) if path.exists() else {}
    with denormals_flushed():
        for stage in STEPS:
            if stage in scores:
                continue
            began = time.monotonic()
            network, window = train_stage(stage, options.data, options.output, training)
            scores[stage] = score(network, options.data, judging, window)
            write_json(path, scores)
            print(f"{stage}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    print(markdown(scores))
    if options.results:
        write_json(options.results / "symbol_tuning.json", scores)
        head = _HEAD.format(rows=ROWS, examples=EXAMPLES, shown=SHOWN, given=GIVEN, **STEPS)
        write_text(options.results / "symbol_tuning.md", head + markdown(scores))
        draw_picture(scores, options.results / "symbol_tuning.png")


if __name__ == "__main__":
    main()
