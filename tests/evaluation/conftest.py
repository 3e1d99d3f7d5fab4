"""Rows with chosen numbers."""

from collections.abc import Callable, Mapping

import pytest

from cardiac_vae.anatomy.criteria import CRITERIA
from cardiac_vae.evaluation.scores import CaseScores, StructureScores
from cardiac_vae.labels import HEART, Phase


def _make_row(
    patient_id: str = "patient001",
    phase: str = "ed",
    *,
    dice: float = 0.9,
    hd95_mm: float = 4.0,
    volumes_ml: tuple[float, float, float] = (120.0, 90.0, 100.0),
    reference_volumes_ml: tuple[float, float, float] = (120.0, 90.0, 100.0),
    slices: tuple[int, int, int] = (10, 1, 9),
    spurious_slices: tuple[int, int, int] = (0, 0, 0),
    missed_slices: tuple[int, int, int] = (0, 0, 0),
    broken: Mapping[str, int] | None = None,
    group: str = "NOR",
) -> CaseScores:
    """Return a row; slices are all, empty, valid; other triples are those of RV, MYO, LV."""
    return CaseScores(
        case_id=f"{patient_id}_{phase}",
        patient_id=patient_id,
        phase=Phase(phase),
        group=group,
        structures={
            structure: StructureScores(dice, hd95_mm, hd95_mm / 4, *of_structure)
            for structure, *of_structure in zip(
                HEART,
                volumes_ml,
                reference_volumes_ml,
                spurious_slices,
                missed_slices,
                strict=True,
            )
        },
        diagonal_mm=400.0,
        num_slices=slices[0],
        num_empty_slices=slices[1],
        num_valid_slices=slices[2],
        is_valid_volume=slices[0] == slices[2],
        broken=dict.fromkeys(CRITERIA, 0) | dict(broken or {}),
    )


@pytest.fixture
def make_row() -> Callable[..., CaseScores]:
    return _make_row
