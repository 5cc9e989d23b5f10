"""How numbers, names and pieces of text are set, on the terminal and in figures alike."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len

_MARKS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def counted(n: int, noun: str) -> str:
    """`1 text`, `1,200 texts`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def duration(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `3 min 05 s`, `1 h 02 min`."""
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def rate(per_second: float) -> str:
    """Three digits: `0.04`, `8.13`, `81.3`, `1,204`."""
    digits = 2 if per_second < 9.995 else 1 if per_second < 99.95 else 0
    return f"{per_second:,.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """`+1.20`, `-0.31`, `0.00`: a value that rounds to nothing has no sign."""
    text = f"{value:+.{digits}f}"
    return text if text.strip("+-0.") else text[1:]


def one_line(text: str) -> str:
    """The text with line breaks, tabs and other control characters made visible."""
    return "".join(
        _MARKS.get(c) or (f"\\x{ord(c):02x}" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c)
        for c in text
    )


def collapsed(text: str) -> str:
    """The text on one line, each run of white space a single space; for running text, where breaks mean nothing."""
    return one_line(" ".join(text.split()))


def shorten(text: str, width: int, *, ellipsis: str = "…") -> str:
    """The text in at most `width` terminal cells, its end replaced by an ellipsis where it is longer."""
    if cell_len(text) <= width:
        return text
    return _fitting(text, max(0, width - len(ellipsis))).rstrip() + ellipsis


def shorten_names(names: Sequence[str], width: int, *, ellipsis: str = "…") -> list[str]:
    """The names in at most `width` cells each; names that would look alike lose their middle, not their end."""
    names = [one_line(name) for name in names]
    plain = [shorten(name, width, ellipsis=ellipsis) for name in names]
    seen = Counter(plain)
    room = max(0, width - len(ellipsis))
    short = []
    for name, shortened in zip(names, plain, strict=True):
        if seen[shortened] > 1 and shortened != name:
            tail = _fitting(name[::-1], (room + 1) // 2)[::-1]
            shortened = _fitting(name, room - cell_len(tail)) + ellipsis + tail
        short.append(shortened)
    return short


def _fitting(text: str, width: int) -> str:
    used = 0
    for i, character in enumerate(text):
        used += cell_len(character)
        if used > width:
            return text[:i]
    return text
