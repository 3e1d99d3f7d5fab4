import numpy as np
import pytest
from scipy.special import softmax

from cardiac_vae.refinement.observation import (
    ObservationModel,
    Scaling,
    doubted,
    one_hot_planes,
    soft_mask,
)


@pytest.fixture
def blocks():
    """Return (2, 24, 30): four quarters of one class each, and a plane of one class."""
    mask = np.zeros((2, 24, 30), np.uint8)
    mask[0, :12, 15:], mask[0, 12:, :15], mask[0, 12:, 15:] = 1, 2, 3
    mask[1] = 2
    return mask


def test_planes_say_the_class_and_nothing_else(blocks):
    planes = one_hot_planes(blocks)
    assert planes.shape == (2, 4, 24, 30)
    assert planes.dtype == np.float32
    np.testing.assert_array_equal(planes.argmax(axis=1), blocks)
    assert set(np.unique(planes)) == {0, 1}
    np.testing.assert_array_equal(planes.sum(axis=1), 1)


@pytest.mark.parametrize("pixel_mm", [(0.7, 0.7), (1.5, 1.5), (2.0, 1.0)])
def test_a_softened_mask_is_a_distribution_that_rules_nothing_out(blocks, pixel_mm):
    before = blocks.copy()
    soft = soft_mask(blocks, pixel_mm)
    assert soft.dtype == np.float32
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-6)
    assert soft.min() > 0.004
    np.testing.assert_array_equal(soft.argmax(axis=1), blocks)
    np.testing.assert_array_equal(blocks, before)


def test_it_is_sure_inside_unsure_along_borders_and_slices_do_not_mix(blocks):
    soft = soft_mask(blocks, (1.5, 1.5))
    assert soft[0].max(axis=0)[2, 2] == pytest.approx(0.985, abs=1e-4)
    assert soft[0].max(axis=0)[11, 5] < 0.75
    np.testing.assert_allclose(soft[1, 2], 0.985, atol=1e-4)


def test_the_blur_is_in_mm():
    """Twice the pixel size, half as far in pixels; each axis by its own."""
    step = np.zeros((1, 40, 40), np.uint8)
    step[:, 20:] = 3
    fine, coarse = (soft_mask(step, (size, 1.0))[0, 3, :, 5] for size in (0.5, 1.0))
    np.testing.assert_allclose(
        (fine[1::2] + fine[::2]) / 2,
        np.interp(np.arange(20) * 2 + 0.5, np.arange(40), fine),
        atol=1e-6,
    )
    width = [np.count_nonzero((edge > 0.1) & (edge < 0.9)) for edge in (fine, coarse)]
    assert width[0] == pytest.approx(2 * width[1], abs=2)
    across = soft_mask(step.transpose(0, 2, 1), (1.0, 0.5))[0, 3, 5]
    np.testing.assert_allclose(across, fine)


def test_doubt_takes_all_but_a_thousandth_of_the_drawn_class():
    mask = np.array([[[1, 2]]], np.uint8)
    probabilities = np.full((1, 4, 1, 2), 0.25, np.float32)
    believed = doubted(probabilities, mask, np.array([[[True, False]]]))
    np.testing.assert_allclose(believed[0, :, 0, 1], 0.25)
    np.testing.assert_allclose(believed[0, 1, 0, 0], 0.001 / 3.001, rtol=1e-5)
    np.testing.assert_allclose(believed.sum(axis=1), 1, rtol=1e-6)


def test_the_width_of_the_blur_is_a_setting(blocks):
    default, wider = soft_mask(blocks, (1.5, 1.5)), soft_mask(blocks, (1.5, 1.5), 3.0)
    np.testing.assert_array_equal(default, soft_mask(blocks, (1.5, 1.5), 1.5))
    np.testing.assert_allclose(wider, soft_mask(blocks, (0.75, 0.75)))
    assert wider[0].max(axis=0)[9, 5] < default[0].max(axis=0)[9, 5] - 0.05


def test_scaling_of_hand_computed_probabilities():
    scaling = Scaling(scale=0.5, bias=(0, np.log(2), 0, 0), floor=0.1)
    # Roots 0.8, 0.4, 0.4, 0.2, the second doubled: 2.2 in all.
    found = scaling.apply(np.array([[0.64, 0.16, 0.16, 0.04]]))
    np.testing.assert_allclose(found, 0.9 * np.array([[0.8, 0.8, 0.4, 0.2]]) / 2.2 + 0.025)
    planes = scaling.apply(np.full((2, 4, 3, 3), 0.25))
    np.testing.assert_allclose(planes[1, :, 2, 2], 0.9 * np.array([1, 2, 1, 1]) / 5 + 0.025)
    certain = Scaling(floor=0.04).apply(np.array([[0.0, 1, 0, 0]], np.float32))
    np.testing.assert_allclose(certain, [[0.01, 0.97, 0.01, 0.01]], atol=1e-5)


def test_without_a_fit_a_mask_is_blurred_and_probabilities_are_believed(blocks, rng):
    model = ObservationModel()
    soft = soft_mask(blocks, (1.5, 1.5))
    np.testing.assert_allclose(model.belief(blocks, (1.5, 1.5)), soft, atol=1e-3)
    probabilities = rng.dirichlet(np.ones(4), (2, 24, 30)).transpose(0, 3, 1, 2)
    believed = model.belief(blocks, (1.5, 1.5), probabilities)
    np.testing.assert_allclose(believed, probabilities, atol=1e-3)
    likelihood = model.log_likelihood(blocks, (1.5, 1.5), probabilities)
    np.testing.assert_allclose(softmax(likelihood, axis=1), believed)


def test_the_likelihood_is_a_power_of_the_belief(blocks):
    scaling = Scaling(scale=0.8, bias=(0.3, 0, -0.3, 0), floor=0.01)
    model = ObservationModel(blur_mm=3, of_mask=scaling, weight=0.5)
    likelihood = model.log_likelihood(blocks, (1.5, 1.5))
    assert likelihood.shape == (2, 4, 24, 30)
    belief = scaling.apply(soft_mask(blocks, (1.5, 1.5), 3))
    np.testing.assert_allclose(model.belief(blocks, (1.5, 1.5)), belief)
    np.testing.assert_allclose(np.exp(2 * likelihood), belief)


def test_a_model_comes_back_from_its_file(tmp_path):
    model = ObservationModel(
        blur_mm=2.5, of_mask=Scaling(scale=0.7, bias=(0.1, 0, 0, -0.1)), weight=2
    )
    model.save(tmp_path / "observation.json")
    assert ObservationModel.load(tmp_path / "observation.json") == model


def test_what_is_no_observation_model_is_refused(tmp_path, blocks):
    with pytest.raises(FileNotFoundError, match="expected a fitted observation model, found none"):
        ObservationModel.load(tmp_path / "none.json")
    file = tmp_path / "observation.json"
    for text, message in (
        ("{", r"observation\.json: expected JSON"),
        ('{"temperature": 2}', "temperature: unknown parameter"),
        ('{"of_mask": {"floor": 0}}', r"of_mask\.floor: .*greater than 0"),
        ("[]", "expected a mapping, got list"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            ObservationModel.load(file)
    with pytest.raises(ValueError, match=r"drawn: expected a mask \(D, H, W\)"):
        ObservationModel().belief(blocks[0], (1.0, 1.0))
    with pytest.raises(ValueError, match=r"expected shape \(2, 4, 24, 30\) beside a mask"):
        ObservationModel().belief(blocks, (1.0, 1.0), np.zeros((2, 3, 24, 30)))
