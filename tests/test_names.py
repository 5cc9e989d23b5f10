"""Several names in one option of the command line."""

from __future__ import annotations

import pytest

from obverse.cli.names import names_in
from obverse.errors import RecipeError


def test_names_stand_with_commas_between_or_one_by_one():
    assert names_in("--method", None) == names_in("--method", []) == ()
    assert names_in("--method", " flipped,direct, flipped,") == ("flipped", "direct", "flipped")
    assert names_in("--method", ["direct", "flipped"]) == ("direct", "flipped")


@pytest.mark.parametrize("given", ["", " , ", [""], [",", " "]])
def test_an_option_that_names_nothing_is_an_error(given):
    with pytest.raises(RecipeError, match="--tasks: names nothing"):
        names_in("--tasks", given)
