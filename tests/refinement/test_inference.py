import numpy as np
import pytest

from cardiac_vae.labels import Structure
from cardiac_vae.refinement.appearance import AppearanceConfig, AppearanceModel
from cardiac_vae.refinement.inference import InferenceConfig, infer, normalized
from cardiac_vae.refinement.observation import one_hot_planes

BRIGHTNESS = {
    Structure.BACKGROUND: 40.0,
    Structure.RV: 200.0,
    Structure.MYO: 90.0,
    Structure.LV: 200.0,
}


@pytest.fixture
def masks(heart):
    return np.stack([heart(), heart(lv_mm=14.0), heart(lv_mm=10.0)])


@pytest.fixture
def image(masks):
    noise = np.random.default_rng(0).normal(scale=8.0, size=masks.shape)
    return np.vectorize(BRIGHTNESS.get)(masks) + noise


def doubtful(masks, sureness):
    """Return a joint (N, C, h, w) that prefers the drawn class by some nats."""
    return sureness * one_hot_planes(masks).astype(np.float64)


def test_the_bound_rises_and_is_that_of_its_definition(masks, image):
    is_refined = np.array([False, True, True])
    joint = doubtful(masks[1:], 4.0)
    config = InferenceConfig(tolerance=0.0, max_sweeps=6)
    found = infer(joint, image, one_hot_planes(masks), is_refined, config)
    assert found.refusal == ""
    assert len(found.bounds) > 2
    assert (np.diff(found.bounds) > -1e-6).all()
    # The same bound, term by term, from the q(x) it returns and the q(theta) it was made with.
    seen = found.log_belief - joint
    belief = normalized(found.log_belief)
    entropy = -(belief * np.log(belief)).sum()
    explained = (belief * (joint + seen)).sum()
    planes = one_hot_planes(masks).astype(np.float64)
    planes[is_refined] = normalized(joint)
    model = AppearanceModel(image, config.appearance)
    appearance = model.start(planes)
    for _ in range(len(found.bounds) - 1):
        planes[is_refined] = normalized(joint + model.log_likelihood(appearance)[is_refined])
        appearance = model.update(appearance, planes)
    likelihood = model.log_likelihood(appearance)
    np.testing.assert_allclose(likelihood[is_refined], seen, atol=1e-8)
    fixed = (planes[~is_refined] * likelihood[~is_refined]).sum()
    expected = explained + entropy + fixed - model.kl(appearance)
    assert found.bounds[-1] == pytest.approx(expected, rel=1e-10)


def test_the_scan_decides_what_the_mask_leaves_open(masks, image):
    joint = doubtful(masks[1:], 6.0)
    hidden = np.zeros(masks.shape[1:], bool)
    hidden[45:55, 40:60] = True  # part of the heart, of which nothing is said
    joint[:, :, hidden] = 0
    is_refined = np.array([False, True, True])
    config = InferenceConfig(appearance=AppearanceConfig(weight=1.0))
    found = infer(joint, image, one_hot_planes(masks), is_refined, config)
    decided = found.log_belief.argmax(axis=1)
    truth = masks[1:]
    is_muscle = hidden & (truth == Structure.MYO)
    assert is_muscle.sum() > 20
    assert (decided[is_muscle] == Structure.MYO).mean() > 0.9
    blood = hidden & np.isin(truth, [Structure.LV, Structure.RV])
    assert np.isin(decided[blood], [Structure.LV, Structure.RV]).mean() > 0.9


def test_a_scan_that_shows_no_difference_is_left_out_and_why_is_said(masks):
    flat = np.random.default_rng(0).normal(size=masks.shape)
    joint = doubtful(masks, 1.0)
    found = infer(joint, flat, one_hot_planes(masks), np.ones(3, bool))
    assert "standard deviations apart" in found.refusal
    assert found.bounds == ()
    np.testing.assert_array_equal(found.log_belief, joint)


def test_probabilities_sum_to_one_however_small_they_are():
    found = normalized(np.array([[[-5000.0], [-5001.0]]]))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[0, 0, 0] == pytest.approx(1 / (1 + np.exp(-1)))
