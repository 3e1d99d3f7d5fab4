import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from cardiac_vae.metrics.calibration import near_heart, reliability, voxels
from cardiac_vae.refinement.observation import Scaling
from cardiac_vae.refinement.observation_fit import (
    ExpertPair,
    ObservationFitConfig,
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
    found = fit_scaling(np.exp(log_p), drawn_from(honest, rng), class_bias=True)
    assert found.scale == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(found.bias, bias, atol=0.06)
    assert found.floor == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("class_bias", [True, False])
def test_no_neighbor_of_the_scaling_is_more_likely(rng, class_bias):
    probabilities = rng.dirichlet(0.3 * np.ones(4), 5000).clip(1e-6)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    true = drawn_from(0.8 * probabilities + 0.05, rng)
    found = fit_scaling(probabilities, true, class_bias=class_bias)
    scale, bias, floor = found.scale, np.array(found.bias), found.floor
    log_p = np.log(probabilities)
    best = nll(scale * log_p + bias, floor, true)
    assert best < nll(log_p, 1e-3, true) - 0.05
    assert bias.any() == class_bias
    for step in (-0.05, 0.05):
        assert nll((scale + step) * log_p + bias, floor, true) > best
        assert nll(scale * log_p + bias, floor + step, true) > best
        for structure in range(4 * class_bias):
            assert nll(scale * log_p + bias + step * np.eye(4)[structure], floor, true) > best


@pytest.mark.parametrize("shift_mm", [1.5, 6.0])
def test_masks_that_are_farther_off_are_blurred_more(expert, shift_mm):
    """Drawn as the expert does, a little to the right or to the left."""
    steps = int(shift_mm / PIXEL_MM[1])
    pairs = [ExpertPair(expert, np.roll(expert, by, axis=2), PIXEL_MM) for by in (-steps, steps)]
    fitted = fit_observation(pairs, ObservationFitConfig(blurs_mm=(1.0, 4.0)))
    assert fitted.blur_mm == (1.0 if steps == 1 else 4.0)
    assert fitted.of_probabilities == Scaling()
    assert fitted.weight == 1


def test_of_what_a_segmenter_says_too_surely_a_calibrated_belief_remains(rng):
    honest = softmax(rng.normal(0, 2, (2, 4, 50, 50)), axis=1)
    rows = honest.transpose(0, 2, 3, 1).reshape(-1, 4)
    true = drawn_from(rows, rng).reshape(2, 50, 50)
    too_sure = softmax(2 * np.log(honest), axis=1)
    drawn = too_sure.argmax(axis=1)
    few = ObservationFitConfig(blurs_mm=(1.5,))
    fitted = fit_observation([ExpertPair(true, drawn, PIXEL_MM, too_sure)], few)
    assert fitted.of_probabilities.scale == pytest.approx(0.5, abs=0.05)
    belief = fitted.belief(drawn, PIXEL_MM, too_sure)
    near = near_heart(true > 0, PIXEL_MM)
    errors = [reliability(*voxels(said, true, near)).expected_error for said in (too_sure, belief)]
    assert errors[1] < 0.3 * errors[0]


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
