"""A user's own task: a TOML file beside its tables.

::

    name = "customer messages"
    instructions = ["What is the customer doing?", "A customer wrote: {message} What kind of message is this?"]

    [data]
    file = "messages.csv"     # or files = {train = "a.csv", validation = "b.csv", test = "c.csv"}
    text = "message"          # or several columns: ["premise", "hypothesis"]
    gold = "kind"             # optional, as are id (a column) and format

    [[labels]]
    name = "praise"
    value = "P"                             # what the gold column holds; by default the name
    description = "the customer is pleased" # optional; the model reads it behind the wording
    wording = ["praise", "a compliment"]    # what the model reads; by default the name

    [[labels]]
    name = "complaint"
    value = "C"
    wording = ["complaint", "a grievance"]

Where each row brings its own options, `options = "column"` under `[data]` takes the place of the labels. `description`,
`licence`, `source` and `metric` may stand beside the name. Paths are relative to the TOML file.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import reprlib
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from obverse.catalog.tables import FORMATS, Row, Table, check_columns, open_table
from obverse.errors import DataError, LabelError, ObverseError, TemplateError, nearest
from obverse.tasks.examples import Example
from obverse.tasks.labels import LabelSet, option_index, parse_options
from obverse.tasks.task import METRICS, ListedRows, Provenance, Task, TaskTemplate
from obverse.tasks.templates import InstructionTemplate, Rendering, Template

SPLITS = ("train", "validation", "test")
"""The keys of `files`."""
WHOLE = "all"
"""The name of the one split of a task with a single `file`."""
CHOICE_METRICS = METRICS[:2]
"""The metrics that fit a choice between options: accuracy and multiple_choice_grade."""
MOST_CHARACTERS = 500_000_000
"""What a split may hold as a `Task`, whose rows lie in memory; each row counts for at least `ROW_CHARACTERS`."""
ROW_CHARACTERS = 500

_KEYS = {
    "": ("name", "instructions", "description", "licence", "source", "metric", "data", "labels"),
    "[data]": ("file", "files", "format", "text", "gold", "options", "id"),
    "[[labels]]": ("name", "value", "description", "wording"),
}
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
_SLOT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_ROWS_NAMED = 3  # rows that a fault names by number
_VALUES_NAMED = 5
_VALUES_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class OwnLabel:
    """A label of a task file.

    Attributes:
        name: what results are reported under.
        value: what the gold column holds, as text.
        description: None where there is none.
        wordings: what the model reads; equally many for each label of a task.
    """

    name: str
    value: str
    description: str | None
    wordings: tuple[str, ...]


@dataclass(frozen=True)
class OwnTask:
    """The settings of a task file.

    Attributes:
        path: the file.
        instructions: at least one.
        files: split -> table, in the order train, validation, test; `{"all": table}` for a single file.
        text: the columns that instructions may name.
        gold, options, id: columns, or None.
        format: of every table; None goes by the endings.
        labels: empty where rows bring their own options.
        metric: one of `CHOICE_METRICS`.
    """

    path: Path
    name: str
    instructions: tuple[str, ...]
    files: Mapping[str, Path]
    text: tuple[str, ...]
    gold: str | None = None
    options: str | None = None
    id: str | None = None
    format: str | None = None
    labels: tuple[OwnLabel, ...] = ()
    metric: str = "accuracy"
    description: str = ""
    licence: str | None = None
    source: str | None = None

    @property
    def wordings(self) -> int:
        """How many wordings each label has; 1 where rows bring their own options."""
        return len(self.labels[0].wordings) if self.labels else 1

    def label_set(self, wording: int = 0) -> LabelSet | None:
        """The labels in one of their wordings; None where rows bring their own options."""
        if not self.labels:
            return None
        return LabelSet(
            tuple(label.name for label in self.labels),
            tuple(label.description for label in self.labels),
            f"labels of {self.path}",
            tuple(label.wordings[wording] for label in self.labels),
        )

    def choose_split(self, split: str | None = None) -> str:
        """The split asked for, or the one that is labelled by default: test, else validation, else what there is.

        Raises:
            DataError: there is no such split.
        """
        if split is None:
            return next((name for name in ("test", "validation") if name in self.files), next(iter(self.files)))
        if split not in self.files:
            raise DataError(f"there is no split {split!r}", where=str(self.path), mend=nearest(split, self.files))
        return split


def read_own(path: str | Path) -> OwnTask:
    """The settings of a task file; its tables are not looked at.

    Raises:
        DataError: one error that lists everything wrong in the file itself.
    """
    own, faults = _parse(Path(path))
    _raise(Path(path), faults)
    assert own is not None
    return own


def check_own(path: str | Path) -> list[ObverseError]:
    """Everything that is wrong with a task file and its tables, of which all rows are read; empty if nothing is."""
    own, faults = _parse(Path(path))
    if own is not None:
        for file in own.files.values():
            faults.extend(_check_table(own, file))
    return faults


def open_own(path: str | Path) -> Task:
    """The task of a task file: a template for each pair of instruction and wording.

    Everything is checked now, rows included; a split's rows are taken into memory when it is asked for, and those of a
    split larger than `MOST_CHARACTERS` are refused then.

    Raises:
        DataError: one error that lists everything `check_own` finds.
    """
    path = Path(path)
    own, faults = _parse(path)
    if own is not None:
        for file in own.files.values():
            faults.extend(_check_table(own, file))
    _raise(path, faults)
    assert own is not None
    return Task(
        own.name,
        {split: partial(_listed, own, split) for split in own.files},
        _templates(own),
        Provenance(own.source or str(path), own.licence, _digest(own)),
        family="own",
        metric=own.metric,
        labels=own.label_set(),
        description=own.description,
    )


def gold_text(value: object) -> str | None:
    """A gold cell as text, to be compared with labels' values; None where it is blank.

    Whole numbers lose their point: a column of integers with gaps comes as floating-point numbers out of many tables.
    """
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            value = int(value)
    text = "" if value is None else str(value)
    return text if text.strip() else None


class LabelledTemplate(Template):
    """An instruction whose answers are labels, the examples naming the right one."""

    def __init__(self, instruction: InstructionTemplate, labels: LabelSet) -> None:
        self.name = instruction.name
        self.instruction = instruction
        self.labels = labels

    def render(self, example: Example) -> Rendering:
        texts = self.labels.texts
        target = None if example.label is None else texts[self.labels.index(example.label)]
        return replace(self.instruction.render(example), options=texts, target=target)


def _templates(own: OwnTask) -> tuple[TaskTemplate, ...]:
    records = []
    # Equal widths, so that the order of the names is the order in the file.
    i_width, w_width = len(str(len(own.instructions))), len(str(own.wordings))
    for i, words in enumerate(own.instructions, 1):
        name = f"instruction {i:0{i_width}}"
        if not own.labels:
            records.append(TaskTemplate(InstructionTemplate(words, own.text, name=name)))
            continue
        for w in range(own.wordings):
            labels = own.label_set(w)
            assert labels is not None
            asked = InstructionTemplate(words, own.text, name=f"{name}, wording {w + 1:0{w_width}}")
            listed = all(wording.casefold() in words.casefold() for wording in labels.wordings)
            records.append(TaskTemplate(LabelledTemplate(asked, labels), choices_in_prompt=listed))
    return tuple(records)


def _listed(own: OwnTask, split: str) -> ListedRows:
    """A split's rows in memory.

    Raises:
        DataError: too many of them, or the table has changed and is faulty now.
    """
    reader = _RowReader(own)
    table = open_table(own.files[split], format=own.format)
    examples = []
    characters = 0
    for row in table.rows():
        example = reader.example(row)
        characters += max(ROW_CHARACTERS, sum(len(str(text)) for text in example.fields.values()))
        if characters > MOST_CHARACTERS:
            raise DataError(
                f"the split {split!r} is too large to be held in memory: more than {MOST_CHARACTERS:,} characters, "
                f"each row counting for at least {ROW_CHARACTERS}",
                where=table.name,
                mend="Take a part of its rows. obverse predict has no such limit.",
            )
        examples.append(example)
    return ListedRows(split, examples)


def _digest(own: OwnTask) -> str:
    """Of the task file and of each table."""
    parts = [hashlib.sha256(own.path.read_bytes()).hexdigest()]
    for split, file in own.files.items():
        with file.open("rb") as binary:
            parts.append(f"{split} {hashlib.file_digest(binary, 'sha256').hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _raise(path: Path, faults: Sequence[ObverseError]) -> None:
    """All faults as one error; a lone one as it is."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        listed = "".join("\n- " + str(fault).replace("\n", "\n  ") for fault in faults)
        raise DataError(f"the task has {len(faults)} faults{listed}", where=str(path))


