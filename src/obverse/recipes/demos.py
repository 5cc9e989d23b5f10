"""`obverse demos`: sets of demonstrations for In-Context Instruction Learning, built and looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obverse.catalog.demonstrations import (
    Built,
    Heuristics,
    as_json,
    as_toml,
    build_demonstrations,
    estimated_tokens,
    read_demonstrations,
)
from obverse.errors import DataError, OutputError
from obverse.recipes.output_files import refuse_unwritable, write_json, write_text
from obverse.reports.typography import counted
from obverse.tasks.demonstrations import DemonstrationSet

_ESTIMATE = "a quarter of the bytes"


@dataclass(frozen=True)
class DemosSettings:
    """What `obverse demos build` was asked to do; names as on the command line.

    Attributes:
        model: whose tokenizer counts; None estimates.
        output: a .toml or .json file; None leaves the set to the caller.
    """

    data: Path | None
    k: int = 8
    seed: int = 0
    output: Path | None = None
    overwrite: bool = False
    answer_in_definition: bool = True
    most_tokens: int = 256
    distinct_answers: bool = True
    allow_abusive: bool = False
    order: str = "choices"
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A set with the tokens of each demonstration.

    Attributes:
        counted_by: what counted them.
        whole: tokens of all together, blank lines included.
    """

    demonstrations: DemonstrationSet
    tokens: tuple[int, ...]
    whole: int
    counted_by: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        shown = self.demonstrations
        return {
            "name": shown.name,
            "source": shown.source,
            "sha256": shown.digest,
            "counted_by": self.counted_by,
            "tokens": self.whole,
            "demonstrations": [
                {"task": each.task, "choices": list(each.choices), "tokens": tokens, "text": each.text}
                for each, tokens in zip(shown.demonstrations, self.tokens, strict=True)
            ],
        }

    def lines(self) -> list[str]:
        """For people: each demonstration as it stands in a prompt, under a line about it."""
        about = "about " if self.counted_by == _ESTIMATE else ""
        out: list[str] = []
        for i, (each, tokens) in enumerate(zip(self.demonstrations.demonstrations, self.tokens, strict=True), 1):
            choices = f", {len(each.choices)} choices: {', '.join(each.choices)}" if each.choices else ""
            licence = f", licence {each.licence}" if each.licence else ""
            name = each.task or "no name"
            out += [f"--- {i}. {name}, {about}{counted(tokens, 'token')}{choices}{licence}", each.text, ""]
        total = counted(len(self.demonstrations), "demonstration")
        out.append(f"{total}, {about}{counted(self.whole, 'token')} (counted by {self.counted_by})")
        if self.demonstrations.source:
            out.append(f"Source: {self.demonstrations.source}")
        return out


def build_demos(settings: DemosSettings) -> Built:
    """Build a set, and write it where a file is named.

    Raises:
        ObverseError: fewer than asked for can be found, wrong settings, no data folder, a file that cannot be written.
    """
    output = settings.output
    if output is not None:
        if output.suffix.lower() not in (".toml", ".json"):
            raise OutputError("must end in .toml or .json", where=str(output), mend=f"As in {output.stem or 'x'}.toml.")
        if output.exists() and not settings.overwrite:
            raise OutputError("exists already", where=str(output), mend="--overwrite replaces it.")
        refuse_unwritable(output)
    heuristics = Heuristics(
        settings.answer_in_definition,
        settings.most_tokens,
        settings.distinct_answers,
        settings.allow_abusive,
        settings.order,
    )
    if settings.data is None:
        raise DataError(
            "demonstrations are built from Super-NaturalInstructions",
            where="--data",
            mend="Name the folder that holds superni/, or set OBVERSE_DATA.",
        )
    count, counted_by = _counter(settings.model)
    built = build_demonstrations(
        settings.data,
        settings.k,
        heuristics=heuristics,
        seed=settings.seed,
        count_tokens=count,
        counted_by=counted_by,
    )
    if output is not None and output.suffix.lower() == ".json":
        write_json(output, as_json(built.demonstrations))
    elif output is not None:
        write_text(output, as_toml(built.demonstrations))
    return built


def built_lines(built: Built) -> list[str]:
    """What the user is told about the search."""
    found = len(built.demonstrations)
    out = [f"{counted(found, 'demonstration')} from {built.looked_at:,} of {counted(built.tasks, 'training task')}."]
    out += [f"Left out {counted(count, 'task')}: {reason}." for reason, count in built.removed.items()]
    out += [f"Left out a task that cannot be read: {fault}" for fault in built.faults]
    return out


def built_toml(built: Built) -> str:
    """The set as a TOML file holds it."""
    return as_toml(built.demonstrations)


def show_demos(name: str, *, model: str | None = None) -> Shown:
    """A set with its token counts.

    Args:
        name: `default`, or a file.
        model: whose tokenizer counts; None estimates.

    Raises:
        ObverseError: no such set, a faulty file, no such model.
    """
    demonstrations = read_demonstrations(name)
    count, counted_by = _counter(model)
    tokens = tuple(count(each.text) for each in demonstrations.demonstrations)
    return Shown(demonstrations, tokens, count(demonstrations.context()), counted_by)


def _counter(model: str | None) -> tuple[Callable[[str], int], str]:
    if model is None:
        return estimated_tokens, _ESTIMATE
    from obverse.models.checkpoints import load_model

    return load_model(model, device="cpu").count_tokens, f"the tokenizer of {model}"
