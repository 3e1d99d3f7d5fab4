"""Whether the refiner knows how sure it is of its masks: voxels and intervals, by the experts.

Of patients that neither the calibration nor anything before it was fitted to.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.nifti import read_probabilities
from cardiac_vae.data.segmented import SCANS, probabilities_path, read_structures, refined_path
from cardiac_vae.evaluation.calibration_scores import score_voxels
from cardiac_vae.evaluation.interval_scores import Judged, score_intervals
from cardiac_vae.evaluation.segmented_case import expert_volumes_ml
from cardiac_vae.metrics.calibration import near_heart, voxels
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.uncertainty import MARGIN_MM
from cardiac_vae.refinement.uncertainty_fit import ExpertVolumes


def score_uncertainty(
    cases: Iterable[CardiacCase], segmented: Path, refined: Path, calibration: Calibration
) -> dict[str, Any]:
    """Judge refined masks whose segmenter gave probabilities (laid out as ``data.segmented``).

    Returns:
        By kind of scans ``voxels``, ``score_voxels`` of those within ``MARGIN_MM`` of what the
        expert or the refiner drew, and ``intervals``, ``score_intervals``, which a calibration
        without errors leaves empty.
    """
    judged: dict[str, list[Judged]] = {scans: [] for scans in SCANS}
    seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {scans: [] for scans in SCANS}
    for case in cases:
        for scans in SCANS:
            mask = read_structures(refined_path(refined, scans, case.case_id))
            probabilities, _ = read_probabilities(
                probabilities_path(segmented, scans, case.case_id)
            )
            found = calibration.uncertainty(mask, probabilities, case.spacing_mm)
            where = near_heart((case.mask > 0) | (mask > 0), case.spacing_mm[1:], MARGIN_MM)
            seen[scans].append(voxels(found.belief, case.mask, where))
            if found.errors is not None:
                expert_ml = expert_volumes_ml(case.mask, case.spacing_mm)
                volumes = ExpertVolumes(found.levels, expert_ml)
                judged[scans].append(Judged(case.patient_id, case.phase, volumes, found.errors))
    return {
        scans: {"voxels": _score(seen[scans]), "intervals": score_intervals(judged[scans])}
        for scans in SCANS
    }


def _score(seen: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any] | None:
    if not seen:
        return None
    belief, truth = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    return score_voxels(belief, truth)
