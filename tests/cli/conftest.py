"""A small heart, files of it, and the command line as a function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cardiac_vae.cli.app import app
from cardiac_vae.labels import Phase, Structure
from cardiac_vae.refinement.refine import Refiner
from cardiac_vae.refinement.result import RefinementResult

NUM_ROWS, NUM_COLUMNS = 64, 72
NUM_SLICES = 4
Run = Callable[..., Result]
WriteNifti = Callable[..., Path]


@pytest.fixture
def heart() -> np.ndarray:
    """Return (D, H, W) ``Structure`` values: discs that break no criterion at 1.5 mm."""
    rows, columns = np.mgrid[:NUM_ROWS, :NUM_COLUMNS]
    from_left = np.hypot(rows - 32, columns - 38)
    from_right = np.hypot(rows - 32, columns - 24)
    plane = np.zeros(rows.shape, np.uint8)
    plane[from_right < 12] = Structure.RV
    plane[from_left < 13] = Structure.MYO
    plane[from_left < 8] = Structure.LV
    return np.stack([plane] * NUM_SLICES)


@pytest.fixture
def broken(heart: np.ndarray) -> np.ndarray:
    """Return the heart with a hole in the LV of slice 1 and a far speck of RV in slice 2."""
    mask = heart.copy()
    mask[1, 32, 38] = Structure.BACKGROUND
    mask[2, 4:7, 4:7] = Structure.RV
    return mask


@pytest.fixture
def write_nifti(tmp_path: Path) -> WriteNifti:
    """Return a writer of (D, H, W) or (T, D, H, W) arrays as ACDC has them: spacing in pixdim."""

    def write(
        name: str,
        frames: np.ndarray,
        zooms: tuple[float, float, float] = (1.5, 1.5, 8.0),
        affine: np.ndarray | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(frames.T, np.diag([-1.0, -1.0, 1.0, 1.0]))
        if affine is not None:
            image = nib.Nifti1Image(frames.T, affine)
        image.header["pixdim"][1:4] = zooms
        image.header["descrip"] = b"kept to the bit"
        image.to_filename(path)
        return path

    return write


@pytest.fixture
def run() -> Run:
    """Return the command line: arguments in, exit status and output out."""

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def refine(run: Run, tiny_model: Path) -> Run:
    """Return ``cardiac-vae refine`` with a small model: input, output, more arguments."""

    def invoke(source: Path, output: Path, *arguments: object) -> Result:
        return run("refine", source, "--model", tiny_model, "-o", output, *arguments)

    return invoke


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Phase | None]:
    """Return the phases that refiners are told from now on."""
    phases: list[Phase | None] = []
    refine = Refiner.refine

    def spy(
        self: Refiner, *arguments: Any, phase: Phase | None = None, **options: Any
    ) -> RefinementResult:
        phases.append(phase)
        return refine(self, *arguments, phase=phase, **options)

    monkeypatch.setattr(Refiner, "refine", spy)
    return phases


@pytest.fixture(scope="session")
def tiny_density(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a density over the codes of the small model."""
    import torch

    from cardiac_vae.anchors import read_anchors
    from cardiac_vae.checkpoint import load_model
    from cardiac_vae.densities.fit import DensityConfig, fit_code_density
    from cardiac_vae.densities.surprise_scale import SurpriseScale

    model, hearts = load_model(tiny_model), torch.from_numpy(read_anchors(tiny_model))
    density = fit_code_density(model, hearts, DensityConfig(kind="kernels"))
    folder = tmp_path_factory.mktemp("density")
    SurpriseScale.of(model, density, hearts).save(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an untrained segmenter; what it finds is noise."""
    import torch

    from cardiac_vae.segmentation.inference import Segmenter
    from cardiac_vae.segmentation.network import SegmenterConfig, build_network

    torch.manual_seed(3)
    settings = SegmenterConfig(channels=(4, 8, 8), norm="instance")
    folder = tmp_path_factory.mktemp("segmenter")
    Segmenter(settings, build_network(settings), use_bf16=False).save(folder)
    return folder
