"""Throughput and peak memory of Obverse's training loop against the usual way, on the same pairs.

    python benchmarks/training_speed.py --data DATA [--steps N] [--rounds N] [--model t5|mini] [--output docs/results]

Three arms do flipped learning with unlikelihood, from the same weights, with the same optimizer and the same draws:

* padded: `Seq2SeqTrainer`, the right and the wrong pairs of a micro-batch in two forward passes, a log-softmax over
  the whole logits (batch x time x vocabulary), every text padded to the recipe's lengths;
* dynamic: the same, padded to the longest text of the micro-batch;
* obverse: `obverse.training.loop.train`.

The first two get the token ids that the third makes, ready made before the clock runs, while the third renders and
tokenises its draws as it goes. Each arm runs in a process of its own, in each round in another order. Losses and norms
of every step are compared: where they differ by more than TOLERANCE, nothing is written and the exit code is 1. It is
2 where the data folder or the output is not as it must be.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# torch is imported in the children alone: what a child is told as its peak begins from the memory of its parent.
from obverse.errors import ObverseError, OutputError
from obverse.recipes.output_files import refuse_unwritable, write_json, write_text

ARMS = ("padded", "dynamic", "obverse")
RECIPE = "flipped-3b"  # lengths, optimizer, clipping, mixture and weights of the terms
SEED = 0
TOLERANCE = {"cpu": 1e-3, "cuda": 2e-2}  # relative; on CUDA products are in bf16
WIDTH, INNER, LAYERS, HEADS = 256, 1024, 4, 4
VOCABULARY, PIECES, SENTINELS = 32_128, 32_000, 100
TOKENIZER_DRAWS = 20_000
IGNORED = -100
PACKAGES = ("obverse", "torch", "transformers", "accelerate", "tokenizers")
MIB = 1024 * 1024


# What all children share


def open_mixture(data: str) -> tuple[Any, Any, list[str], tuple[str, ...]]:
    """The recipe, its mixture, the names of the sets in it, and of those that the data folder lacks."""
    from obverse.recipes.mixtures import training_sources
    from obverse.recipes.recipe import check_data, read_recipe
    from obverse.tasks.mixture import Mixture

    recipe, missing = check_data(read_recipe(RECIPE), Path(data), allow_missing=True)
    trained = training_sources(recipe.mixture, Path(data), seed=recipe.seed)
    mixture = Mixture(
        [each.source for each in trained],
        rates=[each.rate for each in trained],
        temperature=recipe.mixture.temperature,
        seed=recipe.seed,
    )
    return recipe, mixture, [each.task for each in trained], missing


def build_model(settings: dict[str, Any], folder: Path, *, weights: bool = True) -> Any:
    """The language model, with the prepared weights or (None are there yet) with its own first ones; no dropout."""
    import torch

    from obverse.models.base import Conventions
    from obverse.models.precision import choose_device
    from obverse.models.seq2seq import Seq2SeqModel

    torch.manual_seed(SEED)
    if settings["model"] == "mini":
        from obverse.recipes.mini_base import mini_base
        from obverse.recipes.recipe import MINI_BASE, ModelPart

        model: Any = mini_base(
            ModelPart(MINI_BASE, slots="sentinels", dropout=0.0, decoder_layers=(1, 3, 5)), device=settings["device"]
        )
    else:
        network = t5().to(choose_device(settings["device"]))
        conventions = Conventions(eos="flipped", slots="sentinels")
        model = Seq2SeqModel(network, t5_tokenizer(folder), name="a T5 of seeded weights", conventions=conventions)
    if weights:
        model.model.load_state_dict(torch.load(folder / "weights.pt", map_location=model.device, weights_only=True))
    return model


def t5() -> Any:
    """A small T5 of version 1.1: gated, the head untied."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=INNER,
        num_layers=LAYERS,
        num_heads=HEADS,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    model = T5ForConditionalGeneration(config)
    # Of a size with which the logits begin near 0, and the loss near the logarithm of the vocabulary.
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, WIDTH) * WIDTH**-0.5)
    return model


def t5_tokenizer(folder: Path) -> Any:
    """0 pad, 1 EOS, 2 unknown, the trained pieces, the sentinels."""
    from transformers import T5Tokenizer

    pieces = [(piece, score) for piece, score in json.loads((folder / "pieces.json").read_text(encoding="utf-8"))]
    pieces += [(f"<extra_id_{i}>", 0.0) for i in range(SENTINELS)]
    return T5Tokenizer(vocab=pieces, extra_ids=SENTINELS)


