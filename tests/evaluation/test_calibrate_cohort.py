import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.data.segmented import SCANS
from cardiac_vae.evaluation import calibration
from cardiac_vae.evaluation.calibration import fit_and_score_calibration, leave_out
from cardiac_vae.evaluation.segmented_case import read_segmented_case
from cardiac_vae.refinement.observation import ObservationModel
from cardiac_vae.refinement.observation_fit import fit_observation


@pytest.fixture
def fit(cohort, learnt, quick, monkeypatch):
    """Return a function that calibrates on the cohort, what it knows of stacks being learnt."""
    monkeypatch.setattr(calibration, "learn_stacks", lambda _: learnt)

    def fit_it(cases=cohort.cases, segmented=cohort.segmented, config=quick, corrector=None):
        return fit_and_score_calibration(cases, segmented, cohort.prepared, config, corrector)

    return fit_it


@pytest.fixture(scope="module")
def read_cases(cohort):
    prepared = read_prepared(cohort.prepared, "train")
    return [
        read_segmented_case(case, scans, cohort.segmented, prepared[0], 10.0)
        for case in cohort.cases
        for scans in SCANS
    ]


def test_a_segmenter_that_is_twice_too_sure_is_told_so(fitted):
    found, summary = fitted
    assert found.observation.of_probabilities.scale == pytest.approx(0.5, abs=0.04)
    for scans in SCANS:
        raw, calibrated = (summary["left_out"][scans][name] for name in ("raw", "calibrated"))
        assert calibrated["num_voxels"] == raw["num_voxels"]
        assert raw["expected_error"] > 0.02
        assert calibrated["expected_error"] < 0.3 * raw["expected_error"]
        assert calibrated["negative_log_likelihood"] < raw["negative_log_likelihood"]


def test_what_is_drawn_in_an_empty_slice_is_seen_by_the_stack(fitted):
    found, summary = fitted
    clean, corrupted = (summary["left_out"][scans]["presence"] for scans in SCANS)
    assert clean["num_volumes"] == corrupted["num_volumes"] == 8
    assert corrupted["segmenter"]["spurious"]["rv"] == 8 + clean["segmenter"]["spurious"]["rv"]
    for prior in ("chain", "independent"):
        assert corrupted[prior]["total"] <= corrupted["segmenter"]["total"] - 8
    assert found.stack.config.prior == "chain"
    assert summary["num_training_stacks"] == 6


def test_a_fit_has_not_seen_who_is_left_out(learnt, read_cases, quick):
    presence, _ = learnt
    changed = [
        replace(
            case,
            truth=(case.truth + 1) % 4,
            stack=replace(case.stack, present=~case.stack.present),
        )
        if case.patient_id == "a"
        else case
        for case in read_cases
    ]

    def by_fold(patient_id, cases):
        return list(leave_out({patient_id}, cases, presence, quick))

    for before, after in zip(by_fold("a", read_cases), by_fold("a", changed), strict=True):
        np.testing.assert_array_equal(before.calibrated, after.calibrated)
        assert before.presence == after.presence
    others = calibration._fit_scaling(read_cases, quick.observation)
    assert calibration._fit_scaling(changed, quick.observation) != others  # the change matters


def test_folds_scale_probabilities_as_the_calibration_does(read_cases, quick):
    scaling = calibration._fit_scaling(read_cases, quick.observation)
    pairs = [case.pair for case in read_cases]
    assert scaling == fit_observation(pairs, quick.observation).of_probabilities


def test_each_patient_is_left_out_once_however_many_folds(fit, fitted, quick):
    _, summary = fit(config=quick.model_copy(update={"max_folds": 3}))
    assert summary["left_out"]["num_folds"] == 3
    assert fitted[1]["left_out"]["num_folds"] == 4
    for scans in SCANS:
        few, each = (s["left_out"][scans] for s in (summary, fitted[1]))
        assert few["raw"]["num_voxels"] == each["raw"]["num_voxels"]
        assert few["raw"]["brier"] == pytest.approx(each["raw"]["brier"])
        assert few["presence"]["segmenter"] == each["presence"]["segmenter"]


class Corrector:
    """Leaves every slice as given."""

    config, pixel_mm = SimpleNamespace(image_size=64), 1.5

    def correct(self, given, chosen):
        return given[chosen]


def test_a_corrector_is_a_part_of_the_calibration_and_heard_by_its_stack(cohort, fit):
    corrector = Corrector()
    found, _ = fit(cohort.cases[:2], corrector=corrector)
    assert found.corrector is corrector
    assert found.stack.hears_corrector
    alone, _ = fit(cohort.cases[:2])
    assert alone.corrector is None
    assert not alone.stack.hears_corrector
    assert alone.observation == found.observation


def test_a_single_patient_is_fitted_and_not_judged(cohort, fit):
    found, summary = fit(cohort.cases[:2])
    assert summary["left_out"] is None
    assert "at least 3 validation patients to leave some out, got 1" in summary["note"]
    assert summary["patients"] == ["a"]
    assert found.stack is not None
    assert json.loads(json.dumps(summary)) == summary


def test_a_segmenter_that_draws_nothing_teaches_nothing_of_its_borders(cohort, fit, tmp_path: Path):
    empty = replace(cohort, root=tmp_path)
    for case in cohort.cases:
        background = np.zeros((len(case.mask), 4, *case.mask.shape[1:]))
        background[:, 0] = 1
        for scans in SCANS:
            empty.write(case.case_id, scans, background)
    found, summary = fit(segmented=empty.segmented)
    assert found.observation == ObservationModel()
    assert summary["left_out"]["clean"]["raw"] is None
    assert summary["left_out"]["clean"]["presence"]["segmenter"]["total"] > 0


def test_a_cohort_without_patients_is_refused(fit):
    with pytest.raises(ValueError, match="validation: expected a patient to calibrate on"):
        fit([])
