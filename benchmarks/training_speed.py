"""Throughput and peak memory of Obverse's training loop against the usual way, on the same pairs.

    python benchmarks/training_speed.py --data DATA [--steps N] [--rounds N] [--model t5|mini] [--output docs/results]

Three arms do flipped learning with unlikelihood, from the same weights, with the same optimizer and the same draws:

* padded: `Seq2SeqTrainer`, the right and the wrong pairs of a micro-batch in two forward passes, a log-softmax over
  the whole logits (batch x time x vocabulary), every text padded to the recipe's lengths;
* dynamic: the same, padded to the longest text of each pass;
* obverse: `obverse.training.loop.train`.

The first two get the token ids that the third makes, ready made before the clock runs, while the third renders and
tokenises its draws as it goes. Each arm runs in a process of its own, in each round in another order. Losses and norms
of every step are compared: where they differ by more than TOLERANCE, nothing is written and the exit code is 1. It is
2 where the data folder or the output is not as it must be.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib.metadata
import json
import math
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# torch is imported in the children alone: the peak that a system tells of a child begins from its parent's memory.
from obverse.errors import ObverseError
from obverse.recipes.output_files import refuse_unwritable, write_json, write_text

ARMS = ("padded", "dynamic", "obverse")
RECIPE = "flipped-3b"  # lengths, optimizer, clipping and mixture
SEED = 0
TOLERANCE = {"cpu": 1e-3, "cuda": 2e-2}  # relative; on CUDA products are in bf16
WIDTH, INNER, LAYERS, HEADS = 256, 1024, 4, 4
VOCABULARY, PIECES, SENTINELS = 32_128, 32_000, 100
TOKENIZER_DRAWS = 20_000
IGNORED = -100
PACKAGES = ("obverse", "torch", "transformers", "accelerate", "tokenizers")
MIB = 1024 * 1024

Found = dict[str, Any]
"""What a child found, as it came through JSON."""


# What the children share


def open_mixture(data: str) -> tuple[Any, Any, list[str], tuple[str, ...]]:
    """The recipe, its mixture, the names of the sets in it, and of those that the data folder lacks."""
    from obverse.recipes.mixtures import training_sources
    from obverse.recipes.recipe import check_data, read_recipe
    from obverse.tasks.mixture import Mixture

    recipe, missing = check_data(read_recipe(RECIPE), Path(data), allow_missing=True)
    trained = training_sources(recipe.mixture, Path(data), seed=recipe.seed)
    rates = [each.rate for each in trained]
    temperature = recipe.mixture.temperature
    mixture = Mixture([each.source for each in trained], rates=rates, temperature=temperature, seed=recipe.seed)
    return recipe, mixture, [each.task for each in trained], missing


def build_network(settings: argparse.Namespace, recipe: Any, folder: Path) -> Any:
    """The network without dropout; its weights are the prepared ones, once they are there."""
    import torch

    from obverse.models.base import Conventions
    from obverse.models.precision import choose_device
    from obverse.models.seq2seq import Seq2SeqModel
    from obverse.training.network import Lengths, pair_network

    torch.manual_seed(SEED)
    if settings.model == "mini":
        from obverse.recipes.mini_base import mini_base
        from obverse.recipes.recipe import MINI_BASE, ModelPart

        part = ModelPart(MINI_BASE, slots="sentinels", dropout=0.0, decoder_layers=(1, 3, 5))
        model: Any = mini_base(part, device=settings.device)
    else:
        conventions = Conventions(eos="flipped", slots="sentinels")
        t5, tokenizer = t5_and_tokenizer(folder)
        model = Seq2SeqModel(t5.to(choose_device(settings.device)), tokenizer, name="t5", conventions=conventions)
    prepared = folder / "weights.pt"
    if prepared.exists():
        model.model.load_state_dict(torch.load(prepared, map_location=model.device, weights_only=True))
    return pair_network(model, lengths=Lengths(recipe.lengths.given, recipe.lengths.said))


def t5_and_tokenizer(folder: Path) -> tuple[Any, Any]:
    """A small T5 of version 1.1 (gated, the head untied) with seeded weights, and its words."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

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
    pieces = [(piece, score) for piece, score in json.loads((folder / "pieces.json").read_text(encoding="utf-8"))]
    pieces += [(f"<extra_id_{i}>", 0.0) for i in range(SENTINELS)]
    return model, T5Tokenizer(vocab=pieces, extra_ids=SENTINELS)


