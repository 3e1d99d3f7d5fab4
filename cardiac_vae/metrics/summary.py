"""Means over cases with their uncertainty over patients.

The cases of one patient (end-diastole, end-systole) are alike, so intervals come from resampling
patients, all their cases together (cluster bootstrap: Davison & Hinkley 1997, section 3.8).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean over cases and its 95 % interval over patients.

    Attributes:
        mean: In the unit of the values; NaN if there is none.
        low: 2.5th percentile of the resampled means.
        high: 97.5th percentile of the resampled means.
        n: Number of cases averaged.
    """

    mean: float
    low: float
    high: float
    n: int


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    patients: Sequence[str] | np.ndarray,
    seed: int,
    num_resamples: int = 2000,
) -> Interval:
    """Return the mean of values (N,) and its percentile interval over their patients (N,).

    NaN (a structure in neither mask) is left out. The same seed gives the same interval.

    Raises:
        ValueError: if there is not one patient per value, or a value is infinite.
    """
    numbers, names = np.asarray(values, float), np.asarray(patients)
    if numbers.ndim != 1 or numbers.shape != names.shape:
        raise ValueError(
            f"expected one patient per value, got shapes {names.shape} and {numbers.shape}"
        )
    _require_finite("values", numbers)
    is_known = ~np.isnan(numbers)
    numbers, names = numbers[is_known], names[is_known]
    if not len(numbers):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    sums, counts = _resampled(
        np.stack([numbers, np.ones_like(numbers)]), names, seed, num_resamples
    )
    low, high = np.percentile(sums / counts, [2.5, 97.5])
    return Interval(float(numbers.mean()), float(low), float(high), len(numbers))


def share_interval(count: int, total: int) -> Interval:
    """Return the share of independent yes-or-no draws and its 95 % score interval (Wilson 1927).

    It is never empty, not even where all draws agree.

    Raises:
        ValueError: if there is no draw, or not 0 <= count <= total.
    """
    if not 0 <= count <= total or not total:
        raise ValueError(f"expected 0 <= count <= total, total at least 1, got {count} of {total}")
    share, z = count / total, 1.959964
    center = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2) / (1 + z**2 / total)
    low, high = min(share, center - half), max(share, center + half)  # share itself, if rounded
    return Interval(share, max(0.0, low), min(1.0, high), total)


def paired_difference(
    after: Sequence[float] | np.ndarray,
    before: Sequence[float] | np.ndarray,
    patients: Sequence[str] | np.ndarray,
    seed: int,
) -> Interval:
    """Return the mean of after - before over cases (N,) and its interval over patients (N,).

    Raises:
        ValueError: if the lengths differ, or a value is infinite.
    """
    after, before = np.asarray(after, float), np.asarray(before, float)
    if after.shape != before.shape:
        raise ValueError(f"expected pairs of values, got shapes {after.shape} and {before.shape}")
    _require_finite("after", after)
    _require_finite("before", before)
    return bootstrap_mean(after - before, patients, seed)


def relative_change(
    after: Sequence[float] | np.ndarray,
    before: Sequence[float] | np.ndarray,
    patients: Sequence[str] | np.ndarray,
    seed: int,
) -> Interval:
    """Return mean(after) / mean(before) - 1 over cases (N,) and its interval over patients (N,).

    Both means are of the same resampled patients. Cases where either value is NaN are left out. NaN
    where the mean before is 0; so are the ends if it is 0 in a resample.

    Raises:
        ValueError: if the lengths differ, or a value is negative or infinite.
    """
    pairs = np.stack([np.asarray(after, float), np.asarray(before, float)])
    names = np.asarray(patients)
    _require_finite("after", pairs[0])
    _require_finite("before", pairs[1])
    if (pairs < 0).any():
        raise ValueError("expected values of at least 0 to take a ratio of, got negative ones")
    is_known = ~np.isnan(pairs).any(axis=0)
    pairs, names = pairs[:, is_known], names[is_known]
    if not pairs[1].any():
        return Interval(float("nan"), float("nan"), float("nan"), len(names))
    low = high = float("nan")
    sums_after, sums_before = _resampled(pairs, names, seed)
    if sums_before.all():
        low, high = np.percentile(sums_after / sums_before - 1, [2.5, 97.5])
    mean = pairs[0].mean() / pairs[1].mean() - 1
    return Interval(float(mean), float(low), float(high), len(names))


def _resampled(
    values: np.ndarray, patients: np.ndarray, seed: int, num_resamples: int = 2000
) -> np.ndarray:
    """Return the sums of values (K, N) over the cases of resampled patients, (K, num_resamples)."""
    _, patient = np.unique(patients, return_inverse=True)
    sums = np.stack([np.bincount(patient, weights=row) for row in values])
    num_patients = sums.shape[1]
    draws = np.random.default_rng(seed).integers(num_patients, size=(num_resamples, num_patients))
    return sums[:, draws].sum(axis=2)


def summarize_distances(
    values: Sequence[float] | np.ndarray, penalty_mm: float | Sequence[float] | np.ndarray
) -> tuple[np.ndarray, int]:
    """Return distances (N,) in mm with a penalty for each missed structure, and how many these are.

    A missed structure has an infinite distance, which no mean survives; leaving it out would reward
    the miss. ``penalty_mm``, one for all or (N,), should be the diagonal of the volume
    (``surface.volume_diagonal_mm``): no distance within it is longer. NaN stays NaN.

    Raises:
        ValueError: if a penalty is not positive and finite.
    """
    values = np.asarray(values, float)
    penalty = np.broadcast_to(np.asarray(penalty_mm, float), values.shape)
    if not (np.isfinite(penalty) & (penalty > 0)).all():
        raise ValueError(f"penalty_mm: expected positive lengths in mm, got {penalty_mm}")
    is_missed = np.isinf(values)
    return np.where(is_missed, penalty, values), int(is_missed.sum())


def _require_finite(name: str, values: np.ndarray) -> None:
    num_infinite = int(np.isinf(values).sum())
    if num_infinite:
        raise ValueError(
            f"{name}: expected finite values, got {num_infinite} infinite ones: "
            "put a penalty in the place of missed structures (summarize_distances)"
        )
