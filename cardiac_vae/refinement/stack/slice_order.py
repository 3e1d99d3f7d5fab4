"""Slices out of place: swapped, shifted or missing ones, by the evidence of a Gaussian process.

From base to apex a heart changes smoothly. Each measure of its outlines, at the depth t of its
slice, is a polynomial with a vague prior, a smooth deviation and noise, the noise of breath-holds
that do not agree (Rasmussen, Williams: Gaussian Processes for Machine Learning, 2006, 2.7 and 4.2):

    x(t) = sum_q beta_q t^q + g(t) + e,   g ~ GP(0, a^2 Matern_5/2(|t - t'| / l)),   e ~ N(0, s^2)

A hypothesis on the stack is another covariance, or another order, of the same numbers. What speaks
for it is the difference of two log-evidences, in nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.case import Spacing
from cardiac_vae.labels import Structure

Fault = Literal["swapped", "shifted", "missing"]
FAULTS: tuple[Fault, ...] = ("swapped", "shifted", "missing")

MEASURES = ("epicardium_mm", "lv_mm", "rv_mm", "row_mm", "column_mm")
"""Radii of the disks of the same area, and the centroid of the epicardium; of each slice, in mm."""

_DEGREES = (2, 2, 2, 1, 1)
"""Of the polynomial of each measure: the heart tapers, its axis is straight."""
_PLACE = slice(3, 5)
_VAGUE_MM = 100.0
_UNIT_MM = 40.0
_SHIFT_MM = 15.0  # standard deviation of a shift, where there is one
_MOST_STACKS = 40  # that the smoothness is fitted to; the limits are those of all
_FEWEST = 4  # slices: fewer have no order that could be told from another


class Smoothness(StrictConfig):
    """How one measure changes along the axis.

    Attributes:
        amplitude_mm: Standard deviation of the smooth deviation.
        length_mm: How far along the axis it reaches.
        noise_mm: Standard deviation from slice to slice.
    """

    amplitude_mm: PositiveFloat
    length_mm: PositiveFloat
    noise_mm: PositiveFloat


@dataclass(frozen=True)
class Misplacement:
    """One slice that does not fit its neighbors.

    Attributes:
        fault: "swapped" with the next slice, "shifted" in the plane, or "missing" after it.
        index: Which slice.
        evidence: Log-evidence of the fault over that of a sound stack, nats.
        limit: What sound stacks reach.
    """

    fault: Fault
    index: int
    evidence: float
    limit: float

    def __str__(self) -> str:
        """Say it in a line."""
        what = {
            "swapped": f"slices {self.index} and {self.index + 1} look swapped",
            "shifted": f"slice {self.index} looks shifted in its plane",
            "missing": f"a slice looks missing between {self.index} and {self.index + 1}",
        }[self.fault]
        return f"{what} ({self.evidence:.1f} nats; sound stacks stay below {self.limit:.1f})"


class SliceOrder(StrictConfig):
    """What sound stacks look like; plain values for JSON, as ``StackModel``.

    Attributes:
        smoothness: Of each of ``MEASURES``.
        limits: Of each fault, the evidence that only a share of sound stacks exceeds.
    """

    smoothness: tuple[Smoothness, ...]
    limits: dict[Fault, float]

    def misplaced(
        self, mask: np.ndarray, spacing_mm: Spacing, faults: Sequence[Fault] = FAULTS
    ) -> list[Misplacement]:
        """Return of each fault the place that most speaks for it, if that is above the limit.

        ``mask`` is (D, H, W); the strongest evidence comes first.

        Raises:
            ValueError: if the mask is not (D, H, W).
        """
        scores = fault_evidence(measures(mask, spacing_mm), spacing_mm[0], self.smoothness)
        found = [
            Misplacement(fault, int(values.argmax()), float(values.max()), self.limits[fault])
            for fault, values in scores.items()
            if fault in faults and len(values) and values.max() > self.limits[fault]
        ]
        return sorted(found, key=lambda misplacement: misplacement.limit - misplacement.evidence)


def fit_slice_order(
    stacks: Sequence[tuple[np.ndarray, Spacing]], false_alarms: float = 0.02
) -> SliceOrder:
    """Fit to experts' masks (D, H, W) with their spacing by maximum likelihood.

    ``false_alarms`` is the share of these stacks that each fault's limit leaves above it.

    Raises:
        ValueError: if there is no stack, or not 0 <= false_alarms < 1.
    """
    if not stacks or not 0 <= false_alarms < 1:
        raise ValueError(
            f"expected one stack at least and false_alarms in [0, 1), got {len(stacks)} stacks "
            f"and {false_alarms}"
        )
    measured = [(measures(mask, spacing_mm), spacing_mm[0]) for mask, spacing_mm in stacks]
    few = measured[:: 1 + len(stacks) // _MOST_STACKS]
    smoothness = tuple(_fit_measure(few, column) for column in range(len(MEASURES)))
    scores = [fault_evidence(values, slice_mm, smoothness) for values, slice_mm in measured]
    limits = {
        fault: float(
            np.quantile([max(score[fault], default=0.0) for score in scores], 1 - false_alarms)
        )
        for fault in FAULTS
    }
    return SliceOrder(smoothness=smoothness, limits=limits)


def measures(mask: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Return ``MEASURES`` of every slice of a mask (D, H, W): (D, 5) in mm, NaN where absent.

    Raises:
        ValueError: if the mask is not (D, H, W).
    """
    if mask.ndim != 3:
        raise ValueError(f"mask: expected a label map (D, H, W), got shape {mask.shape}")
    pixel_mm = np.array(spacing_mm[1:])
    values = np.full((len(mask), len(MEASURES)), np.nan)
    for row, plane in zip(values, mask, strict=True):
        wall, lv, rv = (plane == int(s) for s in (Structure.MYO, Structure.LV, Structure.RV))
        for column, part in enumerate((wall | lv if wall.any() else wall, lv, rv)):
            if part.any():
                row[column] = np.sqrt(np.count_nonzero(part) * pixel_mm.prod() / np.pi)
        if wall.any():
            row[_PLACE] = np.argwhere(wall | lv).mean(axis=0) * pixel_mm
    return values


