"""What a segmenter says of every pixel: its probabilities, or its decided mask softened."""

import numpy as np
from scipy import ndimage

from cardiac_vae.labels import HEART, NUM_CLASSES

_BLUR_MM = 1.5  # how far a drawn border may lie from the true one
_LEAST = 0.02  # no class is ever ruled out
_DOUBT = 1e-3


def one_hot_planes(mask: np.ndarray) -> np.ndarray:
    """Return (D, C, H, W) float32 of a decided mask (D, H, W)."""
    classes = np.arange(NUM_CLASSES, dtype=mask.dtype)[:, None, None]
    return (mask[:, None] == classes).astype(np.float32)


def detached_voxels(mask: np.ndarray) -> np.ndarray:
    """Return where a mask (D, H, W) draws a structure apart from its largest 3-D part, as bool.

    Voxels touch by face, edge or corner. A heart has one of each; what lies apart is a mistake.
    """
    detached = np.zeros(mask.shape, bool)
    boxes = ndimage.find_objects(mask.astype(np.uint8), max_label=max(HEART))
    for structure in HEART:
        box = boxes[structure - 1]
        if box is None:
            continue
        parts, num_parts = ndimage.label(mask[box] == structure, np.ones((3, 3, 3)))
        if num_parts > 1:
            largest = 1 + np.bincount(parts.ravel())[1:].argmax()
            detached[box] |= (parts > 0) & (parts != largest)
    return detached


def doubted(probabilities: np.ndarray, mask: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return probabilities (N, C, H, W) that hardly believe a mask (N, H, W) at some voxels.

    ``where`` is (N, H, W) bool; there the class that the mask draws loses all but a thousandth.
    """
    planes = one_hot_planes(mask).astype(bool) & where[:, None]
    doubtful = np.where(planes, _DOUBT * probabilities, probabilities)
    return doubtful / doubtful.sum(axis=1, keepdims=True)


def soft_mask(mask: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    """Return probabilities (D, C, H, W) float32 for a decided mask (D, H, W).

    Sure inside a structure, unsure along its border; every class keeps a little everywhere, for a
    decided mask says nothing of how sure the segmenter was.
    """
    sigma = (0, 0, _BLUR_MM / pixel_mm[0], _BLUR_MM / pixel_mm[1])
    blurred = ndimage.gaussian_filter(one_hot_planes(mask), sigma, truncate=2.0)
    blurred = _LEAST / NUM_CLASSES + (1 - _LEAST) * blurred
    return blurred / blurred.sum(axis=1, keepdims=True)