# Rows


class _RowReader:
    """What one row holds, by the settings of the task."""

    def __init__(self, own: OwnTask) -> None:
        self._own = own
        self._values = tuple(label.value for label in own.labels)
        self._known: dict[str, int | None] = {}

    def example(self, row: Row) -> Example:
        options = self.options(row)
        return Example(self.id(row), self.fields(row), self.label(row, options), options, row.where)

    def fields(self, row: Row) -> dict[str, object]:
        texts: dict[str, object] = {}
        for column in self._own.text:
            value = row.values.get(column)
            if value is not None and not isinstance(value, str):
                raise DataError(f"column {column!r} holds {_short(value)}, which is not text", where=row.where)
            texts[column] = value or ""
        if not any(str(text).strip() for text in texts.values()):
            raise DataError(f"there is no text in column {_either(self._own.text)}", where=row.where)
        return texts

    def options(self, row: Row) -> tuple[str, ...] | None:
        if self._own.options is None:
            return None
        value = row.values.get(self._own.options)
        return parse_options(value, where=f"{row.where}, column {self._own.options!r}")

    def label(self, row: Row, options: tuple[str, ...] | None) -> str | None:
        """The right label's name, or the right one of the row's options; None where the cell is blank."""
        if self._own.gold is None:
            return None
        value = gold_text(row.values.get(self._own.gold))
        if value is None:
            return None
        if options is not None:
            place = option_index(value, options)
        else:
            if value not in self._known and len(self._known) < _VALUES_COUNTED:
                self._known[value] = option_index(value, self._values)
            place = self._known[value] if value in self._known else option_index(value, self._values)
        if place is None:
            raise DataError(f"the gold value {_short(value)} is no label's", where=row.where)
        return self._own.labels[place].name if options is None else options[place]

    def id(self, row: Row) -> str:
        if self._own.id is None:
            return str(row.number)
        value = gold_text(row.values.get(self._own.id))
        if value is None:
            raise DataError(f"there is no id in column {self._own.id!r}", where=row.where)
        return value


