import numpy as np
import pytest

from cardiac_vae.labels import Structure
from cardiac_vae.metrics.presence import presence_errors, present_structures, structure_pixels

RV, MYO, LV = Structure.RV, Structure.MYO, Structure.LV


def stack(*slices):
    """Return a volume (D, 2, 2) whose slices hold the structures named, one pixel each."""
    mask = np.zeros((len(slices), 2, 2), np.uint8)
    for plane, structures in zip(mask, slices, strict=True):
        plane.ravel()[: len(structures)] = structures
    return mask


def test_presence_is_by_slice_and_structure_in_the_order_rv_myo_lv():
    expected = [[1, 0, 0], [1, 1, 1], [0, 1, 1], [0, 0, 0]]
    np.testing.assert_array_equal(
        present_structures(stack([RV], [LV, MYO, RV], [MYO, LV], [])), np.array(expected, bool)
    )


def test_errors_of_a_hand_counted_stack():
    expert = stack([], [RV, MYO, LV], [RV, MYO, LV], [MYO, LV], [MYO])
    drawn = stack([RV, MYO, LV], [RV, MYO, LV], [MYO, LV], [RV, MYO, LV], [])
    errors = presence_errors(expert, drawn)
    assert errors.spurious == {RV: 2, MYO: 1, LV: 1}
    assert errors.missed == {RV: 1, MYO: 1, LV: 0}
    assert errors.total == 6
    assert errors.num_slices == 5


def test_exchanging_the_masks_exchanges_the_two_kinds(rng):
    first, second = rng.integers(0, 4, (2, 12, 1, 2))
    there, back = presence_errors(first, second), presence_errors(second, first)
    assert there.spurious == back.missed
    assert there.missed == back.spurious
    assert there.total > 0


def test_it_counts_slices_and_not_pixels():
    mask = stack([LV])
    larger = np.full_like(mask, LV)
    assert presence_errors(mask, larger).total == 0
    assert presence_errors(np.zeros_like(mask), larger).spurious[LV] == 1


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"one shape, got \(1, 2, 2\) and \(2, 2, 2\)"):
        presence_errors(stack([]), stack([], []))
    with pytest.raises(ValueError, match=r"expected a label map \(D, H, W\), got shape \(2, 2\)"):
        present_structures(np.zeros((2, 2)))


def test_pixels_are_counted_by_slice_and_structure():
    mask = np.zeros((2, 3, 3), np.uint8)
    mask[0, 0] = 1
    mask[0, 1, :2] = 3
    mask[1, 2, 2] = 2
    assert structure_pixels(mask).tolist() == [[3, 0, 2], [0, 1, 0]]
