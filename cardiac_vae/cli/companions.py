"""What belongs to a mask, read with it: its scan and its probabilities, on the mask's grid."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cardiac_vae.cli.inputs import Case
from cardiac_vae.data.nifti import NiftiVolume, grid_difference, read_image, read_probabilities


def scan_of(case: Case, mask: NiftiVolume) -> Sequence[np.ndarray | None]:
    """Return the scan (D, H, W) of each frame of a mask; None where there is none.

    Raises:
        ValueError: if the scan is not on the mask's grid.
    """
    if case.scan is None:
        return [None] * len(mask.frames)
    scan = read_image(case.scan)
    if not mask.is_cine:  # the mask of one instant of a cine lies on the cine's grid
        first = replace(scan, frames=scan.frames[:1])
        _expect_same_grid(case.scan, first, mask)
        # Which instant of a cine the mask is of is not known: its intensities say nothing here.
        return [None if scan.is_cine else scan.frames[0]]
    _expect_same_grid(case.scan, scan, mask)
    return list(scan.frames)


def probabilities_of(case: Case, mask: NiftiVolume) -> np.ndarray | None:
    """Return the segmenter's probabilities (D, C, H, W), if there are any.

    Raises:
        ValueError: if the mask is a cine's, or the probabilities are not on its grid.
    """
    if case.probabilities is None:
        return None
    if mask.is_cine:
        raise ValueError(
            f"{case.probabilities}: expected no probabilities for a cine mask, since a file of "
            "them holds a single instant; leave them out for the cine, or go frame by frame"
        )
    probabilities, grid = read_probabilities(case.probabilities)
    _expect_same_grid(case.probabilities, grid, mask)
    return probabilities


def _expect_same_grid(path: Path, other: NiftiVolume, mask: NiftiVolume) -> None:
    difference = grid_difference(other, mask)
    if difference:
        raise ValueError(
            f"{path}: expected the grid of {mask.path}, got another {difference}; resample one to "
            "the other, or pair the right files"
        )
