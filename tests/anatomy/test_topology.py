import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from cardiac_vae.anatomy.topology import (
    bounding_box,
    gap_mm,
    holes,
    holes_between,
    largest_part,
    touching_pixels,
)


def draw(*rows: str) -> np.ndarray:
    """Return where a drawing has an "x", (H, W) bool."""
    return np.array([[character == "x" for character in row] for row in rows])


def test_parts_join_at_corners():
    np.testing.assert_array_equal(largest_part(draw("x..", ".x.", "..x")), np.eye(3, dtype=bool))
    np.testing.assert_array_equal(largest_part(draw("x.x", "..x")), draw("..x", "..x"))
    assert not largest_part(draw("...")).any()


def test_wall_closed_at_corners_encloses():
    diamond = draw(".x.", "x.x", ".x.")
    np.testing.assert_array_equal(holes(diamond), draw("...", ".x.", "..."))
    assert not holes(draw("xxx", "x..", "xxx")).any()


def test_array_edge_encloses_nothing():
    assert not holes(draw("x.x", "xxx")).any()
    assert not holes(np.zeros((3, 3), bool)).any()


def test_holes_agree_with_scipy_on_noise(rng):
    for _ in range(50):
        noise = rng.random((12, 15)) < 0.6
        filled = ndimage.binary_fill_holes(noise)
        np.testing.assert_array_equal(holes(noise), filled & ~noise)


def test_rows_without_gaps_enclose_nothing_and_one_gap_can():
    assert not holes(draw("..xx", "xx..", ".xxx")).any()
    np.testing.assert_array_equal(holes(draw(".xx.", "xx.x", ".xxx")), draw("....", "..x.", "...."))
    np.testing.assert_array_equal(holes(draw("xxx", "x.x", "xxx").T), draw("...", ".x.", "..."))


def test_hole_with_its_guest_is_no_hole():
    ring = draw("xxxxx", "x...x", "xxxxx", "x...x", "xxxxx")
    guest = draw(".....", ".....", ".....", ".x...", ".....")
    np.testing.assert_array_equal(
        holes(ring, around=guest), draw(".....", ".xxx.", ".....", ".....", ".....")
    )


def test_gap_between_two_is_what_neither_encloses_alone():
    ring = draw("xxxxx.....", "x...x.....", "xxxxx.....")
    arc = draw(".....xxxxx", "........xx", ".....xxxxx")
    gap = draw("..........", ".....xxx..", "..........")
    np.testing.assert_array_equal(holes_between(ring, arc), gap)
    np.testing.assert_array_equal(holes_between(arc, ring), gap)


def test_gap_around_a_guest_counts():
    ring = draw("xxxxx", "x...x", "x...x", "xxxxx")
    guest = draw(".....", ".x...", ".x...", ".....")
    np.testing.assert_array_equal(
        holes_between(guest, ring), draw(".....", "..xx.", "..xx.", ".....")
    )


@pytest.mark.parametrize(
    ("structure", "other", "count"),
    [
        (draw("x..", "x..", "x.."), draw("..x", "..x", "..x"), 0),
        (draw("x..", "x..", "x.."), draw(".x.", ".x.", ".x."), 3),
        (draw("x.", ".."), draw("..", ".x"), 0),  # a single corner
        (draw("x.", ".."), draw(".x", ".."), 0),  # a single side
        (draw("x.", ".."), draw(".x", ".x"), 1),  # one pixel touches two
        (draw("x.", "x."), draw("..", ".x"), 2),  # two pixels touch one
        (draw("x...x", "....."), draw(".....", ".x.x."), 0),  # single ones, apart
    ],
)
def test_touching_pixels_tolerates_single_ones(structure, other, count):
    assert touching_pixels(structure, other) == count


def test_gap_is_zero_for_neighbors_and_absent_structures():
    left = draw("x..", "x..")
    assert gap_mm(left, draw(".x.", "..."), (1.0, 1.0)) == 0
    assert gap_mm(draw("x..", "..."), draw("...", ".x."), (1.0, 1.0)) == 0
    assert gap_mm(left, np.zeros((2, 3), bool), (1.0, 1.0)) == 0
    assert gap_mm(left, draw("..x", "..x"), (3.0, 1.5)) == 1.5


def test_gap_equals_brute_force(rng):
    pixel_mm = (2.0, 0.7)
    for _ in range(30):
        first, second = np.zeros((2, 14, 14), bool)
        first[tuple(rng.integers(0, 5, 2))] = second[tuple(rng.integers(7, 14, 2))] = True
        beside = np.argwhere(ndimage.binary_dilation(first, np.ones((3, 3)))) * pixel_mm
        expected = cdist(beside, np.argwhere(second) * pixel_mm).min()
        assert gap_mm(first, second, pixel_mm) == pytest.approx(expected)


def test_bounding_box():
    assert bounding_box(draw("....", ".xx.", ".x..")) == (slice(1, 3), slice(1, 3))
    assert bounding_box(draw("..")) == (slice(0, 0), slice(0, 0))
