"""Hearts whole and broken, and a refiner whose model knows nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cardiac_vae.refinement.refine import Refiner

pytest.register_assert_rewrite("promises")  # a promise that is broken says what it got


@pytest.fixture(scope="session")
def refiner(tiny_model: Path) -> Refiner:
    return Refiner.load(tiny_model)


@pytest.fixture(scope="session")
def broken_volume(heart: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a function that draws a volume whose slices are broken in many ways."""

    def draw(
        seed: int, pixel_mm: tuple[float, float] = (1.5, 1.5), num_slices: int = 4
    ) -> np.ndarray:
        """Return (D, H, W) uint8 over about 150 mm a side; the first slice is empty."""
        rng = np.random.default_rng(seed)
        shape = (round(150 / pixel_mm[0]), round(140 / pixel_mm[1]))
        volume = np.zeros((num_slices, *shape), np.uint8)
        for plane in volume[1:]:
            plane[:] = heart(shape, pixel_mm, lv_mm=rng.uniform(4, 22), wall_mm=rng.uniform(4, 10))
            plane[:] = np.roll(plane, rng.integers(-8, 9, 2), axis=(0, 1))
            for _ in range(rng.integers(1, 6)):
                row, column = (rng.integers(size) for size in shape)
                height, width = rng.integers(1, 20, 2)
                plane[row : row + height, column : column + width] = rng.integers(4)
            speckled = rng.random(shape) < rng.choice([0, 0.01, 0.3])
            plane[speckled] = rng.integers(0, 4, speckled.sum())
        return volume

    return draw


@pytest.fixture(scope="session")
def whole_volume(heart: Callable[..., np.ndarray]) -> np.ndarray:
    """Return (4, 100, 90) uint8: an empty slice, then a heart that tapers and breaks nothing."""
    empty = np.zeros((100, 90), np.uint8)
    return np.stack([empty, heart(), heart(lv_mm=14.0), heart(lv_mm=10.0)])


@pytest.fixture
def half_broken(whole_volume: np.ndarray) -> np.ndarray:
    """Return a volume whose slice 2 has a breach of the wall, the others nothing."""
    volume = whole_volume.copy()
    volume[2, 50, 50:75] = 3
    return volume