def resident() -> int:
    """Bytes of this process in memory now; where the system does not tell, the most so far."""
    status = Path("/proc/self/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text(encoding="ascii")) if status.exists() else None
    return 1024 * int(found[1]) if found else peak()


def peak() -> int:
    """The most bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Record:
    """What one arm leaves: when steps ended, their losses and norms, and the memory."""

    def __init__(self, model: Any) -> None:
        import torch

        self.device = model.device
        self.found: dict[str, Any] = {
            "digest": model.digest(),
            "threads": torch.get_num_threads(),
            "ends": [],
            "likelihood": [],
            "unlikelihood": [],
            "norm": [],
        }
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.found["gpu"] = torch.cuda.get_device_name(self.device)
            self.found["gpu_before"] = torch.cuda.memory_allocated(self.device)
        self.found["before"] = resident()

    def step_ended(self) -> None:
        self.found["ends"].append(time.perf_counter())
        self.found["peak"] = peak()

    def write(self, folder: Path) -> None:
        import torch

        if self.device.type == "cuda":
            self.found["gpu_peak"] = torch.cuda.max_memory_allocated(self.device)
        (folder / "result.json").write_text(json.dumps(self.found), encoding="utf-8")


# Preparation


def prepare(settings: dict[str, Any], folder: Path) -> None:
    """Write what the arms begin from: pieces of the tokenizer, weights, token ids; and what is known of the work."""
    import torch

    from obverse.objectives.objectives import flipped
    from obverse.seeds import stream
    from obverse.training.network import Lengths, pair_network

    recipe, mixture, names, missing = open_mixture(settings["data"])
    if settings["model"] == "t5":
        train_pieces(mixture, folder)
    model = build_model(settings, folder, weights=False)
    objective = flipped()
    lengths = Lengths(recipe.lengths.given, recipe.lengths.said)
    network = pair_network(model, lengths=lengths)
    if settings["model"] == "mini":
        from obverse.recipes.mini_base import prepare_mini

        prepare_mini(network, mixture, [objective], seed=SEED)
    torch.save(model.model.state_dict(), folder / "weights.pt")
    examples, batch = settings["examples"], settings["batch"]
    steps = []
    for step in range(settings["steps"]):
        pairs = []
        for place in range(examples):
            i = step * examples + place
            draw, _ = network.fit(mixture.draw(i), objective)
            # By the loop's names of random streams, so that the wrong options are the same.
            pairs += objective.pairs(draw, place, stream(SEED, "negatives", objective.name, i))
        steps.append(network.rows(pairs, 0))
    draws = [{"right": rows[k], "wrong": rows[k + 1]} for rows in steps for k in range(0, len(rows), 2)]
    assert len(draws) == examples * settings["steps"]
    assert all(draw["right"].gold and not draw["wrong"].gold for draw in draws)
    ready = [{side: (row.given, row.said) for side, row in draw.items()} for draw in draws]
    (folder / "draws.json").write_text(json.dumps(ready), encoding="utf-8")

    timed = draws[settings["warmup"] * examples :]
    rows = [row for draw in timed for row in draw.values()]
    given, said = sum(len(row.given) for row in rows), sum(len(row.said) for row in rows)
    dynamic = 0
    for begin in range(0, len(timed), batch):
        for side in ("right", "wrong"):
            some = [draw[side] for draw in timed[begin : begin + batch]]
            dynamic += len(some) * (max(len(row.given) for row in some) + max(len(row.said) for row in some))
    own = 0
    for each in steps[settings["warmup"] :]:
        for some in network.micro_batches(each, token_budget=settings["token_budget"]):
            read = {row.given for row in some}
            own += len(read) * max(map(len, read)) + len(some) * max(len(row.said) for row in some)
    optimizer = recipe.optimizer
    facts = {
        "sets": names,
        "missing": [name.split(",")[0] for name in missing],
        "start": model.frame.start,
        "fill": getattr(model.tokenizer, "pad_token_id", None) or 0,
        "lengths": {"given": lengths.given, "said": lengths.said},
        "optimizer": {"name": optimizer.name, "rate": optimizer.rate, "clip": optimizer.clip},
        "unlikelihood": objective.unlikelihood,
        "parameters": sum(p.numel() for p in model.model.parameters()),
        "vocabulary": model.network.vocabulary,
        "words": len(model.tokenizer),
        "timed_draws": len(timed),
        "tokens": {"given": given, "said": said},
        "positions": {"padded": len(rows) * (lengths.given + lengths.said), "dynamic": dynamic, "obverse": own},
        "work": multiplications(model.model, given, said),
    }
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def train_pieces(mixture: Any, folder: Path) -> None:
    """A unigram vocabulary of the mixture's prompts and options."""
    import io

    import sentencepiece

    draws = (mixture.draw(i) for i in range(TOKENIZER_DRAWS))
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for d in draws for line in (*d.rendering.text.split("\n"), d.options[d.gold])),
        model_writer=written,
        vocab_size=PIECES,
        model_type="unigram",
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        max_sentence_length=1 << 14,
        num_threads=1,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(trained.get_piece_size())]
    (folder / "pieces.json").write_text(json.dumps(pieces), encoding="utf-8")


