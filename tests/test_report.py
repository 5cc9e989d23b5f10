"""`obverse report`: what a reader finds on the page, in the pieces and in the errors."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import struct
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from example_runs import (
    SCRIPT,
    answered,
    flipped_run,
    generated_run,
    hostile_run,
    manifest,
    outcomes,
    settings_run,
    templates_run,
    wordings_run,
    write,
)
from obverse.cli.main import app
from obverse.errors import DataError, OutputError
from obverse.recipes.report import ReportSettings, report
from obverse.reports.blocks import DotChart, Piece, Strip, StripGroup, Table, TableCell, TableRow, Words
from obverse.reports.columns import ReportedRun
from obverse.reports.markdown import markdown
from obverse.reports.pairs import FoundTexts
from obverse.reports.phrases import as_published, p_text, p_words, sentence_list, ticks
from obverse.reports.pieces import pieces_of
from obverse.reports.results import JudgedRun, summarize_judged

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "br", "wbr"}


class Reader(HTMLParser):
    """The texts and elements of a page, which it checks to be nested rightly."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def headings(self) -> list[str]:
        return [attrs["id"] for tag, attrs in self.elements if tag == "section"]


def page_of(tmp_path, *runs, **settings) -> str:
    output = tmp_path / "report.html"
    report(ReportSettings(tuple(run.folder for run in runs), output, resamples=100, **settings))
    return output.read_text(encoding="utf-8")


def pieces(*runs, texts=None) -> dict[str, Piece]:
    judged = [JudgedRun.of(run) for run in runs]
    reported = [ReportedRun(j.run.folder.name, j, summarize_judged(j, resamples=100)) for j in judged]
    return {piece.name: piece for piece in pieces_of(reported, texts=texts)}


def table(piece: Piece, number: int = 0) -> Table:
    return [block for block in piece.blocks if isinstance(block, Table)][number]


def cells(of: Table) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in of.rows]


def words(piece: Piece) -> str:
    return " ".join(text for block in piece.blocks if isinstance(block, Words) for text in block.texts)


def command(*arguments):
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# --- which pieces -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        (templates_run, ["overview", "table", "templates", "calibration", "confusion", "comparisons", "differences"]),
        (wordings_run, ["overview", "table", "wordings", "calibration", "confusion", "comparisons", "differences"]),
        (settings_run, ["overview", "table", "settings", "calibration", "confusion", "comparisons", "differences"]),
        (
            flipped_run,
            ["overview", "table", "flipped-labels", "calibration", "confusion", "comparisons", "differences"],
        ),
        (generated_run, ["overview", "table", "settings"]),
    ],
)
def test_a_page_has_the_pieces_that_the_run_has_something_for(tmp_path, run, wanted):
    reader = Reader(page_of(tmp_path, run(tmp_path / "run", rows=12)))
    assert reader.headings() == wanted
    links = [attrs["href"] for tag, attrs in reader.elements if tag == "a"]
    assert links == [f"#{name}" for name in wanted]


def test_a_run_without_right_answers_says_so(tmp_path):
    found = pieces(write(tmp_path / "run", manifest(), [answered("0", gold=()), answered("1", gold=())]))
    assert "no figures" in words(found["table"])
    assert set(found) == {"overview", "table"}


# --- what they say ------------------------------------------------------------------------------------------------


def test_the_table_by_hand(tmp_path):
    patterns = {
        ("t1", "direct"): "+" * 30 + "-" * 10, ("t2", "direct"): "+" * 20 + "-" * 20,
        ("t1", "flipped"): "+" * 40, ("t2", "flipped"): "+" * 38 + "-" * 2,
    }  # fmt: skip
    settings = {
        "title": "Pets",
        "tasks": {"pets": {"metric": "accuracy", "chance": 0.5}},
        "published": [{"model": "Others", "source": "a paper", "figures": {"pets": 71.05, "cars": 1}}],
    }
    found = table(pieces(write(tmp_path / "run", manifest(settings=settings), outcomes(patterns)))["table"])
    assert found.heads == ("task", "chance", "direct", "flipped", "Others")
    assert cells(found) == [["pets", "50.0", "62.5", "97.5", "71.05"]]
    (row,) = found.rows
    assert row.cells[0].small == "40 rows × 2 templates"
    assert [cell.mark for cell in row.cells[2:4]] == ["", "best"]
    assert found.dim == {4}


