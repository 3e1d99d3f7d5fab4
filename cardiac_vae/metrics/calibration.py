"""Whether probabilities and intervals can be taken at their word.

Probabilities are judged voxel by voxel, each voxel once whatever its slice. Most voxels of a scan
are background that nobody would mistake, and over all of them every segmenter is calibrated: judge
those near a heart (``near_heart``) as well.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cardiac_vae.metrics.summary import Interval, share_interval

_LEAST = 1e-12  # a class that was ruled out and came true costs 28 nats, not infinitely many


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, by bins of confidence; those without a voxel are left out.

    The confidence of a voxel is the probability of its most probable class, and it is accurate if
    that class is true.

    Attributes:
        count: (B,) voxels of each bin.
        confidence: (B,) their mean confidence.
        accuracy: (B,) the share that is accurate.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean of abs(accuracy - confidence) over voxels.

        Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017, eq. 3.
        """
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.count))

    @property
    def largest_error(self) -> float:
        """Largest abs(accuracy - confidence) of a bin."""
        return float(np.abs(self.accuracy - self.confidence).max())


@dataclass(frozen=True)
class IntervalQuality:
    """How good intervals of one level are.

    Attributes:
        coverage: Share of true values inside, with its own 95 % score interval and their number.
        width: Mean width, in the unit of the values.
        score: Mean interval score in that unit, lower is better (``interval_score``).
    """

    coverage: Interval
    width: float
    score: float


def near_heart(
    heart: np.ndarray, pixel_mm: tuple[float, float], margin_mm: float = 10.0
) -> np.ndarray:
    """Return the voxels in a heart (D, H, W) bool or at most a margin from it in their slice.

    Take all that either the expert or the segmenter drew: around the expert's heart alone, a heart
    that is drawn in an empty slice would go unseen.
    """
    near = np.zeros(heart.shape, bool)
    for plane, drawn in zip(near, heart, strict=True):
        if drawn.any():
            plane[:] = ndimage.distance_transform_edt(~drawn, sampling=pixel_mm) <= margin_mm
    return near


def voxels(
    probabilities: np.ndarray, reference: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities (N, C) and the true classes (N,) of some voxels.

    ``probabilities`` is (D, C, H, W), ``reference`` (D, H, W) and ``where`` (D, H, W) bool. Those
    of several cases may be concatenated.
    """
    if reference.shape != where.shape or np.moveaxis(probabilities, 1, -1).shape[:-1] != (
        reference.shape
    ):
        raise ValueError(
            "expected probabilities (D, C, H, W) beside a reference and voxels (D, H, W), got "
            f"shapes {probabilities.shape}, {reference.shape} and {where.shape}"
        )
    return np.moveaxis(probabilities, 1, -1)[where], reference[where].astype(np.intp)


def reliability(
    probabilities: np.ndarray,
    reference: np.ndarray,
    num_bins: int = 15,
    *,
    equal_mass: bool = False,
) -> Reliability:
    """Compare confidence and accuracy of voxels, probabilities (N, C), true classes (N,).

    Bins are open below and closed above. Of equal width by default, over [0, 1]; with
    ``equal_mass`` their ends are quantiles of the confidence, and ends that coincide are one.

    Raises:
        ValueError: if there is no voxel, or the probabilities are no distributions over C.
    """
    _require_distributions(probabilities, reference)
    confidence = probabilities.max(axis=1)
    accurate = probabilities.argmax(axis=1) == reference
    ends = np.linspace(0, 1, num_bins + 1)
    if equal_mass:
        ends = np.unique(np.quantile(confidence, ends))
    bin_of = np.searchsorted(ends[1:-1], confidence, side="left")
    count = np.bincount(bin_of)
    is_used = count > 0
    confidence_sum = np.bincount(bin_of, weights=confidence)[is_used]
    accurate_sum = np.bincount(bin_of, weights=accurate)[is_used]
    count = count[is_used]
    return Reliability(count, confidence_sum / count, accurate_sum / count)


def brier_score(probabilities: np.ndarray, reference: np.ndarray) -> float:
    """Return the multi-class Brier score of voxels (Brier 1950), in [0, 2]; lower is better.

    It is the mean over voxels of sum_c (p_c - [c is true])^2.

    Raises:
        ValueError: as ``reliability``.
    """
    _require_distributions(probabilities, reference)
    p_true = probabilities[np.arange(len(reference)), reference]
    return float((np.square(probabilities).sum(axis=1) - 2 * p_true + 1).mean())


def negative_log_likelihood(probabilities: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean of -log p(true class) over voxels, in nats; lower is better.

    Raises:
        ValueError: as ``reliability``.
    """
    _require_distributions(probabilities, reference)
    p_true = probabilities[np.arange(len(reference)), reference]
    return float(-np.log(np.maximum(p_true, _LEAST)).mean())


def interval_quality(
    low: np.ndarray, high: np.ndarray, reference: np.ndarray, level: float
) -> IntervalQuality:
    """Judge central intervals (N,) of one level in (0, 1) by the true values (N,).

    Values without a reference (NaN) are left out.

    Raises:
        ValueError: if the lengths differ, an interval is reversed or NaN, or no value remains.
    """
    is_known = ~np.isnan(reference)
    low, high, reference = low[is_known], high[is_known], reference[is_known]
    scores = interval_score(low, high, reference, level)
    inside = int(np.count_nonzero((low <= reference) & (reference <= high)))
    coverage = share_interval(inside, len(reference))
    return IntervalQuality(coverage, float((high - low).mean()), float(scores.mean()))


def interval_score(
    low: np.ndarray, high: np.ndarray, reference: np.ndarray, level: float
) -> np.ndarray:
    """Return the interval score (N,) of Gneiting & Raftery 2007, eq. 43; lower is better.

    S = (u - l) + 2 / alpha (l - x)_+ + 2 / alpha (x - u)_+, with alpha = 1 - level: the width, and
    a fine for missing. It is proper: the expected score is least for the true quantiles.

    Raises:
        ValueError: if the lengths differ, an interval is reversed or NaN, or level not in (0, 1).
    """
    if not low.shape == high.shape == reference.shape:
        raise ValueError(
            "expected a low, a high and a true value each, got shapes "
            f"{low.shape}, {high.shape} and {reference.shape}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level: expected a share between 0 and 1 such as 0.9, got {level}")
    if not (low <= high).all():
        raise ValueError(
            f"expected low <= high, got {np.count_nonzero(~(low <= high))} intervals that are "
            "reversed or NaN"
        )
    missed = np.maximum(low - reference, 0) + np.maximum(reference - high, 0)
    return (high - low) + 2 / (1 - level) * missed


def _require_distributions(probabilities: np.ndarray, reference: np.ndarray) -> None:
    if probabilities.ndim != 2 or probabilities.shape[:1] != reference.shape or not len(reference):
        raise ValueError(
            "expected probabilities (N, C) and true classes (N,) of at least one voxel, got "
            f"shapes {probabilities.shape} and {reference.shape}"
        )
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < 0:
        raise ValueError(
            "expected probabilities that sum to 1 over the classes, got sums up to "
            f"{probabilities.sum(axis=1).max():g}; apply softmax"
        )
