"""The one training loop: draws from a mixture, pairs from objectives, a step, a checkpoint.

A checkpoint is a folder that appears whole; the state of the data is one integer (the step), so a resumed run sees
exactly the draws that an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from obverse.errors import ObverseError, OutputError
from obverse.objectives.objectives import Objective
from obverse.seeds import stream
from obverse.tasks.mixture import Draw, Mixture
from obverse.training.batches import token_log_probs, tokenize


class Diverged(ObverseError):
    """The loss is no longer a number."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate's factor: a linear warm-up, a level, a linear decay to 0 over the last steps."""

    steps: int
    warmup_steps: int
    decay_steps: int

    def factor(self, step: int) -> float:
        """For step 0 to `steps - 1`."""
        up = (step + 1) / max(1, self.warmup_steps)
        down = (self.steps - step) / max(1, self.decay_steps)
        return max(0.0, min(1.0, up, down))


@dataclass(frozen=True, slots=True)
class Lengths:
    """The most tokens of each side, special tokens included."""

    given: int
    said: int


@dataclass(slots=True)
class TrainingState:
    """What a checkpoint holds besides the weights."""

    step: int = 0
    best_score: float = -1.0
    best_step: int = -1


def train(
    model: Any,
    tokenizer: Any,
    mixture: Mixture,
    objectives: Sequence[Objective],
    *,
    output: Path,
    groups: Sequence[dict[str, Any]],
    schedule: Schedule,
    draws_per_step: int,
    lengths: Lengths,
    special: Mapping[str, int],
    clip: float = 1.0,
    seed: int = 0,
    prior: Callable[[Sequence[Draw]], list[list[float]]] | None = None,
    resume: bool = False,
    evaluate: Callable[[], float] | None = None,
    evaluate_every: int = 250,
    save_every: int = 100,
    say: Callable[[str], None] = print,
    stop_after: float | None = None,
) -> TrainingState:
    """Run the loop to the schedule's end, or until `stop_after` seconds have passed.

    Args:
        output: run folder; receives `log.jsonl`, `last/` and `best/` (weights, optimiser, state).
        groups: AdamW parameter groups (`params`, `lr`, `weight_decay`).
        special: token ids `start` and `sink`.
        prior: what is known of each option beforehand, in nats; see `Objective.loss`.
        evaluate: the score that chooses the best checkpoint (higher is better).

    Raises:
        Diverged: the loss is NaN or infinite; names the step and the examples.
        OutputError: the folder holds a run and `resume` is not set.
    """
    output.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    state = TrainingState()
    last = output / "last"
    if last.exists():
        if not resume:
            raise OutputError("holds a training run already", where=str(output), mend="--resume goes on with it.")
        state = load_checkpoint(last, model, optimizer)
        say(f"going on from step {state.step}")
    began = time.monotonic()
    window: list[dict[str, float]] = []
    window_began = time.monotonic()
    with (output / "log.jsonl").open("a", encoding="utf-8") as log:
        while state.step < schedule.steps:
            step = state.step
            model.train()
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule.factor(step)
            torch.manual_seed(seed * 1_000_003 + step)  # dropout depends on the step alone, so a resumed run repeats it
            draws = [mixture.draw(step * draws_per_step + i) for i in range(draws_per_step)]
            parts = step_losses(
                model, tokenizer, draws, objectives, lengths, special, seed=seed, step=step, prior=prior
            )
            loss = torch.stack(list(parts.values())).sum()
            if not bool(torch.isfinite(loss)):
                raise Diverged(
                    f"the loss is {float(loss.detach())} at step {step}",
                    where=str(output),
                    mend=f"Lower the rates; the draws were {', '.join(d.example_id for d in draws)}.",
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], clip)
            optimizer.step()
            state.step += 1
            window.append({name: float(value.detach()) for name, value in parts.items()} | {"norm": float(norm)})
            if state.step % 20 == 0:
                means = {name: sum(w[name] for w in window if name in w) / len(window) for name in window[-1]}
                rate = len(window) * draws_per_step / (time.monotonic() - window_began)
                log.write(json.dumps({"step": state.step, **means, "draws_per_second": rate}) + "\n")
                log.flush()
                left = (schedule.steps - state.step) * draws_per_step / rate
                say(
                    f"step {state.step}/{schedule.steps}  "
                    + "  ".join(f"{name} {value:.3f}" for name, value in means.items())
                    + f"  {rate:.1f} draws/s  {left / 60:.0f} min left"
                )
                window, window_began = [], time.monotonic()
            finished = state.step == schedule.steps
            if evaluate is not None and (state.step % evaluate_every == 0 or finished):
                score = evaluate()
                log.write(json.dumps({"step": state.step, "held_out": score}) + "\n")
                log.flush()
                if score >= state.best_score:
                    state.best_score, state.best_step = score, state.step
                    save_checkpoint(output / "best", model, None, state)
                window, window_began = [], time.monotonic()
            out_of_time = stop_after is not None and time.monotonic() - began > stop_after
            if state.step % save_every == 0 or finished or out_of_time:
                save_checkpoint(last, model, optimizer, state)
            if out_of_time:
                say(f"stopped at step {state.step} after {stop_after:.0f} s; resume goes on")
                break
    return state


