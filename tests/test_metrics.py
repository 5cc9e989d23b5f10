"""Metrics against independent computations: scikit-learn, scipy, exact sums and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import accuracy_score, brier_score_loss, confusion_matrix, f1_score

from obverse.errors import DataError
from obverse.metrics.classification import (
    ABSTAINED,
    Tally,
    accuracy,
    brier_score,
    confusion_counts,
    expected_calibration_error,
    macro_f1,
)
from obverse.metrics.intervals import (
    Interval,
    bootstrap_from_confusion,
    mean_paired_difference,
    paired_difference,
    wilson,
)

# --- classification -----------------------------------------------------------------------------------------------


def test_confusion_counts_have_gold_rows_predicted_columns_and_abstained_last():
    counts = confusion_counts([0, 0, 1, 2, 2], [0, 1, 1, ABSTAINED, 0], classes=3)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 1]]


def test_accuracy_and_macro_f1_by_hand():
    # class 0: TP 2, FP 1, FN 1 -> 4/6; class 1: TP 1, FP 1, FN 1 -> 2/4; class 2 only predicted: not in the mean
    counts = confusion_counts([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], classes=3)
    assert accuracy(counts) == pytest.approx(3 / 5)
    assert macro_f1(counts) == pytest.approx((4 / 6 + 2 / 4) / 2)


@pytest.mark.parametrize("seed", range(8))
def test_accuracy_macro_f1_and_counts_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 9))
    # some classes never stand in gold, some are never predicted, some instances have no prediction
    gold = rng.integers(0, max(1, classes - seed % 3), size=60)
    predicted = np.where(rng.random(60) < 0.5, gold, rng.integers(-1, classes, size=60))
    counts = confusion_counts(gold, predicted, classes=classes)
    labels = np.unique(gold)
    assert macro_f1(counts) == pytest.approx(
        f1_score(gold, predicted, average="macro", labels=labels, zero_division=0), abs=1e-12
    )
    assert accuracy(counts) == pytest.approx(accuracy_score(gold, predicted), abs=1e-12)
    theirs = confusion_matrix(gold, np.where(predicted < 0, classes, predicted), labels=range(classes + 1))
    assert counts.tolist() == theirs[:classes].tolist()


def test_measures_take_leading_axes():
    one = confusion_counts([0, 0, 1], [0, 1, 1], classes=2)
    two = confusion_counts([0, 1, 1], [0, 1, 1], classes=2)
    both = np.stack([one, two])
    assert accuracy(both).tolist() == pytest.approx([2 / 3, 1.0])
    assert macro_f1(both).tolist() == pytest.approx([2 / 3, 1.0])


def test_calibration_error_by_hand():
    # two bins: (0, 0.5] holds 0.5 right and 0.3 wrong: |1 - 0.8|; (0.5, 1] holds 0.9 and 0.7, both right: |2 - 1.6|
    assert expected_calibration_error([0.5, 0.3, 0.9, 0.7], [True, False, True, True], bins=2) == pytest.approx(0.6 / 4)
    # confident and right is perfect, confident and wrong is the worst
    assert expected_calibration_error([1.0, 1.0], [True, True]) == 0.0
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1.0


def test_calibration_error_equals_a_plain_loop():
    rng = np.random.default_rng(3)
    confidence, correct = rng.random(500), rng.random(500) < 0.6
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-12)


def test_brier_score_by_hand_and_against_scikit_learn():
    assert brier_score([[0.8, 0.2], [0.4, 0.6]], [0, 0]) == pytest.approx((0.04 + 0.04 + 0.36 + 0.36) / 2)
    rng = np.random.default_rng(0)
    table = rng.dirichlet([1, 2, 3, 1], size=80)
    gold = rng.integers(0, 4, size=80)
    theirs = brier_score_loss(gold, table, labels=[0, 1, 2, 3], scale_by_half=False)
    assert brier_score(table, gold) == pytest.approx(theirs, abs=1e-12)


def test_tally_agrees_with_the_functions_on_whole_arrays():
    rng = np.random.default_rng(1)
    table = rng.dirichlet([1, 1, 1], size=300)
    predicted, confidence = table.argmax(1), table.max(1)
    gold = np.where(rng.random(300) < 0.7, predicted, rng.integers(0, 3, size=300))
    abstained = confidence < 0.5
    tally = Tally(3)
    for i in range(300):
        tally.add(int(gold[i]), None if abstained[i] else int(predicted[i]), float(confidence[i]), table[i])
    with_gaps = np.where(abstained, ABSTAINED, predicted)
    assert tally.rows == tally.labelled == 300
    assert tally.abstained == abstained.sum() > 0
    assert tally.confusion.tolist() == confusion_counts(gold, with_gaps, classes=3).tolist()
    assert tally.counts.tolist() == np.bincount(with_gaps[~abstained], minlength=3).tolist()
    assert tally.mean_confidence == pytest.approx(confidence.mean())
    assert tally.mean_confidences == pytest.approx([confidence[with_gaps == k].mean() for k in range(3)])
    right = (gold == predicted)[~abstained]
    assert tally.expected_calibration_error == pytest.approx(expected_calibration_error(confidence[~abstained], right))
    assert tally.brier_score == pytest.approx(brier_score(table, gold))
    assert tally.histogram.sum() == 300 and tally.bin_rows.sum() == (~abstained).sum()


def test_tally_keeps_unlabelled_and_unscored_rows_apart():
    tally = Tally(2)
    tally.add(None, 0, 0.9, [0.9, 0.1])
    tally.add(1, None)
    assert (tally.rows, tally.labelled, tally.abstained) == (2, 1, 1)
    assert tally.confusion.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert tally.mean_confidence == pytest.approx(0.9)
    assert tally.mean_confidences == (pytest.approx(0.9), None)
    assert tally.expected_calibration_error is None and tally.brier_score is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: confusion_counts([0, 1], [0]),
        lambda: confusion_counts([0, 2], [0, 1], classes=2),
        lambda: confusion_counts([0, -1], [0, 1]),
        lambda: accuracy(np.zeros((2, 3))),
        lambda: macro_f1([0, 1]),
        lambda: expected_calibration_error([], []),
        lambda: expected_calibration_error([1.5], [True]),
        lambda: brier_score([[0.5, 0.5]], [2]),
        lambda: Tally(2).add(2, 0, 0.5),
        lambda: Tally(2).add(0, 0, float("nan")),
        lambda: Tally(2).add(0, 0, 0.5, [1.0]),
        lambda: wilson(3, 2),
        lambda: wilson(1, 2, confidence=95),
        lambda: bootstrap_from_confusion(np.zeros((2, 3)), accuracy),
        lambda: paired_difference([0, 1], [0, 1], [0], accuracy),
        lambda: paired_difference([], [], [], accuracy),
        lambda: paired_difference([0, -1], [0, 1], [0, 1], accuracy),
        lambda: mean_paired_difference([], accuracy),
    ],
)
def test_bad_input_is_a_data_error(call):
    with pytest.raises(DataError):
        call()


# --- intervals ----------------------------------------------------------------------------------------------------


def test_wilson_by_hand():
    # z = 1.959964: 40 right of 46 (86.96 %) is roughly 74 to 94 %
    assert wilson(40, 46) == pytest.approx((0.74330, 0.93880), abs=1e-4)
    assert wilson(0, 0) == Interval(0.0, 1.0)
    assert wilson(0, 7).low == 0.0 and wilson(7, 7).high == 1.0


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (861, 1000), (499_999, 1_000_000)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_wilson_equals_scipy(k, n, confidence):
    theirs = binomtest(k, n).proportion_ci(confidence_level=confidence, method="wilson")
    assert wilson(k, n, confidence=confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_covers_at_its_level():
    # exact: the probability, under Binomial(n, p), that the interval holds p, averaged over p
    n = 50
    intervals = [wilson(k, n) for k in range(n + 1)]
    coverage = [
        sum(binom.pmf(k, n, p) for k, (low, high) in enumerate(intervals) if low <= p <= high)
        for p in np.linspace(0.05, 0.95, 37)
    ]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert min(coverage) > 0.90


def test_bootstrap_of_an_accuracy_has_binomial_quantiles():
    # resampled accuracy is Binomial(n, p) / n, whose quantiles are known
    counts = np.array([[450, 50, 0], [100, 390, 10]])
    low, high = bootstrap_from_confusion(counts, accuracy, resamples=20_000)
    assert low == pytest.approx(binom.ppf(0.025, 1000, 0.84) / 1000, abs=0.0016)
    assert high == pytest.approx(binom.ppf(0.975, 1000, 0.84) / 1000, abs=0.0016)


def test_bootstrap_is_a_function_of_its_seed():
    counts = np.array([[30, 10, 0], [5, 40, 2]])
    assert bootstrap_from_confusion(counts, macro_f1, seed=4) == bootstrap_from_confusion(counts, macro_f1, seed=4)
    assert bootstrap_from_confusion(counts, macro_f1, seed=4) != bootstrap_from_confusion(counts, macro_f1, seed=5)


def test_bootstrap_of_a_table_in_one_cell_is_a_point():
    assert bootstrap_from_confusion([[7, 0, 0], [0, 0, 0]], macro_f1) == Interval(1.0, 1.0)


def test_bootstrap_of_macro_f1_covers_at_its_level():
    truth = np.array([[0.42, 0.06, 0.02], [0.05, 0.20, 0.05], [0.03, 0.04, 0.13]])
    expected = float(macro_f1(np.round(truth * 10_000).astype(int)))
    rng = np.random.default_rng(11)
    held = 0
    for i in range(300):
        table = rng.multinomial(400, truth.ravel()).reshape(3, 3)
        low, high = bootstrap_from_confusion(table, macro_f1, resamples=300, seed=i)
        held += low <= expected <= high
    assert 0.90 < held / 300 < 0.99  # 0.95 within four standard errors, less the small-sample bias


def _direct_bootstrap(gold, a, b, resamples, rng):
    """The textbook way, instance by instance, with scikit-learn's score."""
    labels_of = np.unique
    out = []
    for _ in range(resamples):
        i = rng.integers(0, len(gold), size=len(gold))
        scores = [f1_score(gold[i], x[i], average="macro", labels=labels_of(gold[i]), zero_division=0) for x in (a, b)]
        out.append(scores[0] - scores[1])
    return np.array(out)


