"""What the scan adds to a refined mask, and codes that move up the bound."""

import numpy as np
import pytest
from promises import SPACING_MM, assert_kept_promises, intensities

from cardiac_vae.models import build_model
from cardiac_vae.refinement.explanation import ExplanationConfig
from cardiac_vae.refinement.refine import RefinementConfig, Refiner


def test_a_scan_is_weighed_in_and_its_bound_rises(refiner, whole_volume, half_broken):
    image = intensities(whole_volume)
    result = refiner.refine(half_broken, SPACING_MM, image=image)
    assert_kept_promises(result, half_broken, SPACING_MM)
    assert len(result.bounds) > 1
    assert (np.diff(result.bounds) > -1e-6).all()
    assert refiner.refine(half_broken, SPACING_MM).bounds == ()


def test_a_scan_that_shows_nothing_is_left_out_with_a_warning(refiner, half_broken):
    image = np.random.default_rng(0).normal(size=half_broken.shape)
    result = refiner.refine(half_broken, SPACING_MM, image=image)
    assert "the image is not used" in result.warnings[-1]
    np.testing.assert_array_equal(result.mask, refiner.refine(half_broken, SPACING_MM).mask)


def test_a_scan_of_another_grid_is_refused(refiner, half_broken):
    with pytest.raises(ValueError, match=r"expected an image .* on the mask's grid"):
        refiner.refine(half_broken, SPACING_MM, image=np.zeros((1, 2, 3)))


def moving(refiner, **settings):
    """Return the refiner with codes that move."""
    explanation = ExplanationConfig(mode="optimized", max_steps=3, num_draws=2, **settings)
    config = RefinementConfig(explanation=explanation)
    return Refiner(refiner.model, refiner.anchors, refiner.pixel_mm, config)


@pytest.mark.parametrize("has_image", [False, True])
def test_codes_that_move_raise_the_bound_and_leave_a_heart(
    refiner, whole_volume, half_broken, has_image
):
    image = intensities(whole_volume) if has_image else None
    before = half_broken.copy()
    result = moving(refiner).refine(half_broken, SPACING_MM, image=image)
    np.testing.assert_array_equal(half_broken, before)
    assert_kept_promises(result, half_broken, SPACING_MM)
    assert len(result.bounds) > 1
    assert (np.diff(result.bounds) > -1e-6).all()
    assert result.bounds[-1] > result.bounds[0]
    again = moving(refiner).refine(half_broken, SPACING_MM, image=image)
    np.testing.assert_array_equal(again.mask, result.mask)
    assert again.bounds == result.bounds


def test_a_code_in_a_scan_that_shows_nothing_moves_without_it(refiner, half_broken):
    image = np.random.default_rng(0).normal(size=half_broken.shape)
    result = moving(refiner).refine(half_broken, SPACING_MM, image=image)
    assert "the image is not used" in result.warnings[-1]
    assert result.bounds == moving(refiner).refine(half_broken, SPACING_MM).bounds


def test_codes_do_not_move_where_nothing_holds_them(refiner, half_broken):
    explanation = ExplanationConfig(mode="optimized")
    with pytest.raises(ValueError, match="expected above 0 where codes move, got 0"):
        RefinementConfig(segmenter_exponent=0, explanation=explanation)
    settings = {"image_size": 96, "channels": [4, 8], "latent_dim": 2}
    model = build_model("ae", settings).eval()
    without = Refiner(model, refiner.anchors, 1.5, RefinementConfig(explanation=explanation))
    with pytest.raises(ValueError, match="expected amortized for"):
        without.refine(half_broken, SPACING_MM)


def test_what_is_valid_stays_as_it_is_though_codes_could_move(refiner, whole_volume):
    result = moving(refiner).refine(whole_volume, SPACING_MM)
    assert not result.is_changed
    assert result.bounds == ()