class Record:
    """What one arm leaves: when steps ended, their losses and norms, and the memory.

    The peak of the process is the system's. Pages of files are in it, which the system may take away meanwhile, so
    private memory is also looked at every few milliseconds.
    """

    def __init__(self, network: Any) -> None:
        import torch

        self.device = network.language_model.device
        self.ends: list[float] = []
        self.found: Found = {
            "digest": network.language_model.digest(),
            "threads": torch.get_num_threads(),
            "likelihood": [],
            "unlikelihood": [],
            "norm": [],
        }
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.found["gpu"] = torch.cuda.get_device_name(self.device)
            self.found["gpu_before"] = torch.cuda.memory_allocated(self.device)
        give_back()
        self.found["before"], self.found["private_before"] = memory()
        self._private = self.found["private_before"]
        self._done = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self._private = max(self._private, memory()[1])

    def step_ended(self) -> None:
        self.ends.append(time.perf_counter())
        # At every step, so that what comes after the last one (a checkpoint) is not in it.
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.found["peak"] = most * (1 if sys.platform == "darwin" else 1024)
        self.found["private_peak"] = self._private

    def close(self) -> Found:
        import torch

        self._done.set()
        if self.device.type == "cuda":
            self.found["gpu_peak"] = torch.cuda.max_memory_allocated(self.device)
        return {**self.found, "ends": [end - self.ends[0] for end in self.ends]}


