"""Level sets that err together: closed forms, brute force, and intervals that cover."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri

from cardiac_vae.labels import HEART, Structure
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.observation import ObservationModel, Scaling
from cardiac_vae.refinement.uncertainty import (
    LEVELS,
    ErrorModel,
    LevelSets,
    ejection_fraction_interval,
    entropy_bits,
    is_doubtful,
    refined_belief,
)

LV = Structure.LV
ERRORS = ErrorModel(rv=0.2, myo=0.1, lv=0.4)


def beliefs_of(lv: np.ndarray) -> np.ndarray:
    """Return the beliefs (N, C) of voxels that are LV or background."""
    belief = np.zeros((len(lv), 4))
    belief[:, LV], belief[:, 0] = lv, 1 - lv
    return belief


@pytest.fixture
def profile() -> LevelSets:
    """Return a border: 400 voxels inside, then 1000 whose belief falls evenly from 1 to 0."""
    lv = np.concatenate([np.ones(400), (np.arange(1000) + 0.5) / 1000])
    return LevelSets.of(beliefs_of(lv), voxel_ml=0.02)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("probit", [-1.25, 0.0, 0.85])
def test_voxels_of_one_belief_have_a_volume_in_closed_form(share: float, probit: float):
    levels = LevelSets.of(beliefs_of(np.full(500, ndtr(probit))), voxel_ml=0.01)
    a = np.array([-1.6, 0.0, 0.7])
    expected = 5 * ndtr((probit - np.sqrt(share) * a) / np.sqrt(1 - share))
    np.testing.assert_allclose(levels.volume_ml(LV, share, a), expected, rtol=1e-3, atol=1e-3)


def test_a_border_that_moves_as_a_whole_passes_the_voxels_of_that_belief(profile: LevelSets):
    a = np.array([-1.6, -0.5, 0.0, 1.2])
    expected = 0.02 * (400 + 1000 * (1 - ndtr(a)))  # those inside, and belief > Phi(a)
    np.testing.assert_allclose(profile.volume_ml(LV, 0.999, a), expected, rtol=0.01)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.8, 0.95])
def test_the_mean_volume_is_the_sum_of_beliefs_whatever_goes_together(
    profile: LevelSets, share: float
):
    evenly = ndtri((np.arange(20_000) + 0.5) / 20_000)
    assert profile.volume_ml(LV, share, evenly).mean() == pytest.approx(0.02 * 900, rel=2e-3)


def test_brute_force_draws_of_voxels_agree():
    rng = np.random.default_rng(0)
    share, belief = 0.3, rng.beta(0.5, 0.5, 3000)
    drawn = np.array(
        [
            np.sqrt(share) * rng.standard_normal() + np.sqrt(1 - share) * rng.standard_normal(3000)
            < ndtri(belief)
            for _ in range(3000)
        ]
    )
    assert np.abs(drawn.mean(axis=0) - belief).max() < 0.05  # every voxel keeps its belief
    levels = LevelSets.of(beliefs_of(belief), voxel_ml=0.01)
    for level in LEVELS:
        quantiles = [(1 - level) / 2, (1 + level) / 2]
        volumes = np.quantile(0.01 * drawn.sum(axis=1), quantiles)
        np.testing.assert_allclose(levels.interval_ml(LV, share, level), volumes, rtol=0.02)


def test_what_errs_alone_averages_out_and_what_errs_together_does_not(profile: LevelSets):
    widths = [np.diff(profile.interval_ml(LV, share, 0.9)) for share in (0.01, 0.1, 0.5, 0.9)]
    assert (np.diff(widths, axis=0) > 0).all()
    low, high = profile.interval_ml(LV, 0.5, 0.9)
    narrow_low, narrow_high = profile.interval_ml(LV, 0.5, 0.5)
    assert low < narrow_low < narrow_high < high


def test_a_deviate_is_where_its_volume_is(profile: LevelSets):
    for a in (-2.0, 0.3, 1.9):
        volume, above, below = profile.volume_ml(LV, 0.4, np.array([a, a - 0.05, a + 0.05]))
        found, log_slope = profile.deviate(LV, 0.4, volume)
        assert found == pytest.approx(a, abs=1e-3)
        assert log_slope == pytest.approx(np.log((above - below) / 0.1), abs=0.01)
    assert profile.deviate(LV, 0.4, 1e6)[0] == -5
    assert profile.deviate(LV, 0.4, 0.0)[0] == 5


def test_intervals_cover_draws_of_the_model_as_often_as_they_say(profile: LevelSets):
    a = np.random.default_rng(1).standard_normal(4000)
    volumes = profile.volume_ml(LV, 0.4, a)
    for level in LEVELS:
        low, high = profile.interval_ml(LV, 0.4, level)
        assert np.mean((low <= volumes) & (volumes <= high)) == pytest.approx(level, abs=0.02)


def test_voxels_of_which_nothing_is_known_move_with_no_border(profile: LevelSets):
    lv = np.concatenate([np.ones(400), (np.arange(1000) + 0.5) / 1000, np.zeros(50_000)])
    floored = 0.96 * beliefs_of(lv) + 0.04 / 4
    levels = LevelSets.of(floored, voxel_ml=0.02, floor=0.04)
    np.testing.assert_allclose(
        levels.interval_ml(LV, 0.9, 0.9), profile.interval_ml(LV, 0.9, 0.9), rtol=1e-3
    )
    believed = LevelSets.of(floored, voxel_ml=0.02)
    assert believed.interval_ml(LV, 0.9, 0.9)[1] > 1.2 * profile.interval_ml(LV, 0.9, 0.9)[1]


def test_an_ejection_fraction_is_that_of_independent_phases(profile: LevelSets):
    small = LevelSets(profile.counts * 0.5, profile.voxel_ml)
    rng = np.random.default_rng(2)
    edv, esv = (
        levels.volume_ml(LV, 0.4, rng.standard_normal(200_000)) for levels in (profile, small)
    )
    for level in LEVELS:
        drawn = np.quantile(100 * (1 - esv / edv), [(1 - level) / 2, (1 + level) / 2])
        found = ejection_fraction_interval(profile, small, LV, 0.4, level)
        np.testing.assert_allclose(found, drawn, atol=0.5)
        assert found == ejection_fraction_interval(profile, small, LV, 0.4, level)


def test_a_ventricle_that_is_not_there_has_a_finite_interval(profile: LevelSets):
    empty = LevelSets.of(beliefs_of(np.zeros(5)), 0.02)
    assert empty.interval_ml(LV, 0.4, 0.9) == (0.0, 0.0)
    low, high = ejection_fraction_interval(empty, profile, LV, 0.4, 0.9)
    assert np.isfinite([low, high]).all()


def test_entropies_that_are_known():
    rng = np.random.default_rng(3)
    belief = rng.dirichlet(np.ones(4), (2, 3, 5)).transpose(0, 3, 1, 2)
    belief[0, :, 0, :3] = np.array([[0.25] * 4, [0, 1, 0, 0], [0.5, 0, 0.5, 0]]).T
    found = entropy_bits(belief)
    np.testing.assert_allclose(found, stats.entropy(belief, base=2, axis=1), atol=1e-6)
    np.testing.assert_allclose(found[0, 0, :3], [2, 0, 1], atol=1e-6)
    assert found.dtype == np.float32


def test_where_the_refiner_disagrees_both_classes_are_as_likely():
    belief = np.array([[0.9, 0.06, 0.03, 0.01]] * 3)
    found = refined_belief(belief, np.array([0, 1, 3], np.uint8))
    np.testing.assert_array_equal(found[0], belief[0])
    np.testing.assert_allclose(found[1], [0.48, 0.48, 0.03, 0.01])
    np.testing.assert_allclose(found[2], [0.455, 0.06, 0.03, 0.455])
    assert (belief == belief[0]).all()  # the input is not changed


def test_doubt_is_near_what_is_drawn_here_or_next_door():
    drawn = np.zeros((5, 40, 40), np.uint8)
    drawn[1, 20, 20] = LV
    doubtful = is_doubtful(drawn, (2.0, 1.0))
    rows, columns = np.mgrid[:40, :40]
    disk = np.hypot(2.0 * (rows - 20), columns - 20) <= 10
    for index in range(5):
        np.testing.assert_array_equal(doubtful[index], disk if index < 3 else 0 * disk)


@pytest.fixture
def volume() -> tuple[np.ndarray, np.ndarray]:
    """Return a mask (D, H, W) and probabilities whose likeliest class it is, but for one voxel."""
    rng = np.random.default_rng(6)
    mask = np.zeros((4, 40, 44), np.uint8)
    mask[1:3, 14:26, 16:30] = Structure.MYO
    mask[1:3, 17:23, 19:27] = LV
    mask[1:3, 14:26, 8:16] = Structure.RV
    planes = np.eye(4)[mask].transpose(0, 3, 1, 2)
    probabilities = 0.6 * planes + 0.4 * rng.dirichlet(np.ones(4), mask.shape).transpose(0, 3, 1, 2)
    mask[1, 18, 20] = Structure.MYO
    return mask, probabilities


def test_a_calibration_says_how_sure_a_refined_mask_is(volume: tuple[np.ndarray, np.ndarray]):
    mask, probabilities = volume
    observation = ObservationModel(of_probabilities=Scaling(scale=0.7))
    spacing_mm = (8.0, 1.5, 1.5)
    found = Calibration(observation, errors=ERRORS).uncertainty(mask, probabilities, spacing_mm)
    where = is_doubtful(mask, (1.5, 1.5))
    assert (found.entropy_bits[~where] == 0).all()
    calibrated = observation.belief(mask, (1.5, 1.5), probabilities)
    is_kept = where & (calibrated.argmax(axis=1) == mask)
    assert np.count_nonzero(where & ~is_kept) == 1
    np.testing.assert_array_equal(found.belief.argmax(axis=1)[is_kept], mask[is_kept])
    np.testing.assert_allclose(
        found.entropy_bits[is_kept], entropy_bits(calibrated)[is_kept], atol=1e-5
    )
    assert found.entropy_bits[where & ~is_kept] >= 1
    voxel_ml = 8 * 1.5**2 / 1000
    for structure in HEART:
        (low50, high50), (low90, high90) = found.intervals_ml()[structure].values()
        mean = voxel_ml * found.belief[:, structure].sum()
        assert low90 < low50 < mean < high50 < high90
    assert not Calibration(observation).uncertainty(mask, probabilities, spacing_mm).intervals_ml()


def test_intervals_need_no_more_memory_for_more_voxels():
    counts = LevelSets.of(beliefs_of(np.random.default_rng(0).random(200_000)), 0.02)
    tracemalloc.start()
    counts.interval_ml(LV, 0.123, 0.9)
    ejection_fraction_interval(counts, counts, LV, 0.123, 0.9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts.counts.nbytes < 10_000
    assert peak < 4_000_000  # fewer bytes than voxels times draws by far


def test_what_does_not_fit_is_named(volume: tuple[np.ndarray, np.ndarray]):
    with pytest.raises(ValueError, match=r"belief: expected probabilities \(N, 4\).*got.*\(5, 3\)"):
        LevelSets.of(np.ones((5, 3)), 1.0)
    mask, probabilities = volume
    with pytest.raises(ValueError, match="probabilities: expected shape"):
        Calibration().uncertainty(mask, probabilities[:, :, 1:], (8.0, 1.5, 1.5))
    with pytest.raises(ValueError, match=r"lv: Input should be less than 1, got 1\.0"):
        ErrorModel.parse({"rv": 0.1, "myo": 0.1, "lv": 1.0}, "here")
