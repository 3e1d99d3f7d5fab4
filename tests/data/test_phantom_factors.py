"""The factors that are read back belong to the slices they are joined to."""

from pathlib import Path

import numpy as np
import pytest

from cardiac_vae.data.phantom import Patient, PhantomConfig, make_patient, write_cohort
from cardiac_vae.data.phantom_anatomy import HeartShape, PolarPlane
from cardiac_vae.data.phantom_factors import FACTORS, FACTORS_FILE, read_factors, slice_factors
from cardiac_vae.labels import Phase, Structure

CONFIG = PhantomConfig(num_patients=1, seed=3, max_misregistration_mm=0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    write_cohort(root, CONFIG)
    return root


@pytest.fixture(scope="module")
def patient() -> Patient:
    return make_patient(0, CONFIG)


def test_factors_of_slices_are_those_they_were_made_from(cohort: Path, patient: Patient):
    stack = len(patient.masks[Phase.ED])
    case_ids = [f"{patient.patient_id}_{phase}" for phase in Phase for _ in range(stack)]
    rows = slice_factors(read_factors(cohort / FACTORS_FILE), case_ids)
    assert rows.shape == (2 * stack, len(FACTORS))
    heart = patient.heart
    for row, phase, index in ((rows[0], Phase.ED, 0), (rows[stack + 4], Phase.ES, 4)):
        volumes = {
            Phase.ED: (heart.edv_ml, heart.rv_edv_ml),
            Phase.ES: (heart.esv_ml, heart.rv_esv_ml),
        }[phase]
        depth_mm = patient.placement.first_slice_mm + index * patient.placement.slice_mm
        expected = (depth_mm / heart.length_mm, *volumes, heart.wall_mm, heart.pose_deg)
        np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_the_position_is_where_the_mask_was_cut(cohort: Path, patient: Patient):
    """Without shifts between slices, the shape cut at that depth has the mask's areas."""
    masks, placement = patient.masks[Phase.ED], patient.placement
    case_ids = [f"{patient.patient_id}_ed"] * len(masks)
    positions = slice_factors(read_factors(cohort / FACTORS_FILE), case_ids)[:, 0]
    shape = HeartShape(patient.heart, Phase.ED)
    axis = np.arange(-70.0, 70.0)
    plane = PolarPlane(axis, axis)
    for mask, position in zip(masks, positions, strict=True):
        cut = shape.mask(position * patient.heart.length_mm, plane)
        area_mm2 = np.count_nonzero(mask == Structure.LV) * placement.pixel_mm**2
        assert np.count_nonzero(cut == Structure.LV) == pytest.approx(area_mm2, rel=0.1, abs=40)


def test_what_is_not_there_is_named(cohort: Path, tmp_path: Path):
    factors = read_factors(cohort / FACTORS_FILE)
    with pytest.raises(ValueError, match="got none of patient002_ed"):
        slice_factors(factors, ["patient001_ed", "patient002_ed"])
    with pytest.raises(FileNotFoundError, match="run the acquire stage"):
        read_factors(tmp_path / FACTORS_FILE)
    (tmp_path / FACTORS_FILE).write_text("case_id,lv_ml\na,1\n")
    with pytest.raises(ValueError, match="'first_slice_mm', 'length_mm'"):
        read_factors(tmp_path / FACTORS_FILE)
