import gzip
import os
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cardiac_vae.data.nifti import (
    grid_difference,
    read_image,
    read_mask,
    read_probabilities,
    write_image,
    write_mask,
    write_probabilities,
)

ORIENTATIONS = [
    np.column_stack([order, signs])
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def content(path):
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.name.endswith(".gz") else raw


def assert_same_grid(path, original):
    """Both readers must find the same grid; ITK refuses what is not exactly three axes."""
    a, b = nib.load(path), nib.load(original)
    assert a.shape == b.shape
    assert a.header.get_zooms() == b.header.get_zooms()
    assert np.array_equal(a.affine, b.affine)
    assert np.array_equal(a.get_sform(), b.get_sform())
    assert [a.header[k] for k in ("sform_code", "qform_code", "xyzt_units")] == [
        b.header[k] for k in ("sform_code", "qform_code", "xyzt_units")
    ]
    c, d = SimpleITK.ReadImage(path), SimpleITK.ReadImage(original)
    assert c.GetSize() == d.GetSize()
    assert c.GetSpacing() == d.GetSpacing()
    assert c.GetOrigin() == d.GetOrigin()
    assert c.GetDirection() == d.GetDirection()


def labelled(shape=(6, 5, 4)):
    return (np.arange(np.prod(shape)).reshape(shape) % 4).astype(np.uint8)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: str(o.T.tolist()))
def test_any_order_and_direction_of_axes_reads_alike_and_writes_back_exactly(tmp_path, orientation):
    affine = np.diag([-1.25, -0.75, 8.0, 1.0])
    affine[:3, 3] = (11.0, -20.0, 33.0)
    upright = nib.Nifti1Image(labelled(), affine)
    path = tmp_path / "mask.nii.gz"
    nib.save(upright.as_reoriented(orientation), path)

    mask = read_mask(path)
    expected = labelled().transpose(2, 1, 0)
    assert mask.spacing_mm == (8.0, 0.75, 1.25)
    assert any(np.array_equal(mask.volume, side) for side in (expected, expected[::-1]))

    write_mask(tmp_path / "out.nii.gz", mask.volume, mask)
    assert content(tmp_path / "out.nii.gz") == content(path)
    assert_same_grid(tmp_path / "out.nii.gz", path)
    assert np.array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "out.nii.gz")),
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)),
    )


@settings(deadline=None, max_examples=50)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 12)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    seed=st.integers(0, 9),
)
def test_any_oblique_grid_writes_back_exactly(tmp_path_factory, angles, spacing, origin, seed):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = origin
    folder = tmp_path_factory.mktemp("oblique")
    path, out = folder / "mask.nii", folder / "out.nii"
    shape = np.random.default_rng(seed).integers(2, 8, 3)
    nib.save(nib.Nifti1Image(labelled(tuple(shape)), affine), path)
    mask = read_mask(path)
    assert sorted(mask.spacing_mm) == pytest.approx(sorted(spacing), rel=1e-4)
    write_mask(out, mask.volume, mask)
    assert content(out) == content(path)
    assert_same_grid(out, path)


def test_the_acdc_affine_is_a_plain_transpose(tmp_path, save_nifti):
    mask = read_mask(save_nifti(tmp_path / "mask.nii.gz", labelled(), (1.5, 1.25, 10)))
    assert np.array_equal(mask.volume, labelled().transpose(2, 1, 0))
    assert mask.spacing_mm == (10.0, 1.25, 1.5)


def test_a_much_coarser_axis_is_the_slice_axis(tmp_path, save_nifti):
    mask = read_mask(save_nifti(tmp_path / "mask.nii", labelled(), (8.0, 1.5, 1.5)))
    assert mask.volume.shape[0] == 6
    assert mask.spacing_mm[0] == 8.0
    isotropic = read_mask(save_nifti(tmp_path / "mask.nii", labelled(), (1.2, 1.0, 1.0)))
    assert isotropic.volume.shape[0] == 4


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<u2", "<f4", ">f4", "<f8", "<i4"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_whole_numbers_of_any_type_come_back_in_that_type(tmp_path, dtype, kind):
    path, out = tmp_path / "mask.nii.gz", tmp_path / "new" / "out.nii.gz"
    voxels = labelled().astype(dtype)
    header = kind.header_class(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(dtype)
    nib.save(kind(voxels, np.eye(4), header), path)
    mask = read_mask(path)
    assert mask.frames.dtype == np.uint8
    write_mask(out, mask.frames, mask)
    assert content(out) == content(path)
    assert nib.load(out).get_data_dtype() == np.dtype(dtype)


def test_extensions_and_scaling_are_kept(tmp_path):
    path, out = tmp_path / "mask.nii", tmp_path / "out.nii"
    image = nib.Nifti1Image(labelled(), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"drawn by hand"))
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([3, 1], "<f4").tobytes()
    path.write_bytes(raw)
    mask = read_mask(path)
    assert set(np.unique(mask.volume)) == {1, 4, 7, 10}
    write_mask(out, mask.volume, mask)
    assert content(out) == content(path)
    with pytest.raises(ValueError, match="labels that fit the uint8 voxels"):
        write_mask(out, mask.volume + 1, mask)
    with pytest.raises(ValueError, match="values up to 1000"):
        write_mask(out, mask.volume.astype(np.int16) * 100, mask)


