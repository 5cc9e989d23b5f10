"""Directions: which of instruction, input and label is said, given the others.

==========  ==========================  ==============
direction   given                       said
==========  ==========================  ==============
direct      instruction, input          label
channel     label                       instruction, input
flipped     input, label                instruction
similarity  input                       label
==========  ==========================  ==============

A rendering's context stands in front of what is given, except for similarity, which compares the input alone.

What a model is trained on is what it is scored on: both roads read their text off here. Sources: direct, T0
(arXiv 2110.08207); channel, arXiv 2108.04106; flipped, arXiv 2210.02969.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from obverse.errors import MethodError, nearest
from obverse.queries import Query
from obverse.tasks.templates import Mask, Rendering, Segment


def sentinel(i: int) -> str:
    """T5's mark of the i-th missing span."""
    return f"<extra_id_{i}>"


def numbered(i: int) -> str:
    """The mark for models without sentinel tokens; counted from 1 as people do."""
    return f"[{i + 1}]"


SLOTS = {"sentinels": sentinel, "numbered": numbered}


class Direction(ABC):
    """Turns a rendering and a label into a query. Subclasses are final and hold no state but their format."""

    name: str
    said_fields: bool
    """Whether input text stands on the said side (channel)."""

    @abstractmethod
    def query(self, rendering: Rendering, label: str, *, key: Hashable = None) -> Query:
        """What to ask of a model about `label`."""


class Direct(Direction):
    """log P(label | instruction, input)."""

    name = "direct"
    said_fields = False

    def query(self, rendering: Rendering, label: str, *, key: Hashable = None) -> Query:
        prompt = rendering.text
        # The space that parts the two belongs to the label (see Query); with nothing before it there is none.
        return Query(f"{rendering.context}{prompt}", f" {label}" if prompt else label, key)


class Channel(Direction):
    """log P(instruction, input | label).

    Two forms: the rendered prompt as it is (default), or, as the unlikelihood baseline of the Flipped paper is
    trained, `instruction: {chunks with slots} input: {input with slots}`.
    """

    name = "channel"
    said_fields = True

    def __init__(self, *, plain: bool = True, slots: str = "sentinels") -> None:
        self.plain = plain
        self._slot = _slots(slots)

    def query(self, rendering: Rendering, label: str, *, key: Hashable = None) -> Query:
        given = f"{rendering.context}{label}"
        if self.plain:
            return Query(given, f" {rendering.text}", key)
        inputs, chunks = _masked(rendering, self._slot)
        return Query(given, f" instruction: {chunks} input: {inputs}", key)


class Flipped(Direction):
    """log P(instruction | input, label), the instruction being the masked spans of the prompt.

    The given side is the prompt with the i-th literal chunk replaced by slot i, the said side is each slot, one
    space, its chunk, with nothing between the pieces. The chunk keeps its own edge white space, so `is "` behind an
    input reads `<extra_id_0>  is "`: two spaces, one of the format and one of the template.
    """

    name = "flipped"
    said_fields = False

    def __init__(self, *, slots: str = "sentinels") -> None:
        self._slot = _slots(slots)

    def query(self, rendering: Rendering, label: str, *, key: Hashable = None) -> Query:
        inputs, chunks = _masked(rendering, self._slot)
        # The released code writes one space before `output:`; the model card's text has none. The code made the
        # published numbers, so it is followed.
        given = f"{rendering.context}input: {inputs}\n output: {label}"
        # A causal model reads both sides as one text: the instruction starts on a line of its own there.
        return Query(given, f"\n{chunks}", key)


class Similarity(Direction):
    """How alike the input and the label are, for sentence encoders, which answer with a cosine and no probability.

    No instruction: one that stands beside the text draws every text towards the label words that it names.
    """

    name = "similarity"
    said_fields = False

    def query(self, rendering: Rendering, label: str, *, key: Hashable = None) -> Query:
        return Query(rendering.input_text, label, key)


def direction(name: str, *, slots: str = "sentinels") -> Direction:
    """The direction called `name`.

    Raises:
        MethodError: there is none of that name.
    """
    if name == "direct":
        return Direct()
    if name == "channel":
        return Channel(slots=slots)
    if name == "flipped":
        return Flipped(slots=slots)
    raise MethodError(f"unknown direction {name!r}", mend=nearest(name, ["direct", "channel", "flipped"]))


def _masked(rendering: Rendering, slot: Callable[[int], str]) -> tuple[str, str]:
    """The prompt with slots for its literal chunks, and the chunks with their slots."""
    if rendering.mask is not None:
        given = "".join(slot(piece) if isinstance(piece, int) else piece.text for piece in rendering.mask.given)
        return given, "".join(f"{slot(i)} {chunk}" for i, chunk in enumerate(rendering.mask.chunks))
    inputs: list[str] = []
    chunks: list[str] = []
    for segment in rendering.joined():
        if segment.field is None:
            mark = slot(len(chunks))
            inputs.append(mark)
            chunks.append(f"{mark} {segment.text}")
        else:
            inputs.append(segment.text)
    return "".join(inputs), "".join(chunks)


def _slots(name: str) -> Callable[[int], str]:
    if name not in SLOTS:
        raise MethodError(f"unknown slots {name!r}", mend=nearest(name, SLOTS))
    return SLOTS[name]


def shorten(rendering: Rendering, characters: int) -> Rendering:
    """Take `characters` from the end of the longest input field. Instruction and options are never touched."""
    segments = tuple(s for s in _shortened(rendering.segments, characters) if isinstance(s, Segment))
    mask = rendering.mask
    if mask is not None:  # the same text stands in the flipped form, where it is the longest too
        mask = Mask(tuple(_shortened(mask.given, characters)), mask.chunks)
    return replace(rendering, segments=segments, mask=mask)


def _shortened(pieces: Sequence[Segment | int], characters: int) -> list[Segment | int]:
    lengths = [len(p.text) if isinstance(p, Segment) and p.is_input else -1 for p in pieces]
    cut = list(pieces)
    place = lengths.index(max(lengths)) if lengths else 0
    longest = cut[place] if lengths and lengths[place] >= 0 else None
    if isinstance(longest, Segment):
        text = longest.text[: max(0, len(longest.text) - characters)].rstrip()
        cut[place] = Segment(text, longest.field)
    return cut
