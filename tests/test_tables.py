"""Tables: what is read is what was written, and every fault is told with its place and mend."""

from __future__ import annotations

import csv
import datetime
import errno
import gc
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obverse.catalog import tables
from obverse.catalog.tables import RowCount, check_columns, default_text_column, open_table, table_format
from obverse.catalog.writers import cell_text, open_writer, refuse_existing, stdout_writer
from obverse.errors import DataError, OutputError

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path | str, start: int = 0) -> list[dict[str, object]]:
    return [row.values for row in open_table(path).rows(start)]


def fault(path: Path | str, kind: type[DataError] = DataError) -> DataError:
    with pytest.raises(kind) as caught:
        list(open_table(path).rows())
    return caught.value


def stdin_of(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


class TestReading:
    def test_csv(self, tmp_path: Path) -> None:
        path = put(tmp_path, "r.csv", 'text,label\n"one, ""two""\nthree",a\n\n  padded ,\n')
        table = open_table(path)
        assert (table.columns, table.format, table.path, table.rereadable) == (("text", "label"), "csv", path, True)
        rows = list(table.rows())
        assert [r.values for r in rows] == [
            {"text": 'one, "two"\nthree', "label": "a"},
            {"text": "  padded ", "label": ""},
        ]
        # the first row fills lines 2 and 3, line 4 is blank
        assert [r.where for r in rows] == [f"{path}, row 1 (line 2)", f"{path}, row 2 (line 5)"]
        assert list(table.rows()) == rows

    def test_tsv_keeps_commas(self, tmp_path: Path) -> None:
        assert read(put(tmp_path, "r.TSV", "a\tb\n1,2\t3\n")) == [{"a": "1,2", "b": "3"}]

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_line_ends_and_byte_order_mark(self, tmp_path: Path, end: str) -> None:
        path = put(tmp_path, "r.csv", b"\xef\xbb\xbf" + end.join(["text,n", "ä,1", "b,2", ""]).encode())
        assert read(path) == [{"text": "ä", "n": "1"}, {"text": "b", "n": "2"}]

    def test_no_newline_at_the_end(self, tmp_path: Path) -> None:
        assert read(put(tmp_path, "r.csv", "text\na")) == [{"text": "a"}]
        assert read(put(tmp_path, "r.jsonl", '{"text": "a"}')) == [{"text": "a"}]

    def test_a_field_longer_than_the_parsers_usual_limit(self, tmp_path: Path) -> None:
        assert read(put(tmp_path, "r.csv", "text\n" + "x" * 300_000 + "\n")) == [{"text": "x" * 300_000}]

    def test_json_lines(self, tmp_path: Path) -> None:
        path = put(
            tmp_path,
            "r.ndjson",
            '{"text": "\\u00e4\u2028", "n": 1}\n\n{"more": [null, 1.5]}\r\n{"n": null, "text": ""}',
        )
        table = open_table(path)
        assert table.columns == ("text", "n")
        assert [(r.number, r.line, r.values) for r in table.rows()] == [
            (1, 1, {"text": "ä\u2028", "n": 1}),
            (2, 3, {"more": [None, 1.5]}),
            (3, 4, {"n": None, "text": ""}),
        ]
        assert table.schema().names == ["text", "n", "more"]

    def test_parquet(self, tmp_path: Path) -> None:
        path = tmp_path / "r.parquet"
        day = datetime.datetime(2024, 2, 29, 12, 0)
        source = pa.table({"text": ["a", None, "c"], "n": [1, 2, None], "when": [day] * 3, "tags": [["x"], [], None]})
        pq.write_table(source, path, row_group_size=2)
        table = open_table(path)
        assert table.columns == ("text", "n", "when", "tags")
        assert [(r.number, r.line, r.where) for r in table.rows(1)] == [
            (2, None, f"{path}, row 2"),
            (3, None, f"{path}, row 3"),
        ]
        assert [r.values for r in table.rows()] == source.to_pylist()
        assert table.count() == RowCount(3, True)

    @pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.jsonl", "r.parquet"])
    def test_start(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        with open_writer(path, ["text"]) as writer:
            for i in range(2_500):
                writer.write({"text": f"line\n{i}"})
        whole = list(open_table(path).rows())
        assert [r.values["text"] for r in whole] == [f"line\n{i}" for i in range(2_500)]
        for start in (0, 1, 999, 1_000, 1_001, 2_300, 2_499, 2_500, 9_999):
            rest = list(open_table(path).rows(start))
            assert rest == whole[start:]
            assert [r.where for r in rest] == [r.where for r in whole[start:]]

    def test_count(self, tmp_path: Path) -> None:
        assert open_table(put(tmp_path, "a.csv", 'text\n"a\nb"\nc\n')).count() == RowCount(2, True)
        assert open_table(put(tmp_path, "b.jsonl", "{}\n\n{}\n")).count() == RowCount(2, True)
        for name, line in (("c.csv", "äöü,12345\n"), ("c.jsonl", '{"text": "äöü"}\n')):
            path = put(tmp_path, name, ("text,n\n" if name == "c.csv" else "") + line * 10_000)
            assert open_table(path).count() == RowCount(10_000, False)

    def test_standard_input_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stdin_of(monkeypatch, "\ufeffone\r\n\n  two \u2028 x\r\rend".encode())
        table = open_table("-")
        assert (table.columns, table.format, table.rereadable, table.count()) == (("text",), "lines", False, None)
        assert default_text_column(table) == "text"
        rows = list(table.rows())
        assert [r.values["text"] for r in rows] == ["one", "", "  two \u2028 x\r\rend"]
        assert rows[2].where == "standard input, row 3 (line 3)"
        assert not sys.stdin.buffer.closed
        with pytest.raises(DataError, match="standard input: can be read only once"):
            table.rows()

    def test_standard_input_as_a_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stdin_of(monkeypatch, b"id,text\n1,a\n2,b\n3,c\n")
        table = open_table("-", format="csv")
        assert table.columns == ("id", "text")
        assert [(r.number, r.values["text"]) for r in table.rows(1)] == [(2, "b"), (3, "c")]

    def test_lines_of_standard_input_arrive_one_by_one(self) -> None:
        code = (
            "from obverse.catalog.tables import open_table\n"
            "for row in open_table('-').rows(): print(row.values['text'].upper(), flush=True)"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
        ) as process:
            assert process.stdin and process.stdout
            for word in (b"one", b"two"):
                process.stdin.write(word + b"\n")
                process.stdin.flush()
                assert process.stdout.readline() == word.upper() + b"\n"
            process.stdin.close()
            assert process.wait(timeout=20) == 0


class TestFaults:
    def test_no_such_file(self, tmp_path: Path) -> None:
        put(tmp_path, "reviews.csv", "text\na\n")
        error = fault(tmp_path / "review.csv")
        assert str(error) == (
            f"{tmp_path / 'review.csv'}: there is no such file\nDid you mean {str(tmp_path / 'reviews.csv')!r}?"
        )
        assert fault(tmp_path / "zzzz.jsonl").mend == f"Tables in the folder {tmp_path}: reviews.csv."
        assert fault(tmp_path / "no" / "r.csv").mend == f"There is no folder {tmp_path / 'no'} either."

    def test_folder(self, tmp_path: Path) -> None:
        (tmp_path / "d.csv").mkdir()
        assert fault(tmp_path / "d.csv").what == "is a folder, not a file"

    def test_not_a_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.csv")
        error = fault(tmp_path / "pipe.csv")
        assert error.what == "is not a regular file"
        assert "name - as the input" in str(error.mend)

    @pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.jsonl", "r.parquet"])
    def test_empty(self, tmp_path: Path, name: str) -> None:
        assert fault(put(tmp_path, name, "")).what == "the file is empty"

    def test_blank_only(self, tmp_path: Path) -> None:
        assert fault(put(tmp_path, "r.csv", "\n\n")).what == "the file is empty"
        assert fault(put(tmp_path, "r.jsonl", "\n \n")).what == "there are no rows"

    def test_header_only(self, tmp_path: Path) -> None:
        for content in ("text,label\n", "text,label", "text,label\n\n\n"):
            with pytest.raises(DataError, match="there is a header but no rows"):
                open_table(put(tmp_path, "r.csv", content))
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "r.parquet")
        with pytest.raises(DataError, match="there are no rows"):
            open_table(tmp_path / "r.parquet")

    def test_header_names(self, tmp_path: Path) -> None:
        error = fault(put(tmp_path, "r.csv", "\n,text\n0,a\n"))
        assert (error.where, error.what) == (f"{tmp_path / 'r.csv'}, line 2", "column 1 has no name")
        assert "index=False" in str(error.mend)
        error = fault(put(tmp_path, "r.csv", "a,text,b,text\n0,a,1,2\n"))
        assert error.what == "columns 2 and 4 are both named 'text'"
        twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
        pq.write_table(twice, tmp_path / "r.parquet")
        assert fault(tmp_path / "r.parquet").what == "columns 1 and 2 are both named 'text'"

    def test_ragged_rows(self, tmp_path: Path) -> None:
        path = put(tmp_path, "r.csv", 'text,label\n"a\nb",x\none, two,y\n')
        error = fault(path)
        assert (error.where, error.what) == (
            f"{path}, row 2 (line 4)",
            "the row has 3 fields and should have 2, as the header has",
        )
        assert "quotation marks" in str(error.mend)
        assert fault(put(tmp_path, "r.csv", "text,label\na\n")).what.startswith(
            "the row has 1 fields and should have 2"
        )

    def test_quotation_marks(self, tmp_path: Path) -> None:
        path = put(tmp_path, "r.csv", 'text,label\nfine,1\n"so" it goes,x\n')
        error = fault(path)
        assert error.where == f"{path}, line 3"
        assert "',' expected after '\"'" in error.what
        error = fault(put(tmp_path, "r.csv", 'text,label\nfine,1\n"never closed,x\na,b\n'))
        assert error.where == f"{path}, lines 3 to 4"
        assert "unexpected end of data" in error.what

    def test_a_field_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = csv.field_size_limit(1_000)
        monkeypatch.setattr(tables, "_LONGEST_FIELD", 1_001)
        try:
            error = fault(put(tmp_path, "r.csv", 'text\nfine\n"open' + "\nx" * 1_000))
        finally:
            csv.field_size_limit(usual)
        assert "field larger than field limit (1001)" in error.what
        assert str(error.where).startswith(f"{tmp_path / 'r.csv'}, lines 3 to ")

    def test_encoding(self, tmp_path: Path) -> None:
        # far behind the first chunk that a decoder would take
        path = put(tmp_path, "r.csv", b"text\n" + "gräßlich\n".encode() * 5_000 + b"gr\xe4\xdflich\n")
        error = fault(path)
        assert (error.where, error.what) == (f"{path}, line 5002", "the byte 0xe4 at column 3 is not UTF-8")
        assert "Save the file as UTF-8" in str(error.mend)
        assert fault(put(tmp_path, "u.csv", "text\na\n".encode("utf-16"))).what == "is written in UTF-16"
        path = put(tmp_path, "r.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n')
        assert str(fault(path)).startswith(f"{path}, line 2: the byte 0xff at column 11 is not UTF-8\n")

    def test_endings(self, tmp_path: Path) -> None:
        known = "Known endings: .csv, .tsv, .jsonl, .ndjson, .parquet."
        for name, what in (("r.dat", "the ending '.dat' is not known"), ("reviews", "the file name has no ending")):
            error = fault(put(tmp_path, name, "text\na\n"))
            assert (error.what, error.mend) == (what, known)
        error = fault(put(tmp_path, "r.csv.gz", b"\x1f\x8b"))
        assert error.what == "compressed files (.gz) are not supported"
        assert error.mend == f"Unpack it first: gunzip -k r.csv.gz. {known}"
        assert "jq -c '.[]' r.json > r.jsonl" in str(fault(tmp_path / "r.json").mend)
        assert table_format("A.CSV") == "csv"
        with pytest.raises(DataError, match="no table format 'cvs'\nDid you mean 'csv'"):
            open_table(put(tmp_path, "r.csv", "a\n1\n"), format="cvs")
        assert open_table(tmp_path / "r.dat", format="csv").columns == ("text",)

    @pytest.mark.parametrize(
        ("line", "what"),
        [
            ('{"text": "a",}', "is not a JSON object: Illegal trailing comma before end of object at column 13"),
            ('{"text": "a"', "is not a JSON object: Expecting ',' delimiter at column 13"),
            ("word", "is not a JSON object: Expecting value at column 1"),
            ('{"a": 1} {"a": 2}', "is not a JSON object: Extra data at column 10"),
            ("  [1]", "is not a JSON object: found a list at column 3"),
            ('"a"', "is not a JSON object: found a string at column 1"),
            ("null", "is not a JSON object: found null at column 1"),
        ],
    )
    def test_json_faults(self, tmp_path: Path, line: str, what: str) -> None:
        path = put(tmp_path, "r.jsonl", '{"text": "a"}\n\n' + line + '\n{"text": "b"}\n')
        error = fault(path)
        if sys.version_info < (3, 13):
            what = what.replace(
                "Illegal trailing comma before end of object at column 13",
                "Expecting property name enclosed in double quotes at column 14",
            )
        assert (error.where, error.what) == (f"{path}, line 3", what)
        assert '{"text": "..."}' in str(error.mend)

    def test_json_nested_too_deep_and_numbers_too_long(self, tmp_path: Path) -> None:
        assert "is not a JSON object that can be read" in fault(put(tmp_path, "r.jsonl", '{"a":' + "[" * 200_000)).what
        error = fault(put(tmp_path, "r.jsonl", '{"a":' + "1" * 5_000 + "}"))
        assert "is not a JSON object that can be read" in error.what

    def test_json_over_several_lines(self, tmp_path: Path) -> None:
        assert "jq -c . OLD" in str(fault(put(tmp_path, "r.jsonl", '{\n  "text": "a"\n}\n')).mend)
        assert "jq -c '.[]' OLD" in str(fault(put(tmp_path, "r.jsonl", '[\n{"text": "a"}\n]\n')).mend)

    def test_half_characters(self, tmp_path: Path) -> None:
        path = put(tmp_path, "r.jsonl", '{"text": "\\ud83d\\ude00"}\n{"text": "cut \\ud83d"}\n')
        error = fault(path)
        assert error.where == f"{path}, line 2"
        assert error.what == "the value of 'text' holds half a character (\\ud83d)"
        assert next(open_table(path).rows()).values == {"text": "😀"}

    def test_broken_parquet(self, tmp_path: Path) -> None:
        path = tmp_path / "r.parquet"
        pq.write_table(pa.table({"text": [f"row {i}" for i in range(5_000)]}), path)
        content = path.read_bytes()
        error = fault(put(tmp_path, "cut.parquet", content[:-10]))
        assert error.where == str(tmp_path / "cut.parquet")
        assert error.what.startswith("is not a whole Parquet file: ")
        assert "\n" not in error.what
        fault(put(tmp_path, "damaged.parquet", content[:4] + b"\xff" * 200 + content[204:]))
        fault(put(tmp_path, "other.parquet", "text,label\na,b\n"))

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stdin_of(monkeypatch, b"")
        with pytest.raises(DataError, match="standard input: is empty"):
            list(open_table("-").rows())
        stdin_of(monkeypatch, b"fine\nb\xe4d\n")
        with pytest.raises(DataError, match="standard input, line 2: the byte 0xe4 at column 2"):
            list(open_table("-").rows())
        stdin_of(monkeypatch, b"text\n")
        with pytest.raises(DataError, match="standard input: there are no rows"):
            open_table("-", format="csv")
        with pytest.raises(DataError, match="Parquet cannot be read from standard input"):
            open_table("-", format="parquet")
        stdin_of(monkeypatch, b"{}\n")
        with pytest.raises(DataError, match="known only after reading"):
            open_table("-", format="jsonl").schema()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path: Path) -> None:
        path = put(tmp_path, "r.csv", "text\na\n")
        path.chmod(0)
        assert "permission denied" in fault(path).what


class TestColumns:
    def test_missing(self, tmp_path: Path) -> None:
        table = open_table(put(tmp_path, "r.csv", "review,stars\na,1\n"))
        check_columns(table, ["stars", "review"], "--text")
        with pytest.raises(DataError) as caught:
            check_columns(table, ["reviw", "stars"], "--text")
        assert str(caught.value) == (
            f"{tmp_path / 'r.csv'}: there is no column 'reviw' in the table (--text)\nDid you mean 'review'?"
        )
        with pytest.raises(DataError, match=r"no column 'x' and no column 'start'.*\nKnown: review, stars\. Did"):
            check_columns(table, ["x", "start"], "--text")

    def test_wrong_separator(self, tmp_path: Path) -> None:
        table = open_table(put(tmp_path, "r.csv", "text;label\na;b\n"))
        words = "The header holds semicolons: save the file with commas between the fields."
        with pytest.raises(DataError, match=words):
            check_columns(table, ["text"], "--text")
        with pytest.raises(DataError, match=words):
            default_text_column(table)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("label,text,words\na,b,c\n", "text"),
            ("review\n1\n", "review"),
            ("id,review,stars\n1,2,1.5\n2,good film,-3e2\n", "review"),
        ],
    )
    def test_default(self, tmp_path: Path, content: str, expected: str) -> None:
        assert default_text_column(open_table(put(tmp_path, "r.csv", content))) == expected

    def test_default_by_type(self, tmp_path: Path) -> None:
        path = put(tmp_path, "r.jsonl", '{"n": 1, "review": "a b", "tags": ["x y"]}\n')
        assert default_text_column(open_table(path)) == "review"

    @pytest.mark.parametrize("content", ["title,review\na,b\n", "id,n\n1,2\n"])
    def test_no_default(self, tmp_path: Path, content: str) -> None:
        table = open_table(put(tmp_path, "r.csv", content))
        with pytest.raises(DataError) as caught:
            default_text_column(table)
        assert caught.value.mend == f"Name it: --text NAME. Columns: {', '.join(table.columns)}."


texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('",\t\n\r\u2028\ufeff\x00;|\\ ')))
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    lambda name: name.strip() and not name.startswith("\ufeff")
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def text_tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    columns = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    width = len(columns)
    return columns, draw(st.lists(st.lists(texts, min_size=width, max_size=width), min_size=1, max_size=5))


class TestRoundTrip:
    @quick
    @pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "parquet"])
    @given(table=text_tables())
    def test_text(self, tmp_path: Path, format: str, table: tuple[list[str], list[list[str]]]) -> None:
        columns, cells = table
        rows = [dict(zip(columns, line, strict=True)) for line in cells]
        path = tmp_path / f"out.{format}"
        with open_writer(path, columns) as writer:
            for row in rows:
                writer.write(row)
        again = open_table(path)
        assert again.columns == tuple(columns)
        assert [row.values for row in again.rows()] == rows
        assert [row.values for row in again.rows(1)] == rows[1:]

    @quick
    @given(table=text_tables())
    def test_the_standard_librarys_reader_agrees(
        self, tmp_path: Path, table: tuple[list[str], list[list[str]]]
    ) -> None:
        columns, cells = table
        with open_writer(tmp_path / "out.csv", columns) as writer:
            for line in cells:
                writer.write(dict(zip(columns, line, strict=True)))
        with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
            assert list(csv.reader(file)) == [columns, *cells]

    @quick
    @given(rows=st.lists(st.dictionaries(texts, json_values, max_size=4), min_size=1, max_size=5))
    def test_json_lines_keep_types_and_keys(self, tmp_path: Path, rows: list[dict[str, object]]) -> None:
        path = tmp_path / "out.jsonl"
        with open_writer(path, []) as writer:
            for row in rows:
                writer.write(row)
        again = read(path)
        assert again == rows
        assert [json.dumps(row) for row in again] == [json.dumps(row) for row in rows]  # True is not 1, order is kept

    def test_csv_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "out.csv"
        with open_writer(path, ["text", "n"]) as writer:
            writer.write({"text": "plain é", "n": 0.1})
            writer.write({"text": 'a "b", c\nd', "n": None})
            writer.write({"n": 12})
        assert path.read_bytes() == 'text,n\nplain é,0.1\n"a ""b"", c\nd",\n,12\n'.encode()

    def test_jsonl_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"
        with open_writer(path, ["text"]) as writer:
            writer.write({"text": "é\u2028", "x": math.nan, "y": [1, -math.inf, 1.0], "z": None})
        assert path.read_bytes() == '{"text": "é\u2028", "x": null, "y": [1, null, 1.0], "z": null}\n'.encode()

    def test_cells(self) -> None:
        moment = datetime.datetime(2024, 2, 29, 12, 30)
        values = [None, True, 3, 1e-7, 1.0, ["ä", {"k": None}], moment, b"caf\xc3\xa9", b"\xff\x00"]
        assert [cell_text(v) for v in values] == [
            "", "true", "3", "1e-07", "1.0", '["ä", {"k": null}]', "2024-02-29T12:30:00", "café", "/wA=",
        ]  # fmt: skip

    def test_parquet_keeps_its_types(self, tmp_path: Path) -> None:
        source = pa.table(
            {
                "text": pa.array(["a", None], pa.large_string()),
                "kind": pa.array(["x", "y"], pa.dictionary(pa.int32(), pa.string())),
                "n": pa.array([1, None], pa.int16()),
                "when": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
                "far": pa.array([2**61, 0], pa.timestamp("us")),
                "tags": pa.array([["p"], None], pa.list_(pa.string())),
                "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
                "raw": pa.array([b"\xff", b""], pa.binary()),
            }
        ).replace_schema_metadata({"made by": "somebody"})
        pq.write_table(source, tmp_path / "in.parquet")
        table = open_table(tmp_path / "in.parquet")
        assert table.schema().metadata is None
        columns = [*table.columns, "label", "score"]
        with open_writer(tmp_path / "out.parquet", columns, schema=table.schema()) as writer:
            for row in table.rows():
                writer.write({**row.values, "label": None if row.number == 1 else "good", "score": row.number / 4})
        out = pq.read_table(tmp_path / "out.parquet")
        assert out.select(table.columns).equals(source.replace_schema_metadata(None))
        assert out.schema.field("label").type == pa.string()
        assert out.schema.field("score").type == pa.float64()
        assert out.select(["label", "score"]).to_pylist() == [
            {"label": None, "score": 0.25},
            {"label": "good", "score": 0.5},
        ]

    def test_values_without_a_python_value_as_text(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"far": pa.array([2**49, None, 2**50], pa.timestamp("ms"))}), tmp_path / "in.parquet")
        rows = read(tmp_path / "in.parquet")
        assert rows[1] == {"far": None}
        # 2**49 ms are 17,839 years of 365.2425 days
        assert cell_text(rows[0]["far"]).startswith("19809-")
        assert cell_text(rows[2]["far"]) == str(2**50)
        with open_writer(tmp_path / "out.jsonl", []) as writer:
            writer.write(rows[0])
        assert read(tmp_path / "out.jsonl") == [{"far": cell_text(rows[0]["far"])}]

    def test_json_lines_to_parquet(self, tmp_path: Path) -> None:
        lines = [
            {"text": "a", "whole": 1, "mixed": 1, "long": 2**60, "flag": True, "half": 1, "none": None},
            {"text": None, "whole": 2, "mixed": "x", "long": 1, "list": [1, "ä"], "half": 0.5, "big": 2**70},
        ]
        path = put(tmp_path, "in.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        table = open_table(path)
        schema = table.schema()
        assert {f.name: str(f.type) for f in schema} == {
            "text": "string", "whole": "int64", "mixed": "string", "long": "int64", "flag": "bool",
            "half": "double", "none": "string", "list": "string", "big": "string",
        }  # fmt: skip
        with open_writer(tmp_path / "out.parquet", schema.names, schema=schema) as writer:
            for row in table.rows():
                writer.write(row.values)
        assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
            {"text": "a", "whole": 1, "mixed": "1", "long": 2**60, "flag": True, "half": 1.0, "none": None,
             "list": None, "big": None},
            {"text": None, "whole": 2, "mixed": "x", "long": 1, "flag": None, "half": 0.5, "none": None,
             "list": '[1, "ä"]', "big": str(2**70)},
        ]  # fmt: skip

    def test_parquet_row_groups(self, tmp_path: Path) -> None:
        with open_writer(tmp_path / "out.parquet", ["text", "p"]) as writer:
            for i in range(2_001):
                writer.write({"text": str(i), "p": i})
        metadata = pq.read_metadata(tmp_path / "out.parquet")
        assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [1_000, 1_000, 1]

    def test_no_rows(self, tmp_path: Path) -> None:
        for name, content in (("o.csv", b"a,b\n"), ("o.tsv", b"a\tb\n"), ("o.jsonl", b"")):
            open_writer(tmp_path / name, ["a", "b"]).close()
            assert (tmp_path / name).read_bytes() == content
        open_writer(tmp_path / "o.parquet", ["a"]).close()
        assert pq.read_table(tmp_path / "o.parquet").schema == pa.schema([("a", pa.string())])


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


