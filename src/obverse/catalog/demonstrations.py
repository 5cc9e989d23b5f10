"""Sets of demonstrations: read from a file, written as one, and built from Super-NaturalInstructions.

A file (TOML, or JSON of the same shape)::

    source = "own writing"              # left out: nothing is known

    [[demonstrations]]
    definition = "Say whether the weather is wet or dry."
    input = "It poured all night."
    output = "wet"
    choices = ["wet", "dry"]            # left out: not known
    task = "weather"                    # left out: no name
    licence = "CC0"                     # left out: nothing is said

One set comes with the package, `default`: eight demonstrations of this project's own writing.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from obverse.catalog.abuse import CATEGORIES, announces_abuse, holds_abuse
from obverse.catalog.json_files import as_text, kind, read_json
from obverse.catalog.superni import MOST_LABELS, open_superni, read_test_tasks, superni_names
from obverse.catalog.toml_files import read_toml
from obverse.errors import DataError, ObverseError, RecipeError, nearest
from obverse.seeds import stream
from obverse.tasks.definition import Definition, DefinitionTemplate
from obverse.tasks.demonstrations import DemonstrationSet, TaskDemonstration
from obverse.tasks.examples import Example
from obverse.tasks.task import Task

FOLDER = Path(__file__).parent / "demonstrations"
INSTANCES = 64
"""So many of a task's instances, the first ones, are looked at."""
ORDERS = ("choices", "drawn")

NO_CHOICES = "no fixed set of answers"
NOT_IN_DEFINITION = "an answer does not stand in the definition"
ABUSIVE = "abusive language"
TOO_LONG = "no instance is short enough"
SHARED = "an answer is another demonstration's too"

_LOOSER = {
    NOT_IN_DEFINITION: "--no-answer-in-definition",
    ABUSIVE: "--allow-abusive",
    TOO_LONG: "a larger --most-tokens",
    SHARED: "--no-distinct-answers or another --seed",
}
_KEYS = {"source", "demonstrations"}
_NEEDED = ("definition", "input", "output")
_ENTRY_KEYS = {*_NEEDED, "choices", "task", "licence"}


def demonstration_names() -> list[str]:
    """The sets that come with the package, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_demonstrations(name: str) -> DemonstrationSet:
    """The set of that name, or the one that a file of that name holds (.toml or .json).

    Raises:
        DataError: there is none, or the file is not as the format says.
        LabelError: a demonstration's choices cannot be chosen between, or its output is none of them.
    """
    if name in demonstration_names():
        return _read(FOLDER / f"{name}.toml", name)
    path = Path(name)
    if path.suffix.lower() not in (".toml", ".json"):
        raise DataError(
            f"there is no set of demonstrations {name!r}",
            mend=f"{nearest(name, demonstration_names())} Or name a .toml or .json file.",
        )
    return _read(path, name)


def as_toml(demonstrations: DemonstrationSet) -> str:
    """The set as `read_demonstrations` reads it from a .toml file."""
    lines = [f"source = {_toml(demonstrations.source)}"] if demonstrations.source else []
    for shown in demonstrations.demonstrations:
        lines += ["", "[[demonstrations]]"]
        for key, value in _entry(shown).items():
            written = _toml(value) if isinstance(value, str) else f"[{', '.join(map(_toml, value))}]"
            lines.append(f"{key} = {written}")
    return "\n".join(lines).lstrip("\n") + "\n"


def as_json(demonstrations: DemonstrationSet) -> dict[str, object]:
    """The set as plain values, as `read_demonstrations` reads it from a .json file."""
    source: dict[str, object] = {"source": demonstrations.source} if demonstrations.source else {}
    return source | {"demonstrations": [_entry(shown) for shown in demonstrations.demonstrations]}


def estimated_tokens(text: str) -> int:
    """A quarter of its UTF-8 bytes, rounded up: what English prose takes in GPT-2's tokens, or a little more."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / 4)


