"""A study small enough to read back in seconds: four patients, slab hearts, a model that copies."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cardiac_vae.data.case_files import read_case
from cardiac_vae.data.preparation import CASE_PATHS, PreparationConfig, prepare_dataset
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.data.splits import SplitSizes
from cardiac_vae.evaluation.reconstruction import (
    ReconstructionConfig,
    held_out_slices,
    score_reconstruction,
)
from cardiac_vae.evaluation.refiners import compare
from cardiac_vae.evaluation.scores import score_case
from cardiac_vae.evaluation.summaries import summarize
from cardiac_vae.evaluation.tables import RowsByVariant, write_csv
from cardiac_vae.labels import ACDC_LABELS, NUM_CLASSES, Structure
from cardiac_vae.reports import hearts, latent_maps
from cardiac_vae.shape_model import LossTerms, ShapeModel

PIXEL_MM, SLICE_MM = 1.5, 10.0
PREPARATION = PreparationConfig(split=SplitSizes(train=1, validation=1, test=2), size=64)


class Copying(ShapeModel):
    """Its code is the mask; draws the heart that it saw last again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.anywhere = nn.Parameter(torch.zeros(1))

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        self.seen = mask
        return [mask.flatten(start_dim=1)]

    def decode(
        self,
        latents: Sequence[Tensor],
        temperature: float = 0.0,
        condition: Tensor | None = None,
    ) -> Tensor:
        (z,) = latents
        return 10 * z.reshape(-1, *self.seen.shape[1:])

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        return 10 * mask, LossTerms(mask.sum(dim=(1, 2, 3)), torch.ones(len(mask), 2))

    def loss(self, terms: LossTerms, warmup: float = 1.0) -> Tensor:
        return terms.negative_elbo.mean()

    def sample(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> Tensor:
        return self.seen[:1].expand(num_samples, -1, -1, -1)

    @property
    def latent_sizes(self) -> list[int]:
        return [NUM_CLASSES * PREPARATION.size**2]


def slab_heart(radius: float, num_slices: int = 3) -> np.ndarray:
    rows, columns = np.mgrid[:72, :72]
    distance = np.hypot(rows - 36, columns - 42)
    plane = np.zeros((72, 72), np.uint8)
    plane[np.hypot(rows - 36, columns - 42 + 1.2 * radius) < radius] = Structure.RV
    plane[distance < radius] = Structure.MYO
    plane[distance < 0.6 * radius] = Structure.LV
    return np.stack([plane] * num_slices)


def write_volume(path: Path, volume: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header["pixdim"][1:4] = PIXEL_MM, PIXEL_MM, SLICE_MM
    image.to_filename(path)


def segmented(mask: np.ndarray) -> np.ndarray:
    """Return a mask with a speck of LV in a corner of its first slice."""
    broken = mask.copy()
    broken[0, 2:4, 2:4] = Structure.LV
    return broken


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a study whose refiner takes the speck away."""
    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(1)
    for index in range(4):
        patient = root / "data" / "raw" / f"patient{index + 1:03d}"
        for frame, radius in ((1, 16 + index), (2, 13 + index)):
            mask = slab_heart(radius)
            image = (100 * mask + rng.normal(0, 20, mask.shape)).astype(np.float32)
            write_volume(patient / f"{patient.name}_frame{frame:02d}.nii.gz", image)
            write_volume(patient / f"{patient.name}_frame{frame:02d}_gt.nii.gz", mask)
        (patient / "Info.cfg").write_text("ED: 1\nES: 2\nGroup: NOR\n")
    reports = root / "reports"
    (reports / "train").mkdir(parents=True)
    (reports / "refine").mkdir()
    (reports / "train_segmenter").mkdir()
    summary = prepare_dataset(root / "data" / "raw", root / "data" / "prepared", PREPARATION)
    (reports / "prepare.json").write_text(json.dumps(summary))
    _evaluate(root)
    fitted = {"steps": 100, "seconds": 60.0, "best_value": 1.5, "stopped_early": False}
    curves = {"history": {"train/loss": [[0, 9.0], [50, 4.0], [100, 2.0]]}}
    (reports / "train" / "copy.json").write_text(json.dumps(fitted | curves))
    (reports / "train_segmenter" / "unet.json").write_text(json.dumps({"fit": fitted}))
    routes = {"num_cases": 8, "num_changed": 8, "seconds_per_scan": 0.2, "routes": {"prior": 8}}
    (reports / "refine" / "copy.json").write_text(json.dumps({"clean": routes}))
    return root


def _evaluate(root: Path) -> None:
    prepared = root / "data" / "prepared"
    patients = json.loads((prepared / "splits.json").read_text())["test"]
    rows = {
        scans: {variant: [] for variant in ("segmenter", "baseline", "refined")}
        for scans in ("clean", "corrupted")
    }
    for paths in CASE_PATHS["acdc"](root / "data" / "raw"):
        if paths.patient_id in patients:
            case = read_case(paths, ACDC_LABELS)
            broken = segmented(case.mask)
            for scans, by_variant in rows.items():
                folder = root / "data" / "segmented" / "unet" / scans
                write_volume(folder / f"{case.case_id}_mask.nii.gz", broken)
                if scans == "corrupted":
                    write_volume(folder / f"{case.case_id}_scan.nii.gz", 0.5 * case.image)
                refined = root / "data" / "refined" / "copy" / scans
                write_volume(refined / f"{case.case_id}.nii.gz", case.mask)
                by_variant["segmenter"].append(score_case(case, broken))
                by_variant["baseline"].append(score_case(case, broken))
                by_variant["refined"].append(score_case(case, case.mask))
    write_csv(root / "reports" / "evaluate" / "copy.csv", rows)
    slices = held_out_slices(read_prepared(prepared, "test"))
    values = {
        "split": "test",
        "patients": patients,
        "scans": {scans: summarize(by_variant) for scans, by_variant in rows.items()},
        "shape_model": score_reconstruction(Copying(), slices, ReconstructionConfig(num_samples=4)),
    }
    (root / "reports" / "evaluate" / "copy.json").write_text(json.dumps(values, allow_nan=False))
    _compare(root, rows)


def _compare(root: Path, rows: Mapping[str, RowsByVariant]) -> None:
    """Write what the stage refiners would, without having measured its time."""
    scans = {}
    for kind, by_variant in rows.items():
        variants = {
            name: {"model": "", "kind": name, "seconds_per_scan": None, **scores}
            for name, scores in compare(by_variant).items()
        }
        scans[kind] = {"num_cases": 4, "num_patients": 2, "variants": variants}
    (root / "reports" / "refiners").mkdir()
    values = {"split": "test", "left_out": {}, "scans": scans}
    path = root / "reports" / "refiners" / "unet.json"
    path.write_text(json.dumps(values, allow_nan=False))


@pytest.fixture(scope="session")
def copying() -> ShapeModel:
    return Copying().eval()


@pytest.fixture(scope="session")
def preparation() -> PreparationConfig:
    return PREPARATION


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the figures of hearts and codes that any model has say PNG and no more.

    They are drawn, and looked at, in tests of their own; each takes a third of a second.
    """
    for name in ("reconstructions", "prior_samples", "lines_of_hearts"):
        monkeypatch.setattr(hearts, name, lambda *_: b"\x89PNG")
    monkeypatch.setattr(latent_maps, "latent_map", lambda *_: b"\x89PNG")
