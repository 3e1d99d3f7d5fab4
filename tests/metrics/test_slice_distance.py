import numpy as np
import pytest
from scipy import ndimage

from cardiac_vae.labels import Structure
from cardiac_vae.metrics import slice_distance as module
from cardiac_vae.metrics.slice_distance import pairwise_slice_distances, slice_distance
from cardiac_vae.metrics.surface import average_surface_distance

PIXEL_MM = (1.5, 1.2)
DIAGONAL = float(np.hypot(20 * 1.5, 18 * 1.2))


@pytest.fixture
def masks(rng) -> np.ndarray:
    """Return nine slices of random blobs; some lack a structure, one lacks all."""
    noise = ndimage.gaussian_filter(rng.standard_normal((9, 4, 20, 18)), (0, 0, 2, 2))
    found = noise.argmax(axis=1).astype(np.uint8)
    found[1][found[1] == Structure.RV] = 0
    found[2][found[2] != Structure.MYO] = 0
    found[3] = 0
    return found


def test_every_pair_is_what_it_is_alone(masks, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 2)
    found = pairwise_slice_distances(masks[:4], masks, PIXEL_MM)
    expected = [[slice_distance(a, b, PIXEL_MM) for b in masks] for a in masks[:4]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.isnan(found[3, 3])
    assert np.isnan(found).sum() == 1
    assert (np.diag(found)[:3] == 0).all()


def test_distance_is_the_mean_over_structures(masks):
    a, b = masks[4:6]
    parts = [
        average_surface_distance(a[None] == s, b[None] == s, (1.0, *PIXEL_MM)) for s in (1, 2, 3)
    ]
    assert slice_distance(a, b, PIXEL_MM) == pytest.approx(np.mean(parts))
    assert slice_distance(b, a, PIXEL_MM) == pytest.approx(np.mean(parts))


def test_a_missing_structure_costs_the_diagonal_and_so_does_one_too_many(masks):
    without = np.where(masks[4] == Structure.RV, 0, masks[4])
    assert slice_distance(masks[4], without, PIXEL_MM) == pytest.approx(DIAGONAL / 3)
    assert slice_distance(without, masks[4], PIXEL_MM) == pytest.approx(DIAGONAL / 3)
    assert slice_distance(without, without, PIXEL_MM) == 0
    assert slice_distance(masks[4], masks[3], PIXEL_MM) == pytest.approx(DIAGONAL)


def test_leaving_out_a_structure_never_pays(masks):
    reference = masks[4]
    for predicted in masks[5:]:
        for structure in (1, 2, 3):
            missed = np.where(predicted == structure, 0, predicted)
            worst = np.where(predicted == structure, 0, predicted)
            worst[-1, -1] = structure  # found, though as a speck in a far corner
            assert slice_distance(reference, missed, PIXEL_MM) >= slice_distance(
                reference, worst, PIXEL_MM
            )


def test_shifted_rows_are_as_far_apart_as_they_were_shifted():
    mask, shifted = np.zeros((2, 20, 18), np.uint8)
    mask[4], shifted[7] = Structure.LV, Structure.LV
    assert slice_distance(mask, shifted, PIXEL_MM) == pytest.approx(3 * 1.5)
    assert pairwise_slice_distances(mask[None], shifted[None], PIXEL_MM).item() == pytest.approx(
        4.5
    )


def test_bad_input_is_refused(masks):
    with pytest.raises(ValueError, match="two label maps"):
        slice_distance(masks, masks, PIXEL_MM)
    with pytest.raises(ValueError, match="of one size"):
        pairwise_slice_distances(masks, masks[:, :5], PIXEL_MM)
