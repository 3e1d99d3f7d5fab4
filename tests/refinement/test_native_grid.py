import numpy as np
import pytest
import torch

from cardiac_vae.refinement.native_grid import NativeGrid
from cardiac_vae.refinement.window import HeartWindow


@pytest.mark.parametrize("pixel_mm", [(1.5, 1.5), (0.7, 0.9), (2.1, 1.8), (1.3671875, 3.0)])
def test_it_is_the_resampling_of_the_window(rng, heart, pixel_mm):
    mask = heart((90, 80), pixel_mm)[None]
    mask = np.roll(mask, (20, -12), axis=(1, 2))  # the window ends beyond the scan
    window = HeartWindow.around(mask, (8.0, *pixel_mm), 32, 1.5)
    probabilities = rng.dirichlet(np.ones(4), (3, 32, 32)).transpose(0, 3, 1, 2).astype(np.float32)
    grid = NativeGrid.of(window)
    found = grid(torch.from_numpy(probabilities))
    np.testing.assert_allclose(found, window.to_native(probabilities), atol=1e-5)
    expected = 1.5**2 / (pixel_mm[0] * pixel_mm[1])
    assert grid.pixels_per_prepared == pytest.approx(expected)
