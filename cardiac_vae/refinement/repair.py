"""Small repairs of one slice's topology, each pixel given to the class that costs least.

They turn a nearly valid slice into a valid one with few changes; they know no shapes, and they
promise nothing: what comes out is checked like every candidate.
"""

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image

from cardiac_vae.anatomy.topology import EIGHT_CONNECTED, bounding_box, holes, largest_part
from cardiac_vae.labels import HEART, Structure

_ROUNDS = 2  # a removed part can open what another repair has to close


def repaired(mask: np.ndarray, log_score: np.ndarray) -> np.ndarray:
    """Return a copy of a slice (H, W) with its structures whole and in place.

    ``log_score`` is (C, H, W), nats that each pixel gains by each class.
    """
    mask = mask.copy()
    for _ in range(_ROUNDS):
        _keep_largest_parts(mask, log_score)
        _close_wall(mask)
        _fill_holes(mask, log_score)
        _bridge_gap(mask)
    return mask


def smoothed(mask: np.ndarray, radius: int) -> np.ndarray:
    """Return a slice (H, W) whose ventricle and wall lost all that is thinner than a disk.

    The LV with its wall, then the LV, then the RV are opened and closed by a disk of ``radius``
    pixels; the wall is what lies between.
    """
    left = _rounded((mask == Structure.LV) | (mask == Structure.MYO), radius)
    lv = _rounded(mask == Structure.LV, radius)
    rv = _rounded(mask == Structure.RV, radius)
    result = np.zeros_like(mask)
    result[rv] = Structure.RV
    result[left] = Structure.MYO
    result[lv & ndimage.binary_erosion(left | lv, EIGHT_CONNECTED)] = Structure.LV
    return result


def convex_wall(mask: np.ndarray) -> np.ndarray:
    """Return a slice (H, W) whose myocardium fills the convex hull of the left ventricle.

    What lies between the pixel centers of the hull and was no LV becomes wall.
    """
    left = (mask == Structure.LV) | (mask == Structure.MYO)
    if not (mask == Structure.MYO).any():
        return mask
    result = mask.copy()
    rows, columns = bounding_box(left)
    hull = convex_hull_image(left[rows, columns], offset_coordinates=False)
    inner = result[rows, columns]
    inner[hull & (inner != Structure.LV)] = Structure.MYO
    return result


def _keep_largest_parts(mask: np.ndarray, log_score: np.ndarray) -> None:
    """Give the pixels of every smaller part to the best other class."""
    for structure in HEART:
        present = mask == structure
        lost = present & ~largest_part(present)
        if lost.any():
            others = log_score[:, lost].copy()
            others[structure] = -np.inf
            mask[lost] = others.argmax(axis=0)


def _close_wall(mask: np.ndarray) -> None:
    """Put myocardium between the LV and whatever else it touches."""
    lv = mask == Structure.LV
    if lv.any():
        beside = ndimage.binary_dilation(lv, EIGHT_CONNECTED) & ~lv
        mask[beside] = Structure.MYO


def _fill_holes(mask: np.ndarray, log_score: np.ndarray) -> None:
    """Give what a structure encloses to it, and what the heart encloses to the best structure."""
    for structure in (Structure.LV, Structure.RV):
        mask[holes(mask == structure)] = structure
    myo = mask == Structure.MYO
    mask[holes(myo, around=mask == Structure.LV)] = Structure.MYO
    enclosed = holes(mask > 0) & (mask == Structure.BACKGROUND)
    if enclosed.any():
        mask[enclosed] = log_score[1:, enclosed].argmax(axis=0) + 1


def _bridge_gap(mask: np.ndarray) -> None:
    """Let the RV reach the myocardium where a thin gap of background lies between."""
    rv, myo = mask == Structure.RV, mask == Structure.MYO
    if not rv.any() or not myo.any():
        return
    if (ndimage.binary_dilation(rv, EIGHT_CONNECTED) & myo).any():
        return
    for width in (1, 2, 3):
        near_rv = ndimage.binary_dilation(rv, EIGHT_CONNECTED, iterations=width)
        near_myo = ndimage.binary_dilation(myo, EIGHT_CONNECTED, iterations=width)
        bridge = near_rv & near_myo & (mask == Structure.BACKGROUND)
        if bridge.any():
            mask[bridge] = Structure.RV
            return


def _rounded(structure: np.ndarray, radius: int) -> np.ndarray:
    """Open and close by a disk; a structure that vanishes when opened is only closed."""
    if not structure.any():
        return structure
    reach = np.arange(-radius, radius + 1)
    disk = np.hypot(reach[:, None], reach) <= radius + 0.5
    padded = np.pad(structure, radius + 1)
    closed = ndimage.binary_closing(padded, disk)
    opened = ndimage.binary_opening(closed, disk)
    return (opened if opened.any() else closed)[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
