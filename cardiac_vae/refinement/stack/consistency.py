"""Whether a volume hangs together: no gap in the stack, and each structure in one part.

Slices lie up to a centimeter apart, and a thin wall that tapers, or a heart that leans, need not
overlap from one to the next: of the experts' hearts in ACDC one in fourteen has a right ventricle
or a myocardium whose voxels do not all touch. So parts in neighboring slices belong together if,
in the plane, they come as near to each other as the slices are apart: a lean of 45 degrees.
"""

import numpy as np
from scipy import ndimage

from cardiac_vae.data.case import Spacing
from cardiac_vae.labels import HEART, Structure
from cardiac_vae.metrics.presence import present_structures

_TOUCHING = np.ones((3, 3, 3), bool)


def gaps(mask: np.ndarray) -> dict[Structure, list[int]]:
    """Return the slices of a mask (D, H, W) that lack a structure which lies on both sides.

    Structures without a gap are left out, so a volume without any returns {}.

    Raises:
        ValueError: if the mask is not (D, H, W).
    """
    missing = is_gap(present_structures(mask))
    return {
        structure: np.flatnonzero(column).tolist()
        for structure, column in zip(HEART, missing.T, strict=True)
        if column.any()
    }


def is_gap(present: np.ndarray) -> np.ndarray:
    """Return where a structure is absent between slices that have it; both (D, N) bool."""
    before = np.logical_or.accumulate(present, axis=0)
    after = np.logical_or.accumulate(present[::-1], axis=0)[::-1]
    return before & after & ~present


def detached_voxels(mask: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Return where a mask (D, H, W) draws a structure apart from its main part, as bool.

    The main part is the largest in which voxels touch by face, edge or corner, and what continues
    it in the slices beyond its ends. A heart has one of each; what lies apart is a mistake.
    """
    detached = np.zeros(mask.shape, bool)
    boxes = ndimage.find_objects(mask.astype(np.uint8), max_label=max(HEART))
    for structure, box in zip(HEART, boxes, strict=True):
        if box is None:
            continue
        parts, num_parts = ndimage.label(mask[box] == structure, _TOUCHING)
        if num_parts > 1:
            detached[box] |= (parts > 0) & ~_main_part(parts, spacing_mm)
    return detached


def inconsistencies(mask: np.ndarray, spacing_mm: Spacing) -> list[str]:
    """Return what is wrong with a mask (D, H, W) as a volume, a line each; [] if nothing is."""
    lines = [
        f"{structure.name} is absent between slices that have it: {', '.join(map(str, slices))}"
        for structure, slices in gaps(mask).items()
    ]
    apart = np.bincount(mask[detached_voxels(mask, spacing_mm)], minlength=len(HEART) + 1)
    return lines + [
        f"{structure.name} has voxels apart from its main part: {apart[structure]}"
        for structure in HEART
        if apart[structure]
    ]


def _main_part(parts: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Return the largest of the labelled parts (D, h, w) and what continues it, as bool."""
    main = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    while True:
        beyond = ~main.any(axis=(1, 2))  # beside the main part, in one slice, nothing continues it
        near = _next_to(main, spacing_mm) & beyond[:, None, None]
        found = np.setdiff1d(parts[near], [0])
        joined = [part for part in found if not (parts == part)[~beyond].any()]
        if not joined:
            return main
        main |= np.isin(parts, joined)


def _next_to(main: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Return what lies, in the plane, within a slice distance of a neighboring slice's pixels."""
    slice_mm, *pixel_mm = spacing_mm
    near = np.zeros_like(main)
    for index in np.flatnonzero(main.any(axis=(1, 2))):
        reached = ndimage.distance_transform_edt(~main[index], sampling=pixel_mm) <= slice_mm
        for neighbor in (index - 1, index + 1):
            if 0 <= neighbor < len(main):
                near[neighbor] |= reached
    return near