def test_what_cannot_be_told_from_the_best_is_marked(tmp_path):
    patterns = {("t1", "direct"): "++++-+-+-+", ("t1", "flipped"): "+-+++++-++"}
    found = table(pieces(write(tmp_path / "run", manifest(), outcomes(patterns)))["table"])
    assert [(cell.text, cell.mark) for cell in found.rows[0].cells[1:]] == [("70.0", "alike"), ("80.0", "best")]


def test_the_mean_of_each_metric_is_marked_by_its_own_comparison(tmp_path):
    # in both tasks of accuracy flipped is better by far, in those of macro-F1 the two answer alike
    records = [
        answered(str(i), task=task, method=method, gold=(i % 2,), chosen=i % 2 if i % 5 or clear else 1 - i % 2)
        for task in ("a1", "a2", "f1", "f2")
        for method in ("direct", "flipped")
        for clear in [task[0] == "a" and method == "flipped"]
        for i in range(60)
    ]
    tasks = {name: {"metric": "accuracy" if name[0] == "a" else "macro_f1"} for name in ("a1", "a2", "f1", "f2")}
    of = manifest(data=dict.fromkeys(tasks, "d"), settings={"tasks": tasks})
    found = table(pieces(write(tmp_path / "run", of, records))["table"])
    means = [[cell.text for cell in row.cells] + [cell.mark for cell in row.cells[2:]] for row in found.rows[-2:]]
    assert means == [
        ["mean", "accuracy", "80.0", "100.0", "", "best"],
        ["mean", "macro-F1", "80.0", "80.0", "best", "alike"],
    ]


def test_means_and_published_figures_stand_in_their_settings(tmp_path):
    found = table(pieces(settings_run(tmp_path / "run", rows=10))["table"])
    kinds = [row.kind for row in found.rows]
    assert kinds == ["section", "", "", "foot"] * 4
    assert [row.cells[0].text for row in found.rows if row.kind == "section"][:2] == [
        "relevant labels, instruction",
        "relevant labels",
    ]
    assert [row.cells[-2].text for row in found.rows if row.kind == "foot"] == ["63.9", "61.6", "42.4", "44.2"]
    panel = pieces(settings_run(tmp_path / "other", rows=10))["settings"].blocks[0]
    assert isinstance(panel, DotChart)
    assert [len(group.strips) for group in panel.groups] == [4] * 4  # two methods, two published
    assert [strip.text for strip in panel.groups[3].strips if strip.hollow] == ["44.2", "52.8"]


def test_every_template_is_a_point(tmp_path):
    patterns = {("t1", "direct"): "+++-", ("t2", "direct"): "+---", ("t3", "direct"): "++--"}
    settings = {"tasks": {"pets": {"metric": "accuracy", "chance": 0.25}}}
    chart = pieces(write(tmp_path / "run", manifest(settings=settings), outcomes(patterns)))["templates"].blocks[0]
    (group,) = chart.groups
    assert group.line == 0.25 and chart.line == "chance"
    (strip,) = group.strips
    assert [(dot.title, dot.value) for dot in strip.dots] == [("t1", 0.75), ("t2", 0.25), ("t3", 0.5)]
    assert strip.mean == 0.5
    assert chart.low <= strip.low <= strip.high <= chart.high


def test_losses_under_other_words_by_hand(tmp_path):
    letters = {"": "++++++++--", "agree/disagree": "+++++-----", "true/false": "++++++----"}
    records = [r for wording, pattern in letters.items() for r in outcomes({("t", "direct"): pattern}, wording=wording)]
    found = pieces(write(tmp_path / "run", manifest(), records))["wordings"]
    dots = found.blocks[0].groups[0].strips[0].dots
    assert [(dot.value, dot.kind) for dot in dots] == [(0.8, "own"), (0.5, "worst"), (0.6, "")]
    row = cells(table(found))[0]
    assert row == ["pets", "direct", "80.0", "63.3", "50.0", "agree/disagree", "-16.7", "-30.0"]


