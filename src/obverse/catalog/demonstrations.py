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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from obverse.catalog.abuse import CATEGORIES, announces_abuse, holds_abuse
from obverse.catalog.json_files import as_text, kind, read_json
from obverse.catalog.superni import open_superni, read_test_tasks, superni_names
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
_DOUBLED_AT_MOST = 3  # of --most-tokens, to tell what more tokens would give

NO_CHOICES = "no fixed set of answers"
ONE_ANSWER = "all instances have the same answer"
NOT_IN_DEFINITION = "an answer does not stand in the definition"
ABUSIVE = "abusive language"
TOO_LONG = "no instance is short enough"
SHARED = "an answer is another demonstration's too"

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


def demonstration_set(
    demonstrations: str | Path | DemonstrationSet | Iterable[TaskDemonstration | Mapping[str, object]],
) -> DemonstrationSet:
    """The set that a name, a file or a list stands for.

    Args:
        demonstrations: as in `read_demonstrations`; or a set; or demonstrations, each perhaps as a mapping with the
            keys that it has in a file.

    Raises:
        DataError: as `read_demonstrations`; or it is something else.
        LabelError: as `read_demonstrations`.
    """
    if isinstance(demonstrations, DemonstrationSet):
        return demonstrations
    if isinstance(demonstrations, str | Path):
        return read_demonstrations(str(demonstrations))
    if not isinstance(demonstrations, Iterable) or isinstance(demonstrations, bytes | Mapping):
        raise DataError(
            f"demonstrations are given as a {type(demonstrations).__name__}",
            mend='Give "default", a file, or a list of them.',
        )
    shown = (
        each if isinstance(each, TaskDemonstration) else _demonstration(each, f"demonstration {number}")
        for number, each in enumerate(demonstrations, 1)
    )
    return DemonstrationSet(tuple(shown))


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
        answer_in_definition: for each instance that is looked at, its answers stand in the definition, whatever the
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
    the answers of each of its first 64 instances (of all, where there are fewer) stand in the definition and are not
    all the same; its answer choices are those answers, in alphabetical order. An instance with several right answers
    is shown with the first.

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
    search = _Search(k, heuristics, seed, count_tokens)
    candidates: list[_Candidate | ObverseError] = []
    found = search.search(_kept(_candidates(data, order), candidates))
    if len(found.taken) < k:
        raise _too_few(found, search, candidates, data)
    taken = list(found.taken)
    if heuristics.order == "choices":
        taken.sort(key=lambda shown: len(shown.choices))
    built = DemonstrationSet(tuple(taken), "built", _described(heuristics, seed, counted_by))
    return Built(built, len(names), len(candidates), found.removed, found.faults)


