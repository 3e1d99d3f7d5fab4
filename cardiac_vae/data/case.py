"""The record a reader yields: one patient at one phase."""

from dataclasses import dataclass, field

import numpy as np

from cardiac_vae.labels import Phase, Structure

Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class CardiacCase:
    """The mask of one patient at one phase, with its image and geometry.

    Attributes:
        patient_id: Cases that share it never straddle a split.
        phase: End-diastole or end-systole.
        mask: (D, H, W) uint8, values of ``Structure``.
        spacing_mm: Voxel size along (slice, row, column).
        image: (D, H, W) float32 MR image on the same grid, if there is one.
        group: Diagnosis, or "" where the dataset gives none.
    """

    patient_id: str
    phase: Phase
    mask: np.ndarray
    spacing_mm: Spacing
    image: np.ndarray | None = field(default=None, repr=False)
    group: str = ""

    def __post_init__(self) -> None:
        unknown = sorted(set(np.unique(self.mask).tolist()) - set(Structure))
        if self.mask.ndim != 3 or unknown:
            raise ValueError(
                f"{self.case_id}: expected a (D, H, W) mask with values {[*map(int, Structure)]}, "
                f"got shape {self.mask.shape} and unknown values {unknown}"
            )
        if self.image is not None and self.image.shape != self.mask.shape:
            raise ValueError(
                f"{self.case_id}: expected an image on the mask's grid {self.mask.shape}, "
                f"got {self.image.shape}"
            )
        if not all(np.isfinite(size) and size > 0 for size in self.spacing_mm):
            raise ValueError(
                f"{self.case_id}: expected positive voxel sizes in mm, got {self.spacing_mm}"
            )

    @property
    def case_id(self) -> str:
        """Return patient and phase, unique in a dataset."""
        return f"{self.patient_id}_{self.phase}"