@dataclass
class _Sightings:
    """The rows that show one fault."""

    count: int = 0
    first: list[int] = field(default_factory=list)
    values: Counter[str] = field(default_factory=Counter)
    error: ObverseError | None = None

    def see(self, row: Row, value: str = "", error: ObverseError | None = None) -> None:
        self.count += 1
        self.error = self.error or error
        if len(self.first) < _ROWS_NAMED:
            self.first.append(row.number)
        if value in self.values or len(self.values) < _VALUES_COUNTED:
            self.values[value] += 1

    @property
    def rows(self) -> str:
        """For example "rows 2, 5, 9 and 4 more"."""
        more = self.count - len(self.first)
        named = ", ".join(f"{n:,}" for n in self.first)
        if self.count == 1:
            return f"row {named}"
        if more:
            return f"rows {named} and {more:,} more"
        return f"rows {', '.join(f'{n:,}' for n in self.first[:-1])} and {self.first[-1]:,}"

    @property
    def seen(self) -> str:
        """The most frequent values, with how often each was seen."""
        common = self.values.most_common()
        named = [f"{_short(value)} ({n:,})" if n > 1 else _short(value) for value, n in common[:_VALUES_NAMED]]
        more = len(common) - len(named)
        least = "at least " if len(common) == _VALUES_COUNTED else ""
        return ", ".join(named) + (f" and {least}{more:,} more" if more else "")


def _check_table(own: OwnTask, file: Path) -> list[ObverseError]:
    """Everything wrong with one table, as far as the settings say what should stand there."""
    faults: list[ObverseError] = []
    try:
        table = _with_all_columns(open_table(file, format=own.format))
    except DataError as error:
        return [error]
    asked = {"text": own.text, "gold": _some(own.gold), "options": _some(own.options), "id": _some(own.id)}
    for key, columns in asked.items():
        for column in columns:
            try:
                check_columns(table, [column], f"`{key}` in {own.path}")
            except DataError as error:
                faults.append(error)
    there = replace(
        own,
        text=tuple(column for column in own.text if column in table.columns),
        gold=own.gold if own.gold in table.columns else None,
        options=own.options if own.options in table.columns else None,
        id=own.id if own.id in table.columns else None,
    )
    # Without knowing what to choose between, no gold value is wrong.
    if not (there.labels or there.options):
        there = replace(there, gold=None)
    faults.extend(_check_rows(there, table))
    return faults


