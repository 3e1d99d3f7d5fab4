"""Whether a volume hangs together: no gap in the stack, and each structure in one part."""

import numpy as np

from cardiac_vae.labels import HEART, Structure
from cardiac_vae.metrics.presence import present_structures
from cardiac_vae.refinement.observation import detached_voxels


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


def inconsistencies(mask: np.ndarray) -> list[str]:
    """Return what is wrong with a mask (D, H, W) as a volume, a line each; [] if nothing is."""
    lines = [
        f"{structure.name} is absent between slices that have it: {', '.join(map(str, slices))}"
        for structure, slices in gaps(mask).items()
    ]
    apart = np.bincount(mask[detached_voxels(mask)], minlength=len(HEART) + 1)
    return lines + [
        f"{structure.name} has voxels apart from its largest part: {apart[structure]}"
        for structure in HEART
        if apart[structure]
    ]
