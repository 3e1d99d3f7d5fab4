"""What a corrector makes of a slice is what the shape model is shown."""

from dataclasses import replace

import numpy as np
import pytest
from promises import SPACING_MM, assert_kept_promises, intensities, soft
from stub_model import UntrainableModel

from cardiac_vae.correction.corrector import Corrector
from cardiac_vae.correction.network import Config, Network
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.explanation import ExplanationConfig
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.refine import RefinementConfig, Refiner
from cardiac_vae.refinement.result import UNTOUCHED
from cardiac_vae.refinement.window import HeartWindow

SIZE, PIXEL_MM = 96, 1.5  # of the refiner
PROJECTION = RefinementConfig(segmenter_exponent=0)


class Echo(UntrainableModel):
    """Explains a slice by itself."""

    latent_sizes = ()

    def encode(self, mask, is_broken=None, condition=None, temperature=0.0):
        return [mask]

    def decode(self, latents, temperature=0.0, condition=None):
        return latents[0].clamp(min=1e-6).log()


class Expert:
    """Knows what slices should look like, all but for certain, and keeps what it was shown."""

    def __init__(self, truth):
        self.truth, self.shown = truth, []

    def require_grid(self, size, pixel_mm):
        assert (size, pixel_mm) == (SIZE, PIXEL_MM)

    def correct(self, given, chosen):
        self.shown.append((given.copy(), chosen.tolist()))
        return (0.001 + 0.996 * one_hot_planes(self.truth[chosen])).astype(np.float32)


@pytest.fixture
def drawn(half_broken):
    """Return a volume whose slice 2 lacks half of its RV as well; what it was is valid."""
    volume = half_broken.copy()
    volume[2, 50:][volume[2, 50:] == 1] = 0
    return volume


@pytest.fixture
def window(drawn):
    return HeartWindow.around(drawn, SPACING_MM, SIZE, PIXEL_MM)


@pytest.fixture
def expert(whole_volume, window):
    return Expert(window.masks_to_prepared(window.cut(whole_volume)))


def told_by(refiner, corrector, config=PROJECTION, model=None):
    known = Calibration(corrector=corrector)
    return Refiner(model or Echo(), refiner.anchors, refiner.pixel_mm, config, known)


@pytest.mark.parametrize("has_probabilities", [False, True])
def test_a_broken_slice_is_explained_as_it_was_corrected(
    refiner, drawn, expert, whole_volume, rng, has_probabilities
):
    seen = soft(rng, drawn) if has_probabilities else None
    result = told_by(refiner, expert).refine(drawn, SPACING_MM, seen)
    assert_kept_promises(result, drawn, SPACING_MM)
    np.testing.assert_array_equal(result.mask, whole_volume)
    assert [decision.route for decision in result.slices if decision.index != 2] == [UNTOUCHED] * 3


def test_the_segmenters_own_word_stays_in_the_product(refiner, drawn, expert, whole_volume, rng):
    """A corrector that is as sure of another wall as the segmenter is of its own is outvoted."""
    outspoken = RefinementConfig(segmenter_exponent=20)
    result = told_by(refiner, expert, outspoken).refine(drawn, SPACING_MM, soft(rng, drawn))
    half = drawn[2] != whole_volume[2]
    assert (result.mask[2] != whole_volume[2])[half].mean() > 0.5


def test_a_correction_that_is_no_heart_is_not_taken_as_it_is(refiner, drawn, expert):
    expert.truth = expert.truth.copy()
    expert.truth[2, 40:44] = 3
    result = told_by(refiner, expert).refine(drawn, SPACING_MM)
    assert_kept_promises(result, drawn, SPACING_MM)
    assert not result.is_refused


def test_a_correction_that_takes_a_structure_away_is_not_shown(refiner, drawn, expert):
    expert.truth = np.where(expert.truth == 1, 0, expert.truth)
    alone = Refiner(Echo(), refiner.anchors, refiner.pixel_mm, PROJECTION)
    kept = told_by(refiner, expert).refine(drawn, SPACING_MM)
    assert expert.shown
    np.testing.assert_array_equal(kept.mask, alone.refine(drawn, SPACING_MM).mask)


def test_the_corrector_sees_the_whole_stack_as_the_shape_model_would(
    refiner, drawn, expert, window, rng
):
    seen = soft(rng, drawn)
    for probabilities in (None, seen):
        told_by(refiner, expert).refine(drawn, SPACING_MM, probabilities)
        given, chosen = expert.shown[-1]
        assert given.shape == (len(drawn), 4, SIZE, SIZE)
        assert chosen == [2]
        _, expected = window.shown(drawn, np.zeros(drawn.shape, bool), probabilities)
        np.testing.assert_array_equal(given, expected)


def test_the_whole_volume_is_corrected_if_asked(refiner, drawn, expert, whole_volume):
    expert.truth = np.roll(expert.truth, 2, axis=1)
    whole = told_by(refiner, expert, RefinementConfig(segmenter_exponent=0, whole_volume=True))
    result = whole.refine(drawn, SPACING_MM)
    np.testing.assert_array_equal(result.mask, np.roll(whole_volume, 2, axis=1))
    assert [chosen for _, chosen in expert.shown] == [[1, 2, 3]]


def test_a_valid_volume_is_not_shown_to_the_corrector(refiner, whole_volume, expert):
    result = told_by(refiner, expert).refine(whole_volume, SPACING_MM)
    assert not result.is_changed
    assert expert.shown == []


def test_scans_and_moving_codes_go_with_a_corrector(refiner, drawn, expert, whole_volume):
    config = RefinementConfig(explanation=ExplanationConfig(mode="optimized", max_steps=1))
    result = told_by(refiner, expert, config, refiner.model).refine(
        drawn, SPACING_MM, image=intensities(whole_volume)
    )
    assert_kept_promises(result, drawn, SPACING_MM)
    assert expert.shown


@pytest.mark.parametrize(("size", "pixel_mm"), [(48, PIXEL_MM), (SIZE, 1.25)])
def test_a_corrector_of_another_grid_is_refused(refiner, size, pixel_mm):
    config = Config(image_size=size, patch_size=4, channels=(4,))
    other = Corrector(config, Network(config).eval(), pixel_mm)
    with pytest.raises(ValueError, match=rf"corrector: expected a shape model of {size} pixels"):
        told_by(refiner, other)
    own = replace(other, config=Config(image_size=SIZE, channels=(4,)), pixel_mm=PIXEL_MM)
    assert told_by(refiner, own).calibration.corrector is own
