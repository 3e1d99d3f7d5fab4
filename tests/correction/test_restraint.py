import numpy as np
import pytest

from cardiac_vae.correction.restraint import RestraintConfig, restrained
from cardiac_vae.refinement.observation import one_hot_planes


def planes(*areas):
    """Return slices (N, 4, 8, 8) with so many pixels of the RV, the myocardium and the LV each."""
    mask = np.zeros((len(areas), 64), np.uint8)
    for row, (rv, myocardium, lv) in zip(mask, areas, strict=True):
        row[: rv + myocardium + lv] = np.repeat([1, 2, 3], [rv, myocardium, lv])
    return one_hot_planes(mask.reshape(-1, 8, 8))


@pytest.mark.parametrize(
    ("before", "after", "is_taken"),
    [
        ((4, 6, 8), (2, 6, 8), True),
        ((4, 6, 8), (1, 6, 8), False),  # less than half of the RV
        ((4, 6, 8), (4, 18, 24), True),
        ((4, 6, 8), (4, 19, 24), False),  # more than three times the myocardium
        ((0, 6, 8), (30, 6, 8), True),  # what was not drawn has no limit
        ((4, 6, 0), (4, 6, 0), True),
    ],
)
def test_a_structure_that_was_drawn_keeps_half_and_gets_three_times_its_pixels(
    before, after, is_taken
):
    given, corrected = planes(before), 0.9 * planes(after) + 0.025
    expected = corrected if is_taken else given
    np.testing.assert_array_equal(restrained(corrected, given), expected)


def test_each_slice_is_judged_by_itself():
    given = planes((4, 6, 8), (4, 6, 8), (4, 6, 8))
    corrected = planes((4, 6, 8), (0, 6, 8), (5, 7, 9))
    expected = np.stack([corrected[0], given[1], corrected[2]])
    np.testing.assert_array_equal(restrained(corrected, given), expected)


def test_limits_are_settings_and_no_slice_is_none():
    given, corrected = planes((4, 6, 8)), planes((0, 60, 0))
    free = RestraintConfig(least=0, most=100)
    np.testing.assert_array_equal(restrained(corrected, given, free), corrected)
    assert restrained(corrected[:0], given[:0]).shape == (0, 4, 8, 8)
    with pytest.raises(ValueError, match="most"):
        RestraintConfig(most=0.5)
