"""A fit small enough for a test, and hearts to learn."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from small_fit import small_fit
from torch import Tensor

from cardiac_vae.training.fit import FitConfig


@pytest.fixture(autouse=True)
def _keep_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def fit_config() -> Callable[..., FitConfig]:
    """Return a small ``FitConfig`` with changes."""
    return small_fit


@pytest.fixture
def hearts() -> Tensor:
    """Return (6, 16, 16) uint8: an LV of several sizes in its wall, beside an RV."""
    rows, columns = np.mgrid[:16, :16]
    masks = np.zeros((6, 16, 16), np.uint8)
    for index, mask in enumerate(masks):
        radius = np.hypot(rows - 8, columns - 10)
        mask[np.hypot(rows - 8, columns - 4) < 3 + index / 3] = 1
        mask[radius < 4 + index / 4] = 2
        mask[radius < 2 + index / 4] = 3
    return torch.from_numpy(masks)