def multiplications(network: Any, given: int, said: int) -> list[tuple[int, int, float]]:
    """(n, m, FLOP) of the linear layers, forward and backward, for so many tokens without padding.

    Attention's own products, the softmax and the optimizer are not in it.
    """
    import torch

    work: dict[tuple[int, int], float] = {}
    for name, layer in network.named_modules():
        if not isinstance(layer, torch.nn.Linear):
            continue
        # Keys and values of the cross-attention are made of what was read.
        reads = name.startswith("encoder.") or re.search(
            r"EncDecAttention\.[kv]$|crossattention\.self\.(key|value)$", name
        )
        shape = (layer.in_features, layer.out_features)
        products = 2 + layer.weight.requires_grad
        work[shape] = work.get(shape, 0.0) + 2 * products * shape[0] * shape[1] * (given if reads else said)
    return [(n, m, flop) for (n, m), flop in sorted(work.items())]


def rates(settings: dict[str, Any], folder: Path) -> None:
    """Measure FLOP/s of a linear layer of each shape that the work has, in the number type of training."""
    import torch

    from obverse.models.precision import choose_device, choose_dtype

    device = choose_device(settings["device"])
    kind, on_cpu = choose_dtype(device), device.type == "cpu"
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    found = []
    with torch.inference_mode():
        for n, m, _ in facts["work"]:
            # On a processor the head runs on few rows at a time, as everywhere where logits are to stay in cache.
            rows = (256 if m > 20_000 else 2_048) if on_cpu else 8_192
            layer = torch.nn.Linear(n, m, bias=False, device=device, dtype=kind)
            states = torch.randn(rows, n, device=device, dtype=kind)
            flop = 2 * rows * n * m
            repeat = max(1, int((4e9 if on_cpu else 4e12) / flop))
            seconds = []
            for _ in range(6):
                began = time.perf_counter()
                for _ in range(repeat):
                    layer(states)
                if not on_cpu:
                    torch.cuda.synchronize(device)
                seconds.append(time.perf_counter() - began)
            found.append((n, m, repeat * flop / statistics.median(seconds[1:])))
    (folder / "result.json").write_text(json.dumps({"device": device.type, "rates": found}), encoding="utf-8")


# The arms


def run_obverse(settings: dict[str, Any], folder: Path) -> None:
    """Obverse's loop; draws are made as it goes, as in `obverse train`."""
    from obverse.objectives.objectives import flipped
    from obverse.seeds import stream
    from obverse.training.loop import TrainingSettings, train
    from obverse.training.network import Lengths, pair_network
    from obverse.training.optimizers import OptimizerSettings
    from obverse.training.watch import Watcher

    recipe, mixture, _, _ = open_mixture(settings["data"])
    for source in mixture.sources:
        source.draw(stream(SEED, "opened", source.name))  # files are opened here, and not in a step
    model = build_model(settings, folder)
    network = pair_network(model, lengths=Lengths(recipe.lengths.given, recipe.lengths.said))
    record = Record(model)

    class Recorder(Watcher):
        def step(self, step: int, parts: Any, *, norm: float, **_: Any) -> None:
            record.step_ended()
            for term in ("likelihood", "unlikelihood"):
                record.found[term].append(parts[f"flipped/{term}"])
            record.found["norm"].append(norm)

    optimizer = recipe.optimizer
    train(
        network,
        mixture,
        [flipped()],
        TrainingSettings(
            steps=settings["steps"],
            examples_per_step=settings["examples"],
            optimizer=OptimizerSettings(optimizer.name, settings["rate"] or optimizer.rate),
            token_budget=settings["token_budget"],
            seed=SEED,
            clip=optimizer.clip,
            save_every=settings["steps"],
        ),
        output=folder / "run",
        watcher=Recorder(),
        fingerprint={},
    )
    record.write(folder)