def _with_all_columns(table: Table) -> Table:
    """JSON lines with the keys of every row: they may differ."""
    if table.format != "jsonl":
        return table
    columns: dict[str, None] = {}
    for row in table.rows():
        columns.update(dict.fromkeys(row.values))
    return replace(table, columns=tuple(columns))


def _check_rows(own: OwnTask, table: Table) -> list[ObverseError]:
    reader = _RowReader(own)
    blank, strange, optionless, wrong, nameless, repeated = (_Sightings() for _ in range(6))
    ids: set[str] = set()
    broken: list[ObverseError] = []
    try:
        for row in table.rows():
            if own.text:
                for column in own.text:
                    value = row.values.get(column)
                    if value is not None and not isinstance(value, str):
                        strange.see(row, f"{column}: {_short(value)}")
                        break
                else:
                    try:
                        reader.fields(row)
                    except DataError:
                        blank.see(row)
            try:
                options = reader.options(row)
            except ObverseError as error:
                optionless.see(row, error=error)
            else:
                try:
                    reader.label(row, options)
                except DataError:
                    wrong.see(row, gold_text(row.values.get(str(own.gold))) or "")
            if own.id is not None:
                try:
                    id = reader.id(row)
                except DataError:
                    nameless.see(row)
                else:
                    if id in ids:
                        repeated.see(row, id)
                    ids.add(id)
    except DataError as error:  # a row that cannot be read at all ends the reading
        broken = [error]
    faults: list[ObverseError] = []
    where = table.name
    if blank.count:
        what = f"there is no text in column {_either(own.text)} ({blank.rows})"
        faults.append(DataError(what, where=where, mend="Fill it in or remove the rows."))
    if strange.count:
        what = f"there are values that are not text ({strange.rows}): {strange.seen}"
        faults.append(DataError(what, where=where, mend="Name columns of text as `text`."))
    if optionless.count:
        first = optionless.error
        assert first is not None
        what = f"column {own.options!r} holds options that cannot be chosen between ({optionless.rows}): {first.what}"
        mend = 'Write a JSON list, ["yes", "no"], or options with ||| or commas between, at least two.'
        faults.append(LabelError(what, where=where, mend=mend))
    if wrong.count:
        faults.append(_wrong_gold(own, wrong, where))
    if nameless.count:
        what = f"there is no id in column {own.id!r} ({nameless.rows})"
        faults.append(DataError(what, where=where, mend="Give every row an id of its own, or leave out `id`."))
    if repeated.count:
        what = f"ids stand there again ({repeated.rows}): {repeated.seen}"
        faults.append(DataError(what, where=where, mend="Give every row an id of its own, or leave out `id`."))
    return [*faults, *broken]


def _wrong_gold(own: OwnTask, wrong: _Sightings, where: str) -> ObverseError:
    if own.options:
        what = f"column {own.gold!r} holds what is none of the row's options ({wrong.rows}): {wrong.seen}"
        return DataError(what, where=where, mend="Name the right option as the options do, or leave the cell blank.")
    what = f"column {own.gold!r} holds values that no label has ({wrong.rows}): {wrong.seen}"
    known = [label.value for label in own.labels]
    shown = ", ".join(map(_short, known[:20])) + (f" and {len(known) - 20:,} more" if len(known) > 20 else "")
    mend = f"The labels' values: {shown}. Give each label what the column holds as its `value`."
    return DataError(what, where=where, mend=mend)


# The file


def _parse(path: Path) -> tuple[OwnTask | None, list[ObverseError]]:
    """The settings as far as they can be read, and everything wrong with them; None where the file is no TOML."""
    where = str(path)
    if os.path.isdir(path):
        return None, [DataError("is a folder, not a task file", where=where, mend="Name a .toml file in it.")]
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        there = [file.name for file in path.parent.glob("*.toml")]
        folder = "this folder" if path.parent == Path() else str(path.parent)
        mend = nearest(path.name, there) if there else f"There are no task files in {folder}."
        return None, [DataError("there is no such task file", where=where, mend=mend)]
    except (OSError, ValueError) as error:  # a path that no file system can hold is a ValueError
        return None, [DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=where)]
    try:
        raw = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        what = f"the byte at {error.start + 1:,} is not UTF-8"
        return None, [DataError(what, where=where, mend="Save the file as UTF-8.")]
    except RecursionError:
        return None, [DataError("is nested too deeply", where=where)]
    except ValueError as error:
        mend = 'Text stands in quotation marks: key = "text". A backslash in it is written twice.'
        return None, [DataError(f"is not TOML: {error}", where=where, mend=mend)]
    return _Parser(path).task(raw)


