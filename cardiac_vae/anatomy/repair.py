"""Small repairs of one slice's topology, each pixel given to the class that costs least.

They turn a nearly valid slice into a valid one with few changes; they know no shapes, and they
promise nothing: what comes out is checked like every candidate.
"""

import numpy as np

from cardiac_vae.anatomy.outline import convex_hull, inside_hull
from cardiac_vae.anatomy.topology import bounding_box, grown, holes, largest_part, pixels_of
from cardiac_vae.labels import HEART, Structure

_ROUNDS = 2  # a removed part can open what another repair has to close
_WIDEST_BRIDGE = 3
_REACH = _ROUNDS * (1 + _WIDEST_BRIDGE)  # how far the repairs can grow a heart, in pixels


def repaired(mask: np.ndarray, log_score: np.ndarray) -> np.ndarray:
    """Return a copy of a slice (H, W) with its structures whole and in place.

    ``log_score`` is (C, H, W), nats that each pixel gains by each class.
    """
    mask = mask.copy()
    rows, columns = (
        slice(max(side.start - _REACH, 0), side.stop + _REACH) for side in bounding_box(mask)
    )
    inner, inner_score = mask[rows, columns], log_score[:, rows, columns]
    for _ in range(_ROUNDS):
        before = inner.copy()
        _keep_largest_parts(inner, inner_score)
        _close_wall(inner)
        _fill_holes(inner, inner_score)
        _bridge_gap(inner)
        if np.array_equal(inner, before):
            break
    return mask


def smoothed(mask: np.ndarray, radius: int) -> np.ndarray:
    """Return a slice (H, W) whose ventricle and wall lost all that is thinner than a disk.

    The LV with its wall, then the LV, then the RV are opened and closed by a disk of ``radius``
    pixels; the wall is what lies between.
    """
    left = _rounded(pixels_of(mask, Structure.LV) | pixels_of(mask, Structure.MYO), radius)
    lv = _rounded(pixels_of(mask, Structure.LV), radius)
    rv = _rounded(pixels_of(mask, Structure.RV), radius)
    result = np.zeros_like(mask)
    result[rv] = Structure.RV
    result[left] = Structure.MYO
    result[lv & _shrunk(left | lv)] = Structure.LV
    return result


def convex_wall(mask: np.ndarray) -> np.ndarray:
    """Return a slice (H, W) whose myocardium fills the convex hull of the left ventricle.

    What lies between the pixel centers of the hull and was no LV becomes wall.
    """
    left = pixels_of(mask, Structure.LV) | pixels_of(mask, Structure.MYO)
    if not pixels_of(mask, Structure.MYO).any():
        return mask
    result = mask.copy()
    rows, columns = bounding_box(left)
    left = left[rows, columns]
    hull = inside_hull(convex_hull(left), left.shape)
    inner = result[rows, columns]
    inner[hull & (inner != Structure.LV)] = Structure.MYO
    return result


def _keep_largest_parts(mask: np.ndarray, log_score: np.ndarray) -> None:
    """Give the pixels of every smaller part to the best other class."""
    for structure in HEART:
        present = pixels_of(mask, structure)
        part = largest_part(present)
        if part is not present:
            lost = present & ~part
            others = log_score[:, lost].copy()
            others[structure] = -np.inf
            mask[lost] = others.argmax(axis=0)


def _close_wall(mask: np.ndarray) -> None:
    """Put myocardium between the LV and whatever else it touches."""
    lv = pixels_of(mask, Structure.LV)
    if lv.any():
        beside = grown(lv) & ~lv
        mask[beside] = Structure.MYO


def _fill_holes(mask: np.ndarray, log_score: np.ndarray) -> None:
    """Give what a structure encloses to it, and what the heart encloses to the best structure."""
    for structure in (Structure.LV, Structure.RV):
        mask[holes(pixels_of(mask, structure))] = structure
    myo = pixels_of(mask, Structure.MYO)
    mask[holes(myo, around=pixels_of(mask, Structure.LV))] = Structure.MYO
    enclosed = holes(mask > 0) & pixels_of(mask, Structure.BACKGROUND)
    if enclosed.any():
        mask[enclosed] = log_score[1:, enclosed].argmax(axis=0) + 1


def _bridge_gap(mask: np.ndarray) -> None:
    """Let the RV reach the myocardium where a thin gap of background lies between."""
    rv, myo = pixels_of(mask, Structure.RV), pixels_of(mask, Structure.MYO)
    if not rv.any() or not myo.any():
        return
    near_rv, near_myo = grown(rv), grown(myo)
    if (near_rv & myo).any():
        return
    for _ in range(_WIDEST_BRIDGE):
        farther = grown(near_rv)
        if (farther & myo).any():  # both have grown over the whole gap by now
            mask[near_rv & near_myo & pixels_of(mask, Structure.BACKGROUND)] = Structure.RV
            return
        near_rv, near_myo = farther, grown(near_myo)


def _rounded(structure: np.ndarray, radius: int) -> np.ndarray:
    """Open and close by a disk; a structure that vanishes when opened is only closed."""
    result = np.zeros_like(structure)
    rows, columns = bounding_box(structure)  # which neither leaves
    inner = structure[rows, columns]
    if not inner.size:
        return result
    margin = radius + 1
    padded = np.zeros((inner.shape[0] + 2 * margin, inner.shape[1] + 2 * margin), bool)
    padded[margin:-margin, margin:-margin] = inner
    closed = ~_grown_by_disk(~_grown_by_disk(padded, radius), radius)
    opened = _grown_by_disk(~_grown_by_disk(~closed, radius), radius)
    rounded = opened if opened.any() else closed
    result[rows, columns] = rounded[margin:-margin, margin:-margin]
    return result


def _grown_by_disk(structure: np.ndarray, radius: int) -> np.ndarray:
    """Return a structure (H, W) bool grown by the pixels within ``radius`` + 0.5 of each."""
    result = structure.copy()
    run, reach = structure, 0
    for offset in range(radius, -1, -1):  # farthest rows first: they have the shortest runs
        while reach < int(((radius + 0.5) ** 2 - offset**2) ** 0.5):
            wider = run.copy()
            wider[:, 1:] |= run[:, :-1]
            wider[:, :-1] |= run[:, 1:]
            run, reach = wider, reach + 1
        if offset:
            result[offset:] |= run[:-offset]
            result[:-offset] |= run[offset:]
    return result | run


def _shrunk(structure: np.ndarray) -> np.ndarray:
    """Return a structure (H, W) bool without its rim; the array's edge is rim."""
    shrunk = ~grown(~structure)
    shrunk[[0, -1]] = False
    shrunk[:, [0, -1]] = False
    return shrunk
