"""Masks small enough for a model that fits in a test."""

import pytest
import torch
from torch import Tensor

from cardiac_vae.data.transforms import one_hot


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def masks() -> Tensor:
    """Return (5, 4, 16, 16) one-hot masks of nothing in particular."""
    return one_hot(torch.randint(4, (5, 16, 16)))
