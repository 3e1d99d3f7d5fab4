"""Where results may go: never over an input, never over what exists, only where one can write."""

import gzip
import os
from pathlib import Path

import pytest

from cardiac_vae.cli.inputs import Case, find_cases
from cardiac_vae.cli.outputs import copy_volume, plan_outputs, replacing


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in ("b.nii.gz", "a.nii", ".hidden.nii", "notes.txt"):
        (folder / name).write_bytes(b"x")
    return folder


def plan(sources: list[Path], output: Path, report: Path | None = None, **options):
    return plan_outputs(find_cases(sources), output, report, **{"overwrite": False, **options})


def test_a_folder_gives_its_nifti_files_in_order(masks):
    assert [case.source.name for case in find_cases([masks])] == ["a.nii", "b.nii.gz"]


def test_companions_are_paired_by_name_whatever_their_compression(masks, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a.nii.gz").touch()
    first, second = find_cases([masks], scan=scans)
    assert first.scan == scans / "a.nii.gz"
    assert second.scan == scans / "b.nii.gz"


def test_one_scan_for_several_masks_is_refused(masks):
    with pytest.raises(ValueError, match=r"--scan .*expected a folder"):
        find_cases([masks], scan=masks / "a.nii")


def test_a_folder_run_keeps_the_names_and_adds_a_report(masks, tmp_path):
    out = tmp_path / "out"
    files = set(plan([masks], out, beside=["probabilities"]).files)
    names = ("a.nii", "b.nii.gz")
    expected = {out / "report.csv", *(out / name for name in names)}
    assert files == expected | {out / "probabilities" / name for name in names}
    assert not out.exists()


def test_an_input_of_another_name_gets_a_name_that_can_be_written(tmp_path):
    path = tmp_path / "MASK.NII"
    path.touch()
    assert (tmp_path / "out/MASK.NII.nii.gz") in plan([path], tmp_path / "out").files


def test_a_single_file_goes_to_a_file_with_its_probabilities_beside(masks, tmp_path):
    out = tmp_path / "x.y.nii.gz"
    files = set(plan([masks / "a.nii"], out, beside=["probabilities"]).files)
    assert files == {out, tmp_path / "x.y_probabilities.nii.gz"}


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_an_input_is_never_overwritten_under_any_name(masks, tmp_path, link):
    out = masks / "a.nii"
    if link is not None:
        out = tmp_path / "link.nii"
        link(masks / "a.nii", out)
    with pytest.raises(ValueError, match=r"is the input .*a\.nii"):
        plan([masks / "a.nii"], out, overwrite=True)


def test_the_folder_of_the_inputs_is_refused_through_a_link_too(masks, tmp_path):
    (tmp_path / "link").symlink_to(masks)
    for out in (masks, tmp_path / "link", tmp_path / "masks/../masks"):
        with pytest.raises(ValueError, match="leave the inputs alone"):
            plan([masks], out, overwrite=True)


def test_the_folder_of_the_scans_is_refused(masks, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a.nii").touch()
    cases = find_cases([masks / "a.nii"], scan=scans)
    with pytest.raises(ValueError, match="leave the inputs alone"):
        plan_outputs(cases, scans, None, overwrite=True)


def test_a_report_over_an_output_or_of_another_kind_is_refused(masks, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.csv or \.json"):
        plan([masks], tmp_path / "out", tmp_path / "report.txt")


def test_inputs_of_one_name_are_refused(masks, tmp_path):
    other = tmp_path / "other/a.nii"
    other.parent.mkdir()
    other.touch()
    with pytest.raises(ValueError, match="different names"):
        plan([masks / "a.nii", other], tmp_path / "out")


def test_an_input_named_twice_is_refused(masks, tmp_path):
    with pytest.raises(ValueError, match="twice"):
        plan([masks, masks / "a.nii"], tmp_path / "out")


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nrrd"])
def test_a_file_name_for_several_inputs_is_refused(masks, tmp_path, name):
    with pytest.raises(ValueError, match="expected a folder"):
        plan([masks], tmp_path / name)


def test_what_exists_stays_unless_asked(masks, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.nii").touch()
    with pytest.raises(ValueError, match=r"out/a\.nii exists.*--overwrite"):
        plan([masks], out)
    plan([masks], out, overwrite=True)


def test_a_folder_in_the_place_of_a_file_is_refused(masks, tmp_path):
    (tmp_path / "out/a.nii").mkdir(parents=True)
    with pytest.raises(ValueError, match="is a folder"):
        plan([masks], tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("under", ["masks/notes.txt/deep/out", "/proc/out"])
def test_a_folder_that_cannot_be_written_is_refused(masks, tmp_path, under):
    with pytest.raises(ValueError, match="expected a folder that can be written"):
        plan([masks], tmp_path / under)


def test_asking_leaves_no_trace(masks, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    plan([masks], tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_half_a_file_is_never_left(tmp_path):
    def write_half() -> None:
        with replacing(tmp_path / "out/a.nii") as partial:
            partial.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("was", [".nii", ".nii.gz"])
@pytest.mark.parametrize("becomes", [".nii", ".nii.gz"])
def test_copying_changes_the_compression_alone(tmp_path, was, becomes):
    content = bytes(range(256)) * 10
    source, target = tmp_path / f"a{was}", tmp_path / f"b{becomes}"
    source.write_bytes(gzip.compress(content) if was == ".nii.gz" else content)
    copy_volume(source, target)
    if was == becomes:
        assert target.read_bytes() == source.read_bytes()
    copied = target.read_bytes()
    assert (gzip.decompress(copied) if becomes == ".nii.gz" else copied) == content


def test_a_case_lists_the_files_it_reads():
    case = Case(Path("mask.nii"), probabilities=Path("p.nii"))
    assert list(case.files) == [Path("mask.nii"), Path("p.nii")]