def test_flipped_labels_have_their_line(tmp_path):
    chart = pieces(flipped_run(tmp_path / "run", rows=10))["flipped-labels"].blocks[0]
    assert {group.line for group in chart.groups} == {0.5}
    assert [group.name for group in chart.groups] == ["subj", "raft/overruling", "mean over tasks"]


def test_calibration_by_hand(tmp_path):
    # two options, scores 0 and -log 3 at temperature 1: probabilities 3/4 and 1/4
    third = -1.0986122886681098
    records = [answered(str(i), scores=(0.0, third), chosen=0, gold=(0 if i < 3 else 1,)) for i in range(4)]
    (diagram,) = pieces(write(tmp_path / "run", manifest(), records))["calibration"].blocks[0].diagrams
    (one,) = diagram.bins
    assert (one.confidence, one.accuracy, one.rows) == (pytest.approx(0.75), 0.75, 4)
    assert diagram.facts[0] == "expected calibration error 0.000"
    # right: 2 (1/4)^2 = 1/8; wrong: 2 (3/4)^2 = 9/8
    assert diagram.facts[1] == f"Brier score {(3 / 8 + 9 / 8) / 4:.3f}"


def test_temperature_divides_the_scores(tmp_path):
    records = [answered(str(i), scores=(0.0, -2.1972245773362196), chosen=0) for i in range(4)]
    run = write(tmp_path / "run", manifest(settings={"temperatures": {"direct": 2.0}}), records)
    (one,) = pieces(run)["calibration"].blocks[0].diagrams[0].bins
    assert one.confidence == pytest.approx(0.75)


def test_confusion_by_hand(tmp_path):
    records = outcomes({("t1", "direct"): "+++-.", ("t2", "direct"): "++---"})
    found = table(pieces(write(tmp_path / "run", manifest(), records))["confusion"])
    assert found.heads == ("right answer", "cat", "dog", "no answer")
    assert cells(found) == [["cat", "5", "4", "1"], ["dog", "0", "0", "0"]]
    assert found.rows[0].cells[1].shade == 0.5
    assert found.caption == "pets, direct (2 templates, 10 answers)"


def test_rows_with_options_of_their_own_have_no_confusion_table(tmp_path):
    records = [answered(str(i), options=(f"a{i}", f"b{i}")) for i in range(4)]
    assert "confusion" not in pieces(write(tmp_path / "run", manifest(), records))


def test_what_was_left_out_is_told(tmp_path):
    run = templates_run(tmp_path / "run", rows=20)
    told = words(pieces(run)["overview"])
    assert "Missing, the data folder has no p3/anli: anli/r1." in told
    assert (
        "have no answer, for reasons told below; those whose right answer is known count as wrong." in told
        and "saw a shortened input" in told
    )
    assert "No answer, 9 times: the template does not fit the row" in told
    assert "Demonstrations were not asked for." in told and "super_glue/cb: 56 rows only." in told
    assert "Published: Flipped-11B is 8.4 points over T0-11B" in told
    assert "unfinished" not in told


# --- several runs -------------------------------------------------------------------------------------------------


def two_runs(tmp_path, **other):
    first = write(tmp_path / "first", manifest(methods=("direct",)), outcomes({("t1", "direct"): "+++++---"}))
    of = manifest(methods=("direct",), **other)
    return first, write(tmp_path / "second", of, outcomes({("t1", "direct"): "++++++++"}))


def test_two_runs_on_the_same_data_are_compared(tmp_path):
    found = pieces(*two_runs(tmp_path))
    assert found["table"].blocks[0].heads == ("task", "first: direct", "second: direct")
    assert cells(table(found["comparisons"]))[1][:3] == ["pets", "-37.5", cells(table(found["comparisons"]))[1][2]]
    assert "compared on 1 task with the same data." in words(found["overview"])
    assert table(found["differences"]).caption == (
        "pets: 3 instances differ, first: direct is better on 0, second: direct on 3"
    )


