"""``cardiac-vae refine``: what goes in comes out plausible, on its own grid."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from SimpleITK import ReadImage

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.file import save_density
from cardiac_vae.densities.normal_mixture import NormalMixture
from cardiac_vae.refinement.calibration import Calibration

SPACING = (8.0, 1.5, 1.5)
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr([[-1.3, 0.4, 2.1], [-0.5, -1.2, 5.4], [0.6, -0.8, 5.5]])[0]
OBLIQUE[:3] *= 1.5, 1.5, 8.0, 0.0
OBLIQUE[:3, 3] = 60.0, 80.0, -40.0
UPRIGHT = np.array([[1.5, 0, 0, 0], [0, 0, 8.0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1.0]])


def voxels(path: Path) -> np.ndarray:
    """Return what a file holds as (D, H, W) or (T, D, H, W)."""
    return np.asanyarray(nib.load(path).dataobj).T


def itk_geometry(path: Path) -> tuple:
    image = ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


@pytest.mark.parametrize("affine", [None, OBLIQUE, UPRIGHT], ids=["acdc", "oblique", "upright"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_broken_mask_becomes_plausible_on_its_own_grid(
    refine, write_nifti, broken, tmp_path, affine, dtype
):
    path = write_nifti("mask.nii.gz", broken.astype(dtype), affine=affine)
    out = tmp_path / "out.nii.gz"
    result = refine(path, out)
    assert result.exit_code == 0, result.output
    was, became = nib.load(path), nib.load(out)
    assert became.header == was.header
    np.testing.assert_array_equal(became.affine, was.affine)
    assert became.shape == was.shape
    assert itk_geometry(out) == itk_geometry(path)
    refined = voxels(out).astype(np.uint8)
    assert check_volume(refined, SPACING).is_valid
    np.testing.assert_array_equal(refined[[0, 3]], broken[[0, 3]])


@pytest.mark.parametrize("name", ["mask.nii", "mask.nii.gz"])
def test_a_mask_that_breaks_nothing_comes_back_byte_for_byte(
    refine, write_nifti, heart, tmp_path, name
):
    path = write_nifti(name, heart)
    result = refine(path, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / name).read_bytes() == path.read_bytes()
    assert "1 unchanged" in result.stdout


def test_refining_twice_is_refining_once(refine, write_nifti, broken, tmp_path):
    path = write_nifti("mask.nii.gz", broken)
    refine(path, tmp_path / "once.nii.gz")
    refine(tmp_path / "once.nii.gz", tmp_path / "twice.nii.gz")
    assert (tmp_path / "once.nii.gz").read_bytes() == (tmp_path / "twice.nii.gz").read_bytes()


def test_refine_valid_refines_all_the_same(refine, write_nifti, heart, tmp_path):
    path = write_nifti("mask.nii.gz", heart)
    out = tmp_path / "out.nii.gz"
    result = refine(path, out, "--refine-valid")
    assert result.exit_code == 0, result.output
    assert check_volume(voxels(out), SPACING).is_valid


def test_labels_come_back_in_the_datasets_own_values(refine, write_nifti, broken, tmp_path):
    table = np.array([0, 420, 500, 600], np.int16)
    plain, coded = write_nifti("plain.nii.gz", broken), write_nifti("coded.nii.gz", table[broken])
    refine(plain, tmp_path / "out")
    labels = "rv=420,myo=500,lv=600"
    result = refine(coded, tmp_path / "to", "--labels", labels)
    assert result.exit_code == 0, result.output
    out = voxels(tmp_path / "to/coded.nii.gz")
    assert out.dtype == np.int16
    np.testing.assert_array_equal(out, table[voxels(tmp_path / "out/plain.nii.gz")])


def test_each_frame_of_a_cine_is_refined(refine, write_nifti, heart, broken, tmp_path):
    cine = np.stack([heart, broken, heart])
    out = tmp_path / "out.nii.gz"
    report = tmp_path / "report.json"
    path = write_nifti("cine.nii.gz", cine)
    result = refine(path, out, "--report", report)
    assert result.exit_code == 0, result.output
    refined = voxels(out)
    np.testing.assert_array_equal(refined[[0, 2]], cine[[0, 2]])
    assert check_volume(refined[1], SPACING).is_valid
    assert nib.load(out).header == nib.load(path).header
    volumes = json.loads(report.read_text())["volumes"]
    assert [volume["result"] for volume in volumes] == ["unchanged", "refined", "unchanged"]
    assert [change["slice"] for change in volumes[1]["changes"]] == [1, 2]
    assert all(change["broken"] for change in volumes[1]["changes"])


def test_a_folder_run_reports_each_case_and_survives_a_bad_one(
    refine, write_nifti, heart, broken, tmp_path
):
    write_nifti("masks/a.nii.gz", heart)
    write_nifti("masks/c.nii.gz", broken)
    (tmp_path / "masks/b.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    result = refine(tmp_path / "masks", out)
    assert result.exit_code == 2
    assert sorted(path.name for path in out.iterdir()) == ["a.nii.gz", "c.nii.gz", "report.csv"]
    with (out / "report.csv").open() as file:
        rows = {Path(row["source"]).name: row for row in csv.DictReader(file)}
    assert {name: row["result"] for name, row in rows.items()} == {
        "a.nii.gz": "unchanged",
        "b.nii.gz": "failed",
        "c.nii.gz": "refined",
    }
    assert "expected a NIfTI" in rows["b.nii.gz"]["error"]
    assert (rows["c.nii.gz"]["plausible_before"], rows["c.nii.gz"]["plausible_after"]) == ("2", "4")
    assert "slice 1: " in rows["c.nii.gz"]["changes"]
    assert int(rows["c.nii.gz"]["changed_pixels"]) == (voxels(out / "c.nii.gz") != broken).sum()
    assert result.stderr.splitlines()[0] == "1 of 3 failed:"


@pytest.mark.parametrize("cavity", [1, 3])
def test_a_heart_beyond_what_the_model_sees_becomes_plausible(
    refine, write_nifti, tmp_path, cavity
):
    """The model sees 144 mm; here a cavity is probable everywhere, and the mask is one of it."""
    mask = np.zeros((3, 180, 200), np.uint8)
    mask[:, 20:-20, 20:-20] = cavity
    mask[:, 80:90, 90:110] = 0
    probabilities = np.full((4, *mask.shape), 0.01, np.float32)
    probabilities[cavity] = 0.97
    path, out = write_nifti("mask.nii.gz", mask), tmp_path / "out.nii.gz"
    result = refine(path, out, "--probabilities", write_nifti("p.nii.gz", probabilities))
    assert result.exit_code == 0, result.output
    assert check_volume(voxels(out), SPACING).is_valid


def test_an_empty_mask_passes_with_a_warning(refine, write_nifti, heart, tmp_path):
    path = write_nifti("mask.nii.gz", np.zeros_like(heart))
    out = tmp_path / "out.nii.gz"
    result = refine(path, out)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == path.read_bytes()
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(f"warning: {path}, frame 0: ")


@pytest.mark.parametrize("frames", [1, 3], ids=["volume", "cine"])
def test_a_scan_on_the_same_grid_is_accepted(refine, write_nifti, broken, tmp_path, frames):
    image = broken.astype(np.float32) + 7
    scan = write_nifti("scan.nii.gz", np.stack([image] * frames) if frames > 1 else image)
    path = write_nifti("mask.nii.gz", broken)
    out = tmp_path / "out.nii.gz"
    result = refine(path, out, "--scan", scan)
    assert result.exit_code == 0, result.output


def test_the_scan_of_a_mask_is_weighed_in(refine, write_nifti, broken, tmp_path):
    noise = np.random.default_rng(0).normal(scale=8.0, size=broken.shape)
    bright = np.array([40.0, 200.0, 90.0, 200.0])[broken] + noise
    path = write_nifti("mask.nii.gz", broken)
    told = {}
    for name, image in {"bright": bright, "noise": noise}.items():
        scan = write_nifti(f"{name}.nii.gz", image.astype(np.float32))
        report = tmp_path / f"{name}.json"
        result = refine(path, tmp_path / f"{name}_out.nii.gz", "--scan", scan, "--report", report)
        assert result.exit_code == 0, result.output
        (told[name],) = json.loads(report.read_text())["volumes"]
    assert not any("image" in warning for warning in told["bright"]["warnings"])
    assert any("the image is not used" in warning for warning in told["noise"]["warnings"])
    assert told["bright"]["bounds"] == sorted(told["bright"]["bounds"])
    assert len(told["bright"]["bounds"]) > 1
    assert told["noise"]["bounds"] == []


def test_a_scan_of_nothing_fails_its_case_alone(refine, write_nifti, broken, tmp_path):
    path = write_nifti("mask.nii.gz", broken)
    scan = write_nifti("scan.nii.gz", np.zeros(broken.shape, np.float32))
    result = refine(path, tmp_path / "out.nii.gz", "--scan", scan)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "expected an image with contrast" in line
    assert not (tmp_path / "out.nii.gz").exists()


def test_a_folder_without_a_calibration_is_named(refine, write_nifti, broken, tmp_path):
    path = write_nifti("mask.nii.gz", broken)
    result = refine(path, tmp_path / "out.nii.gz", "--calibration", tmp_path)
    assert result.exit_code == 2
    assert "expected the folder of a segmenter's calibration" in result.stderr
    assert not (tmp_path / "out.nii.gz").exists()


def test_a_calibration_is_read(refine, write_nifti, broken, tmp_path):
    path = write_nifti("mask.nii.gz", broken)
    Calibration().save(tmp_path / "calibration")
    out = tmp_path / "out.nii.gz"
    result = refine(path, out, "--calibration", tmp_path / "calibration")
    assert result.exit_code == 0, result.output
    assert check_volume(voxels(out), SPACING).is_valid


OTHER_GRIDS = {
    "shape": {"crop": 1},
    "spacing": {"zooms": (1.4, 1.5, 8.0)},
    "orientation": {"affine": np.diag([1.0, -1.0, 1.0, 1.0])},
}


@pytest.fixture
def settings(tmp_path):
    """Return a function that writes a file of settings."""

    def write(text):
        path = tmp_path / "refine.yaml"
        path.write_text(text)
        return path

    return write


def test_settings_let_codes_move_up_the_bound(refine, write_nifti, broken, settings, tmp_path):
    moving = settings("explanation: {mode: optimized, max_steps: 2, num_draws: 2}")
    out, report = tmp_path / "out.nii.gz", tmp_path / "report.json"
    source = write_nifti("a.nii.gz", broken)
    result = refine(source, out, "--settings", moving, "--report", report)
    assert result.exit_code == 0, result.output
    (volume,) = json.loads(report.read_text())["volumes"]
    assert len(volume["bounds"]) > 1
    assert volume["bounds"] == sorted(volume["bounds"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("explanation: {mod: optimized}", "mod: unknown parameter"),
        ("{", "refine.yaml: expected YAML"),
        ("5", "refine.yaml: expected a mapping"),
    ],
)
def test_settings_that_are_none_are_refused(refine, write_nifti, broken, settings, text, told):
    source = write_nifti("a.nii.gz", broken)
    out = source.with_name("out.nii.gz")
    result = refine(source, out, "--settings", settings(text))
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert told in line
    assert not out.exists()


def test_a_density_of_other_codes_is_refused(refine, write_nifti, broken, tmp_path):
    scores = NormalMixture(torch.zeros(1, 2).double(), torch.eye(2).double()[None])
    save_density(tmp_path / "density", CodeDensity(torch.eye(3, 2).double(), scores, ((3,),)))
    out = tmp_path / "out.nii.gz"
    source = write_nifti("a.nii.gz", broken)
    result = refine(source, out, "--density", tmp_path / "density")
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "got one over [3]; take the density that was fitted to this model" in line


@pytest.mark.parametrize("what", OTHER_GRIDS)
@pytest.mark.parametrize("option", ["--scan", "--probabilities"])
def test_another_grid_is_refused_and_the_difference_named(
    refine, write_nifti, broken, tmp_path, what, option
):
    change = dict(OTHER_GRIDS[what])
    path = write_nifti("mask.nii.gz", broken)
    rows = slice(change.pop("crop", 0), None)
    image = one_hot(broken) if option == "--probabilities" else broken.astype(np.float32)
    other = write_nifti("other.nii.gz", image[..., rows, :], **change)
    out = tmp_path / "out/mask.nii.gz"
    result = refine(path, out, option, other)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert what in line
    assert str(other) in line
    assert not out.parent.exists()


def one_hot(mask: np.ndarray) -> np.ndarray:
    """Return (C, D, H, W), which the files keep as (x, y, z, C)."""
    return np.stack([mask == value for value in range(4)]).astype(np.float32)


def test_probabilities_are_paired_by_name(refine, write_nifti, broken, tmp_path):
    write_nifti("masks/a.nii.gz", broken)
    write_nifti("masks/b.nii.gz", broken)
    write_nifti("probabilities/a.nii.gz", one_hot(broken))
    folder = tmp_path / "probabilities"
    result = refine(tmp_path / "masks", tmp_path / "out", "--probabilities", folder)
    assert result.exit_code == 2
    assert check_volume(voxels(tmp_path / "out/a.nii.gz"), SPACING).is_valid
    assert not (tmp_path / "out/b.nii.gz").exists()
    assert "probabilities/b.nii.gz" in result.stderr


def test_scores_are_no_probabilities(refine, write_nifti, broken, tmp_path):
    path = write_nifti("mask.nii.gz", broken)
    scores = write_nifti("p.nii.gz", 5 * one_hot(broken))
    out = tmp_path / "out.nii.gz"
    result = refine(path, out, "--probabilities", scores)
    assert result.exit_code == 2
    assert "softmax" in result.stderr
    assert not out.exists()


def test_probabilities_of_a_cine_are_refused(refine, write_nifti, broken, tmp_path):
    path = write_nifti("mask.nii.gz", np.stack([broken] * 2))
    probabilities = write_nifti("p.nii.gz", one_hot(broken))
    out = tmp_path / "out.nii.gz"
    result = refine(path, out, "--probabilities", probabilities)
    assert result.exit_code == 2
    assert "cine" in result.stderr


def test_an_input_is_not_overwritten_and_not_touched(refine, write_nifti, broken):
    path = write_nifti("masks/mask.nii.gz", broken)
    before = path.read_bytes()
    result = refine(path, path, "--overwrite")
    assert result.exit_code == 2
    assert "leave the inputs alone" in result.stderr
    assert path.read_bytes() == before


def test_outputs_are_replaced_only_when_asked(refine, write_nifti, heart, tmp_path):
    path = write_nifti("mask.nii.gz", heart)
    out = tmp_path / "out.nii.gz"
    out.write_bytes(b"old")
    result = refine(path, out)
    assert (result.exit_code, out.read_bytes()) == (2, b"old")
    assert refine(path, out, "--overwrite").exit_code == 0
    assert out.read_bytes() == path.read_bytes()


def test_no_model_there(run, write_nifti, heart, tmp_path):
    path = write_nifti("mask.nii.gz", heart)
    result = run("refine", path, "--model", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "nowhere" in line
    assert not (tmp_path / "out").exists()


def test_an_unknown_parameter_of_the_model_is_named(run, write_nifti, heart, tiny_model, tmp_path):
    path = write_nifti("mask.nii.gz", heart)
    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = model / "config.yaml"
    config.write_text(config.read_text().replace("latent_dim", "latent_dimm"))
    result = run("refine", path, "--model", model, "-o", tmp_path / "out")
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "latent_dimm: unknown parameter" in line
    assert not (tmp_path / "out").exists()


def test_a_bug_is_no_bad_input(refine, write_nifti, broken, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("cardiac_vae.cli.refine.Refiner.refine", fail)
    path = write_nifti("mask.nii.gz", broken)
    with pytest.raises(TypeError, match="a bug"):
        refine(path, tmp_path / "out.nii.gz")
