r"""In-Context Instruction Learning: solved examples of OTHER tasks in front of every prompt.

Each demonstration reads `Definition: ..\n\nInput: ..\nOutput: ..`; a blank line stands behind each, and behind the last
one the prompt of the task itself begins. The text is the same whatever task follows. What a window cannot hold loses
demonstrations from the end, whole ones; none is ever cut.

The demonstrations are context, not part of the prompt: they stand in front of the GIVEN side in every direction, are
never said, never shortened and never blanked (see `Rendering.context`).

Source: arXiv 2302.14691.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from obverse.errors import DataError, LabelError
from obverse.tasks.definition import Definition, DefinitionTemplate, Demonstration, demonstration_text
from obverse.tasks.labels import check_options
from obverse.tasks.templates import Rendering, Template

_BLANK_LINE = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class TaskDemonstration:
    """A solved example together with the definition of its task.

    Attributes:
        choices: the answers that its task knows; empty where they are not known.
        task: what its task is called; may be empty.
        licence: of its texts, as their source states it; None where nothing is said.

    Raises:
        DataError: a blank part, or an output that holds a blank line, where a generated answer would end.
        LabelError: choices that cannot be chosen between, or an output that is none of them but for case.
    """

    definition: str
    input: str
    output: str
    choices: tuple[str, ...] = ()
    task: str = ""
    licence: str | None = None

    def __post_init__(self) -> None:
        where = f"demonstration {self.task!r}" if self.task else "demonstration"
        for part in ("definition", "input", "output"):
            if not getattr(self, part).strip():
                raise DataError(f"the {part} is blank", where=where, mend=f"Write the {part} of a solved example.")
        if _BLANK_LINE.search(self.output.strip()):
            raise DataError(
                "the output holds a blank line", where=where, mend="A blank line ends an answer: write one without."
            )
        if self.choices:
            check_options(self.choices, where=where)
            if self.output.strip().casefold() not in {choice.strip().casefold() for choice in self.choices}:
                raise LabelError(
                    f"the output {self.output.strip()!r} is none of the choices",
                    where=where,
                    mend=f"Choices: {', '.join(self.choices)}.",
                )

    @property
    def text(self) -> str:
        """As it stands in a prompt, without the blank line behind it."""
        return demonstration_text(Definition(self.definition.strip()), Demonstration(self.input, self.output))


@dataclass(frozen=True, slots=True)
class DemonstrationSet:
    """Demonstrations in the order in which they are read.

    Attributes:
        name: for messages.
        source: where the texts come from and how they were chosen, for people; may be empty.

    Raises:
        DataError: there are none.
    """

    demonstrations: tuple[TaskDemonstration, ...]
    name: str = "demonstrations"
    source: str = ""

    def __post_init__(self) -> None:
        if not self.demonstrations:
            raise DataError("holds no demonstrations", where=self.name, mend="Give it at least one.")

    def __len__(self) -> int:
        return len(self.demonstrations)

    def context(self, count: int | None = None) -> str:
        """The first `count` demonstrations (None: all), a blank line behind each; empty for none."""
        return "".join(f"{shown.text}\n\n" for shown in self.demonstrations[:count])

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the whole text: what a score depends on."""
        return hashlib.sha256(self.context().encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class InContext:
    """A rendering behind its demonstrations.

    Attributes:
        dropped: how many demonstrations the window had no room for, from the last one on.
    """

    rendering: Rendering
    dropped: int


def in_context(
    rendering: Rendering, demonstrations: DemonstrationSet, *, fits: Callable[[Rendering], bool]
) -> InContext:
    """The rendering behind as many demonstrations as fit, from the first one on.

    With none left the rendering comes back whatever `fits` says of it: shortening its text is somebody else's task.

    Args:
        fits: whether the rendering, context included, is within the window. More context must never fit better.
    """
    few, many = 0, len(demonstrations)
    while few < many:  # `few` fit (or are none); more than `many` do not
        count = (few + many + 1) // 2 if many < len(demonstrations) else many
        if fits(replace(rendering, context=demonstrations.context(count))):
            few = count
        else:
            many = count - 1
    return InContext(replace(rendering, context=demonstrations.context(few)), len(demonstrations) - few)


def as_target(template: Template) -> Template:
    """The template as it stands behind demonstrations.

    One that is a definition loses its line `Now complete the following example -`, which the demonstrations have not
    either; every other one stays as it is.
    """
    if isinstance(template, DefinitionTemplate) and template.now_complete:
        return DefinitionTemplate(template.definition, labels=template.labels, now_complete=False, name=template.name)
    return template
