"""The share of errors that go together, found again from volumes drawn with it."""

import numpy as np
import pytest
from scipy import stats

from cardiac_vae.labels import HEART, Structure
from cardiac_vae.refinement.uncertainty import LEVELS, ErrorModel, LevelSets
from cardiac_vae.refinement.uncertainty_fit import ExpertVolumes, fit_errors, log_likelihood

TRUE = {Structure.RV: 0.1, Structure.MYO: 0.35, Structure.LV: 0.7}


def draw_cases(num_cases: int, seed: int) -> list[ExpertVolumes]:
    """Return hearts of many sizes and sharpnesses, whose experts err as ``TRUE`` says."""
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(num_cases):
        belief = np.repeat(np.eye(4), rng.integers(500, 3000, 4), axis=0)
        blur = (
            rng.dirichlet(np.ones(4), len(belief)) * rng.choice([0, 0.3, 0.9], len(belief))[:, None]
        )
        belief = blur + (1 - blur.sum(axis=1, keepdims=True)) * belief
        levels = LevelSets.of(belief, voxel_ml=0.02)
        expert_ml = {
            structure: levels.volume_ml(structure, share, rng.standard_normal(1)).item()
            for structure, share in TRUE.items()
        }
        cases.append(ExpertVolumes(levels, expert_ml))
    return cases


@pytest.fixture(scope="module")
def cases() -> list[ExpertVolumes]:
    return draw_cases(100, seed=0)


@pytest.fixture(scope="module")
def fitted(cases: list[ExpertVolumes]) -> ErrorModel:
    return fit_errors(cases)


def test_the_share_is_found_again(fitted: ErrorModel):
    for structure, share in TRUE.items():
        assert fitted.share(structure) == pytest.approx(share, abs=0.12)


def test_the_share_is_the_likeliest(cases: list[ExpertVolumes], fitted: ErrorModel):
    for structure in HEART:
        at = fitted.share(structure)
        best = log_likelihood(cases, structure, at)
        assert best >= max(
            log_likelihood(cases, structure, share)
            for share in (0.01, at - 0.03, at + 0.03, 0.5, 0.95)
        )


def test_intervals_of_a_fit_cover_others_as_often_as_they_say(fitted: ErrorModel):
    others = draw_cases(300, seed=1)
    for structure in HEART:
        for level in LEVELS:
            intervals = np.array(
                [c.levels.interval_ml(structure, fitted.share(structure), level) for c in others]
            )
            expert = np.array([case.expert_ml[structure] for case in others])
            is_inside = (intervals[:, 0] <= expert) & (expert <= intervals[:, 1])
            assert is_inside.mean() == pytest.approx(level, abs=0.06)


def test_the_likelihood_is_the_density_of_a_volume(cases: list[ExpertVolumes]):
    levels, share = cases[0].levels, 0.4
    volumes = np.linspace(*levels.volume_ml(Structure.LV, share, np.array([4.5, -4.5])), 4001)
    log_density = [
        log_likelihood([ExpertVolumes(levels, {Structure.LV: v})], Structure.LV, share)
        for v in volumes
    ]
    mass = np.exp(log_density) * (volumes[1] - volumes[0])
    assert mass.sum() == pytest.approx(1, abs=0.01)
    level = 0.9
    low, high = levels.interval_ml(Structure.LV, share, level)
    assert mass[(volumes >= low) & (volumes <= high)].sum() == pytest.approx(level, abs=0.01)
    a, log_slope = levels.deviate(Structure.LV, share, volumes[2000])
    assert log_density[2000] == pytest.approx(stats.norm.logpdf(a) - log_slope)


def test_volumes_that_nobody_drew_are_left_out(cases: list[ExpertVolumes]):
    none = ExpertVolumes(cases[0].levels, dict.fromkeys(HEART, 0.0))
    assert fit_errors([*cases[:20], none]) == fit_errors(cases[:20])
    with pytest.raises(ValueError, match=r"RV: expected a volume that both.*got none in 1 scans"):
        fit_errors([none])
