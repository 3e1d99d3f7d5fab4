"""What is said of each structure in each slice, as numbers that can be calibrated.

A segmenter says two, and so does a corrector that has seen the slice and its neighbors.
"""

import numpy as np

from cardiac_vae.labels import HEART, NUM_CLASSES
from cardiac_vae.metrics.presence import structure_pixels

FEATURES = ("drawn_area", "peak")
"""``drawn_area`` is log(1 + drawn area / 50 mm^2), ``peak`` the log-odds of ``peaks``."""
FEATURES_CORRECTED = (*FEATURES, "corrected_area", "corrected_peak")
"""The same, and the same of what a corrector makes of a slice."""

_PEAK_MM2 = 50.0  # smaller than the smallest structure that experts draw as a rule
_SUREST = 1e-4


def slice_evidence(
    mask: np.ndarray, probabilities: np.ndarray, pixel_mm: tuple[float, float]
) -> np.ndarray:
    """Return the features (D, 3, F) of a mask (D, H, W) and its probabilities (D, C, H, W).

    Raises:
        ValueError: if the probabilities are not on the mask's grid.
    """
    expected = (len(mask), NUM_CLASSES, *mask.shape[1:])
    if probabilities.shape != expected:
        raise ValueError(
            f"probabilities: expected (D, C, H, W) on the mask's grid, {expected}, "
            f"got shape {probabilities.shape}; give those the mask was decided from"
        )
    area = np.log1p(structure_pixels(mask) * (pixel_mm[0] * pixel_mm[1] / _PEAK_MM2))
    peak = peaks(probabilities, pixel_mm)
    return np.stack([area, np.log(peak) - np.log1p(-peak)], axis=2)


def peaks(probabilities: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    """Return how sure the segmenter is that each structure is in a slice, (D, 3) in (0, 1).

    The mean probability of the structure's 50 mm^2 most probable pixels: the best single pixel
    would be the best of thousands.
    """
    num_pixels = max(1, round(_PEAK_MM2 / (pixel_mm[0] * pixel_mm[1])))
    planes = probabilities[:, list(HEART)].reshape(len(probabilities), len(HEART), -1)
    num_pixels = min(num_pixels, planes.shape[2])
    best = np.partition(planes, -num_pixels, axis=2)[:, :, -num_pixels:]
    return np.asarray(best.mean(axis=2, dtype=float).clip(_SUREST, 1 - _SUREST))