@dataclass(frozen=True, slots=True)
class Heuristics:
    """Which demonstrations are taken; each can be switched off but that for training tasks and fixed answers.

    Attributes:
        answer_in_definition: for each instance that is looked at, its answer stands in the definition, whatever the
            case, and not inside a longer word. Off, a fixed set by the rule of `open_superni` will do.
        most_tokens: a demonstration has no more.
        distinct_answers: no two demonstrations have an answer choice in common, whatever the case.
        allow_abusive: takes texts with abusive language too (see `obverse.catalog.abuse`).
        order: `choices`, the fewest answer choices first, equals as drawn; or `drawn`.

    Raises:
        RecipeError: no tokens at all, or an unknown order.
    """

    answer_in_definition: bool = True
    most_tokens: int = 256
    distinct_answers: bool = True
    allow_abusive: bool = False
    order: str = "choices"

    def __post_init__(self) -> None:
        if self.most_tokens < 1:
            raise RecipeError(f"{self.most_tokens} tokens hold no demonstration", where="--most-tokens", mend="As 256.")
        if self.order not in ORDERS:
            raise RecipeError(f"there is no order {self.order!r}", where="--order", mend=nearest(self.order, ORDERS))


@dataclass(frozen=True, slots=True)
class Built:
    """A set with how it came about.

    Attributes:
        tasks: training tasks in the folder.
        looked_at: how many of them were looked at before there were enough.
        removed: reason -> how many of those it removed; each task counts under the first reason that removed it.
        faults: what could not be read, a line a task.
    """

    demonstrations: DemonstrationSet
    tasks: int
    looked_at: int
    removed: Mapping[str, int]
    faults: tuple[str, ...] = ()


def build_demonstrations(
    data: Path,
    k: int,
    *,
    heuristics: Heuristics | None = None,
    seed: int = 0,
    count_tokens: Callable[[str], int] = estimated_tokens,
    counted_by: str = "a quarter of the bytes",
) -> Built:
    """`k` demonstrations of as many training tasks of Super-NaturalInstructions.

    Tasks are taken in an order that `seed` draws, and of each the first of its instances, in an order drawn for that
    task alone, that is short enough and clean; the test tasks are never opened. A task counts as classification where
    each of its first 64 instances (of all, where there are fewer) has exactly one answer and there are 2 to 20
    different ones; its answer choices are those answers, in alphabetical order.

    Source: the heuristics of arXiv 2302.14691. They differ in that "no" does not stand in "note", and in the check for
    abusive language, which is this project's.

    Args:
        heuristics: None means all of them.
        count_tokens: how many tokens a demonstration has.
        counted_by: what that is, for the set's `source`.

    Raises:
        DataError: the folder has no task files or no list of test tasks, or fewer than `k` can be found.
        RecipeError: `k` is below 1.
    """
    if k < 1:
        raise RecipeError(f"{k} demonstrations cannot be built", where="--k", mend="Give a number from 1 on.")
    heuristics = heuristics or Heuristics()
    held_out = set(read_test_tasks(data))
    names = [name for name in superni_names(data) if name.removeprefix("superni/") not in held_out]
    if not names:
        raise DataError(
            "holds no training task", where=str(data / "superni" / "tasks"), mend="Put task files (.json) there."
        )
    order = list(names)
    stream(seed, "demonstrations", "tasks").shuffle(order)
    search = _Search(heuristics, seed, count_tokens)
    taken: list[TaskDemonstration] = []
    removed: Counter[str] = Counter()
    faults: list[str] = []
    looked_at = 0
    for name in order:
        if len(taken) == k:
            break
        looked_at += 1
        try:
            found = search.try_task(open_superni(data, name), taken)
        except ObverseError as error:
            faults.append(str(error))
            continue
        if isinstance(found, str):
            removed[found] += 1
        else:
            taken.append(found)
    if len(taken) < k:
        raise _too_few(k, len(taken), len(names), removed, len(faults), data)
    if heuristics.order == "choices":
        taken.sort(key=lambda shown: len(shown.choices))
    built = DemonstrationSet(tuple(taken), "built", _described(heuristics, seed, counted_by))
    return Built(built, len(names), looked_at, MappingProxyType(dict(removed)), tuple(faults))


