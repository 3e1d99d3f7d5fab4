from pathlib import Path

import numpy as np
import pytest

from cardiac_vae.data.acdc import case_paths
from cardiac_vae.data.case_files import CasePaths
from cardiac_vae.data.nifti import grid_difference, read_image, read_mask, read_probabilities
from cardiac_vae.data.phantom import PhantomConfig, write_cohort
from cardiac_vae.data.segmented import SCANS, case_ids, mask_path, probabilities_path
from cardiac_vae.segmentation.cohort import CohortConfig, segment_cases


class BrightPixels:
    """A segmenter that calls bright pixels blood, surely; it shows what it was given."""

    def predict(self, image: np.ndarray, _: tuple[float, float, float]) -> np.ndarray:
        is_bright = image > np.percentile(image, 90)
        probabilities = np.zeros((len(image), 4, *image.shape[1:]), np.float32)
        probabilities[:, 3], probabilities[:, 0] = is_bright, ~is_bright
        return probabilities


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[CasePaths]:
    root = tmp_path_factory.mktemp("raw")
    write_cohort(root, PhantomConfig(num_patients=1))
    return case_paths(root)


@pytest.fixture(scope="module")
def output(cases: list[CasePaths], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmented")
    summary = segment_cases(cases, BrightPixels(), CohortConfig(), folder)
    assert {scans: summary[scans]["num_cases"] for scans in SCANS} == dict.fromkeys(SCANS, 2)
    return folder


@pytest.mark.parametrize("scans", SCANS)
def test_masks_and_probabilities_lie_on_the_grid_of_the_scan(
    cases: list[CasePaths], output: Path, scans: str
):
    assert case_ids(output, scans) == [case.case_id for case in cases]
    for case in cases:
        scan = read_image(case.scan)
        mask = read_mask(mask_path(output, scans, case.case_id))
        probabilities, grid = read_probabilities(probabilities_path(output, scans, case.case_id))
        assert grid_difference(scan, mask) is None
        assert grid_difference(scan, grid) is None
        np.testing.assert_array_equal(probabilities.argmax(axis=1), mask.volume)


def test_corrupted_masks_come_from_the_corrupted_scan_on_file(cases: list[CasePaths], output: Path):
    case = cases[0]
    corrupted = read_image(output / "corrupted" / f"{case.case_id}_scan.nii.gz").volume
    expected = BrightPixels().predict(corrupted, (1, 1, 1)).argmax(axis=1)
    found = read_mask(mask_path(output, "corrupted", case.case_id)).volume
    np.testing.assert_array_equal(found, expected)
    clean = read_mask(mask_path(output, "clean", case.case_id)).volume
    assert (clean != found).any()


def test_a_case_is_corrupted_in_the_same_way_whatever_the_others_are(
    cases: list[CasePaths], output: Path, tmp_path: Path
):
    segment_cases(cases[1:], BrightPixels(), CohortConfig(), tmp_path)
    name = f"corrupted/{cases[1].case_id}_scan.nii.gz"
    np.testing.assert_array_equal(
        read_image(tmp_path / name).volume, read_image(output / name).volume
    )
