"""Bad input: one line that says what, expected, got, what to do; status 2; nothing written."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

RUBBISH = b"this is no image\n" * 100


def error_of(result, *words: str) -> str:
    """Assert a single line of error with all the words, and return it."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], f"{word!r} not in {lines[0]!r}"
    return lines[0]


def set_header(path: Path, **fields) -> None:
    """Change header fields of an uncompressed NIfTI file, and nothing else."""
    content = path.read_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + content[348:])


def test_not_a_nifti(run, tmp_path):
    path = tmp_path / "mask.nii"
    path.write_bytes(RUBBISH)
    error_of(run("check", path), str(path), "expected a NIfTI")


def test_a_gzip_of_something_else(run, tmp_path):
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(gzip.compress(RUBBISH))
    error_of(run("check", path), str(path), "expected a NIfTI")


def test_an_empty_file(run, tmp_path):
    path = tmp_path / "mask.nii.gz"
    path.touch()
    error_of(run("check", path), str(path), "expected a NIfTI")


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_truncated_gzip(run, write_nifti, heart, kept):
    path = write_nifti("mask.nii.gz", heart)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    error_of(run("check", path), str(path), "truncated")


def test_truncated_without_compression(run, write_nifti, heart):
    path = write_nifti("mask.nii", heart)
    path.write_bytes(path.read_bytes()[:-1])
    error_of(run("check", path), str(path), "truncated")


def test_absurd_sizes_are_refused_before_loading(run, write_nifti, heart):
    path = write_nifti("mask.nii", heart)
    set_header(path, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    error_of(run("check", path), str(path), "32767 x 32767 x 32767", "header")


def test_sizes_beyond_the_file_are_refused_before_loading(run, write_nifti, heart):
    path = write_nifti("mask.nii", heart)
    set_header(path, dim=[3, 700, 700, 700, 1, 1, 1, 1])
    error_of(run("check", path), str(path), "(700, 700, 700")


def test_a_single_image_is_no_volume(run, write_nifti, heart):
    path = write_nifti("mask.nii", heart)
    set_header(path, dim=[2, 72, 64, 1, 1, 1, 1, 1])
    error_of(run("check", path), str(path), "3-D", "2-D")


def test_nan_labels(run, write_nifti, heart):
    frames = heart.astype(np.float32)
    frames[0, 0, 0] = np.nan
    error_of(run("check", write_nifti("mask.nii", frames)), "labels", "NaN")


def test_negative_labels(run, write_nifti, heart):
    frames = heart.astype(np.int16)
    frames[0, 0, 0] = -1
    error_of(run("check", write_nifti("mask.nii", frames)), "labels", "negative")


def test_fractional_labels(run, write_nifti, heart):
    error_of(run("check", write_nifti("mask.nii", heart.astype(np.float32) / 3)), "fractional")


def test_unknown_labels_name_the_mapping_that_would_fit(run, write_nifti, heart):
    path = write_nifti("mask.nii", np.array([0, 500, 600, 420], np.int16)[heart])
    error_of(run("check", path), str(path), "500", "--labels rv=420,myo=500,lv=600")


def test_labels_of_the_other_dataset_are_noticed(run, write_nifti, heart):
    path = write_nifti("mask.nii", np.array([0, 3, 2, 1], np.uint8)[heart])
    error_of(run("check", path), str(path), "--labels mnms")
    assert run("check", path, "--labels", "mnms").exit_code == 0
    assert run("check", path, "--labels", "acdc").exit_code == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [("nnunet", "acdc"), ("rv=1,myo=2", "each structure"), ("rv=1,myo=1,lv=1", "of its own")],
)
def test_a_mapping_that_is_none(run, write_nifti, heart, text, word):
    error_of(run("check", write_nifti("mask.nii", heart), "--labels", text), "--labels", word)


@pytest.mark.parametrize("size", [0.0, np.nan])
def test_spacing_that_is_none(run, write_nifti, heart, size):
    path = write_nifti("mask.nii", heart)
    set_header(path, pixdim=[1, 1.5, size, 8, 1, 1, 1, 1])
    error_of(run("check", path), str(path), "positive voxel sizes")


def test_a_path_that_is_not_there(run, tmp_path):
    error_of(run("check", tmp_path / "mask.nii.gz"), "mask.nii.gz", "found none")


def test_a_folder_without_masks(run, tmp_path):
    error_of(run("check", tmp_path), str(tmp_path), "got none")


def test_one_bad_case_does_not_stop_the_others(run, write_nifti, heart, tmp_path):
    for name in "ac":
        write_nifti(f"masks/{name}.nii.gz", heart)
    (tmp_path / "masks/b.nii.gz").write_bytes(RUBBISH)
    result = run("check", tmp_path / "masks")
    assert result.exit_code == 2
    assert "2 of 2 masks plausible" in result.stdout
    first, second = result.stderr.strip().splitlines()
    assert first == "1 of 3 failed:"
    assert "b.nii.gz" in second
    assert "expected a NIfTI" in second


def test_an_output_folder_that_cannot_be_written(run, write_nifti, heart, tmp_path):
    path = write_nifti("mask.nii", heart)
    for out in ("/proc/nowhere/out", path / "out"):
        result = run("refine", path, "--model", tmp_path, "-o", out)
        error_of(result, "expected a folder that can be written", "choose another")


def test_an_unknown_option_or_command(run):
    assert run("check").exit_code == 2
    assert run("chek").exit_code == 2
