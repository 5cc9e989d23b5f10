"""`obverse evaluate`: what is asked, what stands in the records, what happens after a kill, and what is refused.

Expected scores are worked out by hand from the counting model: after N words read, n of them the word w,
P(w) = (n + 1) / (N + 1000).
"""

from __future__ import annotations

import io
import json
import math
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from obverse.catalog.algorithms import algorithm, prompt
from obverse.catalog.index import Catalog
from obverse.cli.main import main
from obverse.errors import DataError, MethodError, ModelError, ObverseError
from obverse.evaluation.cells import make_plan
from obverse.labelling import Labeller, make_scorer
from obverse.metrics.text import rouge_l
from obverse.models.base import Conventions, LanguageModel, Window
from obverse.models.counting import CountingModel
from obverse.models.generation import Generated
from obverse.queries import Likelihood
from obverse.recipes.evaluate import EvaluateSettings, EvaluationWatcher, evaluate_suite, read_asked
from obverse.recipes.predict import Stopped
from obverse.runs.store import read_run

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "p3").is_dir(), reason="the data folder is not there")

FILMS = """\
name = "films"
instructions = ["Is it good good or bad ?"]
[data]
file = "films.csv"
text = "text"
gold = "gold"
[[labels]]
name = "good"
[[labels]]
name = "bad"
"""
ROWS = "text,gold\ngood film,good\nbad film,bad\n"


@pytest.fixture
def films(tmp_path, monkeypatch):
    """A folder with a task of two rows, which is where commands run."""
    monkeypatch.chdir(tmp_path)
    Path("films.toml").write_text(FILMS)
    Path("films.csv").write_text(ROWS)
    return tmp_path


