"""Paths on the command line that can name nothing on a disk: refused before any command meets them."""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import get_type_hints

from typer.models import OptionInfo

from obverse.errors import DataError

_WRITTEN = ("output", "picture")
# A file is written under a longer name first, and beside it may lie its progress and its rows to review.
_ROOM = 24


def refuse_impossible(command: Callable[..., None], given: Mapping[str, object]) -> None:
    """Check every path that a command is given.

    Args:
        given: the command's parameters by name; what is no path is not looked at.

    Raises:
        DataError: a path is too long, holds a character that none can hold, or may not be looked at.
    """
    for name, value in given.items():
        for path in _paths(value):
            fault = _fault(os.fspath(path), room=_ROOM if name in _WRITTEN else 0)
            if fault is not None:
                raise DataError(fault[0], where=_called(command, name), mend=fault[1])


def _paths(value: object) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, list | tuple):
        yield from (each for each in value if isinstance(each, Path))


def _fault(path: str, *, room: int) -> tuple[str, str] | None:
    """What is wrong with a path, and the mend."""
    for asked in (path, path + "x" * room):
        try:
            os.stat(asked)
        except ValueError:
            return "names a path with a character that no path can hold", "Write it anew."
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return f"names a path that is too long ({len(path):,} characters)", "Name a shorter one."
            if isinstance(error, PermissionError):
                folder = os.path.dirname(path) or "."
                return f"may not be looked at: permission denied in {folder}", "Name one in a folder that you may read."
    return None


def _called(command: Callable[..., None], name: str) -> str:
    """What the user calls a parameter: --output, INPUT."""
    hints = get_type_hints(inspect.unwrap(command), include_extras=True)
    for info in getattr(hints.get(name), "__metadata__", ()):
        if isinstance(info, OptionInfo):
            return next((each for each in info.param_decls or () if each.startswith("--")), f"--{name}")
    return name.upper()
