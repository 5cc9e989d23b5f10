"""Training from a recipe file."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from obverse.errors import RecipeError
from obverse.labelling import input_text
from obverse.objectives.objectives import Objective
from obverse.recipes.bundled import Sources, build_sources
from obverse.seeds import stream
from obverse.tasks.directions import direction
from obverse.tasks.mixture import Draw, Mixture

SINGLE_TEXT = ("glue/sst2", "rotten_tomatoes", "dbpedia_14")


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe as plain data.

    Raises:
        RecipeError: it cannot be read or lacks a part.
    """
    try:
        with path.open("rb") as file:
            recipe = tomllib.load(file)
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"is not TOML: {error}", where=str(path)) from None
    missing = [
        part
        for part in ("seed", "steps", "model", "optimizer", "lengths", "objectives", "own", "data", "held_out")
        if part not in recipe
    ]
    if missing:
        raise RecipeError(f"lacks {', '.join(missing)}", where=str(path))
    return recipe


def build_objectives(recipe: dict[str, Any]) -> list[Objective]:
    """The recipe's objectives."""
    return [
        Objective(direction(entry["direction"]), **{k: v for k, v in entry.items() if k != "direction"})
        for entry in recipe["objectives"]
    ]


def prepare(
    model: Any, tokenizer: Any, sources: Sources, objectives: Sequence[Objective], recipe: dict[str, Any]
) -> None:
    """Starting values that depend on the tokenizer and the data: the marks' directions and the output bias."""
    from obverse.training.batches import tokenize
    from obverse.training.warm_start import SINK, distinguish_marks, start_from_unigrams

    sink = tokenizer.convert_tokens_to_ids(SINK)
    distinguish_marks(model, tokenizer, seed=recipe["seed"])
    mixture = Mixture(sources.training, rates=sources.rates, seed=recipe["seed"])
    counts = [0.0] * len(tokenizer)
    for i in range(1000):
        draw = mixture.draw(i)
        for objective in objectives:
            pairs = objective.pairs(draw, 0, stream(recipe["seed"], "unigrams", i))
            tokens = tokenize(tokenizer, pairs, given_limit=512, said_limit=recipe["lengths"]["said"])
            for said, gold in zip(tokens.said, tokens.gold, strict=True):
                for token in said:
                    counts[sink if objective.sink and not gold else token] += 1
    start_from_unigrams(model, counts, sink)


class EncoderPrior:
    """The untouched sentence encoder's similarity of text and option, scaled to nats."""

    def __init__(self, encoder: Any, tokenizer: Any, scale: float) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._scale = scale
        self._known: dict[str, Any] = {}

    def __call__(self, draws: Sequence[Draw]) -> list[list[float]]:
        from obverse.models.bundled import sentence_vectors

        texts = [input_text(draw.rendering) for draw in draws]
        wanted = {text for draw, text in zip(draws, texts, strict=True) for text in (text, *draw.options)}
        fresh = [text for text in sorted(wanted) if text not in self._known]
        if len(self._known) > 50_000:
            self._known.clear()
            fresh = sorted(wanted)
        self._known.update(zip(fresh, sentence_vectors(self._encoder, self._tokenizer, fresh), strict=True))
        return [
            [self._scale * float(self._known[text] @ self._known[option]) for option in draw.options]
            for draw, text in zip(draws, texts, strict=True)
        ]


def train_bundled(
    path: Path,
    *,
    data: Path,
    output: Path,
    resume: bool = False,
    stop_after: float | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> None:
    """Train the bundled model by the recipe at `path`; its folder also holds the facets and our own texts."""
    import torch

    from obverse.training import held_out as held
    from obverse.training.trainer import Lengths, Schedule, train
    from obverse.training.warm_start import (
        SINK,
        freeze,
        sentence_encoder_folder,
        tokenizer_with_sentinels,
        warm_started,
    )

    # The output softmax of a confident model is full of denormal numbers, and multiplying those is some ten times
    # slower. Worker threads take the setting over from the thread that starts them, so it comes before any tensor.
    torch.set_flush_denormal(True)
    recipe = read_recipe(path)
    sources = build_sources(recipe, path.parent, data)
    objectives = build_objectives(recipe)
    folder = sentence_encoder_folder()
    tokenizer = tokenizer_with_sentinels(folder)
    model: Any = warm_started(
        folder, decoder_layers=recipe["model"]["decoder_layers"], dropout=recipe["model"]["dropout"]
    )
    prior = None
    if recipe.get("prior"):
        prior = EncoderPrior(copy.deepcopy(model.encoder).eval().to(device), tokenizer, recipe["prior"])
    prepare(model, tokenizer, sources, objectives, recipe)
    freeze(model, encoder_layers=recipe["model"]["frozen_encoder_layers"])
    model.to(device)
    settings = recipe["optimizer"]
    head = [model.decoder.cls.predictions.bias]
    in_head = {id(p) for p in head}
    groups = [
        {
            "params": [p for p in parameters if p.requires_grad],
            "lr": rate,
            "weight_decay": settings["weight_decay"],
        }
        for parameters, rate in (
            (list(model.encoder.parameters()), settings["encoder_rate"]),
            ([p for p in model.decoder.parameters() if id(p) not in in_head], settings["decoder_rate"]),
            (head, settings["head_rate"]),
        )
    ]
    lengths = Lengths(recipe["lengths"]["given"], recipe["lengths"]["said"])
    special = {"start": tokenizer.cls_token_id, "sink": tokenizer.convert_tokens_to_ids(SINK)}
    # What people bring is single texts, so these choose the checkpoint; pairs and questions are too hard to move it.
    draws = held.fixed_draws([s for s in sources.held_out if s.name.startswith(("own/", *SINGLE_TEXT))], 10)

    def evaluate() -> float:
        chance = held.chance_by_task(draws)
        means = []
        for objective in objectives:
            scores = held.token_mean_scores(model, tokenizer, draws, objective.direction, lengths, special)
            accuracy = held.accuracy_by_task(draws, scores)
            own = [v for k, v in accuracy.items() if k.startswith("own/")]
            rest = [v for k, v in accuracy.items() if not k.startswith("own/")]
            mean = sum(accuracy.values()) / len(accuracy)
            below = [f"{k} {v:.2f}<{chance[k]:.2f}" for k, v in accuracy.items() if v < chance[k] - 0.15]
            say(
                f"  held out, {objective.direction.name}: {mean:.3f} (own {sum(own) / len(own):.3f}, "
                f"data sets {sum(rest) / len(rest):.3f}, chance {sum(chance.values()) / len(chance):.3f})"
                + (f"; BELOW CHANCE: {', '.join(below)}" if below else "")
            )
            means.append(mean)
        return sum(means) / len(means)

    train(
        model,
        tokenizer,
        Mixture(sources.training, rates=sources.rates, seed=recipe["seed"]),
        objectives,
        output=output,
        groups=groups,
        schedule=Schedule(recipe["steps"], settings["warmup_steps"], settings["decay_steps"]),
        draws_per_step=recipe["draws_per_step"],
        lengths=lengths,
        special=special,
        clip=settings["clip"],
        seed=recipe["seed"],
        prior=prior,
        resume=resume,
        evaluate=evaluate,
        say=say,
        stop_after=stop_after,
    )
