"""A drawn stack as a corrector sees it, and what is then said of the structures in its slices.

Slices lie in the window of the drawn heart, and what lies apart from it is not believed.
"""

import numpy as np

from cardiac_vae.correction.corrector import Corrector
from cardiac_vae.data.case import Spacing
from cardiac_vae.labels import Structure, most_probable
from cardiac_vae.refinement.doubt import loose_voxels
from cardiac_vae.refinement.stack.evidence import slice_evidence
from cardiac_vae.refinement.window import HeartWindow


def seen_stack(
    mask: np.ndarray, probabilities: np.ndarray, spacing_mm: Spacing, size: int, pixel_mm: float
) -> tuple[HeartWindow, np.ndarray]:
    """Return the window of a drawn heart, and its probabilities there, (D, C, S, S) float32.

    ``mask`` (D, H, W) shows a heart, ``probabilities`` are (D, C, H, W); S is ``size`` pixels of
    ``pixel_mm``.
    """
    is_wrong = loose_voxels(mask, spacing_mm)
    drawn = np.where(is_wrong, np.uint8(Structure.BACKGROUND), mask)
    window = HeartWindow.around(drawn, spacing_mm, size, pixel_mm)
    _, given = window.shown(mask, is_wrong, probabilities)
    return window, given


def stack_evidence(
    mask: np.ndarray,
    probabilities: np.ndarray,
    spacing_mm: Spacing,
    corrector: Corrector | None = None,
) -> np.ndarray:
    """Return the evidence (D, 3, F) of a drawn stack: F is 2, or 4 with a corrector.

    ``mask`` is (D, H, W), ``probabilities`` are (D, C, H, W). Where nothing is drawn, a corrector
    has nothing to look at, and says what the segmenter does.

    Raises:
        ValueError: if the probabilities are not on the mask's grid.
    """
    said = slice_evidence(mask, probabilities, spacing_mm[1:])
    if corrector is None:
        return said
    if not mask.any():
        return np.concatenate([said, said], axis=2)
    size, pixel_mm = corrector.config.image_size, corrector.pixel_mm
    _, given = seen_stack(mask, probabilities, spacing_mm, size, pixel_mm)
    corrected = corrector.correct(given, np.arange(len(given)))
    heard = slice_evidence(most_probable(corrected), corrected, (pixel_mm, pixel_mm))
    return np.concatenate([said, heard], axis=2)
