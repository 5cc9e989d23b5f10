"""What travels with a model about how it wants to be asked: `obverse.json` beside the weights.

A folder without that file is judged by its name and tokenizer, from published facts: the Flipped checkpoints end both
sides with the end-of-sequence token, T0 and the T5 models end the said side only.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obverse.errors import ModelError, nearest
from obverse.models.base import Conventions

FILE_NAME = "obverse.json"
EOS_PRESETS = ("t0", "flipped", "lm-eval", "own")
_CHOICES = {
    "eos": EOS_PRESETS,
    "slots": ("sentinels", "numbered"),
    "truncation": ("fields", "reference"),
}
_T5_KINDS = ("t5", "mt5", "umt5", "longt5")
_T0_NAME = re.compile(r"^T0(p{0,2}|_.*|-.*)$", re.IGNORECASE)


def parse_conventions(raw: object, *, where: str) -> Conventions:
    """Conventions from decoded JSON.

    Raises:
        ModelError: not an object, an unknown key, or a value of the wrong kind; the message names the key.
    """
    if not isinstance(raw, dict):
        raise ModelError("must hold one JSON object", where=where)
    known = {field.name: field for field in dataclasses.fields(Conventions)}
    defaults = Conventions()
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in known:
            raise ModelError(f"unknown key {key!r}", where=where, mend=nearest(key, known))
        values[key] = _checked(key, value, getattr(defaults, key), where)
    return Conventions(**values)


def read_conventions(folder: str | Path) -> Conventions | None:
    """The folder's `obverse.json`, or None where there is none.

    Raises:
        ModelError: the file is not valid.
    """
    path = Path(folder) / FILE_NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read as JSON: {error}", where=str(path)) from None
    return parse_conventions(raw, where=str(path))


def conventions_json(conventions: Conventions) -> str:
    """The text of `obverse.json`: every key, in the order of the class."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(conventions):
        value = getattr(conventions, field.name)
        if isinstance(value, Mapping):
            value = dict(value)
        values[field.name] = list(value) if isinstance(value, tuple) else value
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def write_conventions(conventions: Conventions, folder: str | Path) -> None:
    """Write `obverse.json` into the folder."""
    (Path(folder) / FILE_NAME).write_text(conventions_json(conventions), encoding="utf-8")


def infer_conventions(name: str, *, model_type: str, has_sentinels: bool, source_name: str = "") -> Conventions:
    """Conventions of a model that carries no `obverse.json`.

    Args:
        name: the folder or hub id it was asked for by.
        model_type: the configuration's `model_type`.
        has_sentinels: whether the tokenizer knows `<extra_id_0>`.
        source_name: the name the model's own configuration records, if any.
    """
    bases = [re.split(r"[\\/]", n.rstrip("\\/"))[-1] for n in (name, source_name)]
    slots = "sentinels" if has_sentinels else "numbered"
    if any("flipped_" in base.lower() for base in bases):
        return Conventions(eos="flipped", slots="sentinels", method="flipped", trained=("flipped",))
    if any(_T0_NAME.match(base) for base in bases):
        return Conventions(eos="t0", slots=slots, method="direct", trained=("direct",))
    return Conventions(eos="t0" if model_type in _T5_KINDS else "own", slots=slots)


def with_overrides(conventions: Conventions, *, eos: str | None = None, truncation: str | None = None) -> Conventions:
    """The conventions with what the user asked for in place.

    Raises:
        ModelError: no such preset.
    """
    asked = {key: value for key, value in (("eos", eos), ("truncation", truncation)) if value is not None}
    checked = {key: _checked(key, value, "", f"--{key}") for key, value in asked.items()}
    return dataclasses.replace(conventions, **checked)


def _checked(key: str, value: object, default: object, where: str) -> Any:
    if isinstance(default, str):
        if not isinstance(value, str):
            raise ModelError(f"{key!r} must be a text", where=where)
        if key in _CHOICES and value not in _CHOICES[key]:
            raise ModelError(f"{key!r} cannot be {value!r}", where=where, mend=nearest(value, _CHOICES[key]))
        return value
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ModelError(f"{key!r} must be a list of texts", where=where)
        return tuple(value)
    if not isinstance(value, dict):
        raise ModelError(f"{key!r} must be an object", where=where)
    for name, item in value.items():
        # Names of methods and terms belong to the scorers; here only the kind of value is known.
        if "length_rule" in key:
            if not isinstance(item, str):
                raise ModelError(f"{key!r}: the value of {name!r} must be a text", where=where)
        elif isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
            raise ModelError(f"{key!r}: the value of {name!r} must be a number", where=where)
        elif key == "temperatures" and item <= 0:
            raise ModelError(f"{key!r}: the value of {name!r} must be above 0", where=where)
    return dict(value)
