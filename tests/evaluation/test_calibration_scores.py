import json

import numpy as np
import pytest

from cardiac_vae.evaluation.calibration_scores import (
    LeftOut,
    score_left_out,
    score_presence,
    score_voxels,
)
from cardiac_vae.labels import Structure
from cardiac_vae.metrics.presence import PresenceErrors


def errors(spurious_rv: int, missed_lv: int) -> PresenceErrors:
    none = dict.fromkeys((Structure.RV, Structure.MYO, Structure.LV), 0)
    return PresenceErrors(
        none | {Structure.RV: spurious_rv}, none | {Structure.LV: missed_lv}, num_slices=9
    )


@pytest.fixture
def results() -> list[LeftOut]:
    """Return two scans of two patients: three voxels and none, four errors and one."""
    raw = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.25, 0.25, 0.5, 0.0]])
    presence = [
        {"segmenter": errors(3, 1), "chain": errors(1, 0)},
        {"segmenter": errors(0, 1), "chain": errors(0, 2)},
    ]
    return [
        LeftOut("a", "clean", raw, raw**0, np.array([0, 3, 2]), presence[0]),
        LeftOut("b", "clean", raw[:0], raw[:0], np.zeros(0, int), presence[1]),
    ]


def test_voxels_by_hand(results: list[LeftOut]):
    scores = score_voxels(results[0].raw, results[0].truth)
    assert scores is not None
    right, wrong, half = 0.3**2 + 3 * 0.1**2, 0.1**2 * 2 + 0.7**2 + 0.9**2, 0.5**2 + 2 * 0.25**2
    assert scores["brier"] == pytest.approx((right + wrong + half) / 3)
    assert scores["negative_log_likelihood"] == pytest.approx(-np.log(0.7 * 0.1 * 0.5) / 3)
    assert scores["expected_error"] == pytest.approx((2 * abs(0.5 - 0.7) + abs(1 - 0.5)) / 3)
    assert scores["reliability"] == [
        {"count": 1, "confidence": pytest.approx(0.5), "accuracy": 1.0},
        {"count": 2, "confidence": pytest.approx(0.7), "accuracy": 0.5},
    ]


def test_errors_of_presence_by_hand(results: list[LeftOut]):
    scores = score_presence(results, seed=0)
    assert scores["num_volumes"] == 2
    assert scores["segmenter"] == {
        "total": 5,
        "spurious": {"rv": 3, "myo": 0, "lv": 0},
        "missed": {"rv": 0, "myo": 0, "lv": 2},
    }
    assert scores["chain"]["total"] == 3
    change = scores["chain"]["change"]
    assert change["mean"] == pytest.approx(-1)
    assert change["n"] == 2
    assert (change["low"], change["high"]) == (-3, 1)  # two patients: -3 and +1


def test_scans_are_scored_together_as_plain_values(results: list[LeftOut]):
    even = [LeftOut(r.patient_id, r.scans, r.raw, 0.25 * r.calibrated, r.truth, r.presence)
            for r in results]  # fmt: skip
    scores = score_left_out(even, seed=0)
    assert json.loads(json.dumps(scores)) == scores
    assert scores["raw"]["num_voxels"] == scores["calibrated"]["num_voxels"] == 3
    assert scores["calibrated"]["negative_log_likelihood"] == pytest.approx(np.log(4))
    assert score_left_out(even[1:], seed=0)["raw"] is None
