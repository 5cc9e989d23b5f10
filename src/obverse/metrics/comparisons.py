"""Comparisons of two systems on the same instances, and of one system over templates.

===================================================  ==============================================================
question                                             answer
===================================================  ==============================================================
are A and B right equally often                      `mcnemar`
... asked of many data sets at once                  `holm`, on the p-values
how sure is a mean over rows of several templates    `cluster_bootstrap`
is A better than B over several templates            `clustered_difference`
how far do the templates lie apart                   `Spread.of`, on one figure a template
is A better than B, the templates held fixed         `obverse.metrics.intervals.paired_difference`
===================================================  ==============================================================

Every comparison takes the outcomes of both systems on the same instances in the same order. None treats them as two
independent samples: instances are easy or hard for both, and a test that ignores it overlooks real differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obverse.errors import DataError
from obverse.metrics.intervals import Interval, PairedDifference, _blocks, _check_confidence

# Axes: N values, G clusters (templates), M rows shared among clusters, R resamples.

SampleStatistic = Callable[[NDArray[np.float64]], float]

EXACT_BELOW = 25
"""McNemar's test is exact with fewer discordant pairs than this, as textbooks have it."""


class McNemar(NamedTuple):
    """Two systems' right and wrong answers on the same instances.

    Attributes:
        statistic: the smaller of the two counts (exact), or chi-square with one degree of freedom.
        p_value: two-sided, of "each is right where the other is wrong equally often".
        only_a: how many instances A alone has right.
        only_b: how many instances B alone has right.
    """

    statistic: float
    p_value: float
    only_a: int
    only_b: int


@final
@dataclass(frozen=True, slots=True)
class Spread:
    """How figures, one a template, lie apart.

    Attributes:
        count: how many figures.
        mean, median, minimum, maximum: in the unit of the figures.
        sd: the sample's standard deviation, divided by count - 1; None for a single figure.
        quartiles: the first and the third, interpolated linearly as `numpy.quantile` does.
    """

    count: int
    mean: float
    median: float
    minimum: float
    maximum: float
    sd: float | None
    quartiles: tuple[float, float]

    @classmethod
    def of(cls, values: ArrayLike) -> Spread:
        """Summarise figures (N,).

        Raises:
            DataError: no figures, or one that is not a finite number.
        """
        figures = _numbers("figures", values)
        first, median, third = (float(q) for q in np.quantile(figures, [0.25, 0.5, 0.75]))
        return cls(
            count=figures.size,
            mean=float(figures.mean()),
            median=median,
            minimum=float(figures.min()),
            maximum=float(figures.max()),
            sd=float(figures.std(ddof=1)) if figures.size > 1 else None,
            quartiles=(first, third),
        )


