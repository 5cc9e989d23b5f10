"""The weights of a blend, fitted or in a given ratio."""

from __future__ import annotations

import re

import numpy as np
import pytest

from obverse.errors import RecipeError
from obverse.models.bundled import FOLDER, _without_places
from obverse.recipes.package import blended, fit_weights, scaled_weights
from obverse.scoring.scorers import log_softmax
from obverse.tasks.examples import Example
from obverse.tasks.mixture import Draw
from obverse.tasks.templates import InstructionTemplate


def draws_and_table(n=300, seed=0):
    """Options scored so that the true weights are 0.5 of direct, 2 of flipped and 8 of the prior."""
    random = np.random.default_rng(seed)
    rendering = InstructionTemplate("Which?", ["text"]).render(Example("row 1", {"text": "a"}))
    draws, table = [], []
    for i in range(n):
        row = {"direct": random.normal(size=3), "flipped": random.normal(size=3), "prior": random.normal(size=3) / 4}
        log_p = log_softmax(0.5 * log_softmax(row["direct"]) + 2 * log_softmax(row["flipped"]) + 8 * row["prior"])
        gold = int(random.choice(3, p=np.exp(log_p)))
        draws.append(Draw(f"task {i % 5}", str(i), rendering, ("a", "b", "c"), gold))
        table.append({name: tuple(values) for name, values in row.items()})
    return draws, table


def likelihood(draws, table, weights):
    return sum(log_softmax(blended(row, weights))[d.gold] for d, row in zip(draws, table, strict=True))


def test_a_given_ratio_is_kept_and_its_scale_is_the_likeliest():
    draws, table = draws_and_table()
    weights = scaled_weights(draws, table, {"flipped": 1, "prior": 4})
    assert weights[0] == 0
    assert weights[2] / weights[1] == pytest.approx(4)
    assert 1.4 < weights[1] < 2.6
    best = likelihood(draws, table, weights)
    assert best > max(likelihood(draws, table, weights * f) for f in (0.9, 1.1))


def test_fitted_weights_are_no_less_likely_than_any_ratio():
    draws, table = draws_and_table()
    fitted = likelihood(draws, table, fit_weights(draws, table))
    assert fitted >= likelihood(draws, table, scaled_weights(draws, table, {"flipped": 1, "prior": 4})) - 1e-6
    assert fitted > likelihood(draws, table, scaled_weights(draws, table, {"direct": 1})) + 5


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        ({"fliped": 1}, "no term 'fliped'"),
        ({"flipped": -1}, "weight of flipped is -1"),
        ({"flipped": "3"}, "weight of flipped is '3'"),
        ({"flipped": True}, "weight of flipped is True"),
        ({"prior": float("nan")}, "weight of prior is nan"),
        ({"flipped": 0}, "no term of the blend has a weight"),
    ],
)
def test_a_ratio_that_is_none(ratio, expected):
    draws, table = draws_and_table(2)
    with pytest.raises(RecipeError, match=expected):
        scaled_weights(draws, table, ratio)


def test_the_package_names_no_folder_that_it_was_made_in():
    text = (FOLDER / "config.json").read_text(encoding="utf-8")
    assert set(re.findall(r'"_name_or_path": "(.*?)"', text)) == {""}
    nested = {"_name_or_path": "/home/a", "encoder": {"_name_or_path": "/home/b", "width": 2}}
    assert _without_places(nested) == {"_name_or_path": "", "encoder": {"_name_or_path": "", "width": 2}}
