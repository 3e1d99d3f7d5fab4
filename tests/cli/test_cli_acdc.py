"""The command line on real patients: broken masks in, plausible ones out; hearts measured."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from SimpleITK import GetArrayFromImage, ReadImage

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.labels import Structure

PATIENTS = ("patient001", "patient042", "patient090")


def end_diastole(patient: Path) -> Path:
    frame = int(re.search(r"ED: (\d+)", (patient / "Info.cfg").read_text())[1])
    return patient / f"{patient.name}_frame{frame:02d}_gt.nii.gz"


def break_mask(mask: np.ndarray) -> list[int]:
    """Break three slices of a mask (D, H, W) in place, one way each; return which."""
    slices = [len(mask) // 2 - 1, len(mask) // 2, len(mask) // 2 + 1]
    holed, specked, opened = (mask[index] for index in slices)
    row, column = np.argwhere(holed == Structure.LV).mean(axis=0).astype(int)
    holed[row : row + 2, column : column + 2] = Structure.BACKGROUND
    specked[5:9, 5:9] = Structure.RV
    specked[-9:-6, -9:-6] = Structure.LV
    row, column = np.argwhere(opened == Structure.LV).mean(axis=0).astype(int)
    wedge = opened[row : row + 4]  # from the LV's center to the image's right edge
    wedge[:, column:][wedge[:, column:] == Structure.MYO] = Structure.BACKGROUND
    return slices


@pytest.mark.parametrize("name", PATIENTS)
def test_a_broken_real_mask_is_refined_in_place(acdc_root, refine, tmp_path, name):
    expert = nib.load(end_diastole(acdc_root / name))
    voxels = np.asanyarray(expert.dataobj).T.copy()
    is_whole = [not any(found.values()) for found in check_real(voxels, expert).slices]
    slices = break_mask(voxels)
    path, out = tmp_path / "broken.nii.gz", tmp_path / "out/broken.nii.gz"
    nib.Nifti1Image(voxels.T, expert.affine, expert.header).to_filename(path)
    scan = Path(str(end_diastole(acdc_root / name)).replace("_gt", ""))

    result = refine(path, out, "--scan", scan)
    assert result.exit_code == 0, result.output

    refined = nib.load(out)
    assert refined.header == nib.load(path).header
    np.testing.assert_array_equal(refined.affine, expert.affine)
    was, became = ReadImage(str(path)), ReadImage(str(out))
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
        assert getattr(became, geometry)() == getattr(was, geometry)()

    mask = np.asanyarray(refined.dataobj).T
    np.testing.assert_array_equal(mask, GetArrayFromImage(became))
    assert not check_real(voxels, expert).is_valid
    assert check_real(mask, expert).is_valid
    for index, whole in enumerate(is_whole):
        if index in slices:
            assert (mask[index] != voxels[index]).any()
        elif whole:
            np.testing.assert_array_equal(mask[index], voxels[index])


@pytest.mark.parametrize("name", PATIENTS)
def test_the_heart_of_a_real_patient_is_measured(acdc_root, run, tmp_path, name):
    masks = sorted((acdc_root / name).glob("*_gt.nii.gz"))
    result = run("measure", *masks, "--report", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    [heart] = json.loads((tmp_path / "report.json").read_text())["hearts"]
    ed = end_diastole(acdc_root / name)
    [es] = [path for path in masks if path != ed]
    assert (heart["ed_source"], heart["es_source"]) == (str(ed), str(es))
    volumes = []
    for path in (ed, es):
        voxels = np.asanyarray(nib.load(path).dataobj)
        voxel_ml = np.prod(nib.load(path).header.get_zooms()[:3]) / 1000
        volumes.append(voxel_ml * np.count_nonzero(voxels == Structure.LV))
    fraction = heart["measurements"]["lv_ef_percent"]["value"]
    assert fraction == pytest.approx(100 * (volumes[0] - volumes[1]) / volumes[0])


def check_real(mask: np.ndarray, image: nib.Nifti1Image):
    """Check a mask with the spacing of pixdim: ACDC's affines have none."""
    x, y, z = (float(size) for size in image.header.get_zooms()[:3])
    return check_volume(mask, (z, y, x))
