import numpy as np
import pytest
import torch

from cardiac_vae.correction.slices import DrawnSlices, DrawnStack, neighbors, views


def stack_of(*values):
    """Return a stack of a slice per value, which fills its planes; the expert's is the value.

    A little more of the LV makes it a heart.
    """
    planes = np.stack([np.full((4, 2, 2), value, np.float32) for value in values])
    planes[:, 3] += 0.5
    return DrawnStack(planes, np.stack([np.full((2, 2), value, np.uint8) for value in values]))


def seen(slices, row):
    """Return what the first plane of each of a row's three views holds."""
    return views(slices.given, slices.beside, torch.tensor([row]))[0, ::4, 0, 0].tolist()


def test_the_neighbors_of_a_stack():
    given = torch.from_numpy(stack_of(1, 2, 3).given)
    assert neighbors(given).tolist() == [[-1, 1], [0, 2], [1, -1]]
    assert neighbors(given[:1]).tolist() == [[-1, -1]]
    assert neighbors(given).dtype == torch.int64


def test_a_slice_in_which_nothing_is_drawn_is_no_neighbor():
    given = torch.from_numpy(stack_of(1, 2, 3, 4).given)
    given[1, 0] += 1  # most probably background
    assert neighbors(given).tolist() == [[-1, -1], [0, 2], [-1, 3], [2, -1]]


def test_stacks_are_joined_and_neighbors_stay_inside_their_own():
    slices = DrawnSlices.of([stack_of(1, 2), stack_of(3), stack_of(4, 5, 6)])
    assert slices.beside.tolist() == [[-1, 1], [0, -1], [-1, -1], [-1, 4], [3, 5], [4, -1]]
    assert slices.given.shape == (6, 4, 2, 2)
    assert slices.given.dtype == torch.float16
    assert slices.expert[:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert slices.expert.dtype == torch.uint8


def test_a_view_is_the_slice_the_one_before_and_the_one_after_or_nothing():
    slices = DrawnSlices.of([stack_of(1, 2), stack_of(3), stack_of(4, 5, 6)])
    assert [seen(slices, row) for row in range(6)] == [
        [1, 0, 2],
        [2, 1, 0],
        [3, 0, 0],
        [4, 0, 5],
        [5, 4, 6],
        [6, 5, 0],
    ]


def test_views_are_in_the_order_asked_for_and_leave_the_slices_as_they_are(some_slices):
    given = torch.from_numpy(some_slices(4))
    before, rows = given.clone(), torch.tensor([3, 0, 3])
    planes = views(given, neighbors(given), rows).unflatten(1, (3, 4))
    assert planes.dtype == torch.float32
    assert torch.equal(planes[:, 0], before[rows])
    assert torch.equal(planes[:, 1], torch.stack([before[2], 0 * before[0], before[2]]))
    assert torch.equal(planes[:, 2], torch.stack([0 * before[0], before[1], 0 * before[0]]))
    assert torch.equal(given, before)


def test_no_stacks_are_refused():
    with pytest.raises(ValueError, match=r"expected stacks with a heart .*, got none; add patient"):
        DrawnSlices.of([])