FORMATS = ["csv", "tsv", "jsonl", "parquet"]


class TestAppearance:
    @pytest.mark.parametrize("format", FORMATS)
    def test_whole_or_not_at_all(self, tmp_path: Path, format: str) -> None:
        path = put(tmp_path, f"out.{format}", "what was there before")
        writer = open_writer(path, ["text"])
        for i in range(1_500):
            writer.write({"text": f"{i} " + "x" * 300})
        assert path.read_text() == "what was there before"
        hidden = [name for name in listing(tmp_path) if name != path.name]
        assert len(hidden) == 1 and hidden[0].startswith(f".out.{format}.")
        writer.close()
        writer.close()
        assert listing(tmp_path) == [path.name]
        assert sum(1 for _ in open_table(path).rows()) == 1_500
        with pytest.raises(ValueError, match="closed"):
            writer.write({"text": "late"})

    @pytest.mark.parametrize("format", FORMATS)
    def test_an_exception_leaves_nothing(self, tmp_path: Path, format: str) -> None:
        path = tmp_path / f"out.{format}"
        with pytest.raises(KeyboardInterrupt), open_writer(path, ["text"]) as writer:
            for _ in range(1_001):
                writer.write({"text": "a"})
            raise KeyboardInterrupt
        assert listing(tmp_path) == []

    def test_a_killed_process_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = put(tmp_path, "out.csv", "old")
        code = (
            "import sys\nfrom obverse.catalog.writers import open_writer\n"
            f"with open_writer({str(path)!r}, ['text']) as writer:\n"
            "    i = 0\n"
            "    while True:\n"
            "        i += 1\n"
            "        writer.write({'text': 'x' * 1000})\n"
            "        if i == 2000: print('going', flush=True)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=_environment()) as process:
            assert process.stdout and process.stdout.readline() == b"going\n"
            process.send_signal(signal.SIGKILL)
        assert path.read_text() == "old"
        assert all(name == "out.csv" or name.startswith(".out.csv.") for name in listing(tmp_path))

    def test_others_may_read_the_result(self, tmp_path: Path) -> None:
        before = os.umask(0o022)
        try:
            open_writer(tmp_path / "out.csv", ["a"]).close()
        finally:
            os.umask(before)
        assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o644

    def test_a_link_stays_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "out.csv").symlink_to(tmp_path / "real" / "true.csv")
        open_writer(tmp_path / "out.csv", ["a"]).close()
        assert (tmp_path / "out.csv").is_symlink()
        assert (tmp_path / "real" / "true.csv").read_text() == "a\n"

    def test_a_long_name(self, tmp_path: Path) -> None:
        path = tmp_path / ("é" * 120 + ".csv")
        open_writer(path, ["a"]).close()
        assert listing(tmp_path) == [path.name]

    def test_reading_and_replacing_the_same_file(self, tmp_path: Path) -> None:
        path = put(tmp_path, "r.csv", "text\na\nb\n")
        with open_writer(path, ["text", "label"]) as writer:
            for row in open_table(path).rows():
                writer.write({**row.values, "label": "x"})
        assert path.read_text() == "text,label\na,x\nb,x\n"


