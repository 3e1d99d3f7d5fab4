import shutil

import numpy as np
import pytest

from cardiac_vae.data import acdc, nifti_folder
from cardiac_vae.labels import MNMS_LABELS, Phase


@pytest.fixture
def folder(tmp_path, acdc_folder):
    """Return the ACDC-like dataset as images/ and masks/."""
    root = tmp_path / "plain"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for case in acdc.case_paths(acdc_folder):
        shutil.copy(case.scan, root / "images" / f"{case.case_id}.nii.gz")
        shutil.copy(case.mask, root / "masks" / f"{case.case_id}.nii.gz")
    return root


def rename(folder, old, new):
    for kind in ("images", "masks"):
        (folder / kind / old).rename(folder / kind / new)


def test_the_same_files_give_the_same_cases_as_acdc(folder, acdc_folder):
    (folder / "groups.csv").write_text(
        "patient_id,group\npatient001,NOR\npatient002,DCM\npatient003,NOR\npatient004,DCM\n"
    )
    pairs = list(zip(nifti_folder.read_cases(folder), acdc.read_cases(acdc_folder), strict=True))
    assert len(pairs) == 8
    for a, b in pairs:
        assert (a.case_id, a.group, a.spacing_mm) == (b.case_id, b.group, b.spacing_mm)
        assert np.array_equal(a.mask, b.mask)
        assert np.array_equal(a.image, b.image)


def test_a_name_without_phase_is_end_diastole_and_any_case_of_it_is_read(folder):
    rename(folder, "patient001_ed.nii.gz", "patient001.nii.gz")
    rename(folder, "patient002_es.nii.gz", "a_b_ES.nii.gz")
    names = [(case.patient_id, case.phase) for case in nifti_folder.case_paths(folder)]
    assert names[0] == ("a_b", Phase.ES)
    assert names[1] == ("patient001", Phase.ED)
    assert all(case.group == "" for case in nifti_folder.read_cases(folder))


def test_labels_are_translated(folder):
    plain = next(nifti_folder.read_cases(folder))
    swapped = next(nifti_folder.read_cases(folder, MNMS_LABELS))
    assert np.array_equal(swapped.mask, np.array([0, 3, 2, 1], np.uint8)[plain.mask])


@pytest.mark.parametrize(("kind", "other"), [("image", "mask"), ("mask", "image")])
def test_a_file_without_its_partner_is_named(folder, kind, other):
    (folder / f"{kind}s" / "patient003_es.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected one {kind} .* none for patient003_es;"):
        nifti_folder.read_cases(folder)


def test_an_empty_folder_says_where_files_belong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"masks: expected files such as patient001_ed"):
        nifti_folder.read_cases(tmp_path)


def test_two_files_for_one_case_are_refused(folder):
    for kind in ("images", "masks"):
        shutil.copy(folder / kind / "patient001_ed.nii.gz", folder / kind / "patient001.nii.gz")
    with pytest.raises(ValueError, match="one mask per patient and phase"):
        nifti_folder.read_cases(folder)
    shutil.copy(folder / "masks" / "patient001_ed.nii.gz", folder / "masks" / "patient001_ed.nii")
    with pytest.raises(ValueError, match="one file per name"):
        nifti_folder.read_cases(folder)


def test_hidden_and_foreign_files_are_left_alone(folder):
    (folder / "masks" / ".partial-7-patient009_ed.nii.gz").write_bytes(b"half a file")
    (folder / "masks" / "notes.txt").write_text("checked")
    assert len(nifti_folder.case_paths(folder)) == 8


def test_groups_need_their_header(folder):
    (folder / "groups.csv").write_text("patient001,NOR\n")
    with pytest.raises(ValueError, match=r"groups\.csv: expected the columns patient_id and group"):
        nifti_folder.case_paths(folder)
