"""Several names in one option."""

from __future__ import annotations

from collections.abc import Iterable

from obverse.errors import RecipeError


def names_in(option: str, given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Names with commas between, or the option given several times, in order; none where it was not given.

    Raises:
        RecipeError: the option was given and names nothing.
    """
    if given is None:
        return ()
    texts = [given] if isinstance(given, str) else list(given)
    names = tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
    if texts and not names:
        raise RecipeError("names nothing", where=option, mend="Write a name, or several with commas between.")
    return names