@pytest.mark.parametrize("change", [{"data": {"pets": "other rows"}}, {"data": {"cars": "x", "pets": "y"}}])
def test_runs_on_other_data_stand_side_by_side_only(tmp_path, change):
    found = pieces(*two_runs(tmp_path, **change))
    assert "comparisons" not in found and "differences" not in found
    assert "are not compared" in words(found["overview"])
    assert [cell.text for cell in found["table"].blocks[0].rows[0].cells] == ["pets", "62.5", "100.0"]
    assert all(not cell.mark for cell in found["table"].blocks[0].rows[0].cells)


def test_runs_of_other_suites_on_the_same_data_are_compared_and_it_is_said(tmp_path):
    found = pieces(*two_runs(tmp_path, suite_digest="another"))
    assert "comparisons" in found
    assert "though their suites differ" in words(found["overview"])


def test_rows_of_one_name_with_another_right_answer_are_not_one_instance(tmp_path):
    first = write(tmp_path / "first", manifest(), outcomes({("t1", "direct"): "+++++---"}))
    second = write(tmp_path / "second", manifest(), outcomes({("t1", "direct"): "++++++++"}, gold=(1,)))
    assert "comparisons" not in pieces(first, second)


def test_runs_without_a_method_in_common_are_compared_method_by_method(tmp_path):
    first = write(tmp_path / "first", manifest(), outcomes({("t1", "direct"): "+++++---"}))
    second = write(tmp_path / "second", manifest(), outcomes({("t1", "flipped"): "++++++++"}))
    assert cells(table(pieces(first, second)["comparisons"]))[0] == ["first: direct minus second: flipped"]


def test_runs_of_one_name_are_numbered(tmp_path):
    first = write(tmp_path / "a" / "run", manifest(), outcomes({("t1", "direct"): "++-"}))
    second = write(tmp_path / "b" / "run", manifest(), outcomes({("t1", "direct"): "+--"}))
    text = Reader(page_of(tmp_path, first, second)).text
    assert "run (1): direct" in text and "run (2): direct" in text


def test_of_many_pairs_the_means_are_drawn_and_every_task_is_in_the_table(tmp_path):
    methods = tuple("abcde")
    records = [
        answered(str(i), task=task, method=method, chosen=(i * k) % 2)
        for task in ("pets", "cars")
        for k, method in enumerate(methods)
        for i in range(8)
    ]
    run = write(tmp_path / "run", manifest(methods=methods, data={"pets": "1", "cars": "2"}), records)
    found = pieces(run)
    chart = found["comparisons"].blocks[0]
    assert [len(group.strips) for group in chart.groups] == [1] * 10
    assert {strip.name for group in chart.groups for strip in group.strips} == {"mean over 2 tasks"}
    kinds = [row.kind for row in table(found["comparisons"]).rows]
    assert kinds == ["section", "", "", "foot"] * 10
    assert "4 more pairs of methods left out." in words(found["differences"])


# --- where they differ --------------------------------------------------------------------------------------------


def test_instances_that_differ_are_shown_with_texts(tmp_path):
    run = write(tmp_path / "run", manifest(), outcomes({("t1", "direct"): "++-+", ("t1", "flipped"): "+-+."}))
    asked = []

    def texts(task, split, places):
        asked.append((task, split, [tuple(place) for place in places]))
        return FoundTexts({"1": "it  purrs\nand sleeps"}, "pets: 2 of 3 are gone.")

    found = pieces(run, texts=texts)["differences"]
    assert asked == [("pets", "test", [("1", 1), ("2", 2), ("3", 3)])]
    assert cells(table(found)) == [
        ["1", "it purrs and sleeps", "cat", "cat", "dog"],
        ["2", "", "cat", "dog", "cat"],
        ["3", "", "cat", "cat", "no answer"],
    ]
    assert [cell.small for cell in table(found).rows[0].cells] == ["place 2", "", "", "right", "wrong"]
    assert "pets: 2 of 3 are gone." in words(found)


