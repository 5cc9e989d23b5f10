"""The workloads: what is asked of a model, in texts of exactly the stated numbers of tokens.

A case is a number of instances, each with a prompt and the same few options. Nothing here needs torch: a tokenizer is
known by how many tokens it makes of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from obverse.errors import ObverseError
from obverse.seeds import stream

HARNESS, PADDED, SORTED, ONE_BY_ONE, TOGETHER = "lm-eval", "padded", "sorted", "one by one", "obverse"
WAYS = (HARNESS, PADDED, SORTED, ONE_BY_ONE, TOGETHER)
CAUSAL, ENCODER_DECODER = "causal", "encoder-decoder"
FAMILIES = {CAUSAL: ("gpt2", "llama"), ENCODER_DECODER: ("t5",)}
CONTENT_FREE = 3
"""How many prompts without content are asked beside each instance in contextual calibration."""
SEED = 0
# Texts are made of each 15th of these words: some were common where the tokenizer was trained, some not seen.
_KNOWN, _STEP = 60_000, 15
_SYLLABLES = [first + vowel + last for first in "bcdfghjklmnprstvwz" for vowel in "aeiou" for last in ("", *"nrs")]

Request = tuple[str, str]
"""What is given, and what is said after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One workload; all lengths are in tokens.

    Attributes:
        name: how the command line calls it.
        title: how the report calls it.
        kind: causal or encoder-decoder.
        form: `direct` (the option is said), `channel` (the prompt is said after the option), `flipped` (an instruction
            is said after prompt and option), or `calibration` (direct, and prompts without content beside each
            instance).
        prompt: shortest and longest of an instance.
        options: how many there are, the same for all instances.
        option: of an option.
        prefix: of the beginning that all prompts have in common.
        instruction: of the text that is said by `flipped`, or that stands in front of the text in `calibration`.
        instances: as many as Obverse is asked for at once.
        few: as many as the slow ways are asked for.
        target: how many times faster Obverse is to be; None where nothing is promised.
        against: than which way.
        sizes: the models it is run with.
        families: the same, None for all of the kind; the largest size is of the first alone.
        rounds: of timing at most; fewer where a slow way takes minutes.
    """

    name: str
    title: str
    kind: str
    form: str = "direct"
    prompt: tuple[int, int] = (150, 150)
    options: int = 4
    option: int = 4
    prefix: int = 0
    instruction: int = 0
    instances: int = 200
    few: int = 16
    target: float | None = None
    against: str = HARNESS
    sizes: tuple[str, ...] = ("tiny", "50m")
    families: tuple[str, ...] | None = None
    rounds: int = 3


CASES = (
    Case(
        name="prefix",
        title="fixed prefix of 1,200 tokens, prompt 150, 4 options of 3",
        kind=CAUSAL,
        prefix=1200,
        option=3,
        few=12,
        target=25,
        families=("gpt2",),
        rounds=2,
    ),
    Case(name="plain", title="prompt 150, 10 options of 4", kind=CAUSAL, options=10, few=12, target=14),
    Case(
        name="direct",
        title="direct, prompt 150, 4 options of 4",
        kind=ENCODER_DECODER,
        target=3,
        sizes=("tiny", "50m", "250m"),
    ),
    Case(
        name="flipped",
        title="flipped, prompts of 20 to 300, instruction 25, 4 options of 4",
        kind=ENCODER_DECODER,
        form="flipped",
        prompt=(20, 300),
        instruction=25,
        target=2.7,
        against=PADDED,
    ),
    Case(
        name="single",
        title="prompt 150, 4 labels of one token",
        kind=CAUSAL,
        option=1,
        target=1.7,
        sizes=("tiny", "50m", "250m"),
    ),
    Case(
        name="causal-channel",
        title="channel, 4 labels of 3 tokens first, prompt 150 said",
        kind=CAUSAL,
        form="channel",
        option=3,
        families=("gpt2",),
    ),
    Case(
        name="channel",
        title="channel, 4 labels of 4 tokens read, prompt 150 said",
        kind=ENCODER_DECODER,
        form="channel",
    ),
    Case(
        name="causal-flipped",
        title="flipped, prompt 150, 4 options of 3, instruction 25 said",
        kind=CAUSAL,
        form="flipped",
        option=3,
        instruction=25,
        families=("gpt2",),
    ),
    Case(
        name="calibration",
        title=f"contextual calibration, prompt 150, {CONTENT_FREE} content-free prompts, 4 options of 3",
        kind=CAUSAL,
        form="calibration",
        option=3,
        instruction=25,
        families=("gpt2",),
    ),
)


class Words:
    """Made-up words, by the number of tokens they are behind a space and at the beginning of a text.

    Args:
        count: texts -> how many tokens each of them is.
    """

    def __init__(self, count: Callable[[list[str]], list[int]]) -> None:
        words = made_up(_KNOWN)[::_STEP]
        self._count = count
        self._behind = _by_count(words, count([f" {word}" for word in words]))
        self._first = _by_count(words, count(words))
        if 1 not in self._behind:
            raise ObverseError("no word of this tokenizer is one token, so no length can be met exactly")

    def text(self, tokens: int, random: Random, *, first: bool = True) -> str:
        """A text of exactly so many tokens, one space in front of it unless it is `first`."""
        out: list[str] = []
        left = tokens
        while left:
            known = self._first if first and not out else self._behind
            # Words of several tokens as a real text has them, as long as they fit.
            sizes = sorted(size for size in known if size <= left)
            if not sizes:  # no word is so short at the beginning of a text: another beginning
                return self.text(tokens, random, first=first)
            size = random.choice(sizes)
            out.append(random.choice(known[size]))
            left -= size
        return ("" if first else " ") + " ".join(out)

    def check(self, requests: Sequence[Request], lengths: Sequence[tuple[int, int]], *, joint: bool) -> None:
        """See that requests are as long as they should be.

        Args:
            lengths: tokens given and said of each.
            joint: whether the model reads both as one text.

        Raises:
            ObverseError: one is not; the message names it.
        """
        texts = list(dict.fromkeys(given for given, _ in requests))
        known = dict(zip(texts, self._count(texts), strict=True))
        given = [known[text] for text, _ in requests]
        if joint:
            whole = self._count([given + said for given, said in requests])
            said = [all_of - part for all_of, part in zip(whole, given, strict=True)]
        else:
            said = self._count([said for _, said in requests])
        for number, (found, stated) in enumerate(zip(zip(given, said, strict=True), lengths, strict=True)):
            if found != stated:
                raise ObverseError(
                    f"has {found[0]} given and {found[1]} said tokens instead of {stated[0]} and {stated[1]}",
                    where=f"request {number + 1}",
                )


def made_up(number: int) -> list[str]:
    """So many different words of one to four syllables, common ones (short) and rare ones mixed."""
    random = stream(SEED, "words")
    found: dict[str, None] = {}
    while len(found) < number:
        found["".join(random.choice(_SYLLABLES) for _ in range(random.choice((1, 2, 2, 3, 3, 4))))] = None
    return list(found)


def requests(case: Case, words: Words, instances: int) -> list[list[Request]]:
    """What is asked for each instance; the first instances are the same however many there are.

    Raises:
        ObverseError: a text has not come out as long as stated.
    """
    made, lengths = [], []
    for rows in _made(case, words, instances):
        made.append([(given, said) for given, said, _ in rows])
        lengths += [length for _, _, length in rows]
    words.check([row for rows in made for row in rows], lengths, joint=case.kind == CAUSAL)
    return made


def lengths(case: Case, instances: int) -> list[int]:
    """Tokens of each instance's prompt: spread evenly, and every two of them have the mean of all together."""
    low, high = case.prompt
    out = []
    for i in range(instances):
        # The bits of the pair's number, backwards behind the point: any beginning is spread over the whole.
        place = sum((i // 2 >> bit & 1) / 2 ** (bit + 1) for bit in range(16))
        length = low + round(place * (high - low))
        out.append(length if i % 2 == 0 else low + high - length)
    return out


def _made(case: Case, words: Words, instances: int) -> list[list[tuple[str, str, tuple[int, int]]]]:
    """Given, said and their lengths, for each instance."""
    random = stream(SEED, "texts", case.name)
    joint = case.kind == CAUSAL
    options: list[str] = []
    while len(options) < case.options:
        # A label that is said first has no space in front of it; without one few words are one token.
        option = words.text(case.option, random, first=case.form == "channel" or not joint)
        if option not in options:
            options.append(option)
    begin = words.text(case.prefix, random) if case.prefix else ""
    said_behind = joint and case.form == "flipped"
    instruction = words.text(case.instruction, random, first=not said_behind) if case.instruction else ""
    free = [words.text(1, random, first=False) for _ in range(CONTENT_FREE - 1)] + [""]
    out = []
    for length in lengths(case, instances):
        if case.form == "calibration":
            text = words.text(length - case.instruction, random, first=False)
            asked = [(instruction + some, case.instruction + len(some.split())) for some in free]
            rows = [
                (given, option, (tokens, case.option))
                for given, tokens in [(instruction + text, length), *asked]
                for option in options
            ]
        elif case.form == "channel":
            said = words.text(length, random, first=not joint)
            rows = [(option, said, (case.option, length)) for option in options]
        elif case.form == "flipped":
            prompt = words.text(length, random)
            gap = "" if joint else " "
            rows = [
                (prompt + gap + option, instruction, (length + case.option, case.instruction)) for option in options
            ]
        else:
            prompt = begin + words.text(length, random, first=not begin)
            rows = [(prompt, option, (case.prefix + length, case.option)) for option in options]
        out.append(rows)
    return out


def _by_count(words: Sequence[str], counts: Sequence[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for word, count in zip(words, counts, strict=True):
        if count <= 3:
            found.setdefault(count, []).append(word)
    return found
