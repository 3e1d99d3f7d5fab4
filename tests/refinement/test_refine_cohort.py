from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.data.nifti import read_image, write_mask, write_probabilities
from cardiac_vae.data.segmented import (
    SCANS,
    mask_path,
    probabilities_path,
    read_structures,
    refined_path,
)
from cardiac_vae.labels import Phase
from cardiac_vae.refinement.cohort import refine_cases


class Eraser:
    """A refiner that empties what is not plausible: valid by construction, and easy to predict."""

    def __init__(self) -> None:
        self.phases: list[Phase | None] = []

    def refine(
        self,
        mask: np.ndarray,
        spacing_mm: tuple[float, float, float],
        probabilities: np.ndarray,
        phase: Phase | None,
    ) -> SimpleNamespace:
        self.phases.append(phase)
        assert probabilities.shape == (len(mask), 4, *mask.shape[1:])
        before = check_volume(mask, spacing_mm)
        refined = mask if before.is_valid else np.zeros_like(mask)
        return SimpleNamespace(
            mask=refined,
            is_changed=not before.is_valid,
            is_refused=False,
            before=before,
            after=check_volume(refined, spacing_mm),
            slices=[
                SimpleNamespace(
                    index=i, route="erased" if plane.any() else "kept", changed_pixels=1
                )
                for i, plane in enumerate(mask)
            ],
            warnings=(),
        )


@pytest.fixture
def segmented(tmp_path: Path) -> Path:
    """Return a folder with an empty mask and one whose ventricle is in two parts."""
    empty, broken = np.zeros((2, 2, 24, 24), np.uint8)
    broken[0, 4:9, 4:9] = broken[0, 14:19, 14:19] = 3
    nib.Nifti1Image(np.zeros((24, 24, 2), np.float32), np.eye(4)).to_filename(
        tmp_path / "scan.nii.gz"
    )
    scan = read_image(tmp_path / "scan.nii.gz")
    for scans in SCANS:
        (tmp_path / "segmented" / scans).mkdir(parents=True)
        for case_id, mask in (("a_ed", empty), ("b_es", broken)):
            folder = tmp_path / "segmented"
            write_mask(mask_path(folder, scans, case_id), mask, scan)
            one_hot = np.eye(4, dtype=np.float32)[mask].transpose(0, 3, 1, 2)
            write_probabilities(probabilities_path(folder, scans, case_id), one_hot, scan)
    return tmp_path / "segmented"


def test_every_case_is_refined_and_every_decision_kept(segmented: Path, tmp_path: Path):
    eraser = Eraser()
    summary = refine_cases(segmented, eraser, tmp_path / "refined")
    assert eraser.phases == [Phase.ED, Phase.ES] * len(SCANS)
    for scans in SCANS:
        assert summary[scans]["num_cases"] == 2
        assert summary[scans]["num_changed"] == 1
        assert summary[scans]["routes"] == {"kept": 3, "erased": 1}
        [kept, erased] = summary[scans]["cases"]
        assert (kept["case_id"], kept["is_changed"]) == ("a_ed", False)
        assert (erased["case_id"], erased["is_changed"]) == ("b_es", True)
        assert not erased["before"]["is_valid"]
        assert erased["before"]["broken"]
        assert erased["after"]["is_valid"]
        assert not erased["after"]["broken"]
        assert not read_structures(refined_path(tmp_path / "refined", scans, "b_es")).any()


def test_a_mask_that_stays_is_the_same_file_to_the_byte(segmented: Path, tmp_path: Path):
    refine_cases(segmented, Eraser(), tmp_path / "refined")
    source = mask_path(segmented, "clean", "a_ed").read_bytes()
    assert refined_path(tmp_path / "refined", "clean", "a_ed").read_bytes() == source
