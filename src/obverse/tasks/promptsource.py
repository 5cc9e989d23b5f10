"""Jinja templates as promptsource writes them: `prompt ||| target`, with answer choices.

Literal and input parts are told apart by what Jinja's own compiler does, not by patterns over the source: a
template's data reaches the output as plain strings, while every expression passes through the environment's
`finalize` hook, which marks it. Constant expressions are folded into the data by the compiler and so count as
literal, and only executed branches appear (preset `segments`).
"""

from __future__ import annotations

import random as python_random
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2.filters import do_truncate
from jinja2.sandbox import ImmutableSandboxedEnvironment

from obverse.errors import TemplateError
from obverse.seeds import stream
from obverse.tasks.examples import Example
from obverse.tasks.templates import Rendering, Segment, Template

SEPARATOR = "|||"
# Stands for a separator inside the data while the options are divided: two characters of no script.
_KEPT = "\ufdd0\ufdd1"
# Where `choice` finds the rendering's random numbers. Not an identifier, so no template can name it.
_RANDOM = "random numbers"
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


@jinja2.pass_context  # a filter that reads the context is not worked out beforehand by Jinja's compiler
def _choice(context: jinja2.runtime.Context, items: Sequence[Any]) -> Any:
    random: python_random.Random = context[_RANDOM]
    return random.choice(items)


def _environment(**changes: Any) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, **changes)
    environment.globals |= {"zip": zip, "choice": _choice}
    environment.filters["choice"] = _choice
    return environment


_ENVIRONMENT = _environment(finalize=_mark)
_OPTIONS_ENVIRONMENT = _environment()  # the reference cuts the prompt and the target, not the answer choices
_FAULTS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
)


class PromptsourceTemplate(Template):
    """One promptsource template.

    Beside Jinja's own, templates may use `zip`, and `choice` as a function or as a filter. A field of the same name
    hides the function, as it does in the reference.

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
            self._choices = None if answer_choices is None else _OPTIONS_ENVIRONMENT.from_string(answer_choices)
        except _FAULTS as error:
            raise TemplateError(f"does not parse: {error}", where=f"template {name!r}") from None

    def options(self, example: Example) -> tuple[str, ...] | None:
        """The stripped answer choices of an example; None where the template leaves them open.

        A separator inside the data is data. (The reference protects that in text fields; here it also holds inside
        lists and mappings.)

        Raises:
            TemplateError: the answer choices do not render.
        """
        if self._choices is None:
            return None
        fields = {name: _protected(value) for name, value in example.fields.items()}
        text = "".join(self._run(self._choices, fields, stream(self.seed, self.name, example.id, "options")))
        return tuple(choice.replace(_KEPT, SEPARATOR).strip() for choice in text.split(SEPARATOR))

    def render(self, example: Example) -> Rendering:
        fields = dict(example.fields)
        options = self.options(example)
        if options is not None:
            fields["answer_choices"] = list(options)
        prompt, target = _split(self._run(self._prompt, fields, stream(self.seed, self.name, example.id)))
        return Rendering(
            # The text as a plain `str`, so that the mark goes no further.
            tuple(Segment(str.__str__(p), "input" if isinstance(p, _Input) else None) for p in prompt),
            options,
            None if target is None else "".join(target).strip(),
        )

    def _run(self, template: jinja2.Template, fields: dict[str, Any], random: python_random.Random) -> list[str]:
        try:
            return list(template.root_render_func(template.new_context({**fields, _RANDOM: random})))
        except jinja2.UndefinedError as error:
            raise TemplateError(f"names what the row does not have: {error}", where=f"template {self.name!r}") from None
        except _FAULTS as error:
            raise TemplateError(f"does not render: {error}", where=f"template {self.name!r}") from None


def _protected(value: object) -> object:
    """The value with every separator in its texts replaced."""
    if isinstance(value, str):
        return value.replace(SEPARATOR, _KEPT)
    if isinstance(value, Mapping):
        return {key: _protected(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_protected(item) for item in value]
    return value


def _split(pieces: list[str]) -> tuple[list[str], list[str] | None]:
    """Divide at the first separator that the template itself wrote; one inside the data is data."""
    for i, piece in enumerate(pieces):
        if not isinstance(piece, _Input) and SEPARATOR in piece:
            before, _, after = piece.partition(SEPARATOR)
            return [*pieces[:i], before], [after, *pieces[i + 1 :]]
    return pieces, None
