"""Jinja templates as promptsource writes them: `prompt ||| target`, with answer choices.

Literal and input parts are told apart by what Jinja's own compiler does, not by patterns over the source: a
template's data reaches the output as plain strings, while every expression passes through the environment's
`finalize` hook, which marks it. Constant expressions are folded into the data by the compiler and so count as
literal, and only executed branches appear (preset `segments`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2.filters import do_truncate
from jinja2.sandbox import ImmutableSandboxedEnvironment

from obverse.errors import TemplateError
from obverse.seeds import stream
from obverse.tasks.examples import Example
from obverse.tasks.templates import Rendering, Segment, Template

SEPARATOR = "|||"
_LONGEST = 2048  # every expression of the reference is cut to so many characters


class _Input(str):
    """Text that came out of an expression. `str()` of it must not lose the mark."""

    __slots__ = ()

    def __str__(self) -> str:
        return self


def _mark(value: object) -> _Input:
    # The reference appends `| string | truncate(2048)` to every expression; Jinja's own filter keeps its leeway
    # of five characters and its cut at a word's end.
    text = value if isinstance(value, str) else str(value)
    if len(text) > _LONGEST:
        text = do_truncate(_ENVIRONMENT, text, _LONGEST)
    return _Input(text)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, finalize=_mark)
    environment.globals["zip"] = zip
    environment.filters["choice"] = lambda items: items[0]  # replaced for each rendering by a seeded draw
    return environment


_ENVIRONMENT = _environment()


class PromptsourceTemplate(Template):
    """One promptsource template.

    Args:
        name: for messages.
        jinja: `prompt ||| target`.
        answer_choices: Jinja source of the options with `|||` between, or None.
        seed: random choices inside the template depend on it and on the example's id alone.

    Raises:
        TemplateError: the source does not parse.
    """

    def __init__(self, name: str, jinja: str, answer_choices: str | None, *, seed: int = 0) -> None:
        self.name = name
        self.source = jinja
        self.seed = seed
        try:
            self._prompt = _ENVIRONMENT.from_string(jinja)
            self._choices = None if answer_choices is None else _ENVIRONMENT.from_string(answer_choices)
        except jinja2.TemplateError as error:
            raise TemplateError(f"does not parse: {error}", where=f"template {name!r}") from None

    def options(self, fields: Mapping[str, object]) -> tuple[str, ...] | None:
        """The stripped answer choices for these fields."""
        if self._choices is None:
            return None
        text = "".join(self._run(self._choices, dict(fields)))
        return tuple(choice.strip() for choice in text.split(SEPARATOR))

    def render(self, example: Example) -> Rendering:
        fields = dict(example.fields)
        random = stream(self.seed, self.name, example.id)
        options = self.options(fields)
        if options is not None:
            fields["answer_choices"] = list(options)
        fields["choice"] = random.choice
        pieces = self._run(self._prompt, fields)
        prompt, target = _split(pieces)
        return Rendering(
            tuple(Segment(str(p) if type(p) is str else str.__str__(p), "input" if isinstance(p, _Input) else None)
                  for p in prompt),
            options,
            None if target is None else "".join(target).strip(),
        )  # fmt: skip

    def _run(self, template: jinja2.Template, fields: dict[str, Any]) -> list[str]:
        try:
            return list(template.root_render_func(template.new_context(fields)))
        except jinja2.UndefinedError as error:
            raise TemplateError(f"names what the row does not have: {error}", where=f"template {self.name!r}") from None
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise TemplateError(f"does not render: {error}", where=f"template {self.name!r}") from None


def _split(pieces: list[str]) -> tuple[list[str], list[str] | None]:
    """Divide at the first separator that the template itself wrote; one inside the data is data."""
    for i, piece in enumerate(pieces):
        if not isinstance(piece, _Input) and SEPARATOR in piece:
            before, _, after = piece.partition(SEPARATOR)
            return [*pieces[:i], before], [after, *pieces[i + 1 :]]
    return pieces, None
