"""Paths and names that no file system can hold, wherever the command line takes one: one error, exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from obverse.catalog.demonstrations import read_demonstrations
from obverse.catalog.index import Catalog
from obverse.catalog.own import read_own
from obverse.catalog.suites import read_suite_file
from obverse.cli.main import main
from obverse.errors import ObverseError
from obverse.models.checkpoints import convert, load_model
from obverse.runs.partial import PartialScores
from obverse.runs.store import read_run

FILMS = """\
name = "films"
instructions = ["Is it good or bad?"]
[data]
file = "films.csv"
text = "text"
gold = "gold"
[[labels]]
name = "good"
[[labels]]
name = "bad"
"""

LONG, NULL, LONE = "a" * 5000, "a\0b", "a\ud800b"
ASK = ("films.csv", "--labels", "good, bad", "--text", "text", "--instruction", "Which?", "--model", "counting")
EVALUATE = ("evaluate", "films.toml", "--model", "counting", "--output", "run")

# A command with ODD where the path or the name stands, and the ending that it must have.
ENTRIES = [
    (("predict", "ODD", *ASK[1:]), ".csv"),
    (("predict", "ODD", "--model", "counting"), ".toml"),
    (("predict", *ASK, "--output", "ODD"), ".csv"),
    (("predict", *ASK, "--output", "out.csv", "--picture", "ODD"), ".png"),
    (("predict", *ASK, "--demos", "ODD"), ".toml"),
    (("predict", *ASK, "--demos", "ODD"), ".json"),
    (("predict", *ASK[:-1], "ODD"), ""),
    (("audit", *ASK, "--output", "ODD"), ".html"),
    (("audit", "ODD", *ASK[1:], "--output", "page.html"), ".csv"),
    (("evaluate", "ODD", *EVALUATE[2:]), ""),
    (("evaluate", "ODD", *EVALUATE[2:]), ".toml"),
    ((*EVALUATE[:-1], "ODD"), ""),
    ((*EVALUATE, "--data", "ODD"), ""),
    ((*EVALUATE, "--store", "ODD"), ""),
    ((*EVALUATE, "--demos", "ODD"), ".toml"),
    ((*EVALUATE, "--tasks", "ODD"), ""),
    ((*EVALUATE, "--model", "ODD"), ""),
    (("report", "ODD", "--output", "page.html"), ""),
    (("report", "run", "--output", "ODD"), ".html"),
    (("report", "run", "--output", "page.html", "--pieces", "ODD"), ""),
    (("guess", "ODD", "--text", "text", "--label", "gold"), ".csv"),
    (("guess", "films.csv", "--text", "text", "--label", "gold", "--model", "ODD"), ""),
    (("guess", "films.csv", "--text", "text", "--label", "gold", "--output", "ODD"), ".json"),
    (("list", "tasks", "--data", "ODD"), ""),
    (("show", "ODD"), ".toml"),
    (("check", "films.toml", "--output", "ODD"), ".json"),
    (("leaks", "--against", "super_glue/rte", "--data", "ODD"), ""),
    (("convert", "ODD", "target"), ""),
    (("convert", "source", "ODD"), ""),
    (("export", "ODD"), ""),
    (("train", "ODD", "--data", ".", "--output", "out"), ".toml"),
    (("train", "films.toml", "--data", ".", "--output", "ODD"), ""),
    (("train", "films.toml", "--data", "ODD", "--output", "out"), ""),
    (("demos", "build", "--data", "ODD"), ""),
    (("demos", "build", "--data", ".", "--output", "ODD"), ".toml"),
    (("demos", "show", "ODD"), ".toml"),
    (("demos", "show", "ODD"), ""),
    (("demos", "show", "--model", "ODD"), ""),
]


@pytest.fixture
def obverse(monkeypatch, tmp_path, capsys):
    """Run the command line in a folder with a task, in this process: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("OBVERSE_DATA", raising=False)
    Path("films.toml").write_text(FILMS)
    Path("films.csv").write_text("text,gold\ngood film,good\nbad film,bad\n")

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["obverse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.mark.parametrize("odd", [LONG, NULL, LONE], ids=["long", "null", "lone"])
@pytest.mark.parametrize(("command", "ending"), ENTRIES)
def test_every_entry_refuses_in_one_error(obverse, tmp_path, command, ending, odd):
    before = sorted(tmp_path.iterdir())
    code, _, err = obverse(*(odd + ending if part == "ODD" else part for part in command))
    assert code == 2
    # The parser of the command line refuses some of them itself.
    assert err.startswith("obverse: ") or "Error: Invalid value for" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 4
    assert sorted(tmp_path.iterdir()) == before


def test_the_option_is_named_and_the_path_is_not_repeated(obverse):
    for command, called in (
        (("predict", *ASK, "-o", f"{LONG}.csv"), "--output"),
        (("predict", f"{LONG}.csv"), "INPUT"),
        ((*EVALUATE, "--data", LONG), "--data"),
        (("report", "run", LONG, "--output", "page.html"), "RUNS"),
    ):
        size = 5004 if command[-1].endswith(".csv") else 5000
        assert obverse(*command)[2] == (
            f"obverse: {called}: names a path that is too long ({size:,} characters)\nName a shorter one.\n"
        )


def test_an_output_needs_room_for_what_lies_beside_it(obverse, tmp_path):
    code, _, err = obverse("predict", *ASK, "--output", "a" * 248 + ".csv")
    assert (code, err) == (
        2,
        "obverse: --output: names a path that is too long (252 characters)\nName a shorter one.\n",
    )
    assert obverse("predict", *ASK, "--output", "a" * 200 + ".csv")[0] == 0
    (tmp_path / ("b" * 250 + ".csv")).write_text("text\ngood\n")
    assert obverse("predict", "b" * 250 + ".csv", *ASK[1:])[0] == 0


@pytest.mark.parametrize("odd", [LONG, "a\\u0000b"], ids=["long", "null"])
def test_names_in_files_are_one_error(obverse, tmp_path, odd):
    Path("d/p3").mkdir(parents=True)
    for suite in (
        f'tasks = ["{odd}"]',
        f'tasks = ["{odd}/x"]',
        f'tasks = ["bbh/{odd}"]',
        f'tasks = ["{odd}.toml"]',
        f'tasks = ["{odd}/*"]',
        f'split = "{odd}"\ntasks = ["super_glue/rte"]',
        f'tasks_from = "superni/{odd}"\ntasks = ["superni/*"]',
    ):
        Path("mine.toml").write_text(f'kind = "evaluation"\n{suite}\n')
        code, _, err = obverse("evaluate", "mine.toml", "--data", "d", "--model", "counting", "--output", "run")
        assert (code, err[:9]) == (2, "obverse: "), suite
    Path("films.toml").write_text(FILMS.replace("films.csv", f"{odd}.csv"))
    code, _, err = obverse(*EVALUATE)
    assert (code, err[:9]) == (2, "obverse: ")


@pytest.mark.parametrize("odd", [LONG, NULL], ids=["long", "null"])
@pytest.mark.parametrize(
    "call",
    [
        lambda odd: Catalog(Path(odd)),
        lambda odd: load_model(odd),
        lambda odd: load_model(f"~{odd}"),
        lambda odd: load_model("~nobody-of-this-name/model"),
        lambda odd: convert("counting", odd),
        lambda odd: read_demonstrations(f"{odd}.toml"),
        lambda odd: read_demonstrations(f"{odd}.json"),
        lambda odd: read_own(f"{odd}.toml"),
        lambda odd: read_suite_file(Path(f"{odd}.toml")),
        lambda odd: read_run(Path(odd)),
        lambda odd: PartialScores.start(odd, {}),
        lambda odd: PartialScores.resume(odd, {}),
    ],
)
def test_functions_refuse_them_too(monkeypatch, tmp_path, call, odd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ObverseError):
        call(odd)
