"""From a trained checkpoint to the folder that ships: weights as int8, blend weights and temperatures.

Scale and temperatures are chosen on held-out draws of the training side (instructions, wordings and texts that training
never saw), through the same road that users take, and so are the blend's weights where no ratio is given. No data set
that judges the model is looked at here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obverse.errors import RecipeError, nearest
from obverse.labelling import Labeller
from obverse.models.base import LanguageModel
from obverse.recipes.bundled import build_sources, choosing_draws
from obverse.recipes.recipe import read_recipe
from obverse.scoring.scorers import PRIOR, Scorer, log_softmax
from obverse.tasks.mixture import Draw
from obverse.tasks.templates import InstructionTemplate

_DRAWS = 30
_TERMS = ("direct", "flipped", PRIOR)


def package(
    *,
    data: Path,
    run: Path,
    folder: Path,
    prior: Path | None = None,
    ratio: Mapping[str, float] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Pack the finished model of `run` into `folder` and write its conventions.

    Args:
        run: what `obverse train` left: the recipe as it was followed, and the model.
        folder: receives weights, tokenizer, configuration and `obverse.json`.
        prior: folder of the sentence encoder that is the prior of the blend; None takes the pretrained one.
        ratio: term -> its weight in the blend, up to a common factor; None fits each weight.
    """
    import torch
    from transformers import EncoderDecoderModel

    from obverse.models.bundled import load_bundled, pack
    from obverse.training.warm_start import sentence_encoder, sentence_encoder_folder, tokenizer_with_sentinels

    torch.set_flush_denormal(True)
    recipe = read_recipe(run / "recipe.toml")
    source = sentence_encoder_folder()
    tokenizer = tokenizer_with_sentinels(source)
    encoder = sentence_encoder(prior or source)
    original = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    model = EncoderDecoderModel.from_pretrained(run / "model")
    # Frozen but for the marks' rows, which training made anew before it began: one table serves both, stored once.
    embeddings = "embeddings.word_embeddings.weight"
    original[embeddings] = model.encoder.state_dict()[embeddings].clone()
    conventions: dict[str, Any] = {
        "eos": "own",
        "slots": "sentinels",
        "method": "blend",
        "trained": [part.direction for part in recipe.objectives],
        "length_rules": {"direct": "token", "flipped": "token", "channel": "token"},
        "temperatures": {},
        "blend": {"direct": 1.0, "flipped": 1.0, PRIOR: 1.0},
        "truncation": "fields",
        "datasets": list(recipe.trained_sets),
    }
    pack(model, original, tokenizer, conventions, folder)
    bundled = load_bundled(folder, device="cpu")
    draws = choosing_draws(build_sources(recipe, data), _DRAWS, seed=1)
    say(f"{len(draws)} held-out draws of {len({d.task for d in draws})} tasks")
    tables = {rule: term_tables(bundled, draws, rule) for rule in ("token", "sum", "byte")}
    table = tables["token"]
    weights = fit_weights(draws, table) if ratio is None else scaled_weights(draws, table, ratio)
    # A term without weight would be computed for nothing.
    conventions["blend"] = {name: round(float(w), 4) for name, w in zip(_TERMS, weights, strict=True) if w}
    temperatures = {"blend/token": 1.0}
    for rule, table in tables.items():
        combined = [
            {**row, "product": log_softmax(np.array(row["direct"])) + log_softmax(np.array(row["flipped"]))}
            for row in table
        ]
        for method in ("direct", "flipped", "product"):
            temperatures[f"{method}/{rule}"] = round(
                fit_temperature(draws, [np.array(row[method]) for row in combined]), 4
            )
    conventions["temperatures"] = temperatures
    pack(model, original, tokenizer, conventions, folder)
    for name, scores in (
        ("prior", [np.array(r[PRIOR]) for r in tables["token"]]),
        ("direct", [np.array(r["direct"]) for r in tables["token"]]),
        ("flipped", [np.array(r["flipped"]) for r in tables["token"]]),
        ("blend", [blended(row, weights) for row in tables["token"]]),
    ):
        say(f"  {name}: mean accuracy over tasks {mean_accuracy(draws, scores):.3f}")
    say(f"  blend weights {conventions['blend']}; temperatures {temperatures}")
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    say(f"  {folder}: {size:.1f} MB")


