"""What an evaluation leaves: a manifest of the whole, and a record of every instance.

Both are plain data, and their JSON reads back as the same values, floats bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from obverse.errors import DataError, nearest

VERSION = 1


class Cell(NamedTuple):
    """All instances of one split under one template, wording, method and setting."""

    task: str
    split: str
    template: str
    wording: str
    method: str
    setting: str


class Key(NamedTuple):
    """One instance of a cell: what makes a record unlike all others of its run."""

    task: str
    split: str
    template: str
    wording: str
    method: str
    setting: str
    row: str

    @property
    def cell(self) -> Cell:
        """The cell it belongs to."""
        return Cell(*self[:6])


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One instance under one template, wording, method and setting.

    Scored and generated answers share it: the one has options, scores and a choice, the other a prediction and
    references. Half characters (lone surrogates, possible in JSON) become the replacement character U+FFFD, since no
    table can hold them.

    Attributes:
        row: the instance's id, unique within its split.
        position: its place in the split, counted from 0; what records of one cell are ordered by.
        template: the template's name; may be empty.
        wording: the name of the answers' wording; empty for the template's own.
        setting: what else was varied ("symbols", "4 exemplars"); may be empty.
        options: the answers to choose between.
        scores: one an option, higher is better; empty where nothing was asked.
        chosen: index of the chosen option; None where none was chosen.
        gold: indices of the right options; empty where they are not known.
        credits: what each option is worth; empty where that is not known.
        prediction: the generated text; None where none was generated.
        references: texts that a generated one is compared with.
        shortened: how many characters of the input were left out to fit the model's window.
        cut: how many tokens a hard limit took away.
        dropped: how many exemplars or demonstrations were left out to fit the model's window.
        tied: another option has exactly the chosen one's score.
        reason: why there is no answer, else empty.

    Raises:
        DataError: the parts do not fit each other, or a score is not a number.
    """

    task: str
    split: str
    row: str
    position: int
    template: str = ""
    method: str
    setting: str = ""
    wording: str = ""
    options: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    chosen: int | None = None
    gold: tuple[int, ...] = ()
    credits: tuple[float, ...] = ()
    prediction: str | None = None
    references: tuple[str, ...] = ()
    shortened: int = 0
    cut: int = 0
    dropped: int = 0
    tied: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        # Numbers may come as those of numpy, which would not be written like plain ones.
        put("scores", tuple(float(score) for score in self.scores))
        put("credits", tuple(float(credit) for credit in self.credits))
        put("gold", tuple(int(index) for index in self.gold))
        put("options", tuple(_whole(option) for option in self.options))
        put("references", tuple(_whole(reference) for reference in self.references))
        put("reason", _whole(self.reason))
        put("tied", bool(self.tied))
        if self.prediction is not None:
            put("prediction", _whole(self.prediction))
        if self.chosen is not None:
            put("chosen", int(self.chosen))
        for name in _NUMBERED:
            put(name, int(getattr(self, name)))
        self._check()

    @property
    def key(self) -> Key:
        """What makes this record unlike all others of its run."""
        return Key(self.task, self.split, self.template, self.wording, self.method, self.setting, self.row)

    def to_json(self) -> dict[str, Any]:
        """As plain data; what stands at its default is left out."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, default in _DEFAULTS.items()
            if (value := getattr(self, name)) != default
        }

    @classmethod
    def from_json(cls, raw: object, *, where: str | None = None) -> Record:
        """The record that `to_json` was asked of.

        Raises:
            DataError: unknown or missing keys, values of another kind, or parts that do not fit each other.
        """
        values = _values(raw, _RECORD_KINDS, _NEEDED, where)
        try:
            return cls(**values)
        except DataError as error:
            raise DataError(error.what, where=_joined(where, error.where), mend=error.mend) from None
        except OverflowError:
            raise DataError("a number is too large", where=where, mend="Write it as a float.") from None

    def _check(self) -> None:
        options = len(self.options)
        for name in _IDS:
            if _whole(getattr(self, name)) != getattr(self, name):
                raise self._fault(f"the {name} {getattr(self, name)!r} holds half a character", "Give it another name.")
        for name in ("task", "split", "method", "row"):
            if not getattr(self, name):
                raise self._fault(f"the {name} is empty", "Name it.")
        for name in _NUMBERED:
            if not 0 <= getattr(self, name) < _MOST:
                raise self._fault(f"{name} is {getattr(self, name)}", f"Write 0 or more, below {_MOST:,}.")
        for name in ("scores", "credits"):
            values = getattr(self, name)
            if values and len(values) != options:
                raise self._fault(f"{len(values)} {name} for {options} options", "Give one an option, or none at all.")
            for i, value in enumerate(values):
                if math.isnan(value):
                    what = f"{name}[{i}], of {self.options[i]!r}, is not a number"
                    raise self._fault(what, "A model in fp16 gives this: use float32 or bfloat16.")
        for name, indices in (("chosen", () if self.chosen is None else (self.chosen,)), ("gold", self.gold)):
            for index in indices:
                if not 0 <= index < options:
                    raise self._fault(f"{name} is option {index} of {options}", "Count the options from 0.")

    def _fault(self, what: str, mend: str) -> DataError:
        named = [part for part in (self.task, self.split, self.template, self.method) if part]
        return DataError(what, where=", ".join([*named, f"row {self.row}"]), mend=mend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a run is: everything that its numbers depend on, and where and when they were made.

    Attributes:
        suite: name of the suite.
        suite_digest: of what the suite asks.
        model: name or folder, as it was given.
        model_digest: of its weights and tokenizer.
        conventions: of the model (end-of-sequence preset, window, number type).
        methods: names of the methods, in the order they are told in.
        data: task -> digest of its data, in the suite's order. A run holds records of these tasks alone.
        settings: everything else that was asked for.
        seeds: name -> seed.
        revision: of the code; may be empty.
        versions: package -> version.
        device: what the model ran on, in words.
        created: when the run began, ISO 8601.
        finished: when it was finished; None while it is not.
        files: name -> hexadecimal SHA-256, of what a finished run may not change any more.
        missing: task -> why it is not there.
        notes: anything a reader should know, a sentence each.
        version: of the format.

    Raises:
        DataError: something in it is not plain data, or nothing is named where a name is needed.
    """

    suite: str
    suite_digest: str
    model: str
    model_digest: str
    methods: tuple[str, ...]
    data: Mapping[str, str]
    conventions: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    revision: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    created: str = ""
    finished: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    version: int = VERSION

    def __post_init__(self) -> None:
        for name in ("conventions", "settings"):
            object.__setattr__(self, name, _plain(getattr(self, name), name))
        for name in ("data", "seeds", "versions", "missing", "files"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        for name in ("methods", "notes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("suite", "suite_digest", "model_digest", "methods"):
            if not getattr(self, name):
                raise DataError(f"{name} is empty", where="manifest", mend="A run cannot be told apart without it.")
        _values(self.to_json(), _MANIFEST_KINDS, (), "manifest")  # what is written must be readable

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the suite's order."""
        return tuple(self.data)

    def fingerprint(self) -> dict[str, Any]:
        """What a resumed run must bring again: all that its numbers depend on.

        The model is known by its digest, not by the folder it lies in; the device is left out, since a run may have
        to go on elsewhere (`device` then tells all of them).
        """
        everything = self.to_json()
        return {name: everything[name] for name in _FINGERPRINT}

    def digest(self) -> str:
        """Hexadecimal SHA-256 of the fingerprint, whatever the order of its keys."""
        text = json.dumps(self.fingerprint(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, wanted: Manifest) -> list[str]:
        """The settings in which two fingerprints differ, a line each: `settings.rows: 100 there, 200 now`."""
        there, now = _flat(self.fingerprint()), _flat(wanted.fingerprint())
        return [
            f"{key}: {there.get(key, 'nothing')} there, {now.get(key, 'nothing')} now"
            for key in dict.fromkeys([*there, *now])
            if there.get(key) != now.get(key)
        ]

    def to_json(self) -> dict[str, Any]:
        """As plain data, the version first."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {"version": plain.pop("version"), **plain}

    @classmethod
    def from_json(cls, raw: object, *, where: str | None = None) -> Manifest:
        """The manifest that `to_json` was asked of.

        Raises:
            DataError: another version of the format; unknown or missing keys; values of another kind, or not finite.
        """
        if isinstance(raw, dict) and _is_count(raw.get("version")) and raw["version"] != VERSION:
            raise DataError(
                f"is in version {raw['version']} of its format, not {VERSION}",
                where=where,
                mend="Use the version of Obverse that wrote it.",
            )
        values = _values(raw, _MANIFEST_KINDS, set(_MANIFEST_KINDS), where)
        try:
            return cls(**values)
        except DataError as error:
            raise DataError(error.what, where=where or error.where, mend=error.mend) from None

    def ended(self, at: str, files: Mapping[str, str]) -> Manifest:
        """The same, finished."""
        return replace(self, finished=at, files=files)

    def also_on(self, device: str) -> Manifest:
        """The same, made in part on another device."""
        known = self.device.split(_BETWEEN)
        return self if device in known else replace(self, device=_BETWEEN.join([*known, device]))


class StoredRecords:
    """The records of a run in canonical order, read from the disk each time they are gone through.

    The order is that of the manifest's tasks, then split, template and wording by name, the manifest's methods,
    setting by name, and the rows' positions.
    """

    def __init__(self, count: int, read: Callable[[], Iterator[Record]]) -> None:
        self._count = count
        self._read = read

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        """All of them.

        Raises:
            DataError: the file changed since the run was read.
        """
        return self._read()


def parse_json(text: str | bytes, *, where: str) -> Any:
    """JSON as plain data.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DataError("is damaged: it is not JSON", where=where, mend="Put a copy in its place.") from None


_MOST = 1 << 62  # a table holds whole numbers in 64 bits
_IDS = ("task", "split", "row", "template", "method", "setting", "wording")
_NUMBERED = ("position", "shortened", "cut", "dropped")
_NEEDED = {"task", "split", "row", "position", "method"}
_FINGERPRINT = (
    "version",
    "suite",
    "suite_digest",
    "model_digest",
    "conventions",
    "methods",
    "data",
    "settings",
    "seeds",
    "revision",
    "versions",
)
_BETWEEN = "; "
_DEFAULTS = {each.name: each.default for each in fields(Record)}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_count(value)


def _list_of(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _table_of(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def _or_null(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or holds(value)


_Kind = tuple[str, Callable[[object], bool]]
_TEXT: _Kind = ("a text", _is_text)
_TEXTS: _Kind = ("a list of texts", _list_of(_is_text))
_COUNT: _Kind = ("a whole number", _is_count)
_COUNTS: _Kind = ("a list of whole numbers", _list_of(_is_count))
_NUMBERS: _Kind = ("a list of numbers", _list_of(_is_number))
_TABLE: _Kind = ("a table", _table_of(lambda value: True))
_TEXT_TABLE: _Kind = ("a table of texts", _table_of(_is_text))

_RECORD_KINDS: dict[str, _Kind] = {
    **dict.fromkeys((*_IDS, "reason"), _TEXT),
    **dict.fromkeys(_NUMBERED, _COUNT),
    **dict.fromkeys(("scores", "credits"), _NUMBERS),
    **dict.fromkeys(("options", "references"), _TEXTS),
    "chosen": ("a whole number or null", _or_null(_is_count)),
    "gold": _COUNTS,
    "prediction": ("a text or null", _or_null(_is_text)),
    "tied": ("true or false", lambda value: isinstance(value, bool)),
}
_MANIFEST_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(("suite", "suite_digest", "model", "model_digest", "revision", "device", "created"), _TEXT),
    **dict.fromkeys(("methods", "notes"), _TEXTS),
    **dict.fromkeys(("data", "versions", "missing", "files"), _TEXT_TABLE),
    **dict.fromkeys(("conventions", "settings"), _TABLE),
    "seeds": ("a table of whole numbers", _table_of(_is_count)),
    "finished": ("a text or null", _or_null(_is_text)),
    "version": _COUNT,
}


def _values(raw: object, kinds: Mapping[str, _Kind], needed: Iterable[str], where: str | None) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise DataError(f"is {_called(raw)}, not a table", where=where, mend="Write a JSON object.")
    for name, value in raw.items():
        if name not in kinds:
            raise DataError(f"unknown key {name!r}", where=where, mend=nearest(name, kinds))
        wanted, holds = kinds[name]
        if not holds(value):
            raise DataError(f"{name} is {_called(value)}, not {wanted}", where=where, mend=f"Write {wanted}.")
    missing = sorted(set(needed) - set(raw))
    if missing:
        raise DataError(f"lacks {', '.join(missing)}", where=where, mend="Write all that a complete one has.")
    return raw


def _called(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _joined(outer: str | None, inner: str | None) -> str | None:
    return ": ".join(part for part in (outer, inner) if part) or None


def _whole(text: str) -> str:
    """The text with every half character replaced."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _plain(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """As it would be read back: lists for tuples, texts for keys."""
    try:
        plain = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{name} cannot be written as JSON: {error}", where="manifest", mend="Use texts, numbers, lists, tables."
        ) from None
    assert isinstance(plain, dict)
    return plain


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict) and (value or not prefix):
        flat: dict[str, str] = {}
        for key, part in value.items():
            flat |= _flat(part, f"{prefix}.{key}" if prefix else key)
        return flat
    if isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(part, dict) for part in value):
        return {k: v for i, part in enumerate(value) for k, v in _flat(part, f"{prefix}[{i}]").items()}
    return {prefix: json.dumps(value, ensure_ascii=False)}
