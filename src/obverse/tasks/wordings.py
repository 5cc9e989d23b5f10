"""Many instructions and many label wordings for one question about a text.

A facet is a question that can be asked of a text (its sentiment, its topic, ..) with a list of instructions and, for
each of its values, a list of wordings; wordings of the same place in the lists belong together as one option set.
"""

from __future__ import annotations

import random as python_random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from obverse.errors import DataError, RecipeError, nearest
from obverse.tasks.examples import Example
from obverse.tasks.mixture import Draw, DrawSource
from obverse.tasks.templates import Rendering, Segment


@dataclass(frozen=True, slots=True)
class Facet:
    """A question with its wordings.

    Attributes:
        instructions: ways to ask; may hold slots such as `{target}` for fields of the example.
        labels: value -> its wordings (equally many for each value); empty where values word themselves.
    """

    name: str
    instructions: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]

    @property
    def wordings(self) -> int:
        """How many option sets there are."""
        return min((len(w) for w in self.labels.values()), default=0)

    def only(self, instructions: Sequence[int], wordings: Sequence[int]) -> Facet:
        """The facet cut down to the given places of both lists (to keep the others for testing)."""
        return Facet(
            self.name,
            tuple(self.instructions[i] for i in instructions),
            {value: tuple(words[i] for i in wordings) for value, words in self.labels.items()},
        )