def _two_systems(seed, n=120, classes=3):
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, classes, size=n)
    a = np.where(rng.random(n) < 0.75, gold, rng.integers(0, classes, size=n))
    b = np.where(rng.random(n) < 0.60, gold, rng.integers(ABSTAINED, classes, size=n))
    return gold, a, b


def test_paired_difference_equals_resampling_instance_by_instance():
    gold, a, b = _two_systems(2)
    ours = paired_difference(gold, a, b, macro_f1, resamples=4000)
    drawn = _direct_bootstrap(gold, a, b, 500, np.random.default_rng(0))
    exact = f1_score(gold, a, average="macro") - f1_score(gold, b, average="macro", labels=[0, 1, 2], zero_division=0)
    assert ours.difference == pytest.approx(exact, abs=1e-12)
    assert ours.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=4 * drawn.std() / np.sqrt(500) * 2.5)


def test_paired_accuracy_difference_has_the_known_standard_error():
    # 60 only A right, 40 only B right, 100 both, 0 neither of 200: mean 0.1, variance ((60 + 40) / 200 - 0.01) / 200
    gold = np.zeros(200, dtype=int)
    a = np.array([0] * 60 + [1] * 40 + [0] * 100)
    b = np.array([1] * 60 + [0] * 40 + [0] * 100)
    difference, (low, high), p = paired_difference(gold, a, b, accuracy, resamples=20_000)
    error = np.sqrt((0.5 - 0.01) / 200)
    assert difference == pytest.approx(0.1)
    assert (low, high) == pytest.approx((0.1 - 1.96 * error, 0.1 + 1.96 * error), abs=0.007)
    assert p == pytest.approx(0.0430, abs=0.008)  # two-sided normal tail at 0.1 / error = 2.020, plus a little for ties