def give_back() -> None:
    """Free what start-up has left and training would fill again; else it would be missing from what training takes."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # other libraries than glibc have no such function
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def memory() -> tuple[int, int]:
    """Bytes of this process in memory, and those of them that no file is behind (all, where the system tells not)."""
    import psutil

    info = psutil.Process().memory_info()
    return info.rss, info.rss - getattr(info, "shared", 0)


# Preparation


def prepare(settings: argparse.Namespace, folder: Path) -> Found:
    """Write what the arms begin from (pieces of the tokenizer, weights, token ids); what is known of the work."""
    import torch

    from obverse.objectives.objectives import flipped
    from obverse.seeds import stream

    recipe, mixture, names, missing = open_mixture(settings.data)
    if settings.model == "t5":
        train_pieces(mixture, folder)
    network = build_network(settings, recipe, folder)
    objective = flipped()
    if settings.model == "mini":
        from obverse.recipes.mini_base import prepare_mini

        prepare_mini(network, mixture, [objective], seed=SEED)
    torch.save(network.model.state_dict(), folder / "weights.pt")
    examples, batch, skipped = settings.examples, settings.batch, settings.warmup * settings.examples
    pairs = []
    for i in range(settings.steps * examples):
        draw, _ = network.fit(mixture.draw(i), objective)
        # By the loop's names of random streams, so that the wrong options are the same.
        pairs += objective.pairs(draw, i % examples, stream(SEED, "negatives", objective.name, i))
    rows = network.rows(pairs, 0)
    right, wrong = rows[::2], rows[1::2]
    assert len(right) == len(wrong) == settings.steps * examples
    assert all(row.gold for row in right) and not any(row.gold for row in wrong)
    draws = [{"right": (r.given, r.said), "wrong": (w.given, w.said)} for r, w in zip(right, wrong, strict=True)]
    (folder / "draws.json").write_text(json.dumps(draws), encoding="utf-8")

    def area(some: list[Any]) -> int:
        return len(some) * (max(len(row.given) for row in some) + max(len(row.said) for row in some))

    timed = range(skipped, len(right), batch)
    steps = [rows[2 * k : 2 * (k + examples)] for k in range(skipped, len(right), examples)]
    own = [some for step in steps for some in network.micro_batches(step, token_budget=settings.token_budget)]
    given, said = (sum(len(getattr(row, side)) for row in rows[2 * skipped :]) for side in ("given", "said"))
    lengths, model = network.lengths, network.language_model
    return {
        "sets": names,
        "missing": [name.split(",")[0] for name in missing],
        "start": model.frame.start,
        "fill": model.tokenizer.pad_token_id,
        "lengths": [lengths.given, lengths.said],
        "optimizer": recipe.optimizer.name,
        "rate": settings.rate or recipe.optimizer.rate,
        "clip": recipe.optimizer.clip,
        "unlikelihood": objective.unlikelihood,
        "parameters": sum(p.numel() for p in network.model.parameters()),
        "vocabulary": model.network.vocabulary,
        "timed_draws": len(right) - skipped,
        "tokens": given + said,
        "positions": {
            "padded": 2 * (len(right) - skipped) * (lengths.given + lengths.said),
            "dynamic": sum(area(side[k : k + batch]) for k in timed for side in (right, wrong)),
            "obverse": sum(map(area, own)),
        },
        "work": multiplications(network.model, given, said),
    }


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
        of_read = r"encoder\.|.*EncDecAttention\.[kv]$|.*crossattention\.self\.(key|value)$"
        shape = (layer.in_features, layer.out_features)
        products = 2 + layer.weight.requires_grad
        tokens = given if re.match(of_read, name) else said
        work[shape] = work.get(shape, 0.0) + 2 * products * shape[0] * shape[1] * tokens
    return [(n, m, flop) for (n, m), flop in sorted(work.items())]


def matrix_rates(settings: argparse.Namespace, folder: Path) -> Found:
    """Device, and FLOP/s of a linear layer of each shape that the work has, in the number type of training."""
    import torch

    from obverse.models.precision import choose_device, choose_dtype

    device = choose_device(settings.device)
    kind, on_cpu = choose_dtype(device), device.type == "cpu"
    rates = []
    for n, m, _ in read(folder, "prepare")["work"]:
        # On a processor the head runs on few rows at a time, as everywhere where logits are to stay in cache.
        rows = (256 if m > 20_000 else 2_048) if on_cpu else 8_192
        layer = torch.nn.Linear(n, m, bias=False, device=device, dtype=kind)
        states = torch.randn(rows, n, device=device, dtype=kind)
        repeat = max(1, int((4e9 if on_cpu else 4e12) / (2 * rows * n * m)))
        seconds = []
        for _ in range(6):
            began = time.perf_counter()
            with torch.inference_mode():
                for _ in range(repeat):
                    layer(states)
            if not on_cpu:
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
        rates.append((n, m, repeat * 2 * rows * n * m / statistics.median(seconds[1:])))
    return {"device": device.type, "rates": rates}


# The arms


def run_obverse(settings: argparse.Namespace, folder: Path) -> Found:
    """Obverse's loop; draws are made as it goes, as in `obverse train`."""
    from obverse.objectives.objectives import flipped
    from obverse.seeds import stream
    from obverse.training.loop import TrainingSettings, train
    from obverse.training.optimizers import OptimizerSettings
    from obverse.training.watch import Watcher

    facts = read(folder, "prepare")
    recipe, mixture, _, _ = open_mixture(settings.data)
    for source in mixture.sources:
        source.draw(stream(SEED, "opened", source.name))  # files are opened here, and not in a step
    network = build_network(settings, recipe, folder)
    record = Record(network)

    class Recorder(Watcher):
        def step(self, step: int, parts: Any, *, norm: float, **_: Any) -> None:
            record.step_ended()
            for term in ("likelihood", "unlikelihood"):
                record.found[term].append(parts[f"flipped/{term}"])
            record.found["norm"].append(norm)

    chosen = TrainingSettings(
        steps=settings.steps,
        examples_per_step=settings.examples,
        optimizer=OptimizerSettings(facts["optimizer"], facts["rate"]),
        token_budget=settings.token_budget,
        seed=SEED,
        clip=facts["clip"],
        save_every=settings.steps,
    )
    train(network, mixture, [flipped()], chosen, output=folder / "run", watcher=Recorder(), fingerprint={})
    return record.close()


