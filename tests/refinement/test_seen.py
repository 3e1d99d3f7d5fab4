"""What a segmenter and a corrector say of the structures in the slices of a drawn stack."""

from types import SimpleNamespace

import numpy as np
import pytest
from promises import SPACING_MM, soft

from cardiac_vae.labels import HEART, Structure
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.seen import seen_stack, stack_evidence
from cardiac_vae.refinement.stack.evidence import FEATURES_CORRECTED, slice_evidence
from cardiac_vae.refinement.window import HeartWindow

RV = HEART.index(Structure.RV)
LV = HEART.index(Structure.LV)


class Corrector:
    """Makes of every slice what it is told to, or leaves it as given; keeps what it was shown."""

    config = SimpleNamespace(image_size=96)
    pixel_mm = 1.5

    def __init__(self, corrected=None):
        self.corrected, self.shown = corrected, []

    def correct(self, given, chosen):
        self.shown.append(given)
        assert chosen.tolist() == list(range(len(given)))
        return given if self.corrected is None else self.corrected


@pytest.fixture
def seen(whole_volume, rng):
    return soft(rng, whole_volume)


def test_without_a_corrector_the_segmenter_alone_is_heard(whole_volume, seen):
    evidence = stack_evidence(whole_volume, seen, SPACING_MM)
    np.testing.assert_array_equal(evidence, slice_evidence(whole_volume, seen, (1.5, 1.5)))


def test_a_corrector_speaks_beside_the_segmenter(whole_volume, seen):
    """One that draws an RV of 100 pixels of 2.25 mm^2 in the empty slice, all but for certain."""
    corrected = np.zeros((4, 96, 96), np.uint8)
    corrected[0, 40:50, 40:50] = Structure.RV
    corrector = Corrector(0.04 / 4 + 0.96 * one_hot_planes(corrected))
    evidence = stack_evidence(whole_volume, seen, SPACING_MM, corrector)
    assert evidence.shape == (4, 3, len(FEATURES_CORRECTED))
    np.testing.assert_array_equal(evidence[..., :2], stack_evidence(whole_volume, seen, SPACING_MM))
    assert evidence[0, RV, 2] == pytest.approx(np.log(1 + 100 * 2.25 / 50))
    assert evidence[0, RV, 3] == pytest.approx(np.log(0.97 / 0.03))
    assert evidence[1, LV, 2] == 0
    assert evidence[1, LV, 3] == pytest.approx(np.log(0.01 / 0.99))


def test_one_that_changes_nothing_says_the_same(whole_volume):
    """On the prepared grid, which has the pixels of the slices here, in another window."""
    seen = (0.96 * one_hot_planes(whole_volume) + 0.01).astype(np.float32)
    evidence = stack_evidence(whole_volume, seen, SPACING_MM, Corrector())
    np.testing.assert_allclose(evidence[..., 2:], evidence[..., :2], rtol=1e-4)


def test_it_sees_the_window_of_the_heart_without_what_lies_apart(whole_volume, seen):
    apart = whole_volume.copy()
    apart[0, 5:9, 5:9] = Structure.RV
    is_loose = apart != whole_volume
    corrector = Corrector()
    stack_evidence(apart, seen, SPACING_MM, corrector)
    window = HeartWindow.around(whole_volume, SPACING_MM, 96, 1.5)
    _, expected = window.shown(apart, is_loose, seen)
    np.testing.assert_array_equal(corrector.shown[0], expected)
    found, given = seen_stack(apart, seen, SPACING_MM, 96, 1.5)
    np.testing.assert_array_equal(given, expected)
    assert found.native == window.native


def test_where_nothing_is_drawn_there_is_nothing_to_correct(whole_volume, seen):
    nothing = np.zeros_like(whole_volume)
    corrector = Corrector()
    evidence = stack_evidence(nothing, seen, SPACING_MM, corrector)
    assert corrector.shown == []
    np.testing.assert_array_equal(evidence[..., 2:], evidence[..., :2])


@pytest.mark.parametrize("corrector", [None, Corrector()])
def test_probabilities_of_another_grid_are_refused(whole_volume, seen, corrector):
    with pytest.raises(ValueError, match=r"probabilities: expected .* on the mask's grid"):
        stack_evidence(whole_volume, seen[:, :, 1:], SPACING_MM, corrector)
