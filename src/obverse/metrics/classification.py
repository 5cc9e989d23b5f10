"""Measures of single-label classification, computed from counts.

Everything that is a function of gold and predicted labels alone is a function of the confusion counts, an integer
array of shape (K, K + 1): rows are gold options, columns predicted ones, and the last column holds the instances
left without a prediction (abstained). Leading axes are allowed everywhere, so that thousands of resampled tables
are judged in one call (`obverse.metrics.intervals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obverse.errors import DataError

ABSTAINED = -1
"""Stands for "no prediction" in arrays of option indices."""

_TOLERANCE = 1e-6  # a softmax in single precision may miss 1 by this much


def confusion_counts(gold: ArrayLike, predicted: ArrayLike, *, classes: int | None = None) -> NDArray[np.int64]:
    """Count the instances of each pair of gold and predicted option.

    Equivalent: `sklearn.metrics.confusion_matrix` with one more column for abstained instances.

    Args:
        gold: option indices (N,).
        predicted: option indices (N,), `ABSTAINED` where there is no prediction.
        classes: the number of options; None means the largest index met, plus 1.

    Returns:
        Counts (K, K + 1).

    Raises:
        DataError: lengths differ, or an index is out of range.
    """
    gold, predicted = np.asarray(gold, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if gold.shape != predicted.shape or gold.ndim != 1:
        raise DataError(
            f"gold has shape {gold.shape} and predicted {predicted.shape}; both must be one list of equal length"
        )
    if classes is None:
        classes = 1 + int(max(gold.max(initial=0), predicted.max(initial=0)))
    for indices, least in ((gold, 0), (predicted, ABSTAINED)):
        if indices.size and not (least <= indices.min() and indices.max() < classes):
            raise DataError(f"an option index lies outside 0 to {classes - 1}")
    columns = np.where(predicted == ABSTAINED, classes, predicted)
    cells = np.bincount(gold * (classes + 1) + columns, minlength=classes * (classes + 1))
    return cells.reshape(classes, classes + 1)


def accuracy(confusion: ArrayLike) -> NDArray[np.float64]:
    """The share of instances whose prediction is the gold option: sum of the diagonal / sum of all counts.

    Equivalent: `sklearn.metrics.accuracy_score`; an abstained instance counts as wrong.

    Args:
        confusion: counts (..., K, K + 1).

    Returns:
        Shape (...); for one table a numpy float.

    Raises:
        DataError: a table is empty.
    """
    counts = _counts(confusion)
    share: NDArray[np.float64] = np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1))
    return share


def macro_f1(confusion: ArrayLike) -> NDArray[np.float64]:
    """The mean, over the classes present in gold, of F1 = 2 TP / (2 TP + FP + FN).

    Classes are option indices. 2 TP + FP + FN is the sum of a class's row and column, so a class in gold never
    divides by zero. An abstained instance is a miss (FN) of its gold class. Equivalent:
    `sklearn.metrics.f1_score(average="macro", labels=<classes in gold>, zero_division=0)`. Of the two averages in
    use this is the mean of the F1 scores, not the F1 of mean precision and mean recall (Opitz and Burst,
    arXiv 1911.03347).

    Args:
        confusion: counts (..., K, K + 1).

    Returns:
        Shape (...); for one table a numpy float.

    Raises:
        DataError: a table is empty.
    """
    counts = _counts(confusion)
    classes = counts.shape[-2]
    true = np.diagonal(counts, axis1=-2, axis2=-1)
    in_gold = counts.sum(-1)
    in_predicted = counts[..., :classes].sum(-2)
    f1 = 2 * true / np.maximum(in_gold + in_predicted, 1)
    present = in_gold > 0
    mean: NDArray[np.float64] = np.where(present, f1, 0.0).sum(-1) / present.sum(-1)
    return mean


def expected_calibration_error(confidences: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> float:
    """How far confidence is from accuracy: sum over bins of n_b / N * |accuracy_b - mean confidence_b|.

    Bins have equal width and include their upper edge: ((b - 1) / B, b / B]. Source: Guo et al. 2017,
    arXiv 1706.04599, equation 3, whose B = 15 is the default.

    Args:
        confidences: the probability of each predicted option (N,), in [0, 1].
        correct: whether each prediction is right (N,).

    Raises:
        DataError: no instances, lengths differ, or a confidence outside [0, 1].
    """
    confidence, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if confidence.shape != right.shape or confidence.ndim != 1 or not confidence.size:
        raise DataError(f"{confidence.size} confidences and {right.size} judgements; one each is needed, at least one")
    if not ((confidence >= -_TOLERANCE) & (confidence <= 1 + _TOLERANCE)).all():
        raise DataError("a confidence lies outside 0 to 1")
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    return _calibration_error(
        counts, np.bincount(index, confidence, minlength=bins), np.bincount(index, right, minlength=bins)
    )


def brier_score(probabilities: ArrayLike, gold: ArrayLike) -> float:
    """The mean over instances of sum over options of (p_k - [k is gold])^2: 0 is perfect, 2 the worst.

    Equivalent: `sklearn.metrics.brier_score_loss(gold, probabilities, scale_by_half=False)`. This is Brier's own
    definition (1950), which for two options is twice the common one-sided form.

    Args:
        probabilities: (N, K), rows summing to 1.
        gold: option indices (N,).

    Raises:
        DataError: no instances, or shapes that do not fit.
    """
    table, right = np.asarray(probabilities, dtype=np.float64), np.asarray(gold, dtype=np.int64)
    if table.ndim != 2 or right.shape != table.shape[:1] or not right.size:
        raise DataError(f"probabilities have shape {table.shape} and gold {right.shape}; (N, K) and (N,) are needed")
    if right.min() < 0 or right.max() >= table.shape[1]:
        raise DataError(f"an option index lies outside 0 to {table.shape[1] - 1}")
    at_gold = table[np.arange(len(right)), right]
    # sum (p_k - y_k)^2 = sum p_k^2 - 2 p_gold + 1
    return float(np.mean((table**2).sum(1) - 2 * at_gold + 1))


@final
class Tally:
    """Counts of a stream of predictions: memory depends on the number of options, never on the number of rows.

    Args:
        classes: K, the number of options.
        bins: how many equal bins confidences are counted in.

    Attributes:
        rows: instances added.
        counts: predictions of each option (K,).
        abstained: instances without a prediction.
        confusion: gold by predicted counts (K, K + 1) of the instances with gold; the last column is abstained.
        confidence_sums: sum of the confidences of each option's predictions (K,).
        histogram: how many confidences, abstained instances included, fall into each bin (bins,).
        bin_rows, bin_confidences, bin_correct: for instances with gold, prediction and confidence: their number,
            sum of confidences and number of right ones in each bin (bins,).
    """

    def __init__(self, classes: int, *, bins: int = 15) -> None:
        self.classes, self.bins = classes, bins
        self.rows = 0
        self.abstained = 0
        self.counts = np.zeros(classes, dtype=np.int64)
        self.confusion = np.zeros((classes, classes + 1), dtype=np.int64)
        self.confidence_sums = np.zeros(classes)
        self.histogram = np.zeros(bins, dtype=np.int64)
        self.bin_rows = np.zeros(bins, dtype=np.int64)
        self.bin_confidences = np.zeros(bins)
        self.bin_correct = np.zeros(bins, dtype=np.int64)
        self._confident = np.zeros(classes, dtype=np.int64)
        self._confidence_sum = 0.0
        self._brier_sum = 0.0
        self._brier_rows = 0

    def add(
        self,
        gold: int | None,
        predicted: int | None,
        confidence: float | None = None,
        probabilities: Sequence[float] | NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Count one instance.

        Args:
            gold: the right option's index, None where it is not known.
            predicted: the predicted option's index, None where there is no prediction.
            confidence: the probability of the best option, None where there is none.
            probabilities: of every option (K,), for the Brier score.

        Raises:
            DataError: an index or the confidence is out of range, or there is not one probability an option.
        """
        for name, index in (("gold", gold), ("predicted", predicted)):
            if index is not None and not 0 <= index < self.classes:
                raise DataError(f"the {name} option index {index} lies outside 0 to {self.classes - 1}")
        if confidence is not None and not -_TOLERANCE <= confidence <= 1 + _TOLERANCE:
            raise DataError(f"the confidence {confidence} lies outside 0 to 1")
        if probabilities is not None and len(probabilities) != self.classes:
            raise DataError(f"there are {len(probabilities)} probabilities for {self.classes} options")
        self.rows += 1
        if predicted is None:
            self.abstained += 1
        else:
            self.counts[predicted] += 1
        if gold is not None:
            self.confusion[gold, self.classes if predicted is None else predicted] += 1
        if confidence is not None:
            b = min(max(int(np.ceil(confidence * self.bins)) - 1, 0), self.bins - 1)
            self.histogram[b] += 1
            self._confidence_sum += confidence
            if predicted is not None:
                self.confidence_sums[predicted] += confidence
                self._confident[predicted] += 1
                if gold is not None:
                    self.bin_rows[b] += 1
                    self.bin_confidences[b] += confidence
                    self.bin_correct[b] += gold == predicted
        if gold is not None and probabilities is not None:
            p = np.asarray(probabilities, dtype=np.float64)
            self._brier_sum += float(p @ p - 2 * p[gold] + 1)
            self._brier_rows += 1

    @property
    def labelled(self) -> int:
        """How many instances came with gold."""
        return int(self.confusion.sum())

    @property
    def mean_confidence(self) -> float | None:
        """Over all instances that have a confidence, abstained ones included; None where there is none."""
        confident = int(self.histogram.sum())
        return self._confidence_sum / confident if confident else None

    @property
    def mean_confidences(self) -> tuple[float | None, ...]:
        """Of the predictions of each option; None for an option never predicted."""
        return tuple(float(s / n) if n else None for s, n in zip(self.confidence_sums, self._confident, strict=True))

    @property
    def expected_calibration_error(self) -> float | None:
        """As the function of that name, over the instances with gold, prediction and confidence; None without any."""
        if not self.bin_rows.any():
            return None
        return _calibration_error(self.bin_rows, self.bin_confidences, self.bin_correct)

    @property
    def brier_score(self) -> float | None:
        """As the function of that name, over the instances with gold and probabilities; None without any."""
        return self._brier_sum / self._brier_rows if self._brier_rows else None


def _calibration_error(rows: NDArray[Any], confidences: NDArray[Any], correct: NDArray[Any]) -> float:
    # n_b / N * |correct_b / n_b - confidences_b / n_b| with n_b cancelled, so that empty bins need no care
    return float(np.abs(correct - confidences).sum() / rows.sum())


def _counts(confusion: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(confusion)
    if counts.ndim < 2 or counts.shape[-1] not in (counts.shape[-2], counts.shape[-2] + 1):
        raise DataError(
            f"confusion counts of shape (..., K, K + 1) are needed, not {counts.shape}",
            mend="Make them of gold and predicted option indices with confusion_counts(gold, predicted).",
        )
    if not counts.any((-2, -1)).all():
        raise DataError("there are no labelled instances to measure on")
    return counts