def run_trainer(settings: argparse.Namespace, folder: Path, *, dynamic: bool) -> Found:
    """`Seq2SeqTrainer` on the prepared token ids, in their order."""
    import torch
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    from obverse.models.precision import choose_dtype
    from obverse.recipes.recipe import read_recipe

    facts, draws = read(folder, "prepare"), read(folder, "draws")
    network = build_network(settings, read_recipe(RECIPE), folder)
    device = network.language_model.device
    batches = settings.examples // settings.batch  # a step
    given, said = (None, None) if dynamic else facts["lengths"]

    def padded(rows: list[list[int]], filler: int, width: int | None) -> torch.Tensor:
        width = width or max(map(len, rows))
        return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])

    def collate(some: list[Any]) -> dict[str, dict[str, torch.Tensor]]:
        return {
            side: {
                "input_ids": padded([draw[side][0] for draw in some], facts["fill"], given),
                "attention_mask": padded([[1] * len(draw[side][0]) for draw in some], 0, given),
                "decoder_input_ids": padded(
                    [[*facts["start"], *draw[side][1][:-1]] for draw in some], facts["fill"], said
                ),
                "labels": padded([draw[side][1] for draw in some], IGNORED, said),
            }
            for side in ("right", "wrong")
        }

    record = Record(network)
    parts: list[torch.Tensor] = []

    class Trainer(Seq2SeqTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            likelihood = token_mean(-token_log_probs(model, inputs["right"]), inputs["right"]["labels"]).mean()
            unlikely = -torch.log(1 - token_log_probs(model, inputs["wrong"]).exp() + 0.01)
            unlikelihood = facts["unlikelihood"] * token_mean(unlikely, inputs["wrong"]["labels"]).mean()
            parts.append(torch.stack([likelihood, unlikelihood]).detach())
            loss = likelihood + unlikelihood
            return (loss, None) if return_outputs else loss

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(draws)

    class Recorder(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            record.step_ended()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "grad_norm" in logs:
                record.found["norm"].append(logs["grad_norm"])

    trainer = Trainer(
        model=network.model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(folder / "run"),
            max_steps=settings.steps,
            per_device_train_batch_size=settings.batch,
            gradient_accumulation_steps=batches,
            optim=facts["optimizer"],  # without relative steps and scaling, as the recipe has it
            learning_rate=facts["rate"],
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=facts["clip"],
            bf16=choose_dtype(device) == torch.bfloat16,
            use_cpu=device.type == "cpu",
            dataloader_pin_memory=device.type == "cuda",
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
            save_strategy="no",
            remove_unused_columns=False,
            seed=SEED,
        ),
        train_dataset=draws,
        data_collator=collate,
        callbacks=[Recorder()],
    )
    # The loss above is a micro-batch's mean, all of one size: the trainer is to divide it by their number.
    trainer.model_accepts_loss_kwargs = False
    trainer.train()
    by_step = torch.stack(parts).double().view(settings.steps, batches, 2).mean(1).T.tolist()
    record.found["likelihood"], record.found["unlikelihood"] = by_step
    return record.close()


def token_log_probs(model: Any, pair: Any) -> Any:
    """log P of each label (batch, time), from the softmax over the whole vocabulary."""
    labels = pair["labels"]
    logits = model(**{key: value for key, value in pair.items() if key != "labels"}, use_cache=False).logits
    return logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]


def token_mean(values: Any, labels: Any) -> Any:
    """Mean over each row's tokens."""
    mask = labels != IGNORED
    return (values * mask).sum(1) / mask.sum(1)


# Processes