class TestOutputFaults:
    def test_existing(self, tmp_path: Path) -> None:
        path = put(tmp_path, "out.csv", "old")
        with pytest.raises(OutputError) as caught:
            refuse_existing(path, overwrite=False)
        assert str(caught.value) == f"{path}: exists already\n--overwrite replaces it."
        refuse_existing(path, overwrite=True)
        refuse_existing(tmp_path / "new.csv", overwrite=False)
        refuse_existing("-", overwrite=False)

    def test_places(self, tmp_path: Path) -> None:
        for act in (lambda p: refuse_existing(p, True), lambda p: open_writer(p, ["a"], format="csv")):
            with pytest.raises(OutputError, match=f"there is no folder {tmp_path}/no\nTry: mkdir -p {tmp_path}/no"):
                act(tmp_path / "no" / "out.csv")
            with pytest.raises(OutputError, match="is a folder"):
                act(tmp_path)
            with pytest.raises(OutputError, match="is not a regular file"):
                act("/dev/null")
        assert Path("/dev/null").is_char_device()

    def test_formats(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"the ending '\.xlsx' is not known"):
            open_writer(tmp_path / "out.xlsx", ["a"])
        with pytest.raises(OutputError, match=r"compressed files \(\.gz\)"):
            open_writer(tmp_path / "out.csv.gz", ["a"])
        with pytest.raises(OutputError, match="not written as plain lines"):
            open_writer(tmp_path / "out.csv", ["a"], format="lines")
        with pytest.raises(OutputError, match="two columns would be named 'a'"):
            open_writer(tmp_path / "out.csv", ["a", "b", "a"])
        assert listing(tmp_path) == []

    @pytest.mark.parametrize("format", ["csv", "parquet"])
    def test_unknown_keys(self, tmp_path: Path, format: str) -> None:
        with (
            pytest.raises(OutputError, match=r"a row has 'b', which the header does not have\n.*\.jsonl"),
            open_writer(tmp_path / f"out.{format}", ["a"]) as writer,
        ):
            writer.write({"a": 1, "b": 2})
        assert listing(tmp_path) == []

    def test_parquet_values_that_do_not_fit(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError) as caught, open_writer(tmp_path / "out.parquet", ["a"]) as writer:
            for i in range(2_000):
                writer.write({"a": i if i < 1_500 else "word"})
        assert "column 'a' does not fit its type double" in caught.value.what
        assert caught.value.where == f"{tmp_path / 'out.parquet'}, rows 1001 to 2000"
        assert listing(tmp_path) == []

    def test_half_characters(self, tmp_path: Path) -> None:
        with (
            pytest.raises(OutputError, match=r"row 2: a value holds half a character \(\\ud800\)"),
            open_writer(tmp_path / "out.csv", ["a"]) as writer,
        ):
            writer.write({"a": "fine"})
            writer.write({"a": "\ud800"})

    @pytest.mark.parametrize("format", FORMATS)
    def test_disk_full(self, tmp_path: Path, format: str) -> None:
        path = put(tmp_path, f"out.{format}", "old")
        writer = open_writer(path, ["text"])
        full = open("/dev/full", "wb")  # noqa: SIM115
        writer._place.file.close()  # type: ignore[attr-defined]
        writer._place.file = full  # type: ignore[attr-defined]
        with pytest.raises(OutputError) as caught, writer:
            for i in range(1_000_000):
                writer.write({"text": f"{i} " + "x" * 200})
        assert (caught.value.what, caught.value.where) == ("the disk is full", str(path))
        assert "Free some space" in str(caught.value.mend)
        assert (listing(tmp_path), path.read_text()) == ([path.name], "old")
        assert full.closed

    def test_disk_full_when_closing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        writer = open_writer(tmp_path / "out.csv", ["a"])
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(OutputError, match="the disk is full"):
            writer.close()
        assert listing(tmp_path) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_no_permission(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="permission denied"):
            open_writer(tmp_path / "out.csv", ["a"])

    def test_a_refused_open(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(OutputError, match="may not be written: permission denied\nName an output in a folder"):
            open_writer(tmp_path / "out.csv", ["a"])


class _Pieces(io.RawIOBase):
    """Standard output that takes a few bytes at a time and remembers every write and flush."""

    def __init__(self) -> None:
        self.taken = b""
        self.flushed: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)[:7]  # type: ignore[call-overload]
        self.taken += part
        return len(part)

    def flush(self) -> None:
        if not self.flushed or self.flushed[-1] != self.taken:
            self.flushed.append(self.taken)


