"""Whatever mask comes in, a heart comes out, or nothing; what is valid comes back as it is."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from promises import SPACING_MM, assert_kept_promises, soft

from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.refine import RefinementConfig, Refiner
from cardiac_vae.refinement.result import UNTOUCHED


@pytest.mark.parametrize(
    "pixel_mm", [(1.5, 1.5), (0.7, 0.7), (2.0, 2.0), (1.0, 1.8), (1.3671875, 1.3671875), (3.1, 2.9)]
)
@pytest.mark.parametrize("has_probabilities", [False, True])
def test_the_result_is_valid_whatever_came_in(refiner, broken_volume, pixel_mm, has_probabilities):
    for seed in range(2 if min(pixel_mm) > 1 else 1):
        mask = broken_volume(seed, pixel_mm)
        before = mask.copy()
        seen = soft(np.random.default_rng(seed), mask) if has_probabilities else None
        spacing_mm = (8.0, *pixel_mm)
        result = refiner.refine(mask, spacing_mm, seen)
        np.testing.assert_array_equal(mask, before)
        assert_kept_promises(result, mask, spacing_mm)
        assert result.is_changed or result.is_refused
        again = refiner.refine(result.mask, spacing_mm, seen)
        assert not again.is_changed
        np.testing.assert_array_equal(again.mask, result.mask)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    pixel_mm=st.tuples(st.floats(0.5, 4.0), st.floats(0.5, 4.0)),
    grain=st.integers(1, 12),
)
def test_noise_becomes_hearts_or_nothing(refiner, seed, shape, pixel_mm, grain):
    """Blocks of random classes over the whole field of view, which may be tiny or huge."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (2, shape[0] // grain + 1, shape[1] // grain + 1), np.uint8)
    mask = np.kron(coarse, np.ones((1, grain, grain), np.uint8))[:, : shape[0], : shape[1]]
    spacing_mm = (10.0, *pixel_mm)
    assert_kept_promises(refiner.refine(mask, spacing_mm), mask, spacing_mm)


@pytest.mark.parametrize("structure", [1, 2, 3])
def test_one_structure_over_the_whole_field_of_view(refiner, structure):
    """The window around the heart ends inside the structure: its rim is a border as well."""
    mask = np.full((1, 140, 130), structure, np.uint8)
    mask[0, 3:5, 3:5] = 0
    assert_kept_promises(refiner.refine(mask, SPACING_MM), mask, SPACING_MM)
    seen = one_hot_planes(mask)
    assert_kept_promises(refiner.refine(mask, SPACING_MM, seen), mask, SPACING_MM)


def test_a_valid_volume_comes_back_as_it_is_in_an_array_of_its_own(refiner, whole_volume):
    result = refiner.refine(whole_volume, SPACING_MM)
    assert not result.is_changed
    assert result.mask is not whole_volume
    np.testing.assert_array_equal(result.mask, whole_volume)
    assert {decision.route for decision in result.slices} == {UNTOUCHED}
    assert result.warnings == ()
    assert result.before == result.after


def test_a_valid_volume_is_refined_if_asked_and_stays_valid(refiner, whole_volume):
    """A segmenter that is sure of hearts two pixels lower, and is believed, gets its way."""
    lower = np.roll(whole_volume, 2, axis=1)
    believing = Refiner(
        refiner.model, refiner.anchors, refiner.pixel_mm, RefinementConfig(segmenter_exponent=5)
    )
    sure = 0.025 + 0.9 * one_hot_planes(lower)
    result = believing.refine(whole_volume, SPACING_MM, sure, refine_valid=True)
    np.testing.assert_array_equal(result.mask, lower)
    assert result.after.is_valid
    routes = [decision.route for decision in result.slices]
    assert routes[0] == UNTOUCHED  # no heart, nothing to explain
    assert UNTOUCHED not in routes[1:]


def test_an_empty_volume_passes_with_a_warning(refiner):
    mask = np.zeros((3, 50, 60), np.uint8)
    for refine_valid in (False, True):
        result = refiner.refine(mask, SPACING_MM, refine_valid=refine_valid)
        assert not result.is_changed
        assert not result.mask.any()
        assert result.warnings == ("the mask is all background: nothing to refine",)


def test_only_broken_slices_change_unless_the_whole_volume_is_asked_for(
    refiner, half_broken, whole_volume
):
    result = refiner.refine(half_broken, SPACING_MM)
    np.testing.assert_array_equal(result.mask[[0, 1, 3]], whole_volume[[0, 1, 3]])
    assert [decision.route == UNTOUCHED for decision in result.slices] == [True, True, False, True]
    all_of_it = Refiner(
        refiner.model, refiner.anchors, refiner.pixel_mm, RefinementConfig(whole_volume=True)
    )
    routes = [decision.route for decision in all_of_it.refine(half_broken, SPACING_MM).slices]
    assert [route == UNTOUCHED for route in routes] == [True, False, False, False]


def test_the_segmenters_word_counts_by_its_exponent(refiner, half_broken, rng):
    """A model that knows nothing leaves the segmenter's mask; alone it says nothing."""
    seen = soft(rng, half_broken)
    trusting = Refiner(
        refiner.model, refiner.anchors, refiner.pixel_mm, RefinementConfig(segmenter_exponent=5)
    )
    result = trusting.refine(half_broken, SPACING_MM, seen)
    assert result.slices[2].changed_pixels < 150


def test_the_result_does_not_depend_on_the_batch_or_on_being_asked_twice(refiner, broken_volume):
    mask = broken_volume(3)
    first = refiner.refine(mask, SPACING_MM)
    np.testing.assert_array_equal(refiner.refine(mask, SPACING_MM).mask, first.mask)
    small = Refiner(
        refiner.model, refiner.anchors, refiner.pixel_mm, RefinementConfig(batch_size=1)
    )
    np.testing.assert_array_equal(small.refine(mask, SPACING_MM).mask, first.mask)


def test_other_integer_types_are_taken(refiner, half_broken):
    result = refiner.refine(half_broken.astype(np.int16), SPACING_MM)
    np.testing.assert_array_equal(result.mask, refiner.refine(half_broken, SPACING_MM).mask)


def test_probabilities_on_another_grid_are_refused(refiner, half_broken, rng):
    seen = soft(rng, half_broken)
    for wrong in (seen[:2], seen[:, :3], seen[:, :, :50], seen[:, :, :, ::2], seen[:, 0]):
        with pytest.raises(ValueError, match=r"probabilities .* on the mask's grid") as caught:
            refiner.refine(half_broken, SPACING_MM, wrong)
        assert "\n" not in str(caught.value)


def test_a_mask_that_is_none_is_refused(refiner, half_broken):
    with pytest.raises(ValueError, match="expected a label map"):
        refiner.refine(half_broken[0], SPACING_MM)
    with pytest.raises(ValueError, match="values 0 to 3"):
        refiner.refine(half_broken + 3, SPACING_MM)
    with pytest.raises(ValueError, match="positive sizes in mm"):
        refiner.refine(half_broken, (8.0, 0.0, 1.5))


def test_a_folder_without_anchors_is_no_refiner(tiny_model: Path, tmp_path: Path):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "anchors.npz").unlink()
    with pytest.raises(FileNotFoundError, match="expected the valid shapes"):
        Refiner.load(tmp_path / "model")
