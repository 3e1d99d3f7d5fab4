"""``cardiac-vae check``: the findings, the verdict, the exit status; and a start without weight."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cardiac_vae.data.acdc import read_cases


def rows_of(text: str, word: str) -> list[list[str]]:
    """Return the cells of each printed row that holds ``word``."""
    return [line.split("  ") for line in text.splitlines() if word in line]


def test_a_plausible_mask(run, write_nifti, heart):
    result = run("check", write_nifti("mask.nii.gz", heart))
    assert result.exit_code == 0
    assert "1 of 1 masks plausible" in result.stdout
    assert result.stderr == ""


def test_the_findings_name_slice_criterion_and_measure(run, write_nifti, broken):
    result = run("check", write_nifti("mask.nii.gz", broken))
    assert result.exit_code == 1
    (hole,), (speck,) = (rows_of(result.stdout, what) for what in ("holes in", "RV in several"))
    assert [cell for cell in hole if cell][1:] == ["0", "1", "holes in the LV", "1 px"]
    assert [cell for cell in speck if cell][1:] == ["0", "2", "RV in several parts", "9 px"]
    assert "0 of 1 masks plausible" in result.stdout


def test_one_implausible_mask_of_a_folder_decides(run, write_nifti, heart, broken, tmp_path):
    write_nifti("masks/a.nii.gz", heart)
    write_nifti("masks/b.nii.gz", broken)
    result = run("check", tmp_path / "masks")
    assert result.exit_code == 1
    assert "1 of 2 masks plausible" in result.stdout


def test_the_frames_of_a_cine_are_told_apart(run, write_nifti, heart, broken):
    result = run("check", write_nifti("cine.nii.gz", np.stack([heart, heart, broken])))
    assert result.exit_code == 1
    (hole,) = rows_of(result.stdout, "holes in the LV")
    assert [cell.strip() for cell in hole if cell][1:3] == ["2", "1"]


def test_an_empty_mask_is_plausible_with_a_warning(run, write_nifti, heart):
    result = run("check", write_nifti("mask.nii.gz", np.zeros_like(heart)))
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")


def test_a_mask_stored_slices_first_is_checked_in_plane(run, write_nifti, broken):
    """The in-plane axes follow the spacing, whichever axis of the file holds the slices."""
    path = write_nifti("mask.nii.gz", np.moveaxis(broken, 0, 2).copy(), zooms=(8.0, 1.5, 1.5))
    result = run("check", path)
    (hole,) = rows_of(result.stdout, "holes in the LV")
    assert [cell.strip() for cell in hole if cell][1:3] == ["0", "1"]


@pytest.mark.parametrize("missing", ["Info.cfg", "patient001_frame01.nii.gz"])
def test_a_patient_without_info_or_frame_is_named(write_nifti, heart, tmp_path, missing):
    for name in ("01", "01_gt", "09", "09_gt"):
        write_nifti(f"patient001/patient001_frame{name}.nii.gz", heart)
    (tmp_path / "patient001/Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR\n")
    assert len(list(read_cases(tmp_path))) == 2
    (tmp_path / "patient001" / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing) as error:
        list(read_cases(tmp_path))
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_help_comes_within_a_second_and_without_weight():
    program = (
        "import sys\n"
        "from cardiac_vae.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'monai', 'nibabel', 'scipy', 'numpy', 'lightning', 'mlflow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    for arguments in (["--help"], *([name, "--help"] for name in ("check", "measure", "refine"))):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # The processor's seconds, not the clock's: other work on the machine is no fault of ours.
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_the_installed_command_answers():
    command = Path(sys.executable).with_name("cardiac-vae")
    done = subprocess.run([command, "check", "nowhere.nii"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere.nii: expected")
