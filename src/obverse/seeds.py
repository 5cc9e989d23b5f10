"""One seed, many independent random streams, each reached by name."""

from __future__ import annotations

import hashlib
import random


def stream(seed: int, *names: str | int) -> random.Random:
    """A generator that depends on `seed` and `names` alone.

    Streams of different names are independent; the same names give the same stream on every machine, in every
    process and in any order of asking.
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return random.Random(int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big"))
