"""A run: whatever kills it, and however many processes write it, what it holds at the end is the same."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obverse.errors import DataError, OutputError
from obverse.runs import disk, lines
from obverse.runs.records import Key, Manifest, Record
from obverse.runs.scores import ScoreKey, ScoreStore
from obverse.runs.store import Run, RunWriter, read_run

MANIFEST = Manifest(
    suite="small",
    suite_digest="5u17e",
    model="models/tiny",
    model_digest="0de1",
    methods=("flipped", "direct"),
    data={"reviews": "da7a1", "notes": "da7a2"},
    conventions={"eos": "flipped", "window": 512},
    settings={"rows": 100, "wordings": ("yes/no", "true/false")},
    seeds={"rows": 1},
    revision="abc",
    versions={"obverse": "0.1"},
    device="cpu",
    created="2026-01-02T03:04:05+00:00",
    missing={"stories": "not in the data folder"},
    notes=("Made for a test.",),
)
AT = "2026-01-02T04:00:00+00:00"
RESULTS = {"accuracy": {"reviews": 0.1 + 0.2, "notes": 0.5}}

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def record(number: int, **other: Any) -> Record:
    """The `number`-th of a made-up run: two tasks, two templates, two methods; ten rows and more."""
    rng = random.Random(number)
    return Record(
        **{
            "task": ("reviews", "notes")[number % 2],
            "split": "test",
            "template": f"t{number // 2 % 2}",
            "method": ("direct", "flipped")[number // 4 % 2],
            "row": f"id-{number // 8}",
            "position": number // 8,
            "options": ("good", "bad \U0001f600"),
            "scores": (-rng.expovariate(1), -rng.expovariate(0.01)),
            "chosen": number % 2,
            "gold": (0,),
            "credits": (1.0, 0.0),
            **other,
        }
    )


RECORDS = [record(n) for n in range(80)]
ORDERED = sorted(
    RECORDS,
    key=lambda r: (
        ["reviews", "notes"].index(r.task),
        r.split,
        r.template,
        r.wording,
        ["flipped", "direct"].index(r.method),
        r.setting,
        r.position,
    ),
)


def finished(folder: Path, batches: list[list[Record]]) -> Run:
    with RunWriter.create(folder, MANIFEST) as run:
        for batch in batches:
            run.append(batch)
        return run.finish(RESULTS, at=AT)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync guards against power cuts, which no test here can cause; it takes 30 ms, and there are thousands."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the run of `RECORDS`, written without a break by one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finished(folder, [RECORDS])
    return contents(folder)


# --- records ------------------------------------------------------------------------------------------------------

texts = st.text(max_size=8)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
numbers = st.floats(allow_nan=False)


@st.composite
def drawn_records(draw: st.DrawFn) -> Record:
    options = draw(st.lists(texts, max_size=4))
    indices = st.integers(0, len(options) - 1) if options else st.nothing()
    per_option = st.lists(numbers, min_size=len(options), max_size=len(options))
    return Record(
        task=draw(st.sampled_from(["reviews", "notes"])),
        split=draw(names),
        row=draw(names),
        position=draw(st.integers(0, (1 << 62) - 1)),
        template=draw(names),
        method=draw(st.sampled_from(["flipped", "direct"])),
        setting=draw(st.sampled_from(["", "symbols"])),
        wording=draw(st.sampled_from(["", "yes/no"])),
        options=tuple(options),
        scores=tuple(draw(per_option | st.just([]))),
        chosen=draw(st.none() | indices),
        gold=tuple(draw(st.lists(indices, max_size=3 if options else 0))),
        credits=tuple(draw(per_option | st.just([]))),
        prediction=draw(st.none() | texts),
        references=tuple(draw(st.lists(texts, max_size=3))),
        shortened=draw(st.integers(0, 10**9)),
        cut=draw(st.integers(0, 10**9)),
        dropped=draw(st.integers(0, 64)),
        tied=draw(st.booleans()),
        reason=draw(texts),
    )


def bits(each: Record) -> tuple[Any, ...]:
    """To be compared bit for bit: -0.0 is not 0.0."""
    return (
        each,
        struct.pack(f"<{len(each.scores)}d", *each.scores),
        struct.pack(f"<{len(each.credits)}d", *each.credits),
    )


@quick
@given(drawn_records())
def test_a_record_reads_back_as_itself(each: Record) -> None:
    again = Record.from_json(json.loads(json.dumps(each.to_json())))
    assert bits(again) == bits(each)


@quick
@given(st.lists(drawn_records(), max_size=8, unique_by=lambda r: r.key))
def test_a_run_reads_back_as_itself(tmp_path: Path, drawn: list[Record]) -> None:
    folder = tmp_path / "run"
    for path in folder.iterdir() if folder.exists() else ():
        path.unlink()
    with RunWriter.create(folder, MANIFEST) as run:
        assert run.append(drawn) == len(drawn)
        assert run.keys() == {each.key for each in drawn}
        unfinished = [bits(each) for each in read_run(folder).records]
        run.finish({}, at=AT)
    assert [bits(each) for each in read_run(folder).records] == unfinished
    assert sorted(map(repr, unfinished)) == sorted(repr(bits(each)) for each in drawn)


def test_the_plain_data_of_a_record() -> None:
    each = record(3, prediction="", scores=(-0.1, float("-inf")), tied=True, reason="\ud83d half")
    assert each.to_json() == {
        "task": "notes",
        "split": "test",
        "row": "id-0",
        "position": 0,
        "template": "t1",
        "method": "direct",
        "options": ["good", "bad \U0001f600"],
        "scores": [-0.1, -math.inf],
        "chosen": 1,
        "gold": [0],
        "credits": [1.0, 0.0],
        "prediction": "",
        "tied": True,
        "reason": "� half",
    }
    assert each.key == Key("notes", "test", "t1", "", "direct", "", "id-0")
    assert each.key.cell == ("notes", "test", "t1", "", "direct", "")


def test_numbers_of_numpy_become_plain() -> None:
    numpy = pytest.importorskip("numpy")
    each = record(
        0,
        scores=numpy.array([-0.5, -0.25], numpy.float32),
        chosen=numpy.int64(1),
        gold=numpy.array([1]),
        position=numpy.int32(7),
        tied=numpy.bool_(True),
    )
    assert json.loads(json.dumps(each.to_json()))["scores"] == [-0.5, -0.25]
    assert (each.chosen, each.gold, each.position, each.tied) == (1, (1,), 7, True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scores": (1.0,)}, "1 scores for 2 options"),
        ({"credits": (1.0, 0.0, 0.0)}, "3 credits for 2 options"),
        ({"scores": (0.0, math.nan)}, r"scores\[1\], of 'bad .*', is not a number"),
        ({"chosen": 2}, "chosen is option 2 of 2"),
        ({"gold": (-1,)}, "gold is option -1 of 2"),
        ({"position": -1}, "position is -1"),
        ({"shortened": 1 << 70}, "shortened is"),
        ({"task": ""}, "the task is empty"),
        ({"row": ""}, "the row is empty"),
        ({"row": "\udc00"}, "holds half a character"),
    ],
)
def test_records_that_do_not_fit(change: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        record(0, **change)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"choosen": 1}, "unknown key 'choosen'\nDid you mean 'chosen'"),
        ({"row": 3}, "row is 3, not a text"),
        ({"position": True}, "position is true, not a whole number"),
        ({"position": 1.0}, "position is 1.0, not a whole number"),
        ({"scores": ["a", "b"]}, 'scores is ."a", "b"., not a list of numbers'),
        ({"scores": [10**400, 1]}, "a number is too large"),
        ({"options": "good"}, 'options is "good", not a list of texts'),
        ({"gold": None}, "gold is null, not a list of whole numbers"),
        ({"chosen": "1"}, "not a whole number or null"),
        ({"prediction": []}, "not a text or null"),
        ({"tied": 1}, "tied is 1, not true or false"),
        ({"chosen": 5}, "chosen is option 5 of 2"),
    ],
)
def test_plain_data_that_is_no_record(change: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        Record.from_json({**record(0).to_json(), **change}, where="x.jsonl, line 3")
    assert str(caught.value.where).startswith("x.jsonl, line 3")
    assert str(caught.value).count("x.jsonl") == 1


def test_a_record_that_lacks_something() -> None:
    raw = record(0).to_json()
    del raw["row"], raw["position"]
    with pytest.raises(DataError, match="lacks position, row"):
        Record.from_json(raw)
    for other in (None, [], "a", 3):
        with pytest.raises(DataError, match="not a table"):
            Record.from_json(other)


# --- the manifest -------------------------------------------------------------------------------------------------


class TestManifest:
    def test_reads_back(self) -> None:
        again = Manifest.from_json(json.loads(json.dumps(MANIFEST.to_json())))
        assert again == MANIFEST
        assert again.digest() == MANIFEST.digest()
        assert MANIFEST.settings["wordings"] == ["yes/no", "true/false"]
        assert MANIFEST.tasks == ("reviews", "notes")

    def test_the_digest_knows_no_order_of_keys(self) -> None:
        turned = {**MANIFEST.to_json(), "data": {"notes": "da7a2", "reviews": "da7a1"}}
        assert Manifest.from_json(turned).digest() == MANIFEST.digest()

    def test_what_the_numbers_depend_on(self) -> None:
        raw = MANIFEST.to_json()
        same = {
            "model": "elsewhere/tiny",
            "device": "cuda",
            "created": "now",
            "files": {"a": "b"},
            "notes": [],
            "missing": {},
        }
        assert MANIFEST.differences(Manifest.from_json({**raw, **same})) == []
        other = {**raw, "model_digest": "0de2", "settings": {"wordings": ["yes/no"], "bars": 3}, "revision": "def"}
        assert MANIFEST.differences(Manifest.from_json(other)) == [
            'model_digest: "0de1" there, "0de2" now',
            "settings.rows: 100 there, nothing now",
            'settings.wordings: ["yes/no", "true/false"] there, ["yes/no"] now',
            'revision: "abc" there, "def" now',
            "settings.bars: nothing there, 3 now",
        ]

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"suites": 1}, "unknown key 'suites'\nDid you mean 'suite'"),
            ({"version": 7}, "is in version 7 of its format, not 1"),
            ({"version": "1"}, 'version is "1", not a whole number'),
            ({"methods": "direct"}, "not a list of texts"),
            ({"methods": []}, "methods is empty"),
            ({"data": {"reviews": None}}, "not a table of texts"),
            ({"seeds": {"a": 1.5}}, "not a table of whole numbers"),
            ({"settings": [1]}, "settings is .1., not a table"),
            ({"model_digest": ""}, "model_digest is empty"),
        ],
    )
    def test_refusals(self, change: dict[str, Any], told: str) -> None:
        with pytest.raises(DataError, match=told):
            Manifest.from_json({**MANIFEST.to_json(), **change}, where="manifest.json")

    def test_what_is_not_plain_data(self) -> None:
        raw: dict[str, Any] = {**MANIFEST.to_json()}
        for settings_, told in (({"a": {1, 2}}, "settings cannot be written as JSON"), ({"a": math.nan}, "settings")):
            with pytest.raises(DataError, match=told):
                Manifest(**{**raw, "settings": settings_})
        with pytest.raises(DataError, match="not a table of texts"):
            Manifest(**{**raw, "data": {"reviews": 3}})
        for number in ("NaN", "1e400", "-1e400"):
            text = json.dumps({**raw, "settings": {"limit": "?"}}).replace('"?"', number)
            with pytest.raises(DataError, match=r"^runs/a/manifest.json: settings cannot be written as JSON"):
                Manifest.from_json(json.loads(text), where="runs/a/manifest.json")
        del raw["seeds"]
        with pytest.raises(DataError, match="lacks seeds"):
            Manifest.from_json(raw)


# --- the folder ---------------------------------------------------------------------------------------------------


class TestRun:
    def test_the_lines(self, tmp_path: Path) -> None:
        with RunWriter.create(tmp_path / "run", MANIFEST) as run:
            run.append(RECORDS[:2])
            assert sorted(contents(run.folder)) == [".lock", "manifest.json", "records.jsonl"]
        head, *rest = (run.folder / "records.jsonl").read_bytes().splitlines()
        assert json.loads(head[9:]) == {"obverse_run": 1, "fingerprint": MANIFEST.digest()}
        assert [json.loads(line[9:]) for line in rest] == [each.to_json() for each in RECORDS[:2]]
        for line in (head, *rest):
            assert line[:9] == f"{zlib.crc32(line[9:]):08x} ".encode()
        assert sorted(contents(run.folder)) == ["manifest.json", "records.jsonl"]

    def test_unfinished_and_finished(self, tmp_path: Path) -> None:
        folder = tmp_path / "deep" / "run"
        with RunWriter.create(folder, MANIFEST) as run:
            assert (len(run), run.keys(), run.done(RECORDS[0].key)) == (0, set(), False)
            assert run.append(RECORDS[:30]) == 30
            assert run.append(reversed(RECORDS)) == 50  # those that are there are passed over
            assert run.append([]) == 0
            assert (len(run), run.done(RECORDS[79].key)) == (80, True)
            assert list(run.records()) == ORDERED
            there = read_run(folder)
            assert (there.is_finished, there.results, there.faults, len(there.records)) == (False, None, (), 80)
            assert list(there.records) == ORDERED
            done = run.finish(RESULTS, at=AT)
            assert list(run.records()) == ORDERED
        assert sorted(contents(folder)) == ["manifest.json", "records.parquet", "results.json"]
        for each in (done, read_run(folder)):
            table = (folder / "records.parquet").read_bytes()
            assert each.is_finished
            assert each.results == RESULTS
            assert each.manifest == MANIFEST.ended(AT, {"records.parquet": hashlib.sha256(table).hexdigest()})
            assert list(each.records) == list(each.records) == ORDERED
            assert len(each.records) == 80

    def test_the_table_is_for_everybody(self, tmp_path: Path) -> None:
        import pyarrow.parquet as pq

        finished(tmp_path / "run", [RECORDS])
        table = pq.read_table(tmp_path / "run" / "records.parquet")
        assert table.num_rows == 80
        assert table.column("scores").to_pylist() == [list(each.scores) for each in ORDERED]
        assert set(table.column_names) == set(Record.__dataclass_fields__)

    def test_an_empty_run(self, tmp_path: Path) -> None:
        assert list(finished(tmp_path / "run", []).records) == []

    @pytest.mark.parametrize("size", [1, 7, 79])
    def test_the_same_whatever_the_batches_and_the_order(
        self, tmp_path: Path, whole: dict[str, bytes], size: int
    ) -> None:
        mixed = random.Random(size).sample(RECORDS, len(RECORDS))
        finished(tmp_path / "run", [mixed[i : i + size] for i in range(0, len(mixed), size)])
        assert contents(tmp_path / "run") == whole

    def test_rows_of_one_position(self, tmp_path: Path) -> None:
        pair = [record(0, row=name) for name in "ba"]
        for name, order in (("one", pair), ("two", pair[::-1])):
            assert [each.row for each in finished(tmp_path / name, [order]).records] == ["a", "b"]
        assert contents(tmp_path / "one") == contents(tmp_path / "two")

    def test_more_than_one_row_group(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("obverse.runs.table._ROWS_A_GROUP", 33)
        assert list(finished(tmp_path / "run", [RECORDS]).records) == ORDERED

    def test_resume(self, tmp_path: Path, whole: dict[str, bytes]) -> None:
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST) as run:
            run.append(RECORDS[10:50])
        for first, last in ((0, 10), (50, 70)):
            with RunWriter.resume(folder, MANIFEST) as run:
                assert [each for each in RECORDS if run.done(each.key)] == RECORDS[10:50] + RECORDS[50:first]
                run.append(RECORDS[first:last])
                break
        with RunWriter.resume(folder, MANIFEST) as run:
            assert run.keys() == {each.key for each in RECORDS[:50]}
            assert run.append(RECORDS) == 30
            run.finish(RESULTS, at=AT)
        assert contents(folder) == whole

    def test_resume_of_a_finished_run(self, tmp_path: Path, whole: dict[str, bytes]) -> None:
        folder = tmp_path / "run"
        finished(folder, [RECORDS])
        with RunWriter.resume(folder, MANIFEST) as run:
            assert run.keys() == {each.key for each in RECORDS}
            assert run.append(RECORDS) == 0
            with pytest.raises(OutputError, match=r"the run is finished and takes no more records \(1 came\)"):
                run.append([record(80)])
            run.finish(RESULTS, at="another time")
            assert contents(folder) == {**whole, ".lock": contents(folder)[".lock"]}
            run.finish({"accuracy": 1.0}, at="another time")
        assert contents(folder) == {**whole, "results.json": b'{\n "accuracy": 1.0\n}\n'}

    def test_another_device(self, tmp_path: Path, whole: dict[str, bytes]) -> None:
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST) as run:
            run.append(RECORDS[:40])
        for _ in range(2):
            elsewhere = Manifest.from_json({**MANIFEST.to_json(), "device": "cuda", "created": "later"})
            with RunWriter.resume(folder, elsewhere) as run:
                run.append(RECORDS)
                assert run.manifest.device == "cpu; cuda"
        with RunWriter.resume(folder, MANIFEST) as run:
            there = run.finish(RESULTS, at=AT)
        assert (there.manifest.device, there.manifest.created) == ("cpu; cuda", MANIFEST.created)
        assert (folder / "records.parquet").read_bytes() == whole["records.parquet"]

    def test_refusals(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        with pytest.raises(OutputError, match="there is no run to go on with"):
            RunWriter.resume(folder, MANIFEST)
        assert not folder.exists()
        with pytest.raises(DataError, match="there is no run"):
            read_run(folder)
        with RunWriter.create(folder, MANIFEST) as run:
            run.append(RECORDS[:3])
            with pytest.raises(DataError, match="the run has no task 'reviewz'\nDid you mean 'reviews'"):
                run.append([record(0, task="reviewz")])
            with pytest.raises(DataError, match="the run has no method 'Direct'\nDid you mean 'direct'"):
                run.append([record(0, method="Direct")])
            with pytest.raises(DataError, match="another record of the same key is there already") as caught:
                run.append([record(8), record(2, chosen=1)])
            assert caught.value.where == "reviews, test, t1, direct, id-0"
            with pytest.raises(DataError, match="another record of the same key"):
                run.append([record(8), record(8, chosen=1)])
            with pytest.raises(OutputError, match="the results cannot be written as JSON"):
                run.finish({"accuracy": math.nan})
            assert len(run) == 3
        before = contents(folder)
        with pytest.raises(ValueError, match="closed"):
            run.append(RECORDS)
        with pytest.raises(ValueError, match="closed"):
            run.finish({})
        run.close()
        with pytest.raises(OutputError, match="holds a run already\n--resume goes on with it"):
            RunWriter.create(folder, MANIFEST)
        other = Manifest.from_json({**MANIFEST.to_json(), "model_digest": "0de2", "settings": {"rows": 5}})
        with pytest.raises(OutputError) as caught_:
            RunWriter.resume(folder, other)
        assert str(caught_.value).split("\n") == [
            f"{folder}: the run there was made with other settings",
            '  model_digest: "0de1" there, "0de2" now',
            "  settings.rows: 100 there, 5 now",
            '  settings.wordings: ["yes/no", "true/false"] there, nothing now',
            "--resume goes on only with the same settings; name another folder to begin anew.",
        ]
        assert contents(folder) == before

    @pytest.mark.parametrize("torn", [b"", b'04ab3c77 {"task": "rev'])
    def test_a_run_without_a_record_makes_room(self, tmp_path: Path, whole: dict[str, bytes], torn: bytes) -> None:
        folder = tmp_path / "run"
        other = Manifest.from_json({**MANIFEST.to_json(), "model_digest": "0de2"})
        with RunWriter.create(folder, other) as first:
            with pytest.raises(OutputError, match="another run is writing there"):  # it may have one at any moment
                RunWriter.create(folder, MANIFEST)
            first.close()
        lines_ = folder / "records.jsonl"
        lines_.write_bytes(lines_.read_bytes() + torn)
        with RunWriter.create(folder, MANIFEST) as run:
            run.append(RECORDS)
            run.finish(RESULTS, at=AT)
        assert contents(folder) == whole

    @pytest.mark.parametrize("damage", ["a line", "the header", "finished", "no manifest"])
    def test_a_run_that_may_have_had_a_record_stays(self, tmp_path: Path, damage: str) -> None:
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST) as run:
            if damage == "finished":
                run.finish({}, at=AT)
            if damage == "no manifest":
                run.append(RECORDS[:1])
        path = folder / "records.jsonl"
        if damage == "a line":
            path.write_bytes(path.read_bytes() + b"garbage\n")
        if damage == "the header":
            path.write_bytes(b"#" + path.read_bytes()[1:])
        if damage == "no manifest":
            (folder / "manifest.json").unlink()
        before = contents(folder)
        told = "no manifest.json that says which" if damage == "no manifest" else "holds a run already\n--resume"
        with pytest.raises(OutputError, match=told):
            RunWriter.create(folder, MANIFEST)
        if damage == "no manifest":
            with pytest.raises(OutputError, match=told):
                RunWriter.resume(folder, MANIFEST)
        assert contents(folder) == before

    def test_records_from_before_a_field_was_added(self, tmp_path: Path, whole: dict[str, bytes]) -> None:
        import pyarrow.parquet as pq

        # Lines leave out what stands at its default; the table of an older version lacks the column.
        folder = tmp_path / "run"
        run = finished(folder, [RECORDS])
        table = pq.read_table(folder / "records.parquet")
        assert "dropped" in table.column_names
        pq.write_table(table.drop_columns(["dropped"]), folder / "records.parquet")
        digest = hashlib.sha256((folder / "records.parquet").read_bytes()).hexdigest()
        path = folder / "manifest.json"
        path.write_text(path.read_text().replace(run.manifest.files["records.parquet"], digest))
        assert list(read_run(folder).records) == ORDERED
        with RunWriter.resume(folder, MANIFEST) as again:
            assert again.append(RECORDS) == 0

    def test_many_differences(self, tmp_path: Path) -> None:
        with RunWriter.create(tmp_path / "run", MANIFEST):
            pass
        other = {**MANIFEST.to_json(), "settings": {f"s{i}": i for i in range(9)}}
        with pytest.raises(OutputError, match="\n  and 6 more\n"):
            RunWriter.resume(tmp_path / "run", Manifest.from_json(other))

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("a")
        with pytest.raises(OutputError, match="is a file, not a folder"):
            RunWriter.create(tmp_path / "run", MANIFEST)
        with pytest.raises(OutputError, match="the folder cannot be made: Not a directory"):
            RunWriter.create(tmp_path / "run" / "deeper", MANIFEST)
        with pytest.raises(OutputError, match="is a file, not a folder"):
            RunWriter.resume(tmp_path / "run", MANIFEST)
        with pytest.raises(DataError, match="there is no run"):
            read_run(tmp_path / "run")

    def test_another_version(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST) as run:
            run.append(RECORDS[:3])
        path = folder / "manifest.json"
        sound = path.read_text()
        path.write_text(sound.replace('"version": 1', '"version": 2'))
        for act in (lambda: read_run(folder), lambda: RunWriter.resume(folder, MANIFEST)):
            with pytest.raises(DataError, match=r"manifest.json: is in version 2 of its format, not 1\nUse the"):
                act()
        path.write_text(sound)
        text = json.dumps({"obverse_run": 3, "fingerprint": MANIFEST.digest()}).encode()
        (folder / "records.jsonl").write_bytes(b"%08x %b\n" % (zlib.crc32(text), text))
        with pytest.raises(DataError, match=r"records.jsonl: is in version 3 of its format, not 1"):
            read_run(folder)

    @pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00", "[" * 100_000])
    def test_a_damaged_manifest(self, tmp_path: Path, content: str) -> None:
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST):
            pass
        (folder / "manifest.json").write_text(content)
        for act in (lambda: read_run(folder), lambda: RunWriter.resume(folder, MANIFEST)):
            with pytest.raises(DataError, match=r"manifest.json: is (damaged|\[\], not a table|null, not a table)"):
                act()

    def test_files_of_another_run(self, tmp_path: Path) -> None:
        other = Manifest.from_json({**MANIFEST.to_json(), "model_digest": "0de2"})
        for name, manifest in (("a", MANIFEST), ("b", other)):
            with RunWriter.shard(tmp_path / name, manifest, number="ab".index(name), count=2) as run:
                run.append(RECORDS)
        os.replace(tmp_path / "b" / "records-1.jsonl", tmp_path / "a" / "records-1.jsonl")
        for act in (lambda: read_run(tmp_path / "a"), lambda: RunWriter.resume(tmp_path / "a", MANIFEST)):
            with pytest.raises(
                DataError, match=r"records-1.jsonl: belongs to another run, or manifest.json .*\nMove it"
            ):
                act()
        finished(tmp_path / "c", [RECORDS])
        with RunWriter.create(tmp_path / "d", other) as run:
            run.finish({})
        os.replace(tmp_path / "d" / "records.parquet", tmp_path / "c" / "records.parquet")
        with pytest.raises(DataError, match=r"records.parquet: is damaged, or of another run"):
            read_run(tmp_path / "c")

    def test_a_finished_run_that_is_damaged(self, tmp_path: Path, whole: dict[str, bytes]) -> None:
        folder = tmp_path / "run"
        finished(folder, [RECORDS])
        table = folder / "records.parquet"
        content = whole["records.parquet"]
        for place in (100, len(content) // 3, len(content) - 20):
            flipped = bytearray(content)
            flipped[place] ^= 4
            table.write_bytes(flipped)
            with pytest.raises(DataError, match=r"records.parquet: is damaged, or of another run"):
                list(read_run(folder).records)
        table.write_bytes(content[:200])
        with pytest.raises(DataError, match=r"records.parquet: is damaged"):
            read_run(folder)
        table.unlink()
        with pytest.raises(DataError, match="the records of a finished run are missing"):
            read_run(folder)
        table.write_bytes(content)
        for text in ("[]", "{"):
            (folder / "results.json").write_text(text)
            with pytest.raises(DataError, match=r"results.json: is (not a table|damaged)"):
                read_run(folder)

    def test_a_flipped_bit_anywhere_in_the_table(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        finished(folder, [RECORDS[:4]])
        table = folder / "records.parquet"
        content = table.read_bytes()
        for place in range(0, len(content), 97):
            flipped = bytearray(content)
            flipped[place] ^= 1 << place % 8
            table.write_bytes(flipped)
            with pytest.raises(DataError, match="its checksum differs"):
                read_run(folder)


class TestDamagedLines:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        with RunWriter.create(tmp_path / "run", MANIFEST) as run:
            run.append(RECORDS[:4])
        return run.folder

    def test_every_byte_of_the_last_line(self, folder: Path) -> None:
        path = folder / "records.jsonl"
        whole = path.read_bytes()
        kept = whole[: whole.rindex(b"\n", 0, -1) + 1]
        for length in range(len(kept), len(whole), 7):
            path.write_bytes(whole[:length])
            there = read_run(folder)
            assert (len(there.records), there.faults) == (3, ())
            assert path.read_bytes() == whole[:length]
            with RunWriter.resume(folder, MANIFEST) as run:
                assert (len(run), run.faults, run.done(RECORDS[3].key)) == (3, (), False)
                assert path.read_bytes() == kept
                run.append(RECORDS[:4])
            assert path.read_bytes() == whole

    def test_every_byte_of_the_first_line(self, folder: Path) -> None:
        path = folder / "records.jsonl"
        whole = path.read_bytes()
        for length in range(0, whole.index(b"\n"), 5):
            path.write_bytes(whole[:length])
            with RunWriter.resume(folder, MANIFEST) as run:
                run.append(RECORDS[:4])
            assert path.read_bytes() == whole

    @pytest.mark.parametrize("tail", [b"\x00" * 5000, b"\xff", b"01234567 {}"])
    def test_garbage_without_an_end(self, folder: Path, tail: bytes) -> None:
        path = folder / "records.jsonl"
        whole = path.read_bytes()
        path.write_bytes(whole + tail)
        with RunWriter.resume(folder, MANIFEST) as run:
            assert (len(run), run.faults) == (4, ())
        assert path.read_bytes() == whole

    def test_a_flipped_bit_in_the_middle(self, folder: Path) -> None:
        path = folder / "records.jsonl"
        whole = path.read_bytes()
        lengths = [len(line) for line in whole.splitlines(keepends=True)]
        begin = lengths[0] + lengths[1]
        for place in range(begin, begin + lengths[2] - 1, 11):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << place % 8
            if flipped[place] == 10:
                continue
            path.write_bytes(flipped)
            there = read_run(folder)
            assert [str(fault) for fault in there.faults] == ["records.jsonl, line 3: the line is damaged"]
            assert {r.key for r in there.records} == {RECORDS[i].key for i in (0, 2, 3)}
            with RunWriter.resume(folder, MANIFEST) as run:
                assert run.faults == there.faults
                assert [run.done(each.key) for each in RECORDS[:4]] == [True, False, True, True]
                assert run.append(RECORDS[:4]) == 1
            assert set(read_run(folder).records) == set(RECORDS[:4])

    def test_damage_is_gone_when_it_is_finished(self, folder: Path, whole: dict[str, bytes]) -> None:
        path = folder / "records.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"row": "id-0"', b'"row": "id-9"', 1))
        with RunWriter.resume(folder, MANIFEST) as run:
            assert len(run.faults) == 1
            run.append(RECORDS)
            there = run.finish(RESULTS, at=AT)
            assert run.faults == there.faults == ()
        assert contents(folder) == whole

    def test_a_lost_line_end(self, folder: Path) -> None:
        path = folder / "records.jsonl"
        parts = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join(parts[:2]) + b"\n" + parts[2] + b"#" + parts[3] + b"\n" + parts[4] + b"\n")
        there = read_run(folder)
        assert [fault.line for fault in there.faults] == [3]
        assert len(there.records) == 2

    def test_a_damaged_first_line(self, folder: Path) -> None:
        path = folder / "records.jsonl"
        path.write_bytes(b"#" + path.read_bytes()[1:])
        there = read_run(folder)
        assert [str(fault) for fault in there.faults] == ["records.jsonl, line 1: the line is damaged"]
        assert len(there.records) == 4

    @pytest.mark.parametrize(
        ("raw", "told"),
        [
            ({"row": "1"}, "the line is no record"),
            ({**record(9).to_json(), "row": ["a"]}, "the line is no record"),
            ({**record(9).to_json(), "position": "x"}, "the line is no record"),
            ({**record(9).to_json(), "task": "else"}, "the run has no task 'else' with method 'direct'"),
            ({**record(1).to_json(), "chosen": 0}, "another record of row 'id-0' came before it"),
            (record(1).to_json(), None),
        ],
    )
    def test_sound_lines_of_strange_content(self, folder: Path, raw: dict[str, Any], told: str | None) -> None:
        path = folder / "records.jsonl"
        text = json.dumps(raw).encode()
        path.write_bytes(path.read_bytes() + b"%08x %b\n" % (zlib.crc32(text), text))
        there = read_run(folder)
        assert [str(fault) for fault in there.faults] == ([f"records.jsonl, line 6: {told}"] if told else [])
        assert set(there.records) == set(RECORDS[:4])

    def test_changed_while_it_is_read(self, folder: Path) -> None:
        there = read_run(folder)
        path = folder / "records.jsonl"
        path.write_bytes(path.read_bytes().replace(b"good", b"goof"))
        with pytest.raises(DataError, match="changed while it was read\nRead the run again"):
            list(there.records)
        path.unlink()
        with pytest.raises(DataError, match="cannot be read: No such file"):
            list(there.records)


class TestShards:
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_the_same_for_any_number(self, tmp_path: Path, whole: dict[str, bytes], count: int) -> None:
        folder = tmp_path / "run"
        shards = [RunWriter.shard(folder, MANIFEST, number=k, count=count) for k in range(count)]
        for begin in range(0, 80, 8):
            for run in shards:
                run.append(RECORDS[n] for n in range(begin, begin + 8) if run.takes(n))
        for run in shards:
            run.close()
        assert sorted(contents(folder))[1:] == ["manifest.json", *(f"records-{k}.jsonl" for k in range(count))]
        with RunWriter.resume(folder, MANIFEST) as alone:
            assert alone.append(RECORDS) == 0
            alone.finish(RESULTS, at=AT)
        assert contents(folder) == whole

    def test_resumed_by_another_number(self, tmp_path: Path, whole: dict[str, bytes]) -> None:
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST) as run:
            run.append(RECORDS[::4])
        for count in (3, 2):
            for number in range(count):
                with RunWriter.shard(folder, MANIFEST, number=number, count=count) as run:
                    assert {each.key for each in RECORDS[::4]} <= run.keys()
                    run.append([r for n, r in enumerate(RECORDS) if run.takes(n) and not run.done(r.key)][:10])
        torn = folder / "records-1.jsonl"
        torn.write_bytes(torn.read_bytes()[:-9])
        with RunWriter.resume(folder, MANIFEST) as run:
            assert 0 < run.append(RECORDS) < 30
            run.finish(RESULTS, at=AT)
        assert contents(folder) == whole

    def test_who_may_write_beside_whom(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        busy = pytest.raises(OutputError, match=rf"another run is writing there \(process {os.getpid()} on .+\)")
        with RunWriter.shard(folder, MANIFEST, number=0, count=2) as first:
            with busy:
                RunWriter.shard(folder, MANIFEST, number=0, count=2)
            with busy:
                RunWriter.resume(folder, MANIFEST)
            with RunWriter.shard(folder, MANIFEST, number=1, count=2), busy:
                RunWriter.resume(folder, MANIFEST)
            with pytest.raises(OutputError, match="one of several processes cannot finish the run"):
                first.finish({})
            other = Manifest.from_json({**MANIFEST.to_json(), "seeds": {"rows": 2}})
            with pytest.raises(OutputError, match=r"seeds.rows: 1 there, 2 now"):
                RunWriter.shard(folder, other, number=1, count=2)
        with RunWriter.resume(folder, MANIFEST):
            with busy:
                RunWriter.shard(folder, MANIFEST, number=1, count=2)
            with busy:
                RunWriter.resume(folder, MANIFEST)
            with busy:
                RunWriter.create(folder, MANIFEST)
        for number, count in ((2, 2), (-1, 2), (0, 0)):
            with pytest.raises(OutputError, match=f"there is no process {number} of {count}"):
                RunWriter.shard(folder, MANIFEST, number=number, count=count)

    def test_of_a_finished_run(self, tmp_path: Path, whole: dict[str, bytes]) -> None:
        folder = tmp_path / "run"
        finished(folder, [RECORDS])
        with RunWriter.shard(folder, MANIFEST, number=0, count=2) as run:
            assert run.append(RECORDS) == 0
        assert {n: c for n, c in contents(folder).items() if n != ".lock"} == whole

    def test_without_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
        with RunWriter.shard(tmp_path / "run", MANIFEST, number=0, count=2) as run:
            run.append(RECORDS)
        assert list(read_run(tmp_path / "run").records) == ORDERED

    def test_the_first_of_two_manifests_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "run"
        link = os.link

        def late(fresh: Path, path: Path) -> None:
            path.write_text(json.dumps({**MANIFEST.to_json(), "created": "a moment before"}))
            link(fresh, path)

        monkeypatch.setattr(os, "link", late)
        with RunWriter.shard(folder, MANIFEST, number=0, count=2) as run:
            assert run.manifest.created == "a moment before"
        assert [name for name in contents(folder) if name.endswith(".new")] == []


# --- the disk -----------------------------------------------------------------------------------------------------


def failing(number: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


class FullDisk:
    """`os.write` on a disk that has `room` bytes left."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.write

    def __call__(self, descriptor: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.write(descriptor, data[: self.room])
        self.room -= taken
        return taken


class TestFailingDisk:
    def test_full_at_any_byte(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST) as run:
            run.append(RECORDS[:4])
        path = folder / "records.jsonl"
        whole = path.read_bytes()
        stored = whole.splitlines(keepends=True)
        for room in range(0, len(stored[3]) + len(stored[4]), 13):
            path.write_bytes(b"".join(stored[:3]))
            with RunWriter.resume(folder, MANIFEST) as run:
                with monkeypatch.context() as patch:
                    patch.setattr(os, "write", FullDisk(room))
                    with pytest.raises(OutputError) as caught:
                        run.append(RECORDS[2:4])
                safe = 3 if room >= len(stored[3]) else 2
                assert str(caught.value) == (
                    f"{path}: the disk is full\nThe records before are safe: free some space and --resume."
                )
                assert (len(run), run.done(RECORDS[2].key)) == (safe, safe == 3)
                assert path.read_bytes() == b"".join(stored[: safe + 1])
                run.append(RECORDS[:4])  # and where there is room again, it goes on
            assert path.read_bytes() == whole

    def test_interrupted_between_two_parts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write = os.write

        def interrupted(descriptor: int, data: memoryview) -> int:
            write(descriptor, data[:9])
            raise KeyboardInterrupt

        with RunWriter.create(tmp_path / "run", MANIFEST) as run:
            run.append(RECORDS[:2])
            before = (run.folder / "records.jsonl").read_bytes()
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    run.append(RECORDS)
            assert (run.folder / "records.jsonl").read_bytes() == before
            assert len(run) == 2

    def test_full_at_the_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", FullDisk(0))
            with pytest.raises(OutputError, match="the disk is full"):
                RunWriter.create(tmp_path / "run", MANIFEST)
        with RunWriter.create(tmp_path / "run", MANIFEST) as run:
            run.append(RECORDS)

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
    def test_full_while_finishing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes], number: int
    ) -> None:
        import pyarrow.parquet as pq

        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST) as run:
            run.append(RECORDS[:60])
            with monkeypatch.context() as patch:
                patch.setattr(pq.ParquetWriter, "write_table", failing(number))
                with pytest.raises(OutputError, match=r"(the disk is full|cannot be finished: Inp.*)\nAll records are"):
                    run.finish(RESULTS, at=AT)
            assert sorted(contents(folder)) == [".lock", "manifest.json", "records.jsonl", "results.json"]
            there = read_run(folder)
            assert (there.is_finished, there.results, len(there.records)) == (False, None, 60)
            assert run.append(RECORDS) == 20  # and it can go on
            run.finish(RESULTS, at=AT)
        assert contents(folder) == whole

    def test_a_sync_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("obverse.runs.lines.time.monotonic", lambda: 100.0)
        run = RunWriter.create(tmp_path / "run", MANIFEST)
        run.append(RECORDS)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(errno.EIO))
            with pytest.raises(OutputError, match="cannot be written: Input/output error"):
                run.close()
        with RunWriter.resume(tmp_path / "run", MANIFEST) as run:  # the lock was given back
            assert len(run) == 80

    def test_a_file_system_without_sync_or_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
        monkeypatch.setattr("obverse.runs.disk.fcntl.flock", failing(errno.ENOLCK))
        assert list(finished(tmp_path / "run", [RECORDS]).records) == ORDERED

    def test_without_locks_the_file_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(disk, "fcntl", None)
        folder = tmp_path / "run"
        with (
            RunWriter.create(folder, MANIFEST),
            pytest.raises(OutputError, match=f"process {os.getpid()} on"),
        ):
            RunWriter.resume(folder, MANIFEST)
        (folder / ".lock").write_text(json.dumps({"pid": dead_process(), "host": os.uname().nodename}))
        with RunWriter.resume(folder, MANIFEST) as run:
            run.append(RECORDS)

    def test_a_lock_taken_away_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between opening the lock file and locking it, the run that held it may end and delete it."""
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST):
            pass
        locked, seen = disk._locked, []

        def late(descriptor: int, *other: Any) -> bool:
            seen.append(descriptor)
            if len(seen) == 1:
                os.unlink(folder / ".lock")
            return locked(descriptor, *other)

        monkeypatch.setattr(disk, "_locked", late)
        with (
            RunWriter.resume(folder, MANIFEST),
            pytest.raises(OutputError, match="another run is writing there"),
        ):
            RunWriter.resume(folder, MANIFEST)
        assert len(seen) == 3

    def test_syncs_are_seldom(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [100.0]
        synced: list[float] = []
        with RunWriter.create(tmp_path / "run", MANIFEST) as run:
            monkeypatch.setattr("obverse.runs.lines.time.monotonic", lambda: clock[0])
            monkeypatch.setattr(os, "fsync", lambda _: synced.append(clock[0]))
            run._file._synced_at = clock[0]  # type: ignore[union-attr]
            for number in range(10):
                clock[0] += 0.5
                run.append(RECORDS[number : number + 1])
            assert synced == [102.0, 104.0]
        assert synced == [102.0, 104.0, 105.0]

    def test_a_folder_that_may_only_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST) as run:
            run.append(RECORDS)
        before = contents(folder)
        opened = os.open

        def refuse(path: Any, flags: int, *other: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(errno.EROFS, "Read-only file system")
            return opened(path, flags, *other, **more)

        monkeypatch.setattr(os, "open", refuse)
        assert list(read_run(folder).records) == ORDERED
        for act in (RunWriter.resume, lambda f, m: RunWriter.shard(f, m, number=0, count=1)):
            with pytest.raises(OutputError, match="the folder cannot be written to: Read-only file system"):
                act(folder, MANIFEST)
        monkeypatch.undo()
        assert contents(folder) == before

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
    def test_a_folder_without_the_right_to_write(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        finished(folder, [RECORDS])
        folder.chmod(0o555)
        try:
            assert list(read_run(folder).records) == ORDERED
            with pytest.raises(OutputError, match="Permission denied"):
                RunWriter.resume(folder, MANIFEST)
        finally:
            folder.chmod(0o755)


# --- kills --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


class TestKilledFinish:
    def test_at_every_step(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]) -> None:
        """Each call that changes a name in the folder is in turn the last that is done, or the first that is not."""
        folder = tmp_path / "run"
        survived = 0
        for steps, after in itertools.product(range(9), (False, True)):
            for path in folder.iterdir() if folder.exists() else ():
                path.unlink()
            run = RunWriter.create(folder, MANIFEST)
            run.append(RECORDS)
            left = [steps]
            with monkeypatch.context() as patch:
                for name in ("replace", "unlink"):
                    patch.setattr(os, name, self._stepping(getattr(os, name), left, after))
                try:
                    run.finish(RESULTS, at=AT)
                    survived += 1
                except Killed:
                    pass
            for lock in run._locks:  # as the system does it
                os.close(lock._descriptor)
            there = read_run(folder)
            assert list(there.records) == ORDERED
            assert there.results == (RESULTS if there.is_finished else None)
            with RunWriter.resume(folder, MANIFEST) as again:
                assert again.append(RECORDS) == 0
                again.finish(RESULTS, at=AT)
            assert contents(folder) == whole
        assert 2 <= survived <= 10  # and the kills did reach every step

    @staticmethod
    def _stepping(call: Any, left: list[int], after: bool) -> Any:
        def step(*args: Any, **more: Any) -> Any:
            if left[0] < 0:
                return None  # killed: what would clean up does not run either
            left[0] -= 1
            if left[0] >= 0:
                return call(*args, **more)
            if after:
                with contextlib.suppress(FileNotFoundError):  # what is removed to be sure need not be there
                    call(*args, **more)
            raise Killed

        return step

    def test_left_overs_are_cleaned_away(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        with RunWriter.create(folder, MANIFEST):
            pass
        for name in (".records.parquet.0123abcd.new", ".manifest.json.00000000.new", ".lock-3", "mine.new", ".hidden"):
            (folder / name).write_text("")
        with RunWriter.resume(folder, MANIFEST):
            pass
        assert sorted(contents(folder)) == [".hidden", "manifest.json", "mine.new", "records.jsonl"]


WORK = """
import json, random, sys, time
from pathlib import Path
from obverse.runs.records import Manifest, Record
from obverse.runs.store import RunWriter
folder, mode, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
work = json.loads((folder.parent / "work.json").read_text())
manifest = Manifest.from_json(work["manifest"])
begun = (folder / "manifest.json").exists()
run = RunWriter.resume(folder, manifest) if begun else RunWriter.create(folder, manifest)
rng = random.Random(seed)
missing = [r for r in map(Record.from_json, work["records"]) if not run.done(r.key)]
rng.shuffle(missing)
print("going", len(missing), flush=True)
while missing:
    size = rng.randint(1, 9)
    run.append(missing[:size])
    del missing[:size]
    if mode == "write":
        time.sleep(0.001)
