import json
import shutil

import numpy as np
import pytest

from cardiac_vae.data.acdc import read_cases
from cardiac_vae.data.geometry import resample_mask
from cardiac_vae.data.preparation import CASE_PATHS, READERS, PreparationConfig, prepare_dataset
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.data.splits import SplitSizes

SMALL = PreparationConfig(size=64, split=SplitSizes(train=2, validation=1, test=1))


@pytest.fixture
def prepared(acdc_folder, tmp_path):
    summary = prepare_dataset(acdc_folder, tmp_path / "prepared", SMALL)
    return tmp_path / "prepared", summary


def test_every_case_is_prepared_around_its_heart_and_comes_back_exactly(prepared, acdc_folder):
    folder, _ = prepared
    cases = read_prepared(folder)
    for case, raw in zip(cases, read_cases(acdc_folder), strict=True):
        arrays = case.load()
        assert (case.case_id, case.phase, case.group) == (raw.case_id, raw.phase, raw.group)
        assert case.spacing_mm == raw.spacing_mm
        assert case.native_shape == raw.mask.shape
        assert case.round_trip_dice == 1.0
        assert arrays.mask.shape == arrays.image.shape == (3, 64, 64)
        assert arrays.mask.dtype == arrays.full_mask.dtype == np.uint8
        assert arrays.image.dtype == arrays.full_image.dtype == np.float32
        assert np.array_equal(arrays.full_mask, raw.mask)  # 1.5 mm already
        np.testing.assert_allclose(arrays.full_image, raw.image, rtol=1e-6)
        assert np.array_equal(resample_mask(arrays.mask, case.grid, case.native_grid), raw.mask)
        heart = np.argwhere(arrays.mask)[:, 1:].mean(axis=0)
        assert np.abs(heart - 31.5).max() < 1.0


def test_the_split_is_on_file_and_on_every_case(prepared):
    folder, summary = prepared
    splits = json.loads((folder / "splits.json").read_text())
    assert summary["num_patients"] == {"train": 2, "validation": 1, "test": 1}
    for name, patients in splits.items():
        cases = read_prepared(folder, name)
        assert sorted({case.patient_id for case in cases}) == patients
        assert {case.split for case in cases} == {name}
    with pytest.raises(ValueError, match="expected a split of"):
        read_prepared(folder, "val")


def test_the_summary_reports_what_was_lost(prepared):
    _, summary = prepared
    assert summary["num_cases"] == len(summary["cases"]) == 8
    assert summary["num_slices"] == 24
    assert summary["round_trip_dice_mean"] == summary["round_trip_dice_min"] == 1.0
    assert summary["lost_parts"] == summary["hearts_beyond_window"] == 0
    assert 0 < summary["least_margin_to_window_mm"] < 48
    json.dumps(summary)


def test_a_heart_wider_than_the_window_is_reported(acdc_folder, tmp_path):
    summary = prepare_dataset(acdc_folder, tmp_path / "out", SMALL.model_copy(update={"size": 20}))
    assert summary["hearts_beyond_window"] == 8
    assert summary["pixels_beyond_window"] > 0
    # RV from column 15 to 25, wall to column 43: 30 pixels of 1.5 mm, of which 20 fit.
    assert 0 < summary["farthest_beyond_window_mm"] < 7.6
    assert summary["round_trip_dice_min"] < 1


def test_excluded_patients_are_left_out_and_unknown_ones_ignored(acdc_folder, tmp_path):
    config = SMALL.model_copy(update={"exclude": ("patient002", "patient055")})
    prepare_dataset(acdc_folder, tmp_path / "out", config)
    patients = {case.patient_id for case in read_prepared(tmp_path / "out")}
    assert patients == {"patient001", "patient003", "patient004"}
    assert not (tmp_path / "out" / "patient002_ed.npz").exists()


def test_the_same_input_gives_the_same_bytes(prepared, acdc_folder, tmp_path):
    folder, summary = prepared
    assert prepare_dataset(acdc_folder, tmp_path / "again", SMALL) == summary
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_mask_without_a_heart_is_named(acdc_folder, tmp_path, save_nifti, toy_heart):
    save_nifti(acdc_folder / "patient003/patient003_frame11_gt.nii.gz", toy_heart * 0)
    with pytest.raises(ValueError, match=r"patient003_es: .*background only"):
        prepare_dataset(acdc_folder, tmp_path / "out", SMALL)


def test_a_folder_that_cannot_be_written_to_is_refused(acdc_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected an output folder that can be written to"):
        prepare_dataset(acdc_folder, tmp_path / "file" / "out", SMALL)


def test_an_unprepared_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the prepare stage first"):
        read_prepared(tmp_path)


def test_readers_and_paths_have_the_same_names():
    known = set(PreparationConfig.model_fields["reader"].annotation.__args__)
    assert set(READERS) == set(CASE_PATHS) == known


def test_real_patients_are_prepared_with_copies_together_and_055_left_out(acdc_root, tmp_path):
    for number in (1, 38, 55, 74, 76, 90):
        shutil.copytree(
            acdc_root / f"patient{number:03d}",
            tmp_path / "raw" / f"patient{number:03d}",
            ignore=shutil.ignore_patterns("*_4d*"),
        )
    summary = prepare_dataset(tmp_path / "raw", tmp_path / "out", PreparationConfig())
    cases = read_prepared(tmp_path / "out")
    assert [case.patient_id for case in cases[::2]] == [
        f"patient{number:03d}" for number in (1, 38, 74, 76, 90)
    ]
    split = {case.patient_id: case.split for case in cases}
    assert split["patient074"] == split["patient076"]
    assert summary["num_cases"] == 10
    assert summary["lost_parts"] == summary["hearts_beyond_window"] == 0
    assert summary["round_trip_dice_min"] > 0.97
    for case in cases:
        arrays = case.load()
        assert arrays.mask.shape == (case.native_shape[0], 96, 96)
        assert set(np.unique(arrays.mask)) == {0, 1, 2, 3}
        inside = arrays.mask > 0
        assert arrays.image[inside].mean() > 0.5 * arrays.full_image.mean()
