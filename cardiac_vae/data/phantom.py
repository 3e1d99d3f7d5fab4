"""A cohort of phantom hearts, written in ACDC's layout so that its reader serves both.

Each patient comes from a seed of its own, so a smaller cohort is the beginning of a larger one
and the same seed gives the same bytes. Like ACDC's, the files carry the affine diag(-1, -1, 1)
whatever their spacing, which stands in the header's pixdim alone.
"""

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydantic import Field

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.phantom_anatomy import ANGLES, HeartShape, PolarPlane
from cardiac_vae.data.phantom_diagnosis import GROUPS, Distribution, HeartFactors, draw_heart
from cardiac_vae.data.phantom_heart import HeartTissue
from cardiac_vae.data.phantom_image import Acquisition, acquire, gradient_edge, off_resonance
from cardiac_vae.data.phantom_thorax import Reach, Thorax
from cardiac_vae.data.phantom_tissue import PixelGrid
from cardiac_vae.labels import ACDC_LABELS, Phase, from_structures

_WINDOW_MM = 105.0  # around the left ventricle's axis, holds any heart


class PhantomConfig(StrictConfig):
    """Settings of a cohort; the upper ends of what varies between its patients.

    Groups are dealt in turn, so a multiple of five gives each as many patients.
    """

    num_patients: int = Field(default=48, ge=1, le=999)
    seed: int = Field(default=0, ge=0)
    max_misregistration_mm: float = Field(default=3.0, ge=0)
    max_noise: float = Field(default=0.035, ge=0)
    max_bias: float = Field(default=1.5, ge=0)
    max_ghost: float = Field(default=0.04, ge=0)


@dataclass(frozen=True)
class Placement:
    """Where the planes lie and where the heart lies in them; written to ``factors.csv``.

    Attributes:
        height, width, num_slices: Size of the arrays (H, W, D).
        pixel_mm, slice_mm: Spacing in the plane and between planes.
        first_slice_mm: Depth of the first plane below the end-diastolic mitral plane.
        centre_row, centre_column: Pixel of the left ventricle's axis at mid-ventricle.
        drift_row, drift_column: How the axis leans, mm per mm of depth.
        misregistration_mm: Standard deviation of the shift between breath-holds, per axis.
    """

    height: int
    width: int
    num_slices: int
    pixel_mm: float
    slice_mm: float
    first_slice_mm: float
    centre_row: float
    centre_column: float
    drift_row: float
    drift_column: float
    misregistration_mm: float


@dataclass(frozen=True)
class Record:
    """What ``Info.cfg`` says of a patient beside the group.

    Attributes:
        frames: 1-based frame of the cine that each phase is; end-diastole is not always the first.
    """

    frames: dict[Phase, int]
    num_frames: int
    height_cm: float
    weight_kg: float


@dataclass(frozen=True)
class Patient:
    """One phantom patient.

    Attributes:
        images: (D, H, W) int16 per phase.
        masks: (D, H, W) uint8 of ``Structure`` per phase.
    """

    patient_id: str
    heart: HeartFactors
    placement: Placement
    acquisition: Acquisition
    record: Record
    images: dict[Phase, np.ndarray]
    masks: dict[Phase, np.ndarray]


def make_patient(index: int, config: PhantomConfig) -> Patient:
    """Make the patient with this index, 0 for patient001."""
    rng = np.random.default_rng([config.seed, index])
    heart = draw_heart(GROUPS[index % len(GROUPS)], rng)
    placement = _draw_placement(heart, config, rng)
    acquisition = _draw_acquisition(config, rng)
    shapes = {phase: HeartShape(heart, phase) for phase in Phase}
    thorax = Thorax(_reach(shapes[Phase.ED]), placement.height * placement.pixel_mm, rng)
    heart_tissue = HeartTissue(heart.pose_deg, acquisition.muscle, rng)
    size = (placement.num_slices, placement.height, placement.width)
    images = {phase: np.zeros(size, np.int16) for phase in Phase}
    masks = {phase: np.zeros(size, np.uint8) for phase in Phase}
    for index_of_slice in range(placement.num_slices):
        depth = placement.first_slice_mm + index_of_slice * placement.slice_mm
        z = depth - heart.length_mm / 2
        right, down = rng.normal(0, placement.misregistration_mm, 2)
        chest_grid = PixelGrid.around(
            size[1:], (placement.centre_row, placement.centre_column), placement.pixel_mm
        ).moved(0.3 * right, 0.6 * down)
        heart_grid = chest_grid.moved(
            0.7 * right + placement.drift_column * z, 0.4 * down + placement.drift_row * z
        )
        window = heart_grid.window((0.0, 0.0), _WINDOW_MM)
        near = heart_grid.part(window)
        plane = PolarPlane(near.y_mm[:, 0], near.x_mm[0])
        chest = thorax.paint(z, chest_grid)
        gain = 1 + acquisition.bias * thorax.coils(z, chest_grid)
        gain = np.clip(gain, 0.05, None) * off_resonance(acquisition, chest_grid)
        gain *= gradient_edge(acquisition, chest_grid)
        for phase, shape in shapes.items():
            masks[phase][index_of_slice][window] = shape.mask(depth, plane)
            tissue = chest.copy()
            heart_tissue.paint_slice(tissue.part(window), shape, depth, placement.slice_mm, near)
            signal = (tissue.water - tissue.fat) * gain
            images[phase][index_of_slice] = acquire(signal, acquisition, rng)
    return Patient(
        f"patient{index + 1:03d}", heart, placement, acquisition, _draw_record(rng), images, masks
    )


