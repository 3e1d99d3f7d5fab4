import numpy as np
import pytest

from cardiac_vae.anatomy.outline import circularity, concavity_mm, convex_hull, inside_hull


def ellipse(semi_axes, angle=0.0, offset=(0.0, 0.0)) -> np.ndarray:
    """Return the pixels of a 64 x 64 grid whose centers lie in an ellipse."""
    row, column = np.mgrid[-32:32, -32:32] - np.reshape(offset, (2, 1, 1))
    along = row * np.cos(angle) + column * np.sin(angle)
    across = column * np.cos(angle) - row * np.sin(angle)
    return (along / semi_axes[0]) ** 2 + (across / semi_axes[1]) ** 2 <= 1


def test_convex_shape_on_a_grid_has_no_concavity(rng):
    for _ in range(50):
        shape = ellipse(rng.uniform(2, 25, 2), rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5, 2))
        assert concavity_mm(shape, (1.3, 0.7)) == pytest.approx(0, abs=1e-9)


def test_depth_of_a_slit_is_its_last_pixel():
    square = np.zeros((24, 24), bool)
    square[2:22, 2:22] = True
    for depth in range(6):
        square[2 + depth, 11] = False
        assert concavity_mm(square, (1.5, 1.5)) == pytest.approx(1.5 * depth)
        assert concavity_mm(square.T, (1.5, 1.5)) == pytest.approx(1.5 * depth)
        assert concavity_mm(square, (0.5, 2.0)) == pytest.approx(0.5 * depth)


def test_depth_of_a_corner_is_measured_across_the_hull():
    corner = np.zeros((12, 12), bool)
    corner[1:11, 1] = corner[10, 1:11] = True
    # Of the triangle between (1, 1), (10, 1) and (10, 10) the pixel (7, 4) lies deepest: 3 pixels
    # from the legs, 3 / sqrt(2) from the long side.
    assert concavity_mm(corner, (1.0, 1.0)) == pytest.approx(3 / np.sqrt(2))
    assert concavity_mm(corner, (1.0, 1.0)) == concavity_mm(corner[::-1, ::-1], (1.0, 1.0))


@pytest.mark.parametrize("shape", [(5, 1), (1, 5), (1, 1), (0, 0)])
def test_thread_point_and_nothing_have_no_concavity(shape):
    structure = np.zeros((7, 7), bool)
    structure[1 : 1 + shape[0], 1 : 1 + shape[1]] = True
    assert concavity_mm(structure, (1.0, 1.0)) == 0


def test_diagonal_thread_has_no_concavity():
    assert concavity_mm(np.eye(9, dtype=bool), (1.0, 2.0)) == 0


def test_inside_the_hull_is_left_of_every_edge(rng):
    for _ in range(50):
        size = rng.integers(1, 20, 2)
        structure = rng.random(size) < rng.uniform(0.05, 0.5)
        structure[[0, -1], rng.integers(size[1], size=2)] = True  # fills its rows
        corners = convex_hull(structure)
        rows, columns = np.indices(structure.shape)
        expected = np.ones(structure.shape, bool)
        for (r0, c0), (r1, c1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            expected &= (r1 - r0) * (columns - c0) >= (c1 - c0) * (rows - r0)
        np.testing.assert_array_equal(inside_hull(corners, structure.shape), expected)


@pytest.mark.parametrize("size", [1, 2, 5, 17])
def test_circularity_of_a_square_with_cut_corners(size):
    square = np.zeros((20, 20), bool)
    square[1 : 1 + size, 1 : 1 + size] = True
    area, perimeter = size**2 - 0.5, 4 * (size - 1) + 4 * np.sqrt(0.5)
    expected = 4 * np.pi * area / perimeter**2
    assert circularity(square, (1.0, 1.0)) == pytest.approx(expected)
    assert circularity(square, (2.5, 2.5)) == pytest.approx(expected)


def test_circularity_of_a_diagonal_thread():
    # Of 6 pixels joined at corners: 5 joints (3/4 of a window, 2 half diagonals), 2 windows at the
    # ends and 12 beside the thread (1/8, 1 half diagonal each).
    area, perimeter = 5 * 3 / 4 + 14 / 8, (5 * 2 + 14) * np.sqrt(0.5)
    expected = 4 * np.pi * area / perimeter**2
    assert circularity(np.eye(6, dtype=bool), (1.0, 1.0)) == pytest.approx(expected)


def test_circularity_is_at_most_one_and_falls_with_elongation():
    values = [circularity(ellipse((20, minor)), (1.0, 1.0)) for minor in (20, 15, 10, 5, 1)]
    assert 0.85 < values[0] < 1
    assert (np.diff(values) < 0).all()


def test_circularity_is_of_millimeters():
    long = ellipse((20, 10))
    assert circularity(long, (1.0, 2.0)) == pytest.approx(
        circularity(ellipse((20, 20)), (1.0, 1.0)), abs=0.1
    )
    assert circularity(long, (2.0, 1.0)) < circularity(long, (1.0, 1.0))


def test_circularity_of_nothing_is_unknown():
    assert np.isnan(circularity(np.zeros((4, 4), bool), (1.0, 1.0)))