# Building


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A task as far as it is looked at.

    Attributes:
        instances: input and answers of the first ones.
        named: whether the definition names each of their answers.
        fixed: whether the answers are a fixed set by the rule of `open_superni`.
        choices: the different answers in alphabetical order.
    """

    name: str
    definition: Definition
    licence: str | None
    instances: tuple[tuple[str, tuple[str, ...]], ...]
    named: bool
    fixed: bool
    choices: tuple[str, ...]

    @classmethod
    def of(cls, task: Task) -> _Candidate:
        definition = _definition(task)
        instances = tuple((str(e.fields["input"]), _outputs(e)) for e in _first(task))
        found: dict[str, str] = {}
        for _, outputs in instances:
            for each in outputs:
                found.setdefault(each.casefold(), each)
        return cls(
            task.name,
            definition,
            task.provenance.licence,
            instances,
            all(outputs and all(_named(each, definition.text) for each in outputs) for _, outputs in instances),
            task.labels is not None,
            tuple(found[key] for key in sorted(found)),
        )


def _candidates(data: Path, names: Iterable[str]) -> Iterator[_Candidate | ObverseError]:
    """The tasks of these names, or why one cannot be read."""
    for name in names:
        try:
            yield _Candidate.of(open_superni(data, name))
        except ObverseError as error:
            yield error


def _kept(
    candidates: Iterable[_Candidate | ObverseError], kept: list[_Candidate | ObverseError]
) -> Iterator[_Candidate | ObverseError]:
    for each in candidates:
        kept.append(each)
        yield each


@dataclass(frozen=True, slots=True)
class _Found:
    """What a search came to; as in `Built`."""

    taken: tuple[TaskDemonstration, ...]
    removed: Mapping[str, int]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Search:
    k: int
    heuristics: Heuristics
    seed: int
    count_tokens: Callable[[str], int]

    def search(self, candidates: Iterable[_Candidate | ObverseError]) -> _Found:
        """At most `k` demonstrations; no more candidates are looked at than it takes."""
        taken: list[TaskDemonstration] = []
        removed: Counter[str] = Counter()
        faults: list[str] = []
        for candidate in candidates:
            try:
                if isinstance(candidate, ObverseError):
                    raise candidate
                found = self._try(candidate, taken)
            except ObverseError as error:
                faults.append(str(error))
                continue
            if isinstance(found, str):
                removed[found] += 1
                continue
            taken.append(found)
            if len(taken) == self.k:
                break
        return _Found(tuple(taken), MappingProxyType(dict(removed)), tuple(faults))

    def loosened(self, **changes: Any) -> _Search:
        """The same with other heuristics."""
        return replace(self, heuristics=replace(self.heuristics, **changes))

    def _try(self, candidate: _Candidate, taken: Sequence[TaskDemonstration]) -> TaskDemonstration | str:
        """A demonstration of the task, or why there is none."""
        if not candidate.named:
            if self.heuristics.answer_in_definition:
                return NOT_IN_DEFINITION
            if not candidate.fixed:
                return NO_CHOICES
        if len(candidate.choices) < 2:
            return ONE_ANSWER
        if not self.heuristics.allow_abusive and _about_abuse(candidate):
            return ABUSIVE
        known = {choice.casefold() for shown in taken for choice in shown.choices}
        if self.heuristics.distinct_answers and known & {choice.casefold() for choice in candidate.choices}:
            return SHARED
        reason = TOO_LONG
        for shown in self._shown(candidate):
            if self.count_tokens(shown.text) > self.heuristics.most_tokens:
                continue
            if self._is_clean(shown.input):
                return shown
            reason = ABUSIVE
        return reason

    def _shown(self, candidate: _Candidate) -> Iterator[TaskDemonstration]:
        """What the task's instances show, in the order drawn for it."""
        answers = [(text, outputs[0]) for text, outputs in candidate.instances]
        stream(self.seed, "demonstrations", candidate.name).shuffle(answers)
        definition, choices = candidate.definition.text, candidate.choices
        for text, answer in answers:
            if text.strip():
                yield TaskDemonstration(definition, text, answer, choices, candidate.name, candidate.licence)

    def _is_clean(self, text: str) -> bool:
        return self.heuristics.allow_abusive or not holds_abuse(text)


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


def _named(answer: str, definition: str) -> bool:
    """Whether the answer stands in the definition, whatever the case, and not inside a longer word."""
    if not answer:
        return False
    before = r"(?<!\w)" if re.match(r"\w", answer) else ""
    behind = r"(?!\w)" if re.search(r"\w\Z", answer) else ""
    return re.search(f"{before}{re.escape(answer.casefold())}{behind}", definition.casefold()) is not None


def _about_abuse(candidate: _Candidate) -> bool:
    """Whether abuse is the task's subject, or stands in what all its demonstrations would show."""
    definition = candidate.definition
    if any(category in CATEGORIES for category in definition.categories):
        return True
    if announces_abuse(candidate.name) or announces_abuse(definition.text):
        return True
    return any(map(holds_abuse, (definition.text, *candidate.choices)))


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