# Building


@dataclass(frozen=True, slots=True)
class _Search:
    heuristics: Heuristics
    seed: int
    count_tokens: Callable[[str], int]

    def try_task(self, task: Task, taken: list[TaskDemonstration]) -> TaskDemonstration | str:
        """A demonstration of the task, or why there is none."""
        definition = _definition(task)
        examples = [(str(e.fields["input"]), _outputs(e)) for e in _first(task)]
        choices = _choices(outputs for _, outputs in examples)
        if choices is None:
            return NO_CHOICES
        answers = [(text, outputs[0]) for text, outputs in examples]
        if not all(_named(answer, definition.text) for _, answer in answers):
            if self.heuristics.answer_in_definition:
                return NOT_IN_DEFINITION
            if task.labels is None:
                return NO_CHOICES
        if not self.heuristics.allow_abusive and _about_abuse(task, definition, choices):
            return ABUSIVE
        known = {choice.casefold() for shown in taken for choice in shown.choices}
        if self.heuristics.distinct_answers and known & {choice.casefold() for choice in choices}:
            return SHARED
        stream(self.seed, "demonstrations", task.name).shuffle(answers)
        reason = TOO_LONG
        for text, answer in answers:
            if not text.strip():
                continue
            shown = TaskDemonstration(definition.text, text, answer, choices, task.name, task.provenance.licence)
            if self.count_tokens(shown.text) > self.heuristics.most_tokens:
                continue
            if self.heuristics.allow_abusive or not holds_abuse(text):
                return shown
            reason = ABUSIVE
        return reason


def _definition(task: Task) -> Definition:
    template = task.templates[0].template
    assert isinstance(template, DefinitionTemplate)
    return template.definition


def _first(task: Task) -> Iterator[Example]:
    rows = task.rows(task.evaluation_split)
    return (rows[i] for i in range(min(INSTANCES, len(rows))))


def _outputs(example: Example) -> tuple[str, ...]:
    outputs = example.fields["output"]
    assert isinstance(outputs, tuple)
    return outputs


