import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from cardiac_vae.metrics.surface import (
    average_surface_distance,
    hausdorff95,
    surface_distances,
    volume_diagonal_mm,
)

BOTH = pytest.mark.parametrize("distance", [hausdorff95, average_surface_distance])
SPACING_MM = (8.0, 1.5, 1.2)


@pytest.fixture
def blobs(rng) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs of random masks (3, 9, 8), none empty."""
    noise = ndimage.gaussian_filter(rng.standard_normal((10, 2, 3, 9, 8)), (0, 0, 0.5, 1, 1))
    return [(a > np.median(a), b > np.quantile(b, 0.7)) for a, b in noise]


def brute_force_surface(mask: np.ndarray) -> np.ndarray:
    """Return the positions of the voxels with a free face neighbor, (N, 3)."""
    padded = np.pad(mask, 1)
    faces = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, -1), (0, -1, 0), (-1, 0, 0)]
    return np.array(
        [
            position
            for position in np.argwhere(mask)
            if not all(padded[tuple(position + 1 + np.array(face))] for face in faces)
        ]
    )


def test_distances_equal_brute_force(blobs):
    for reference, predicted in blobs:
        surfaces = [brute_force_surface(mask) * SPACING_MM for mask in (reference, predicted)]
        between = cdist(*surfaces)
        there, back = between.min(axis=1), between.min(axis=0)
        expected95 = max(np.percentile(there, 95), np.percentile(back, 95))
        assert hausdorff95(reference, predicted, SPACING_MM) == pytest.approx(expected95)
        assert average_surface_distance(reference, predicted, SPACING_MM) == pytest.approx(
            np.concatenate([there, back]).mean()
        )


def test_shifted_plate_has_the_shift_as_distance():
    plate, shifted = np.zeros((2, 5, 20, 20), bool)
    plate[2, 5:15, 5:15] = True
    shifted[3, 5:15, 5:15] = True
    for distance in (hausdorff95, average_surface_distance):
        assert distance(plate, shifted, (8.0, 1.5, 1.5)) == pytest.approx(8.0)


def test_percentile_forgives_a_twentieth_and_the_mean_does_not():
    line, dotted = np.zeros((2, 1, 8, 40), bool)
    line[0, 0] = dotted[0, 0] = True
    dotted[0, 7, 0] = True  # 1 of 41 surface voxels is 7 pixels off
    assert hausdorff95(line, dotted, (1.0, 1.0, 1.0)) == 0
    assert average_surface_distance(line, dotted, (1.0, 1.0, 1.0)) == pytest.approx(7 / 81)


def test_single_slice_has_an_outline_for_surface():
    disk = np.zeros((1, 9, 9), bool)
    disk[0, 2:7, 2:7] = True
    there, _ = surface_distances(disk, disk, (1.0, 1.0, 1.0))
    assert len(there) == 16


@BOTH
def test_distance_is_symmetric_zero_to_itself_and_scales_with_spacing(distance, blobs):
    doubled = tuple(2 * size for size in SPACING_MM)
    for reference, predicted in blobs:
        value = distance(reference, predicted, SPACING_MM)
        assert value > 0
        assert distance(predicted, reference, SPACING_MM) == pytest.approx(value)
        assert distance(reference, predicted, doubled) == pytest.approx(2 * value)
        assert distance(reference, reference, SPACING_MM) == 0


@BOTH
def test_empty_space_around_changes_nothing(distance, blobs):
    for reference, predicted in blobs:
        reference, predicted = (np.pad(m, ((1, 1), (1, 1), (1, 1))) for m in (reference, predicted))
        wide = [np.pad(mask, ((1, 2), (9, 0), (4, 5))) for mask in (reference, predicted)]
        assert distance(*wide, SPACING_MM) == pytest.approx(
            distance(reference, predicted, SPACING_MM)
        )


@BOTH
def test_missed_structure_is_infinitely_far_and_absent_one_nowhere(distance):
    empty, full = np.zeros((2, 4, 4), bool), np.ones((2, 4, 4), bool)
    assert distance(full, empty, SPACING_MM) == np.inf
    assert distance(empty, full, SPACING_MM) == np.inf
    assert np.isnan(distance(empty, empty, SPACING_MM))


def test_no_distance_is_longer_than_the_diagonal():
    near, far = np.zeros((2, 4, 5, 6), bool)
    near[0, 0, 0] = far[-1, -1, -1] = True
    diagonal = volume_diagonal_mm((4, 5, 6), SPACING_MM)
    assert diagonal == pytest.approx(np.sqrt(32**2 + 7.5**2 + 7.2**2))
    assert hausdorff95(near, far, SPACING_MM) < diagonal


@BOTH
def test_bad_input_is_refused(distance):
    mask = np.ones((2, 3, 3), bool)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3, 3\) and \(1, 3, 3\)"):
        distance(mask, mask[:1], SPACING_MM)
    with pytest.raises(ValueError, match=r"masks \(D, H, W\)"):
        distance(mask[0], mask[0], SPACING_MM)
    with pytest.raises(ValueError, match="spacing_mm: expected three positive"):
        distance(mask, mask, (8.0, 0.0, 1.0))