def term_tables(model: LanguageModel, draws: Sequence[Draw], rule: str) -> list[dict[str, tuple[float, ...]]]:
    """Each term's score of every option of every draw, through the road that users take."""
    conventions = replace(
        model.conventions,
        blend=MappingProxyType(dict.fromkeys(_TERMS, 1.0)),
    )
    scorer = Scorer(
        "blend",
        MappingProxyType({"direct": rule, "flipped": rule}),
        1.0,
        conventions.blend,
        conventions.slots,
    )
    labeller = Labeller(model, scorer, InstructionTemplate("-", ["text"]))
    out: list[dict[str, tuple[float, ...]]] = []
    for begin in range(0, len(draws), 128):
        some = draws[begin : begin + 128]
        fitted = [labeller.fit(d.rendering, d.options) for d in some]
        rows = labeller.score_renderings([f[0] for f in fitted], [d.options for d in some])
        out.extend(dict(row.terms) for row in rows)
    return out


def blended(row: Mapping[str, Sequence[float]], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The blend's score of one draw's options."""
    return np.asarray(sum(w * _feature(row, term) for w, term in zip(weights, _TERMS, strict=True)))


def _feature(row: Mapping[str, Sequence[float]], term: str) -> NDArray[np.float64]:
    values = np.array(row[term], dtype=np.float64)
    return values if term == PRIOR else log_softmax(values)


def fit_weights(draws: Sequence[Draw], table: Sequence[Mapping[str, Sequence[float]]]) -> NDArray[np.float64]:
    """Weights of the terms, none negative, that make the right options likeliest; every task counts the same.

    A multinomial logistic regression with one weight a term and no bias: its scale is the blend's temperature.
    """
    from scipy.optimize import minimize

    features = [np.stack([_feature(row, term) for term in _TERMS]) for row in table]
    share = _task_shares(draws)

    def loss(log_weights: NDArray[np.float64]) -> float:
        w = np.exp(log_weights)
        return float(-sum(s * log_softmax(w @ f)[d.gold] for s, d, f in zip(share, draws, features, strict=True)))

    best = min(
        (minimize(loss, np.log(np.array(start)), method="Nelder-Mead", options={"maxiter": 400})
         for start in ((1.0, 1.0, 5.0), (2.0, 4.0, 10.0))),
        key=lambda found: found.fun,
    )  # fmt: skip
    return np.asarray(np.exp(best.x))


def scaled_weights(
    draws: Sequence[Draw], table: Sequence[Mapping[str, Sequence[float]]], ratio: Mapping[str, float]
) -> NDArray[np.float64]:
    """Weights of the terms in a given ratio, their common factor such that the right options are likeliest.

    Raises:
        RecipeError: an unknown term, a weight that is no number from 0 up, or none above 0.
    """
    for term, weight in ratio.items():
        if term not in _TERMS:
            raise RecipeError(f"the blend has no term {term!r}", mend=nearest(term, _TERMS))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise RecipeError(f"the weight of {term} is {weight!r}", mend="Write a number from 0 up.")
    weights = np.array([float(ratio.get(term, 0.0)) for term in _TERMS])
    if not weights.any():
        raise RecipeError("no term of the blend has a weight", mend=f"Give one to {' or '.join(_TERMS)}.")
    return weights / fit_temperature(draws, [blended(row, weights) for row in table])


def fit_temperature(draws: Sequence[Draw], scores: Sequence[NDArray[np.float64]]) -> float:
    """The temperature under which the right options are likeliest; every task counts the same."""
    from scipy.optimize import minimize_scalar

    share = _task_shares(draws)

    def loss(log_temperature: float) -> float:
        t = math.exp(log_temperature)
        return float(-sum(s * log_softmax(v / t)[d.gold] for s, d, v in zip(share, draws, scores, strict=True)))

    return math.exp(minimize_scalar(loss, bounds=(-5.0, 6.0), method="bounded").x)


def mean_accuracy(draws: Sequence[Draw], scores: Sequence[NDArray[np.float64]]) -> float:
    """Accuracy a task, averaged over tasks."""
    hits: dict[str, list[bool]] = defaultdict(list)
    for draw, values in zip(draws, scores, strict=True):
        hits[draw.task].append(int(np.argmax(values)) == draw.gold)
    return float(np.mean([np.mean(h) for h in hits.values()]))


def _task_shares(draws: Sequence[Draw]) -> list[float]:
    counts: dict[str, int] = defaultdict(int)
    for draw in draws:
        counts[draw.task] += 1
    return [1 / (len(counts) * counts[d.task]) for d in draws]
