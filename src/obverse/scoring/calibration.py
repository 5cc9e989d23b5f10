"""Calibrations: corrections of option probabilities for what a model prefers whatever the text says.

All work on log p, the log-softmax over the options of any method's score, and give log p again:

* contextual (arXiv 2102.09690): log p - log mean p over content-free inputs ("N/A", "", "[MASK]");
* batch (arXiv 2309.17249): log p - log mean p over the test inputs, here over the first N rows, then frozen;
* `contextual-log`, `batch-log`: the same with the mean of the logs instead of the log of the mean;
* prior matching: log p + log prior, after any of the above.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from obverse.errors import MethodError, nearest
from obverse.scoring.scorers import log_softmax

CALIBRATIONS = ("none", "contextual", "contextual-log", "batch", "batch-log")
CONTENT_FREE = ("N/A", "", "[MASK]")
BATCH_ROWS = 1000


def check_calibration(name: str) -> str:
    """The name itself.

    Raises:
        MethodError: there is no such calibration.
    """
    if name not in CALIBRATIONS:
        raise MethodError(f"unknown calibration {name!r}", where="--calibration", mend=nearest(name, CALIBRATIONS))
    return name


def bias(log_p: NDArray[np.float64], *, of_logs: bool = False) -> NDArray[np.float64]:
    """The bias of each option, shape (K,), from log-probabilities of shape (N, K).

    Args:
        of_logs: average the logs instead of the probabilities.
    """
    if of_logs:
        return np.asarray(log_p.mean(0))
    top = log_p.max(0)
    return np.asarray(top + np.log(np.exp(log_p - top).mean(0)))


def batch_bias(log_p: NDArray[np.float64], *, of_logs: bool = False) -> NDArray[np.float64]:
    """`bias` over a batch of texts.

    Raises:
        MethodError: there is only one text, whose own scores would be subtracted from themselves.
    """
    if len(log_p) < 2:
        raise MethodError(
            "batch calibration needs at least two texts, and there is one",
            where="--calibration",
            mend="Use contextual calibration, or none, for a single text.",
        )
    return bias(log_p, of_logs=of_logs)


def apply(
    log_p: NDArray[np.float64],
    bias_K: NDArray[np.float64] | None,
    log_prior_K: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Corrected log-probabilities, normalised again; shape as given."""
    if bias_K is not None:
        log_p = log_p - bias_K
    if log_prior_K is not None:
        log_p = log_p + log_prior_K
    return log_softmax(log_p)


def log_prior(prior: Sequence[float], options: int) -> NDArray[np.float64]:
    """Logs of a label prior, normalised to sum to 1.

    Raises:
        MethodError: not one positive number an option.
    """
    try:
        values = np.asarray(prior, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array([])
    if values.shape != (options,) or not np.isfinite(values).all() or (values <= 0).any():
        raise MethodError(
            f"a label prior needs {options} numbers above 0, one a label in their order",
            where="--label-prior",
            mend=f"Given: {prior!r}.",
        )
    return np.asarray(np.log(values / values.sum()))
