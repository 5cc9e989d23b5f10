"""Intervals and tests: one proportion, a statistic of confusion counts, a difference between two systems.

===========================  ============================================================================
question                     answer
===========================  ============================================================================
how sure is an accuracy      `wilson`
how sure is a macro-F1       `bootstrap_from_confusion`
is A better than B           `paired_difference`, on the same instances
... over several data sets   `mean_paired_difference`, the sets (and wordings) held fixed
===========================  ============================================================================

All bootstraps work on counts. Resampling N instances with replacement gives each distinct kind of instance (gold
option, predictions) a multinomial number of copies, so drawing those numbers is the same experiment as drawing the
instances, in memory that depends on the number of kinds. A statistic is a function from confusion counts
(..., K, K + 1) to (...), as `accuracy` and `macro_f1` are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obverse.errors import DataError
from obverse.metrics.classification import ABSTAINED

# Axes: N instances, W wordings, T distinct kinds of instances, R resamples.

Statistic = Callable[[NDArray[Any]], NDArray[np.float64]]

_BLOCK_CELLS = 4_000_000
"""Resamples are drawn in blocks of about this many numbers, which bounds memory to some tens of MB."""


class Interval(NamedTuple):
    """From `low` to `high`, both included."""

    low: float
    high: float


class PairedDifference(NamedTuple):
    """Statistic of A minus statistic of B: its value, its interval, and the two-sided p-value of "no difference"."""

    difference: float
    interval: Interval
    p_value: float


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion: (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Here p = successes / n and z is the normal quantile of (1 + confidence) / 2; no continuity correction. It never
    leaves [0, 1] and holds its level for small n, which p +- z sqrt(p (1 - p) / n) does not. Equivalents:
    `scipy.stats.binomtest(...).proportion_ci(method="wilson")`, `statsmodels` `proportion_confint(method="wilson")`.
    Source: Wilson 1927, JASA 22; Brown, Cai and DasGupta 2001.

    With n = 0 nothing is known: 0 to 1.

    Raises:
        DataError: not 0 <= successes <= n, or confidence outside (0, 1).
    """
    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise DataError(f"{successes} successes out of {n} is not a proportion")
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # at the ends the formula gives exactly 0 and 1, up to rounding
    return Interval(
        0.0 if successes == 0 else max(0.0, centre - half), 1.0 if successes == n else min(1.0, centre + half)
    )


