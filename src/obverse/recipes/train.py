"""`obverse train` by a recipe: the model, what it is asked, the loop, and what is left behind.

A run's folder holds `recipe.toml` (every setting written out), `log.jsonl`, checkpoints, and at the end `model` (the
weights of the best evaluation, or the last, as a plain transformers folder), its card and a picture of the losses.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from obverse.errors import RecipeError
from obverse.metrics.intervals import wilson
from obverse.models.base import LanguageModel
from obverse.models.checkpoints import load_model
from obverse.objectives.objectives import Objective
from obverse.recipes.bundled import build_sources, choosing_draws
from obverse.recipes.mixtures import Trained, held_out_draws, training_sources
from obverse.recipes.output_files import write_text
from obverse.recipes.recipe import (
    MINI_BASE,
    MINI_ENCODER,
    ObjectivePart,
    Recipe,
    check_data,
    fingerprint,
    read_recipe,
    resolved_toml,
)
from obverse.reports.training import DataFacts, ModelFacts, ScoreFacts, draw_training, model_card
from obverse.tasks.directions import Channel, Direction, Similarity, direction
from obverse.tasks.exemplars import ExemplarSource, Window
from obverse.tasks.mixture import Draw, Mixture

_COUNTED_DRAWS = 20_000  # of the first draws, to say how often each set was seen; beyond them in proportion


@dataclass(frozen=True)
class TrainSettings:
    """What `obverse train` was asked to do; names as on the command line."""

    recipe: str
    data: Path
    output: Path
    overrides: tuple[str, ...] = ()
    resume: bool = False
    allow_missing: bool = False
    allow_pickle: bool = False
    stop_after_minutes: float | None = None
    device: str | None = None


@dataclass(frozen=True)
class TrainOutcome:
    """What a run came to.

    Attributes:
        steps: how many were done in all.
        of: how many the recipe asks for.
        model: the finished model's folder; None where the run is not at its end.
        scores: of the weights that were kept.
    """

    steps: int
    of: int
    model: Path | None
    scores: dict[str, float]
    picture: Path | None = None


def train_recipe(
    settings: TrainSettings, *, say: Callable[[str], None], model: LanguageModel | None = None
) -> TrainOutcome:
    """Train by a recipe.

    Args:
        say: told a line at a time, before and after the loop.
        model: trained in place of the recipe's base (for tests).

    Raises:
        ObverseError: everything that is wrong with recipe, data, model or output, before any time is spent; a loss
            that runs away; a full disk; a stop asked for.
    """
    recipe = read_recipe(settings.recipe, overrides=settings.overrides)
    recipe, missing = check_data(recipe, settings.data, allow_missing=settings.allow_missing)
    if missing:
        say(f"not in {settings.data}, left out: {', '.join(missing)}")
    marks: dict[str, object] = fingerprint(recipe)

    from obverse.training.checkpoints import check_output
    from obverse.training.loop import denormals_flushed

    check_output(settings.output, fingerprint=marks, resume=settings.resume)
    # Worker threads take this over from the thread that starts them, so it comes before any tensor.
    with denormals_flushed():
        return _train(recipe, settings, marks, missing, model or _base(recipe, settings), say)


def _train(
    recipe: Recipe,
    settings: TrainSettings,
    marks: dict[str, object],
    missing: Sequence[str],
    model: LanguageModel,
    say: Callable[[str], None],
) -> TrainOutcome:
    """Everything after the checks."""
    from obverse.models.precision import choose_device
    from obverse.training.checkpoints import Keeper
    from obverse.training.loop import Evaluation, TrainingSettings, train
    from obverse.training.network import (
        Lengths,
        draw_towards,
        pair_network,
        save_pretrained,
        trainable_weights,
    )
    from obverse.training.optimizers import OptimizerSettings
    from obverse.training.processes import join_processes
    from obverse.training.sharding import ready_to_score
    from obverse.training.watch import ChanceLevels, JsonLog, Progress, TensorBoardLog, Watchers

    conventions = model.conventions
    slots = recipe.model.slots or conventions.slots
    _check_sentinels(recipe, model, slots)
    objectives = [build_objective(part, slots) for part in recipe.objectives]
    trained, draws = _sources(recipe, model, settings.data)
    mixture = Mixture(
        [each.source for each in trained],
        rates=[each.rate for each in trained],
        temperature=recipe.mixture.temperature if recipe.mixture else 1.0,
        seed=recipe.seed,
    )
    say(_announcement(recipe, model, trained))
    if recipe.model.lora is not None:
        from obverse.training.adapters import LoraSettings, add_adapters

        part = recipe.model.lora
        add_adapters(model, LoraSettings(part.rank, part.alpha, part.dropout, part.targets), seed=recipe.seed)
    network = pair_network(
        model,
        lengths=Lengths(recipe.lengths.given, recipe.lengths.said),
        truncation=recipe.lengths.truncation,
        gradient_checkpointing=recipe.model.gradient_checkpointing,
        compiled=recipe.model.compile,
    )
    if recipe.model.dropout is not None:
        _set_dropout(network, recipe.model.dropout)
    prior = None
    if recipe.model.base == MINI_BASE:
        from obverse.recipes.mini_base import prepare_mini

        prior = prepare_mini(network, mixture, objectives, seed=recipe.seed, prior=recipe.prior)
    # A resumed run is here at the base too: its checkpoint is read by the loop.
    before = trainable_weights(network) if recipe.model.trained_share < 1 else {}
    chance = ChanceLevels(*_chance(draws, objectives))
    watcher = Watchers(
        [
            Progress(chance=chance),
            JsonLog(settings.output / "log.jsonl", chance=chance),
            TensorBoardLog(settings.output / "tensorboard", say=say, chance=chance),
        ]
    )
    held_out = recipe.held_out

    def evaluate() -> Evaluation:
        scores = held_out_accuracy(network, draws, objectives)
        return Evaluation(scores, sum(scores.values()) / len(scores))

    settings.output.mkdir(parents=True, exist_ok=True)
    write_text(settings.output / "recipe.toml", resolved_toml(recipe))
    moves = recipe.optimizer
    began = time.monotonic()
    state = train(
        network,
        mixture,
        objectives,
        TrainingSettings(
            steps=recipe.steps,
            examples_per_step=recipe.examples_per_step,
            optimizer=OptimizerSettings(
                moves.name,
                moves.rate,
                moves.weight_decay,
                moves.rates,
                moves.warmup_steps,
                moves.decay_steps,
                moves.scale_parameter,
            ),
            token_budget=recipe.token_budget,
            seed=recipe.seed,
            clip=moves.clip,
            save_every=recipe.save.every,
            evaluate_every=held_out.every if held_out else recipe.save.every,
            keep_last=recipe.save.keep,
            patience=held_out.patience if held_out else None,
            stop_after_s=None if settings.stop_after_minutes is None else 60 * settings.stop_after_minutes,
            precision=recipe.model.precision,
            prior_share=recipe.prior_share,
            sharded=recipe.model.sharded,
        ),
        output=settings.output,
        watcher=watcher,
        fingerprint=marks,
        evaluate=evaluate if draws else None,
        prior=prior,
        resume=settings.resume,
        device=choose_device(settings.device) if recipe.model.sharded else None,
    )
    # From here on all processes do the same, and the main one alone writes.
    processes = join_processes(network.language_model.device)
    picture = settings.output / "training.png"
    processes.on_main(draw_training, settings.output / "log.jsonl", picture)
    patience = held_out.patience if held_out else None
    early = patience is not None and state.evaluations_without_gain >= patience
    if state.step < recipe.steps and not early:
        return TrainOutcome(state.step, recipe.steps, None, {}, picture)
    best = None
    if draws:
        with contextlib.ExitStack() as stack:
            keeper = Keeper(
                settings.output,
                fingerprint=marks,
                resume=True,
                keep_last=recipe.save.keep,
                writes=processes.is_main,
            )
            processes.main_first(stack.enter_context, keeper)
            best = processes.together(keeper.load_best, network)
    if recipe.model.trained_share < 1:
        draw_towards(network, before, share=1 - recipe.model.trained_share)
    with ready_to_score(network):
        scores = held_out_accuracy(network, draws, objectives) if draws else {}
    conventions = replace(
        conventions,
        slots=slots,
        method=objectives[0].direction.name,
        trained=tuple(dict.fromkeys(o.direction.name for o in objectives)),
        temperatures={},
        blend={},
        datasets=recipe.trained_sets,
    )
    folder = settings.output / "model"
    # Of an earlier end of the same run; the checkpoint is still there.
    processes.on_main(shutil.rmtree, folder, ignore_errors=True)
    processes.together(save_pretrained, network, folder, conventions=conventions, writes=processes.is_main)
    facts = _facts(recipe, settings, trained, missing, network, mixture)
    facts = replace(
        facts,
        steps=state.step,
        examples=state.draws_seen,
        tokens=state.tokens_seen,
        best_step=None if best is None else best.step,
        hours=(time.monotonic() - began) / 3600,
        scores=_score_facts(scores, draws, objectives),
    )
    processes.on_main(write_text, folder / "README.md", model_card(facts))
    return TrainOutcome(state.step, recipe.steps, folder, scores, picture)


def _sources(recipe: Recipe, model: LanguageModel, data: Path) -> tuple[list[Trained], list[Draw]]:
    """What is trained on, and the draws that choose the best checkpoint."""
    held_out = recipe.held_out
    if recipe.mixture is None:
        found = build_sources(recipe, data)
        return list(found.training), choosing_draws(found, held_out.rows) if held_out else []
    window = Window(model.count_tokens, recipe.lengths.given - 2)
    trained = training_sources(recipe.mixture, data, seed=recipe.seed, window=window)
    return trained, held_out_draws(held_out, data, cutting=recipe.mixture.cutting) if held_out else []


def held_out_accuracy(network: Any, draws: Sequence[Draw], objectives: Sequence[Objective]) -> dict[str, float]:
    """The share of right choices by task: `rte`, or `flipped/rte` where there are several objectives.

    Options are compared by the sum over said tokens, or by their mean for an objective that is trained on the mean.
    """
    hits: dict[str, list[bool]] = defaultdict(list)
    for objective in objectives:
        fitted = [network.fit(draw, objective)[0] for draw in draws]
        queries = [objective.direction.query(draw.rendering, option) for draw in fitted for option in draw.options]
        answers = iter(network.language_model.log_likelihoods(queries))
        for draw in fitted:
            found = [next(answers) for _ in draw.options]
            scores = [a.nats / max(1, a.tokens) if objective.choice_mean else a.nats for a in found]
            hits[_score_name(draw, objective, objectives)].append(
                max(range(len(scores)), key=scores.__getitem__) == draw.gold
            )
    return {name: sum(each) / len(each) for name, each in hits.items()}


def _score_name(draw: Draw, objective: Objective, objectives: Sequence[Objective]) -> str:
    return draw.task if len(objectives) == 1 else f"{objective.name}/{draw.task}"


def _chance(draws: Sequence[Draw], objectives: Sequence[Objective]) -> tuple[dict[str, float], dict[str, int]]:
    """What guessing gets on each score, and of how many draws the score is."""
    levels: dict[str, list[float]] = defaultdict(list)
    for objective in objectives:
        for draw in draws:
            levels[_score_name(draw, objective, objectives)].append(1 / len(draw.options))
    return {name: sum(p) / len(p) for name, p in levels.items()}, {name: len(p) for name, p in levels.items()}


def _score_facts(
    scores: dict[str, float], draws: Sequence[Draw], objectives: Sequence[Objective]
) -> tuple[ScoreFacts, ...]:
    levels, rows = _chance(draws, objectives)
    out = []
    for name, value in scores.items():
        interval = wilson(round(value * rows[name]), rows[name])
        out.append(ScoreFacts(name, "accuracy", value, rows[name], interval.low, interval.high, levels[name]))
    return tuple(out)


def _base(recipe: Recipe, settings: TrainSettings) -> LanguageModel:
    if recipe.model.base == MINI_BASE:
        from obverse.recipes.mini_base import mini_base

        return mini_base(recipe.model, device=settings.device)
    if recipe.model.base == MINI_ENCODER:
        from obverse.recipes.mini_base import mini_encoder

        return mini_encoder(recipe.model, device=settings.device)
    # What no device holds waits in main memory to be divided.
    device = "cpu" if recipe.model.sharded else settings.device
    return load_model(recipe.model.base, device=device, eos=recipe.model.eos, allow_pickle=settings.allow_pickle)


def build_objective(part: ObjectivePart, slots: str) -> Objective:
    """The objective of a recipe's part; `symbol` is direct, over prompts of exemplars."""
    asked: Direction
    if part.direction == "channel":
        asked = Channel(plain=not part.masked, slots=slots)
    elif part.direction == "similarity":
        asked = Similarity()
    else:
        asked = direction("direct" if part.direction == "symbol" else part.direction, slots=slots)
    return Objective(
        asked,
        negatives=part.negatives,
        likelihood=part.likelihood,
        unlikelihood=part.unlikelihood,
        sink=part.sink,
        choice=part.choice,
        choice_scale=part.choice_scale,
        choice_mean=part.choice_mean,
        weight=part.weight,
        normalisation=part.normalisation,
        name=part.name,
    )