def _too_few(found: _Found, search: _Search, candidates: Sequence[_Candidate | ObverseError], data: Path) -> DataError:
    """How many tasks each reason removed, and how many demonstrations each switch would give."""
    taken = len(found.taken)
    table = [
        (taken, "taken"),
        *sorted(((n, reason) for reason, n in found.removed.items()), key=lambda row: (-row[0], row[1])),
    ]
    table += [(len(found.faults), "cannot be read")] if found.faults else []
    width = max(len(f"{count:,}") for count, _ in table)
    lines = [f"{taken} of {search.k} demonstrations can be found in {len(candidates):,} training tasks:"]
    lines += [f"  {count:>{width},}  {reason}" for count, reason in table]
    more = [f"  {switch}: {given}" for switch, given in _ways(taken, search, candidates)]
    otherwise = [f"ask for --k {taken}"] if taken else []
    otherwise += ["try another --seed"] if SHARED in found.removed else []
    otherwise.append("put more task files there")
    last = f"{', or '.join(otherwise)}."
    mend = ["What would give more, and how many:", *more, f"Or {last}"] if more else [last[0].upper() + last[1:]]
    return DataError("\n".join(lines), where=str(data / "superni" / "tasks"), mend="\n".join(mend))


def _ways(taken: int, search: _Search, candidates: Sequence[_Candidate | ObverseError]) -> Iterator[tuple[str, int]]:
    """Switches that give more than are taken, and how many; where none is enough alone, those together, too."""

    def gives(looser: _Search) -> int:
        return len(looser.search(candidates).taken)

    def longer(than: _Search) -> tuple[str, _Search]:
        """More tokens, doubled while that gives more."""
        best, most = than, gives(than)
        for doubled in range(1, _DOUBLED_AT_MOST + 1):
            looser = than.loosened(most_tokens=search.heuristics.most_tokens * 2**doubled)
            if (given := gives(looser)) > most:
                best, most = looser, given
        return f"--most-tokens {best.heuristics.most_tokens}", best

    heuristics = search.heuristics
    switches: dict[str, dict[str, bool]] = {}
    if heuristics.answer_in_definition:
        switches["--no-answer-in-definition"] = {"answer_in_definition": False}
    if heuristics.distinct_answers:
        switches["--no-distinct-answers"] = {"distinct_answers": False}
    ways = [longer(search), *((switch, search.loosened(**changes)) for switch, changes in switches.items())]
    if not heuristics.allow_abusive:
        ways.append(("--allow-abusive", search.loosened(allow_abusive=True)))
    alone = [(switch, gives(looser)) for switch, looser in ways]
    yield from ((switch, given) for switch, given in alone if given > taken)
    most_alone = max(given for _, given in alone)
    if most_alone == search.k:
        return

    # Clean texts are never given up for more of them.
    def together(names: Iterable[str]) -> tuple[str, _Search]:
        return longer(search.loosened(**{key: off for name in names for key, off in switches[name].items()}))

    given = gives(together(switches)[1])
    if given > most_alone:
        needed = list(switches)
        for switch in switches:
            fewer = [name for name in needed if name != switch]
            if gives(together(fewer)[1]) == given:
                needed = fewer
        switch, looser = together(needed)
        if looser.heuristics.most_tokens > heuristics.most_tokens:
            needed.append(switch)
        yield " ".join(needed), given


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
    if not isinstance(raw, Mapping):
        raise DataError(f"is {kind(raw)}", where=where, mend="Write definition, input and output there.")
    _check_keys(raw, _ENTRY_KEYS, where)
    for key in _NEEDED:
        if key not in raw:
            raise DataError(f"there is no `{key}`", where=where, mend="Write definition, input and output there.")
    choices = raw.get("choices", [])
    if not isinstance(choices, list | tuple):
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
            raise DataError(f"there is no key {key!r}", where=where, mend=nearest(str(key), known))


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