def mcnemar(a_right: ArrayLike, b_right: ArrayLike) -> McNemar:
    """McNemar's test: do two systems differ in how often they are right?

    Only the instances on which they disagree count, b that A alone has right and c that B alone has. Below
    `EXACT_BELOW` of them p is that of a fair coin, min(1, 2 P(X <= min(b, c))) with X ~ Binomial(b + c, 1/2); from
    there on chi-square = (|b - c| - 1)^2 / (b + c), the 1 being the continuity correction. Equivalent:
    `statsmodels.stats.contingency_tables.mcnemar(table, exact=..., correction=True)`, except that b = c gives
    chi-square 0 and p = 1, as in R; corrected past zero it would be 1 / (b + c). Source: McNemar 1947.

    The instances must be independent: not for rows that recur under several templates (`clustered_difference`).

    Args:
        a_right, b_right: whether each system is right on each instance (N,), as booleans or 0 and 1.

    Raises:
        DataError: no instances, lengths that differ, or a value other than 0 and 1.
    """
    a, b = _pairs(a_right, b_right)
    for name, values in (("a_right", a), ("b_right", b)):
        wrong = ~np.isin(values, (0.0, 1.0))
        if wrong.any():
            at = int(np.argmax(wrong))
            raise DataError(
                f"{name} holds {values[at]:g} at place {at + 1}; an answer is right (1) or wrong (0)",
                mend="Compare graded outcomes with clustered_difference.",
            )
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    discordant = only_a + only_b
    if discordant < EXACT_BELOW:
        smaller = min(only_a, only_b)
        tail = sum(math.comb(discordant, i) for i in range(smaller + 1))
        return McNemar(float(smaller), min(1.0, 2 * tail / 2**discordant), only_a, only_b)
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / discordant
    # chi-square with one degree of freedom is a squared normal
    return McNemar(statistic, math.erfc(math.sqrt(statistic / 2)), only_a, only_b)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values adjusted for having looked at all of them: reject those below 5 % and the risk of any error is 5 %.

    The k-th smallest of m becomes the largest of (m - i + 1) p_(i) over i <= k, at most 1. It needs no independence
    and rejects whatever Bonferroni's m p does. Equivalent: `statsmodels` `multipletests(method="holm")`, R's
    `p.adjust(method="holm")`. Source: Holm 1979.

    Returns:
        One a p-value, in the order given; none for none.

    Raises:
        DataError: a p-value outside 0 to 1.
    """
    if isinstance(p_values, Sequence | np.ndarray) and not len(p_values):
        return ()
    p = _numbers("p-values", p_values)
    if p.min() < 0 or p.max() > 1:
        raise DataError(f"a p-value lies outside 0 to 1: {p[(p < 0) | (p > 1)][0]:g}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return tuple(adjusted.tolist())


def cluster_bootstrap(
    values: ArrayLike,
    clusters: Sequence[Hashable] | NDArray[np.generic],
    *,
    rows: Sequence[Hashable] | NDArray[np.generic] | None = None,
    statistic: SampleStatistic | None = None,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """The bootstrap interval of a statistic of values that come in clusters, such as rows under templates.

    Clusters are drawn with replacement, each with all its values. With `rows`, values that share a row are drawn
    together as well: clusters and rows are drawn independently, and a value counts as often as its cluster was
    drawn, times as often as its row was (Owen 2007, "The pigeonhole bootstrap"). Without that, the same rows under
    every template pass for new ones under each. To hold the templates fixed, make the rows the clusters.

    Quantiles are taken further out than at (1 -+ confidence) / 2, so that few clusters still give an interval that
    holds its level: at Phi(-+ t sqrt(G / (G - 1))), t the quantile of Student's distribution with G - 1 degrees of
    freedom, which for a mean widens the normal interval to the t interval (Hesterberg 2015, "expanded percentile").
    With `rows` the degrees of freedom are Satterthwaite's, of the variances of cluster means and row means. Even so
    two or three clusters say next to nothing, and the interval is at most the range of the resampled values.

    Args:
        values: (N,), of any cluster sizes; the mean weighs values, not clusters, equally.
        clusters: the cluster of each value (N,), by any name; at least two different ones.
        rows: the instance of each value (N,), by any name; at least two different ones. None: no row is shared.
        statistic: from a sample (n,) to a number, called once a resample; None means the mean, which is much faster.
        resamples: how many times clusters are drawn.
        seed: the same seed gives the same interval.
        confidence: how sure to be that the interval holds the truth.

    Raises:
        DataError: no values, lengths that differ, fewer than two clusters or rows, or resamples below 1.
    """
    _check_confidence(confidence)
    design = _design(values, clusters, rows)
    return design.interval(design.draw(statistic, resamples, seed), confidence)


def clustered_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable] | NDArray[np.generic],
    *,
    rows: Sequence[Hashable] | NDArray[np.generic] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> PairedDifference:
    """The mean of A minus B over paired values that come in clusters, with the interval of `cluster_bootstrap`.

    The p-value inverts the interval: below 0.05 where the 95 % interval leaves out 0. No p-value is smaller than
    what all of `resamples` draws on one side of 0 can show.

    Args:
        a, b: the two systems' outcomes on the same instances under the same templates (N,): right or wrong, grades,
            ROUGE-L.
        clusters, rows, resamples, seed, confidence: as in `cluster_bootstrap`.

    Raises:
        DataError: as `cluster_bootstrap`, or a and b differ in length.
    """
    _check_confidence(confidence)
    first, second = _pairs(a, b)
    design = _design(first - second, clusters, rows)
    drawn = design.draw(None, resamples, seed)
    # Sums of many terms leave rounding noise where the truth is exactly no difference.
    drawn[np.abs(drawn) < 1e-12] = 0.0
    return PairedDifference(float(design.values.mean()), design.interval(drawn, confidence), design.p_value(drawn))


@final
@dataclass(frozen=True, slots=True)
class _Design:
    """Values, the cluster of each and, where rows are shared, the row of each.

    Attributes:
        values: (N,).
        cluster: index of each value's cluster (N,), from 0 to clusters - 1.
        row: index of each value's row (N,), or None.
        degrees: of freedom of the mean's standard error.
        widening: the factor by which a bootstrap of so few clusters shows too small a standard error.
    """

    values: NDArray[np.float64]
    cluster: NDArray[np.int64]
    row: NDArray[np.int64] | None
    degrees: float
    widening: float

    def draw(self, statistic: SampleStatistic | None, resamples: int, seed: int) -> NDArray[np.float64]:
        """The statistic of each resample (R,); resamples without any value are left out."""
        if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 1:
            raise DataError(f"resamples is {resamples!r}", mend="Draw at least once; 2000 is usual.")
        cluster_rng, row_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
        clusters = 1 + int(self.cluster.max())
        rows = 0 if self.row is None else 1 + int(self.row.max())
        if statistic is None:
            cells = (self.cluster, np.zeros_like(self.cluster) if self.row is None else self.row)
            sums_GM, counts_GM = (np.zeros((clusters, max(rows, 1))) for _ in range(2))
            np.add.at(sums_GM, cells, self.values)
            np.add.at(counts_GM, cells, 1.0)
        drawn = []
        for block in _blocks(resamples, max(clusters, rows)):
            weights_RG = _weights(cluster_rng, clusters, block)
            weights_RM = np.ones((block, 1)) if self.row is None else _weights(row_rng, rows, block)
            if statistic is None:
                totals = ((weights_RG @ counts_GM) * weights_RM).sum(1)
                sums = ((weights_RG @ sums_GM) * weights_RM).sum(1)
                drawn.append(sums[totals > 0] / totals[totals > 0])
                continue
            for weights_G, weights_M in zip(weights_RG, weights_RM, strict=True):
                copies_N = weights_G[self.cluster] * (1.0 if self.row is None else weights_M[self.row])
                if copies_N.any():
                    drawn.append(np.array([statistic(np.repeat(self.values, copies_N.astype(np.int64)))], np.float64))
        return np.concatenate(drawn)

    def interval(self, drawn: NDArray[np.float64], confidence: float) -> Interval:
        from scipy.special import stdtrit

        tail = NormalDist().cdf(float(stdtrit(self.degrees, (1 - confidence) / 2)) * self.widening)
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Interval(float(low), float(high))

    def p_value(self, drawn: NDArray[np.float64]) -> float:
        """Two-sided, of 0: the level at which the interval just reaches it."""
        from scipy.special import stdtr

        share = (1 + min(int(np.sum(drawn <= 0)), int(np.sum(drawn >= 0)))) / (1 + drawn.size)
        if share >= 0.5:
            return 1.0
        return float(2 * stdtr(self.degrees, NormalDist().inv_cdf(share) / self.widening))


def _design(
    values: ArrayLike,
    clusters: Sequence[Hashable] | NDArray[np.generic],
    rows: Sequence[Hashable] | NDArray[np.generic] | None,
) -> _Design:
    numbers = _numbers("values", values)
    sources = [_indices("clusters", clusters, numbers.size)]
    if rows is not None:
        sources.append(_indices("rows", rows, numbers.size))
    # Each source adds a variance of its own to the mean's: of its G sums of residuals, over N squared.
    residuals = numbers - numbers.mean()
    sizes = [1 + int(index.max()) for index in sources]
    naive = [float((np.bincount(index, residuals) ** 2).sum()) for index in sources]
    unbiased = [v * g / (g - 1) for v, g in zip(naive, sizes, strict=True)]
    spread = sum(naive) > 0
    degrees = sum(unbiased) ** 2 / sum(v * v / (g - 1) for v, g in zip(unbiased, sizes, strict=True)) if spread else 1.0
    widening = math.sqrt(sum(unbiased) / sum(naive)) if spread else 1.0
    return _Design(numbers, sources[0], sources[1] if rows is not None else None, degrees, widening)


def _weights(rng: np.random.Generator, size: int, resamples: int) -> NDArray[np.float64]:
    """How often each of `size` is drawn when `size` are drawn with replacement (R, size)."""
    return rng.multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.float64)


def _indices(name: str, labels: Sequence[Hashable] | NDArray[np.generic], n: int) -> NDArray[np.int64]:
    """The place of each label among the different ones (N,)."""
    if isinstance(labels, str) or not isinstance(labels, Sequence | np.ndarray):
        raise DataError(f"the {name} are not a list", mend="Give one name a value.")
    if len(labels) != n:
        raise DataError(f"there are {n} values and {len(labels)} {name}", mend="Give one name a value.")
    places: dict[Hashable, int] = {}
    try:
        # By hash and not by numpy, to which 1 and "1" in one list are the same.
        index = [places.setdefault(label, len(places)) for label in labels]
    except TypeError:
        raise DataError(f"the {name} hold something that is no name", mend="Use texts or whole numbers.") from None
    if len(places) < 2:
        raise DataError(
            f"all values have the same of the {name}, so nothing shows how far {name} lie apart",
            mend="Give at least two different ones, or hold the templates fixed by naming the rows as clusters.",
        )
    return np.array(index, dtype=np.int64)


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = _numbers("outcomes of A", a), _numbers("outcomes of B", b)
    if first.size != second.size:
        raise DataError(
            f"there are {first.size} outcomes of A and {second.size} of B",
            mend="Give both for the same instances in the same order.",
        )
    return first, second


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values)
        # Texts that look like numbers would be converted in silence.
        if numbers.dtype.kind not in "biuf":
            raise ValueError
        numbers = numbers.astype(np.float64)
    except (TypeError, ValueError):
        empty = isinstance(values, Sequence) and not len(values)
        raise DataError(f"there are no {name}" if empty else f"the {name} are not a list of numbers") from None
    if numbers.ndim != 1:
        raise DataError(f"the {name} have shape {numbers.shape}; one list is needed")
    if not numbers.size:
        raise DataError(f"there are no {name}")
    if not np.isfinite(numbers).all():
        raise DataError(f"the {name} hold {numbers[~np.isfinite(numbers)][0]:g}, which is not a finite number")
    return numbers