def test_equal_systems_do_not_differ():
    gold, a, _ = _two_systems(5)
    result = paired_difference(gold, a, a, macro_f1)
    assert result == (0.0, Interval(0.0, 0.0), 1.0)


def test_a_far_better_system_has_the_smallest_possible_p():
    gold = np.arange(100) % 2
    result = paired_difference(gold, gold, 1 - gold, accuracy, resamples=999)
    assert result.difference == 1.0
    assert result.p_value == pytest.approx(2 / 1000)


def test_swapping_the_systems_turns_the_sign():
    gold, a, b = _two_systems(7)
    one, other = paired_difference(gold, a, b, macro_f1), paired_difference(gold, b, a, macro_f1)
    assert one.difference == pytest.approx(-other.difference)
    assert one.interval == pytest.approx((-other.interval.high, -other.interval.low), abs=0.01)


def test_false_alarms_come_at_the_level():
    # two systems of equal worth: p < 0.05 in about 5 % of the experiments
    rng = np.random.default_rng(0)
    alarms = 0
    for i in range(400):
        gold = rng.integers(0, 2, size=150)
        a, b = (np.where(rng.random(150) < 0.8, gold, 1 - gold) for _ in range(2))
        alarms += paired_difference(gold, a, b, accuracy, resamples=400, seed=i).p_value < 0.05
    assert 0.01 < alarms / 400 < 0.095


