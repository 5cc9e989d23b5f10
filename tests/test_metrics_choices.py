"""Choices with several right answers, with credits and with ties."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from obverse.errors import DataError
from obverse.metrics.choices import (
    ChoiceFigures,
    chance_level,
    choice_confusion,
    chosen,
    expected_grade,
    gold_option,
    is_right,
    is_tie,
    multiple_choice_grade,
    right_options,
)
from obverse.metrics.classification import ABSTAINED, accuracy, macro_f1

# Few different numbers, so that ties are common.
NUMBERS = st.sampled_from([-3.0, -1.5, -0.25, 0.0, 0.5, 1.0])
ROW = st.integers(1, 5).flatmap(
    lambda k: st.tuples(st.lists(NUMBERS, min_size=k, max_size=k), st.lists(NUMBERS, min_size=k, max_size=k))
)


def test_the_first_of_the_best_is_chosen():
    assert chosen([-2.0, -1.0, -1.0]) == 1 and is_tie([-2.0, -1.0, -1.0])
    assert chosen([-1.0, -2.0, -0.5]) == 2 and not is_tie([-1.0, -2.0, -0.5])
    assert chosen([7.0]) == 0 and not is_tie([7.0])
    # probability 0 for every option is a tie of all
    assert chosen([-math.inf, -math.inf]) == 0 and is_tie([-math.inf, -math.inf])
    assert chosen([-math.inf, -9.0]) == 1 and not is_tie([-math.inf, -9.0])


def test_a_tolerance_takes_nearly_equal_scores_for_equal():
    scores = [-1.0 - 3e-7, -1.0, -1.5]
    assert chosen(scores) == 1 and not is_tie(scores)
    assert chosen(scores, tolerance=1e-6) == 0 and is_tie(scores, tolerance=1e-6)
    # measured from the best, not from neighbour to neighbour
    assert expected_grade([0.0, -0.75, -1.5], [0, 1, 1], tolerance=1.0) == 0.5
    assert expected_grade([0.0, -1.0, -1.5], [0, 1, 1], tolerance=1.0) == 0.5  # exactly at the edge: tied
    assert chosen([-math.inf, -math.inf], tolerance=1.0) == 0


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=6))
def test_choosing_is_numpy_argmax(scores):
    assert chosen(scores) == int(np.argmax(scores))
    assert is_tie(scores) == (scores.count(max(scores)) > 1)


def test_a_grade_is_the_credit_of_the_choice():
    assert multiple_choice_grade(1, [0, 0.5, 1]) == 0.5
    assert multiple_choice_grade(2, [1, 0, 1]) == 1.0
    assert multiple_choice_grade(0, [-0.25, 1]) == -0.25
    assert multiple_choice_grade(ABSTAINED, [1, 0]) == 0.0


def test_the_expected_grade_is_the_mean_over_the_best():
    assert expected_grade([-1.0, -1.0, -1.0, -1.0], [1, 0, 0, 0]) == 0.25
    assert expected_grade([-1.0, -1.0, -2.0], [0, 1, 1]) == 0.5
    assert expected_grade([-3.0, -1.0, -2.0], [1, 0.5, 0]) == 0.5


@settings(deadline=None)
@given(ROW)
def test_the_expected_grade_does_not_depend_on_the_order(row):
    scores, credits = row
    grades = []
    for order in permutations(range(len(scores))):
        ordered = [scores[k] for k in order], [credits[k] for k in order]
        assert expected_grade(*ordered) == pytest.approx(expected_grade(scores, credits), abs=1e-12)
        grades.append(multiple_choice_grade(chosen(ordered[0]), ordered[1]))
    # the grade of the first of the best does, and its mean over all orders is the expected one
    assert np.mean(grades) == pytest.approx(expected_grade(scores, credits), abs=1e-12)
    assert min(credits) <= expected_grade(scores, credits) <= max(credits)


def test_a_file_with_the_right_option_first_pays_for_knowing_nothing_but_not_as_expected():
    nothing_known = [[-1.0] * 4] * 20
    figures = ChoiceFigures.of(nothing_known, [[1, 0, 0, 0]] * 20)
    assert figures.grade == figures.accuracy == 1.0
    assert figures.expected_grade == figures.chance == 0.25
    assert figures.ties == figures.rows == 20


def test_right_and_gold_options():
    assert right_options([0, 1, 0, 1]) == (1, 3)
    assert right_options([0.2, 0.5, 0]) == (1,)
    assert is_right(3, [0, 1, 0, 1]) and is_right(1, [0, 1, 0, 1]) and not is_right(0, [0, 1, 0, 1])
    assert not is_right(0, [0.5, 1.0])
    assert not is_right(ABSTAINED, [1, 0])
    assert gold_option(3, [0, 1, 0, 1]) == 3  # right: gold is what was chosen
    assert gold_option(2, [0, 1, 0, 1]) == 1  # wrong: the first right one
    assert gold_option(ABSTAINED, [0, 1, 0, 1]) == 1


def test_chance_levels_by_hand():
    assert chance_level([1, 0, 0, 0]) == 0.25
    assert chance_level([0, 1, 0, 1]) == 0.5
    # rows of two and four options, one of them with two right: (1/2 + 1/4 + 1/2) / 3
    credits = [[1, 0], [0, 0, 0, 1], [1, 0, 1, 0]]
    assert ChoiceFigures.of([[0.0, 1.0], [4, 3, 2, 1], [1, 2, 3, 4]], credits).chance == pytest.approx(1.25 / 3)


def test_figures_by_hand():
    scores = [[3, 1, 2], [1, 3, 3], [2, 2, 1], [0, 1]]
    credits = [[1, 0, 1], [0, 0, 1], [0.5, 1, 0], [1, 0]]
    figures = ChoiceFigures.of(scores, credits)
    # chosen 0, 1, 0, 1; right, wrong, half, wrong; ties in rows 2 and 3
    assert (figures.rows, figures.ties) == (4, 2)
    assert figures.grade == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert figures.expected_grade == pytest.approx((1 + 0.5 + 0.75 + 0) / 4)
    assert figures.accuracy == pytest.approx(1 / 4)
    assert figures.chance == pytest.approx((2 / 3 + 1 / 3 + 1.5 / 3 + 1 / 2) / 4)
    # gold 0 (chosen and right), 2, 1, 0. Option 0: TP 1, FP 1 (row 3), FN 1 (row 4); options 1 and 2: TP 0
    assert figures.macro_f1 == pytest.approx((2 / 4 + 0 + 0) / 3)


@settings(deadline=None, max_examples=40)
@given(st.lists(ROW, min_size=1, max_size=12))
def test_figures_equal_scikit_learn_on_the_gold_they_define(rows):
    rows = [(scores, [*credits[1:], 1.0]) for scores, credits in rows]
    taken = [int(np.argmax(scores)) for scores, _ in rows]
    right = [[k for k, c in enumerate(credits) if c == max(credits)] for _, credits in rows]
    gold = [k if k in best else best[0] for k, best in zip(taken, right, strict=True)]
    figures = ChoiceFigures.of([s for s, _ in rows], [c for _, c in rows])
    assert figures.accuracy == pytest.approx(accuracy_score(gold, taken), abs=1e-12)
    assert figures.macro_f1 == pytest.approx(
        f1_score(gold, taken, average="macro", labels=sorted(set(gold)), zero_division=0), abs=1e-12
    )
    assert figures.accuracy == pytest.approx(np.mean([is_right(k, c) for k, (_, c) in zip(taken, rows, strict=True)]))


def test_with_one_right_answer_a_row_gold_does_not_depend_on_the_choice():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, size=200)
    scores = rng.normal(size=(200, 3)) + np.eye(3)[gold]
    figures = ChoiceFigures.of(scores.tolist(), np.eye(3)[gold].tolist())
    taken = scores.argmax(1)
    assert figures.grade == figures.expected_grade == figures.accuracy == np.mean(taken == gold)
    assert figures.macro_f1 == pytest.approx(f1_score(gold, taken, average="macro"), abs=1e-12)
    assert figures.chance == pytest.approx(1 / 3) and figures.ties == 0


def test_the_table_of_choices_keeps_abstained_rows_last():
    table = choice_confusion([1, ABSTAINED, 0], [[0, 1, 1], [0, 1, 0], [0, 1]])
    assert table.tolist() == [[0, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]]
    assert accuracy(table) == pytest.approx(1 / 3)
    assert macro_f1(table) == pytest.approx(2 * 1 / (2 * 1 + 0 + 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chosen([]), "not a list"),
        (lambda: chosen("abc"), "not a list"),
        (lambda: chosen(3.0), "not a list"),
        (lambda: chosen([1.0, math.nan]), "score nan of option 1"),
        (lambda: chosen([1.0, math.inf]), "score inf of option 1"),
        (lambda: chosen([1.0, "2"]), "score '2' of option 1"),
        (lambda: is_tie([1.0, None]), "score None of option 1"),
        (lambda: chosen([1.0], tolerance=-1.0), "tolerance"),
        (lambda: chosen([1.0], tolerance=math.nan), "tolerance"),
        (lambda: multiple_choice_grade(2, [0, 1]), "index 2 lies outside 0 to 1"),
        (lambda: multiple_choice_grade(-2, [0, 1]), "index -2"),
        (lambda: multiple_choice_grade(1.0, [0, 1]), "not an option's index"),
        (lambda: multiple_choice_grade(True, [0, 1]), "not an option's index"),
        (lambda: multiple_choice_grade(0, [math.nan, 1]), "credit nan of option 0"),
        (lambda: multiple_choice_grade(0, []), "not a list"),
        (lambda: expected_grade([1.0, 2.0], [1]), "2 scores and 1 credits"),
        (lambda: chance_level(None), "not a list"),
        (lambda: right_options([0, 0]), "no option is worth anything"),
        (lambda: choice_confusion([0], []), "1 choices and credits of 0 rows"),
        (lambda: choice_confusion([], []), "no rows"),
        (lambda: choice_confusion([0, 5], [[1, 0], [1, 0]]), "row 2: the option index 5"),
        (lambda: ChoiceFigures.of([], []), "no rows"),
        (lambda: ChoiceFigures.of([[1.0]], []), "scores of 1 rows and credits of 0"),
        (lambda: ChoiceFigures.of([[1.0], [math.nan]], [[1], [1]]), "row 2: the score nan"),
        (lambda: ChoiceFigures.of([[1.0], [2.0, 1.0]], [[1], [1]]), "row 2: there are 2 scores and 1 credits"),
        (lambda: ChoiceFigures.of([[1.0], [2.0, 1.0]], [[1], [0, 0]]), "row 2: no option is worth anything"),
    ],
)
def test_bad_input_is_a_data_error(call, message):
    with pytest.raises(DataError, match=message):
        call()
