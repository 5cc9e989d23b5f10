"""Comparisons: against scipy and statsmodels, by hand, and by simulated coverage."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2, ttest_rel

from obverse.errors import DataError
from obverse.metrics import intervals
from obverse.metrics.comparisons import (
    McNemar,
    Spread,
    cluster_bootstrap,
    clustered_difference,
    holm,
    mcnemar,
)
from obverse.metrics.intervals import Interval

# --- mcnemar ------------------------------------------------------------------------------------------------------


def _outcomes(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


def test_mcnemar_by_hand():
    # exact: 2 (C(6,0) + C(6,1)) / 2^6 = 14 / 64
    assert mcnemar(*_outcomes(4, 5, 1, 2)) == McNemar(1.0, 14 / 64, 5, 1)
    # chi-square: (|20 - 10| - 1)^2 / 30 = 2.7, whose tail with one degree of freedom is 0.1003
    result = mcnemar(*_outcomes(0, 20, 10, 7))
    assert (result.statistic, result.only_a, result.only_b) == (2.7, 20, 10)
    assert result.p_value == pytest.approx(0.10035, abs=1e-5)
    # no disagreement is no evidence, and neither is an even split
    assert mcnemar(*_outcomes(3, 0, 0, 3)).p_value == 1.0
    assert mcnemar(*_outcomes(0, 7, 7, 0)).p_value == 1.0
    assert mcnemar(*_outcomes(0, 30, 30, 0)) == McNemar(0.0, 1.0, 30, 30)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (0, 12), (12, 12), (23, 1), (11, 13), (24, 0)])
def test_mcnemar_is_exact_below_25_discordant_pairs(only_a, only_b):
    ours = mcnemar(*_outcomes(3, only_a, only_b, 4))
    assert ours.p_value == pytest.approx(binomtest(only_a, only_a + only_b, 0.5).pvalue, abs=1e-12)
    assert ours.statistic == min(only_a, only_b)


@pytest.mark.parametrize(("only_a", "only_b"), [(24, 1), (13, 12), (12, 14), (300, 200), (0, 25), (0, 2000)])
def test_mcnemar_is_chi_square_from_25_on(only_a, only_b):
    ours = mcnemar(*_outcomes(3, only_a, only_b, 4))
    statistic = (abs(only_a - only_b) - 1) ** 2 / (only_a + only_b)
    assert ours.statistic == pytest.approx(statistic, rel=1e-12)
    assert ours.p_value == pytest.approx(chi2.sf(statistic, 1), rel=1e-9, abs=0)


def test_mcnemar_and_holm_equal_statsmodels():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other libraries warn of while loading is not ours
        tables = pytest.importorskip("statsmodels.stats.contingency_tables")
        multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        both, only_a, only_b, neither = (int(x) for x in rng.integers(0, 40, size=4))
        only_b += only_a == only_b
        exact = only_a + only_b < 25
        theirs = tables.mcnemar([[both, only_a], [only_b, neither]], exact=exact, correction=True)
        ours = mcnemar(*_outcomes(both, only_a, only_b, neither))
        assert ours.statistic == pytest.approx(theirs.statistic, abs=1e-12)
        assert ours.p_value == pytest.approx(theirs.pvalue, abs=1e-12)
        kinds.add(exact)
    assert kinds == {True, False}
    for size in (1, 2, 5, 40):
        p = np.round(rng.random(size) ** 3, 2)  # rounded, so that some are equal
        assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1], abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80), st.randoms())
@settings(deadline=None)
def test_mcnemar_does_not_care_for_order_or_names(pairs, random):
    one = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
    random.shuffle(pairs)
    assert mcnemar([int(a) for a, _ in pairs], [int(b) for _, b in pairs]) == one
    other = mcnemar([b for _, b in pairs], [a for a, _ in pairs])
    assert (other.statistic, other.p_value) == (one.statistic, one.p_value)
    assert (other.only_a, other.only_b) == (one.only_b, one.only_a)
    assert 0 < one.p_value <= 1


# --- holm ---------------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    # sorted .01 .02 .03 .04: times 4 3 2 1 is .04 .06 .06 .04, the running maximum of which is .04 .06 .06 .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm([0.5, 0.9]) == (1.0, 1.0)
    assert holm([0.2]) == (0.2,)
    assert holm([]) == ()
    assert holm(np.array([0.0, 1.0])) == (0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms())
@settings(deadline=None)
def test_holm_lies_between_the_p_value_and_bonferroni_and_keeps_the_order(p, random):
    adjusted = holm(p)
    assert all(x <= y <= min(1.0, x * len(p)) + 1e-15 for x, y in zip(p, adjusted, strict=True))
    by_p = [y for _, y in sorted(zip(p, adjusted, strict=True))]
    assert by_p == sorted(by_p)
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[i] for i in order]) == tuple(adjusted[i] for i in order)


# --- cluster bootstrap --------------------------------------------------------------------------------------------


def _templates_by_rows(templates: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(templates), rows), np.tile(np.arange(rows), templates)


def test_a_mean_of_single_values_has_the_t_interval():
    # one value a cluster is a plain sample: the interval is that of Student's t
    values = np.random.default_rng(0).normal(size=30)
    theirs = ttest_rel(values, np.zeros(30))
    ours = cluster_bootstrap(values, range(30), resamples=40_000)
    assert ours == pytest.approx(theirs.confidence_interval(0.95), abs=0.02)
    narrow = cluster_bootstrap(values, range(30), resamples=40_000, confidence=0.5)
    assert narrow == pytest.approx(theirs.confidence_interval(0.5), abs=0.01)
    difference = clustered_difference(values + 1, np.ones(30), range(30), resamples=40_000)
    assert difference.difference == pytest.approx(values.mean())
    assert difference.interval == pytest.approx(ours)
    assert difference.p_value == pytest.approx(theirs.pvalue, abs=0.02)


def test_copies_under_one_cluster_are_no_new_evidence():
    values = np.random.default_rng(1).normal(size=20)
    once = cluster_bootstrap(values, range(20), seed=5)
    many = cluster_bootstrap(np.repeat(values, 7), np.repeat(np.arange(20), 7), seed=5)
    assert many == pytest.approx(once, abs=1e-12)
    # with the rows as clusters, the same answers under seven templates are as good as under one
    assert cluster_bootstrap(np.tile(values, 7), list(range(20)) * 7, seed=5) == pytest.approx(once, abs=1e-12)


def test_sharing_rows_and_templates_equals_a_loop_of_copies():
    # the mean by matrices and the mean as a statistic of written-out samples, cells missing and doubled
    templates, rows = _templates_by_rows(4, 9)
    rng = np.random.default_rng(2)
    kept = np.sort(rng.choice(36, size=40))
    values, templates, rows = rng.normal(size=36)[kept], templates[kept], rows[kept]
    for shared in (None, rows):
        quick = cluster_bootstrap(values, templates, rows=shared, resamples=300, seed=3)
        slow = cluster_bootstrap(values, templates, rows=shared, resamples=300, seed=3, statistic=np.mean)
        assert quick == pytest.approx(slow, abs=1e-12)
        median = cluster_bootstrap(values, templates, rows=shared, resamples=300, seed=3, statistic=np.median)
        assert median.low < np.median(values) < median.high
        assert median != pytest.approx(quick, abs=1e-3)


def test_drawn_copies_are_drawn_by_cluster():
    # the statistic sees each cluster whole: values are tagged 10 * cluster + place
    values = [0.0, 1.0, 2.0, 10.0, 11.0, 20.0]
    sizes = {0: 3, 1: 2, 2: 1}
    seen = []

    def look(sample):
        tags, counts = np.unique(sample, return_counts=True)
        copies = {int(t // 10): set(counts[tags // 10 == t // 10].tolist()) for t in tags}
        assert all(len(each) == 1 for each in copies.values())
        assert all((tags // 10 == c).sum() == sizes[c] for c in copies)
        assert sum(each.pop() for each in copies.values()) == 3
        seen.append(len(sample))
        return 0.0

    cluster_bootstrap(values, ["x", "x", "x", "y", "y", "z"], statistic=look, resamples=200)
    assert len(seen) == 200 and min(seen) == 3 and max(seen) == 9


@given(st.integers(0, 10**6), st.floats(-5, 5), st.floats(0.1, 5))
@settings(deadline=None, max_examples=25)
def test_intervals_move_with_the_values_and_do_not_read_names(seed, shift, scale):
    templates, rows = _templates_by_rows(5, 8)
    values = np.random.default_rng(seed).normal(size=40)
    one = cluster_bootstrap(values, templates, rows=rows, resamples=100, seed=seed)
    names, row_names = [f"template {t}" for t in templates], [("r", int(r)) for r in rows]
    moved = cluster_bootstrap(shift + scale * values, names, rows=row_names, resamples=100, seed=seed)
    assert moved == pytest.approx([shift + scale * end for end in one], abs=1e-9)
    assert one.low <= one.high


def test_names_that_look_alike_stay_apart():
    assert cluster_bootstrap([0, 0, 1, 1], [1, 1, "1", "1"]) == Interval(0.0, 1.0)


def test_the_seed_decides_and_blocks_do_not(monkeypatch):
    templates, rows = _templates_by_rows(6, 20)
    values = np.random.default_rng(4).normal(size=120)
    one = cluster_bootstrap(values, templates, rows=rows, seed=1)
    assert one == cluster_bootstrap(values, templates, rows=rows, seed=1)
    assert one != cluster_bootstrap(values, templates, rows=rows, seed=2)
    monkeypatch.setattr(intervals, "_BLOCK_CELLS", 500)
    assert one == pytest.approx(cluster_bootstrap(values, templates, rows=rows, seed=1), abs=1e-12)


def test_equal_systems_do_not_differ_and_a_far_better_one_does():
    templates, rows = _templates_by_rows(6, 20)
    a = np.random.default_rng(0).random(120)
    assert clustered_difference(a, a, templates) == (0.0, Interval(0.0, 0.0), 1.0)
    better = clustered_difference(a, a - 0.1, templates, rows=rows)
    assert better.difference == pytest.approx(0.1) and better.interval.low > 0
    assert 0 < better.p_value < 0.05
    worse = clustered_difference(a - 0.1, a, templates, rows=rows)
    assert worse.difference == pytest.approx(-0.1) and worse.p_value == better.p_value
    # a hundred rows under two templates are still two templates: nothing can be shown of new ones
    assert clustered_difference(a, a - 0.1, [0, 1] * 60).p_value > 0.05


def test_p_is_below_the_level_where_the_interval_leaves_out_zero():
    templates, rows = _templates_by_rows(8, 15)
    seen = set()
    for seed in range(80):
        rng = np.random.default_rng(seed)
        values = rng.normal(0.25, 0.3, size=8)[templates] + rng.normal(0, 0.3, size=15)[rows] + rng.normal(size=120)
        result = clustered_difference(values, np.zeros(120), templates, rows=rows, resamples=999, seed=seed)
        if abs(result.p_value - 0.05) < 0.01:
            continue  # at the edge, quantiles are interpolated and shares are not
        left_out = not result.interval.low <= 0 <= result.interval.high
        assert left_out == (result.p_value < 0.05)
        seen.add(left_out)
    assert seen == {True, False}


# Coverage: 400 simulated data sets, of which 92.5 to 97.5 % of the 95 % intervals must hold the truth. (Of a true
# 95 %, 400 experiments leave that range once in 40.)
SIMULATED = 400


@pytest.mark.parametrize("clusters", [8, 25])
def test_cluster_intervals_hold_their_level(clusters):
    rng = np.random.default_rng(clusters)
    held = alarms = too_sure = 0
    for seed in range(SIMULATED):
        sizes = rng.integers(5, 15, size=clusters)
        names = np.repeat(np.arange(clusters), sizes)
        hard = rng.normal(0, 0.15, size=clusters)[names]
        right = (rng.random(len(names)) < 0.6 + hard).astype(float)
        low, high = cluster_bootstrap(right, names, resamples=1000, seed=seed)
        held += low <= 0.6 <= high
        other = (rng.random(len(names)) < 0.6 + rng.normal(0, 0.15, size=clusters)[names]).astype(float)
        alarms += clustered_difference(right, other, names, resamples=1000, seed=seed).p_value < 0.05
        half = 1.96 * right.std() / math.sqrt(len(right))
        too_sure += abs(right.mean() - 0.6) > half
    assert 0.925 <= held / SIMULATED <= 0.975
    assert 0.025 <= alarms / SIMULATED <= 0.075
    # the interval of independent values, for comparison, misses the truth far too often
    assert too_sure / SIMULATED > 0.1


@pytest.mark.parametrize(("template_sd", "row_sd", "noise_sd"), [(0.05, 0.3, 0.3), (0.3, 0.05, 0.3), (0.1, 0.3, 0.2)])
def test_intervals_over_shared_rows_hold_their_level(template_sd, row_sd, noise_sd):
    rng = np.random.default_rng(7)
    templates, rows = _templates_by_rows(10, 40)
    held = one_way = 0
    for seed in range(SIMULATED):
        values = rng.normal(0, template_sd, 10)[templates] + rng.normal(0, row_sd, 40)[rows]
        values += rng.normal(0, noise_sd, 400)
        low, high = cluster_bootstrap(values, templates, rows=rows, resamples=800, seed=seed)
        held += low <= 0 <= high
        low, high = cluster_bootstrap(values, templates, resamples=800, seed=seed)
        one_way += low <= 0 <= high
    assert 0.925 <= held / SIMULATED <= 0.975
    # as if each template had its own rows
    if row_sd > template_sd:
        assert one_way / SIMULATED < 0.92


# --- spread -------------------------------------------------------------------------------------------------------


def test_spread_by_hand():
    spread = Spread.of([4.0, 1.0, 2.0, 3.0, 10.0])
    assert (spread.count, spread.mean, spread.median) == (5, 4.0, 3.0)
    assert (spread.minimum, spread.maximum, spread.quartiles) == (1.0, 10.0, (2.0, 4.0))
    assert spread.sd == pytest.approx(math.sqrt((0 + 9 + 4 + 1 + 36) / 4))
    even = Spread.of([1, 2, 3, 4])
    assert (even.median, even.quartiles) == (2.5, (1.75, 3.25))
    one = Spread.of([0.5])
    assert one == Spread(1, 0.5, 0.5, 0.5, 0.5, None, (0.5, 0.5))
    assert all(type(x) is float for x in (one.mean, one.median, one.minimum, one.maximum, *one.quartiles))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20), st.randoms())
@settings(deadline=None)
def test_spread_is_in_order_and_does_not_care_for_order(values, random):
    spread = Spread.of(values)
    low, high = spread.quartiles
    assert spread.minimum <= low <= spread.median <= high <= spread.maximum
    assert spread.minimum - 1e-9 <= spread.mean <= spread.maximum + 1e-9 and spread.sd >= 0
    random.shuffle(values)
    other = Spread.of(values)
    assert (other.quartiles, other.median) == (spread.quartiles, spread.median)
    assert (other.mean, other.sd) == pytest.approx((spread.mean, spread.sd), abs=1e-9)


# --- wrong input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar([1, 0], [1]), "2 outcomes of A and 1 of B"),
        (lambda: mcnemar([], []), "no outcomes of A"),
        (lambda: mcnemar([0.5, 1], [1, 1]), "a_right holds 0.5 at place 1"),
        (lambda: mcnemar([1, 1], [1, 2]), "b_right holds 2 at place 2"),
        (lambda: mcnemar(["yes"], ["no"]), "outcomes of A are not a list of numbers"),
        (lambda: mcnemar([[1, 0]], [[1, 0]]), "shape"),
        (lambda: mcnemar([[1, 0], [1]], [1, 0]), "not a list of numbers"),
        (lambda: mcnemar(None, [1]), "not a list of numbers"),
        (lambda: holm([0.1, 1.2]), "outside 0 to 1: 1.2"),
        (lambda: holm([0.1, math.nan]), "p-values hold nan"),
        (lambda: holm(0.1), "p-values have shape"),
        (lambda: holm(["0.1"]), "not a list of numbers"),
        (lambda: cluster_bootstrap([1, 2], [0]), "2 values and 1 clusters"),
        (lambda: cluster_bootstrap([1, 2], [0, 1], rows=[1, 2, 3]), "2 values and 3 rows"),
        (lambda: cluster_bootstrap([1, 2], [0, 0]), "same of the clusters"),
        (lambda: cluster_bootstrap([1, 2], [0, 1], rows=[0, 0]), "same of the rows"),
        (lambda: cluster_bootstrap([1, 2], "ab"), "clusters are not a list"),
        (lambda: cluster_bootstrap([1, 2], 3), "clusters are not a list"),
        (lambda: cluster_bootstrap([1, 2], [[0], [1]]), "no name"),
        (lambda: cluster_bootstrap([], []), "no values"),
        (lambda: cluster_bootstrap([1, math.inf], [0, 1]), "values hold inf"),
        (lambda: cluster_bootstrap([1, None], [0, 1]), "not a list of numbers"),
        (lambda: cluster_bootstrap([1, 2], [0, 1], resamples=0), "resamples is 0"),
        (lambda: cluster_bootstrap([1, 2], [0, 1], resamples=10.0), "resamples is 10.0"),
        (lambda: cluster_bootstrap([1, 2], [0, 1], confidence=95), "between 0 and 1"),
        (lambda: clustered_difference([1, 2, 3], [1, 2], [0, 1]), "3 outcomes of A and 2 of B"),
        (lambda: clustered_difference([1, 2], [1, 2], [0, 1, 1]), "2 values and 3 clusters"),
        (lambda: Spread.of([]), "no figures"),
        (lambda: Spread.of([1, math.nan]), "figures hold nan"),
        (lambda: Spread.of(["1"]), "not a list of numbers"),
    ],
)
def test_bad_input_is_a_data_error(call, message):
    with pytest.raises(DataError, match=message):
        call()