def test_mean_over_sets_is_the_mean_of_the_differences_with_independent_errors():
    # sets of the known-error kind above: the error of a mean of two independent differences is halved in variance
    gold = np.zeros(200, dtype=int)
    a = np.array([0] * 60 + [1] * 40 + [0] * 100)
    b = np.array([1] * 60 + [0] * 40 + [0] * 100)
    none = (np.zeros(100, dtype=int), np.array([0, 1] * 50), np.array([0, 1] * 50))
    difference, (low, high), _ = mean_paired_difference([(gold, a, b), none], accuracy, resamples=20_000)
    error = np.sqrt((0.5 - 0.01) / 200) / 2
    assert difference == pytest.approx(0.05)
    assert (low, high) == pytest.approx((0.05 - 1.96 * error, 0.05 + 1.96 * error), abs=0.004)
    twice = mean_paired_difference([(gold, a, b), (gold, a, b)], accuracy, resamples=20_000)
    assert twice.interval.high - twice.interval.low == pytest.approx(2 * 1.96 * np.sqrt(0.49 / 200 / 2), abs=0.006)


def test_wordings_of_one_set_are_drawn_together():
    # the same answers under three wordings are no more evidence than under one
    gold = np.zeros(200, dtype=int)
    a = np.array([0] * 60 + [1] * 40 + [0] * 100)
    b = np.array([1] * 60 + [0] * 40 + [0] * 100)
    one = paired_difference(gold, a, b, accuracy)
    three = paired_difference(gold, np.stack([a] * 3), np.stack([b] * 3), accuracy)
    assert three.difference == pytest.approx(one.difference)
    assert three.interval == pytest.approx(one.interval)
    assert three.p_value == one.p_value


def test_every_pair_of_set_and_wording_weighs_the_same():
    gold = np.zeros(10, dtype=int)
    right, wrong = np.zeros(10, dtype=int), np.ones(10, dtype=int)
    sets = [(gold, np.stack([right, right, right]), np.stack([wrong, wrong, right])), (gold, right, right)]
    assert mean_paired_difference(sets, accuracy, resamples=50).difference == pytest.approx(2 / 4)


def test_blocks_change_nothing(monkeypatch):
    gold, a, b = _two_systems(9)
    counts = confusion_counts(gold, b, classes=3)
    whole = paired_difference(gold, a, b, macro_f1, resamples=200), bootstrap_from_confusion(counts, macro_f1)
    monkeypatch.setattr("obverse.metrics.intervals._BLOCK_CELLS", 300)
    parts = paired_difference(gold, a, b, macro_f1, resamples=200), bootstrap_from_confusion(counts, macro_f1)
    assert whole == parts


def test_many_classes_are_quick_enough_to_be_a_default():
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.3, size=(77, 78)) + np.pad(np.eye(77, dtype=int) * 30, ((0, 0), (0, 1)))
    low, high = bootstrap_from_confusion(counts, macro_f1)
    assert low < float(macro_f1(counts)) < high
