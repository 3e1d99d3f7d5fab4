"""A corrector small enough for tests, trained on nothing or on next to nothing."""

import numpy as np
import pytest
import torch

from cardiac_vae.correction.network import Config


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def config():
    return Config(image_size=16, patch_size=2, channels=(8, 16))


@pytest.fixture
def some_slices(rng):
    """Return a function that draws probabilities (N, 4, 16, 16) float32 of any sort."""

    def draw(count: int) -> np.ndarray:
        return rng.dirichlet([0.3] * 4, (count, 16, 16)).transpose(0, 3, 1, 2).astype(np.float32)

    return draw
