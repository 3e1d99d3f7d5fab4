"""Agreement of a clinical value between two raters (Bland & Altman, Lancet 327, 1986)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """How a predicted clinical value agrees with its reference, in the value's own unit.

    Attributes:
        n: Number of pairs.
        bias: Mean of predicted minus reference.
        sd: Standard deviation of that difference (n - 1); NaN for one pair.
        lower: Lower 95 % limit of agreement, bias - 1.96 sd.
        upper: Upper 95 % limit of agreement, bias + 1.96 sd.
        correlation: Pearson's r; NaN if either list is constant.
        mean_absolute_error: Mean of the absolute difference.
    """

    n: int
    bias: float
    sd: float
    lower: float
    upper: float
    correlation: float
    mean_absolute_error: float


def agreement(reference: np.ndarray, predicted: np.ndarray) -> Agreement:
    """Compare predicted values (N,) with their references (N,), in one unit.

    Pairs with a NaN (a value that does not exist, such as the ejection fraction of a ventricle that
    was not found) are left out; ``n`` tells how many remain.

    Raises:
        ValueError: if the two are not lists of one length, or no pair remains.
    """
    reference, predicted = np.asarray(reference, float), np.asarray(predicted, float)
    if reference.ndim != 1 or reference.shape != predicted.shape:
        raise ValueError(
            f"expected two lists of one length, got shapes {reference.shape} and {predicted.shape}"
        )
    is_known = ~(np.isnan(reference) | np.isnan(predicted))
    reference, predicted = reference[is_known], predicted[is_known]
    if not len(reference):
        raise ValueError(
            f"expected at least one pair of values, got none without NaN among {len(is_known)}"
        )
    difference = predicted - reference
    bias = float(difference.mean())
    sd = float(difference.std(ddof=1)) if len(difference) > 1 else float("nan")
    return Agreement(
        n=len(difference),
        bias=bias,
        sd=sd,
        lower=bias - 1.96 * sd,
        upper=bias + 1.96 * sd,
        correlation=_correlation(reference, predicted),
        mean_absolute_error=float(np.abs(difference).mean()),
    )


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
