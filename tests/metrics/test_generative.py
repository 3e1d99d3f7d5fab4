import numpy as np
import pytest
from scipy import linalg

from cardiac_vae.labels import Structure
from cardiac_vae.metrics.generative import (
    compactness,
    coverage,
    density,
    frechet_beside_floor,
    frechet_distance,
    num_modes,
    signed_distance_maps,
)


def with_moments(rng, mean: np.ndarray, covariance: np.ndarray, number: int = 40) -> np.ndarray:
    """Return rows whose sample mean and covariance are exactly these."""
    rows = rng.standard_normal((number, len(mean)))
    rows -= rows.mean(axis=0)
    whitening = linalg.cholesky(np.linalg.inv(np.cov(rows, rowvar=False)), lower=True)
    return rows @ whitening @ linalg.cholesky(covariance, lower=False) + mean


def random_covariance(rng) -> np.ndarray:
    root = rng.standard_normal((3, 5))
    return root @ root.T


def test_frechet_distance_of_independent_normals_is_that_of_means_and_deviations(rng):
    first = with_moments(rng, np.array([1.0, 2.0, 0.0]), np.diag([4.0, 1.0, 9.0]))
    second = with_moments(rng, np.array([0.0, 2.0, 2.0]), np.diag([1.0, 1.0, 25.0]))
    expected = 1 + 4 + (2 - 1) ** 2 + (3 - 5) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected)


def test_frechet_distance_of_any_normals(rng):
    means, covariances = rng.standard_normal((2, 3)), [random_covariance(rng) for _ in range(2)]
    sets = [with_moments(rng, *moments) for moments in zip(means, covariances, strict=True)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(means[0] - means[1]).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(*sets) == pytest.approx(expected)
    assert frechet_distance(*sets[::-1]) == pytest.approx(expected)
    assert frechet_distance(sets[0], sets[0]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_with_a_constant_feature(rng):
    rows = np.column_stack([rng.standard_normal(9), np.zeros(9)])
    assert frechet_distance(rows, rows + np.array([0.0, 2.0])) == pytest.approx(4)


def test_the_floor_is_the_distance_between_halves_of_patients(rng):
    """Two patients: every split deals one to each half."""
    real = np.concatenate([rng.standard_normal((30, 2)), 3 + rng.standard_normal((30, 2))])
    patients = ["a"] * 30 + ["b"] * 30
    far = rng.standard_normal((30, 2)) + 20
    to_samples, floor = frechet_beside_floor(far, real, patients, 6, rng)
    np.testing.assert_allclose(floor, frechet_distance(real[:30], real[30:]))
    ends = {round(frechet_distance(far, half), 6) for half in (real[:30], real[30:])}
    assert {round(value, 6) for value in to_samples} <= ends
    assert (to_samples > floor).all()


def test_sets_are_cut_to_one_size(rng):
    """Few rows make the distance larger: halves of many are compared by as few as the samples."""
    real = rng.standard_normal((400, 3))
    patients = [str(index // 4) for index in range(400)]
    few, many = rng.standard_normal((2, 200, 3))
    to_few, floor_of_few = frechet_beside_floor(few[:12], real, patients, 30, rng)
    to_many, floor_of_many = frechet_beside_floor(many, real, patients, 30, rng)
    assert floor_of_few.mean() > 5 * floor_of_many.mean()
    assert to_few.mean() > 5 * to_many.mean()
    assert to_many.mean() < 2 * floor_of_many.mean()


def test_one_patient_has_no_halves(rng):
    with pytest.raises(ValueError, match="two patients or more"):
        frechet_beside_floor(rng.standard_normal((9, 2)), np.ones((4, 2)), ["a"] * 4, 2, rng)


def test_coverage_and_density_by_hand():
    real = np.array([[0.0], [1.0], [3.0], [10.0]])  # nearest neighbors at 1, 1, 2 and 7
    samples = np.array([[0.5], [4.5], [40.0]])
    assert coverage(real, samples, 1).tolist() == [True, True, True, True]
    assert coverage(real, samples[:1], 1).tolist() == [True, True, False, False]
    assert coverage(real, samples[2:], 1).tolist() == [False] * 4
    assert density(real, samples, 1).tolist() == [2, 2, 0]
    # With two neighbors the radii are 3, 2, 3 and 9: 0.5 lies in three of them, 4.5 in two.
    assert density(real, samples, 2).tolist() == [3 / 2, 2 / 2, 0]


def test_coverage_of_a_distribution_by_itself_is_the_published_expectation(rng):
    """Lemma 2 of Naeem et al.: 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k)); density is 1."""
    found = [
        (coverage(*sets, 3).mean(), density(*sets, 3).mean())
        for sets in rng.standard_normal((60, 2, 50, 2))
    ]
    n, m, steps = 50, 50, np.arange(1, 4)
    expected = 1 - np.prod((n - steps) / (m + n - steps))
    np.testing.assert_allclose(np.mean(found, axis=0), [expected, 1.0], atol=0.02)


def test_neighborhoods_need_neighbors():
    with pytest.raises(ValueError, match="num_neighbors: expected 1 to 3"):
        coverage(np.zeros((4, 1)), np.zeros((4, 1)), 4)
    with pytest.raises(ValueError, match="expected features"):
        density(np.zeros((4, 1)), np.zeros((4, 2)), 1)


def test_compactness_is_the_cumulative_variance_of_the_modes(rng):
    covariance = np.diag([9.0, 4.0, 1.0])
    turned, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    shapes = with_moments(rng, np.ones(3), covariance) @ turned
    np.testing.assert_allclose(compactness(shapes), [9, 13, 14])
    wide = np.hstack([shapes, np.zeros((40, 60))])  # more columns than rows
    np.testing.assert_allclose(compactness(wide)[:3], [9, 13, 14])
    assert compactness(wide).shape == (39,)
    assert [num_modes(compactness(shapes), share) for share in (0.6, 13 / 14, 1.0)] == [1, 2, 3]


def test_signed_distances():
    masks = np.zeros((1, 8, 40), np.uint8)
    masks[:, :, 10:] = Structure.LV
    rv, myo, lv = signed_distance_maps(masks, (1.0, 2.0), limit_mm=7.0).reshape(3, 8, 40)
    assert (rv == 7).all()
    assert (myo == 7).all()
    np.testing.assert_allclose(lv[4, 6:14], [7, 6, 4, 2, -1 * 2, -1 * 4, -4, -4])