def _check_sentinels(recipe: Recipe, model: LanguageModel, slots: str) -> None:
    """Refuse a vocabulary without sentinels where the format needs them."""
    masked = any(part.direction == "flipped" or part.masked for part in recipe.objectives)
    if masked and slots == "sentinels" and model.count_tokens("<extra_id_0>") != 1:
        raise RecipeError(
            f"the tokenizer of {model.name} has no token <extra_id_0>, which the flipped format needs",
            where="model.slots",
            mend='Write slots = "numbered", or take a T5 model.',
        )


def _set_dropout(network: Any, share: float) -> None:
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        elif isinstance(getattr(module, "dropout", None), float):  # T5 and BART hold some as plain numbers
            module.dropout = share


def _announcement(recipe: Recipe, model: LanguageModel, trained: Sequence[Trained]) -> str:
    rows = sum(len(each.source) for each in trained)
    sets = f"{len(trained)} set{'s' * (len(trained) > 1)}"
    line = (
        f"{recipe.name}: {model.name} on {rows:,} rows of {sets}, {recipe.steps:,} steps of "
        f"{recipe.examples_per_step:,} examples"
    )
    for each in trained:
        if isinstance(each.source, ExemplarSource) and each.source.setting.pool is not None:
            sizes = ", ".join(f"{size:,} {kind}" for kind, size in each.source.setting.pool.sizes.items())
            return f"{line}; symbols from {sizes}"
    return line