class _Stream:
    def __init__(self, buffer: object) -> None:
        self.buffer = buffer

    def flush(self) -> None:
        self.buffer.flush()  # type: ignore[attr-defined]


class TestStandardOutput:
    def test_whole_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        out = _Pieces()
        monkeypatch.setattr(sys, "stdout", _Stream(out))
        with stdout_writer("csv", ["text", "n"]) as writer:
            writer.write({"text": "one, two", "n": 1})
            assert out.taken == b""
            writer.flush()
            writer.write({"text": "drei ß", "n": 2})
            writer.write({"text": "four", "n": 3})
            writer.flush()
        assert out.flushed == [
            b'text,n\n"one, two",1\n',
            'text,n\n"one, two",1\ndrei ß,2\nfour,3\n'.encode(),
        ]

    def test_json_lines(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        with stdout_writer("jsonl", []) as writer:
            writer.write({"text": "é"})
        assert capfdbinary.readouterr().out == '{"text": "é"}\n'.encode()

    def test_broken_pipe_is_the_callers(self) -> None:
        code = (
            "import os, sys\nfrom obverse.catalog.writers import stdout_writer\n"
            "try:\n"
            "    with stdout_writer('jsonl', []) as writer:\n"
            "        while True: writer.write({'text': 'x' * 1000})\n"
            "except BrokenPipeError:\n"
            "    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)\n"
            "    sys.exit(7)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=_environment()) as process:
            assert process.stdout
            assert json.loads(process.stdout.readline()) == {"text": "x" * 1000}
            process.stdout.close()
            assert process.wait(timeout=20) == 7

    def test_formats(self) -> None:
        with pytest.raises(OutputError, match="parquet cannot be written to standard output"):
            stdout_writer("parquet", ["a"])


@pytest.mark.parametrize(("format", "many"), [("csv", 200_000), ("jsonl", 50_000), ("parquet", 50_000)])
def test_memory_is_flat(tmp_path: Path, format: str, many: int) -> None:
    """Many rows of 200 characters (40 or 10 MB) are written and read within the memory that 4,000 rows take."""
    path = tmp_path / f"big.{format}"
    values = {"text": "x" * 200, "n": "5"}
    peaks = []
    for rows in (4_000, many):
        gc.collect()
        tracemalloc.start()
        arrow = 0
        try:
            with open_writer(path, ["text", "n"]) as writer:
                for _ in range(rows):
                    writer.write(values)
            for row in open_table(path).rows():
                if row.number % 2_000 == 0:
                    arrow = max(arrow, pa.total_allocated_bytes())  # not seen by tracemalloc
            assert row.number == rows
            peaks.append(tracemalloc.get_traced_memory()[1] + arrow)
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2_000_000, peaks


def test_memory_is_flat_within_one_row_group(tmp_path: Path) -> None:
    path = tmp_path / "big.parquet"
    numbers = random.Random(1)  # so that nothing can be compressed
    source = pa.table({"text": [numbers.randbytes(150).hex() for _ in range(100_000)]})
    pq.write_table(source, path, row_group_size=100_000, use_dictionary=False)
    del source
    gc.collect()
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() for row in open_table(path).rows() if row.number % 1_000 == 5) - before
    assert path.stat().st_size > 15_000_000
    assert most < 6_000_000


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
