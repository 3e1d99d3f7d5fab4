import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.labels import HEART, Phase, Structure
from cardiac_vae.metrics.presence import present_structures
from cardiac_vae.models import build_model
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.explanation import ExplanationConfig
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.refine import RefinementConfig, Refiner
from cardiac_vae.refinement.result import UNTOUCHED
from cardiac_vae.refinement.stack.consistency import inconsistencies
from cardiac_vae.refinement.stack.slice_order import SliceOrder, Smoothness

SPACING_MM = (8.0, 1.5, 1.5)


@pytest.fixture(scope="session")
def whole_volume(heart):
    empty = np.zeros((100, 90), np.uint8)
    return np.stack([empty, heart(), heart(lv_mm=14.0), heart(lv_mm=10.0)])


@pytest.fixture
def half_broken(whole_volume):
    """Return a volume whose slice 2 has a breach of the wall, the others nothing."""
    volume = whole_volume.copy()
    volume[2, 50, 50:75] = 3
    return volume


def soft(rng, mask):
    """Return a segmenter's probabilities (D, C, H, W) that mostly agree with a mask."""
    logits = 3 * one_hot_planes(mask) + rng.normal(size=(len(mask), 4, *mask.shape[1:]))
    odds = np.exp(logits)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def assert_kept_promises(result, mask, spacing_mm):
    assert result.mask.dtype == np.uint8
    assert result.mask.shape == mask.shape
    assert result.after == check_volume(result.mask, spacing_mm)
    changed = (result.mask != mask).sum(axis=(1, 2))
    assert [decision.changed_pixels for decision in result.slices] == changed.tolist()
    assert [decision.index for decision in result.slices] == list(range(len(mask)))
    assert result.is_changed == bool(changed.any())
    if result.is_refused:
        np.testing.assert_array_equal(result.mask, mask)
        assert inconsistencies(mask, spacing_mm) or not result.before.is_valid
        with pytest.raises(ValueError, match="volume 0: expected slices that one heart") as e:
            result.unless_refused("volume 0")
        assert result.warnings[-1] in str(e.value)
        return
    assert result.after.is_valid
    assert inconsistencies(result.mask, spacing_mm) == []
    for decision, found in zip(result.slices, result.before.slices, strict=True):
        assert decision.route != UNTOUCHED or not any(found.values())


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


def test_a_valid_speck_apart_from_the_heart_goes_with_the_rest(refiner, whole_volume):
    mask = whole_volume.copy()
    mask[0] = 0
    mask[0, 5:9, 5:9] = 1  # valid by itself, in a slice of its own
    mask[2, 50, 50:75] = 3
    spacing_mm = (8.0, 1.5, 1.5)
    result = refiner.refine(mask, spacing_mm)
    assert not any(result.before.slices[0].values())
    assert not (result.mask[0, 5:9, 5:9] == 1).any()
    assert_kept_promises(result, mask, spacing_mm)


def test_a_valid_speck_apart_is_reason_enough(refiner, whole_volume):
    mask = whole_volume.copy()
    mask[0, 5:9, 5:9] = 1
    result = refiner.refine(mask, SPACING_MM)
    assert result.before.is_valid
    np.testing.assert_array_equal(result.mask, whole_volume)


def test_a_gap_in_the_stack_is_filled(refiner, whole_volume):
    mask = whole_volume.copy()
    mask[2][mask[2] == Structure.RV] = Structure.BACKGROUND
    result = refiner.refine(mask, SPACING_MM)
    assert_kept_promises(result, mask, SPACING_MM)
    assert (result.mask[2] == Structure.RV).any()
    routes = [decision.route == UNTOUCHED for decision in result.slices]
    assert routes == [True, True, False, True]


def test_a_heart_in_two_halves_is_refused_and_left_as_it_is(refiner, whole_volume):
    halves = [np.roll(whole_volume[1:], columns, axis=2) for columns in (-15, 15)]
    mask = np.concatenate(halves)
    result = refiner.refine(mask, SPACING_MM)
    assert result.is_refused
    assert "LV has voxels apart from its main part" in result.warnings[-1]
    np.testing.assert_array_equal(result.mask, mask)


def intensities(mask):
    """Return a scan (D, H, W) of a mask: dark surroundings, gray muscle, bright blood, noise."""
    noise = np.random.default_rng(0).normal(scale=8.0, size=mask.shape)
    return np.array([40.0, 200.0, 90.0, 200.0])[mask] + noise


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


