"""Raw dataset -> arrays on a common grid (see ``prepared``), and the split of the patients.

``splits.json`` beside the arrays holds the patients of each split.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.data import acdc, nifti_folder
from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.case_files import CasePaths
from cardiac_vae.data.geometry import (
    PlaneGrid,
    covering_grid,
    heart_centre_mm,
    lost_parts,
    prepared_grid,
    resample_image,
    resample_mask,
)
from cardiac_vae.data.prepared import PreparedCase, write_records
from cardiac_vae.data.splits import SplitSizes, split_patients
from cardiac_vae.labels import HEART, LabelMap, parse_labels

Reader = Callable[[Path, LabelMap | None], Iterator[CardiacCase]]

READERS: Mapping[str, Reader] = {
    "acdc": acdc.read_cases,
    "nifti_folder": nifti_folder.read_cases,
}
CASE_PATHS: Mapping[str, Callable[[Path], list[CasePaths]]] = {
    "acdc": acdc.case_paths,
    "nifti_folder": nifti_folder.case_paths,
}


class PreparationConfig(StrictConfig):
    """Settings of the preparation.

    ``labels`` is what ``parse_labels`` reads. ``exclude`` and ``same_subject`` name patients; those
    the dataset has not are ignored. The defaults suit ACDC: 055 is also a patient of its test
    split, 074 and 076 are one scan.
    """

    reader: Literal["acdc", "nifti_folder"] = "acdc"
    labels: str = "acdc"
    exclude: tuple[str, ...] = ("patient055",)
    same_subject: tuple[tuple[str, ...], ...] = acdc.DUPLICATES
    split: SplitSizes = SplitSizes()
    size: PositiveInt = 96
    pixel_mm: PositiveFloat = 1.5
    seed: NonNegativeInt = 0


def prepare_dataset(raw: Path, output: Path, config: PreparationConfig) -> dict[str, Any]:
    """Prepare every case of ``raw`` into ``output`` and return a summary for the metrics file.

    Raises:
        FileNotFoundError: if the dataset's files are incomplete.
        ValueError: if a file is unsound, a mask has no heart, or there are too few patients.
    """
    groups = {
        case.patient_id: case.group
        for case in CASE_PATHS[config.reader](raw)
        if case.patient_id not in config.exclude
    }
    splits = split_patients(groups, config.split, config.same_subject, config.seed)
    split_of = {patient: split for split, patients in splits.items() for patient in patients}
    _make_folder(output)
    cases, checks = [], []
    for case in READERS[config.reader](raw, parse_labels(config.labels)):
        if case.patient_id in split_of:
            prepared, check = _prepare_case(case, output, split_of[case.patient_id], config)
            cases.append(prepared)
            checks.append(check)
    write_records(output, cases)
    (output / "splits.json").write_text(json.dumps(splits, indent=1))
    return _summary(cases, checks)


@dataclass(frozen=True)
class _Check:
    """What a case lost on its way to the prepared grid and back."""

    lost_parts: int
    outside_pixels: int
    outside_mm: float
    margin_mm: float


def _prepare_case(
    case: CardiacCase, folder: Path, split: str, config: PreparationConfig
) -> tuple[PreparedCase, _Check]:
    if case.image is None:
        raise ValueError(f"{case.case_id}: expected an image beside the mask, got none; add it")
    height, width = case.mask.shape[1:]
    native = PlaneGrid((height, width), (case.spacing_mm[1], case.spacing_mm[2]))
    try:
        centre = heart_centre_mm(case.mask, native, config.size * config.pixel_mm)
    except ValueError as error:
        raise ValueError(f"{case.case_id}: {error}") from None
    grid = prepared_grid(native, centre, config.size, config.pixel_mm)
    whole = covering_grid(native, config.pixel_mm)
    mask = resample_mask(case.mask, native, grid)
    back = resample_mask(mask, grid, native)
    path = folder / f"{case.case_id}.npz"
    np.savez(
        path,
        mask=mask,
        image=resample_image(case.image, native, grid),
        full_mask=resample_mask(case.mask, native, whole),
        full_image=resample_image(case.image, native, whole),
    )
    prepared = PreparedCase(
        case_id=case.case_id,
        patient_id=case.patient_id,
        phase=case.phase,
        group=case.group,
        split=split,
        spacing_mm=case.spacing_mm,
        native_shape=(len(mask), height, width),
        grid=grid,
        round_trip_dice=_mean_dice(case.mask, back),
        path=path,
    )
    num_lost = len(lost_parts(case.mask, mask, native, grid))
    num_lost += len(lost_parts(mask, back, grid, native))
    return prepared, _Check(num_lost, *_window_margin(case.mask, native, grid))


def _mean_dice(reference: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean Dice of the structures in ``reference``, each over the whole volume."""
    scores = []
    for structure in HEART:
        a, b = reference == structure, predicted == structure
        if a.any():
            scores.append(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
    return float(np.mean(scores))


def _window_margin(
    mask: np.ndarray, native: PlaneGrid, grid: PlaneGrid
) -> tuple[int, float, float]:
    """Return the heart pixels outside the window, how far the farthest is, the least margin."""
    _, rows, columns = np.nonzero(mask)
    inward = np.full(len(rows), np.inf)
    for axis, index in enumerate((rows, columns)):
        centres = (index + 0.5) * native.pixel_mm[axis] - grid.origin_mm[axis]
        extent = grid.shape[axis] * grid.pixel_mm[axis]
        inward = np.minimum(inward, np.minimum(centres, extent - centres))
    margin = float(inward.min())
    return int(np.count_nonzero(inward < 0)), max(-margin, 0.0), max(margin, 0.0)


def _summary(cases: list[PreparedCase], checks: list[_Check]) -> dict[str, Any]:
    dice = {case.case_id: round(case.round_trip_dice, 5) for case in cases}
    patients = {case.patient_id: (case.split, case.group or "none") for case in cases}
    num_patients = {
        split: dict(sorted(Counter(g for s, g in patients.values() if s == split).items()))
        for split in SplitSizes.model_fields
    }
    return {
        "num_cases": len(cases),
        "num_slices": sum(case.native_shape[0] for case in cases),
        "num_patients": {split: sum(groups.values()) for split, groups in num_patients.items()},
        "num_patients_by_group": num_patients,
        "round_trip_dice_mean": float(np.mean(list(dice.values()))),
        "round_trip_dice_min": min(dice.values()),
        "lost_parts": sum(check.lost_parts for check in checks),
        "hearts_beyond_window": sum(check.outside_pixels > 0 for check in checks),
        "pixels_beyond_window": sum(check.outside_pixels for check in checks),
        "farthest_beyond_window_mm": max(check.outside_mm for check in checks),
        "least_margin_to_window_mm": min(check.margin_mm for check in checks),
        "cases": [{"case_id": name, "round_trip_dice": value} for name, value in dice.items()],
    }


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder}: expected an output folder that can be written to, got "
            f"'{error.strerror}'; choose another folder"
        ) from None
