"""Masks as the commands need them: read, and translated by what ``--labels`` says or implies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from cardiac_vae.data.nifti import NiftiVolume, read_mask
from cardiac_vae.labels import (
    ACDC_LABELS,
    LabelMap,
    Structure,
    from_structures,
    parse_labels,
    to_structures,
)

_MIN_BORDER = 200
_CLEAR_MARGIN = 0.3


@dataclass(frozen=True)
class Labelling:
    """What the values of the masks mean, and whether the person said so."""

    labels: LabelMap
    is_given: bool

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read ``--labels``; ACDC's where it is left out."""
        if text is None:
            return cls(ACDC_LABELS, is_given=False)
        return cls(parse_labels(text), is_given=True)

    def read(self, path: Path) -> tuple[NiftiVolume, np.ndarray]:
        """Read a mask; return it as it is on file, and as (T, D, H, W) uint8 ``Structure``.

        Raises:
            ValueError: if the file is no mask, holds values that have no meaning, or the meaning
                is a guess and the cavities suggest another one.
        """
        volume = read_mask(path)
        structures = to_structures(volume.frames, self.labels)
        if not self.is_given and has_swapped_cavities(structures):
            raise ValueError(
                f"{path}: expected ACDC's labels (RV 1, MYO 2, LV 3) since --labels is not given, "
                "got a cavity 1 inside the myocardium and a cavity 3 outside it; say "
                "--labels mnms (or --labels acdc if it is meant so)"
            )
        return volume, structures

    def write_back(self, structures: np.ndarray) -> np.ndarray:
        """Translate ``Structure`` values back to the dataset's own."""
        return from_structures(structures, self.labels)


def has_swapped_cavities(structures: np.ndarray) -> bool:
    """Tell whether what is called RV lies inside the myocardium, and what is called LV does not.

    (..., H, W) ``Structure``. M&Ms and ACDC use the same three values with the cavities exchanged,
    so a mask of one read as the other looks legal. In-plane, the LV's border is myocardium nearly
    all around, the RV's on one side; too little of either cavity to tell counts as not swapped.
    """
    shares = []
    for cavity in (Structure.RV, Structure.LV):
        border, with_myocardium = _border_of(structures, cavity)
        if border < _MIN_BORDER:
            return False
        shares.append(with_myocardium / border)
    return shares[0] > shares[1] + _CLEAR_MARGIN


def _border_of(structures: np.ndarray, cavity: Structure) -> tuple[int, int]:
    """Count in-plane pixel faces between a cavity and all else, and those with the myocardium."""
    border = with_myocardium = 0
    for axis in (-2, -1):
        swapped = np.moveaxis(structures, axis, -1)
        for one, other in (
            (swapped[..., 1:], swapped[..., :-1]),
            (swapped[..., :-1], swapped[..., 1:]),
        ):
            neighbors = other[(one == cavity) & (other != cavity)]
            border += neighbors.size
            with_myocardium += int((neighbors == Structure.MYO).sum())
    return border, with_myocardium
