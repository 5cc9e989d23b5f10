"""JSON files of tasks: read whole, with every wrong type named in plain words."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from obverse.errors import DataError, nearest

LARGEST_FILE = 256 * 2**20
"""In bytes: the whole file is read into memory."""


@dataclass(frozen=True, slots=True)
class JsonFile:
    """What a JSON file holds, and the hexadecimal SHA-256 of its bytes."""

    value: object
    digest: str


def read_json(path: Path) -> JsonFile:
    """Read a JSON file whole; an object may not have a key twice.

    NaN and the infinities, which are not JSON, are read as numbers, because published files hold them where nobody
    looks. Whoever uses a number has to refuse them.

    Raises:
        DataError: it cannot be read, is over 256 MB, nests too deep, or is not JSON.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # a path that no file system can hold is a ValueError
        raise DataError(
            f"cannot be read: {getattr(error, 'strerror', None) or error}",
            where=where,
            mend="Check that it is a file that you may read.",
        ) from None
    if len(content) > LARGEST_FILE:
        raise DataError(f"is larger than {LARGEST_FILE // 2**20} MB", where=where, mend="Give a part of its instances.")

    def whole(pairs: list[tuple[str, object]]) -> dict[str, object]:
        out = dict(pairs)
        if len(out) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise DataError(
                f"the key {short(twice)} stands twice in one object", where=where, mend="Keep one of the two."
            )
        return out

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (at byte {error.start})", where=where, mend="Save it as UTF-8.") from None
    try:
        value = json.loads(text, object_pairs_hook=whole)
    except RecursionError:
        raise DataError("nests too deep", where=where, mend="A task file nests about four deep.") from None
    except ValueError as error:  # JSONDecodeError, or a number of thousands of digits
        raise DataError(f"is not JSON: {error}", where=where, mend="Check that the file is complete.") from None
    return JsonFile(value, hashlib.sha256(content).hexdigest())


def as_object(value: object, what: str, *, where: str) -> dict[str, object]:
    """The value, if it is a JSON object.

    Raises:
        DataError: otherwise.
    """
    if not isinstance(value, dict):
        raise DataError(f"{what} is {kind(value)}, not an object", where=where, mend="Write {..} there.")
    return value


def as_text(value: object, what: str, *, where: str) -> str:
    """The value, if it is a text that can be written as UTF-8.

    Raises:
        DataError: otherwise.
    """
    if not isinstance(value, str):
        raise DataError(f"{what} is {kind(value)}, not text", where=where, mend='Write it between quotes: "..".')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        mend = "Write the whole character, or \\ufffd in its place."
        raise DataError(f"{what} holds half a character ({half})", where=where, mend=mend) from None
    return value


def kind(value: object) -> str:
    """What JSON calls a value, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {short(value)}"
    if isinstance(value, str):
        return f"the text {short(value)}"
    return "a list" if isinstance(value, list) else "an object"


def one_line(text: str) -> str:
    """The text without line breaks, shortened to what people read in a list."""
    return textwrap.shorten(text, 160, placeholder=" ..")


def unknown_task(name: str, known: Collection[str], *, where: str) -> DataError:
    """The error for a task name that is not there, with the nearest names but never a long list of them."""
    if not known:
        return DataError(f"there is no task {short(name)}", where=where, mend="That folder holds no task files.")
    mend = nearest(name, known)
    if mend.startswith("Known") and len(known) > 12:
        first = ", ".join(sorted(known)[:3])
        mend = f"There are {len(known)} tasks, such as {first}."
    return DataError(f"there is no task {short(name)}", where=where, mend=mend)


def short(value: object) -> str:
    """The value as Python writes it, cut for messages."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}.."