def _choices(outputs: Iterable[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The different answers in alphabetical order; None where they do not make a choice."""
    found: dict[str, str] = {}
    for each in outputs:
        if len(each) != 1 or not each[0]:
            return None
        found.setdefault(each[0].casefold(), each[0])
    return tuple(found[key] for key in sorted(found)) if 2 <= len(found) <= MOST_LABELS else None


def _named(answer: str, definition: str) -> bool:
    """Whether the answer stands in the definition, whatever the case, and not inside a longer word."""
    before = r"(?<!\w)" if re.match(r"\w", answer) else ""
    behind = r"(?!\w)" if re.search(r"\w\Z", answer) else ""
    return re.search(f"{before}{re.escape(answer.casefold())}{behind}", definition.casefold()) is not None


def _about_abuse(task: Task, definition: Definition, choices: Iterable[str]) -> bool:
    """Whether abuse is the task's subject, or stands in what all its demonstrations would show."""
    if any(category in CATEGORIES for category in definition.categories):
        return True
    if announces_abuse(task.name) or announces_abuse(definition.text):
        return True
    return any(map(holds_abuse, (definition.text, *choices)))


def _described(heuristics: Heuristics, seed: int, counted_by: str) -> str:
    """How a set was built, in a line."""
    limits = [
        "every answer stands in the definition" if heuristics.answer_in_definition else "answers of a fixed set",
        f"at most {heuristics.most_tokens} tokens ({counted_by})",
        "no answer shared" if heuristics.distinct_answers else "answers may be shared",
        "no check for abusive language" if heuristics.allow_abusive else "checked for abusive language",
        "fewest choices first" if heuristics.order == "choices" else "in the order drawn",
    ]
    return f"Super-NaturalInstructions, training tasks; {'; '.join(limits)}; seed {seed}"


def _too_few(k: int, found: int, tasks: int, removed: Mapping[str, int], faults: int, data: Path) -> DataError:
    counts = [f"{count} ({reason})" for reason, count in removed.items()]
    counts += [f"{faults} (cannot be read)"] if faults else []
    loose = [_LOOSER[reason] for reason in removed if reason in _LOOSER]
    fewer = [f"ask for --k {found}"] if found else []
    ways = ", ".join([*fewer, *loose, "more task files"])
    return DataError(
        f"{found} of {k} demonstrations can be found in {tasks} training tasks; left out: {', '.join(counts)}",
        where=str(data / "superni" / "tasks"),
        mend=f"What may help: {ways}.",
    )


# Files


def _read(path: Path, name: str) -> DemonstrationSet:
    where = str(path)
    raw: object = read_json(path).value if path.suffix.lower() == ".json" else read_toml(path)
    if not isinstance(raw, dict):
        raise DataError(f"the file is {kind(raw)}, not an object", where=where, mend="Write {..} there.")
    _check_keys(raw, _KEYS, where)
    entries = raw.get("demonstrations")
    if not isinstance(entries, list) or not entries:
        found = "there are no demonstrations" if entries in (None, []) else f"`demonstrations` is {kind(entries)}"
        raise DataError(found, where=where, mend="Write [[demonstrations]] with definition, input and output.")
    shown = tuple(_demonstration(entry, f"{where}, demonstration {i}") for i, entry in enumerate(entries, 1))
    return DemonstrationSet(shown, name, as_text(raw.get("source", ""), "`source`", where=where))


def _demonstration(raw: object, where: str) -> TaskDemonstration:
    if not isinstance(raw, dict):
        raise DataError(f"is {kind(raw)}", where=where, mend="Write definition, input and output there.")
    _check_keys(raw, _ENTRY_KEYS, where)
    for key in _NEEDED:
        if key not in raw:
            raise DataError(f"there is no `{key}`", where=where, mend="Write definition, input and output there.")
    choices = raw.get("choices", [])
    if not isinstance(choices, list):
        raise DataError(f"`choices` is {kind(choices)}, not a list", where=where, mend='Write ["..", ".."] there.')
    licence = raw.get("licence")
    try:
        return TaskDemonstration(
            as_text(raw["definition"], "`definition`", where=where),
            as_text(raw["input"], "`input`", where=where),
            as_text(raw["output"], "`output`", where=where),
            tuple(as_text(choice, "a choice", where=where) for choice in choices),
            as_text(raw.get("task", ""), "`task`", where=where),
            None if licence is None else as_text(licence, "`licence`", where=where),
        )
    except ObverseError as error:
        raise type(error)(error.what, where=where, mend=error.mend) from None


def _check_keys(raw: Mapping[str, object], known: Iterable[str], where: str) -> None:
    for key in raw:
        if key not in known:
            raise DataError(f"there is no key {key!r}", where=where, mend=nearest(key, known))


def _entry(shown: TaskDemonstration) -> dict[str, str | list[str]]:
    """A demonstration's keys in the order of reading, empty ones left out."""
    entry: dict[str, str | list[str]] = {"task": shown.task} if shown.task else {}
    entry |= {"definition": shown.definition, "input": shown.input, "output": shown.output}
    if shown.choices:
        entry["choices"] = list(shown.choices)
    if shown.licence is not None:
        entry["licence"] = shown.licence
    return entry


def _toml(text: str) -> str:
    # A basic string of TOML is one of JSON, but for the character that JSON leaves as it is and TOML does not allow.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
