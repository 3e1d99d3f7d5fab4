import numpy as np
import pytest

from cardiac_vae.metrics.overlap import dice


def test_dice_of_hand_counted_masks():
    reference, predicted = np.zeros((2, 1, 4, 4), bool)
    reference[0, :2], predicted[0, 1:3] = True, True  # 8 and 8 voxels, 4 in common
    assert dice(reference, predicted) == 0.5
    assert dice(predicted, reference) == 0.5
    assert dice(reference, reference) == 1
    assert dice(reference, ~reference) == 0


def test_missed_structure_scores_zero_and_absent_one_nothing():
    empty, full = np.zeros((2, 3, 3), bool), np.ones((2, 3, 3), bool)
    assert dice(full, empty) == dice(empty, full) == 0
    assert np.isnan(dice(empty, empty))


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(1, 2, 2\) and \(2, 2, 2\)"):
        dice(np.ones((1, 2, 2), bool), np.ones((2, 2, 2), bool))