class Stack:
    """Says of every slice that it holds what is drawn, but for some that it names."""

    def __init__(self, present, wrong):
        self.said = np.where(present ^ wrong, 9.0, -9.0)
        self.phases = []

    def log_odds(self, evidence, phase=None):
        self.phases.append(phase)
        return self.said


def knowing(refiner, mask, wrong):
    """Return the refiner with a calibration whose stack denies what is drawn at (slice, column)."""
    flipped = np.zeros((len(mask), 3), bool)
    flipped[wrong] = True
    stack = Stack(present_structures(mask), flipped)
    known = Calibration(stack=stack)
    return Refiner(refiner.model, refiner.anchors, refiner.pixel_mm, calibration=known)


def test_what_the_stack_denies_goes_from_a_volume_that_breaks_nothing(refiner, whole_volume):
    rv = HEART.index(Structure.RV)
    told = knowing(refiner, whole_volume, (1, rv))
    seen = soft(np.random.default_rng(0), whole_volume)
    result = told.refine(whole_volume, SPACING_MM, seen)
    assert result.before.is_valid
    assert result.after.is_valid
    assert not (result.mask[1] == Structure.RV).any()
    assert (result.mask[1] == Structure.LV).any()
    assert [decision.changed_pixels > 0 for decision in result.slices] == [
        False,
        True,
        False,
        False,
    ]
    assert result.warnings == ("slice 1: RV is drawn and should not be (9.0 nats)",)
    # Without probabilities there is nothing to judge by.
    assert not told.refine(whole_volume, SPACING_MM).is_changed


def test_a_stack_that_agrees_leaves_every_byte(refiner, whole_volume):
    told = knowing(refiner, whole_volume, ([], []))
    seen = soft(np.random.default_rng(0), whole_volume)
    result = told.refine(whole_volume, SPACING_MM, seen)
    assert not result.is_changed
    np.testing.assert_array_equal(result.mask, whole_volume)
    told.refine(whole_volume, SPACING_MM, seen, phase=Phase.ES)
    assert told.calibration.stack.phases == [None, Phase.ES]


def test_what_the_stack_misses_is_drawn_where_the_segmenter_saw_it(refiner, whole_volume):
    rv = HEART.index(Structure.RV)
    without = whole_volume.copy()
    without[3][without[3] == Structure.RV] = Structure.BACKGROUND
    planes = one_hot_planes(without)
    seen = 0.97 * planes + 0.01
    hidden = whole_volume[3] == Structure.RV
    seen[3, :, hidden] = [0.55, 0.43, 0.01, 0.01]
    told = knowing(refiner, without, (3, rv))
    result = told.refine(without, SPACING_MM, seen)
    assert result.after.is_valid
    assert result.warnings[-1] == "slice 3: RV is missing (9.0 nats)"
    assert [decision.route for decision in result.slices[:3]] == [UNTOUCHED] * 3
    assert result.slices[3].route != UNTOUCHED


def test_a_stack_that_denies_everything_leaves_valid_slices(refiner, whole_volume):
    told = knowing(refiner, whole_volume, present_structures(whole_volume))
    seen = soft(np.random.default_rng(0), whole_volume)
    result = told.refine(whole_volume, SPACING_MM, seen)
    assert result.after.is_valid
    assert not result.mask.any()


def test_slices_that_look_swapped_are_told(refiner, heart):
    """Of a heart that tapers, slices 2 and 4 in each other's place."""
    radii = [20.0, 18.0, 16.0, 13.0, 9.0, 5.0]
    sound = np.stack([heart(lv_mm=radius) for radius in radii])
    smooth = Smoothness(amplitude_mm=1.0, length_mm=30.0, noise_mm=0.5)
    limits = {"swapped": 5.0, "shifted": 5.0, "missing": 5.0}
    known = Calibration(slice_order=SliceOrder(smoothness=(smooth,) * 5, limits=limits))
    told = Refiner(refiner.model, refiner.anchors, refiner.pixel_mm, calibration=known)
    assert told.refine(sound, SPACING_MM).warnings == ()
    result = told.refine(sound[[0, 1, 3, 2, 4, 5]], SPACING_MM)
    (warning,) = result.warnings
    assert "slices 2 and 3 look swapped" in warning
    assert not result.is_changed


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