def bootstrap_from_confusion(
    confusion: ArrayLike,
    statistic: Statistic,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """The percentile bootstrap interval of a statistic: quantiles of statistic(M), M ~ Multinomial(N, counts / N).

    Equivalent to resampling the N instances with replacement (`scipy.stats.bootstrap(method="percentile")`), in
    memory that does not depend on N. Source: Efron and Tibshirani 1993, chapter 13. A table whose cells all lie in
    one place has no spread, and the interval is a point: for an accuracy use `wilson`.

    Args:
        confusion: counts (K, K + 1).
        statistic: from counts (R, K, K + 1) to values (R,).
        resamples: how many tables are drawn.
        seed: the same seed gives the same interval.
        confidence: the share of resampled values inside.

    Raises:
        DataError: the table is empty.
    """
    _check_confidence(confidence)
    counts = np.asarray(confusion, dtype=np.int64)
    total = int(counts.sum())
    if total == 0:
        raise DataError("there are no labelled instances to measure on")
    flat = counts.ravel()
    cells = np.flatnonzero(flat)
    rng = np.random.default_rng(seed)
    values = []
    for block in _blocks(resamples, flat.size):
        drawn = np.zeros((block, flat.size), dtype=np.int64)
        drawn[:, cells] = rng.multinomial(total, flat[cells] / total, size=block)
        values.append(statistic(drawn.reshape(block, *counts.shape)))
    return _percentiles(np.concatenate(values), confidence)


def paired_difference(
    gold: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    statistic: Statistic,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> PairedDifference:
    """The paired bootstrap: resample instances, each with its gold and both predictions, and compare A and B on them.

    p = 2 min(share of resampled differences <= 0, share >= 0), each share (1 + count) / (1 + resamples), at most 1;
    it inverts the percentile interval, so p < 0.05 where the 95 % interval leaves out 0. Sources: Efron and
    Tibshirani 1993, chapters 13 and 15; for language processing Koehn 2004 and Berg-Kirkpatrick et al. 2012.

    Args:
        gold: option indices (N,), or (W, N) where several wordings are judged on the same instances.
        a, b: the two systems' predictions, (N,) or (W, N), `ABSTAINED` for none. With W wordings the difference is
            the mean over wordings, and an instance is drawn with all its wordings.
        statistic: from counts (..., K, K + 1) to values (...).
        resamples: how many times instances are redrawn.
        seed: the same seed gives the same answer.
        confidence: of the interval.

    Raises:
        DataError: no instances, lengths that differ, or an index out of range.
    """
    return mean_paired_difference([(gold, a, b)], statistic, resamples=resamples, seed=seed, confidence=confidence)


def mean_paired_difference(
    sets: Sequence[tuple[ArrayLike, ArrayLike, ArrayLike]],
    statistic: Statistic,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> PairedDifference:
    """As `paired_difference`, for the mean of the differences over all (data set, wording) pairs.

    Stratified: instances are resampled inside each set, independently between sets, and each set keeps its size.
    The sets and wordings themselves are held fixed: the answer speaks about new instances of these tasks, not about
    new tasks.

    Args:
        sets: for each data set (gold, a, b) as in `paired_difference`; numbers of options and wordings may differ.
            Every (set, wording) pair weighs the same.
        statistic, resamples, seed, confidence: as in `paired_difference`.

    Raises:
        DataError: no sets, no instances, lengths that differ, or an index out of range.
    """
    _check_confidence(confidence)
    if not sets:
        raise DataError("there are no data sets to compare on")
    observed, pairs = 0.0, 0
    drawn = np.zeros(resamples)
    # One stream a set: adding a set changes no other set's draws.
    for (gold, a, b), seeds in zip(sets, np.random.SeedSequence(seed).spawn(len(sets)), strict=True):
        gold_WN, a_WN, b_WN = _wordings(gold, a, b)
        wordings, n = a_WN.shape
        classes = 1 + int(max(gold_WN.max(), a_WN.max(), b_WN.max()))
        columns, counts = np.unique(np.concatenate([gold_WN, a_WN, b_WN]), axis=1, return_counts=True)
        kinds_3WT = columns.reshape(3, wordings, -1)
        observed += float(_total_difference(counts[None], kinds_3WT, classes, statistic)[0])
        pairs += wordings
        rng = np.random.default_rng(seeds)
        start = 0
        for block in _blocks(resamples, max(counts.size, classes * (classes + 1))):
            drawn[start : start + block] += _total_difference(
                rng.multinomial(n, counts / n, size=block), kinds_3WT, classes, statistic
            )
            start += block
    drawn /= pairs
    # Sums of many terms leave rounding noise where the truth is exactly no difference.
    drawn[np.abs(drawn) < 1e-12] = 0.0
    below, above = (1 + np.sum(drawn <= 0)) / (1 + resamples), (1 + np.sum(drawn >= 0)) / (1 + resamples)
    return PairedDifference(observed / pairs, _percentiles(drawn, confidence), float(min(1.0, 2 * min(below, above))))


def _wordings(gold: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.int64], ...]:
    """The three as arrays of one shape (W, N)."""
    arrays = [np.atleast_2d(np.asarray(x, dtype=np.int64)) for x in (gold, a, b)]
    shapes = [x.shape for x in arrays]
    fits = shapes[0] in (shapes[1], (1, shapes[1][-1])) and shapes[1] == shapes[2] and len(shapes[1]) == 2
    if not fits:
        raise DataError(
            f"gold, a and b have shapes {shapes[0]}, {shapes[1]} and {shapes[2]}",
            mend="Give all three for the same instances in the same order.",
        )
    if not arrays[0].size:
        raise DataError("there are no labelled instances to measure on")
    if arrays[0].min() < 0 or min(arrays[1].min(), arrays[2].min()) < ABSTAINED:
        raise DataError("an option index is negative", mend="Gold counts from 0; no prediction is -1.")
    return np.broadcast_to(arrays[0], shapes[1]), arrays[1], arrays[2]


def _total_difference(
    weights_RT: NDArray[np.int64], kinds_3WT: NDArray[np.int64], classes: int, statistic: Statistic
) -> NDArray[np.float64]:
    """Statistic of A minus statistic of B, summed over wordings (R,), with weights[r, t] copies of each kind."""
    total = np.zeros(len(weights_RT))
    for gold_T, a_T, b_T in zip(*kinds_3WT, strict=True):
        total += statistic(_weighted_counts(weights_RT, gold_T, a_T, classes))
        total -= statistic(_weighted_counts(weights_RT, gold_T, b_T, classes))
    return total


def _weighted_counts(
    weights_RT: NDArray[np.int64], gold_T: NDArray[np.int64], predicted_T: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Confusion counts (R, K, K + 1) of T kinds of instances, the t-th of which occurs weights[r, t] times."""
    cell_T = gold_T * (classes + 1) + np.where(predicted_T == ABSTAINED, classes, predicted_T)
    cells, index_T = np.unique(cell_T, return_inverse=True)
    membership = np.zeros((len(cell_T), len(cells)))
    membership[np.arange(len(cell_T)), index_T] = 1
    counts = np.zeros((len(weights_RT), classes * (classes + 1)))
    counts[:, cells] = weights_RT @ membership  # whole numbers below 2^53: exact
    return counts.reshape(len(weights_RT), classes, classes + 1)


def _blocks(resamples: int, cells: int) -> Iterator[int]:
    size = max(1, _BLOCK_CELLS // max(1, cells))
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _percentiles(values: NDArray[np.float64], confidence: float) -> Interval:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise DataError(f"the confidence {confidence} must lie between 0 and 1", mend="Write 0.95 for 95 %.")
