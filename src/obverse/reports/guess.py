"""What `obverse guess` found: instructions that a model thinks labelled texts were labelled by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obverse.metrics.intervals import Interval, wilson
from obverse.reports.typography import collapsed, counted, shorten

_WIDTH_ELSEWHERE = 200
_TEXT_CELLS = 100


@dataclass(frozen=True, slots=True)
class Hits:
    """How many of the judged rows were labelled right."""

    right: int
    judged: int

    @property
    def accuracy(self) -> float:
        """The share of right ones; 0 where none was judged."""
        return self.right / self.judged if self.judged else 0.0

    @property
    def interval(self) -> Interval:
        """Its Wilson 95 % interval."""
        return wilson(self.right, self.judged)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        return {"accuracy": self.accuracy, "accuracy_interval": list(self.interval), "right": self.right}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.accuracy:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


@dataclass(frozen=True, slots=True)
class GuessedInstruction:
    """One candidate.

    Attributes:
        text: the instruction.
        score: mean over the ranking rows of log P(instruction | text, its label), in nats a token.
        proposed: how many of the rows that were read proposed it.
        hits: what it gets as the instruction; None where that was not tried.
        own: whether the user brought it.
    """

    text: str
    score: float
    proposed: int
    hits: Hits | None
    own: bool = False


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row that instructions were guessed from.

    Attributes:
        where: file and row.
        text, label: what was read.
        candidates: what the model said, and nats a token; the likeliest first.
    """

    where: str
    text: str
    label: str
    candidates: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class GuessReport:
    """All that was found.

    Attributes:
        input, model, method: as they were named; the method is the one that the accuracies are by.
        labels: label -> rows of the whole file.
        left_out: rows without a text or a label.
        read: the rows that were read, with what each proposed.
        ranked_on: rows that the candidates were compared on.
        instructions: the candidates, the best score first.
        plain: the instruction that is built from the labels, for comparison.
        plain_hits: what it gets.
        most_frequent: how many of the ranking rows have the label that is most frequent among them.
        seed: of the draw of rows.
    """

    input: str
    model: str
    method: str
    labels: tuple[tuple[str, int], ...]
    left_out: int
    read: tuple[ReadRow, ...]
    ranked_on: int
    instructions: tuple[GuessedInstruction, ...]
    plain: str
    plain_hits: Hits
    most_frequent: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        return {
            "input": self.input,
            "model": self.model,
            "method": self.method,
            "seed": self.seed,
            "labels": dict(self.labels),
            "left_out": self.left_out,
            "rows_read": len(self.read),
            "rows_ranked_on": self.ranked_on,
            "instructions": [
                {
                    "instruction": each.text,
                    "score": each.score,
                    "proposed": each.proposed,
                    "own": each.own,
                    **({} if each.hits is None else each.hits.to_json()),
                }
                for each in self.instructions
            ],
            "plain": {"instruction": self.plain, **self.plain_hits.to_json()},
            "most_frequent_label": self.most_frequent / self.ranked_on,
            "rows": [
                {
                    "where": row.where,
                    "text": row.text,
                    "label": row.label,
                    "candidates": [{"instruction": text, "score": score} for text, score in row.candidates],
                }
                for row in self.read
            ],
        }

    def render(self, console: Console, *, per_row: bool = False) -> None:
        """Print for people.

        Args:
            per_row: also what each row proposed.
        """
        if not console.is_terminal:
            console.width = max(console.width, _WIDTH_ELSEWHERE)
        if per_row:
            self._print_rows(console)
        tried = [each for each in self.instructions if each.hits is not None]
        console.print(Text("Guessed instructions", style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("instruction", overflow="fold")
        table.add_column("nats a token", justify="right", no_wrap=True)
        table.add_column("rows", justify="right", no_wrap=True)
        table.add_column("accuracy, 95 % interval", justify="right", no_wrap=True)
        for each in tried:
            table.add_row(
                Text(f"{each.text} (yours)" if each.own else each.text),
                f"{each.score:.2f}",
                f"{each.proposed:,}",
                str(each.hits),
            )
        console.print(table)
        for note in self._notes(len(tried)):
            console.print(Text(note, style="dim"))

    def _notes(self, shown: int) -> list[str]:
        notes = []
        if shown < len(self.instructions):
            notes.append(f"{counted(len(self.instructions) - shown, 'more candidate')}: --show N, or --output FILE.")
        notes += [
            f"Guessed from {counted(len(self.read), 'row')} (rows: how many proposed it), compared on "
            f"{counted(self.ranked_on, 'other row')}. Accuracy: method {self.method}.",
            f'For comparison: "{collapsed(self.plain)}" {self.plain_hits}; always the most frequent label '
            f"{100 * self.most_frequent / self.ranked_on:.0f} %.",
        ]
        if self.left_out:
            notes.append(f"Left out: {counted(self.left_out, 'row')} without text or label.")
        return notes

    def _print_rows(self, console: Console) -> None:
        for row in self.read:
            console.print(Text(f"{row.where}: {shorten(collapsed(row.text), _TEXT_CELLS)} -> {row.label}"))
            for text, score in row.candidates:
                console.print(Text(f"  {score:6.2f}  {text}"))
        console.print()
