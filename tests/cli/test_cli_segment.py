"""``cardiac-vae segment``: masks on the scan's own grid, refined unless told otherwise."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.data.nifti import read_image, read_mask, read_probabilities
from cardiac_vae.segmentation.inference import Segmenter

UPRIGHT = np.array([[1.5, 0, 0, 5], [0, 0, 8.0, -7], [0, 1.5, 0, 9], [0, 0, 0, 1.0]])


@pytest.fixture
def scan(write_nifti, heart, rng) -> Path:
    brightness = np.array([40, 200, 90, 220], np.float32)[heart]
    image = brightness + rng.normal(0, 10, heart.shape)
    return write_nifti("scans/a.nii.gz", image.astype(np.int16), affine=UPRIGHT)


def predicted(segmenter: Path, scan: Path) -> np.ndarray:
    image = read_image(scan)
    return Segmenter.load(segmenter).predict(image.volume, image.spacing_mm)


def test_the_segmenters_own_mask_is_on_the_scans_grid(run, scan, tiny_segmenter, tmp_path):
    out = tmp_path / "a.nii.gz"
    result = run(
        *("segment", scan, "--segmenter", tiny_segmenter, "-o", out, "--no-refine"),
        "--probabilities",
    )
    assert result.exit_code == 0, result.output
    probabilities = predicted(tiny_segmenter, scan)
    mask, of_scan = nib.load(out), nib.load(scan)
    assert mask.get_data_dtype() == np.uint8
    assert mask.shape == of_scan.shape
    assert mask.header.get_zooms() == of_scan.header.get_zooms()
    np.testing.assert_array_equal(mask.affine, of_scan.affine)
    np.testing.assert_array_equal(read_mask(out).volume, probabilities.argmax(axis=1))
    np.testing.assert_allclose(
        read_probabilities(tmp_path / "a_probabilities.nii.gz")[0], probabilities, atol=1e-6
    )


@pytest.fixture
def holed(heart, monkeypatch) -> np.ndarray:
    """Return what the segmenter sees from now on, a heart with a hole in the LV."""
    seen = 0.9 * np.moveaxis(np.eye(4, dtype=np.float32)[heart], 3, 1) + 0.025
    seen[1, :, 32, 38] = [0.97, 0.01, 0.01, 0.01]
    monkeypatch.setattr(Segmenter, "predict", lambda *_: seen)
    return seen


def test_refined_masks_are_plausible_in_the_labels_asked_for(
    run, scan, holed, tiny_segmenter, tiny_model, tmp_path
):
    out = tmp_path / "out"
    result = run(
        *("segment", scan.parent, "--segmenter", tiny_segmenter, "--model", tiny_model),
        *("-o", out, "--labels", "mnms"),
    )
    assert result.exit_code == 0, result.output
    volume = read_mask(out / "a.nii.gz")
    mask = np.array([0, 3, 2, 1], np.uint8)[volume.volume]
    assert not check_volume(holed.argmax(axis=1), volume.spacing_mm).is_valid
    assert check_volume(mask, volume.spacing_mm).is_valid
    assert (out / "report.csv").is_file()
    nowhere = run(
        *("segment", scan.parent, "--segmenter", tiny_segmenter, "--model", tiny_model),
        *("-o", tmp_path / "again", "--calibration", tmp_path / "nowhere"),
    )
    assert nowhere.exit_code == 2
    assert "expected the folder of a segmenter's calibration" in nowhere.stderr


def test_noise_that_no_heart_explains_is_refused(run, scan, tiny_segmenter, tiny_model, tmp_path):
    out = tmp_path / "out.nii.gz"
    result = run("segment", scan, "--segmenter", tiny_segmenter, "--model", tiny_model, "-o", out)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if "error" in line]
    assert "a.nii.gz, frame 0: expected slices that one heart explains" in line
    assert not out.exists()


def test_each_frame_of_a_cine_is_segmented(run, scan, write_nifti, tiny_segmenter, tmp_path):
    frames = nib.load(scan).get_fdata(dtype=np.float32).T
    cine = write_nifti("cine.nii.gz", np.stack([frames, frames[::-1]]), affine=UPRIGHT)
    out = tmp_path / "out.nii.gz"
    command = ("segment", cine, "--segmenter", tiny_segmenter, "--no-refine", "-o", out)
    refused = run(*command, "--probabilities")
    assert refused.exit_code == 2
    assert "cine" in refused.stderr
    assert not out.exists()
    assert run(*command).exit_code == 0
    np.testing.assert_array_equal(
        read_mask(out).frames[0], predicted(tiny_segmenter, scan).argmax(axis=1)
    )


def test_refining_needs_a_model(run, scan, tiny_segmenter, tmp_path):
    result = run("segment", scan, "--segmenter", tiny_segmenter, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "--no-refine" in result.stderr


def test_no_segmenter_there(run, scan, tmp_path):
    result = run("segment", scan, "--segmenter", tmp_path, "--no-refine", "-o", tmp_path / "out")
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "expected a segmenter's folder" in line


def test_a_scan_with_nan_does_not_stop_the_others(run, scan, write_nifti, tiny_segmenter, tmp_path):
    write_nifti("scans/b.nii.gz", np.full((4, 64, 72), np.nan, np.float32))
    out = tmp_path / "out"
    result = run("segment", scan.parent, "--segmenter", tiny_segmenter, "--no-refine", "-o", out)
    assert result.exit_code == 2
    assert (out / "a.nii.gz").is_file()
    assert not (out / "b.nii.gz").exists()
    assert "NaN" in result.stderr
