"""One instance of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Example:
    """A row with its named fields.

    Attributes:
        id: unique within its table.
        fields: name -> value; text fields are `str`, data sets may hold numbers and lists.
        label: the name of the right option, or None where it is not known.
        options: the options to choose between where they belong to this instance, else None.
        where: file and row, for messages ("reviews.csv, row 12").
    """

    id: str
    fields: Mapping[str, object]
    label: str | None = None
    options: tuple[str, ...] | None = None
    where: str = field(default="", compare=False)
