"""Rows with chosen numbers, and a small cohort whose segmenter errs in known ways."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cardiac_vae.anatomy.criteria import CRITERIA
from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.geometry import PlaneGrid
from cardiac_vae.data.nifti import read_image, write_mask, write_probabilities
from cardiac_vae.data.prepared import PreparedCase, read_prepared, write_records
from cardiac_vae.data.segmented import SCANS, mask_path, probabilities_path
from cardiac_vae.evaluation.calibration import CalibrationConfig, fit_and_score_calibration
from cardiac_vae.evaluation.scores import CaseScores, StructureScores
from cardiac_vae.evaluation.segmented_case import learn_stacks
from cardiac_vae.labels import HEART, Phase, Structure
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.observation_fit import ObservationFitConfig
from cardiac_vae.refinement.stack.presence_prior import PresencePrior
from cardiac_vae.refinement.stack.slice_order import SliceOrder


def _make_row(
    patient_id: str = "patient001",
    phase: str = "ed",
    *,
    dice: float = 0.9,
    hd95_mm: float = 4.0,
    volumes_ml: tuple[float, float, float] = (120.0, 90.0, 100.0),
    reference_volumes_ml: tuple[float, float, float] = (120.0, 90.0, 100.0),
    slices: tuple[int, int, int] = (10, 1, 9),
    spurious_slices: tuple[int, int, int] = (0, 0, 0),
    missed_slices: tuple[int, int, int] = (0, 0, 0),
    broken: Mapping[str, int] | None = None,
    group: str = "NOR",
) -> CaseScores:
    """Return a row; slices are all, empty, valid; other triples are those of RV, MYO, LV."""
    return CaseScores(
        case_id=f"{patient_id}_{phase}",
        patient_id=patient_id,
        phase=Phase(phase),
        group=group,
        structures={
            structure: StructureScores(dice, hd95_mm, hd95_mm / 4, *of_structure)
            for structure, *of_structure in zip(
                HEART,
                volumes_ml,
                reference_volumes_ml,
                spurious_slices,
                missed_slices,
                strict=True,
            )
        },
        diagonal_mm=400.0,
        num_slices=slices[0],
        num_empty_slices=slices[1],
        num_valid_slices=slices[2],
        is_valid_volume=slices[0] == slices[2],
        broken=dict.fromkeys(CRITERIA, 0) | dict(broken or {}),
    )


@pytest.fixture
def make_row() -> Callable[..., CaseScores]:
    return _make_row


SPACING_MM = (10.0, 3.0, 3.0)
SHAPE = (50, 46)


@dataclass(frozen=True)
class Cohort:
    """Four validation patients that were segmented, and training hearts like theirs.

    The experts' pixels are drawn from probabilities p, and the segmenter, too sure of itself, says
    p^2 / sum p^2: its true scale is 0.5. On corrupted scans it draws an RV in the empty last slice.
    """

    root: Path
    cases: list[CardiacCase] = field(repr=False)

    @property
    def prepared(self) -> Path:
        return self.root / "prepared"

    @property
    def segmented(self) -> Path:
        return self.root / "segmented"

    def write(self, case_id: str, scans: str, probabilities: np.ndarray) -> None:
        """Write what a segmenter made of a case."""
        folder = self.segmented / scans
        folder.mkdir(parents=True, exist_ok=True)
        grid = nib.Nifti1Image(np.zeros((*SHAPE[::-1], len(probabilities)), np.float32), np.eye(4))
        grid.header.set_zooms(SPACING_MM[::-1])
        grid.to_filename(self.root / "scan.nii.gz")
        scan = read_image(self.root / "scan.nii.gz")
        mask = probabilities.argmax(axis=1).astype(np.uint8)
        write_mask(mask_path(self.segmented, scans, case_id), mask, scan)
        path = probabilities_path(self.segmented, scans, case_id)
        write_probabilities(path, probabilities.astype(np.float32), scan)


@pytest.fixture(scope="session")
def cohort(heart: Callable[..., np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    rng = np.random.default_rng(11)
    cohort = Cohort(tmp_path_factory.mktemp("cohort"), [])
    for patient_id in ("a", "b", "c", "d"):
        for phase in Phase:
            truth = ndimage.gaussian_filter(
                np.eye(4)[_stack(heart, rng)], (0, 1, 1, 0), truncate=2.0
            )
            expert = (rng.random((*truth.shape[:3], 1)) > truth.cumsum(axis=3)).sum(axis=3)
            case = CardiacCase(patient_id, phase, expert.clip(0, 3).astype(np.uint8), SPACING_MM)
            cohort.cases.append(case)
            for scans in SCANS:
                told = truth**2 / (truth**2).sum(axis=3, keepdims=True)
                if scans == "corrupted":
                    told[-1, 20:24, 20:24] = [0.3, 0.7, 0, 0]
                cohort.write(case.case_id, scans, told.transpose(0, 3, 1, 2))
    _write_prepared(cohort.prepared, [_stack(heart, rng) for _ in range(6)])
    return cohort


@pytest.fixture(scope="session")
def learnt(cohort: Cohort) -> tuple[PresencePrior, SliceOrder]:
    """Return what the training hearts of the cohort teach, which takes about a second."""
    return learn_stacks(read_prepared(cohort.prepared, "train"))


@pytest.fixture(scope="session")
def quick() -> CalibrationConfig:
    return CalibrationConfig(observation=ObservationFitConfig(blurs_mm=(2.0,), most_voxels=8_000))


@pytest.fixture(scope="session")
def fitted(cohort: Cohort, quick: CalibrationConfig) -> tuple[Calibration, dict[str, Any]]:
    """Return the calibration of the cohort with its summary, every patient left out once."""
    return fit_and_score_calibration(cohort.cases, cohort.segmented, cohort.prepared, quick)


def _stack(heart: Callable[..., np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return (D, H, W) uint8 from base to apex: RV, wall and LV, then no RV, then nothing."""
    slices = []
    for lv_mm in np.linspace(20, 10, 3) * rng.uniform(0.9, 1.1):
        slices.append(heart(SHAPE, SPACING_MM[1:], lv_mm=lv_mm))
    apex = slices[-1].copy()
    apex[apex == Structure.RV] = Structure.BACKGROUND
    return np.stack([*slices, apex, np.zeros(SHAPE, np.uint8)])


def _write_prepared(folder: Path, masks: list[np.ndarray]) -> None:
    folder.mkdir()
    grid = PlaneGrid((48, 48), (3.0, 3.0))
    cases = []
    for index, mask in enumerate(masks):
        phase = list(Phase)[index % 2]
        name, path = f"train{index // 2}", folder / f"{index}.npz"
        np.savez(path, mask=mask, image=0 * mask, full_mask=mask, full_image=0 * mask)
        case = (f"{name}_{phase}", name, phase, "", "train", SPACING_MM, mask.shape, grid, 1.0)
        cases.append(PreparedCase(*case, path))
    write_records(folder, cases)