def _facts(
    recipe: Recipe,
    settings: TrainSettings,
    trained: Sequence[Trained],
    missing: Sequence[str],
    network: Any,
    mixture: Mixture,
) -> ModelFacts:
    import torch
    import transformers

    total = recipe.steps * recipe.examples_per_step
    counted = Counter(mixture.draw(i).task for i in range(min(total, _COUNTED_DRAWS)))
    factor = total / max(1, sum(counted.values()))
    parameters = list(network.model.parameters())
    return ModelFacts(
        name=recipe.name,
        summary=recipe.description or f"{recipe.model.base}, trained by the recipe {recipe.name}.",
        base=recipe.model.base,
        architecture=network.language_model.family,
        parameters=sum(p.numel() for p in parameters),
        trained_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        recipe_name=recipe.name,
        recipe=resolved_toml(recipe),
        objectives=tuple(_sentence(part) for part in recipe.objectives),
        data=tuple(_data_facts(each, round(counted[each.source.name] * factor), settings.data) for each in trained),
        steps=0,
        examples=0,
        tokens=0,
        missing_data=tuple(missing),
        device=str(network.language_model.device),
        versions={
            "obverse": importlib.metadata.version("obverse"),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        usage=f'```sh\nobverse predict texts.csv --labels "one, two" --model {settings.output / "model"}\n```',
    )


def _data_facts(each: Trained, seen: int, data: Path) -> DataFacts:
    # Where it lies on this machine is nobody's business; under the data folder its place says what it is.
    origin = each.origin.removeprefix(f"{data}{os.sep}")
    return DataFacts(each.task, len(each.source), seen, each.licence, None if os.path.isabs(origin) else origin)


def _sentence(part: ObjectivePart) -> str:
    weights = [
        f"{name} {value:g}"
        for name, value in (
            ("likelihood", part.likelihood),
            ("unlikelihood", part.unlikelihood),
            ("sink", part.sink),
            ("choice", part.choice),
        )
        if value
    ]
    return f"{part.name}: {part.direction}, {', '.join(weights)}; weight {part.weight:g}"
