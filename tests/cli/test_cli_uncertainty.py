"""``cardiac-vae refine --uncertainty``: entropy on the mask's grid, intervals in the report."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiac_vae.labels import Structure
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.uncertainty import ErrorModel, entropy_bits

SPACING = (8.0, 1.5, 1.5)
ERRORS = ErrorModel(rv=0.2, myo=0.1, lv=0.4)


def unsure(mask: np.ndarray) -> np.ndarray:
    """Return probabilities (C, D, H, W) that give the class of a mask 0.7."""
    planes = np.eye(4)[mask].transpose(3, 0, 1, 2)
    return (0.6 * planes + 0.1).astype(np.float32)


@pytest.fixture
def asked(tmp_path: Path, write_nifti, broken) -> tuple:
    """Return a mask on file and the arguments of a run that asks for uncertainty."""
    Calibration(errors=ERRORS).save(tmp_path / "calibration")
    path = write_nifti("mask.nii.gz", broken)
    probabilities = write_nifti("p.nii.gz", unsure(broken))
    return path, ("--probabilities", probabilities, "--calibration", tmp_path / "calibration")


def test_the_entropy_lies_beside_the_mask_on_its_grid(refine, asked, tmp_path):
    path, arguments = asked
    out = tmp_path / "out.nii.gz"
    result = refine(path, out, *arguments, "--uncertainty")
    assert result.exit_code == 0, result.output
    entropy, mask = nib.load(tmp_path / "out_entropy.nii.gz"), nib.load(out)
    np.testing.assert_array_equal(entropy.affine, nib.load(path).affine)
    assert entropy.shape == mask.shape
    assert entropy.get_data_dtype() == np.float32
    refined = np.asanyarray(mask.dataobj).T.astype(np.uint8)
    known = Calibration.load(tmp_path / "calibration")
    probabilities = unsure(np.asanyarray(nib.load(path).dataobj).T).swapaxes(0, 1)
    expected = known.uncertainty(refined, probabilities, SPACING)
    np.testing.assert_allclose(
        np.asanyarray(entropy.dataobj).T, entropy_bits(expected.belief), atol=1e-5
    )


def test_the_report_has_volumes_with_their_intervals(refine, asked, tmp_path):
    path, arguments = asked
    result = refine(path, tmp_path / "out", *arguments, "--uncertainty")
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *("entropy", "mask.nii.gz", "report.csv")
    ]
    assert (tmp_path / "out" / "entropy" / "mask.nii.gz").is_file()
    [row] = csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines())
    refined = np.asanyarray(nib.load(tmp_path / "out" / "mask.nii.gz").dataobj).T
    lv_ml = np.count_nonzero(refined == Structure.LV) * np.prod(SPACING) / 1000
    assert float(row["lv_ml"]) == pytest.approx(lv_ml, abs=0.01)
    for name in ("rv_ml", "lv_ml", "mass_g"):
        ends = [float(row[f"{name}_{end}"]) for end in ("90_low", "50_low", "50_high", "90_high")]
        assert ends == sorted(ends)
        assert ends[0] < ends[-1]
    report = tmp_path / "report.json"
    result = refine(path, tmp_path / "again", *arguments, "--uncertainty", "--report", report)
    assert result.exit_code == 0, result.output
    [volume] = json.loads(report.read_text())["volumes"]
    measured = volume["measurements"]["lv_ml"]
    assert measured["value"] == pytest.approx(lv_ml)
    assert measured["intervals"]["90"][0] == pytest.approx(float(row["lv_ml_90_low"]), abs=0.01)


def test_without_being_asked_nothing_is_measured(refine, asked, tmp_path):
    path, arguments = asked
    result = refine(path, tmp_path / "out", *arguments)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out" / "entropy").exists()
    assert "lv_ml" not in (tmp_path / "out" / "report.csv").read_text()


def test_a_calibration_without_errors_gives_entropy_and_says_so(refine, asked, tmp_path):
    path, arguments = asked
    Calibration().save(tmp_path / "calibration")
    result = refine(path, tmp_path / "out", *arguments, "--uncertainty")
    assert result.exit_code == 0, result.output
    assert "no uncertainty.json in it, so volumes get no intervals" in result.stderr
    assert (tmp_path / "out" / "entropy" / "mask.nii.gz").is_file()
    [row] = csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines())
    assert float(row["lv_ml"]) > 0
    assert "lv_ml_90_low" not in row


@pytest.mark.parametrize("left_out", ["--probabilities", "--calibration"])
def test_what_doubt_is_measured_by_is_asked_for(refine, asked, tmp_path, left_out):
    path, arguments = asked
    at = arguments.index(left_out)
    rest = arguments[:at] + arguments[at + 2 :]
    result = refine(path, tmp_path / "out", *rest, "--uncertainty")
    assert result.exit_code == 2
    assert "--uncertainty: expected --probabilities and --calibration beside it" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_entropy_never_replaces_an_input(refine, asked, tmp_path):
    path, arguments = asked
    out = tmp_path / "out.nii.gz"
    kept = path.rename(tmp_path / "out_entropy.nii.gz")
    before = kept.read_bytes()
    result = refine(kept, out, *arguments, "--uncertainty", "--overwrite")
    assert result.exit_code == 2
    assert "expected to leave the inputs alone" in result.stderr
    assert kept.read_bytes() == before
