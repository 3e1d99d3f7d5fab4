"""Phantoms are hearts: with the volumes that were drawn, in ACDC's layout, the same every time."""

import csv
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.data.acdc import read_cases
from cardiac_vae.data.phantom import Patient, PhantomConfig, make_patient, write_cohort
from cardiac_vae.data.phantom_anatomy import ANGLES, HeartShape, PolarPlane
from cardiac_vae.data.phantom_diagnosis import DIAGNOSES, GROUPS, draw_heart
from cardiac_vae.data.phantom_image import Acquisition, acquire
from cardiac_vae.data.phantom_tissue import PixelGrid, SmoothNoise, Tissue
from cardiac_vae.labels import Phase, Structure

CONFIG = PhantomConfig(num_patients=5, seed=3)


@pytest.fixture(scope="module")
def patients() -> list[Patient]:
    return [make_patient(index, CONFIG) for index in range(CONFIG.num_patients)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    write_cohort(root, PhantomConfig(num_patients=2, seed=3))
    return root


def files_of(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


@pytest.mark.parametrize("group", GROUPS)
def test_the_continuous_shape_has_the_volumes_that_were_drawn(group, rng):
    factors = draw_heart(group, rng)
    ed, es = (HeartShape(factors, phase) for phase in Phase)
    assert ed.lv_ml == pytest.approx(factors.edv_ml, rel=1e-5)
    assert es.lv_ml == pytest.approx(factors.esv_ml, rel=1e-5)
    assert ed.rv_ml == pytest.approx(factors.rv_edv_ml, rel=1e-5)
    assert es.rv_ml == pytest.approx(factors.rv_esv_ml, rel=1e-5)
    assert es.myocardium_ml == pytest.approx(ed.myocardium_ml, rel=1e-5)


@pytest.mark.parametrize("group", GROUPS)
def test_every_factor_lies_within_the_limits_of_its_diagnosis(group, rng):
    diagnosis = DIAGNOSES[group]
    for factors in (draw_heart(group, rng) for _ in range(50)):
        for value, limits in (
            (factors.edv_ml, diagnosis.edv_ml),
            (factors.ef_percent, diagnosis.ef_percent),
            (factors.wall_mm, diagnosis.wall_mm),
            (factors.rv_edv_ml, diagnosis.rv_edv_ml),
            (factors.rv_ef_percent, diagnosis.rv_ef_percent),
        ):
            assert limits.low - 1e-9 <= value <= limits.high + 1e-9


def test_masks_have_those_volumes_up_to_half_a_slice_at_the_base(patients):
    for patient in patients:
        heart, place = patient.heart, patient.placement
        for phase, lv_ml, rv_ml in (
            (Phase.ED, heart.edv_ml, heart.rv_edv_ml),
            (Phase.ES, heart.esv_ml, heart.rv_esv_ml),
        ):
            mask = patient.masks[phase]
            voxel_ml = place.pixel_mm**2 * place.slice_mm / 1000
            for structure, true_ml in ((Structure.LV, lv_ml), (Structure.RV, rv_ml)):
                per_slice = (mask == structure).sum(axis=(1, 2)) * voxel_ml
                # The plane nearest the base is up to half a slice off; 3 % for pixels and apex.
                bound = 0.5 * per_slice.max() + 0.03 * true_ml
                assert per_slice.sum() == pytest.approx(true_ml, abs=bound)


def stack_of_masks(index: int, rng: np.random.Generator) -> list[np.ndarray]:
    shape = HeartShape(draw_heart(GROUPS[index % 5], rng), list(Phase)[index % 2])
    pixels = np.arange(-105, 105, 1.4) + rng.uniform(0, 1.4)
    plane = PolarPlane(pixels, pixels)
    depths = np.arange(rng.uniform(-8, 8), shape.apex_mm + 8, 9.0)
    return [shape.mask(depth, plane) for depth in depths]


@pytest.fixture(scope="module")
def slices() -> list[np.ndarray]:
    """Return the masks of 30 stacks, of every group and phase."""
    return [m for index in range(30) for m in stack_of_masks(index, np.random.default_rng(index))]


def test_nearly_every_slice_is_anatomically_valid(slices):
    assert np.mean([is_valid(mask, (1.4, 1.4)) for mask in slices]) >= 0.99


def test_slices_lack_ventricles_where_stacks_do(slices):
    seen = {
        tuple(bool((mask == structure).any()) for structure in (Structure.RV, Structure.LV))
        for mask in slices
    }
    assert seen >= {(True, True), (False, True), (False, False)}


def test_diagnoses_differ_as_they_should(rng):
    hearts = {group: [draw_heart(group, rng) for _ in range(20)] for group in GROUPS}

    def thickest_and_thinnest(group):
        walls = []
        for heart in hearts[group]:
            contours = HeartShape(heart, Phase.ED).contours(np.linspace(0.2, 0.8, 9) * 90)
            walls.append((contours.epi - contours.endo)[:5])
        return max(w.max() for w in walls), min(w.min() for w in walls)

    assert max(heart.ef_percent for heart in hearts["DCM"] + hearts["MINF"]) <= 40
    assert thickest_and_thinnest("HCM")[0] > 15
    assert thickest_and_thinnest("DCM")[0] < 12
    assert thickest_and_thinnest("MINF")[1] < thickest_and_thinnest("NOR")[1]
    assert np.mean([h.rv_edv_ml / h.edv_ml for h in hearts["RV"]]) > 1.5


def test_infarct_does_not_thicken():
    heart = next(
        heart
        for seed in range(50)
        if (heart := draw_heart("MINF", np.random.default_rng(seed))).infarct_depth < 0.6
    )
    wall = {}
    for phase in Phase:
        shape = HeartShape(heart, phase)
        share = np.array([heart.infarct_depth])
        contours = shape.contours(shape.base_mm + share * (shape.apex_mm - shape.base_mm))
        wall[phase] = (contours.epi - contours.endo)[0]
    ratio = wall[Phase.ES] / wall[Phase.ED]
    septum = np.pi + np.radians(heart.pose_deg)
    scar = int(np.argmin(np.cos(ANGLES - septum - np.radians(heart.infarct_deg) + np.pi)))
    assert ratio[scar] < 1.05 < ratio[(scar + len(ANGLES) // 2) % len(ANGLES)]


def test_pose_is_the_direction_from_right_to_left_ventricle(patients):
    for patient in patients:
        mask = patient.masks[Phase.ED][3]
        right, left = (
            np.argwhere(mask == structure).mean(axis=0)
            for structure in (Structure.RV, Structure.LV)
        )
        down, across = left - right
        turned = np.degrees(np.arctan2(down, across)) - patient.heart.pose_deg
        assert abs((turned + 180) % 360 - 180) < 15


def test_image_shows_blood_bright_and_muscle_dark(patients):
    for patient in patients:
        for phase in Phase:
            image, mask = patient.images[phase], patient.masks[phase]
            lv, rv, muscle = (
                np.median(image[mask == s]) for s in (Structure.LV, Structure.RV, Structure.MYO)
            )
            assert muscle < 0.65 * min(lv, rv)
            assert image.dtype == np.int16
            assert image.min() >= 0
            assert lv == pytest.approx(patient.acquisition.brightness, rel=0.3)


def test_breath_holds_shift_the_heart_only_if_asked(rng):
    still = make_patient(0, PhantomConfig(max_misregistration_mm=0))
    assert still.placement.misregistration_mm == 0
    lv = still.masks[Phase.ED] == Structure.LV
    slices = np.flatnonzero(lv.sum(axis=(1, 2)) > 100)
    centres = np.array([np.argwhere(lv[k]).mean(axis=0) for k in slices])
    assert np.abs(np.diff(centres, n=2, axis=0)).max() < 1.0


def test_a_cohort_is_byte_for_byte_the_beginning_of_a_larger_one(cohort, tmp_path):
    write_cohort(tmp_path, PhantomConfig(num_patients=1, seed=3))
    small, large = files_of(tmp_path), files_of(cohort)
    for name in small.keys() - {"factors.csv"}:
        assert small[name] == large[name]
    assert large["factors.csv"].startswith(small["factors.csv"])
    assert len(large) == len(small) + 5


def test_another_seed_gives_other_hearts(patients):
    assert make_patient(0, PhantomConfig(seed=4)).heart != patients[0].heart


def test_files_have_the_layout_of_acdc_with_its_trap(cohort, patients):
    info = dict(
        line.split(": ") for line in (cohort / "patient001" / "Info.cfg").read_text().splitlines()
    )
    assert list(info) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
    assert info["Group"] == "NOR"
    place = patients[0].placement
    for phase in Phase:
        for suffix, dtype in (("", np.int16), ("_gt", np.uint8)):
            stem = f"patient001_frame{int(info[phase.name]):02d}{suffix}"
            image = nib.load(cohort / "patient001" / f"{stem}.nii.gz")
            assert image.get_data_dtype() == dtype
            np.testing.assert_array_equal(image.affine, np.diag([-1, -1, 1, 1]))
            assert image.shape == (place.width, place.height, place.num_slices)
            assert image.header.get_zooms() == pytest.approx(
                (place.pixel_mm, place.pixel_mm, place.slice_mm)
            )


def test_the_reader_of_acdc_reads_what_was_made(cohort, patients):
    cases = list(read_cases(cohort))
    assert len(cases) == 4
    for case in cases:
        patient = patients[int(case.patient_id[-3:]) - 1]
        assert case.group == patient.heart.group
        np.testing.assert_array_equal(case.mask, patient.masks[case.phase])
        np.testing.assert_array_equal(case.image, patient.images[case.phase])
        place = patient.placement
        expected = (place.slice_mm, place.pixel_mm, place.pixel_mm)
        assert case.spacing_mm == pytest.approx(expected)


def test_factors_name_every_case_and_every_factor(cohort, patients):
    with (cohort / "factors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case_id"] for row in rows] == [
        f"patient00{number}_{phase}" for number in (1, 2) for phase in ("ed", "es")
    ]
    for row, (patient, phase) in zip(rows, ((p, f) for p in patients for f in Phase), strict=False):
        heart = patient.heart
        lv_ml = heart.edv_ml if phase is Phase.ED else heart.esv_ml
        assert float(row["lv_ml"]) == pytest.approx(lv_ml, abs=1e-3)
        assert float(row["ef_percent"]) == pytest.approx(
            100 * (heart.edv_ml - heart.esv_ml) / heart.edv_ml, abs=1e-3
        )
        assert row.keys() >= asdict(patient.acquisition).keys() | asdict(heart).keys()


def test_noise_of_an_empty_image_is_rayleigh(rng):
    scan = Acquisition(
        noise=0.5, bias=0, ghost=0, resolution=1, brightness=400, muscle=0.4,
        band_deg=0, band_mm=0, field_of_view=1,
    )  # fmt: skip
    image = acquire(np.zeros((128, 128), np.float32), scan, rng).astype(float)
    assert image.mean() / image.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)


def test_acquisition_keeps_the_brightness_of_wide_tissue(rng):
    scan = Acquisition(
        noise=0, bias=0, ghost=0, resolution=0.8, brightness=200, muscle=0.4,
        band_deg=0, band_mm=0, field_of_view=1,
    )  # fmt: skip
    assert (acquire(np.full((64, 48), 0.5, np.float32), scan, rng) == 100).all()
    assert (acquire(np.full((64, 48), -0.5, np.float32), scan, rng) == 100).all()


def test_paint_mixes_by_share_and_a_window_shares_memory():
    grid = PixelGrid.around((20, 20), (10, 10), 2.0)
    tissue = Tissue.empty(grid)
    window = grid.window((0.0, 0.0), 7.0)
    part = tissue.part(window)
    part.paint(np.full(part.water.shape, 0.25, np.float32), water=1.0, fat=0.5)
    assert tissue.water[10, 10] == 0.25
    assert tissue.fat[10, 10] == 0.125
    assert tissue.water.sum() == pytest.approx(0.25 * 49)  # pixels at -6, -4 … 6 mm
    np.testing.assert_allclose(tissue.cover(np.array([-1.0, 0.0, 0.5, 1.0])), [0, 0.5, 0.75, 1])


def test_smooth_noise_has_unit_variance_and_its_length_scale(rng):
    grid = PixelGrid.around((200, 200), (100, 100), 1.5)
    near, far, variance = [], [], []
    for _ in range(20):
        field = SmoothNoise(20, 500, rng).plane(0.0, grid)
        variance.append(np.square(field).mean())
        near.append((field[:, 2:] * field[:, :-2]).mean())
        far.append((field[:, 50:] * field[:, :-50]).mean())
    assert np.mean(variance) == pytest.approx(1, abs=0.15)
    assert np.mean(near) > 0.9
    assert abs(np.mean(far)) < 0.15


def test_a_table_of_angles_is_looked_up_around_the_circle():
    pixels = np.array([-2.0, -1.0, 1.0, 2.0])
    plane = PolarPlane(pixels, pixels)
    angle = np.arctan2(pixels[:, None], pixels[None, :])
    np.testing.assert_allclose(plane.at_angle(np.cos(ANGLES)), np.cos(angle), atol=1e-3)
    np.testing.assert_allclose(plane.radius_mm[0, 0], np.hypot(2, 2))


@pytest.mark.parametrize("values", [{"num_patients": 0}, {"max_noise": -1}, {"patients": 4}])
def test_settings_out_of_range_are_named(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        PhantomConfig.parse(values, "params.yaml, phantom")
