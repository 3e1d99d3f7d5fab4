from itertools import product

import numpy as np
import pytest

from cardiac_vae.labels import Structure
from cardiac_vae.refinement.stack.consistency import (
    detached_voxels,
    gaps,
    inconsistencies,
    is_gap,
)

SPACING_MM = (10.0, 2.0, 2.0)


def test_gaps_are_named_by_slice():
    mask = np.zeros((6, 1, 3), np.uint8)
    mask[[1, 4], 0, 0] = Structure.RV
    mask[[0, 1, 2], 0, 1] = Structure.MYO
    mask[[0, 2], 0, 2] = Structure.LV
    assert gaps(mask) == {Structure.RV: [2, 3], Structure.LV: [1]}
    assert gaps(mask[:2]) == gaps(np.zeros((3, 2, 2), np.uint8)) == {}
    with pytest.raises(ValueError, match=r"expected a label map \(D, H, W\)"):
        gaps(mask[0])


def test_every_column_of_five_slices_by_its_definition():
    columns = np.array(list(product([False, True], repeat=5))).T
    expected = [
        [not column[i] and column[:i].any() and column[i + 1 :].any() for column in columns.T]
        for i in range(5)
    ]
    np.testing.assert_array_equal(is_gap(columns), expected)


def test_a_volume_says_its_gaps_and_loose_parts():
    mask = np.zeros((4, 5, 5), np.uint8)
    mask[:, 0:2, 0:2] = Structure.RV
    mask[3, 4, 4] = Structure.RV
    mask[[0, 2], 3, 3] = Structure.LV
    assert inconsistencies(mask, SPACING_MM) == [
        "LV is absent between slices that have it: 1",
        "RV has voxels apart from its main part: 1",
        "LV has voxels apart from its main part: 1",
    ]
    whole = np.zeros_like(mask)
    whole[1:3, 0:2, 0:2] = Structure.RV
    assert inconsistencies(whole, SPACING_MM) == inconsistencies(0 * mask, SPACING_MM) == []


def test_what_lies_apart_from_the_main_part_is_detached():
    mask = np.zeros((3, 8, 8), np.uint8)
    mask[0, 1:4, 1:4] = Structure.RV
    mask[1, 4, 4] = Structure.RV  # touches the part below by a corner
    mask[2, 7, 7] = Structure.RV
    mask[2, 0, 0] = Structure.LV  # the only one of its kind
    detached = detached_voxels(mask, (2.0, 2.0, 2.0))
    assert np.argwhere(detached).tolist() == [[2, 7, 7]]


@pytest.mark.parametrize(("slice_mm", "is_apart"), [(9.9, True), (10.0, False)])
def test_a_part_continues_the_next_slice_up_to_a_lean_of_45_degrees(slice_mm, is_apart):
    mask = np.zeros((3, 12, 4), np.uint8)
    mask[0, :3] = Structure.MYO
    mask[1, 7] = Structure.MYO  # five rows of 2 mm from the part below
    mask[2, 11] = Structure.MYO  # four from that: it hangs on a part that hangs on
    detached = detached_voxels(mask, (slice_mm, 2.0, 1.0))
    assert detached.any() == is_apart
    assert (detached == (mask > 0) & (np.arange(3) > 0)[:, None, None]).all() == is_apart


def test_what_lies_beside_the_main_part_in_its_slice_does_not_continue_it():
    mask = np.zeros((2, 12, 4), np.uint8)
    mask[:, :3] = Structure.MYO
    mask[1, 6] = Structure.MYO
    assert np.argwhere(detached_voxels(mask, SPACING_MM)[:, :, 0]).tolist() == [[1, 6]]
