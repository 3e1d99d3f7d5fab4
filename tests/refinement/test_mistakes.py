"""What a corrector learns from: what a segmenter drew, beside the expert's, as the refiner sees."""

import numpy as np
import pytest

from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.scan_corruption import ScanCorruptionConfig, corrupt_case
from cardiac_vae.labels import Phase
from cardiac_vae.refinement.mistakes import drawn_stacks
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.window import HeartWindow

SPACING_MM = (8.0, 1.5, 1.5)
GRID = 64, 1.5
CORRUPTION = ScanCorruptionConfig()


class Segmenter:
    """Draws given masks in turn, and keeps what it was asked to draw."""

    def __init__(self, *masks):
        self.masks, self.asked = list(masks), []

    def __call__(self, image, spacing_mm):
        self.asked.append((image, spacing_mm))
        return 0.05 + 0.8 * one_hot_planes(self.masks[len(self.asked) - 1])


@pytest.fixture
def case(heart, rng):
    """Return a case with a heart in slices 2 and 3 of 6."""
    mask = np.zeros((6, 100, 90), np.uint8)
    mask[2:4] = heart(lv_mm=12.0)
    image = rng.gamma(2.0, 50.0, mask.shape).astype(np.float32)
    return CardiacCase("p1", Phase.ED, mask, SPACING_MM, image)


def stacks_of(segmenter, *cases, **settings):
    return list(drawn_stacks(cases, [segmenter], *GRID, CORRUPTION, **settings))


def test_each_scan_is_drawn_as_it_is_and_made_worse(case):
    segmenter = Segmenter(case.mask, case.mask)
    assert len(stacks_of(segmenter, case, seed=7)) == 2
    (clean, spacing_mm), (worse, _) = segmenter.asked
    assert spacing_mm == SPACING_MM
    np.testing.assert_array_equal(clean, case.image)
    expected = corrupt_case("p1_ed", case.image, SPACING_MM, 7, CORRUPTION)
    np.testing.assert_array_equal(worse, expected)


def test_slices_go_from_the_first_to_the_last_that_either_drew(case):
    drawn, less = case.mask.copy(), np.zeros_like(case.mask)
    drawn[[1, 2]] = np.roll(case.mask[[2, 2]], 2, axis=1)
    drawn[3] = 0  # the expert's slice 3, the segmenter's slice 1
    less[3] = case.mask[3]
    lower, missed = stacks_of(Segmenter(drawn, less), case)
    assert len(lower.given) == len(lower.expert) == 3
    assert len(missed.given) == len(missed.expert) == 2
    assert [bool(one.any()) for one in lower.expert] == [False, True, True]
    assert [bool(one.argmax(axis=0).any()) for one in lower.given] == [True, True, False]
    assert [bool(one.argmax(axis=0).any()) for one in missed.given] == [False, True]


def test_every_segmenter_draws_every_scan(case):
    first, other = Segmenter(case.mask, case.mask), Segmenter(case.mask, case.mask)
    stacks = list(drawn_stacks([case], [first, other], *GRID, CORRUPTION))
    assert len(stacks) == 4
    for (image, _), (same, _) in zip(first.asked, other.asked, strict=True):
        np.testing.assert_array_equal(image, same)


def test_both_are_seen_in_the_window_of_what_was_drawn(case):
    """Pixels are those of the grid, so that a heart drawn too low is the true one moved."""
    lower = np.roll(case.mask, 4, axis=1)
    _, moved = stacks_of(Segmenter(case.mask, lower), case)
    window = HeartWindow.around(lower, SPACING_MM, *GRID)
    assert moved.given.shape == (2, 4, 64, 64)
    assert moved.expert.dtype == np.uint8
    np.testing.assert_array_equal(moved.expert, window.cut(case.mask)[2:4])
    expected = 0.05 + 0.8 * one_hot_planes(window.cut(lower)[2:4])
    np.testing.assert_allclose(moved.given, expected, atol=1e-6)
    np.testing.assert_array_equal(np.roll(moved.expert, 4, axis=1), moved.given.argmax(axis=1))


def test_what_lies_apart_is_not_believed_and_does_not_move_the_window(case):
    drawn = case.mask.copy()
    drawn[2, 27:30, 40:44] = 3
    sound, speckled = stacks_of(Segmenter(case.mask, drawn), case)
    np.testing.assert_array_equal(speckled.expert, sound.expert)
    np.testing.assert_array_equal(speckled.given.argmax(axis=1), sound.given.argmax(axis=1))
    assert np.any(speckled.given != sound.given)


def test_a_scan_in_which_nothing_is_drawn_is_left_out(case):
    nothing = np.zeros_like(case.mask)
    segmenter = Segmenter(nothing, case.mask, nothing, nothing)
    assert len(stacks_of(segmenter, case, case)) == 1
    assert len(segmenter.asked) == 4


def test_a_case_without_a_scan_is_refused(case):
    alone = CardiacCase("p2", Phase.ES, case.mask, SPACING_MM)
    with pytest.raises(ValueError, match="p2_es: expected a scan to draw, got a mask alone"):
        stacks_of(Segmenter(), alone)
