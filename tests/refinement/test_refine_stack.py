"""Slices of one heart agree: parts apart, gaps, halves, and what a calibrated stack knows."""

from types import SimpleNamespace

import numpy as np
import pytest
from promises import SPACING_MM, assert_kept_promises, soft

from cardiac_vae.labels import HEART, Phase, Structure
from cardiac_vae.metrics.presence import present_structures
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.refine import Refiner
from cardiac_vae.refinement.result import UNTOUCHED
from cardiac_vae.refinement.stack.slice_order import SliceOrder, Smoothness


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


class Stack:
    """Says of every slice that it holds what is drawn, but for some that it names."""

    hears_corrector = False

    def __init__(self, present, wrong):
        self.said = np.where(present ^ wrong, 9.0, -9.0)
        self.phases = []

    def log_odds(self, evidence, phase=None):
        assert evidence.shape[2] == (4 if self.hears_corrector else 2)
        self.phases.append(phase)
        return self.said


def knowing(refiner, mask, wrong, corrector=None):
    """Return the refiner with a calibration whose stack denies what is drawn at (slice, column)."""
    flipped = np.zeros((len(mask), 3), bool)
    flipped[wrong] = True
    stack = Stack(present_structures(mask), flipped)
    stack.hears_corrector = corrector is not None
    known = Calibration(stack=stack, corrector=corrector)
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


class Corrector:
    """Changes nothing."""

    config, pixel_mm = SimpleNamespace(image_size=96), 1.5

    def require_grid(self, size, pixel_mm):
        assert (size, pixel_mm) == (96, 1.5)

    def correct(self, given, chosen):
        return given[chosen]


def test_a_stack_that_hears_a_corrector_is_asked_with_its_word(refiner, whole_volume):
    rv = HEART.index(Structure.RV)
    seen = soft(np.random.default_rng(0), whole_volume)
    told = knowing(refiner, whole_volume, (1, rv), Corrector())
    result = told.refine(whole_volume, SPACING_MM, seen)  # the stack checks what it is told
    alone = knowing(refiner, whole_volume, (1, rv)).refine(whole_volume, SPACING_MM, seen)
    np.testing.assert_array_equal(result.mask, alone.mask)
    assert not (result.mask[1] == Structure.RV).any()


def test_a_stack_that_hears_a_corrector_is_not_without(refiner, whole_volume):
    told = knowing(refiner, whole_volume, ([], []))
    told.calibration.stack.hears_corrector = True
    with pytest.raises(ValueError, match=r"expected the corrector that its stack\.json goes with"):
        Refiner(refiner.model, refiner.anchors, refiner.pixel_mm, calibration=told.calibration)


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
