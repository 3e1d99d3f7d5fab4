from itertools import product

import numpy as np
import pytest

from cardiac_vae.labels import Structure
from cardiac_vae.refinement.stack.consistency import gaps, inconsistencies, is_gap


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
    assert inconsistencies(mask) == [
        "LV is absent between slices that have it: 1",
        "RV has voxels apart from its largest part: 1",
        "LV has voxels apart from its largest part: 1",
    ]
    whole = np.zeros_like(mask)
    whole[1:3, 0:2, 0:2] = Structure.RV
    assert inconsistencies(whole) == inconsistencies(0 * mask) == []
