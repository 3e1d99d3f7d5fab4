"""Fixtures shared by all tests: the seed, the folder of real patients."""

import os
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