class _Parser:
    """Reads settings, gathering faults on the way; what is faulty is left empty, so that the rest can be checked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.faults: list[ObverseError] = []

    def task(self, raw: Mapping[str, Any]) -> tuple[OwnTask, list[ObverseError]]:
        self._known_keys(raw, "", "")
        name = self._one_line(raw, "", needed='name = "customer messages"')
        instructions = self._texts(raw, "instructions", needed='instructions = ["What is the customer doing?"]')
        description = self._text(raw, "description")
        licence = self._text(raw, "licence")
        source = self._text(raw, "source")
        metric = self._metric(raw)
        data = self._data(raw)
        place = "[data]"
        files = self._files(data)
        format = self._format(data)
        columns = self._texts(data, "text", place, needed='text = "COLUMN"')
        text = tuple(column for column in columns if column is not None)
        self._no_repetition(text, "column", f"{place}, text")
        gold = self._text(data, "gold", place)
        options = self._text(data, "options", place)
        id = self._text(data, "id", place)
        if gold is not None and gold in text:
            what = f"the gold column {gold!r} is a text column too: the model would read the answer"
            self._fault(what, place, "Take it out of `text`.")
        # With a column unread, a slot that names it would look wrong.
        self._instructions(instructions, text if len(text) == len(columns) else ())
        labels = self._labels(raw)
        if "labels" in raw and "options" in data:
            self._fault("labels and `options` exclude each other", place, "Keep the one that is meant.")
            options = None
        elif "labels" not in raw and "options" not in data:
            self._fault(
                "there are no labels to choose from",
                "",
                'Write [[labels]] and below it name = "praise", once for each label; '
                'or options = "COLUMN" under [data].',
                LabelError,
            )
        own = OwnTask(
            self._path,
            name or "",
            tuple(words for words in instructions if words is not None),
            files,
            text,
            gold,
            options,
            id,
            format,
            labels,
            metric or "accuracy",
            description or "",
            licence,
            source,
        )
        return own, self.faults

    def _fault(self, what: str, place: str = "", mend: str | None = None, kind: type[ObverseError] = DataError) -> None:
        where = f"{self._path}, {place}" if place else str(self._path)
        self.faults.append(kind(what, where=where, mend=mend))

    def _known_keys(self, table: Mapping[str, Any], kind: str, place: str) -> None:
        for key in table:
            if key in _KEYS[kind]:
                continue
            elsewhere = next((other for other, keys in _KEYS.items() if key in keys), None)
            if elsewhere is None:
                mend = nearest(key, _KEYS[kind])
            else:
                mend = f"It belongs under {elsewhere}." if elsewhere else "It belongs at the top, above [data]."
            self._fault(f"unknown key {key!r}", place, mend)

    def _text(self, table: Mapping[str, Any], key: str, place: str = "", *, needed: str | None = None) -> str | None:
        """A key's text; None where it is missing or faulty."""
        if key not in table:
            if needed is not None:
                self._fault(f"lacks the key {key!r}", place, f"Write: {needed}")
            return None
        value = table[key]
        if not isinstance(value, str):
            self._fault(f"{key!r} is {_kind(value)}; text is needed", place, f'Write: {key} = "..."')
            return None
        if not value.strip():
            self._fault(f"{key!r} is blank", place, "Fill it in." if needed else "Fill it in or remove the line.")
            return None
        return value

    def _one_line(self, table: Mapping[str, Any], place: str, *, needed: str) -> str | None:
        """The name, which heads columns and stands in tables of results."""
        name = self._text(table, "name", place, needed=needed)
        if name is not None and len(name.splitlines()) > 1:
            self._fault("'name' has line breaks", place, "Write it on one line; `wording` may hold longer texts.")
            return None
        return name

    def _texts(
        self, table: Mapping[str, Any], key: str, place: str = "", *, needed: str | None = None
    ) -> tuple[str | None, ...]:
        """A key's text or list of texts, None standing for a faulty one; empty where it is missing."""
        if key not in table:
            if needed is not None:
                self._fault(f"lacks the key {key!r}", place, f"Write: {needed}")
            return ()
        value = table[key]
        if not isinstance(value, str | list):
            self._fault(f"{key!r} is {_kind(value)}; text or a list of texts is needed", place, f'Write: {key} = "..."')
            return (None,)
        items = [value] if isinstance(value, str) else value
        if not items:
            self._fault(f"{key!r} is an empty list", place, "Put at least one text into it.")
            return (None,)
        out: list[str | None] = []
        for i, item in enumerate(items, 1):
            which = f"{key!r}" if len(items) == 1 else f"entry {i} of {key!r}"
            if not isinstance(item, str):
                self._fault(f"{which} is {_kind(item)}; text is needed", place, "Put it into quotation marks.")
            elif not item.strip():
                self._fault(f"{which} is blank", place, "Fill it in or remove it.")
            out.append(item if isinstance(item, str) and item.strip() else None)
        return tuple(out)

    def _no_repetition(self, items: Sequence[str], noun: str, place: str) -> None:
        for item in sorted(item for item, n in Counter(items).items() if n > 1):
            self._fault(f"the {noun} {_short(item)} stands there twice", place, "Remove one of them.")

    def _metric(self, raw: Mapping[str, Any]) -> str | None:
        metric = self._text(raw, "metric")
        if metric is None or metric in CHOICE_METRICS:
            return metric
        if metric in METRICS:
            what = f"the metric {metric!r} is for answers that are written freely, and here they are chosen"
            self._fault(what, "metric", f"Known: {', '.join(CHOICE_METRICS)}.")
        else:
            self._fault(f"unknown metric {metric!r}", "metric", nearest(metric, CHOICE_METRICS))
        return None

    def _data(self, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        data = raw.get("data", {})
        if not isinstance(data, dict):
            self._fault(f"'data' is {_kind(data)}; a table is needed", "", "Write [data] and the keys below it.")
            return {}
        if data:
            self._known_keys(data, "[data]", "[data]")
        return data

    def _files(self, data: Mapping[str, Any]) -> dict[str, Path]:
        place = "[data]"
        both = "file" in data and "files" in data
        if both or not ("file" in data or "files" in data):
            what = "`file` and `files` exclude each other" if both else "lacks the key 'file'"
            mend = 'Write: file = "rows.csv", or files = {train = "a.csv", test = "b.csv"}'
            self._fault(what, place, "Keep the one that is meant." if both else mend)
        found: dict[str, str] = {}
        if "file" in data:
            file = self._text(data, "file", place)
            if file is not None:
                found[WHOLE] = file
        if "files" in data:
            files = data["files"]
            mend = 'Write: files = {train = "a.csv", validation = "b.csv", test = "c.csv"}; one or two of them will do.'
            if not isinstance(files, dict) or not files:
                kind = "an empty table" if files == {} else _kind(files)
                self._fault(f"'files' is {kind}; a table of splits is needed", place, mend)
                files = {}
            for split in files:
                if split not in SPLITS:
                    self._fault(f"unknown split {split!r}", f"{place}, files", nearest(split, SPLITS))
            for split in SPLITS:
                file = self._text(files, split, f"{place}, files")
                if file is not None:
                    found[split] = file
        places: dict[Path, str] = {}
        out: dict[str, Path] = {}
        for split, file in found.items():
            if file == "-":
                self._fault("standard input cannot belong to a task", place, "Save the rows to a file and name it.")
                continue
            out[split] = self._path.parent / file
            same = places.setdefault(out[split].absolute(), split)
            if same != split:
                self._fault(f"{same} and {split} are the same file", f"{place}, files", "Name different files.")
        return out

    def _format(self, data: Mapping[str, Any]) -> str | None:
        format = self._text(data, "format", "[data]")
        if format is None or format in FORMATS:
            return format
        self._fault(f"there is no table format {format!r}", "[data]", nearest(format, FORMATS))
        return None

    def _instructions(self, instructions: Sequence[str | None], text: Sequence[str]) -> None:
        self._no_repetition([words for words in instructions if words is not None], "instruction", "instructions")
        for i, words in enumerate(instructions, 1):
            if words is None:
                continue
            place = f"instruction {i}"
            slots = {match.group(1).strip() for match in _SLOT.finditer(words) if match.group(1) is not None}
            unknown = sorted(slots.difference(text))
            if unknown and text:
                named = " and ".join(f"{{{slot}}}" for slot in unknown)
                verb = "names no text column" if len(unknown) == 1 else "name no text columns"
                hints = " ".join(dict.fromkeys(nearest(slot, text) for slot in unknown))
                self._fault(
                    f"the slot{'s' * (len(unknown) > 1)} {named} {verb}",
                    place,
                    f"{hints} For a literal brace write {{{{ or }}}}.",
                    TemplateError,
                )
            elif not _SLOT.sub(lambda match: match.group() if match.group(1) is None else "", words).strip():
                self._fault(
                    "the instruction has no words besides its slots", place, "Say what is to be decided.", TemplateError
                )

    def _labels(self, raw: Mapping[str, Any]) -> tuple[OwnLabel, ...]:
        """All labels; none where the values that gold cells are compared with are faulty."""
        if "labels" not in raw:
            return ()
        entries = raw["labels"]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            kind = _kind(entries) if not isinstance(entries, list) else "a list of other things"
            self._fault(
                f"'labels' is {kind}; a list of tables is needed",
                "",
                'Write [[labels]] and below it name = "praise", once for each label.',
                LabelError,
            )
            return ()
        labels = [label for i, entry in enumerate(entries, 1) if (label := self._label(entry, f"label {i}"))]
        if len(entries) < 2:
            few = "is only one label" if entries else "are no labels"
            self._fault(
                f"there {few}; a choice needs at least two",
                "labels",
                'Write [[labels]] and below it name = "praise", once for each label.',
                LabelError,
            )
        self._differ([label.name for label in labels], "name")
        values = [label.value for label in labels]
        told = len(self.faults)
        if values != [label.name for label in labels]:
            self._differ(values, "value")
        sound = len(labels) == len(entries) > 1 and len(self.faults) == told and len(set(values)) == len(values)
        counts = {len(label.wordings) for label in labels}
        if len(counts) > 1:
            said = ", ".join(f"{label.name} {len(label.wordings)}" for label in labels)
            self._fault(
                f"the labels have unequal numbers of wordings: {said}",
                "labels",
                "Give every label equally many: the first belong together, the second, and so on.",
                LabelError,
            )
        else:
            several = counts != {1}
            for w in range(max(counts, default=0)):
                wordings = [label.wordings[w] for label in labels]
                if wordings != [label.name for label in labels]:
                    self._differ(wordings, f"wording {w + 1}" if several else "wording")
        return tuple(labels) if sound else ()

    def _label(self, entry: Mapping[str, Any], place: str) -> OwnLabel | None:
        name = self._one_line(entry, place, needed='name = "praise"')
        if name is not None:
            place = f"{place} ({_short(name)})"
        self._known_keys(entry, "[[labels]]", place)
        description = self._text(entry, "description", place)
        wordings = self._texts(entry, "wording", place)
        value = entry.get("value", name)
        if value is not None and not isinstance(value, str | int | float):
            self._fault(f"'value' is {_kind(value)}; text or a number is needed", place, 'Write: value = "..."')
            value = None
        elif "value" in entry and gold_text(value) is None:
            self._fault("'value' is blank", place, "A blank gold cell means that the label is not known.")
            value = None
        if name is None or value is None:
            return None
        # A faulty wording keeps its place, so that the others are still counted and compared.
        read = tuple(wording or f"{name} {i}" for i, wording in enumerate(wordings, 1))
        return OwnLabel(name, gold_text(value) or "", description, read or (name,))

    def _differ(self, texts: Iterable[str], noun: str) -> None:
        """Names, values and wordings must differ by more than case, as they are compared without it."""
        seen: dict[str, str] = {}
        for text in texts:
            key = text.strip().casefold()
            if key in seen:
                also = f" (as {_short(seen[key])})" if seen[key] != text else ""
                self._fault(
                    f"two labels have the {noun} {_short(text)}{also}",
                    "labels",
                    "Let them differ by more than case.",
                    LabelError,
                )
            seen.setdefault(key, text)


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")


def _some(column: str | None) -> tuple[str, ...]:
    return () if column is None else (column,)


def _either(columns: Sequence[str]) -> str:
    return " or ".join(map(repr, columns))


def _short(value: object) -> str:
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 60
    return shown.repr(value)
