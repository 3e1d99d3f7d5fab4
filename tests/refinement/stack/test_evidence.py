import numpy as np
import pytest

from cardiac_vae.refinement.stack.evidence import peaks, slice_evidence


@pytest.fixture
def drawn():
    """Return a mask (2, 20, 20) with an LV of 100 pixels, and probabilities of 0.9 for it."""
    mask = np.zeros((2, 20, 20), np.uint8)
    mask[0, 5:15, 5:15] = 3
    probabilities = np.full((2, 4, 20, 20), 0.1 / 3)
    np.put_along_axis(probabilities, mask[:, None].astype(int), 0.9, axis=1)
    return mask, probabilities


def test_area_and_peak_of_a_hand_computed_slice(drawn):
    evidence = slice_evidence(*drawn, (1.0, 1.0))
    assert evidence.shape == (2, 3, 2)
    assert evidence[0, 2, 0] == pytest.approx(np.log(1 + 100 / 50))
    assert evidence[0, 2, 1] == pytest.approx(np.log(9))
    assert evidence[1, 2, 0] == 0
    assert evidence[0, 0, 1] == pytest.approx(np.log(0.1 / 3 / (1 - 0.1 / 3)))


def test_area_is_in_mm_whatever_the_pixels(drawn):
    mask, probabilities = drawn
    fine = [array.repeat(2, axis=-1).repeat(2, axis=-2) for array in (mask, probabilities)]
    np.testing.assert_allclose(
        slice_evidence(*fine, (0.5, 0.5)), slice_evidence(mask, probabilities, (1.0, 1.0))
    )


def test_the_peak_is_the_mean_over_50_square_millimeters():
    probabilities = np.zeros((1, 4, 10, 10))
    probabilities[0, 1].ravel()[:25] = 0.8
    probabilities[0, 1].ravel()[25:75] = 0.2
    assert peaks(probabilities, (1.0, 1.0))[0, 0] == pytest.approx(0.5)
    assert peaks(probabilities, (2.0, 1.0))[0, 0] == pytest.approx(0.8)
    assert peaks(probabilities, (1.0, 1.0))[0, 1:] == pytest.approx(1e-4)  # never ruled out
    assert peaks(probabilities, (0.1, 0.1))[0, 0] == pytest.approx(0.3)  # the whole slice is less


def test_another_grid_is_refused(drawn):
    with pytest.raises(ValueError, match=r"grid, \(2, 4, 20, 20\), got shape \(1, 4, 20, 20\)"):
        slice_evidence(drawn[0], drawn[1][:1], (1.0, 1.0))
