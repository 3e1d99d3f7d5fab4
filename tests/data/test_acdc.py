from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from cardiac_vae.data.acdc import DUPLICATES, case_paths, read_cases
from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.nifti import read_image
from cardiac_vae.labels import MNMS_LABELS, Phase


def first_patient(root):
    return root / "patient001"


def test_cases_come_sorted_with_image_phase_and_group(acdc_folder, toy_heart):
    cases = list(read_cases(acdc_folder))
    assert [case.case_id for case in cases] == [
        f"patient00{number}_{phase}" for number in (1, 2, 3, 4) for phase in ("ed", "es")
    ]
    assert [case.group for case in cases[::2]] == ["NOR", "DCM", "NOR", "DCM"]
    ed = cases[0]
    assert ed.spacing_mm == (10.0, 1.5, 1.5)  # the affine says 1 mm
    assert np.array_equal(ed.mask, np.roll(toy_heart, 1 - 4, axis=0).transpose(2, 1, 0))
    assert np.array_equal(ed.image, 100 + 50.0 * ed.mask + 4)  # frame 4, not 1


def test_cases_are_read_when_asked_for(acdc_folder):
    (acdc_folder / "patient002" / "patient002_frame04_gt.nii.gz").write_bytes(b"broken")
    cases = read_cases(acdc_folder)
    assert next(cases).patient_id == "patient001"
    assert next(cases).phase == Phase.ES
    with pytest.raises(ValueError, match=r"patient002_frame04_gt\.nii\.gz: expected a NIfTI"):
        next(cases)


def test_another_label_order_is_translated(acdc_folder):
    plain, swapped = next(read_cases(acdc_folder)), next(read_cases(acdc_folder, MNMS_LABELS))
    assert np.array_equal(swapped.mask, np.array([0, 3, 2, 1], np.uint8)[plain.mask])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Info.cfg", "Info.cfg: expected a file with ED, ES and Group"),
        ("patient001_frame11.nii.gz", "frame11.nii.gz: expected the image of ES"),
        ("patient001_frame04_gt.nii.gz", "frame04_gt.nii.gz: expected the mask of ED"),
    ],
)
def test_a_missing_file_is_named_before_anything_is_read(acdc_folder, name, words):
    (first_patient(acdc_folder) / name).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        read_cases(acdc_folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["ES: 11\n", "ED: x\nES: 11\n", "ED:\nES: 11\n", "ED: -1\nES: 11"])
def test_an_info_without_frames_is_refused(acdc_folder, text):
    (first_patient(acdc_folder) / "Info.cfg").write_text(text)
    with pytest.raises(ValueError, match=r"Info\.cfg: expected a line 'ED: <frame number>'"):
        case_paths(acdc_folder)


def test_a_folder_without_patients_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected folders patient001"):
        read_cases(tmp_path)


def test_mask_and_image_on_different_grids_are_refused(acdc_folder, save_nifti, toy_heart):
    path = first_patient(acdc_folder) / "patient001_frame04.nii.gz"
    save_nifti(path, toy_heart, (1.4, 1.5, 10.0))
    with pytest.raises(ValueError, match=r"frame04\.nii\.gz, got another: spacing \(1\.5, 1\.5"):
        next(read_cases(acdc_folder))


def test_unknown_labels_name_the_file_and_what_would_fit(acdc_folder, save_nifti, toy_heart):
    path = first_patient(acdc_folder) / "patient001_frame04_gt.nii.gz"
    save_nifti(path, toy_heart * 2)
    with pytest.raises(ValueError, match=r"frame04_gt\.nii\.gz: .*--labels rv=2,myo=4,lv=6"):
        next(read_cases(acdc_folder))


def test_a_cine_as_frame_is_refused(acdc_folder, save_nifti, toy_heart):
    path = first_patient(acdc_folder) / "patient001_frame04_gt.nii.gz"
    save_nifti(path, np.stack([toy_heart] * 2, axis=3))
    with pytest.raises(ValueError, match="shape"):
        next(read_cases(acdc_folder))


@dataclass(frozen=True)
class Facts:
    """What the tests below need of a case; the images of all would fill the memory."""

    patient: int
    phase: Phase
    group: str
    num_slices: int
    num_empty: int
    spacing_mm: tuple[float, float, float]
    is_finite: bool

    @classmethod
    def of(cls, case: CardiacCase) -> "Facts":
        return cls(
            patient=int(case.patient_id.removeprefix("patient")),
            phase=case.phase,
            group=case.group,
            num_slices=len(case.mask),
            num_empty=int((~case.mask.any(axis=(1, 2))).sum()),
            spacing_mm=case.spacing_mm,
            is_finite=bool(np.isfinite(case.image).all() and case.image.max() > 0),
        )


@pytest.fixture(scope="module")
def real(acdc_root):
    return [Facts.of(case) for case in read_cases(acdc_root)]


def test_all_real_patients_are_read(real):
    assert [case.patient for case in real[::2]] == list(range(1, 101))
    assert Counter(case.phase for case in real) == {Phase.ED: 100, Phase.ES: 100}
    assert sum(case.num_slices for case in real) == 1902
    assert sum(case.num_empty for case in real) == 61
    assert all(case.is_finite for case in real)


def test_real_groups_follow_the_numbers(real):
    order = ("DCM", "HCM", "MINF", "NOR", "RV")
    assert all(case.group == order[(case.patient - 1) // 20] for case in real)


def test_real_spacing_is_that_of_pixdim(real):
    spacings = np.array([case.spacing_mm for case in real])
    assert spacings[:, 0].min() == 5
    assert spacings[:, 0].max() == 10
    assert 0.70 <= spacings[:, 1:].min() < 0.71
    assert 1.91 < spacings[:, 1:].max() <= 1.95


def test_real_end_diastole_is_not_always_frame_1(acdc_root):
    names = {case.case_id: case.mask.name for case in case_paths(acdc_root)}
    assert names["patient090_ed"] == "patient090_frame04_gt.nii.gz"
    assert names["patient090_es"] == "patient090_frame11_gt.nii.gz"


def test_the_known_duplicates_are_the_same_scan(acdc_root):
    ((first, second),) = DUPLICATES
    scans = {case.case_id: case.scan for case in case_paths(acdc_root)}
    for phase in Phase:
        images = [read_image(scans[f"{patient}_{phase}"]) for patient in (first, second)]
        assert np.array_equal(images[0].volume, images[1].volume)
