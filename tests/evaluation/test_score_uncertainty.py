"""A refined cohort whose true probabilities are known: calibrated ones are found to be right."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.data.segmented import SCANS, mask_path, refined_path
from cardiac_vae.evaluation.calibration import leave_out
from cardiac_vae.evaluation.segmented_case import SegmentedCase, read_segmented_case
from cardiac_vae.evaluation.uncertainty import score_uncertainty
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.observation import ObservationModel, Scaling
from cardiac_vae.refinement.uncertainty import ErrorModel


@pytest.fixture(scope="module")
def refined(cohort, tmp_path_factory):
    """Return a folder of masks that the refiner left as they were."""
    folder = tmp_path_factory.mktemp("refined")
    for scans in SCANS:
        (folder / scans).mkdir()
        for case in cohort.cases:
            source = mask_path(cohort.segmented, scans, case.case_id)
            shutil.copyfile(source, refined_path(folder, scans, case.case_id))
    return folder


def test_the_true_scale_is_the_one_that_is_calibrated(cohort, refined):
    def scored(scale: float) -> dict:
        observation = ObservationModel(of_probabilities=Scaling(scale=scale, floor=1e-6))
        scores = score_uncertainty(
            cohort.cases, cohort.segmented, refined, Calibration(observation)
        )
        assert scores["clean"]["intervals"] == {}  # nothing is known of shared errors
        return scores["clean"]["voxels"]

    true, too_sure = scored(0.5), scored(1.0)
    assert true["expected_error"] < 0.01
    assert too_sure["expected_error"] > 2 * true["expected_error"]
    assert true["brier"] < too_sure["brier"]
    assert true["num_voxels"] == too_sure["num_voxels"] > 1000


def test_a_calibration_brings_intervals_and_says_what_they_are_worth(cohort, refined, fitted):
    found, summary = fitted
    assert found.errors is not None
    assert summary["shared_errors"] == found.errors.model_dump(mode="json")
    scores = score_uncertainty(cohort.cases, cohort.segmented, refined, found)
    for of_scans in (*(scores[s] for s in SCANS), *(summary["left_out"][s] for s in SCANS)):
        assert set(of_scans["intervals"]) == {
            *("rv_ml", "mass_g", "lv_ml", "lv_ef_percent", "rv_ef_percent")
        }
        for name, by_level in of_scans["intervals"].items():
            assert by_level["90"]["coverage"]["n"] == (4 if name.endswith("percent") else 8)
            assert by_level["50"]["width"] < by_level["90"]["width"]
    # Experts' pixels were drawn one by one: what they have in common is next to nothing.
    assert max(found.errors.model_dump().values()) < 0.1
    assert (
        np.mean([q["90"]["coverage"]["mean"] for q in scores["clean"]["intervals"].values()]) > 0.6
    )


def test_a_fit_of_shared_errors_has_not_seen_who_is_left_out(cohort, learnt, quick):
    prepared = read_prepared(cohort.prepared, "train")[0]
    presence, _ = learnt
    cases = [
        read_segmented_case(case, "clean", cohort.segmented, prepared, 10.0)
        for case in cohort.cases
    ]
    changed = [
        replace(case, expert=case.expert[:, ::2, ::2]) if case.patient_id == "a" else case
        for case in cases
    ]

    def errors(of: list[SegmentedCase], patient_id: str) -> list[ErrorModel | None]:
        left_out = leave_out({patient_id}, of, presence, quick)
        return [result.judged and result.judged.errors for result in left_out]

    assert errors(cases, "b") != errors(changed, "b")  # the change matters
    shrunk = [replace(case, drawn=case.drawn[:, ::2, ::2]) for case in changed[:2]]
    assert errors(cases, "a") == errors([*shrunk, *cases[2:]], "a")