def fault_evidence(
    values: np.ndarray, slice_mm: float, smoothness: Sequence[Smoothness]
) -> dict[Fault, np.ndarray]:
    """Return what speaks for each fault at each place, nats; values (D, 5) are ``measures``.

    "swapped" and "missing" are (D - 1,), of a slice and the next; "shifted" is (D,). All are empty
    for stacks with fewer than four slices of myocardium, of which nothing can be said.
    """
    num_slices = len(values)
    if np.count_nonzero(~np.isnan(values[:, 0])) < _FEWEST:
        return {fault: np.zeros(0) for fault in FAULTS}
    depth = np.arange(num_slices) * slice_mm

    def evidence(values: np.ndarray, depth: np.ndarray, shifted: int | None = None) -> float:
        extra = np.zeros(num_slices)
        if shifted is not None:
            extra[shifted] = _SHIFT_MM**2
        return sum(
            log_evidence(depth, values[:, column], smooth, degree, extra * (column >= 3))
            for column, (smooth, degree) in enumerate(zip(smoothness, _DEGREES, strict=True))
        )

    sound = evidence(values, depth)
    pairs = range(num_slices - 1)
    swapped = [np.r_[:i, i + 1, i, i + 2 : num_slices] for i in pairs]
    apart = [depth + slice_mm * (np.arange(num_slices) > i) for i in pairs]
    return {
        "swapped": np.array([evidence(values[order], depth) for order in swapped]) - sound,
        "shifted": np.array([evidence(values, depth, i) for i in range(num_slices)]) - sound,
        "missing": np.array([evidence(values, wider) for wider in apart]) - sound,
    }


def log_evidence(
    depth_mm: np.ndarray, values: np.ndarray, smooth: Smoothness, degree: int, extra: np.ndarray
) -> float:
    """Return log N(values; 0, K) in nats of one measure (D,); slices without it are left out.

    ``extra`` (D,) is variance that single slices have beside the noise, mm^2.
    """
    known = ~np.isnan(values)
    if not known.any():
        return 0.0
    centered = values[known] - values[known].mean()
    covariance = _covariance(depth_mm[known], smooth, degree) + np.diag(extra[known])
    factor = cho_factor(covariance, lower=True)
    log_det = 2 * np.log(np.diag(factor[0])).sum()
    distance = centered @ cho_solve(factor, centered)
    return float(-0.5 * (distance + log_det + len(centered) * np.log(2 * np.pi)))


def _covariance(depth_mm: np.ndarray, smooth: Smoothness, degree: int) -> np.ndarray:
    apart = np.sqrt(5) * np.abs(depth_mm[:, None] - depth_mm) / smooth.length_mm
    matern = (1 + apart + apart**2 / 3) * np.exp(-apart)
    powers = ((depth_mm - depth_mm.mean()) / _UNIT_MM)[:, None] ** np.arange(degree + 1)
    covariance = smooth.amplitude_mm**2 * matern + _VAGUE_MM**2 * powers @ powers.T
    return np.asarray(covariance + smooth.noise_mm**2 * np.eye(len(depth_mm)))


def _fit_measure(measured: Sequence[tuple[np.ndarray, float]], column: int) -> Smoothness:
    def smoothness(logs: np.ndarray) -> Smoothness:
        amplitude, length, noise = np.exp(logs.clip(-3, 6)).tolist()
        return Smoothness(amplitude_mm=amplitude, length_mm=length, noise_mm=noise)

    def cost(logs: np.ndarray) -> float:
        smooth = smoothness(logs)
        return -sum(
            log_evidence(
                np.arange(len(values)) * slice_mm,
                values[:, column],
                smooth,
                _DEGREES[column],
                np.zeros(len(values)),
            )
            for values, slice_mm in measured
        )

    start = np.log([3.0, 25.0, 1.0])
    fitted: Any = minimize(cost, start, method="Nelder-Mead", options={"xatol": 0.03, "fatol": 0.1})
    return smoothness(fitted.x)