if mode == "finish":
    print("finishing", flush=True)
    run.finish(work["results"], at=work["at"])
    run.close()
else:
    time.sleep(600)
"""


def laid_out(folder: Path, count: int) -> None:
    """What the processes of `WORK` are to write, beside the run's folder."""
    work = {
        "manifest": MANIFEST.to_json(),
        "records": [record(n).to_json() for n in range(count)],
        "results": RESULTS,
        "at": AT,
    }
    (folder.parent / "work.json").write_text(json.dumps(work))


def started(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


class TestKills:
    def test_killed_at_random_moments(self, tmp_path: Path) -> None:
        count = 2_000
        folder, rng = tmp_path / "run", random.Random(time.time_ns())
        laid_out(folder, count)
        there = []
        for life in range(10):
            with started(WORK, folder, "write", life) as process:
                assert process.stdout
                assert process.stdout.readline().startswith(b"going")
                time.sleep(rng.random() * 0.08)
                process.send_signal(signal.SIGKILL)
            partial = read_run(folder)
            assert not partial.is_finished
            assert partial.faults == ()
            there.append(len(partial.records))
        assert there == sorted(there)
        assert there[-1] > 0
        assert len(set(there)) > 3, there
        delays = [0.0, 0.05 * rng.random(), 0.3 * rng.random(), None]
        for life, delay in enumerate(delays):
            with started(WORK, folder, "finish", life) as process:
                assert process.stdout
                assert process.stdout.readline().startswith(b"going")
                assert process.stdout.readline() == b"finishing\n"
                if delay is None:
                    assert process.wait(timeout=600) == 0
                    break
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
            assert len(read_run(folder).records) == count
        records = [record(n) for n in range(count)]
        finished(tmp_path / "calm", [records])
        assert list(read_run(folder).records) == list(read_run(tmp_path / "calm").records)
        assert contents(folder) == contents(tmp_path / "calm")

    def test_one_at_a_time_and_a_lock_left_behind(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        laid_out(folder, 8)
        with started(WORK, folder, "hold", 0) as process:
            assert process.stdout
            assert process.stdout.readline() == b"going 8\n"
            with pytest.raises(
                OutputError, match=rf"another run is writing there \(process {process.pid} on "
            ) as caught:
                RunWriter.resume(folder, MANIFEST)
            assert "Wait until it is done" in str(caught.value)
            with pytest.raises(OutputError, match="another run is writing there"):
                RunWriter.shard(folder, MANIFEST, number=0, count=2)
            process.send_signal(signal.SIGKILL)
        assert json.loads((folder / ".lock").read_text())["pid"] == process.pid
        with RunWriter.shard(folder, MANIFEST, number=0, count=2):  # nor does the dead one stand in the way of many
            pass
        with RunWriter.resume(folder, MANIFEST) as run:
            run.append(RECORDS[:8])
            assert len(run) == 8


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    finished(tmp_path / "run", [RECORDS])
    code = (
        "import sys\n"
        "import obverse.runs.store, obverse.runs.scores\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'transformers', 'numpy', 'pyarrow'}))\n"
        "run = obverse.runs.store.read_run(sys.argv[1])\n"
        "print(len(list(run.records)), run.results, 'torch' in sys.modules)\n"
    )
    with started(code, tmp_path / "run") as process:
        output = process.communicate(timeout=600)[0].decode().splitlines()
    assert output == ["[]", f"80 {RESULTS} False"]


def test_finished_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    run = RunWriter.create(folder, MANIFEST)
    run.append(RECORDS)
    listed = lines.line_files

    def late(path: Path) -> list[Path]:
        files = listed(path)
        monkeypatch.setattr(lines, "line_files", listed)
        run.finish(RESULTS, at=AT)
        return files

    monkeypatch.setattr(lines, "line_files", late)
    there = read_run(folder)
    assert there.is_finished
    assert list(there.records) == ORDERED
    run.close()


# --- the store of scores ------------------------------------------------------------------------------------------


def score_key(number: int, **other: str) -> ScoreKey:
    return ScoreKey(**{"model": "0de1", "task": "reviews", "split": "test", "template": "7e", "term": "flipped",
                       "row": f"r{number}", **other})  # fmt: skip


@pytest.fixture
def scores(tmp_path: Path) -> Iterator[ScoreStore]:
    with ScoreStore(tmp_path / "cache") as store:
        yield store


class TestScoreStore:
    def test_there_and_not_there(self, scores: ScoreStore) -> None:
        assert scores.get_many([score_key(0)]) == {}
        put = {score_key(n): (-n / 7, -math.inf, -0.0, 1e-310) for n in range(1_200)}
        scores.put_many(put)
        scores.put_many({})
        scores.put_many({score_key(5): [1.0], score_key(6): ()})
        wanted = [score_key(n) for n in range(1_300)]
        assert scores.get_many(wanted) == {**put, score_key(5): (1.0,), score_key(6): ()}
        assert len(scores) == 1_200
        with ScoreStore(scores.path.parent) as again:
            assert again.get_many(iter(wanted)) == scores.get_many(wanted)

    def test_each_part_of_the_key_counts(self, scores: ScoreStore) -> None:
        base = score_key(0)
        others = [base._replace(**{name: "else"}) for name in ScoreKey._fields]
        others += [base._replace(model="0de1r", task="eviews"), base._replace(row="r0\ud800")]
        scores.put_many({base: (1.0,)})
        assert scores.get_many([base, *others]) == {base: (1.0,)}

    @quick
    @given(st.lists(st.floats(), max_size=6))
    def test_bit_for_bit(self, scores: ScoreStore, values: list[float]) -> None:
        scores.put_many({score_key(0): values})
        (got,) = scores.get_many([score_key(0)]).values()
        assert struct.pack(f"<{len(got)}d", *got) == struct.pack(f"<{len(values)}d", *values)

    def test_the_oldest_are_forgotten(self, tmp_path: Path) -> None:
        with ScoreStore(tmp_path, most_bytes=200_000) as store:
            for begin in range(0, 20_000, 500):
                store.put_many({score_key(n): (1.0 * n, 0.0) for n in range(begin, begin + 500)})
                store.put_many({score_key(0): (9.0,)})  # written again and again: never old
            found = sorted(int(key.row[1:]) for key in store.get_many([score_key(n) for n in range(20_000)]))
            assert found[0] == 0
            assert found[1:] == list(range(20_000 - len(found) + 1, 20_000))
            assert 1_500 < len(found) < 4_000
            assert os.path.getsize(store.path) < 350_000
        with pytest.raises(OutputError, match="a store of 10 bytes holds nothing"):
            ScoreStore(tmp_path, most_bytes=10)

    def test_a_flipped_bit_in_a_value(self, scores: ScoreStore) -> None:
        scores.put_many({score_key(0): (0.1234567891234,), score_key(1): (2.0,)})
        content = scores.path.read_bytes()
        value = struct.pack("<d", 0.1234567891234)
        assert content.count(value) == 1
        scores.close()
        scores.path.write_bytes(content.replace(value, struct.pack("<d", 0.1234567891235)))
        with ScoreStore(scores.path.parent) as store:
            assert store.get_many([score_key(0), score_key(1)]) == {score_key(1): (2.0,)}
            store.put_many({score_key(0): (3.0,)})
            assert store.get_many([score_key(0)]) == {score_key(0): (3.0,)}

    @pytest.mark.parametrize("damage", ["head", "middle", "text", "cut"])
    def test_a_damaged_file_is_set_aside(self, tmp_path: Path, damage: str) -> None:
        with ScoreStore(tmp_path) as store:
            store.put_many({score_key(n): (1.0, 2.0) for n in range(2_000)})
        content = store.path.read_bytes()
        hurt = {
            "head": b"\x00" * 50 + content[50:],
            "middle": content[:4096] + b"\xaa" * (len(content) - 4096),
            "text": b"not a store at all, but long enough to have a head" * 40,
            "cut": content[: len(content) // 2],
        }[damage]
        store.path.write_bytes(hurt)
        notes: list[str] = []
        with ScoreStore(tmp_path, note=notes.append) as store:
            found = store.get_many([score_key(n) for n in range(2_000)])
            assert set(found.values()) <= {(1.0, 2.0)}
            store.put_many({score_key(n): (3.0,) for n in range(2_000)})
            assert set(store.get_many([score_key(n) for n in range(2_000)]).values()) == {(3.0,)}
        assert notes == [f"{store.path} is damaged: set aside as scores.sqlite.damaged-1, and a new one begun"]
        assert (tmp_path / "scores.sqlite.damaged-1").stat().st_size == len(hurt)
        store.path.write_bytes(b"again" * 300)
        with ScoreStore(tmp_path, note=notes.append):
            pass
        assert (tmp_path / "scores.sqlite.damaged-2").exists()

    def test_two_find_the_damage(self, tmp_path: Path) -> None:
        with ScoreStore(tmp_path) as store:
            store.put_many({score_key(n): (1.0, 2.0) for n in range(2_000)})
        content = store.path.read_bytes()
        notes: list[str] = []
        with ScoreStore(tmp_path, note=notes.append) as one, ScoreStore(tmp_path, note=notes.append) as two:
            store.path.write_bytes(content[:4096] + b"\xaa" * (len(content) - 4096))
            one.put_many({score_key(0): (5.0,)})
            assert two.get_many([score_key(0)]) == {score_key(0): (5.0,)}
        assert len(notes) == 1

    def test_another_version_and_another_program(self, scores: ScoreStore, tmp_path: Path) -> None:
        scores.close()
        with sqlite3.connect(scores.path) as connection:
            connection.execute("PRAGMA user_version = 2")
        connection.close()
        with pytest.raises(OutputError, match="is in version 2 of its format, not 1"):
            ScoreStore(scores.path.parent)
        other = tmp_path / "other"
        other.mkdir()
        with sqlite3.connect(other / "scores.sqlite") as connection:
            connection.execute("CREATE TABLE games (a)")
        connection.close()
        with pytest.raises(OutputError, match="is not a store of scores"):
            ScoreStore(other)

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match=r"the store of scores cannot be used: (Not a directory|File exists)"):
            ScoreStore(tmp_path / "file")
        (tmp_path / "folder" / "scores.sqlite").mkdir(parents=True)
        with pytest.raises(OutputError, match="the store of scores cannot be used: unable to open"):
            ScoreStore(tmp_path / "folder")

    def test_a_full_disk(self, scores: ScoreStore) -> None:
        scores.put_many({score_key(n): (1.0,) for n in range(10)})
        scores._connection.execute("PRAGMA max_page_count = 4")
        with pytest.raises(OutputError, match="database or disk is full\nMend that, or do without the store"):
            scores.put_many({score_key(n): (2.0,) * 50 for n in range(500)})
        assert scores.get_many([score_key(n) for n in range(500)]) == {score_key(n): (1.0,) for n in range(10)}

    def test_two_readers_and_a_killed_writer(self, tmp_path: Path) -> None:
        """A batch is there whole or not at all, whenever it is looked for and whatever kills its writer."""
        code = (
            "import sys, itertools\n"
            "from obverse.runs.scores import ScoreKey, ScoreStore\n"
            "store = ScoreStore(sys.argv[1])\n"
            "for batch in itertools.count(int(sys.argv[2])):\n"
            "    store.put_many({ScoreKey('m', 't', 's', 'x', str(batch), str(i)): [batch, i] for i in range(50)})\n"
            "    if batch % 10 == 3: print(batch, flush=True)\n"
        )
        done = 0

        def whole_batches(store: ScoreStore, upto: int) -> int:
            there = 0
            for batch in range(upto):
                found = store.get_many(ScoreKey("m", "t", "s", "x", str(batch), str(i)) for i in range(50))
                assert len(found) in (0, 50), batch
                assert all(values == (batch, int(key.row)) for key, values in found.items())
                there += bool(found)
            return there

        for _ in range(3):
            with started(code, tmp_path, done) as process:
                assert process.stdout
                seen = int(process.stdout.readline())
                with ScoreStore(tmp_path) as one, ScoreStore(tmp_path) as two:
                    assert whole_batches(one, seen) == whole_batches(two, seen) == seen
                process.send_signal(signal.SIGKILL)
            with ScoreStore(tmp_path, note=pytest.fail) as store:
                done = whole_batches(store, seen + 500)
                assert done > seen
                assert whole_batches(store, done) == done