@pytest.fixture
def obverse(films, monkeypatch, capsys):
    """Run the command line in that folder, in this process: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["obverse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


class Counted(CountingModel):
    """The counting model, which remembers how much it was asked."""

    def __init__(self, *, pause=0.0, stop_after=None, **conventions):
        super().__init__()
        self.conventions = Conventions(**conventions)
        self.queries, self.calls, self.prompts = [], 0, []
        self.pause, self.stop_after = pause, stop_after

    def log_likelihoods(self, queries, *, progress=None, pieces=False):
        self.calls += 1
        self.queries += queries
        time.sleep(self.pause)
        if self.stop_after is not None and self.calls > self.stop_after:
            raise KeyboardInterrupt
        return super().log_likelihoods(queries, progress=progress, pieces=pieces)

    def candidates(self, prompts, **how):
        self.prompts += prompts
        return super().candidates(prompts, **how)


class Saying(LanguageModel):
    """Says what it is told to say to each prompt; with a window in words."""

    family = "stub"

    def __init__(self, answers=None, *, window=None, otherwise="yes"):
        self.name = "stub"
        self.window = Window(joint=window)
        self.conventions = Conventions()
        self.answers, self.otherwise, self.prompts = answers or {}, otherwise, []

    def log_likelihoods(self, queries, *, progress=None, pieces=False):
        return [Likelihood(-float(len(query.said)), 1, (-float(len(query.said)),)) for query in queries]

    def candidates(self, prompts, *, count, most_tokens, stop=(), begin_with="", beams=None, progress=None):
        self.prompts += prompts
        return [[Generated(f" {self.answers.get(each, self.otherwise)} ", -1.0, 1, "end")] for each in prompts]

    def pieces(self, query):
        return (), ()

    def count_tokens(self, text):
        return len(text.split())

    def digest(self):
        return "5" * 16


class Mute(Saying):
    """Cannot generate."""

    def candidates(self, prompts, **how):
        return LanguageModel.candidates(self, prompts, **how)


def evaluated(suite="films.toml", output="runs/a", model=None, **settings):
    """The report and the records of a run."""
    model = model or CountingModel()
    report = evaluate_suite(EvaluateSettings(str(suite), Path(output), model=model.name, **settings), model=model)
    return report, list(read_run(output).records)


def printed(report):
    """What a report prints."""
    console = Console(file=io.StringIO(), width=200)
    report.render(console)
    return console.file.getvalue()


def log(*fractions):
    """The logarithms of fractions, each a pair."""
    return pytest.approx([math.log(above / below) for above, below in fractions], abs=1e-12)


# Records, by hand


def test_direct_scores_by_hand(films):
    # good film / Is it good good or bad ?: 9 words, good 3 times and bad once.
    _, (first, second) = evaluated(methods=("direct",))
    assert first.scores == log((4, 1009), (2, 1009))
    assert (first.chosen, first.gold, first.tied) == (0, (0,), False)
    # bad film / ..: good twice, bad twice.
    assert second.scores == log((3, 1009), (3, 1009))
    assert (second.chosen, second.gold, second.tied) == (0, (1,), True)
    assert (first.task, first.split, first.row, first.position) == ("films.toml", "all", "1", 0)
    assert (first.template, first.wording, first.setting, first.method) == (
        "instruction 1, wording 1",
        "",
        "",
        "direct",
    )
    assert first.options == ("good", "bad")


def test_flipped_scores_by_hand(films):
    # input: good film[1] output: good | [1] Is it good good or bad ?
    _, (first, _) = evaluated(methods=("flipped",))
    read = range(1005, 1013)
    good = sum(math.log(n / d) for n, d in zip((1, 1, 1, 3, 4, 1, 1, 1), read, strict=True))
    bad = sum(math.log(n / d) for n, d in zip((1, 1, 1, 2, 3, 1, 2, 1), read, strict=True))
    assert first.scores == pytest.approx([good, bad], abs=1e-12)


def test_contextual_calibration_by_hand(films):
    # Without a text the instruction alone says good with 3 / 5 and bad with 2 / 5, whatever stands in its place.
    report, records = evaluated(methods=("direct",), calibrations=("none", "contextual"))
    first, second = (record for record in records if record.method == "direct, contextual")
    # 4/6 : 3/5 = 10/9 and 2/6 : 2/5 = 5/6, which is 4 to 3; then 1/2 : 3/5 = 5/6 and 1/2 : 2/5 = 5/4, 2 to 3.
    assert first.scores == log((4, 7), (3, 7))
    assert second.scores == log((2, 5), (3, 5))
    assert [first.chosen, second.chosen] == [0, 1]
    assert report.manifest.methods == ("direct", "direct, contextual")
    assert report.manifest.settings["temperatures"]["direct, contextual"] == 1.0


def test_batch_calibration_by_hand(films):
    # Rows (2/3, 1/3) and (1/2, 1/2), their mean (7/12, 5/12).
    _, (first, second) = evaluated(methods=("direct",), calibrations=("batch",))
    assert first.scores == log((10, 17), (7, 17))
    assert second.scores == log((5, 12), (7, 12))


def test_pmi_asks_the_instruction_alone_once(films):
    model = Counted()
    _, (first, _) = evaluated(model=model, methods=("pmi",))
    # log 4/1009 - log 3/1007, the instruction alone having 7 words.
    assert first.scores == pytest.approx(
        [math.log(4 / 1009) - math.log(3 / 1007), math.log(2 / 1009) - math.log(2 / 1007)], abs=1e-12
    )
    assert len(model.queries) == 2 * 2 + 2


def test_terms_are_shared_by_methods(films):
    model = Counted()
    evaluated(model=model, methods=("direct", "flipped", "product"), calibrations=("none", "batch"))
    assert len(model.queries) == 2 * 2 * 2


def test_the_temperature_is_told_and_not_applied(films):
    model = Counted(temperatures={"direct/sum": 2.5})
    report, (first, _) = evaluated(model=model, methods=("direct",))
    assert first.scores == log((4, 1009), (2, 1009))
    assert report.manifest.settings["temperatures"] == {"direct": 2.5}


def test_a_length_rule(films):
    _, (first, _) = evaluated(methods=("direct",), length_rule="byte")
    assert first.scores == pytest.approx([math.log(4 / 1009) / 4, math.log(2 / 1009) / 3], abs=1e-12)


def test_demonstrations_stand_in_front(films):
    Path("shown.toml").write_text(
        '[[demonstrations]]\ndefinition = "Say yes or no."\ninput = "It rains."\noutput = "yes"\n'
    )
    model = Counted()
    report, _ = evaluated(model=model, methods=("direct",), demos="shown.toml")
    assert model.queries[0].given == (
        "Definition: Say yes or no.\n\nInput: It rains.\nOutput: yes\n\ngood film\nIs it good good or bad ?"
    )
    assert report.manifest.settings["demonstrations"]["count"] == 1


def test_rows_that_cannot_be_asked_have_a_reason(films):
    Path("films.toml").write_text(FILMS.replace('text = "text"', 'text = "text"\noptions = "choices"').split("[[")[0])
    Path("films.csv").write_text(
        "text,gold,choices\ngood film,good,good|||bad\nfilm,,good|||bad\nfilm,worse,worse|||better\n"
    )
    _, records = evaluated(methods=("direct",), calibrations=("none", "batch"))
    plain = [record for record in records if record.method == "direct"]
    assert [record.reason for record in plain] == ["", "no right answer is known", ""]
    assert [record.chosen is None for record in plain] == [False, True, False]
    batch = [record for record in records if record.method == "direct, batch"]
    assert batch[0].reason == "batch calibration needs the same options in every row"
    assert batch[0].gold == ()


def test_records_do_not_depend_on_the_block_size(films):
    Path("films.csv").write_text("text,gold\n" + "".join(f"good film {i},good\nbad film,bad\n" for i in range(7)))
    how = {"methods": ("direct", "flipped"), "calibrations": ("none", "contextual", "batch"), "keep_scores": False}
    _, whole = evaluated(output="runs/0", **how)
    assert len(whole) == 14 * 6
    for size in (1, 3, 14):
        assert evaluated(output=f"runs/{size}", batch_size=size, **how)[1] == whole


class Steps(EvaluationWatcher):
    """Notes what it is told, with the records that are on the disk by then."""

    def __init__(self, folder="runs/a"):
        self.lines, self.told = Path(folder) / "records.jsonl", []

    def advance(self, cell, rows, *, cells):
        written = len(self.lines.read_text().splitlines()) - 1  # the first line says what the file is
        self.told.append((rows, cells, written))


def watched(model=None, **settings):
    settings = {
        "suite": "films.toml",
        "output": Path("runs/a"),
        "methods": ("direct",),
        "keep_scores": False,
    } | settings
    watcher = Steps(settings["output"])
    evaluate_suite(EvaluateSettings(**settings), model=model or Counted(), watcher=watcher)
    return watcher.told


def test_the_first_rows_are_kept_and_told_early(films):
    many(600)
    told = watched()
    assert sum(rows for rows, _, _ in told) == 600
    assert [cells for _, cells, _ in told] == [0] * (len(told) - 1) + [1]
    # Records on the disk whenever something is told: each block is twice as large as the one before.
    assert sorted({written for _, _, written in told}) == [0, 4, 12, 28, 60, 124, 252, 508, 600]
    # Nothing is told as through before its block is asked, and the last row of a block only once it is written.
    so_far = 0
    for rows, _, written in told:
        so_far += rows
        assert (
            written
            <= so_far
            <= max(written, 4 if not written else min(2 * written + 4, written + 256)) - (written < so_far)
        )
    # The same blocks for ever: those of another run, and those of the one that goes on.
    assert [step[2] for step in told] == [step[2] for step in watched(output=Path("runs/b"))]


def test_a_small_batch_size_is_the_size_from_the_first_block_on(films):
    many(10)
    assert {3, 6, 9, 10} <= {written for _, _, written in watched(batch_size=3)}
    model = Counted(stop_after=1)
    with pytest.raises(Stopped, match="3 records safe"):
        watched(model, output=Path("runs/b"), batch_size=3)
    many(30)
    model = Counted(stop_after=2)
    with pytest.raises(Stopped, match="12 records safe"):
        watched(model, output=Path("runs/c"), batch_size=8)


def test_rows_are_told_while_the_model_answers(films):
    many(300)

    class Slow(Counted):
        def log_likelihoods(self, queries, *, progress=None, pieces=False):
            found = super().log_likelihoods(queries, pieces=pieces)
            for _ in queries:
                progress(1)
            return found

    told = watched(Slow(), methods=("direct", "flipped"))
    assert sum(rows for rows, _, _ in told) == 300
    assert max(rows for rows, _, _ in told) == 1


def test_free_answers_are_told_while_the_model_answers(films):
    told = watched(Saying(), suite="list-functions", tasks=("list-functions/above-fifty",), methods=(), limit=40)
    assert sum(rows for rows, _, _ in told) == 40
    assert sorted({written for _, _, written in told}) == [4, 12, 28, 40]


def test_a_limit_draws_rows_by_the_seed(films):
    Path("films.csv").write_text("text,gold\n" + "".join(f"film {i},{'bad' if i % 3 else 'good'}\n" for i in range(60)))

    def rows(output, **how):
        return [record.row for record in evaluated(output=output, methods=("direct",), **how)[1]]

    few, more, other = rows("1", limit=5), rows("2", limit=20), rows("3", limit=5, seed=1)
    assert len(few) == 5
    assert set(few) < set(more)
    assert few != other
    assert list(map(int, more)) == sorted(map(int, more))


def test_several_task_files_and_their_mean(films):
    Path("again.toml").write_text(FILMS)
    report, records = evaluated("films.toml, again.toml", methods=("direct",))
    assert report.manifest.tasks == ("films.toml", "again.toml")
    assert len(records) == 4
    (mean,) = report.results.means
    assert mean.mean.value == 0.5
    assert read_asked("films.toml,again.toml").name == "films, again"


def test_a_suite_file(films):
    Path("mine.toml").write_text(
        'kind = "evaluation"\ntitle = "Mine"\nmetrics = ["macro_f1"]\n'
        'tasks = [{name = "films.toml", options = 2, note = "two rows"}]\n'
        '[[published]]\nmodel = "Another"\nsource = "somewhere"\nfigures = { mean = 40.0 }\n'
    )
    report, _ = evaluated("mine.toml", methods=("direct",))
    about = report.manifest.settings["tasks"]["films.toml"]
    assert about == {"metric": "macro_f1", "chance": 0.5, "note": "two rows", "seen": False}
    assert report.manifest.settings["published"] == [
        {"model": "Another", "source": "somewhere", "figures": {"mean": 40.0}}
    ]
    # Both are called good: F1 of good is 2/3, of bad 0.
    assert report.results.tasks[0].figures["macro_f1"].mean.value == pytest.approx(1 / 3)


@pytest.mark.parametrize(("metrics", "counts"), [
    (["exact_match"], None), (["rouge_l", "exact_match"], None), (["exact_match", "macro_f1"], "macro_f1"),
    (["exact_match", "accuracy"], "accuracy"), (["accuracy", "macro_f1"], "accuracy"),
])  # fmt: skip
def test_metrics_of_generated_answers_are_refused_for_options(films, metrics, counts):
    Path("mine.toml").write_text(f'kind = "evaluation"\nmetrics = {json.dumps(metrics)}\ntasks = ["films.toml"]\n')
    if counts is not None:
        report, _ = evaluated("mine.toml", methods=("direct",))
        assert report.manifest.settings["tasks"]["films.toml"]["metric"] == counts
        return
    model = Counted()
    with pytest.raises(DataError) as refused:
        evaluated("mine.toml", model=model, methods=("direct",))
    assert refused.value.where == "suite mine"
    assert refused.value.what.startswith("films.toml offers options to choose between")
    assert f"reports only {' and '.join(metrics)}, of answers that are generated" in refused.value.what
    assert "accuracy and macro_f1" in refused.value.mend
    assert f'metric = "{metrics[0]}" at the task' in refused.value.mend
    assert not model.queries
    # What the message advises is possible.
    Path("mine.toml").write_text(
        f'kind = "evaluation"\nmetrics = {json.dumps(metrics)}\n'
        f'tasks = [{{ name = "films.toml", metric = "{metrics[0]}" }}]\n'
    )
    report, records = evaluated("mine.toml", model=Saying(otherwise="good"))
    assert [record.prediction for record in records] == ["good", "good"]
    assert report.results.tasks[0].figures["exact_match"].mean.value == 0.5


def test_prompts_of_exemplars_have_no_metric_of_generated_answers(films):
    data = plain_folder(films / "data")
    for line in ('metrics = ["exact_match"]\ntasks = ["subj"]', 'tasks = [{ name = "subj", metric = "rouge_l" }]'):
        Path("mine.toml").write_text(f'kind = "evaluation"\nsettings = ["symbols"]\n{line}\n')
        with pytest.raises(DataError, match="accuracy") as refused:
            evaluated("mine.toml", data=data)
        assert "subj" in refused.value.what
        assert "generated" not in refused.value.mend


def test_what_a_model_was_trained_on_decides_how_it_is_asked(films, capsys):
    model = Counted(eos="flipped", trained=("flipped",))
    report, _ = evaluated(model=model, methods=("direct", "flipped"))
    assert report.manifest.settings["cutting"] == "flipped-reference"
    assert report.manifest.notes == ("counting was trained on flipped, not on direct; expect less of it.",)
    assert evaluated(output="runs/b")[0].manifest.settings["cutting"] == "segments"


def test_the_manifest_says_what_was_asked(films):
    report, _ = evaluated(methods=("flipped",), calibrations=("none", "contextual"), limit=1, seed=3)
    manifest = report.manifest
    assert (manifest.suite, manifest.model, manifest.device) == ("films", "counting", "cpu")
    assert manifest.model_digest == CountingModel().digest()
    assert manifest.seeds == {"seed": 3}
    assert manifest.settings["limit"] == 1
    assert manifest.settings["length_rules"] == {"flipped": "sum", "flipped, contextual": "sum"}
    assert manifest.settings["settings"] == [""]
    assert manifest.settings["demonstrations"] is None
    assert set(manifest.versions) >= {"python", "obverse", "numpy"}
    changed = evaluated(output="runs/b", methods=("flipped",), limit=2)[0].manifest
    assert changed.data == manifest.data
    assert changed.suite_digest == manifest.suite_digest
    Path("films.csv").write_text(ROWS.replace("bad film", "sad film"))
    assert evaluated(output="runs/c", methods=("flipped",))[0].manifest.data != manifest.data


# Stopping, and scores that are kept


def many(rows=40):
    lines = (f"{'good' if i % 3 else 'bad'} film number {i},{'good' if i % 2 else 'bad'}" for i in range(rows))
    Path("films.csv").write_text("text,gold\n" + "\n".join(lines) + "\n")


HOW = {"methods": ("direct", "flipped"), "calibrations": ("none", "contextual", "batch"), "batch_size": 4}


@pytest.mark.parametrize("keep", [True, False])
def test_an_interrupted_run_goes_on(films, keep):
    many()
    _, whole = evaluated(output="whole/a", keep_scores=keep, **HOW)
    with pytest.raises(Stopped, match=r"records safe in runs/a\n.*--resume"):
        evaluated(model=Counted(stop_after=7), keep_scores=keep, **HOW)
    there = len(read_run("runs/a").records)
    assert 0 < there < len(whole)
    _, records = evaluated(keep_scores=keep, resume=True, **HOW)
    assert records == whole


def test_a_run_killed_at_ten_moments_equals_the_uninterrupted(films):
    many(80)
    _, whole = evaluated(output="whole/a", **HOW)
    lines = Path("runs/a/records.jsonl")
    moments = random.Random(7)
    killed = 0
    for _ in range(10):
        # Told in bytes that are written, not in seconds: machines differ.
        until = (lines.stat().st_size if lines.exists() else 0) + moments.randrange(9_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads; the child needs none
            child = os.fork()
        if not child:
            try:
                evaluated(model=Counted(pause=0.002), resume=Path("runs/a/manifest.json").exists(), **HOW)
            finally:
                os._exit(0)
        while not os.waitpid(child, os.WNOHANG)[0]:
            if lines.exists() and lines.stat().st_size > until:
                time.sleep(moments.uniform(0.0, 0.003))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                killed += 1
                break
            time.sleep(0.0005)
    assert killed > 7
    _, records = evaluated(resume=True, **HOW)
    assert records == whole


def test_a_polite_kill_is_a_ctrl_c(films, obverse, monkeypatch):
    many(40)
    plain, calls = CountingModel.log_likelihoods, []

    def killing(self, queries, **how):
        calls.append(len(queries))
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, queries, **how)

    monkeypatch.setattr(CountingModel, "log_likelihoods", killing)
    asked = ("--model", "counting", "--method", "direct", "--batch-size", "4", "--no-store", "--output", "runs/a")
    code, _, err = obverse("evaluate", "films.toml", *asked)
    assert code == 2
    assert "safe in runs/a\nThe same command with --resume goes on from there." in err
    assert 0 < len(read_run("runs/a").records) < 40
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_evaluation_asks_nothing(films):
    many(10)
    first, again = Counted(), Counted()
    _, records = evaluated(model=first, **HOW)
    assert first.calls
    report, same = evaluated(output="runs/b", model=again, **HOW)
    assert same == records
    assert again.calls == 0
    assert report.told[0].startswith("0 answers asked of the model")
    assert Path("runs/.scores/scores.sqlite").is_file()


def test_a_finished_run_goes_on_without_asking(films):
    evaluated(methods=("direct",), keep_scores=False)
    model = Counted()
    report, records = evaluated(model=model, methods=("direct",), keep_scores=False, resume=True)
    assert model.calls == 0
    assert len(records) == 2
    assert report.results.tasks[0].rows == 2


def test_other_words_or_another_model_take_no_scores_from_the_store(films):
    evaluated(methods=("direct",), store=Path("kept"))
    assert Path("kept/scores.sqlite").is_file()
    Path("films.toml").write_text(FILMS.replace("good good", "good"))
    model = Counted()
    evaluated(output="runs/b", model=model, methods=("direct",), store=Path("kept"))
    assert len(model.queries) == 4


def test_generated_answers_are_kept_too(films):
    how = {"tasks": ("list-functions/reversed",), "limit": 3}
    first, again = Counted(), Counted()
    _, records = evaluated("list-functions", model=first, **how)
    assert len(first.prompts) == 3
    assert evaluated("list-functions", output="runs/b", model=again, **how)[1] == records
    assert again.prompts == []


def test_resume_refuses_other_settings(films):
    evaluated(methods=("direct",))
    with pytest.raises(ObverseError, match="other settings"):
        evaluated(methods=("direct",), resume=True, seed=1)


def test_a_network_stopped_and_resumed_gives_the_same_bits(films, network, monkeypatch):
    many()
    for keep in (True, False):
        how = {**HOW, "keep_scores": keep, "store": Path("kept") if keep else None}
        folder = f"network {keep}"
        # Each has a store of its own, or the second would only read what the first has asked.
        _, whole = evaluated(output=f"{folder}/whole", model=network, **how)
        if keep:
            Path("kept").rename("kept before")
        asked, calls = network.log_likelihoods, []

        def stopping(queries, asked=asked, calls=calls, **how):
            calls.append(1)
            if len(calls) > 9:
                raise KeyboardInterrupt
            return asked(queries, **how)

        with monkeypatch.context() as patched:
            patched.setattr(network, "log_likelihoods", stopping)
            with pytest.raises(Stopped):
                evaluated(output=f"{folder}/stopped", model=network, **how)
        assert 0 < len(read_run(f"{folder}/stopped").records) < len(whole)
        _, records = evaluated(output=f"{folder}/stopped", model=network, resume=True, **how)
        assert records == whole


def test_a_prior_is_asked_once_for_all_templates(films):
    class WithPrior(Counted):
        def similarities(self, texts, labels):
            self.texts += texts
            return [[float(len(label)) for label in each] for each in labels]

    Path("films.toml").write_text(FILMS.replace('["Is it', '["Was it good or bad ?", "Is it'))
    model = WithPrior(blend={"direct": 1.0, "prior": 0.5})
    model.texts = []
    _, records = evaluated(model=model, methods=("blend",))
    assert model.texts == ["good film", "bad film"]
    # instruction 2: log of 4/6 and 2/6, and half of the labels' lengths.
    row = next(record for record in records if record.template.startswith("instruction 2"))
    assert row.scores == pytest.approx([math.log(4 / 6) + 2.0, math.log(2 / 6) + 1.5], abs=1e-12)


# Prompts of exemplars, and free answers


@pytest.mark.parametrize("name", ["list-functions", "turing-concepts"])
def test_generated_tasks_are_matched_as_lists_and_strings(films, name):
    task = next(each for each in Catalog(None).names(name))
    prompts = [prompt(algorithm(task), i) for i in range(100)]
    # Right, but for white space, and in every second row.
    answers = {each.text: each.references[0].replace(" ", "") if i % 2 else "[99]" for i, each in enumerate(prompts)}
    model = Saying(answers)
    report, records = evaluated(name, model=model, tasks=(task,))
    assert [record.prediction for record in records[:2]] == ["[99]", answers[prompts[1].text]]
    assert records[0].references == prompts[0].references
    assert (records[0].method, records[0].template, records[0].options) == ("generate", "", ())
    assert model.prompts == [each.text for each in prompts]
    assert report.results.tasks[0].figures["exact_match"].mean.value == 0.5
    assert report.manifest.methods == ("generate",)


def test_a_layout_can_be_asked_for(films):
    model = Saying()
    _, records = evaluated(
        "list-functions", model=model, tasks=("list-functions/reversed",), limit=2, templates=("arrow",)
    )
    assert [record.template for record in records] == ["arrow", "arrow"]
    assert all(each.endswith(" ->") for each in model.prompts)


def superni_folder(folder, instances=5):
    (folder / "superni" / "tasks").mkdir(parents=True)
    (folder / "superni" / "splits").mkdir()
    (folder / "superni" / "splits" / "test_tasks.txt").write_text("task1_weather\ntask2_gone\n")
    raw = {
        "Definition": ["Say what the weather is like."],
        "Instances": [
            {"id": f"w{i}", "input": f"Day {i} has rain", "output": ["very wet", "rainy"]} for i in range(instances)
        ],
    }
    (folder / "superni" / "tasks" / "task1_weather.json").write_text(json.dumps(raw))
    return folder


def test_what_is_left_out_is_told_with_the_reason(films, obverse):
    data = superni_folder(films / "data")
    asked = ("--model", "counting", "--data", data, "--limit", "1", "--output", "runs/a")
    code, _, err = obverse("evaluate", "superni-test", *asked)
    assert code == 0
    assert "Left out: superni/task2_gone: not in the data folder\n" in err


def test_superni_under_both_settings(films):
    data = superni_folder(films / "data")
    model = Saying(otherwise="Very wet.\n\nInput: more")
    report, records = evaluated("superni-test", model=model, data=data, limit=2)
    assert report.manifest.missing == {"superni/task2_gone": "not in the data folder"}
    assert report.manifest.settings["settings"] == ["zero-shot", "ICIL"]
    assert {record.setting for record in records} == {"zero-shot", "ICIL"}
    assert {len([p for p in model.prompts if p.count("Definition:") == n]) for n in (1, 9)} == {2}
    zero = next(p for p in model.prompts if p.count("Definition:") == 1)
    assert zero.startswith(
        "Definition: Say what the weather is like.\n\nNow complete the following example -\nInput: Day "
    )
    assert "Now complete" not in next(p for p in model.prompts if p.count("Definition:") == 9)
    assert records[0].references == ("very wet", "rainy")
    task = report.results.tasks[0]
    assert task.metric == "rouge_l"
    assert task.figures["rouge_l"].mean.value == pytest.approx(rouge_l(records[0].prediction, ["very wet", "rainy"]))


def test_demonstrations_are_dropped_where_the_window_is_small(films):
    data = superni_folder(films / "data", 2)
    model = Saying(window=64 + 120)
    report, records = evaluated("superni-test", model=model, data=data)
    behind = [p for p in model.prompts if "Now complete" not in p]
    assert {p.count("Definition:") for p in behind} != {9}
    assert all(len(p.split()) <= 120 for p in model.prompts)
    assert not any(record.reason for record in records)
    shown = {p.split("Day ")[1].split()[0]: p.count("Definition:") - 1 for p in behind}
    lost = {record.row.removeprefix("w"): record.dropped for record in records if record.setting == "ICIL"}
    assert lost == {day: 8 - count for day, count in shown.items()}
    assert {record.dropped for record in records if record.setting == "zero-shot"} == {0}
    assert printed(report).count(f"2 records of 4 with {min(lost.values())} demonstrations dropped to fit") == 1


def test_a_prompt_that_never_fits_has_a_reason(films):
    data = superni_folder(films / "data", 2)
    report, records = evaluated("superni-test", model=Saying(window=64 + 5), data=data)
    assert {record.reason for record in records} == {"the model's window is too small, even with the input left out"}
    assert report.results.tasks[0].answered == 0


def plain_folder(folder, *, splits=("train", "validation"), rows=12):
    target = folder / "p3" / "subj"
    target.mkdir(parents=True)
    for split in splits:
        texts = [f"{split} {'dull' if i % 2 else 'plain'} sentence number {i} here" for i in range(rows)]
        pq.write_table(pa.table({"text": texts, "label": [i % 2 for i in range(rows)]}), target / f"{split}.parquet")
    return folder


def test_settings_share_rows_and_exemplars(films):
    data = plain_folder(films / "data")
    model = Counted()
    report, records = evaluated("icl-settings", model=model, data=data, methods=("direct",), keep_scores=False)
    assert len(report.manifest.missing) == 10
    settings = report.manifest.settings["settings"]
    assert settings == ["relevant labels, instruction", "relevant labels", "symbols, instruction", "symbols"]
    by_setting = {name: [record for record in records if record.setting == name] for name in settings}
    assert len({tuple((r.row, r.position, r.gold) for r in each) for each in by_setting.values()}) == 1
    assert len(by_setting["symbols"]) == 12
    labels = {record.options for record in by_setting["relevant labels"]}
    assert len(labels) == 1  # in the classes' order
    assert len({record.options for record in by_setting["symbols"]}) == 12
    assert by_setting["symbols"][0].options == by_setting["symbols, instruction"][0].options
    # Four exemplars a class, of the train split, behind the same words in every setting.
    givens = {}
    for query in model.queries:
        for text in (f"validation {kind} sentence number {i} here" for i in range(12) for kind in ("plain", "dull")):
            if text in query.given:
                givens.setdefault(text, set()).add(query.given)
    for text, prompts in givens.items():
        shown = {
            tuple(line.split("train ")[1].split(" here")[0] for line in p.splitlines() if "train " in line)
            for p in prompts
        }
        assert len(shown) == 1, text
        assert len(next(iter(shown))) == 8
    assert len(givens) == 12


def test_flipped_labels_change_places(films):
    data = plain_folder(films / "data")
    _, flipped = evaluated("flipped-labels", data=data, methods=("direct",), keep_scores=False)
    _, natural = evaluated("icl-settings", "runs/b", data=data, methods=("direct",), keep_scores=False)
    natural = [record for record in natural if record.setting == "relevant labels"]
    assert {record.setting for record in flipped} == {"flipped labels"}
    for one, other in zip(flipped, natural, strict=True):
        assert one.options == other.options[::-1]
        assert one.gold == other.gold
        assert one.options[one.gold[0]] != other.options[other.gold[0]]


def test_one_split_gives_rows_and_exemplars(films):
    data = plain_folder(films / "data", splits=("validation",))
    model = Counted()
    _, records = evaluated("flipped-labels", model=model, data=data, methods=("direct",))
    assert len(records) == 12
    for query in model.queries:
        numbers = [word for word in query.given.split() if word.isdigit()]
        assert len(numbers) == len(set(numbers)) == 9


def test_a_class_with_too_few_texts_is_left_out_by_name(films):
    data = plain_folder(films / "data", rows=8)
    with pytest.raises(
        DataError, match=r"subj: the class .* has 4 different texts; 4 exemplars and a query are wanted"
    ):
        evaluated("flipped-labels", data=data, methods=("direct",))


def test_exemplars_are_dropped_alike_in_all_settings(films):
    data = plain_folder(films / "data")
    model = Counted()
    model.window = Window(joint=60)
    report, records = evaluated("icl-settings", model=model, data=data, methods=("direct",), limit=3, keep_scores=False)
    shown = {query.given.count("train ") for query in model.queries}
    assert shown < {2, 4, 6}
    assert all(len((query.given + query.said).split()) <= 60 for query in model.queries)
    fewest, most = min(shown), max(shown)
    assert {record.dropped for record in records} == {8 - count for count in shown}
    many = f"{8 - most} exemplars" if fewest == most else f"{8 - most} to {8 - fewest} exemplars"
    assert f"12 records of 12 with {many} dropped to fit the model's window." in printed(report)
    # All of it stands in the records: a run that went on tells what was dropped before, too.
    again, _ = evaluated(
        "icl-settings", model=model, data=data, methods=("direct",), limit=3, keep_scores=False, resume=True
    )
    assert f"12 records of 12 with {many} dropped to fit the model's window." in printed(again)


def test_demonstrations_need_a_setting(films):
    Path("mine.toml").write_text('kind = "evaluation"\nsettings = ["zero-shot"]\ntasks = ["films.toml"]\n')
    with pytest.raises(ObverseError, match="--demos: no setting of the suite mine has demonstrations"):
        evaluated("mine.toml", demos="default")


def test_exemplars_have_no_templates_and_no_demonstrations(films):
    data = plain_folder(films / "data")
    with pytest.raises(ObverseError, match="--templates"):
        evaluated("icl-settings", data=data, templates=("x",))
    with pytest.raises(ObverseError, match="--demos"):
        evaluated("icl-settings", data=data, demos="default")


# What is refused


def test_trained_tasks_are_refused(films):
    data = plain_folder(films / "data")
    model = Counted(datasets=("subj",))
    with pytest.raises(DataError, match=r"counting says that it was trained on subj\n.*--allow-trained"):
        evaluated("flipped-labels", model=model, data=data)
    report, _ = evaluated("flipped-labels", model=model, data=data, allow_trained=True, methods=("direct",))
    assert report.manifest.notes == ("counting says that it was trained on subj: these are no unseen tasks.",)
    assert report.manifest.settings["tasks"]["subj"]["seen"] is True


def test_a_model_that_cannot_generate_is_refused_before_any_work(films):
    with pytest.raises(ModelError, match=r"cannot generate text.*; list-functions/.* needs generated answers"):
        evaluated("list-functions", model=Mute())
    assert not Path("runs/a").exists()


def test_scores_that_are_no_numbers_are_one_error(films):
    class Broken(CountingModel):
        def log_likelihoods(self, queries, *, progress=None, pieces=False):
            return [Likelihood(math.nan, 1, (math.nan,)) for _ in queries]

    with pytest.raises(ModelError, match=r"films.toml, instruction 1, wording 1, row 1: .*not all numbers: nan, nan"):
        evaluated(model=Broken(), methods=("direct",))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("t0-heldot",), "there is no suite 't0-heldot'\nDid you mean 't0-heldout'?"),
        (("flipped-20",), "is a suite for training"),
        (("films.csv",), "films.csv: is no suite"),
        (("",), "obverse: no suite is named\nKnown: bbh"),
        (("x" * 300,), "there is no suite 'xxx"),
        (("films.toml,super_glue/cb",), "'super_glue/cb' is no task file (.toml), and only those"),
        (
            ("super_glue/cb",),
            "'super_glue/cb' is no suite\nA task is evaluated by a suite file with kind = \"evaluation\"",
        ),
        (
            ("list-functions", "--tasks", "nosuch/*"),
            "--tasks: the suite list-functions has no task 'nosuch/*'\nKnown: ",
        ),
        (("gone.toml",), "gone.toml"),
        (("films.toml,films.toml",), "films.toml: is named twice"),
        (("t0-heldout",), "--data: the suite t0-heldout reads super_glue/rte from a data folder"),
        (("t0-heldout", "--data", "nowhere"), "nowhere: there is no such folder"),
        (("films.toml", "--method", "flippd"), "--method: unknown method 'flippd'\nDid you mean 'flipped'"),
        (("films.toml", "--method", "direct,direct"), "--method: names one twice"),
        (("films.toml", "--calibration", "contextul"), "--calibration: unknown calibration 'contextul'"),
        (("films.toml", "--length-rule", "word"), "--length-rule: unknown length rule 'word'"),
        (("films.toml", "--cutting", "x"), "--cutting: unknown cutting 'x'"),
        (("films.toml", "--method", "blend"), "this model keeps no blend weights"),
        (("films.toml", "--tasks", "film.toml"), "--tasks: the suite films has no task 'film.toml'"),
        (("films.toml", "--templates", "x"), "--templates: no task that is asked has a template 'x'"),
        (("films.toml", "--limit", "0"), "--limit: 0 is too small"),
        (("films.toml", "--batch-size", "0"), "--batch-size: 0 is too small"),
        (("films.toml", "--demos", "defalt"), "there is no set of demonstrations 'defalt'"),
        (("films.toml", "--store", "x", "--no-store"), "--store and --no-store exclude each other"),
        (("films.toml", "--store", "films.csv"), "the store of scores cannot be used"),
        (("films.toml", "--resume"), "run: there is no run to go on with"),
        (("films.toml", "--eos", "x"), "--eos"),
        (("list-functions", "--method", "direct"), "--method: all answers of these tasks are generated"),
        (("list-functions", "--calibration", "batch"), "--calibration: all answers of these tasks are generated"),
        (("list-functions", "--demos", "default"), "--demos: list-functions/"),
    ],
)
def test_bad_input_is_one_error(obverse, arguments, said):
    code, out, err = obverse("evaluate", *arguments, "--model", "counting", "--output", "run")
    assert (code, out) == (2, "")
    assert err.startswith("obverse: ")
    assert said in err
    assert "Traceback" not in err
    assert not Path("run").exists()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_evaluation_without_a_record_is_begun_anew(films, batch_size):
    class Broken(CountingModel):
        def log_likelihoods(self, queries, *, progress=None, pieces=False):
            return [Likelihood(math.nan, 1, (math.nan,)) for _ in queries]

    with pytest.raises(ModelError):
        evaluated(model=Broken(), methods=("direct",))
    with pytest.raises(Stopped, match=r"^stopped before the first record\nThe same command begins again\.$"):
        evaluated(model=Counted(stop_after=0), methods=("flipped",), keep_scores=False)
    # Nothing was written that other settings could spoil, and --resume would do as well.
    _, records = evaluated(methods=("direct",), batch_size=batch_size)
    assert [record.scores for record in records] == [log((4, 1009), (2, 1009)), log((3, 1009), (3, 1009))]
    with pytest.raises(ObverseError, match="holds a run already"):
        evaluated(methods=("direct",))


def test_an_evaluation_with_a_record_is_not_begun_anew(films):
    with pytest.raises(Stopped):
        evaluated(model=Counted(stop_after=1), methods=("direct",), batch_size=1)
    before = Path("runs/a/records.jsonl").read_bytes()
    with pytest.raises(ObverseError, match="holds a run already\n--resume goes on with it"):
        evaluated(methods=("direct",), batch_size=1)
    assert Path("runs/a/records.jsonl").read_bytes() == before
    assert len(evaluated(methods=("direct",), batch_size=1, resume=True)[1]) == 2


def test_results_that_are_damaged_are_worked_out_again(films):
    _, records = evaluated(methods=("direct",))
    results = Path("runs/a/results.json")
    sound = results.read_text()
    for text in ("", "[]"):
        results.write_text(text)
        with pytest.raises(DataError, match=r"results.json: .*\n.*--resume works them out again"):
            read_run("runs/a")
        assert evaluated(methods=("direct",), resume=True)[1] == records
        assert results.read_text() == sound


def test_a_mistyped_task_or_split_of_a_suite_file(films):
    data = plain_folder(films / "data")
    Path("mine.toml").write_text('kind = "evaluation"\ntasks = ["subjj"]\n')
    with pytest.raises(DataError, match=r"none of the suite's tasks is there: subjj\nDid you mean 'subj'\?"):
        evaluated("mine.toml", data=data)
    Path("mine.toml").write_text('kind = "evaluation"\nsplit = "tset"\ntasks = ["subj", "films.toml"]\n')
    with pytest.raises(DataError, match=r"is there: subj \(tset\)\n"):
        evaluated("mine.toml", data=data, tasks=("subj",))
    Path("mine.toml").write_text('kind = "evaluation"\ntasks = [{name = "subj", split = "tset"}, "films.toml"]\n')
    report, _ = evaluated("mine.toml", data=data, methods=("direct",))
    assert report.manifest.missing == {"subj": "its split tset is not in the data folder"}


def test_a_single_setting_is_told_above_the_table(films):
    data = plain_folder(films / "data")
    Path("mine.toml").write_text('kind = "evaluation"\nsettings = ["symbols"]\ntasks = ["subj"]\n')
    report, _ = evaluated("mine.toml", data=data, methods=("direct",), limit=2)
    assert "95 % interval, at most 2 rows a task, symbols.\n" in printed(report)


def test_without_right_answers_there_is_a_sentence(films):
    Path("films.csv").write_text("text,gold\ngood film,\n")
    report, _ = evaluated(methods=("direct",))
    assert "No answer is known to be right or wrong, so there are no figures." in printed(report)


def test_an_output_that_is_there_is_refused(obverse):
    assert obverse("evaluate", "films.toml", "--model", "counting", "--output", "run")[0] == 0
    code, _, err = obverse("evaluate", "films.toml", "--model", "counting", "--output", "run")
    assert code == 2
    assert "run: holds a run already\n--resume goes on with it" in err
    for name, said in (
        ("y" * 300, "--output: names a path that is too long (300 characters)\nName a shorter one.\n"),
        (
            "films.csv/a",
            "cannot be made: Not a directory\nName a folder for the run that you may read and write.\n",
        ),
    ):
        code, _, err = obverse("evaluate", "films.toml", "--model", "counting", "--output", name, "--no-store")
        assert code == 2
        assert err.endswith(said)
    code, _, err = obverse("evaluate", "films.toml", "--model", "counting", "--output", "films.csv")
    assert code == 2
    assert "films.csv: is a file, not a folder" in err


def test_a_task_without_right_answers_is_refused(films):
    Path("films.toml").write_text(FILMS.replace('gold = "gold"\n', ""))
    with pytest.raises(DataError, match="names no column of right answers"):
        evaluated(methods=("direct",))


def test_training_suites_and_unknown_settings(films):
    Path("mine.toml").write_text('kind = "evaluation"\nsettings = ["symbols", "ICIL"]\ntasks = ["films.toml"]\n')
    with pytest.raises(ObverseError, match="the setting 'symbols' cannot be mixed"):
        evaluated("mine.toml")
    Path("mine.toml").write_text('kind = "training"\ntasks = ["films.toml"]\n')
    with pytest.raises(DataError, match="is a suite for training"):
        evaluated("mine.toml")


def test_methods_are_checked_against_conventions(films):
    with pytest.raises(MethodError, match="blend weights"):
        evaluated(methods=("blend",))


# What is printed


def test_the_table(obverse):
    code, out, err = obverse(
        "evaluate", "films.toml", "--model", "counting", "--output", "runs/a", "--method", "direct,flipped"
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "films: counting"
    assert lines[1] == "Per cent accuracy, mean over templates, 95 % interval."
    assert lines[2].split() == ["task", "rows", "direct", "flipped"]
    assert lines[4].split() == ["films.toml", "2", *["50.0", "(9.5", "to", "90.5)"] * 2]
    assert lines[5].startswith("direct - flipped: ")
    assert "tied, the first of the best taken." in out
    assert lines[-1] == "Run: runs/a"


def test_json(obverse):
    code, out, _ = obverse("evaluate", "films.toml", "--model", "counting", "--output", "runs/a", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["suite"] == "films"
    assert found["tasks"][0]["figures"]["accuracy"]["mean"]["value"] == 0.5
    assert json.loads(Path("runs/a/results.json").read_text())["tasks"] == found["tasks"]


def test_a_narrow_terminal_has_methods_below_each_other(obverse, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = obverse(
        "evaluate", "films.toml", "--model", "counting", "--output", "runs/a", "--method", "direct,flipped,product"
    )
    assert [line.split()[2] for line in out.splitlines()[4:7]] == ["direct", "flipped", "product"]


# The suites over real data, on a tiny network


@pytest.fixture(scope="module")
def network():
    tiny = pytest.importorskip("tiny")
    from obverse.models.seq2seq import Seq2SeqModel

    conventions = Conventions(eos="t0", slots="sentinels", trained=("direct", "flipped"))
    return Seq2SeqModel(tiny.t5(), tiny.t5_tokenizer(), name="tiny", conventions=conventions, window=Window(given=400))


@needs_data
@pytest.mark.data
@pytest.mark.parametrize(
    ("suite", "tasks", "cells", "records", "metric"),
    [
        ("t0-heldout", ("super_glue/cb", "super_glue/copa"), 15 + 12, None, "accuracy"),
        ("bigbench-14", ("bigbench/novel_concepts", "bigbench/logical_deduction"), 2, None, "multiple_choice_grade"),
        ("bbh", ("bbh/snarks", "bbh/word_sorting"), 2, None, None),
        ("label-generalization", ("super_glue/cb", "super_glue/wsc.fixed"), 15 + 14, None, "macro_f1"),
        ("icl-settings", ("subj", "tweet_eval/stance_abortion"), 8, None, "accuracy"),
        ("flipped-labels", ("tweet_eval/hate",), 1, None, "accuracy"),
        ("list-functions", ("list-functions/reversed",), 1, None, "exact_match"),
        ("turing-concepts", (), None, None, "exact_match"),
        ("superni-test", ("superni/task1562_zest_text_modification",), 2, None, "rouge_l"),
    ],
)
def test_suites_over_real_data(tmp_path, network, suite, tasks, cells, records, metric):
    if suite == "turing-concepts":
        tasks = tuple(Catalog(DATA).names(suite)[:2])
        cells = 2
    generated = suite in ("list-functions", "turing-concepts", "superni-test")
    report = evaluate_suite(
        EvaluateSettings(
            suite,
            tmp_path / "run",
            data=DATA,
            tasks=tasks,
            methods=() if generated else ("direct", "flipped"),
            limit=2,
        ),
        model=network,
    )
    run = read_run(tmp_path / "run")
    assert run.is_finished
    assert {record.task for record in run.records} == set(tasks)
    if suite != "bbh":
        assert len({record.key.cell for record in run.records}) == cells * (1 if generated else 2)
        assert len(run.records) == cells * (1 if generated else 2) * 2
        assert {task.metric for task in report.results.tasks} <= {metric, None}
    else:
        assert {record.method for record in run.records} == {"direct", "flipped", "generate"}
        assert {task.metric for task in report.results.tasks} == {"accuracy", "exact_match"}
    answered = [record for record in run.records if not record.reason]
    assert answered
    assert all(record.scores or record.prediction is not None for record in answered)


@needs_data
@pytest.mark.data
def test_scores_over_real_data_are_those_of_the_labeller(tmp_path, network):
    """What `obverse predict` would give for the same prompt: one row, one template, asked alone."""
    how = {"data": DATA, "tasks": ("super_glue/cb",), "templates": ("can we infer",), "limit": 2}
    _, records = evaluated("t0-heldout", tmp_path / "a", network, methods=("direct", "flipped"), **how)
    task = Catalog(DATA).open("super_glue/cb")
    template = task.template("can we infer").template
    assert len(records) == 4
    for record in records:
        example = task.rows("validation")[record.position]
        assert (example.id, template.render(example).options) == (record.row, record.options)
        assert record.options[record.gold[0]] == template.render(example).target
        labeller = Labeller(network, make_scorer(network.conventions, method=record.method), template)
        (alone,) = labeller.score([example], [record.options])
        assert record.scores == pytest.approx(alone.terms[record.method], abs=1e-4)


@needs_data
@pytest.mark.data
def test_wordings_change_options_and_nothing_else(tmp_path):
    model = Counted()
    _, records = evaluated(
        "label-generalization", tmp_path / "a", model, data=DATA, tasks=("super_glue/cb",), methods=("direct",), limit=2
    )
    wordings = list(dict.fromkeys(record.wording for record in records))
    assert "" in wordings
    assert "agree/disagree/could be" in wordings
    assert len(wordings) >= 10
    own = {record.row: record for record in records if record.wording == ""}
    for record in records:
        assert record.gold == own[record.row].gold
        assert (record.wording == "") == (record.options == own[record.row].options)
    agreeing = [q for q in model.queries if q.said == " Agree"]
    assert agreeing
    assert all("agree" in q.given.casefold() for q in agreeing)


@needs_data
@pytest.mark.data
def test_every_task_of_every_suite_can_be_planned():
    catalog = Catalog(DATA)
    for suite, least in (("label-generalization", 50), ("bigbench-14", 9), ("icl-settings", 20)):
        plan = make_plan(read_asked(suite), catalog, limit=1)
        assert len(plan.cells) >= least
        for cell in plan.cells:
            (slot,) = cell.read()
            assert slot.render().row == slot.row