def read_facets(path: Path) -> dict[str, Facet]:
    """The facets of a TOML file.

    Raises:
        DataError: naming the facet and what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"is not TOML: {error}", where=str(path)) from None
    facets = {}
    for name, entry in raw.get("facets", {}).items():
        labels = {value: tuple(words) for value, words in entry.get("labels", {}).items()}
        if not entry.get("instructions"):
            raise DataError("has no instructions", where=f"{path}, facet {name}")
        if len({len(words) for words in labels.values()}) > 1:
            raise DataError("its values do not have equally many wordings", where=f"{path}, facet {name}")
        facets[name] = Facet(name, tuple(entry["instructions"]), labels)
    return facets


# Where the instruction stands. The first, which is what a user's plain instruction becomes, is drawn most often.
_LAYOUTS = (
    ("", "\n{instruction}"),
    ("{instruction}\n", ""),
    ("Text: ", "\n{instruction}"),
    ("{instruction} ", ""),
    ('"', '" {instruction}'),
    ("{instruction}\n\n", "\nAnswer:"),
    ("", "\n\nQuestion: {instruction}\nAnswer:"),
)


class WordedSource(DrawSource):
    """Examples of one facet, drawn with a fresh instruction, layout, wording, subset and order of options.

    Args:
        examples: `fields` holds one or more texts, `label` the facet's value (or the option's own text).
        facet: the wordings.
        most_options: at most so many options in a draw.
        list_options: how often the instruction names the options.
        values: what to choose between; None means the values that occur among the examples.
    """

    def __init__(
        self,
        name: str,
        examples: Sequence[Example],
        facet: Facet,
        *,
        most_options: int = 6,
        list_options: float = 0.2,
        values: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.examples = tuple(examples)
        self.facet = facet
        self.most_options = most_options
        self.list_options = list_options
        # Values that never occur among the examples are no options here: "neutral" in a two-class set would be a
        # wrong answer that the data cannot contradict.
        present = {e.label for e in examples if e.label is not None}
        self.values = tuple(sorted(present if values is None else values))
        for example in self.examples:
            if example.label is None:
                raise RecipeError(f"an example of {name!r} has no label", where=example.where or example.id)
            if facet.labels and example.label not in facet.labels:
                raise RecipeError(
                    f"facet {facet.name!r} has no wordings for the value {example.label!r}",
                    where=example.where or example.id,
                    mend=nearest(example.label, facet.labels),
                )

    def __len__(self) -> int:
        return len(self.examples)

    def draw(self, random: python_random.Random) -> Draw:
        example = random.choice(self.examples)
        label = example.label
        assert label is not None
        if example.options is not None:
            wrong = [o for o in example.options if o != label]
        else:
            wrong = [v for v in self.values if v != label]
        random.shuffle(wrong)
        few = random.choice((1, 2, 3, self.most_options - 1, self.most_options - 1))
        values = [label, *wrong[: max(1, min(few, self.most_options - 1))]]
        random.shuffle(values)
        if self.facet.labels:
            place = random.randrange(self.facet.wordings)
            options = tuple(self.facet.labels[v][place] for v in values)
        else:
            options = tuple(values)
        rendering = word(example, random.choice(self.facet.instructions), options, random, self.list_options)
        return Draw(self.name, example.id, rendering, options, values.index(label))


@dataclass(frozen=True, slots=True)
class AskedText:
    """A text with questions of its own, each with its options, of which the first is right."""

    id: str
    text: str
    asks: tuple[tuple[str, tuple[str, ...]], ...]


class AskedSource(DrawSource):
    """Texts that carry their own questions, drawn in a fresh layout with a fresh subset and order of the options.

    Args:
        texts: at least one, each with at least one question of at least two options.
        most_options: at most so many options in a draw.
        list_options: how often the instruction names the options.
    """

    def __init__(
        self, name: str, texts: Sequence[AskedText], *, most_options: int = 10, list_options: float = 0.1
    ) -> None:
        self.name = name
        self.texts = tuple(texts)
        self.most_options = most_options
        self.list_options = list_options

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, random: python_random.Random) -> Draw:
        text = random.choice(self.texts)
        question, (right, *wrong) = random.choice(text.asks)
        random.shuffle(wrong)
        few = random.choice((1, 2, 3, self.most_options - 1, self.most_options - 1))
        values = [right, *wrong[: min(few, self.most_options - 1)]]
        random.shuffle(values)
        example = Example(text.id, {"text": text.text}, right)
        rendering = word(example, question, values, random, self.list_options)
        return Draw(self.name, text.id, rendering, tuple(values), values.index(right))


def word(
    example: Example, instruction: str, options: Sequence[str], random: python_random.Random, list_options: float
) -> Rendering:
    """The example under the instruction, in a layout drawn from `random`."""
    if random.random() < list_options:
        order = list(options)
        random.shuffle(order)
        listed = f"{', '.join(order[:-1])} or {order[-1]}"
        instruction += random.choice((f" ({listed})", f" Options: {listed}.", f" Is it {listed}?", f" {listed}?"))
    before, after = _LAYOUTS[0] if random.random() < 0.5 else random.choice(_LAYOUTS)
    used = [name for name in example.fields if f"{{{name}}}" in instruction]
    segments: list[Segment] = []
    if used and "text" not in example.fields:
        segments += fill(instruction, example)  # a cloze over all inputs: "Does {premise} mean that {hypothesis}?"
        return Rendering(tuple(segments), tuple(options))
    inputs: list[Segment] = []
    names = [name for name in example.fields if name not in used]
    for i, name in enumerate(names):
        if len(names) > 1:
            inputs.append(Segment(("\n" if i else "") + f"{name}: "))
        inputs.append(Segment(str(example.fields[name]), name))
    for part in (before, None, after):
        if part is None:
            segments += inputs
        else:
            head, slot, tail = part.partition("{instruction}")
            segments.append(Segment(head))
            if slot:
                segments += fill(instruction, example)
            segments.append(Segment(tail))
    return Rendering(tuple(s for s in segments if s.text or s.field), tuple(options))


def fill(instruction: str, example: Example) -> list[Segment]:
    """The instruction with its `{field}` slots as input segments; other braces stay as they are."""
    segments = [Segment(instruction)]
    for name, value in example.fields.items():
        out: list[Segment] = []
        for segment in segments:
            if segment.field is not None:
                out.append(segment)
                continue
            parts = segment.text.split(f"{{{name}}}")
            for i, part in enumerate(parts):
                if i:
                    out.append(Segment(str(value), name))
                if part:
                    out.append(Segment(part))
        segments = out
    return segments
