"""The files of a case, and how they become a ``CardiacCase``; what all readers share."""

from dataclasses import dataclass
from pathlib import Path

from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.nifti import grid_difference, read_image, read_mask
from cardiac_vae.labels import LabelMap, Phase, to_structures


@dataclass(frozen=True, slots=True)
class CasePaths:
    """Where the files of one case are.

    Attributes:
        patient_id: Cases that share it never straddle a split.
        phase: End-diastole or end-systole.
        group: Diagnosis, or "" where the dataset gives none.
        scan: The image.
        mask: The expert mask.
    """

    patient_id: str
    phase: Phase
    group: str
    scan: Path
    mask: Path

    @property
    def case_id(self) -> str:
        """Return patient and phase, unique in a dataset."""
        return f"{self.patient_id}_{self.phase}"


def read_case(paths: CasePaths, labels: LabelMap) -> CardiacCase:
    """Read the mask and the image of one case.

    Raises:
        FileNotFoundError: if one of the files is gone.
        ValueError: if one is no sound NIfTI volume, the mask holds values that ``labels`` does not
            name, or the two lie on different grids.
    """
    mask, image = read_mask(paths.mask), read_image(paths.scan)
    difference = grid_difference(mask, image)
    if difference:
        raise ValueError(
            f"{paths.mask}: expected the grid of its image {paths.scan.name}, got another: "
            f"{difference}; export both from the same series"
        )
    try:
        structures = to_structures(mask.volume, labels)
    except ValueError as error:
        raise ValueError(f"{paths.mask}: {error}") from None
    return CardiacCase(
        patient_id=paths.patient_id,
        phase=paths.phase,
        mask=structures,
        spacing_mm=mask.spacing_mm,
        image=image.volume,
        group=paths.group,
    )
