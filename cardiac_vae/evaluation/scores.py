"""The scores of one mask against the expert's: overlap, distance, volume, presence, anatomy.

A structure the expert drew and the prediction lacks is *missed*: Dice 0, distances infinite. One
the expert did not draw and the prediction holds is *spurious*: the same scores. Neither is dropped
here or later; ``summaries`` turns the infinite distances into a penalty and counts both. The same
words, of a slice, compare the masks in that slice alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.anatomy.measurements import volume_ml
from cardiac_vae.data.case import CardiacCase
from cardiac_vae.labels import HEART, Phase, Structure
from cardiac_vae.metrics.overlap import dice
from cardiac_vae.metrics.presence import PresenceErrors, presence_errors
from cardiac_vae.metrics.surface import average_surface_distance, hausdorff95, volume_diagonal_mm


@dataclass(frozen=True, slots=True)
class StructureScores:
    """How well one structure of one case was drawn, in three dimensions.

    Attributes:
        dice: In [0, 1]; NaN if neither mask has the structure, 0 if one has.
        hd95_mm: 95th percentile of the symmetric surface distance; NaN if neither mask has the
            structure, infinite if one has.
        assd_mm: Average symmetric surface distance, with the same conventions.
        volume_ml: Volume in the predicted mask.
        reference_volume_ml: Volume in the expert's mask.
        num_spurious_slices: Slices where the prediction drew it and the expert did not.
        num_missed_slices: Slices where the expert drew it and the prediction did not.
    """

    dice: float
    hd95_mm: float
    assd_mm: float
    volume_ml: float
    reference_volume_ml: float
    num_spurious_slices: int
    num_missed_slices: int

    @property
    def is_missed(self) -> bool:
        """Whether the expert drew it and the prediction did not."""
        return self.reference_volume_ml > 0 and self.volume_ml == 0

    @property
    def is_spurious(self) -> bool:
        """Whether the prediction drew it and the expert did not."""
        return self.reference_volume_ml == 0 and self.volume_ml > 0


@dataclass(frozen=True, slots=True)
class CaseScores:
    """All scores of one predicted mask: one row of the table of cases.

    Attributes:
        case_id: Patient and phase.
        patient_id: Cases that share it are never independent.
        phase: End-diastole or end-systole.
        group: Diagnosis, or "".
        structures: The scores of RV, MYO and LV.
        diagonal_mm: Length of the volume's diagonal, the penalty for an infinite distance.
        num_slices: Slices of the volume.
        num_empty_slices: Slices without any structure in the predicted mask (valid, trivially).
        num_valid_slices: Slices that break none of the 16 criteria, the empty ones included.
        is_valid_volume: Whether every slice is valid.
        broken: Number of slices that break each criterion, in the order of ``CRITERIA``.
    """

    case_id: str
    patient_id: str
    phase: Phase
    group: str
    structures: Mapping[Structure, StructureScores]
    diagonal_mm: float
    num_slices: int
    num_empty_slices: int
    num_valid_slices: int
    is_valid_volume: bool
    broken: Mapping[str, int]

    @property
    def mean_dice(self) -> float:
        """Mean over the structures that either mask has; NaN if there is none."""
        values = [scores.dice for scores in self.structures.values() if not np.isnan(scores.dice)]
        return float(np.mean(values)) if values else float("nan")


def score_case(case: CardiacCase, predicted: np.ndarray) -> CaseScores:
    """Score a predicted mask (D, H, W), uint8 of ``Structure``, against the case's expert mask.

    Raises:
        ValueError: if the predicted mask is not on the case's grid.
    """
    if predicted.shape != case.mask.shape:
        raise ValueError(
            f"{case.case_id}: expected a predicted mask on the expert's grid {case.mask.shape}, "
            f"got {predicted.shape}; bring it back to the scan's grid first"
        )
    verdict = check_volume(predicted, case.spacing_mm)
    presence = presence_errors(case.mask, predicted)
    num_slices, height, width = predicted.shape
    return CaseScores(
        case_id=case.case_id,
        patient_id=case.patient_id,
        phase=case.phase,
        group=case.group,
        structures={
            structure: _score_structure(structure, case, predicted, presence) for structure in HEART
        },
        diagonal_mm=volume_diagonal_mm((num_slices, height, width), case.spacing_mm),
        num_slices=num_slices,
        num_empty_slices=verdict.num_empty_slices,
        num_valid_slices=verdict.num_valid_slices,
        is_valid_volume=verdict.is_valid,
        broken=dict(verdict.broken),
    )


def _score_structure(
    structure: Structure, case: CardiacCase, predicted: np.ndarray, presence: PresenceErrors
) -> StructureScores:
    pair = case.mask == structure, predicted == structure
    return StructureScores(
        dice=dice(*pair),
        hd95_mm=hausdorff95(*pair, case.spacing_mm),
        assd_mm=average_surface_distance(*pair, case.spacing_mm),
        volume_ml=volume_ml(predicted, structure, case.spacing_mm),
        reference_volume_ml=volume_ml(case.mask, structure, case.spacing_mm),
        num_spurious_slices=presence.spurious[structure],
        num_missed_slices=presence.missed[structure],
    )