def read(folder: Path, name: str) -> Any:
    """What a part has left in the folder."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def child(name: str, folder: Path) -> int:
    """One of the parts, in this process."""
    import torch

    # Obverse's loop does so by itself; here for all arms, before any tensor is made.
    torch.set_flush_denormal(True)
    settings = argparse.Namespace(**read(folder, "settings"))
    parts: dict[str, Callable[[], Found]] = {
        "prepare": lambda: prepare(settings, folder),
        "rates": lambda: matrix_rates(settings, folder),
        "padded": lambda: run_trainer(settings, folder, dynamic=False),
        "dynamic": lambda: run_trainer(settings, folder, dynamic=True),
        "obverse": lambda: run_obverse(settings, folder),
    }
    try:
        found = parts[name]()
    except ObverseError as error:
        print(error, file=sys.stderr)
        return 2
    (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    return 0


def run_child(name: str, folder: Path) -> Found:
    """A part in a process of its own; what it found."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    # One GPU for all; and no more threads for tokenising than for the rest.
    surroundings = {"CUDA_VISIBLE_DEVICES": "0", "TRANSFORMERS_VERBOSITY": "error", **os.environ}
    if "OMP_NUM_THREADS" in os.environ:
        surroundings.setdefault("RAYON_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    command = [sys.executable, str(Path(__file__).resolve()), "--child", name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings)
    if done.returncode:
        print(done.stderr.strip() or f"{name} ended with exit code {done.returncode}", file=sys.stderr)
        raise SystemExit(2 if done.returncode == 2 else 1)
    return read(folder, name)


# What came of it


def losses(found: Found) -> list[float]:
    """Of each step, both terms together."""
    return [a + b for a, b in zip(found["likelihood"], found["unlikelihood"], strict=True)]


def largest_differences(everything: list[Found], of: Found) -> dict[str, float]:
    """Between any arm in any round and one of them."""
    curves = [{**each, "loss": losses(each)} for each in everything]
    base = {**of, "loss": losses(of)}
    out = {}
    for key in ("loss", "likelihood", "unlikelihood", "norm"):
        pairs = [pair for curve in curves for pair in zip(curve[key], base[key], strict=True)]
        gaps = [(abs(a - b), abs(b)) if math.isfinite(a) else (math.inf, 1.0) for a, b in pairs]
        out[key] = max(gap for gap, _ in gaps)
        out[f"{key}_relative"] = max(gap / size for gap, size in gaps)
    return out


def disagreement(everything: list[Found], differences: dict[str, float], tolerance: float) -> list[str]:
    """What is not as it must be for speeds to be compared."""
    faults = [
        f"{name}s differ by {differences[f'{name}_relative']:.2e} relative, and at most {tolerance:g} is allowed"
        for name in ("loss", "norm")
        if not differences[f"{name}_relative"] <= tolerance
    ]
    faults += [
        f"they began with different {key}" for key in ("digest", "threads") if len({e[key] for e in everything}) > 1
    ]
    return faults


def machine() -> Found:
    """What it ran on."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return {
        "processor": named[1] if named else platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
    }


def summarised(content: Found, rounds: list[dict[str, Found]]) -> dict[str, Found]:
    """The figures of each arm, one of each round: speed, memory, and both against Obverse's of the same round."""
    draws, warmup = content["facts"]["timed_draws"], content["settings"]["warmup"]
    on_gpu = "gpu_" if content["device"] == "cuda" else ""
    private = on_gpu or "private_"
    summary: dict[str, Found] = {}
    for arm in ARMS:
        found = [each[arm] for each in rounds]
        summary[arm] = {
            "examples_per_second": [draws / (f["ends"][-1] - f["ends"][warmup - 1]) for f in found],
            "peak_mib": [f[f"{on_gpu}peak"] / MIB for f in found],
            "training_mib": [(f[f"{on_gpu}peak"] - f[f"{on_gpu}before"]) / MIB for f in found],
            "private_mib": [(f[f"{private}peak"] - f[f"{private}before"]) / MIB for f in found],
        }
    own = summary["obverse"]
    for arm in ARMS:
        one = summary[arm]
        pairs = zip(own["examples_per_second"], one["examples_per_second"], strict=True)
        one["obverse_is_faster"] = [a / b for a, b in pairs]
        for key in ("training_mib", "private_mib"):
            one[f"{key}_of_obverse"] = [a / b for a, b in zip(one[key], own[key], strict=True)]
    return summary


def spread(values: list[float], form: str = ".2f") -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def report(content: Found) -> str:
    """The tables, and what must be known to read them."""
    settings, facts, differences = content["settings"], content["facts"], content["differences"]
    of, summary, curve = content["machine"], content["summary"], losses(content["rounds"][0]["obverse"])
    cuda = content["device"] == "cuda"
    draws, tokens, (given, said) = facts["timed_draws"], facts["tokens"], facts["lengths"]
    rates = {(n, m): rate for n, m, rate in content["rates"]}
    least = sum(flop / rates[n, m] for n, m, flop in facts["work"])
    model = (
        f"a T5 of version 1.1 with seeded weights, {WIDTH} wide, {LAYERS} + {LAYERS} layers"
        if settings["model"] == "t5"
        else "the base of obverse-mini, its embeddings frozen"
    )
    missing = f" (the folder lacks {', '.join(facts['missing'])})" if facts["missing"] else ""
    where = f"{of['processor']}, {of['cores']} cores" + (f", {content['gpu']}" if cuda else "")
    extras = "".join(f" --{key.replace('_', '-')} {value}" for key, value in content["given"].items())
    lines = [
        "# Speed and memory of training",
        "",
        f"{where}; threads: {content['threads']}; {'bf16' if cuda else 'fp32'}; load before the run "
        f"{of['load_before']:.1f}. " + ", ".join(f"{name} {version}" for name, version in of["versions"].items()) + ".",
        f"Command: `python benchmarks/training_speed.py --data DATA{extras}`.",
        "",
        f"Flipped learning with unlikelihood as in the recipe {RECIPE}, on {len(facts['sets'])} of its sets{missing}.",
        f"Model: {model}, {facts['parameters']:,} parameters, a vocabulary of {facts['vocabulary']:,}; no dropout.",
        f"Each step: {settings['examples']} examples, a right and a wrong pair each; {facts['optimizer']}, rate "
        f"{facts['rate']:g}, gradients clipped to {facts['clip']:g}.",
        f"Steps: {settings['steps']}, the first {settings['warmup']} not timed. Rounds: {settings['rounds']}, each in "
        "another order, each arm in a process of its own.",
        "",
        f"* `padded`: `Seq2SeqTrainer`, micro-batches of {settings['batch']} examples, right and wrong pairs in two "
        "forward passes,",
        f"  a log-softmax over the whole logits, texts padded to {given} and {said} tokens. Token ids are ready made.",
        "* `dynamic`: the same, padded to the longest text of each pass.",
        "* `obverse`: `obverse.training.loop.train`, micro-batches of at most "
        f"{settings['token_budget']:,} padded tokens. It renders and",
        "  tokenises its draws within the time.",
        "",
        "| arm | examples/s | obverse is faster | positions a token | matrix share | peak MiB | training MiB | "
        "of obverse's | private MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm, found in summary.items():
        share = least * statistics.median(found["examples_per_second"]) / draws
        cells = [
            arm,
            spread(found["examples_per_second"]),
            f"{spread(found['obverse_is_faster'])} x",
            f"{facts['positions'][arm] / tokens:.2f}",
            f"{100 * share:.0f} %",
            f"{statistics.median(found['peak_mib']):,.0f}",
            spread(found["training_mib"], ",.0f"),
            f"{statistics.median(found['training_mib_of_obverse']):.2f} x",
            spread(found["private_mib"], ",.0f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Medians of the rounds, in brackets the lowest and the highest.",
        f"`positions a token`: positions computed for each of an example's {tokens / draws:.0f} tokens.",
        "`matrix share`: of the time taken, that of the linear layers' multiplications for those tokens alone, at the",
        "rates below.",
        "`peak`: the most that was allocated on the GPU. `training` and `private`: less what was there before."
        if cuda
        else "`peak`: the most memory of the process. `training`: less what it held right before the first step. "
        "`private`: as `training`, without pages of files, looked at every 5 ms.",
        "",
        f"Over all arms and rounds, the losses of the {settings['steps']} steps ({curve[0]:.4f} to {curve[-1]:.4f}) "
        f"differ by at most {differences['loss']:.1e}, {differences['loss_relative']:.1e} relative;",
        f"their likelihood part by {differences['likelihood']:.1e}, their unlikelihood part by "
        f"{differences['unlikelihood']:.1e}; norms of gradients by {differences['norm_relative']:.1e} relative. "
        f"Allowed: {content['tolerance']:g} relative.",
        "",
        "| matrix | GFLOP/s | GFLOP an example |",
        "|---|---:|---:|",
    ]
    lines += [f"| {n} x {m} | {rates[n, m] / 1e9:,.0f} | {flop / draws / 1e9:.2f} |" for n, m, flop in facts["work"]]
    return "\n".join(lines) + "\n"


def asked() -> tuple[argparse.Namespace, Found]:
    """The arguments, and those that are not the default's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder that holds p3/ and promptsource/")
    parser.add_argument("--steps", type=int, default=20, help="of each arm in each round, the warm-up included")
    parser.add_argument("--warmup", type=int, default=2, help="steps that are not timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=16, help="draws a step")
    parser.add_argument("--batch", type=int, default=4, help="draws of a micro-batch of the Trainer")
    parser.add_argument("--token-budget", type=int, default=1024, help="of a micro-batch of Obverse")
    parser.add_argument("--rate", type=float, help="instead of the recipe's")
    parser.add_argument("--model", choices=("t5", "mini"), default="t5")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    found = parser.parse_args()
    counts = (found.steps, found.warmup, found.rounds, found.examples, found.batch, found.token_budget)
    if min(counts) < 1 or found.steps <= found.warmup or found.examples % found.batch:
        parser.error("numbers are from 1 up, steps more than the warm-up, examples a multiple of the batch")
    own = {k: v for k, v in vars(found).items() if k not in ("data", "output") and v != parser.get_default(k)}
    return found, own


def main() -> int:
    arguments, own = asked()
    table, figures = (arguments.output / f"training_speed.{ending}" for ending in ("md", "json"))
    try:
        for path in (table, figures):
            refuse_unwritable(path)
    except ObverseError as error:
        print(error, file=sys.stderr)
        return 2
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the child and the folder go as well
    content: Found = {"machine": machine(), "given": own}
    rounds: list[dict[str, Found]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        print("preparing tokenizer, weights and token ids ..", flush=True)
        content["facts"] = run_child("prepare", folder)
        content |= run_child("rates", folder)
        for number in range(arguments.rounds):
            turn = number % len(ARMS)
            rounds.append({})
            for arm in (*ARMS[turn:], *ARMS[:turn]):
                print(f"round {number + 1} of {arguments.rounds}: {arm:8}", end=" ", flush=True)
                found = rounds[-1][arm] = run_child(arm, folder)
                seconds, curve = found["ends"][-1] - found["ends"][arguments.warmup - 1], losses(found)
                print(
                    f"{content['facts']['timed_draws'] / seconds:6.2f} examples/s, peak {found['peak'] / MIB:6,.0f} "
                    f"MiB, {found['before'] / MIB:6,.0f} before, loss {curve[0]:.5f} to {curve[-1]:.5f}",
                    flush=True,
                )
    everything = [found for each in rounds for found in each.values()]
    content["tolerance"] = TOLERANCE[content["device"]]
    content["differences"] = largest_differences(everything, rounds[0]["obverse"])
    if faults := disagreement(everything, content["differences"], content["tolerance"]):
        print("THE ARMS DO NOT AGREE, nothing is written:", *faults, sep="\n  ", file=sys.stderr)
        for arm, found in rounds[0].items():
            print(f"  {arm}: " + " ".join(f"{loss:.6f}" for loss in losses(found)), file=sys.stderr)
        return 1
    content |= {
        "settings": {key: value for key, value in settings.items() if key != "data"},
        "gpu": everything[0].get("gpu"),
        "threads": everything[0]["threads"],
        "rounds": rounds,
    }
    content["summary"] = summarised(content, rounds)
    text = report(content)
    print(text)
    try:
        write_text(table, text)
        write_json(figures, content)
    except ObverseError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(sys.argv[2], Path(sys.argv[3])))
    sys.exit(main())