def run_trainer(settings: dict[str, Any], folder: Path, *, dynamic: bool) -> None:
    """`Seq2SeqTrainer` on the prepared token ids, in their order."""
    import torch
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    from obverse.models.precision import choose_dtype

    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    draws = json.loads((folder / "draws.json").read_text(encoding="utf-8"))
    start, fill, weight = facts["start"], facts["fill"], facts["unlikelihood"]
    model = build_model(settings, folder)
    examples, batch = settings["examples"], settings["batch"]
    per_step = examples // batch

    def padded(rows: list[list[int]], filler: int, width: int | None) -> torch.Tensor:
        width = width or max(map(len, rows))
        return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])

    def collate(some: list[dict[str, Any]]) -> dict[str, dict[str, torch.Tensor]]:
        given, said = (None, None) if dynamic else (facts["lengths"]["given"], facts["lengths"]["said"])
        return {
            side: {
                "input_ids": padded([draw[side][0] for draw in some], fill, given),
                "attention_mask": padded([[1] * len(draw[side][0]) for draw in some], 0, given),
                "decoder_input_ids": padded([[*start, *draw[side][1][:-1]] for draw in some], fill, said),
                "labels": padded([draw[side][1] for draw in some], IGNORED, said),
            }
            for side in ("right", "wrong")
        }

    record = Record(model)
    terms: dict[str, list[torch.Tensor]] = {"likelihood": [], "unlikelihood": []}

    class Trainer(Seq2SeqTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            likelihood = -token_mean(token_log_probs(model, inputs["right"]), inputs["right"]["labels"]).mean()
            log_probs = token_log_probs(model, inputs["wrong"])
            unlikelihood = weight * token_mean(-torch.log(1 - log_probs.exp() + 0.01), inputs["wrong"]["labels"]).mean()
            terms["likelihood"].append(likelihood.detach())
            terms["unlikelihood"].append(unlikelihood.detach())
            loss = likelihood + unlikelihood
            return (loss, None) if return_outputs else loss

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(draws)

    class Recorder(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            record.step_ended()

        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            if logs and "grad_norm" in logs:
                record.found["norm"].append(logs["grad_norm"])

    trainer = Trainer(
        model=model.model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(folder / "run"),
            max_steps=settings["steps"],
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=per_step,
            optim="adafactor",  # the library's, without relative steps and scaling, as the recipe has it
            learning_rate=settings["rate"] or facts["optimizer"]["rate"],
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=facts["optimizer"]["clip"],
            bf16=choose_dtype(model.device) == torch.bfloat16,
            use_cpu=model.device.type == "cpu",
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
            save_strategy="no",
            remove_unused_columns=False,
            dataloader_pin_memory=model.device.type == "cuda",
            seed=SEED,
        ),
        train_dataset=draws,
        data_collator=collate,
        callbacks=[Recorder()],
    )
    # The loss above is a micro-batch's mean, all of one size: the trainer is to divide it by their number.
    trainer.model_accepts_loss_kwargs = False
    trainer.train()
    for term, values in terms.items():
        numbers = torch.stack(values).tolist()
        record.found[term] = [statistics.fmean(numbers[k : k + per_step]) for k in range(0, len(numbers), per_step)]
    record.write(folder)


def token_log_probs(model: Any, pair: dict[str, Any]) -> Any:
    """log P of each label (batch, time), from the softmax over the whole vocabulary."""
    import torch

    logits = model(
        input_ids=pair["input_ids"],
        attention_mask=pair["attention_mask"],
        decoder_input_ids=pair["decoder_input_ids"],
        use_cache=False,
    ).logits
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    return log_probs.gather(-1, pair["labels"].clamp(min=0)[..., None])[..., 0]


def token_mean(values: Any, labels: Any) -> Any:
    """Mean over each row's tokens."""
    mask = labels != IGNORED
    return (values * mask).sum(1) / mask.sum(1)


# The parent


def child(name: str, folder: Path) -> int:
    """One of the parts, in this process."""
    import torch

    # The loop does so by itself; here for all arms, before any tensor is made.
    torch.set_flush_denormal(True)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    parts: dict[str, Callable[[], None]] = {
        "prepare": lambda: prepare(settings, folder),
        "rates": lambda: rates(settings, folder),
        "padded": lambda: run_trainer(settings, folder, dynamic=False),
        "dynamic": lambda: run_trainer(settings, folder, dynamic=True),
        "obverse": lambda: run_obverse(settings, folder),
    }
    try:
        parts[name]()
    except ObverseError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run_child(name: str, folder: Path) -> dict[str, Any]:
    """A part in a process of its own, in an empty place; what it found."""
    for left in ("result.json", "run"):
        with contextlib.suppress(FileNotFoundError):
            remove(folder / left)
    # One GPU for all; and no more threads for tokenising than for the rest.
    surroundings = {"CUDA_VISIBLE_DEVICES": "0", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
    if "OMP_NUM_THREADS" in os.environ:
        surroundings["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
    command = [sys.executable, str(Path(__file__).resolve()), "--child", name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**surroundings, **os.environ})
    if done.returncode:
        print(done.stderr.strip() or f"{name} ended with exit code {done.returncode}", file=sys.stderr)
        raise SystemExit(2 if done.returncode == 2 else 1)
    result = folder / "result.json"
    return json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}


def remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def largest_differences(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, float]:
    """Between any arm in any round and Obverse's first: of losses and norms relative, of the parts also absolute."""
    of = rounds[0]["obverse"]
    base = losses(of)
    out = {"loss": 0.0, "loss_relative": 0.0, "likelihood": 0.0, "unlikelihood": 0.0, "norm_relative": 0.0}
    for found in (found for each in rounds for found in each.values()):
        for a, b in zip(losses(found), base, strict=True):
            out["loss"] = max(out["loss"], abs(a - b))
            out["loss_relative"] = max(out["loss_relative"], abs(a - b) / abs(b))
        for term in ("likelihood", "unlikelihood"):
            out[term] = max(out[term], *(abs(a - b) for a, b in zip(found[term], of[term], strict=True)))
        norms = zip(found["norm"], of["norm"], strict=True)
        out["norm_relative"] = max(out["norm_relative"], *(abs(a - b) / abs(b) for a, b in norms))
    return out


def losses(found: dict[str, Any]) -> list[float]:
    """Of each step, both terms together."""
    return [a + b for a, b in zip(found["likelihood"], found["unlikelihood"], strict=True)]


def machine() -> dict[str, Any]:
    """What it ran on."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return {
        "processor": named[1] if named else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "load_before": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
    }


def spread(values: list[float], form: str = ".2f") -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def report(content: dict[str, Any], rounds: list[dict[str, dict[str, Any]]], timings: dict[str, list[float]]) -> str:
    """The table and what must be known to read it; fills the summary of `content` on its way."""
    settings, facts, differences = content["settings"], content["facts"], content["differences"]
    of, versions, cuda = content["machine"], content["machine"]["versions"], content["device"] == "cuda"
    draws = facts["timed_draws"]
    peaks, own = {}, {}
    for arm in ARMS:
        keys = ("gpu_peak", "gpu_before") if cuda else ("peak", "before")
        peaks[arm] = [each[arm][keys[0]] / MIB for each in rounds]
        own[arm] = [(each[arm][keys[0]] - each[arm][keys[1]]) / MIB for each in rounds]
    rate_of = {(n, m): rate for n, m, rate in content["rates"]}
    least = sum(flop / rate_of[n, m] for n, m, flop in facts["work"])
    tokens = sum(facts["tokens"].values())
    rows = []
    for arm in ARMS:
        speeds = [draws / seconds for seconds in timings[arm]]
        times = [a / b for a, b in zip(timings["padded"], timings[arm], strict=True)]
        content["summary"][arm] = {
            "examples_per_second": {"median": statistics.median(speeds), "rounds": speeds},
            "times_padded": {"median": statistics.median(times), "rounds": times},
            "positions_per_token": facts["positions"][arm] / tokens,
            "share_of_matrix_rate": least / statistics.median(timings[arm]),
            "peak_mib": statistics.median(peaks[arm]),
            "training_mib": statistics.median(own[arm]),
        }
        summary = content["summary"][arm]
        rows.append(
            f"| {arm} | {spread(speeds)} | {spread(times)} | {summary['positions_per_token']:.2f} | "
            f"{100 * summary['share_of_matrix_rate']:.0f} % | {summary['peak_mib']:,.0f} | {spread(own[arm], ',.0f')} |"
        )
    summary = content["summary"]
    faster = {
        arm: spread([a / b for a, b in zip(timings[arm], timings["obverse"], strict=True)])
        for arm in ("padded", "dynamic")
    }
    less = {arm: summary[arm]["training_mib"] / summary["obverse"]["training_mib"] for arm in ("padded", "dynamic")}
    model = (
        f"a T5 of version 1.1 with seeded weights, {WIDTH} wide, {LAYERS} + {LAYERS} layers, its {facts['words']:,} "
        "words trained on the mixture"
        if settings["model"] == "t5"
        else "the base of obverse-mini, its embeddings frozen"
    )
    missing = f"; not there: {', '.join(facts['missing'])}" if facts["missing"] else ""
    first, last = (losses(rounds[0]["obverse"])[k] for k in (0, -1))
    where = f"{of['processor']}, {of['cores']} cores" + (f", {content['gpu']}" if cuda else "")
    extras = "".join(f" --{k.replace('_', '-')} {v}" for k, v in content["given"].items())
    return "\n".join(
        [
            "# Speed and memory of training",
            "",
            f"{where}; {content['threads']} thread{'s' * (content['threads'] > 1)}, "
            f"{'bf16' if cuda else 'fp32'}; load of the machine before the run {of['load_before']:.1f}. "
            + ", ".join(f"{name} {version}" for name, version in versions.items())
            + f". Command: `python benchmarks/training_speed.py --data DATA{extras}`.",
            "",
            f"Flipped learning with unlikelihood by the recipe {RECIPE}, but for the model: {model}; "
            f"{facts['parameters']:,} parameters, a vocabulary of {facts['vocabulary']:,}. {len(facts['sets'])} of its "
            f"sets{missing}. Steps of {settings['examples']} examples, each with a right and a wrong pair; "
            f"{facts['optimizer']['name']}, rate {settings['rate'] or facts['optimizer']['rate']:g}, gradients clipped "
            f"to {facts['optimizer']['clip']:g}, no dropout. {settings['steps']} steps, of which the first "
            f"{settings['warmup']} are not timed; {settings['rounds']} rounds, each in another order, each arm in a "
            "process of its own.",
            "",
            f"* `padded`: `Seq2SeqTrainer`, micro-batches of {settings['batch']} examples, right and wrong pairs in "
            "two forward passes, a log-softmax over the whole logits, texts padded to "
            f"{facts['lengths']['given']} and {facts['lengths']['said']} tokens. Its token ids are ready made.",
            "* `dynamic`: the same, padded to the longest text of each pass.",
            f"* `obverse`: `obverse.training.loop.train`, micro-batches of at most {settings['token_budget']:,} padded "
            "tokens. It renders and tokenises its draws within the time.",
            "",
            f"| arm | examples/s | times padded | positions a token | matrix share | peak MiB | "
            f"training MiB{' on the GPU' * cuda} |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "Medians of the rounds, in brackets the lowest and the highest. `positions a token`: positions that go "
            f"through the network for each of the {tokens / draws:.0f} tokens of an example. `matrix share`: of the time "
            "taken, that of the linear layers' multiplications for those tokens alone, at the rates measured below. "
            + (
                "`peak`: the most that was allocated on the GPU; `training`: without what was there before the "
                "first step (the weights)."
                if cuda
                else "`peak`: the most memory of the process; `training`: without what it held right before the first "
                "step (libraries, weights, opened data)."
            ),
            "",
            f"Obverse is {faster['padded']} times as fast as `padded` and {faster['dynamic']} times as fast as "
            f"`dynamic`; they need {less['padded']:.2f} and {less['dynamic']:.2f} times its memory of training.",
            "",
            f"All arms and rounds agree: the losses of the {settings['steps']} steps ({first:.4f} to {last:.4f}) by "
            f"{differences['loss']:.1e} ({differences['loss_relative']:.1e} relative), their likelihood part by "
            f"{differences['likelihood']:.1e}, their unlikelihood part by {differences['unlikelihood']:.1e}, the "
            f"gradients' norms by {differences['norm_relative']:.1e} relative. Allowed are {content['tolerance']:g} "
            "relative, of losses and of norms.",
            "",
            "| matrix | GFLOP/s | GFLOP an example |",
            "|---|---:|---:|",
            *(f"| {n} x {m} | {rate_of[n, m] / 1e9:,.0f} | {flop / draws / 1e9:.2f} |" for n, m, flop in facts["work"]),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds p3/ and promptsource/")
    parser.add_argument("--steps", type=int, default=20, help="of each arm in each round, the warm-up included")
    parser.add_argument("--warmup", type=int, default=2, help="steps that are not timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=16, help="draws a step")
    parser.add_argument("--batch", type=int, default=4, help="draws of a micro-batch of the Trainer")
    parser.add_argument("--token-budget", type=int, default=4096, help="of a micro-batch of Obverse")
    parser.add_argument("--rate", type=float, help="instead of the recipe's")
    parser.add_argument("--model", choices=("t5", "mini"), default="t5")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    counts = (arguments.steps, arguments.warmup, arguments.rounds, arguments.examples, arguments.batch)
    if min(counts) < 1 or arguments.steps <= arguments.warmup or arguments.examples % arguments.batch:
        parser.error("numbers are from 1 up, steps more than the warm-up, examples a multiple of the batch")
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    settings["data"] = str(arguments.data.resolve())
    given = {k: v for k, v in settings.items() if k != "data" and v != parser.get_default(k)}
    table, figures = (arguments.output / f"training_speed.{ending}" for ending in ("md", "json"))
    try:
        if not arguments.data.is_dir():
            raise OutputError(
                "there is no such folder", where=str(arguments.data), mend="Name the data folder: --data."
            )
        arguments.output.mkdir(parents=True, exist_ok=True)
        for path in (table, figures):
            refuse_unwritable(path)
    except ObverseError as error:
        print(error, file=sys.stderr)
        return 2
    of = machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        print("preparing tokenizer, weights and token ids ..", flush=True)
        run_child("prepare", folder)
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        measured = run_child("rates", folder)
        rounds: list[dict[str, dict[str, Any]]] = []
        timings: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for number in range(settings["rounds"]):
            turn = number % len(ARMS)
            rounds.append({})
            for arm in (*ARMS[turn:], *ARMS[:turn]):
                found = rounds[-1][arm] = run_child(arm, folder)
                seconds = found["ends"][-1] - found["ends"][settings["warmup"] - 1]
                timings[arm].append(seconds)
                print(
                    f"round {number + 1}: {arm:8} {facts['timed_draws'] / seconds:6.2f} examples/s, peak "
                    f"{found['peak'] / MIB:6,.0f} MiB, {found['before'] / MIB:6,.0f} before training, "
                    f"loss {losses(found)[0]:.5f} to {losses(found)[-1]:.5f}",
                    flush=True,
                )
    everything = [found for each in rounds for found in each.values()]
    differences = largest_differences(rounds)
    tolerance = TOLERANCE[measured["device"]]
    faults = [
        f"the {what} of the arms differ by {differences[key]:.2e} relative, and at most {tolerance:g} is allowed"
        for what, key in (("losses", "loss_relative"), ("norms", "norm_relative"))
        if not differences[key] <= tolerance
    ]
    for key, what in (("digest", "weights"), ("threads", "numbers of threads")):
        if len({found[key] for found in everything}) > 1:
            faults.append(f"the arms began with different {what}")
    if faults:
        print("THE ARMS DO NOT AGREE, nothing is written:", *faults, sep="\n  ", file=sys.stderr)
        for arm, found in rounds[0].items():
            print(f"  {arm}: " + " ".join(f"{loss:.6f}" for loss in losses(found)), file=sys.stderr)
        return 1
    content: dict[str, Any] = {
        "machine": of,
        "device": measured["device"],
        "gpu": everything[0].get("gpu"),
        "threads": everything[0]["threads"],
        "given": given,
        "settings": {key: value for key, value in settings.items() if key != "data"},
        "facts": facts,
        "rates": measured["rates"],
        "tolerance": tolerance,
        "differences": differences,
        "summary": {},
    }
    text = report(content, rounds, timings)
    # Times of the clock have no beginning that means anything.
    content["rounds"] = [
        {arm: {**found, "ends": [end - found["ends"][0] for end in found["ends"]]} for arm, found in each.items()}
        for each in rounds
    ]
    try:
        write_text(table, text + "\n")
        write_json(figures, content)
    except ObverseError as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(sys.argv[2], Path(sys.argv[3])))
    sys.exit(main())
