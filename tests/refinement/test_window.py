import numpy as np
import pytest

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.window import HeartWindow

PIXELS_MM = [(1.5, 1.5), (0.7, 0.7), (2.0, 1.2)]


def around(mask, pixel_mm, size=64):
    return HeartWindow.around(mask, (8.0, *pixel_mm), size, 1.5)


@pytest.mark.parametrize("pixel_mm", PIXELS_MM)
def test_the_window_holds_the_heart_and_pastes_it_where_it_was(heart, pixel_mm):
    shape = tuple(round(150 / size) for size in pixel_mm)
    mask = heart(shape, pixel_mm, lv_mm=12.0)[None]
    window = around(mask, pixel_mm)
    inner = window.cut(mask)
    assert inner.shape[1:] == window.native.shape
    assert inner.shape[1] * pixel_mm[0] == pytest.approx(64 * 1.5, abs=pixel_mm[0])
    np.testing.assert_array_equal(window.paste(inner[0]), mask[0])
    origin = (window.rows.start * pixel_mm[0], window.columns.start * pixel_mm[1])
    assert window.native.origin_mm == pytest.approx(origin)


def test_a_window_larger_than_the_slice_is_the_slice(heart):
    mask = heart((50, 40), lv_mm=8.0)[None]
    window = around(mask, (1.5, 1.5))
    assert window.native == window.whole
    np.testing.assert_array_equal(window.cut(mask), mask)


def test_masks_go_to_the_prepared_grid_and_back_exactly_on_its_own_pixels(heart):
    mask = heart(lv_mm=12.0)[None]
    window = around(mask, (1.5, 1.5))
    prepared = window.masks_to_prepared(window.cut(mask))
    assert prepared.shape == (1, 64, 64)
    np.testing.assert_array_equal(window.masks_to_native(prepared), window.cut(mask))


@pytest.mark.parametrize("pixel_mm", PIXELS_MM)
def test_probabilities_stay_probabilities_both_ways(heart, rng, pixel_mm):
    shape = tuple(round(150 / size) for size in pixel_mm)
    window = around(heart(shape, pixel_mm, lv_mm=12.0)[None], pixel_mm)
    odds = rng.random((2, 4, *window.native.shape)).astype(np.float32)
    prepared = window.to_prepared(odds / odds.sum(axis=1, keepdims=True))
    assert prepared.shape == (2, 4, 64, 64)
    native = window.to_native(prepared)
    assert native.shape == odds.shape
    for probabilities in (prepared, native):
        assert probabilities.min() >= 0
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_border_that_the_window_hides_counts(heart):
    """An LV that fills the window has no background in it, but on the slice it has."""
    window = around(heart()[None], (1.5, 1.5))
    full = np.full(window.native.shape, 3, np.uint8)
    assert is_valid(full, (1.5, 1.5))
    assert not window.is_valid(full)
    full[[0, -1]] = full[:, [0, -1]] = 2
    assert window.is_valid(full)


@pytest.fixture
def half_believed(heart):
    """Return a mask (2, 100, 90), where it is not believed, and a window on its own pixels."""
    mask = np.stack([heart(lv_mm=12.0), heart(lv_mm=9.0)])
    is_wrong = np.zeros(mask.shape, bool)
    is_wrong[1] = mask[1] == 1
    return mask, is_wrong, around(mask, (1.5, 1.5))


def test_of_a_mask_alone_what_is_believed_is_shown(half_believed):
    mask, is_wrong, window = half_believed
    seen, given = window.shown(mask, is_wrong, None)
    believed = mask.copy()
    believed[1][believed[1] == 1] = 0
    assert seen is None
    np.testing.assert_array_equal(given, one_hot_planes(window.cut(believed)))
    assert given.dtype == np.float32
    assert given.shape == (2, 4, 64, 64)


def test_of_probabilities_a_structure_not_believed_keeps_a_thousandth(half_believed):
    mask, is_wrong, window = half_believed
    probabilities = 0.1 + 0.6 * one_hot_planes(mask).astype(np.float64)
    seen, given = window.shown(mask, is_wrong, probabilities)
    expected = probabilities.copy()
    expected[1].transpose(1, 2, 0)[is_wrong[1]] = np.array([0.1, 0.0007, 0.1, 0.1]) / 0.3007
    np.testing.assert_allclose(seen, window.cut(expected), rtol=1e-5)
    np.testing.assert_allclose(given, seen, atol=1e-6)  # the window is on the slices' own pixels
    assert seen.dtype == given.dtype == np.float32
    coarser = HeartWindow.around(mask, (8.0, 1.5, 1.5), 32, 3.0)
    seen, given = coarser.shown(mask, is_wrong, probabilities)
    np.testing.assert_allclose(given, coarser.to_prepared(seen))
    assert given.shape == (2, 4, 32, 32)
