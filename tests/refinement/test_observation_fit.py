import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from cardiac_vae.refinement.observation import border_distance_mm
from cardiac_vae.refinement.observation_fit import (
    ExpertPair,
    best_weight,
    fit_observation,
    fit_scaling,
)

PIXEL_MM = (1.5, 1.5)


@pytest.fixture
def expert(heart) -> np.ndarray:
    return np.stack([heart((80, 80)), heart((80, 80), lv_mm=12.0), np.zeros((80, 80), np.uint8)])


def drawn_from(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a class (N,) for each row of probabilities (N, C)."""
    return (rng.random((len(probabilities), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)


def nll(logits: np.ndarray, floor: float, true: np.ndarray) -> float:
    mapped = (1 - floor) * softmax(logits, axis=1) + floor / 4
    return -float(np.log(mapped[np.arange(len(true)), true]).mean())


def test_the_scaling_of_simulated_voxels_is_found(rng):
    log_p = log_softmax(rng.normal(0, 4, (60_000, 4)), axis=1)
    bias = np.array([0.6, -0.2, -0.6, 0.2])
    honest = 0.95 * softmax(0.5 * log_p + bias, axis=1) + 0.05 / 4
    found = fit_scaling(np.exp(log_p), drawn_from(honest, rng))
    assert found["scale"] == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(found["bias"], bias, atol=0.06)
    assert found["floor"] == pytest.approx(0.05, abs=0.015)


def test_no_neighbor_of_the_scaling_is_more_likely(rng):
    probabilities = rng.dirichlet(0.3 * np.ones(4), 5000).clip(1e-6)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    true = drawn_from(0.8 * probabilities + 0.05, rng)
    found = fit_scaling(probabilities, true)
    scale, bias, floor = found["scale"], np.array(found["bias"]), found["floor"]
    log_p = np.log(probabilities)
    best = nll(scale * log_p + bias, floor, true)
    assert best < nll(log_p, 1e-3, true) - 0.05
    for step in (-0.02, 0.02):
        assert nll((scale + step) * log_p + bias, floor, true) > best
        assert nll(scale * log_p + bias, floor + step, true) > best
        for structure in range(4):
            assert nll(scale * log_p + bias + step * np.eye(4)[structure], floor, true) > best


def test_shares_are_counted_by_distance_and_class(expert):
    """A segmenter that draws all as the expert does, one pixel to the right."""
    pair = ExpertPair(expert, np.roll(expert, 1, axis=2), PIXEL_MM)
    fitted = fit_observation([pair], edges_mm=(1.0, 4.0))
    distance = border_distance_mm(pair.drawn, PIXEL_MM)
    shares = np.array(fitted.border.shares)
    assert shares.shape == (4, 4, 4)
    for index, (low, high) in enumerate([(0, 1), (1, 4)]):
        where = (distance >= low) & (distance < high) & (pair.drawn == 3)
        counted = np.bincount(expert[where], minlength=4)
        overall = 1 + np.bincount(expert[pair.drawn == 3], minlength=4)
        expected = (counted + 100 * overall / overall.sum()) / (where.sum() + 100)
        np.testing.assert_allclose(shares[index, 3], expected)
    assert shares[0, 3, 3] < shares[1, 3, 3]
    assert (fitted.scale, fitted.floor, fitted.weight) == (1, 1e-3, 1)


def test_empty_slices_have_shares_of_their_own(expert):
    missed = expert.copy()
    missed[0] = 0
    shares = np.array(fit_observation([ExpertPair(expert, missed, PIXEL_MM)]).border.shares)
    drawn_none = expert[[0, 2]]
    counted = np.bincount(drawn_none.ravel(), minlength=4) / drawn_none.size
    np.testing.assert_allclose(shares[-1, 0], counted, atol=0.005)
    assert shares[-2, 0, 0] > 0.95


def test_the_prior_is_that_of_pixels_near_a_heart(expert):
    pair = ExpertPair(expert, expert, PIXEL_MM)
    prior = np.array(fit_observation([pair]).prior)
    assert prior.sum() == pytest.approx(1)
    assert 0.3 < prior[0] < 0.6 < (expert == 0).mean()
    inside = np.bincount(expert[expert > 0], minlength=4)[1:]
    np.testing.assert_allclose(prior[1:] / prior[1:].sum(), inside / inside.sum(), rtol=1e-2)


def test_a_fitted_belief_is_calibrated_on_its_own_pairs(expert, rng):
    probabilities = softmax(rng.normal(0, 3, (3, 4, 80, 80)), axis=1)
    probabilities[:, 0] += 3 * (expert == 0)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    drawn = probabilities.argmax(axis=1)
    pair = ExpertPair(expert, drawn, PIXEL_MM, probabilities)
    fitted = fit_observation([pair])
    assert fitted.scale != 1
    hard = fitted.belief(drawn, PIXEL_MM)
    np.testing.assert_allclose(
        hard.mean(axis=(0, 2, 3)), np.bincount(expert.ravel()) / expert.size, atol=0.01
    )


def test_the_best_weight_is_that_of_the_evidence(rng):
    """Evidence that was counted twice deserves half its weight."""
    evidence, other = rng.normal(0, 2, (2, 4, 60, 60)), rng.normal(0, 1, (2, 4, 60, 60))
    rows = softmax(evidence + other, axis=1).transpose(0, 2, 3, 1).reshape(-1, 4)
    true = drawn_from(rows, rng).reshape(2, 60, 60)
    assert best_weight([2 * evidence], [other], [true], (0.25, 0.5, 1.0, 2.0)) == 0.5
    assert best_weight([evidence], [other], [true], (0.25, 0.5, 1.0, 2.0)) == 1.0


def test_bad_pairs_are_refused(expert):
    with pytest.raises(ValueError, match="at least one pair of masks, got none"):
        fit_observation([])
    empty = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="got background only"):
        fit_observation([ExpertPair(empty, empty, PIXEL_MM)])
    with pytest.raises(ValueError, match=r"got shapes \(3, 80, 80\) and \(2, 80, 80\)"):
        ExpertPair(expert, expert[:2], PIXEL_MM)
    with pytest.raises(ValueError, match="expected cases and weights, got 0 and 1"):
        best_weight([], [], [], (1.0,))