def test_a_cine_keeps_its_frames_apart(tmp_path, save_nifti):
    voxels = np.stack([labelled(), labelled()[::-1]], axis=3)
    path, out = save_nifti(tmp_path / "cine.nii.gz", voxels), tmp_path / "out.nii.gz"
    cine = read_mask(path)
    assert cine.is_cine
    assert np.array_equal(cine.frames[1], labelled()[::-1].transpose(2, 1, 0))
    with pytest.raises(ValueError, match="one 3-D volume, got a cine of 2 frames"):
        _ = cine.volume
    write_mask(out, cine.frames, cine)
    assert content(out) == content(path)


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.where(labelled() == 3, np.nan, 1.0), "30 voxels that are NaN"),
        (np.where(labelled() == 3, np.inf, 1.0), "infinite"),
        (labelled() - 1.0, "negative values down to -1"),
        (labelled().astype(np.int16) - 2, "negative values down to -2"),
        (labelled() / 2, "fractional values such as 0.5"),
        (labelled() * np.int32(20000), "values up to 60000"),
    ],
)
def test_voxels_that_are_no_labels_are_refused(tmp_path, save_nifti, voxels, words):
    if voxels.dtype.kind == "f":
        voxels = voxels.astype(np.float32)
    path = save_nifti(tmp_path / "mask.nii.gz", voxels)
    with pytest.raises(ValueError, match=r"mask\.nii\.gz: expected whole-number labels") as caught:
        read_mask(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_with_nan_is_refused_and_a_finite_one_is_float32(tmp_path, save_nifti):
    voxels = labelled().astype(np.float32)
    path = save_nifti(tmp_path / "image.nii", voxels)
    assert read_image(path).frames.dtype == np.float32
    voxels[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="expected finite intensities, got 1 "):
        read_image(save_nifti(path, voxels))


def test_a_mask_beside_an_image_is_an_unscaled_integer(tmp_path, save_nifti):
    path, out = tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz"
    image = read_image(save_nifti(path, np.float32(np.pi) * labelled()))
    write_mask(out, labelled().transpose(2, 1, 0), image)
    assert nib.load(out).get_data_dtype() == np.uint8
    assert np.array_equal(np.asanyarray(nib.load(out).dataobj), labelled())
    assert_same_grid(out, path)


def test_an_image_goes_back_as_float32_on_the_same_grid(tmp_path, save_nifti, rng):
    path, out = tmp_path / "scan.nii.gz", tmp_path / "out.nii.gz"
    scan = read_image(save_nifti(path, labelled().astype(np.int16)))
    noisy = scan.volume + rng.normal(size=scan.volume.shape).astype(np.float32)
    write_image(out, noisy, scan)
    assert np.array_equal(read_image(out).volume, noisy)
    assert grid_difference(read_image(out), scan) is None
    assert_same_grid(out, path)


def test_probabilities_round_trip_on_any_orientation(tmp_path, rng):
    affine = np.diag([1.5, -1.5, 8.0, 1.0])
    upright = nib.Nifti1Image(labelled((6, 5, 4)), affine)
    path, out = tmp_path / "mask.nii.gz", tmp_path / "probabilities.nii.gz"
    nib.save(upright.as_reoriented(np.array([[1, 1], [0, -1], [2, 1]])), path)
    mask = read_mask(path)
    depth, height, width = mask.volume.shape
    logits = rng.normal(size=(depth, 4, height, width))
    expected = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    write_probabilities(out, expected, mask)
    probabilities, geometry = read_probabilities(out)
    assert np.array_equal(probabilities, expected)
    assert np.array_equal(geometry.volume, expected.argmax(axis=1))
    assert grid_difference(mask, geometry) is None
    stored = nib.load(out)
    assert stored.shape == (*nib.load(path).shape, 4)
    assert np.array_equal(stored.affine, nib.load(path).affine)


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.full((4, 5, 3, 3), 1 / 3, np.float32), r"fourth axis of 4, got shape \(4, 5, 3, 3\)"),
        (np.full((4, 5, 3, 4), 0.5, np.float32), "sums from 2 to 2"),
        (np.full((4, 5, 3, 4), -1, np.float32), "values from -1"),
        (np.full((4, 5, 3, 4), np.nan, np.float32), "values from nan"),
        (np.full((4, 5, 3), 0.25, np.float32), "fourth axis of 4"),
    ],
)
def test_what_is_no_distribution_is_refused(tmp_path, save_nifti, voxels, words):
    path = save_nifti(tmp_path / "probabilities.nii.gz", voxels)
    with pytest.raises(ValueError, match=words):
        read_probabilities(path)