def step_losses(
    model: Any,
    tokenizer: Any,
    draws: Sequence[Draw],
    objectives: Sequence[Objective],
    lengths: Lengths,
    special: Mapping[str, int],
    *,
    seed: int,
    step: int,
    prior: Callable[[Sequence[Draw]], list[list[float]]] | None = None,
) -> dict[str, torch.Tensor]:
    """Every objective's weighted terms over the same draws, named `direction/term`."""
    parts = {}
    known = None
    if prior is not None:
        # Every other draw goes without, so that each direction also learns to stand alone.
        alone = [stream(seed, "prior", step, group).random() < 0.5 for group in range(len(draws))]
        known = [[0.0] * len(d.options) if a else row for d, a, row in zip(draws, alone, prior(draws), strict=True)]
    for objective in objectives:
        name = objective.direction.name
        pairs = [
            pair
            for group, draw in enumerate(draws)
            for pair in objective.pairs(draw, group, stream(seed, "negatives", name, step, group))
        ]
        tokens = tokenize(tokenizer, pairs, given_limit=lengths.given, said_limit=lengths.said)
        log_probs, sinks, mask = token_log_probs(model, tokens, start=special["start"], sink=special["sink"])
        gold = torch.tensor(tokens.gold, device=log_probs.device)
        group = torch.tensor(tokens.group, device=log_probs.device)
        beforehand = (
            None
            if known is None
            else torch.tensor([known[pair.group][pair.option] for pair in pairs], device=log_probs.device)
        )
        for term, value in objective.loss(log_probs, sinks, mask, gold, group, beforehand).items():
            parts[f"{name}/{term}"] = value
    return parts


def save_checkpoint(folder: Path, model: Any, optimizer: torch.optim.Optimizer | None, state: TrainingState) -> None:
    """Write beside, then put in place: the folder is always either the old one or the new one."""
    from safetensors.torch import save_file

    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    weights = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(weights, fresh / "trained.safetensors")
    if optimizer is not None:
        torch.save(optimizer.state_dict(), fresh / "optimizer.pt")
    (fresh / "state.json").write_text(
        json.dumps({"step": state.step, "best_score": state.best_score, "best_step": state.best_step})
    )
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path, model: Any, optimizer: torch.optim.Optimizer | None = None) -> TrainingState:
    """Weights (and the optimiser's moments) back in place.

    Raises:
        OutputError: the checkpoint belongs to a model of another shape.
    """
    from safetensors.torch import load_file

    weights = load_file(folder / "trained.safetensors")
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if {n: tuple(w.shape) for n, w in weights.items()} != {n: tuple(p.shape) for n, p in wanted.items()}:
        raise OutputError("the checkpoint belongs to a model of another shape or another recipe", where=str(folder))
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(weights[name])
    if optimizer is not None and (folder / "optimizer.pt").exists():
        optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    raw = json.loads((folder / "state.json").read_text())
    return TrainingState(raw["step"], raw["best_score"], raw["best_step"])
