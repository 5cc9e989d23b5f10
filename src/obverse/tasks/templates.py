"""Templates: from the fields of an example to literal and input segments.

One rendering serves every direction, because it keeps apart what the template says (the instruction) and what the
example says (the input).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from obverse.errors import TemplateError, nearest
from obverse.tasks.examples import Example

EXEMPLAR = "exemplar"
"""Field of what exemplars in context say: data, but not the instance's own."""
CHOICE = "choice"
"""Field of an option that the prompt lists: shortening or blanking it would change the question."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a rendered prompt: `field` is None for the template's own words, else where the text came from."""

    text: str
    field: str | None = None

    @property
    def is_input(self) -> bool:
        """Whether it belongs to the instance: what is shortened to fit, and blanked for content-free inputs."""
        return self.field not in (None, EXEMPLAR, CHOICE)


@dataclass(frozen=True, slots=True)
class Mask:
    """The flipped form of a prompt where a format numbers the instruction's chunks itself.

    Attributes:
        given: the prompt with its chunks masked: a piece of text with where it came from (words of the template that
            are no chunk have no field), or the number of a chunk. A chunk may stand there several times (the same
            prefix before every listed option) or not at all (a branch of the template that was not taken).
        chunks: what is said, in the order of its numbers; may hold an empty text.
    """

    given: tuple[Segment | int, ...]
    chunks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rendering:
    """A rendered prompt and what may be answered.

    Attributes:
        segments: literal and input pieces in order; joined they are the prompt, outer white space included.
        options: the texts to choose between, in the label set's order; None where the template leaves them open.
        target: the right answer's text, or None where it is not known.
        mask: the flipped form, where it is not to be read off the segments.
        credits: what each option is worth, for instances with several right ones; None where only `target` counts.
        references: every accepted answer of a task whose answers are written freely; `target` is the first.
        context: text in front of the given side in every direction, its closing white space included: demonstrations
            of other tasks. No part of the prompt: never said, shortened or blanked.
    """

    segments: tuple[Segment, ...]
    options: tuple[str, ...] | None = None
    target: str | None = None
    mask: Mask | None = None
    credits: tuple[float, ...] | None = None
    references: tuple[str, ...] = ()
    context: str = ""

    @property
    def text(self) -> str:
        """The prompt, stripped of surrounding white space as the reference does; without the context."""
        return "".join(s.text for s in self.segments).strip()

    @property
    def input_text(self) -> str:
        """The inputs alone, a line each: what a sentence encoder compares with the labels."""
        return "\n".join(s.text for s in self.segments if s.is_input)

    @property
    def chunks(self) -> tuple[str, ...]:
        """The template's own words, one chunk between two inputs, edge white space kept, empty ones left out."""
        return tuple(s.text for s in self.joined() if s.field is None)

    def joined(self) -> tuple[Segment, ...]:
        """The segments with neighbouring literals merged and empty literals dropped.

        An empty input stays, because it parts two chunks: which words are said must not depend on what a row holds.
        """
        out: list[Segment] = []
        for segment in self.segments:
            if segment.field is None and not segment.text:
                continue
            if segment.field is None and out and out[-1].field is None:
                out[-1] = Segment(out[-1].text + segment.text)
            else:
                out.append(segment)
        return tuple(out)

    def without_input(self) -> Rendering:
        """The same instruction with every input blank: what pmi and contextual calibration compare with."""
        return self.with_inputs("")

    def with_inputs(self, text: str) -> Rendering:
        """The same instruction with every input replaced by `text` (for content-free inputs such as "N/A")."""

        def blank(segment: Segment) -> Segment:
            return Segment(text, segment.field) if segment.is_input else segment

        mask = self.mask
        if mask is not None:
            mask = Mask(tuple(piece if isinstance(piece, int) else blank(piece) for piece in mask.given), mask.chunks)
        return replace(self, segments=tuple(map(blank, self.segments)), mask=mask)


class Template(ABC):
    """Something that renders examples; subclasses are final."""

    name: str

    @abstractmethod
    def render(self, example: Example) -> Rendering:
        """Segments, options and target of one example.

        Raises:
            TemplateError: the template names a field the example lacks, or does not render.
        """


_SLOT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


class InstructionTemplate(Template):
    """A user's instruction, with the text columns put into it.

    `{column}` marks where a column goes; `{{` and `}}` are literal braces. An instruction that marks none stands on
    a line of its own behind the input: one column is put there bare, several each on a line as `column: value`.
    Reason: the input first is the shape of most training templates, and lets models share the input's encoding
    between instructions.

    Args:
        instruction: the user's words.
        columns: the names that `{...}` may use.

    Raises:
        TemplateError: blank instruction, or a slot that names no column.
    """

    def __init__(self, instruction: str, columns: Sequence[str], *, name: str = "instruction") -> None:
        self.name = name
        self.instruction = instruction
        if not instruction.strip():
            raise TemplateError("the instruction is blank", where="--instruction", mend="Say what is to be decided.")
        self._parts: list[tuple[str, bool]] = []
        position = 0
        for match in _SLOT.finditer(instruction):
            self._literal(instruction[position : match.start()])
            position = match.end()
            if match.group() in ("{{", "}}"):
                self._literal(match.group()[0])
                continue
            column = match.group(1).strip()
            if column not in columns:
                raise TemplateError(
                    f"the instruction's slot {{{column}}} names no text column",
                    where="--instruction",
                    mend=nearest(column, columns) + " For a literal brace write {{ or }}.",
                )
            self._parts.append((column, True))
        self._literal(instruction[position:])
        if not any(is_slot for _, is_slot in self._parts):
            words = "\n" + "".join(text for text, _ in self._parts)
            self._parts = []
            for i, column in enumerate(columns):
                if len(columns) > 1:
                    self._literal(("\n" if i else "") + f"{column}: ")
                self._parts.append((column, True))
            self._literal(words)

    def _literal(self, text: str) -> None:
        if text:
            self._parts.append((text, False))

    def render(self, example: Example) -> Rendering:
        segments = []
        for part, is_slot in self._parts:
            if not is_slot:
                segments.append(Segment(part))
                continue
            if part not in example.fields:
                raise TemplateError(
                    f"there is no field {part!r}", where=example.where or None, mend=nearest(part, example.fields)
                )
            segments.append(Segment(str(example.fields[part]), part))
        return Rendering(tuple(segments), example.options, example.label)


def default_instruction(labels: Sequence[str]) -> str:
    """The instruction built when the user gives none.

    Short label sets are named in it, because that tells a model what is asked; long ones would fill the window. It is
    written for `InstructionTemplate`: braces in a label's name stand doubled.
    """
    if sum(len(label) for label in labels) > 120 or len(labels) > 8:
        return "Which of the given labels fits this text best?"
    names = [label.replace("{", "{{").replace("}", "}}") for label in labels]
    return f"Does this text belong to {', '.join(names[:-1])} or {names[-1]}?"