def test_grid_difference_names_what_differs(tmp_path, save_nifti):
    def mask(name, shape=(6, 5, 4), spacing=(1.5, 1.5, 10.0), affine=None):
        return read_mask(save_nifti(tmp_path / name, labelled(shape), spacing, affine))

    reference = mask("a.nii")
    assert grid_difference(reference, mask("b.nii")) is None
    turned, moved = np.diag([1.0, -1, 1, 1]), np.diag([-1.0, -1, 1, 1])
    moved[0, 3] = 2
    tilted = np.eye(4)
    tilted[:3, :3] = np.diag([-1, -1, 1]) @ Rotation.from_euler("z", 5, degrees=True).as_matrix()
    for other, words in (
        (mask("c.nii", shape=(6, 5, 3)), "shape (6, 5, 4) against (6, 5, 3)"),
        (mask("d.nii", spacing=(1.5, 1.4, 10)), "spacing (1.5, 1.5, 10.0) mm against (1.5, 1.4"),
        (mask("e.nii", affine=turned), "orientation LPS against RPS"),
        (mask("h.nii", affine=tilted), "orientation LPS, turned by 5.0 degrees"),
        (mask("f.nii", affine=moved), "position of the first voxel"),
    ):
        assert grid_difference(reference, other).startswith(words)
    cine = read_mask(save_nifti(tmp_path / "g.nii", np.zeros((6, 5, 4, 7), np.uint8)))
    assert grid_difference(reference, cine) == "shape (6, 5, 4, 1) against (6, 5, 4, 7)"


def test_what_does_not_fit_the_grid_is_refused_and_nothing_written(tmp_path, save_nifti):
    mask = read_mask(save_nifti(tmp_path / "mask.nii", labelled()))
    out = tmp_path / "out.nii"
    with pytest.raises(ValueError, match=r"expected the shape \(1, 4, 5, 6\)"):
        write_mask(out, mask.volume[:2], mask)
    with pytest.raises(ValueError, match=r"shape \(4, 4, 5, 6\)"):
        write_probabilities(out, np.zeros((4, 3, 5, 6), np.float32), mask)
    with pytest.raises(ValueError, match=r"ends in \.nii or \.nii\.gz"):
        write_mask(tmp_path / "out.mha", mask.volume, mask)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.nii"]


def test_a_folder_that_cannot_be_written_to_is_refused_in_one_line(tmp_path, save_nifti):
    mask = read_mask(save_nifti(tmp_path / "mask.nii", labelled()))
    with pytest.raises(ValueError, match="expected an output folder that can be written") as caught:
        write_mask(tmp_path / "mask.nii" / "out.nii", mask.volume, mask)
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, save_nifti, monkeypatch):
    path = save_nifti(tmp_path / "mask.nii.gz", labelled())
    mask, before = read_mask(path), path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ValueError, match="No space left on device"):
        write_mask(path, mask.volume * 0, mask)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_same_voxels_give_the_same_bytes(tmp_path, save_nifti):
    mask = read_mask(save_nifti(tmp_path / "mask.nii.gz", labelled()))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_mask(tmp_path / name, mask.volume, mask)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_all_real_masks_write_back_exactly(acdc_root: Path, tmp_path):
    paths = sorted(acdc_root.glob("patient*/*_gt.nii.gz"))
    assert len(paths) == 200
    for index, path in enumerate(paths):
        mask = read_mask(path)
        write_mask(tmp_path / "out.nii.gz", mask.volume, mask)
        assert content(tmp_path / "out.nii.gz") == content(path)
        if index % 20 == 0:
            assert_same_grid(tmp_path / "out.nii.gz", path)


def test_the_real_cine_holds_the_two_annotated_frames(acdc_root: Path):
    folder = acdc_root / "patient090"
    cine = read_image(folder / "patient090_4d.nii.gz")
    assert len(cine.frames) == 12
    for frame in (4, 11):
        scan = read_image(folder / f"patient090_frame{frame:02d}.nii.gz")
        assert scan.spacing_mm == cine.spacing_mm
        assert np.array_equal(cine.frames[frame - 1], scan.volume)