def test_without_data_ids_alone_are_shown_and_it_is_said(tmp_path):
    run = write(tmp_path / "run", manifest(), outcomes({("t1", "direct"): "++-", ("t1", "flipped"): "+-+"}))
    found = pieces(run)["differences"]
    assert table(found).heads == ("instance", "right answer", "direct", "flipped")
    assert "--data DIR shows their texts" in words(found)


def test_options_of_their_own_are_told_by_number_unless_data_are_given(tmp_path):
    records = [
        answered(str(i), options=(f"secret a{i}", f"secret b{i}"), method=method, chosen=0 if method == "direct" else 1)
        for method in ("direct", "flipped")
        for i in range(2)
    ]
    run = write(tmp_path / "run", manifest(), records)
    found = pieces(run)["differences"]
    assert {text for row in cells(table(found)) for text in row[1:]} == {"option 1", "option 2"}
    assert "options of their own by number" in words(found)
    assert "secret" not in page_of(tmp_path, run)
    found = pieces(run, texts=lambda *_: FoundTexts({}))["differences"]
    assert "secret b1" in {text for row in cells(table(found)) for text in row}


def test_texts_come_from_the_data_and_other_rows_are_told(tmp_path):
    (tmp_path / "pets.csv").write_text("id,text,label\nr1,it barks,dog\nr2,it purrs <b>,cat\n")
    task = tmp_path / "pets.toml"
    task.write_text(
        'name = "pets"\ninstructions = ["Which animal?"]\n[[labels]]\nname = "cat"\n[[labels]]\nname = "dog"\n'
        '[data]\nfile = "pets.csv"\ntext = "text"\ngold = "label"\nid = "id"\n'
    )
    name = str(task)
    records = [
        answered(row, task=name, split="all", position=i, method=method, chosen=0 if method == "direct" else 1)
        for method in ("direct", "flipped")
        for i, row in enumerate(["r1", "r2", "gone"])
    ]
    run = write(tmp_path / "run", manifest(data={name: "1"}), records)
    (tmp_path / "data" / "p3").mkdir(parents=True)
    text = Reader(page_of(tmp_path, run, data=tmp_path / "data")).text
    assert "it barks" in text and "it purrs <b>" in text
    assert "1 of 3 instances are not those of the data folder" in text
    task.unlink()
    text = Reader(page_of(tmp_path, run, data=tmp_path / "data")).text
    assert f"The texts of {name} cannot be read" in text and "it barks" not in text


# --- safety -------------------------------------------------------------------------------------------------------


def test_hostile_names_are_words(tmp_path):
    run = hostile_run(tmp_path / "run")
    html = page_of(tmp_path, run)
    reader = Reader(html)
    scripts = [attrs for tag, attrs in reader.elements if tag == "script"]
    assert scripts == [{}] and SCRIPT not in html.replace("&lt;", "(")
    assert SCRIPT in reader.text
    assert {tag for tag, _ in reader.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "script", "h1", "h2"),
        *("h3", "p", "a", "ul", "li", "dl", "dt", "dd", "div", "span", "figure", "figcaption", "table", "thead", "br"),
        *("tbody", "tr", "th", "td", "small", "abbr", "i", "wbr", "svg", "line", "circle", "path", "text", "title"),
    }
    for _, attrs in reader.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
    for piece in pieces(run).values():
        assert not re.search(r"(?<!\\)[<`]", markdown(piece)), piece.name


