"""Fixtures of the readers' tests: NIfTI files and datasets written on the spot."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


def _save_nifti(
    path: Path,
    voxels: np.ndarray,
    spacing_mm: tuple[float, ...] = (1.5, 1.5, 10.0),
    affine: np.ndarray | None = None,
) -> Path:
    """Write (x, y, z[, t]) voxels with the given pixdim, whatever the affine says."""
    image = nib.Nifti1Image(voxels, np.diag([-1.0, -1, 1, 1]) if affine is None else affine)
    image.header.set_zooms((*spacing_mm, 1.0)[: voxels.ndim])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


@pytest.fixture(scope="session")
def save_nifti() -> Callable[..., Path]:
    return _save_nifti


@pytest.fixture(scope="session")
def toy_heart() -> np.ndarray:
    """Return a (x, y, z) uint8 mask: RV beside a myocardium around an LV, on 3 slices."""
    x, y = np.meshgrid(np.arange(60), np.arange(50), indexing="ij")
    radius = np.hypot(x - 34, y - 24)
    plane = np.zeros((60, 50), np.uint8)
    plane[(abs(x - 20) < 6) & (abs(y - 24) < 10)] = 1
    plane[radius < 10] = 2
    plane[radius < 6] = 3
    return np.repeat(plane[..., np.newaxis], 3, axis=2)


@pytest.fixture
def acdc_folder(tmp_path: Path, toy_heart: np.ndarray) -> Path:
    """Return a folder of four patients in ACDC's layout, end-diastole at frame 4."""
    root = tmp_path / "acdc"
    for number, group in enumerate(("NOR", "DCM", "NOR", "DCM"), start=1):
        folder = root / f"patient{number:03d}"
        folder.mkdir(parents=True)
        folder.joinpath("Info.cfg").write_text(f"ED: 4\nES: 11\nGroup: {group}\nNbFrame: 12\n")
        for frame in (4, 11):
            stem = f"{folder.name}_frame{frame:02d}"
            mask = np.roll(toy_heart, number - frame, axis=0)
            _save_nifti(folder / f"{stem}_gt.nii.gz", mask)
            _save_nifti(folder / f"{stem}.nii.gz", (100 + 50 * mask + frame).astype(np.int16))
    return root
