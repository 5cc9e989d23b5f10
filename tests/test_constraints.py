"""The versions that a fresh checkout gets: all that the package and its extras name is pinned, within their limits."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
UNTESTED = {"tensorboard"}  # no test installs it, so there is no version that the tests ran with
BEHIND_STATSMODELS = ["patsy", "formulaic", "narwhals", "wrapt"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    found = dict(line.split("==") for line in lines)
    assert len(found) == len(lines)
    return {canonical(name): version for name, version in found.items()}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    found = [Requirement(each) for each in named]
    return [each for each in found if each.name not in ("obverse", *UNTESTED)]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda each: each.name)
def test_what_is_named_is_pinned(requirement):
    assert requirement.specifier.contains(pins()[canonical(requirement.name)])


@pytest.mark.parametrize("name", BEHIND_STATSMODELS)
def test_what_stands_behind_it_is_pinned(name):
    assert name in pins()