def test_the_page_stands_alone_and_its_policy_lets_nothing_else_in(tmp_path):
    html = page_of(tmp_path, templates_run(tmp_path / "run", rows=8))
    reader = Reader(html)
    for tag, attrs in reader.elements:
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
        assert all(attrs[name].startswith("#") for name in ("href", "src", "action") if name in attrs)
    assert "url(" not in html and "@import" not in html
    policy = next(attrs["content"] for tag, attrs in reader.elements if "http-equiv" in attrs)
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    for kind in ("style", "script"):
        (inside,) = re.findall(f"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert parts[f"{kind}-src"] == f"'sha256-{digest}'"


def test_unfinished_and_damaged_runs_have_a_banner(tmp_path):
    write(tmp_path / "run", manifest(), outcomes({("t1", "direct"): "+++-"}), finish=False)
    path = tmp_path / "run" / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "x" + lines[2][1:], *lines[3:]]))
    result = command(tmp_path / "run", "-o", tmp_path / "report.html")
    assert result.exit_code == 0
    assert "run is unfinished" in result.stderr
    text = Reader((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "This run is unfinished. All figures are of the 3 records that are there so far." in text
    assert "1 damaged line passed over" in text and "records.jsonl, line 3: the line is damaged" in text


@pytest.mark.parametrize(
    ("demonstrations", "dropped", "said"),
    [
        (None, (0, 0), None),
        (None, (2, 5), "2 of 4 answers (50.0 %) lost 2 to 5 exemplars to the model's window."),
        ({"name": "eight", "count": 8}, (1, 1), "2 of 4 answers (50.0 %) lost 1 demonstration to the model's window."),
    ],
)
def test_what_was_dropped_is_told_on_the_page_and_in_markdown(tmp_path, demonstrations, dropped, said):
    records = [answered(str(i), dropped=count) for i, count in enumerate((0, *dropped, 0))]
    settings = {"tasks": {"pets": {"metric": "accuracy"}}, "demonstrations": demonstrations}
    write(tmp_path / "run", manifest(settings=settings), records)
    result = command(tmp_path / "run", "-o", tmp_path / "report.html", "--pieces", tmp_path / "pieces")
    assert result.exit_code == 0
    page = Reader((tmp_path / "report.html").read_text(encoding="utf-8")).text
    (markdown,) = (tmp_path / "pieces").glob("*overview.md")
    for text in (page, markdown.read_text(encoding="utf-8")):
        assert ("model's window" in text) == (said is not None)
        assert said is None or said in text
        assert ("“eight”, 8 in front of a prompt" in text) == (demonstrations is not None)


# --- errors -------------------------------------------------------------------------------------------------------


def failing(*arguments) -> str:
    result = command(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def test_errors_are_told_before_any_work(tmp_path):
    run = write(tmp_path / "run", manifest(), outcomes({("t1", "direct"): "+++-"})).folder
    page = tmp_path / "r.html"
    assert "there is no run" in failing(tmp_path, "-o", page)
    assert "Let the name end in .html" in failing(run, "-o", run / "records.parquet")
    assert "no such folder" in failing(run, "-o", tmp_path / "none" / "r.html")
    assert "named twice" in failing(run, tmp_path / "x" / ".." / "run", "-o", page)
    assert "not a folder" in failing(run, "-o", page, "--pieces", run / "manifest.json")
    assert "no such folder" in failing(run, "-o", page, "--data", tmp_path / "none")
    assert not page.exists()


def test_a_run_of_another_version_or_without_records_is_one_error(tmp_path):
    write(tmp_path / "run", manifest(), outcomes({("t1", "direct"): "+++-"}))
    path = tmp_path / "run" / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    assert "version 2 of its format" in failing(tmp_path / "run", "-o", tmp_path / "r.html")
    write(tmp_path / "empty", manifest(), [], finish=False)
    assert "holds no record yet" in failing(tmp_path / "empty", "-o", tmp_path / "r.html")


def test_settings_without_runs_are_refused(tmp_path):
    with pytest.raises(DataError, match="no run"):
        report(ReportSettings((), tmp_path / "r.html"))
    with pytest.raises(OutputError, match="HTML"):
        report(ReportSettings((tmp_path,), tmp_path / "r.png"))


# --- pieces and size ----------------------------------------------------------------------------------------------


def test_pieces_are_pictures_and_markdown(tmp_path):
    page_of(tmp_path, wordings_run(tmp_path / "run", rows=10, wordings=4), pieces=tmp_path / "new" / "pieces")
    names = sorted(path.name for path in (tmp_path / "new" / "pieces").iterdir())
    stems = ["01-overview", "02-table", "03-wordings", "04-calibration", "05-confusion", "06-comparisons"]
    assert names == sorted(f"{stem}{end}" for stem in [*stems, "07-differences"] for end in (".md", ".png"))
    for path in (tmp_path / "new" / "pieces").glob("*.png"):
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", head[16:])
        assert 1500 < width < 4000 and 100 < height < 12_000
    text = (tmp_path / "new" / "pieces" / "02-table.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1 and len(rows) == 5


def test_markdown_by_hand():
    piece = Piece(
        "table",
        "A_b",
        (
            Words(("one | two", "- three"), "list"),
            Table(
                ("task", "n"),
                (
                    TableRow((TableCell("part"),), "section"),
                    TableRow((TableCell("a|b"), TableCell("61.2", "50.0–70.1", "best"))),
                ),
                numbers=frozenset({1}),
                notes=("<b>",),
            ),
            DotChart(
                (StripGroup("g", (Strip("x", 0, mean=0.5, text="50.0"),), 0.25),), 0, 1, ((0, "0"),), "All", "chance"
            ),
        ),
    )
    assert markdown(piece) == (
        "# A\\_b\n\n- one \\| two\n- \\- three\n\n"
        "| task | n |\n| --- | ---: |\n| **part** |  |\n| a\\|b | **61.2** (50.0–70.1) ▲ |\n\n\\<b\\>\n\n"
        "**All**\n\n|  | value and 95 % interval |\n| --- | ---: |\n| **g** | chance: 25.0 |\n| x | 50.0 |\n"
    )


def test_a_page_of_many_records_is_small(tmp_path):
    run = templates_run(tmp_path / "run", rows=150)
    assert len(run.records) == 150 * 15 * 3
    assert len(page_of(tmp_path, run)) < 400_000


def test_figures_are_told_in_words():
    assert [as_published(v) for v in (None, 0.7105, 0.565, 0.5)] == ["", "71.05", "56.5", "50.0"]
    assert [p_text(p) for p in (None, 0.0004, 0.0341, 1.0)] == ["", "<0.001", "0.034", "1.000"]
    assert [p_words(p) for p in (0.0004, 0.0341, 0.0994, 0.0996, 1.0)] == [
        "p < 0.001", "p = 0.034", "p = 0.099", "p = 0.10", "p = 1.00",
    ]  # fmt: skip
    assert [sentence_list(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert ticks(0.3, 0.6) == ((0.3, "30"), (0.4, "40"), (0.5, "50"), (0.6, "60"))
    assert ticks(0.0, 1.0) == ((0.0, "0"), (0.2, "20"), (0.4, "40"), (0.6, "60"), (0.8, "80"), (1.0, "100"))


# --- in a browser -------------------------------------------------------------------------------------------------


def browse(page: Path, *options: str) -> str:
    """The page as it stands once its scripts ran."""
    run = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}",
            *options, "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(page.parent)}, check=False,
    )  # fmt: skip
    if "<html" not in run.stdout:
        pytest.skip("the browser does not start here")
    return run.stdout


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_in_a_browser_the_script_runs_and_no_page_is_wider_than_a_telephone(tmp_path):
    runs = templates_run(tmp_path / "a", rows=8), templates_run(tmp_path / "b", rows=8, seed=5)
    html = page_of(tmp_path, *runs)
    assert '<button type="button" title="Sort by this column">' in browse(
        tmp_path / "report.html"
    )  # so its digest fits
    measured = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html).replace(
        "</body>", "<script>document.title = document.documentElement.scrollWidth + '/' + innerWidth</script></body>"
    )
    (tmp_path / "measured.html").write_text(measured, encoding="utf-8")
    title = re.search(r"<title>(\d+)/(\d+)</title>", browse(tmp_path / "measured.html", "--window-size=360,800"))
    width, window = map(int, title.groups())
    assert width <= window <= 500
