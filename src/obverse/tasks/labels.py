"""The options a text is labelled with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from obverse.errors import LabelError


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Ordered label names, each with an optional description.

    A description takes part in the scoring: the option's text is then `name: description`.

    Raises:
        LabelError: fewer than two labels, a blank one, or two that are the same.
    """

    names: tuple[str, ...]
    descriptions: tuple[str | None, ...] = ()
    where: str = "labels"

    def __post_init__(self) -> None:
        if not self.descriptions:
            object.__setattr__(self, "descriptions", (None,) * len(self.names))
        if len(self.descriptions) != len(self.names):
            raise LabelError("there must be one description (or None) for each label", where=self.where)
        check_options(self.names, where=self.where)

    @classmethod
    def parse(cls, text: str, *, where: str = "--labels") -> LabelSet:
        """Read `praise, complaint: the customer is unhappy, question`.

        Entries stand on lines of their own when there is more than one line, otherwise between commas (then a
        description cannot hold a comma). Within an entry the first colon divides name and description.
        """
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        entries = lines if len(lines) > 1 else (lines[0].split(",") if lines else [])
        names, descriptions = [], []
        for entry in entries:
            name, colon, description = entry.partition(":")
            names.append(name.strip())
            descriptions.append(description.strip() or None if colon else None)
        return cls(tuple(names), tuple(descriptions), where=where)

    @property
    def texts(self) -> tuple[str, ...]:
        """What the model reads for each label: the name, with its description behind a colon if it has one."""
        return tuple(f"{n}: {d}" if d else n for n, d in zip(self.names, self.descriptions, strict=True))

    def index(self, name: str) -> int:
        """The position of `name`; exact match first, then ignoring case and outer white space.

        Raises:
            LabelError: there is no such label.
        """
        if name in self.names:
            return self.names.index(name)
        folded = [n.strip().casefold() for n in self.names]
        try:
            return folded.index(name.strip().casefold())
        except ValueError:
            raise LabelError(f"{name!r} is not one of the labels ({', '.join(self.names)})", where=self.where) from None

    def __len__(self) -> int:
        return len(self.names)


def check_options(options: Sequence[str] | Iterable[str], *, where: str) -> tuple[str, ...]:
    """The options as a tuple, if there are at least two and none is blank or a repetition.

    Raises:
        LabelError: otherwise.
    """
    options = tuple(options)
    for i, option in enumerate(options):
        if not isinstance(option, str):
            raise LabelError(f"label {i + 1} is {option!r}, which is not text", where=where)
        if not option.strip():
            raise LabelError(f"label {i + 1} of {len(options)} is blank", where=where, mend="Remove it or name it.")
    seen: dict[str, str] = {}
    for option in options:
        key = option.strip().casefold()
        if key in seen:
            raise LabelError(
                f"the label {option!r} stands there twice" + (f" (as {seen[key]!r})" if seen[key] != option else ""),
                where=where,
                mend="Each label must differ from the others by more than case.",
            )
        seen[key] = option
    if len(options) < 2:
        raise LabelError(
            f"there {'is only one label' if options else 'are no labels'}; a choice needs at least two",
            where=where,
            mend='Write them with commas between, as in --labels "praise, complaint, question".',
        )
    return options
