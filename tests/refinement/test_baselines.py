import numpy as np
import pytest

from cardiac_vae.labels import Structure
from cardiac_vae.refinement.baselines import largest_component_and_filled_holes

BACKGROUND, RV, MYO, LV = Structure.BACKGROUND, Structure.RV, Structure.MYO, Structure.LV


def volume() -> np.ndarray:
    """Return three slices of a square LV in its wall, an RV beside it."""
    mask = np.zeros((3, 20, 24), np.uint8)
    mask[:, 4:16, 2:8] = RV
    mask[:, 4:16, 8:20] = MYO
    mask[:, 7:13, 11:17] = LV
    return mask


def test_whole_heart_stays_as_it_is():
    mask = volume()
    cleaned = largest_component_and_filled_holes(mask)
    np.testing.assert_array_equal(cleaned, mask)
    assert cleaned.dtype == mask.dtype
    assert not np.shares_memory(cleaned, mask)


def test_lv_is_no_hole_of_the_myocardium():
    mask = volume()
    mask[1, 6, 14] = BACKGROUND  # a hole in the wall, which the LV is not
    np.testing.assert_array_equal(largest_component_and_filled_holes(mask), volume())


@pytest.mark.parametrize("structure", [RV, MYO, LV])
def test_specks_go_and_holes_are_filled(structure):
    mask = volume()
    mask[2, 18, 21:23] = structure
    where = np.argwhere((mask == structure) & (np.indices(mask.shape)[0] == 1))
    inner = {RV: (1, 9, 5), MYO: (1, 9, 18), LV: (1, 9, 13)}[structure]
    assert inner in map(tuple, where)
    mask[inner] = BACKGROUND
    np.testing.assert_array_equal(largest_component_and_filled_holes(mask), volume())


def test_part_is_kept_if_it_hangs_together_through_a_neighboring_slice():
    mask = volume()
    mask[1, 4:16, 4] = BACKGROUND  # two parts in this slice, one in 3-D
    np.testing.assert_array_equal(largest_component_and_filled_holes(mask), mask)


def test_input_is_not_changed():
    mask = volume()
    mask[0, 0, 0], mask[1, 9, 5] = LV, BACKGROUND
    before = mask.copy()
    largest_component_and_filled_holes(mask)
    np.testing.assert_array_equal(mask, before)


def test_second_pass_changes_nothing(rng):
    mask = rng.integers(0, 4, (3, 12, 12)).astype(np.uint8)
    once = largest_component_and_filled_holes(mask)
    np.testing.assert_array_equal(largest_component_and_filled_holes(once), once)


def test_empty_mask_stays_empty():
    assert not largest_component_and_filled_holes(np.zeros((2, 5, 5), np.uint8)).any()


def test_flat_mask_is_refused():
    with pytest.raises(ValueError, match=r"expected a label map \(D, H, W\), got shape \(5, 5\)"):
        largest_component_and_filled_holes(np.zeros((5, 5), np.uint8))
