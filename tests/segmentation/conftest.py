"""A segmenter small enough to train in a test, and scans simple enough for it to learn."""

import numpy as np
import pytest
import torch

from cardiac_vae.segmentation.augmentation import WindowConfig
from cardiac_vae.segmentation.network import SegmenterConfig


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def tiny_settings():
    windows = WindowConfig(size=32, rotation_degrees=10.0, scale=0.1, gamma=0.1, gain=0.1)
    return SegmenterConfig(channels=(8, 16, 16), windows=windows)


@pytest.fixture(params=["unet", "segresnet"])
def each_settings(request, tiny_settings):
    """Return the settings of a tiny network of each architecture."""
    values = {**tiny_settings.model_dump(), "architecture": request.param, "channels": (8, 16, 32)}
    return SegmenterConfig.parse(values, request.param)


@pytest.fixture
def volume(rng):
    """Return image (3, 45, 50) float32 and mask: rings of three intensities on a dark ground."""
    rows, columns = np.mgrid[:45, :50]
    radius = np.hypot(rows - 25, columns - 22)
    mask = np.zeros((3, 45, 50), np.uint8)
    mask[:, np.abs(columns - 22) + np.abs(rows - 36) < 8] = 1
    mask[:, radius < 10] = 2
    mask[:, radius < 6] = 3
    brightness = np.array([20.0, 900.0, 400.0, 700.0], np.float32)
    noise = rng.normal(0, 10, mask.shape).astype(np.float32)
    return brightness[mask] + noise, mask