def _draw_acquisition(config: PhantomConfig, rng: np.random.Generator) -> Acquisition:
    least_noise = min(0.008, config.max_noise)
    return Acquisition(
        noise=rng.uniform(least_noise, config.max_noise),
        bias=rng.uniform(0, config.max_bias),
        ghost=rng.uniform(0, config.max_ghost),
        resolution=rng.uniform(0.72, 1.0),
        brightness=float(np.exp(rng.uniform(np.log(110), np.log(380)))),
        muscle=rng.uniform(0.28, 0.52),
        band_deg=rng.uniform(25, 155),
        band_mm=rng.uniform(-70, 95),
        field_of_view=rng.uniform(0.84, 1.1),
    )


def _draw_placement(
    heart: HeartFactors, config: PhantomConfig, rng: np.random.Generator
) -> Placement:
    """Choose spacing and number of slices so that the stack covers the heart."""
    slice_mm = float(rng.choice([8.0, 9.0, 10.0]))
    height, width = ((256, 216), (256, 208), (256, 232), (240, 208), (224, 200))[rng.integers(5)]
    pixel_mm = float(np.clip(rng.uniform(315, 405) / height, 1.2, 1.8).round(4))
    first = min(0.0, heart.rv_base_mm) + rng.uniform(0, 1) * slice_mm
    needed = ceil((heart.length_mm + rng.uniform(-8, 3) - first) / slice_mm)
    while needed > 11 and slice_mm < 10:
        slice_mm += 1
        needed = ceil((heart.length_mm - first) / slice_mm)
    return Placement(
        height=height,
        width=width,
        num_slices=int(np.clip(needed, 8, 11)),
        pixel_mm=pixel_mm,
        slice_mm=slice_mm,
        first_slice_mm=first,
        centre_row=height * Distribution(0.47, 0.04, 0.38, 0.56).draw(rng),
        centre_column=width * Distribution(0.47, 0.03, 0.40, 0.54).draw(rng),
        drift_row=Distribution(0, 0.06, -0.15, 0.15).draw(rng),
        drift_column=Distribution(0, 0.06, -0.15, 0.15).draw(rng),
        misregistration_mm=rng.uniform(0, config.max_misregistration_mm),
    )


def _draw_record(rng: np.random.Generator) -> Record:
    num_frames = int(rng.integers(20, 36))
    ed = 4 if rng.uniform() < 0.1 else 1
    height = Distribution(170, 9, 145, 200).draw(rng)
    return Record(
        frames={Phase.ED: ed, Phase.ES: ed + round(0.38 * num_frames)},
        num_frames=num_frames,
        height_cm=round(height, 1),
        weight_kg=round(Distribution(26, 4, 17, 42).draw(rng) * (height / 100) ** 2, 1),
    )


def _reach(shape: HeartShape) -> Reach:
    """Return how far the heart and its wall reach left, down and up from its axis."""
    depth = np.arange(0.0, shape.apex_mm, 8.0)
    contours = shape.contours(depth)
    right, down = contours.rv * np.cos(ANGLES), contours.rv * np.sin(ANGLES)
    wall_mm = 4.0
    return Reach(
        depth=depth - shape.factors.length_mm / 2,
        left=wall_mm - right.min(axis=1),
        down=wall_mm + down.max(axis=1),
        up=wall_mm - float(down.min()),
    )


def write_cohort(root: Path, config: PhantomConfig) -> None:
    """Write the cohort below ``root``: patientNNN/ folders and ``factors.csv``.

    The volumes in ``factors.csv`` are those of the continuous shapes, in ml; masks differ by
    what any stack of slices misses or adds at the base.
    """
    root.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for index in range(config.num_patients):
        patient = make_patient(index, config)
        _write_patient(root, patient)
        rows.extend(_factor_rows(patient))
    with (root / "factors.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_patient(root: Path, patient: Patient) -> None:
    folder = root / patient.patient_id
    folder.mkdir(exist_ok=True)
    for phase, frame in patient.record.frames.items():
        name = f"{patient.patient_id}_frame{frame:02d}"
        mask = from_structures(patient.masks[phase], ACDC_LABELS).astype(np.uint8)
        _write_nifti(folder / f"{name}.nii.gz", patient.images[phase], patient.placement)
        _write_nifti(folder / f"{name}_gt.nii.gz", mask, patient.placement)
    record = patient.record
    lines = {
        "ED": record.frames[Phase.ED],
        "ES": record.frames[Phase.ES],
        "Group": patient.heart.group,
        "Height": record.height_cm,
        "NbFrame": record.num_frames,
        "Weight": record.weight_kg,
    }
    (folder / "Info.cfg").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))


def _write_nifti(path: Path, volume: np.ndarray, placement: Placement) -> None:
    image = nib.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header["pixdim"][1:4] = placement.pixel_mm, placement.pixel_mm, placement.slice_mm
    image.to_filename(path)


def _factor_rows(patient: Patient) -> Iterator[dict[str, Any]]:
    heart = patient.heart
    for phase in Phase:
        is_ed = phase is Phase.ED
        row = {
            "case_id": f"{patient.patient_id}_{phase}",
            "patient_id": patient.patient_id,
            "phase": str(phase),
            "frame": patient.record.frames[phase],
            "lv_ml": heart.edv_ml if is_ed else heart.esv_ml,
            "rv_ml": heart.rv_edv_ml if is_ed else heart.rv_esv_ml,
            "ef_percent": heart.ef_percent,
            "rv_ef_percent": heart.rv_ef_percent,
        }
        row |= asdict(heart) | asdict(patient.placement) | asdict(patient.acquisition)
        yield {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in row.items()
        }
