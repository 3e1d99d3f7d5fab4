"""In which slices a structure is drawn, against those in which the expert drew it.

Overlap in three dimensions hides these errors, for the slices at the base and the apex are small;
yet a third and more of the Dice that a segmenter loses is lost there, to structures drawn or missed
as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cardiac_vae.labels import HEART, Structure


@dataclass(frozen=True, slots=True)
class PresenceErrors:
    """Number of slices in which a structure is there in one mask of a volume only.

    Attributes:
        spurious: By structure, slices where it is drawn and the expert drew none.
        missed: By structure, slices where the expert drew it and the mask has none.
        num_slices: Slices of the volume.
    """

    spurious: Mapping[Structure, int]
    missed: Mapping[Structure, int]
    num_slices: int

    @property
    def total(self) -> int:
        """Return the errors of both kinds over all structures; at most 3 a slice."""
        return sum(self.spurious.values()) + sum(self.missed.values())


def present_structures(mask: np.ndarray) -> np.ndarray:
    """Return in which slices of a mask (D, H, W) each structure is: (D, 3) bool, as ``HEART``.

    Raises:
        ValueError: if the mask is not (D, H, W).
    """
    if mask.ndim != 3:
        raise ValueError(f"mask: expected a label map (D, H, W), got shape {mask.shape}")
    return np.stack([(mask == int(structure)).any(axis=(1, 2)) for structure in HEART], axis=1)


def structure_pixels(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of each structure in each slice of a mask (D, H, W): (D, 3)."""
    return np.stack([(mask == int(structure)).sum(axis=(1, 2)) for structure in HEART], axis=1)


def presence_errors(reference: np.ndarray, predicted: np.ndarray) -> PresenceErrors:
    """Count the presence errors of a predicted mask against the expert's, both (D, H, W).

    A structure is present in a slice if a single pixel of it is.

    Raises:
        ValueError: if the masks are not two (D, H, W) of one shape.
    """
    if reference.shape != predicted.shape:
        raise ValueError(
            f"expected two masks (D, H, W) of one shape, got {reference.shape} and "
            f"{predicted.shape}; bring the predicted mask to the expert's grid first"
        )
    expert, drawn = present_structures(reference), present_structures(predicted)
    spurious, missed = (drawn & ~expert).sum(axis=0), (expert & ~drawn).sum(axis=0)
    return PresenceErrors(
        spurious=dict(zip(HEART, spurious.tolist(), strict=True)),
        missed=dict(zip(HEART, missed.tolist(), strict=True)),
        num_slices=len(reference),
    )
