"""Which words of the instruction speak for which label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obverse.errors import DataError
from obverse.reports.typography import collapsed, one_line, shorten, shorten_names, signed

_LEAST_SHOWN = 4
_TOKEN_CELLS = 20
_LABEL_CELLS = 13


@dataclass(frozen=True, slots=True)
class Explanation:
    """The log-probability of each token said, once for each label given.

    A token all labels find equally likely says nothing about the choice, so what is shown is the difference from the
    mean over the labels: in column sums it adds up to a label's score less the mean score.

    Attributes:
        text: the text that was labelled.
        labels: the options.
        tokens: the said tokens in reading order, as the tokenizer shows them; the same for every label.
        nats: natural-log probabilities, one row a label, one column a token.
        probabilities: of the labels; the largest is the prediction.
        kind: the direction that was read off (`flipped`, `channel`).

    Raises:
        DataError: the shapes do not fit one another, or a log-probability is not finite.
    """

    text: str
    labels: tuple[str, ...]
    tokens: tuple[str, ...]
    nats: tuple[tuple[float, ...], ...]
    probabilities: tuple[float, ...]
    kind: str

    def __post_init__(self) -> None:
        for name in ("labels", "tokens", "probabilities"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "nats", tuple(tuple(row) for row in self.nats))
        if not self.labels or not len(self.labels) == len(self.nats) == len(self.probabilities):
            raise DataError(
                f"{len(self.labels)} labels, {len(self.nats)} rows of log-probabilities and "
                f"{len(self.probabilities)} probabilities do not fit one another"
            )
        for label, row in zip(self.labels, self.nats, strict=True):
            if len(row) != len(self.tokens):
                raise DataError(
                    f"there are {len(self.tokens)} tokens but {len(row)} log-probabilities", where=f"label {label!r}"
                )

            if not all(map(math.isfinite, row)):
                raise DataError("a log-probability is not a finite number", where=f"label {label!r}")

    @property
    def contrasts(self) -> tuple[tuple[float, ...], ...]:
        """`nats` less the mean over the labels, token by token; every column sums to 0."""
        means = [sum(column) / len(self.labels) for column in zip(*self.nats, strict=True)]
        return tuple(tuple(n - mean for n, mean in zip(row, means, strict=True)) for row in self.nats)

    @property
    def totals(self) -> tuple[float, ...]:
        """The sum of each label's contrasts."""
        return tuple(sum(row) for row in self.contrasts)

    @property
    def winner(self) -> int:
        """The index of the most probable label (the first of several)."""
        return max(range(len(self.labels)), key=lambda k: self.probabilities[k])

    def foremost(self, most: int) -> list[int]:
        """The label indices to show where there is room for `most`: all in their order, or the winner and the
        highest totals in descending order."""
        order = list(range(len(self.labels)))
        if len(order) <= most:
            return order
        totals, winner = self.totals, self.winner
        return sorted(order, key=lambda k: (k != winner, -totals[k]))[:most]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        return {
            "kind": self.kind,
            "text": self.text,
            "labels": list(self.labels),
            "probabilities": list(self.probabilities),
            "tokens": list(self.tokens),
            "nats": [list(row) for row in self.nats],
            "totals": list(self.totals),
        }

    def render(self, console: Console) -> None:
        """Print a row a token and a column a label; the predicted label is marked."""
        ascii_only = console.options.ascii_only
        ellipsis = "..." if ascii_only else "…"
        mark = "*" if ascii_only else "▶"
        shown = self.foremost(max(_LEAST_SHOWN, (console.width - _TOKEN_CELLS) // _LABEL_CELLS))
        contrasts, totals, winner = self.contrasts, self.totals, self.winner

        console.print(Text(f"text: {shorten(collapsed(self.text), 2 * console.width - 10, ellipsis=ellipsis)}"))
        console.print(
            Text(f"{self.kind}: log-probability of each token, less the mean over the labels (nats)", style="dim")
        )
        if len(shown) < len(self.labels):
            console.print(
                Text(
                    f"{len(shown)} of {len(self.labels)} labels shown: the prediction and the highest sums", style="dim"
                )
            )
        console.print()
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column(Text("token", "dim"), no_wrap=True)
        # A column takes its name, a mark of two and a gap of two.
        room = max(_LABEL_CELLS, (console.width - _TOKEN_CELLS) // len(shown)) - 4
        names = shorten_names([self.labels[k] for k in shown], room, ellipsis=ellipsis)
        for k, name in zip(shown, names, strict=True):
            head = Text(f"{mark} {name}", "bold") if k == winner else Text(name)
            table.add_column(head, justify="right", no_wrap=True)

        def add(name: Text, cells: Sequence[str], *, end_section: bool = False) -> None:
            styles = ["bold" if k == winner else "" for k in shown]
            table.add_row(name, *map(Text, cells, styles), end_section=end_section)

        for t, token in enumerate(self.tokens):
            name = shorten(one_line(token), _TOKEN_CELLS - 2, ellipsis=ellipsis)
            add(Text(name), [signed(contrasts[k][t]) for k in shown], end_section=t == len(self.tokens) - 1)
        add(Text("sum"), [signed(totals[k]) for k in shown])
        add(Text("probability"), [f"{self.probabilities[k]:.3f}" for k in shown])
        console.print(table)
