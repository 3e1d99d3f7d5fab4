"""What a segmenter says of every pixel: its probabilities, or its decided mask softened."""

import numpy as np
from scipy import ndimage

from cardiac_vae.labels import NUM_CLASSES

_BLUR_MM = 1.5  # how far a drawn border may lie from the true one
_LEAST = 0.02  # no class is ever ruled out


def one_hot_planes(mask: np.ndarray) -> np.ndarray:
    """Return (D, C, H, W) float32 of a decided mask (D, H, W)."""
    classes = np.arange(NUM_CLASSES, dtype=mask.dtype)[:, None, None]
    return (mask[:, None] == classes).astype(np.float32)


def soft_mask(mask: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    """Return probabilities (D, C, H, W) float32 for a decided mask (D, H, W).

    Sure inside a structure, unsure along its border; every class keeps a little everywhere, for a
    decided mask says nothing of how sure the segmenter was.
    """
    sigma = (0, 0, _BLUR_MM / pixel_mm[0], _BLUR_MM / pixel_mm[1])
    blurred = ndimage.gaussian_filter(one_hot_planes(mask), sigma, truncate=2.0)
    blurred = _LEAST / NUM_CLASSES + (1 - _LEAST) * blurred
    return blurred / blurred.sum(axis=1, keepdims=True)
