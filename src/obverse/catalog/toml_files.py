"""TOML files, read whole, with one message for each way in which they cannot be."""

from __future__ import annotations

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from obverse.errors import DataError, ObverseError


def read_toml(path: Path | Traversable, *, error: type[ObverseError] = DataError) -> dict[str, Any]:
    """What the file holds.

    Args:
        error: the kind of error that a faulty file is for its reader.

    Raises:
        ObverseError: it cannot be read, is not UTF-8, is not TOML, or is nested too deeply.
    """
    where = str(path)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as fault:  # a path that no file system can hold is a ValueError
        raise error(f"cannot be read: {getattr(fault, 'strerror', None) or fault}", where=where) from None
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise error("is nested too deeply", where=where) from None
    except UnicodeDecodeError:
        raise error("is not UTF-8 text", where=where, mend="Save it as UTF-8.") from None
    except ValueError as fault:
        raise error(f"is not TOML: {fault}", where=where) from None
