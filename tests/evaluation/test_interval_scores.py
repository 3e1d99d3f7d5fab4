"""Intervals of volumes, mass and ejection fractions against experts, by hand."""

import json

import numpy as np
import pytest
from scipy.special import ndtr

from cardiac_vae.anatomy.measurements import MYOCARDIUM_G_PER_ML
from cardiac_vae.evaluation.interval_scores import Judged, score_intervals
from cardiac_vae.labels import HEART, Phase, Structure
from cardiac_vae.metrics.calibration import interval_score
from cardiac_vae.refinement.uncertainty import (
    ErrorModel,
    LevelSets,
    ejection_fraction_interval,
)
from cardiac_vae.refinement.uncertainty_fit import ExpertVolumes

ERRORS = ErrorModel(rv=0.1, myo=0.2, lv=0.3)


def judged(patient_id: str, phase: Phase, num_voxels: int, expert_ml: float) -> Judged:
    """Return a volume in which each structure has voxels of every belief."""
    belief = np.repeat(ndtr(np.linspace(-2, 2, num_voxels))[:, None] / 4, 4, axis=1)
    volumes = ExpertVolumes(LevelSets.of(belief, 0.05), dict.fromkeys(HEART, expert_ml))
    return Judged(patient_id, phase, volumes, ERRORS)


def test_volumes_and_mass_by_hand():
    volumes = [judged("a", Phase.ED, 4000, 30.0), judged("b", Phase.ED, 2000, 1000.0)]
    scores = score_intervals(volumes)
    assert set(scores) == {"rv_ml", "mass_g", "lv_ml"}  # nobody has both phases
    assert json.loads(json.dumps(scores)) == scores
    for name, structure, unit in (
        ("lv_ml", Structure.LV, 1.0),
        ("mass_g", Structure.MYO, MYOCARDIUM_G_PER_ML),
    ):
        low, high = unit * np.array([v.interval_ml(structure, 0.9) for v in volumes]).T
        found = scores[name]["90"]
        assert found["width"] == pytest.approx(np.mean(high - low))
        expected = interval_score(low, high, unit * np.array([30.0, 1000.0]), 0.9).mean()
        assert found["score"] == pytest.approx(expected)
        is_inside = low[0] <= 30 * unit <= high[0]
        assert found["coverage"]["mean"] == is_inside / 2  # 1000 ml are beyond any doubt
        assert found["coverage"]["n"] == 2


def test_an_ejection_fraction_pairs_the_phases_of_a_patient():
    volumes = [
        judged("b", Phase.ES, 2000, 10.0),
        judged("a", Phase.ED, 4000, 40.0),
        judged("b", Phase.ED, 3000, 20.0),
        judged("c", Phase.ED, 4000, 0.0),
        judged("c", Phase.ES, 4000, 0.0),  # whose fraction does not exist
    ]
    found = score_intervals(volumes)["lv_ef_percent"]["90"]
    ed, es = volumes[2].volumes.levels, volumes[0].volumes.levels
    low, high = ejection_fraction_interval(ed, es, Structure.LV, 0.3, 0.9)
    assert found["coverage"]["n"] == 1
    assert found["width"] == pytest.approx(high - low)
    assert found["coverage"]["mean"] == (low <= 50 <= high)


def test_without_a_volume_there_is_no_score():
    assert score_intervals([]) == {}
