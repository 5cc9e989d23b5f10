"""How close `predict` comes to the machine's fp32 matrix rate.

Counts the multiplications for the tokens that must be computed once (no padding, no repetition), divides them by the
rate measured for matrices of exactly these shapes, and compares that least time with the time taken from texts to
scores. Tokenising, softmax, attention and all bookkeeping are in the time and not in the count of the least.

    python benchmarks/predict_speed.py --data DATA
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from obverse.catalog.promptsource import read_split
from obverse.labelling import Labeller, make_scorer
from obverse.models.bundled import BundledModel, load_bundled
from obverse.scoring.scorers import PRIOR
from obverse.tasks.examples import Example
from obverse.tasks.templates import InstructionTemplate

CASES = (
    ("rotten_tomatoes", "validation", "text", "What does the critic think of the film?", ("good", "bad")),
    ("ag_news", "validation", "text", "What is this article about?", ("world", "sports", "business", "technology")),
)
ROWS_PER_CALL = 256  # as `obverse predict` does


def median_seconds(act: Callable[[], object], *, runs: int = 5) -> float:
    """The median of several runs after one to warm up."""
    act()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def matrix_rates(shapes: set[tuple[int, int]], rows: int) -> dict[tuple[int, int], float]:
    """FLOP/s of (rows, n) @ (n, m) for each (n, m), as a linear layer computes it."""
    rates = {}
    for n, m in sorted(shapes):
        # The head runs on few rows at a time, as everywhere where its logits are to stay in cache.
        count = rows if m < 20_000 else 256
        layer = torch.nn.Linear(n, m)
        states = torch.randn(count, n)
        with torch.inference_mode():
            repeat = max(1, int(2e9 / (2 * count * n * m)))

            def act(layer: torch.nn.Linear = layer, states: torch.Tensor = states, repeat: int = repeat) -> None:
                for _ in range(repeat):
                    layer(states)

            rates[n, m] = repeat * 2 * count * n * m / median_seconds(act)
    return rates


def needed(model: BundledModel, labeller: Labeller, examples: list[Example], labels: tuple[str, ...]) -> Counter:
    """(n, m) -> how many rows are multiplied by a matrix of that shape; and the number of tokens of each kind."""
    network = model._language_model.model
    encoder, decoder = network.config.encoder, network.config.decoder
    width, inner = encoder.hidden_size, encoder.intermediate_size
    contexts: dict[str, set[str]] = {}
    for example in examples:
        rendering = labeller.template.render(example)
        for term in labeller.scorer.terms:
            if term != PRIOR:
                for query in labeller.scorer.ask(rendering, labels, term):
                    contexts.setdefault(query.given, set()).add(query.said.lstrip())
    given = sum(model.count_tokens(text) + 2 for text in contexts)
    said = sum(model.count_tokens(text) + 1 for texts in contexts.values() for text in texts)
    plain = 0
    if PRIOR in labeller.scorer.terms:
        plain = sum(min(256, model.count_tokens(str(e.fields["text"])) + 2) for e in examples)
        plain += sum(model.count_tokens(label) + 2 for label in labels)
    work: Counter = Counter()
    for _ in range(encoder.num_hidden_layers):
        work[width, width] += 4 * (given + plain)
        work[width, inner] += given + plain
        work[inner, width] += given + plain
    for _ in range(decoder.num_hidden_layers):
        # Self-attention, and of the cross-attention the queries and the output, for each said token;
        # the cross-attention's keys and values once for each given token.
        work[width, width] += 6 * said + 2 * given
        work[width, inner] += said
        work[inner, width] += said
    work[width, width] += said  # the head's own layer
    work[width, decoder.vocab_size] += said
    return work + Counter({("tokens", "given"): given, ("tokens", "said"): said, ("tokens", "plain"): plain})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds p3/")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    model = load_bundled(device="cpu")
    lines = [
        "# Speed of predict",
        "",
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, fp32, obverse-mini, "
        f"{arguments.rows:,} rows at most, median of {arguments.runs} runs after one to warm up. "
        "Command: `python benchmarks/predict_speed.py --data DATA`.",
        "",
        "`least` is the time of the multiplications for the tokens that must be computed once, at the rates measured",
        "for their own matrix shapes in the same run; `share` is least / taken, where taken runs from texts to scores.",
        "",
        "| set | method | texts | options | given tokens | said tokens | GFLOP | least s | taken s | share | texts/s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    figures = []
    rates: dict[tuple[int, int], float] = {}
    for dataset, split, column, instruction, labels in CASES:
        rows = list(read_split(arguments.data, dataset, split))[: arguments.rows]
        examples = [Example(row.id, {"text": str(row.fields[column])}) for row in rows]
        for method in ("blend", "flipped", "direct"):
            labeller = Labeller(
                model, make_scorer(model.conventions, method=method), InstructionTemplate(instruction, ["text"])
            )
            work = needed(model, labeller, examples, labels)
            shapes = {key for key in work if key[0] != "tokens"}
            if not rates:
                rates = matrix_rates(shapes, 2048)

            def act(labeller: Labeller = labeller, examples: list[Example] = examples, labels: tuple = labels) -> None:
                for begin in range(0, len(examples), ROWS_PER_CALL):
                    some = examples[begin : begin + ROWS_PER_CALL]
                    labeller.score(some, [labels] * len(some))

            taken = median_seconds(act, runs=arguments.runs)
            flop = sum(2 * n * m * work[n, m] for n, m in shapes)
            least = sum(2 * n * m * work[n, m] / rates[n, m] for n, m in shapes)
            figures.append(
                {"set": dataset, "method": method, "texts": len(examples), "least": least, "taken": taken,
                 "share": least / taken, "texts_per_second": len(examples) / taken}
            )  # fmt: skip
            lines.append(
                f"| {dataset} | {method} | {len(examples):,} | {len(labels)} | {work['tokens', 'given']:,} | "
                f"{work['tokens', 'said']:,} | {flop / 1e9:,.0f} | {least:.1f} | {taken:.1f} | "
                f"{100 * least / taken:.0f} % | {len(examples) / taken:.0f} |"
            )
            print(lines[-1], flush=True)
    lines += ["", "| matrix | GFLOP/s |", "|---|---:|"]
    lines += [f"| {n} x {m} | {rate / 1e9:.0f} |" for (n, m), rate in rates.items()]
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "predict_speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (arguments.output / "predict_speed.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines[-6:]))


if __name__ == "__main__":
    main()
