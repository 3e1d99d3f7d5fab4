"""Fixtures shared by all tests: the seed, the folder of real patients."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def acdc_root() -> Path:
    """Return the folder that holds patient001 and the others, or skip."""
    folder = os.environ.get("CARDIAC_VAE_ACDC")
    if not folder:
        pytest.skip("real data: set CARDIAC_VAE_ACDC to the ACDC folder to run this test")
    root = Path(folder)
    root = root / "training" if (root / "training").is_dir() else root
    assert (root / "patient001").is_dir(), f"CARDIAC_VAE_ACDC={folder} holds no patient001"
    return root


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small untrained VAE whose anchors are hearts made of disks.

    Copy it to change it. The model explains nothing, so what is valid is the guarantee's merit.
    """
    import torch

    from cardiac_vae.anchors import write_anchors
    from cardiac_vae.checkpoint import save_model
    from cardiac_vae.models import build_model

    torch.manual_seed(1)
    settings = {"image_size": 96, "channels": [4, 8], "latent_dim": 2}
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, "vae", settings, build_model("vae", settings), pixel_mm=1.5)
    write_anchors(folder, _disk_hearts(96))
    return folder


def _disk_hearts(size: int) -> np.ndarray:
    """Return (N, size, size) ``Structure`` values: three sizes, each with and without an RV."""
    rows, columns = np.mgrid[:size, :size]
    hearts = []
    for radius in (6, 9, 12):
        from_left = np.hypot(rows - size / 2, columns - size / 2 - 4)
        from_right = np.hypot(rows - size / 2, columns - size / 2 + radius + 6)
        for has_rv in (True, False):
            heart = np.zeros((size, size), np.uint8)
            heart[(from_right < 1.3 * radius + 4) & has_rv] = 1
            heart[from_left < radius + 6] = 2
            heart[from_left < radius] = 3
            hearts.append(heart)
    return np.stack(hearts)


@pytest.fixture(scope="session")
def heart() -> Callable[..., np.ndarray]:
    """Return a function that draws a valid short-axis slice."""

    def draw(
        shape: tuple[int, int] = (100, 90),
        pixel_mm: tuple[float, float] = (1.5, 1.5),
        lv_mm: float = 18.0,
        wall_mm: float = 9.0,
    ) -> np.ndarray:
        """Return (H, W) uint8: an LV in its wall near the middle, an RV to its left."""
        rows, columns = np.indices(shape)
        down = (rows - shape[0] / 2) * pixel_mm[0]
        right = (columns - shape[1] / 2) * pixel_mm[1]
        radius = np.hypot(down, right - 8)
        mask = np.zeros(shape, np.uint8)
        mask[np.hypot(down / 1.3, right + 14) < lv_mm + 6] = 1
        mask[radius < lv_mm + wall_mm] = 2
        mask[radius < lv_mm] = 3
        return mask

    return draw
