import math

import numpy as np
import pytest
from scipy import fft

from cardiac_vae.data.scan_corruption import (
    ScanCorruptionConfig,
    add_ghosts,
    add_rician_noise,
    bias_field,
    corrupt_case,
    corrupt_scan,
)

SPACING = (8.0, 1.5, 1.25)
COARSE = (8.0, 6.0, 5.0)
NOTHING = {"noise": 0.0, "bias": 0.0, "ghosting": 0.0}


@pytest.fixture
def image(rng):
    return rng.gamma(2.0, 50.0, size=(3, 48, 60)).astype(np.float32)


def test_no_strength_changes_nothing(image, rng):
    same = corrupt_scan(image, SPACING, rng, ScanCorruptionConfig(**NOTHING))
    np.testing.assert_array_equal(same, image)


@pytest.mark.parametrize("kind", ["noise", "bias", "ghosting"])
def test_each_corruption_alone_keeps_shape_and_is_a_magnitude(image, rng, kind):
    before = image.copy()
    corrupted = corrupt_scan(image, COARSE, rng, ScanCorruptionConfig(**NOTHING | {kind: 0.3}))
    assert corrupted.shape == image.shape
    assert corrupted.dtype == np.float32
    assert np.isfinite(corrupted).all()
    assert (corrupted >= 0).all()
    assert not np.allclose(corrupted, image, rtol=0.01)
    np.testing.assert_array_equal(image, before)


def test_all_together_is_a_function_of_the_seed(image):
    first, again, other = (
        corrupt_scan(image, COARSE, np.random.default_rng(seed), ScanCorruptionConfig())
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_case_is_made_worse_by_a_stream_of_its_own(image):
    def worse(case_id, seed=0):
        return corrupt_case(case_id, image, COARSE, seed, ScanCorruptionConfig())

    alone = worse("p1_ed")
    others = [worse("p2_ed"), worse("p1_es"), worse("p1_ed", seed=1)]
    np.testing.assert_array_equal(worse("p1_ed"), alone)  # whatever came in between
    drawn = [alone, *others]
    assert not any(np.array_equal(a, b) for n, a in enumerate(drawn) for b in drawn[:n])


def test_leaving_the_noise_out_keeps_bias_and_ghosts(image):
    full, quiet = (
        corrupt_scan(image, COARSE, np.random.default_rng(1), ScanCorruptionConfig(noise=noise))
        for noise in (1e-6, 0.0)
    )
    np.testing.assert_allclose(full, quiet, atol=0.01)


def test_a_bright_point_has_replicas_of_half_the_strength_a_quarter_of_the_rows_away(rng):
    image = np.zeros((2, 48, 10), np.float32)
    image[:, 5, 7] = 100.0
    ghosts = add_ghosts(image, rng, strength=0.4, num_ghosts=4)
    expected = image.copy()
    expected[:, [5 + 12, (5 - 12) % 48], 7] = 100.0 * 0.4 / 2
    np.testing.assert_allclose(ghosts, expected, atol=1e-3)


def test_ghosts_lie_along_the_phase_axis(rng):
    image = np.zeros((1, 10, 30), np.float32)
    image[0, 4, 15] = 1.0
    ghosts = add_ghosts(image, rng, strength=0.2, num_ghosts=3, phase_axis="column")
    np.testing.assert_allclose(ghosts[0, 4, [5, 15, 25]], [0.1, 1.0, 0.1], atol=1e-6)
    assert ghosts[0, [0, 1, 2, 3, 5, 6, 7, 8, 9]].max() < 1e-6


def test_ghosts_keep_their_place_but_not_their_phase_between_slices(rng):
    image = np.zeros((2, 12, 4), np.float32)
    image[:, 3, 1] = image[:, 6, 1] = 1.0
    ghosts = add_ghosts(image, rng, strength=0.5, num_ghosts=4)  # a replica falls on each point
    assert abs(ghosts[0, 3, 1] - ghosts[1, 3, 1]) > 0.01


def test_the_bias_field_has_mean_one_and_the_spread_asked_for(rng):
    field = bias_field((4, 160, 200), SPACING, rng, strength=0.3, scale_mm=100.0)
    assert (field > 0).all()
    assert field.mean() == pytest.approx(1.0, abs=1e-5)
    assert np.log(field).std() == pytest.approx(0.3, abs=1e-4)


def test_the_bias_field_has_no_wave_shorter_than_its_scale(rng):
    field = bias_field((4, 160, 200), SPACING, rng, strength=0.3, scale_mm=60.0)
    waves = np.abs(fft.dctn(np.log(field.astype(float)), norm="ortho"))
    waves[0, 0, 0] = 0
    slices, rows, columns = (np.nonzero(waves > 1e-3)[axis] for axis in range(3))
    assert slices.max() == 0  # 4 slices of 8 mm hold no half-wave of 60 mm
    assert rows.max() == 4  # 240 mm
    assert columns.max() == 4  # 250 mm


def test_a_scan_smaller_than_the_bias_scale_keeps_its_intensities(rng):
    field = bias_field((2, 8, 8), (8.0, 1.0, 1.0), rng, strength=0.5, scale_mm=100.0)
    np.testing.assert_array_equal(field, np.ones((2, 8, 8)))


def test_noise_is_normal_where_there_is_signal_and_rayleigh_where_there_is_none(rng):
    image = np.zeros((2, 200, 200), np.float32)
    image[0] = 1000.0
    noisy = add_rician_noise(image, rng, sigma=20.0)
    assert noisy[0].std() == pytest.approx(20.0, rel=0.03)
    assert noisy[0].mean() == pytest.approx(1000.0 + 20.0**2 / 2000.0, abs=0.4)
    assert noisy[1].mean() == pytest.approx(20.0 * math.sqrt(math.pi / 2), rel=0.03)
    assert noisy[1].std() == pytest.approx(20.0 * math.sqrt(2 - math.pi / 2), rel=0.03)


def test_noise_is_a_share_of_the_bright_tissue(rng):
    image = np.full((1, 200, 200), 500.0, np.float32)
    config = ScanCorruptionConfig(**NOTHING | {"noise": 0.04})
    assert corrupt_scan(image, SPACING, rng, config).std() == pytest.approx(20.0, rel=0.03)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4)), np.full((1, 4, 4), np.nan), np.full((1, 4, 4), -1.0)],
    ids=["two-dimensional", "nan", "negative"],
)
def test_what_is_no_magnitude_image_is_refused(wrong, rng):
    with pytest.raises(ValueError, match=r"expected a \(D, H, W\) magnitude image"):
        corrupt_scan(wrong, SPACING, rng, ScanCorruptionConfig())
