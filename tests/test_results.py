"""A run's records as figures: worked out by hand, and by scipy, scikit-learn and statsmodels."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from example_runs import answered, generated_run, manifest, outcomes, templates_run, wordings_run, write
from obverse.reports.results import LEAST_DRAWN, Comparison, summarize
from obverse.reports.run_settings import RunSettings
from obverse.runs.records import Record
from obverse.runs.store import RunWriter, read_run

GRADED = {"settings": {"tasks": {"pets": {"metric": "multiple_choice_grade"}}}}
MACRO = {"settings": {"tasks": {"pets": {"metric": "macro_f1"}}}}


def results(folder, records, *, normalise=None, **changes):
    return summarize(write(folder / "run", manifest(**changes), records), resamples=400, normalise=normalise)


def only(found):
    (one,) = found
    return one


def comparison(found, task="pets") -> Comparison:
    return only(c for c in found.comparisons if c.task == task)


# --- cells --------------------------------------------------------------------------------------------------------


def test_an_unanswered_row_counts_as_wrong_and_its_reason_is_kept(tmp_path):
    found = results(tmp_path, outcomes({("t1", "direct"): "++-."}))
    cell = only(found.cells)
    assert (cell.rows, cell.answered, cell.reasons) == (4, 3, {"too long": 1})
    assert cell.figures["accuracy"].value == 0.5
    ours = cell.figures["accuracy"]
    theirs = stats.binomtest(2, 4).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_macro_f1_by_hand_and_by_scikit_learn(tmp_path):
    gold, chosen = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, None]
    records = [
        answered(str(i), options=("a", "b", "c"), gold=(g,), chosen=c, reason="" if c is not None else "none")
        for i, (g, c) in enumerate(zip(gold, chosen, strict=True))
    ]
    found = results(tmp_path, records)
    # a: 2 / (2 + 1 + 1), b: 2 / (1 + 2), c: 2 / (3 + 1)
    assert only(found.cells).figures["macro_f1"].value == pytest.approx((1 / 2 + 2 / 3 + 1 / 2) / 3)
    theirs = f1_score(gold, [3 if c is None else c for c in chosen], labels=[0, 1, 2], average="macro", zero_division=0)
    assert only(found.cells).figures["macro_f1"].value == pytest.approx(theirs)


def test_grades_with_several_right_options_and_ties(tmp_path):
    options, credits = ("a", "b", "c", "d"), (1.0, 1.0, 0.5, 0.0)
    rows = [((3.0, 1.0, 1.0, 1.0), 0, False), ((1.0, 1.0, 2.0, 2.0), 2, True), ((0.0, 5.0, 0.0, 0.0), 1, False)]
    records = [
        answered(str(i), options=options, scores=scores, chosen=chosen, tied=tied, credits=credits, gold=())
        for i, (scores, chosen, tied) in enumerate(rows)
    ]
    cell = only(results(tmp_path, records, **GRADED).cells)
    assert cell.figures["multiple_choice_grade"].value == pytest.approx((1 + 0.5 + 1) / 3)
    # the tie is between c and d: a fair draw gets (0.5 + 0) / 2
    assert cell.figures["expected_grade"].value == pytest.approx((1 + 0.25 + 1) / 3)
    assert cell.figures["accuracy"].value == pytest.approx(2 / 3)
    assert cell.tied == 1


def test_a_grade_without_credits_is_that_of_the_right_options(tmp_path):
    found = results(tmp_path, outcomes({("t1", "direct"): "+++-"}), **GRADED)
    assert only(found.tasks).metric == "multiple_choice_grade"
    assert only(found.tasks).figure.mean.value == 0.75


def test_generated_answers_by_hand(tmp_path):
    def record(row, prediction, *references):
        return Record(
            task="pets", split="test", row=row, position=int(row), method="generate", prediction=prediction,
            references=references, reason="" if prediction is not None else "too long",
        )  # fmt: skip

    records = [record("0", "the cat sat", "a dog", "the cat sat down"), record("1", None, "x"), record("2", "X!", "x")]
    found = results(
        tmp_path,
        records,
        methods=("generate",),
        settings={"tasks": {"pets": {"metric": "rouge_l"}}, "metrics": ["rouge_l", "exact_match"]},
    )
    cell = only(found.cells)
    # three of three words, three of four: F = 2 * 1 * 0.75 / 1.75
    assert cell.figures["rouge_l"].value == pytest.approx((6 / 7 + 0 + 1) / 3)
    assert cell.figures["exact_match"].value == pytest.approx(1 / 3)
    assert only(found.tasks).metric == "rouge_l"


def test_answers_that_are_not_prose_are_normalised_as_they_are_told_to_be(tmp_path):
    records = [Record(task="pets", split="test", row="0", position=0, method="generate", prediction="[1,23]",
                      references=("[12,3]",))]  # fmt: skip
    settings = {"tasks": {"pets": {"metric": "exact_match"}}}
    prose = results(tmp_path / "a", records, methods=("generate",), settings=settings)
    lists = results(
        tmp_path / "b", records, methods=("generate",), settings=settings,
        normalise=lambda task: str.strip if task == "pets" else None,
    )  # fmt: skip
    assert only(prose.cells).figures["exact_match"].value == 1  # prose has no brackets
    assert only(lists.cells).figures["exact_match"].value == 0


def test_without_right_answers_there_are_no_figures(tmp_path):
    found = results(tmp_path, [answered("0", gold=()), answered("1", gold=())])
    assert only(found.cells).figures == {}
    assert only(found.tasks).metric is None and only(found.tasks).figure is None
    assert found.means == () and found.comparisons == ()


def test_what_happened_to_inputs_is_counted(tmp_path):
    records = [
        answered("0", shortened=30, dropped=1),
        answered("1", cut=2, dropped=3),
        answered("2", tied=True, dropped=3),
        answered("3"),
    ]
    found = results(tmp_path, records)
    cell = only(found.cells)
    assert (cell.shortened, cell.cut, cell.tied) == (1, 1, 1)
    assert cell.dropped == {1: 1, 3: 2}
    assert found.dropped == {1: 1, 3: 2}
    assert found.to_json()["cells"][0]["dropped"] == {"1": 1, "3": 2}


# --- over templates -----------------------------------------------------------------------------------------------


def test_over_templates_by_hand(tmp_path):
    patterns = {"t1": "++++", "t2": "+---", "t3": "++--", "t4": "+++-"}
    found = results(tmp_path, outcomes({(t, "direct"): p for t, p in patterns.items()}))
    task = only(found.tasks)
    assert (task.templates, task.wordings, task.rows, task.answered) == (4, 1, 16, 16)
    figure = task.figure
    assert figure.mean.value == pytest.approx((1 + 0.25 + 0.5 + 0.75) / 4)
    assert (figure.median, figure.lowest, figure.highest) == (0.625, 0.25, 1.0)
    assert figure.drawn
    assert figure.mean.low <= figure.mean.value <= figure.mean.high


@pytest.mark.parametrize("templates", [2, LEAST_DRAWN])
def test_rows_that_recur_under_every_template_are_not_new_rows(tmp_path, templates):
    rng = np.random.default_rng(0)
    right = rng.random(60) < 0.7
    pattern = "".join("+" if r else "-" for r in right)
    found = results(tmp_path, outcomes({(f"t{t}", "direct"): pattern for t in range(templates)}))
    figure = only(found.tasks).figure
    assert figure.drawn == (templates >= LEAST_DRAWN)
    # All templates say the same, so the interval is that of 60 rows, however many templates repeat it.
    theirs = stats.bootstrap((right.astype(float),), np.mean, method="percentile", rng=rng).confidence_interval
    assert figure.mean.low == pytest.approx(theirs.low, abs=0.03)
    assert figure.mean.high == pytest.approx(theirs.high, abs=0.03)


def test_templates_that_differ_widen_the_interval(tmp_path):
    rows = 200
    same = {(f"t{t}", "direct"): "+-" * (rows // 2) for t in range(6)}
    apart = {(f"t{t}", "direct"): ("+" * (20 + 32 * t)).ljust(rows, "-") for t in range(6)}
    one, other = results(tmp_path / "a", outcomes(same)), results(tmp_path / "b", outcomes(apart))
    width = [only(r.tasks).figure.mean.high - only(r.tasks).figure.mean.low for r in (one, other)]
    assert width[1] > 2 * width[0]


@pytest.mark.parametrize("templates", [2, 6])
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_a_template_of_few_rows_weighs_as_much_as_one_of_many(tmp_path, templates, metric):
    # half of the templates are right on all of their 5 rows, the others wrong on 200: an unfinished run, say
    pattern = {(f"t{i}", "direct"): "+" * 5 if i % 2 else "-" * 200 for i in range(templates)}
    settings = {"settings": {"tasks": {"pets": {"metric": metric}}}}
    figure = only(results(tmp_path, outcomes(pattern), **settings).tasks).figure
    assert figure.mean.value == 0.5
    assert 0 <= figure.mean.low < 0.5 < figure.mean.high <= 1


def test_the_difference_weighs_templates_alike_too(tmp_path):
    pattern = {("t1", "direct"): "+" * 4, ("t1", "flipped"): "--++", ("t2", "direct"): "+" * 40}
    pattern[("t2", "flipped")] = "+" * 40
    found = comparison(results(tmp_path, outcomes(pattern)))
    assert found.difference == pytest.approx((0.5 + 0) / 2)
    assert found.low < found.difference < found.high


def test_the_interval_of_macro_f1_is_about_that_of_accuracy(tmp_path):
    # equal classes, and a row is right under every template or none: rows vary, templates do not
    right = np.random.default_rng(0).random(300) < 0.7
    records = [
        answered(str(i), template=f"t{t}", gold=(i % 2,), chosen=i % 2 if right[i] else 1 - i % 2)
        for t in range(4)
        for i in range(300)
    ]
    task = only(results(tmp_path, records, **MACRO).tasks)
    width = {name: figure.mean.high - figure.mean.low for name, figure in task.figures.items()}
    assert width["macro_f1"] == pytest.approx(width["accuracy"], rel=0.15)


def test_all_right_is_not_certain(tmp_path):
    found = results(tmp_path, outcomes({(f"t{t}", "direct"): "+++++" for t in range(5)}))
    theirs = stats.binomtest(5, 5).proportion_ci(method="wilson")  # five rows, not twenty-five
    for name in ("accuracy", "macro_f1"):
        figure = only(found.tasks).figures[name].mean
        assert (figure.value, figure.high) == (1.0, 1.0)
        assert figure.low == pytest.approx(theirs.low)


def test_wordings_stand_alone_and_together(tmp_path):
    run = wordings_run(tmp_path / "run", rows=20, wordings=5)
    found = summarize(run, resamples=100)
    assert {(t.task, t.method, t.wordings) for t in found.tasks} == {
        (task, method, 5) for task in ("super_glue/rte", "paws/labeled_final") for method in ("direct", "flipped")
    }
    assert len(found.wordings) == 2 * 2 * 5
    for task in found.tasks:
        alone = [w for w in found.wordings if (w.task, w.method) == (task.task, task.method)]
        figures = [w.figure.mean.value for w in alone]
        assert task.metric == "macro_f1"
        assert task.figure.mean.value == pytest.approx(math.fsum(figures) / 5)
        assert (task.figure.lowest, task.figure.highest) == (min(figures), max(figures))
        for w in alone:
            records = [r for r in run.records if (r.task, r.method, r.wording) == (task.task, task.method, w.wording)]
            theirs = f1_score([r.gold[0] for r in records], [r.chosen for r in records], average="macro")
            assert w.figure.mean.value == pytest.approx(theirs)


# --- means --------------------------------------------------------------------------------------------------------


def two_tasks(first, second, methods=("direct",)):
    """Records of two tasks: method -> pattern."""
    return [
        answered(str(i), task=task, method=method, position=i, chosen=0 if letter == "+" else 1)
        for task, patterns in (("cats", first), ("dogs", second))
        for method in methods
        for i, letter in enumerate(patterns[method])
    ]


def test_every_task_weighs_the_same(tmp_path):
    rng = np.random.default_rng(1)
    first = "".join("+" if x else "-" for x in rng.random(40) < 0.5)
    second = "".join("+" if x else "-" for x in rng.random(400) < 0.9)
    found = results(
        tmp_path, two_tasks({"direct": first}, {"direct": second}), data={"cats": "1", "dogs": "2"},
        settings={"metrics": ["accuracy"]},
    )  # fmt: skip
    mean = only(found.means)
    shares = [first.count("+") / 40, second.count("+") / 400]
    assert mean.tasks == 2 and mean.mean.value == pytest.approx(sum(shares) / 2)
    error = 0.5 * math.sqrt(shares[0] * (1 - shares[0]) / 40 + shares[1] * (1 - shares[1]) / 400)
    assert mean.mean.high - mean.mean.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert mean.mean.low == pytest.approx(mean.mean.value - 1.96 * error, abs=0.3 * error)


def test_means_are_of_one_metric_and_setting(tmp_path):
    found = summarize(generated_run(tmp_path / "run"), resamples=100)
    assert [(m.metric, m.setting, m.method, m.tasks) for m in found.means] == [
        ("rouge_l", "zero-shot", "generate", 2),
        ("rouge_l", "ICIL", "generate", 2),
    ]


# --- comparisons --------------------------------------------------------------------------------------------------


def test_mcnemar_by_scipy_and_the_difference_by_hand(tmp_path):
    a, b = "+++++++---++", "+-----++++--"  # A alone has 7 right, B alone 3
    found = comparison(results(tmp_path, outcomes({("t1", "direct"): a, ("t1", "flipped"): b})))
    assert (found.a, found.b, found.rows, found.cells, found.drawn) == ("direct", "flipped", 12, 1, False)
    assert found.difference == pytest.approx((9 - 5) / 12)
    assert found.mcnemar == pytest.approx(stats.binomtest(3, 10).pvalue)
    assert found.low < 0 < found.high and found.p > 0.05


def test_rows_that_one_side_lacks_are_not_compared(tmp_path):
    records = outcomes({("t1", "direct"): "++++--", ("t1", "flipped"): "-+++"})
    records += outcomes({("t2", "direct"): "----"})  # no such template on the other side
    found = comparison(results(tmp_path, records))
    assert (found.rows, found.cells) == (4, 1)
    assert found.difference == pytest.approx(1 - 3 / 4)


def test_over_templates_there_is_no_mcnemar_and_rows_are_not_counted_twice(tmp_path):
    rng = np.random.default_rng(2)
    a = "".join("+" if x else "-" for x in rng.random(50) < 0.8)
    b = "".join("+" if x else "-" for x in rng.random(50) < 0.6)
    one = {("t0", "direct"): a, ("t0", "flipped"): b}
    six = {(f"t{t}", m): p for t in range(6) for m, p in (("direct", a), ("flipped", b))}
    first = comparison(results(tmp_path / "a", outcomes(one)))
    second = comparison(results(tmp_path / "b", outcomes(six)))
    assert first.mcnemar is not None and second.mcnemar is None and second.drawn
    assert second.difference == pytest.approx(first.difference)
    assert second.high - second.low == pytest.approx(first.high - first.low, rel=0.2)
    assert second.rows == 300 and second.cells == 6


def test_macro_f1_is_compared_as_macro_f1(tmp_path):
    gold = [0, 0, 0, 1, 1, 1, 0, 1]
    first, second = [0, 0, 1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 1, 0, 1, 1]
    records = [
        answered(str(i), method=method, gold=(g,), chosen=chosen[i])
        for method, chosen in (("direct", first), ("flipped", second))
        for i, g in enumerate(gold)
    ]
    found = comparison(results(tmp_path, records, **MACRO))
    wanted = f1_score(gold, first, average="macro") - f1_score(gold, second, average="macro")
    assert found.metric == "macro_f1" and found.difference == pytest.approx(wanted)


def test_where_several_options_are_right_tables_are_not_compared(tmp_path):
    records = [
        answered(str(i), method=method, options=("a", "b", "c"), gold=(0, 1), chosen=i % 3 if method == "direct" else 2)
        for method in ("direct", "flipped")
        for i in range(9)
    ]
    found = comparison(results(tmp_path, records, **MACRO))
    assert found.metric == "accuracy" and found.difference == pytest.approx(6 / 9)


def test_holm_is_over_the_tasks_and_the_mean_weighs_them_alike(tmp_path):
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    first = {"direct": "+" * 18 + "-" * 2, "flipped": "+" * 6 + "-" * 14}
    second = {"direct": "+-" * 30, "flipped": "-+" * 25 + "+-" * 5}
    records = two_tasks(first, second, ("direct", "flipped"))
    found = results(tmp_path, records, data={"cats": "1", "dogs": "2"}, settings={})
    cats, dogs, mean = (comparison(found, name) for name in ("cats", "dogs", "mean"))
    adjusted = multipletests([cats.p, dogs.p], method="holm")[1]
    assert (cats.p_holm, dogs.p_holm) == pytest.approx(tuple(adjusted))
    assert mean.p_holm is None and mean.cells == 2 and mean.rows == 80
    assert mean.difference == pytest.approx((cats.difference + dogs.difference) / 2)
    assert cats.difference == pytest.approx(12 / 20)


def test_settings_and_generated_answers_are_compared_apart(tmp_path):
    records = [
        answered(str(i), method=method, setting=setting, chosen=0 if method == winner else i % 2)
        for setting, winner in (("symbols", "direct"), ("words", "flipped"))
        for method in ("direct", "flipped")
        for i in range(10)
    ]
    found = results(tmp_path, records, settings={"settings": ["words", "symbols"]})
    assert [(c.setting, c.difference) for c in found.comparisons] == [("words", -0.5), ("symbols", 0.5)]


# --- the whole ----------------------------------------------------------------------------------------------------


def test_results_are_plain_data_that_a_run_can_hold(tmp_path):
    run = templates_run(tmp_path / "run", rows=12, finish=False)
    found = summarize(run, resamples=100)
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    with RunWriter.resume(tmp_path / "run", run.manifest) as writer:
        finished = writer.finish(plain)
    assert finished.results == plain
    assert summarize(finished, resamples=100) == found  # the table holds what the lines held
    first = plain["cells"][0]
    assert (first["task"], first["template"], first["method"]) == ("super_glue/rte", "template 1", "direct")
    assert first["figures"]["accuracy"]["value"] == found.cells[0].figures["accuracy"].value
    assert plain["tasks"][0]["figures"]["accuracy"]["mean"]["low"] == found.tasks[0].figure.mean.low


def test_the_order_of_writing_changes_nothing(tmp_path):
    records = outcomes({(t, m): "+-++--" for t in ("t1", "t2") for m in ("direct", "flipped")})
    assert results(tmp_path / "a", records) == results(tmp_path / "b", records[::-1])


def test_an_unfinished_run_with_a_damaged_line_is_read_without_it(tmp_path):
    write(tmp_path / "run", manifest(), outcomes({("t1", "direct"): "+++-"}), finish=False)
    path = tmp_path / "run" / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[4] = lines[4].replace("flipped", "FLIPPED").replace('"row"', '"rwo"')
    path.write_text("".join(lines))
    run = read_run(tmp_path / "run")
    assert len(run.faults) == 1
    assert only(summarize(run, resamples=100).cells).figures["accuracy"].value == 1  # the wrong one was damaged


def test_settings_of_other_kinds_are_told_and_left_out():
    told = RunSettings.of(
        manifest(
            settings={
                "title": 3,
                "metrics": ["accuracy", "beauty"],
                "tasks": {"pets": {"metric": "speed", "chance": 2}, "cars": []},
                "temperatures": {"direct": 0, "flipped": 2},
                "published": [{"model": "A", "figures": {"pets": 50, "x": "y"}}, "B"],
            }
        )
    )
    assert told.title == "own" and told.metrics == ("accuracy",)
    assert told.task("pets").metric is None and told.task("pets").chance is None
    assert told.temperature("flipped, contextual") == 2 and told.temperature("direct") == 1
    assert [(row.model, row.figures) for row in told.published] == [("A", {"pets": 0.5})]
    assert len(told.faults) == 7
