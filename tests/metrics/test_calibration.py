import numpy as np
import pytest

from cardiac_vae.metrics.calibration import (
    brier_score,
    interval_quality,
    interval_score,
    near_heart,
    negative_log_likelihood,
    reliability,
    voxels,
)

# Four voxels of three classes: confidence 0.9, 0.6, 0.6, 0.5; the second is wrong.
FOUR = np.array([[0.9, 0.1, 0.0], [0.3, 0.6, 0.1], [0.1, 0.3, 0.6], [0.5, 0.25, 0.25]])
TRUE = np.array([0, 0, 2, 0])


def test_reliability_of_hand_computed_voxels():
    found = reliability(FOUR, TRUE, num_bins=5)  # (0.4, 0.6] and (0.8, 1]; the others are empty
    np.testing.assert_array_equal(found.count, [3, 1])
    np.testing.assert_allclose(found.confidence, [1.7 / 3, 0.9])
    np.testing.assert_allclose(found.accuracy, [2 / 3, 1])
    assert found.expected_error == pytest.approx((3 * 0.1 + 0.1) / 4)
    assert found.largest_error == pytest.approx(0.1)


def test_bins_of_equal_mass_keep_equal_confidences_together():
    found = reliability(FOUR, TRUE, num_bins=2, equal_mass=True)  # ends 0.5, 0.6, 0.9
    np.testing.assert_array_equal(found.count, [3, 1])
    sure = np.tile([1.0, 0.0, 0.0], (6, 1))
    one = reliability(sure, np.array([0, 0, 0, 0, 0, 1]), num_bins=4, equal_mass=True)
    np.testing.assert_array_equal(one.count, [6])
    assert one.expected_error == pytest.approx(1 / 6)


def test_voxels_drawn_from_their_probabilities_are_calibrated_and_sharpened_ones_are_not(rng):
    probabilities = rng.dirichlet(np.ones(4), 40_000)
    true = (rng.random(40_000)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
    assert reliability(probabilities, true).expected_error < 0.01
    assert reliability(probabilities, true, equal_mass=True).expected_error < 0.01
    sharpened = np.square(probabilities) / np.square(probabilities).sum(axis=1, keepdims=True)
    assert reliability(sharpened, true).expected_error > 0.1
    assert brier_score(probabilities, true) < brier_score(sharpened, true)
    assert negative_log_likelihood(probabilities, true) < negative_log_likelihood(sharpened, true)


def test_proper_scores_of_hand_computed_voxels():
    costs = [
        0.1**2 + 0.1**2,
        0.7**2 + 0.6**2 + 0.1**2,
        0.1**2 + 0.3**2 + 0.4**2,
        0.5**2 + 2 * 0.25**2,
    ]
    assert brier_score(FOUR, TRUE) == pytest.approx(np.mean(costs))
    expected = -np.log([0.9, 0.3, 0.6, 0.5]).mean()
    assert negative_log_likelihood(FOUR, TRUE) == pytest.approx(expected)
    assert brier_score(np.array([[1.0, 0, 0]]), np.array([1])) == 2
    assert np.isfinite(negative_log_likelihood(np.array([[1.0, 0, 0]]), np.array([1])))


def test_the_band_is_in_mm_and_stays_in_its_slice():
    heart = np.zeros((2, 9, 9), bool)
    heart[0, 4, 4] = True
    near = near_heart(heart, (2.0, 1.0), margin_mm=3.0)
    assert not near[1].any()
    np.testing.assert_array_equal(np.flatnonzero(near[0, 4]), [1, 2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(np.flatnonzero(near[0, :, 4]), [3, 4, 5])
    assert near[0, 3, 6]
    assert not near[0, 3, 7]  # 2 mm down and 3 mm right


def test_voxels_keep_their_class_and_their_order():
    probabilities = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    reference = np.arange(8).reshape(2, 2, 2)
    where = np.zeros((2, 2, 2), bool)
    where[0, 0, 1] = where[1, 1, 0] = True
    chosen, true = voxels(probabilities, reference, where)
    np.testing.assert_array_equal(chosen, [probabilities[0, :, 0, 1], probabilities[1, :, 1, 0]])
    np.testing.assert_array_equal(true, [1, 6])


def test_interval_score_of_hand_computed_intervals():
    low, high = np.array([0.0, 0.0, 0.0]), np.array([2.0, 2.0, 4.0])
    reference = np.array([1.0, 2.5, -1.0])
    # Width, and 2 / 0.1 for each unit of a miss.
    np.testing.assert_allclose(interval_score(low, high, reference, 0.9), [2, 2 + 10, 4 + 20])
    found = interval_quality(low, high, reference, 0.9)
    assert (found.coverage.mean, found.coverage.n) == (1 / 3, 3)
    assert found.width == pytest.approx(8 / 3)
    assert found.score == pytest.approx(38 / 3)


def test_unknown_values_are_left_out_and_ends_count_as_inside():
    found = interval_quality(
        np.array([0.0, 0.0, 5.0]), np.array([1.0, 1.0, 6.0]), np.array([1.0, np.nan, 5.0]), 0.5
    )
    assert (found.coverage.mean, found.coverage.n, found.score) == (1, 2, 1)


def test_true_quantiles_have_the_least_score(rng):
    reference = rng.normal(0, 1, 50_000)

    def score(half_width: float) -> float:
        ends = np.full(len(reference), half_width)
        return interval_quality(-ends, ends, reference, 0.9).score

    assert score(1.6449) < min(score(1.4), score(1.9))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"\(N, C\) and true classes \(N,\) of at least one"):
        reliability(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(ValueError, match="apply softmax"):
        brier_score(2 * FOUR, TRUE)
    with pytest.raises(ValueError, match=r"got shapes \(1, 3, 2, 2\), \(1, 2, 2\) and \(1, 2, 3\)"):
        voxels(np.zeros((1, 3, 2, 2)), np.zeros((1, 2, 2)), np.zeros((1, 2, 3), bool))
    one = np.ones(1)
    with pytest.raises(ValueError, match="level: expected a share"):
        interval_score(one, one, one, 90)
    with pytest.raises(ValueError, match="got 1 intervals that are reversed or NaN"):
        interval_score(one, 0 * one, one, 0.9)
    with pytest.raises(ValueError, match="a low, a high and a true value each"):
        interval_score(one, one, np.ones(2), 0.9)
