"""What prepared cases are, on file and in memory.

Each case is one ``<case_id>.npz``: mask and image on the grid around the heart, and on a grid of
the same pixels over the whole field of view. ``cases.json`` holds who and where they are.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cardiac_vae.data.case import Spacing
from cardiac_vae.data.geometry import PlaneGrid
from cardiac_vae.data.splits import SplitSizes
from cardiac_vae.labels import Phase

RECORDS = "cases.json"


@dataclass(frozen=True, slots=True)
class PreparedArrays:
    """The arrays of one case.

    Attributes:
        mask: (D, size, size) uint8, values of ``Structure``, around the heart.
        image: (D, size, size) float32 on the same grid, intensities as in the file.
        full_mask: (D, H, W) uint8 over the whole field of view, pixels of the same size.
        full_image: (D, H, W) float32.
    """

    mask: np.ndarray
    image: np.ndarray
    full_mask: np.ndarray
    full_image: np.ndarray


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """One prepared case: who, where, and how well its mask came through.

    Attributes:
        case_id: Patient and phase.
        patient_id: Cases that share it are in one split.
        phase: End-diastole or end-systole.
        group: Diagnosis, or "".
        split: "train", "validation" or "test".
        spacing_mm: Native voxel size along (slice, row, column).
        native_shape: (D, H, W) of the native volume.
        grid: The prepared grid in the native plane.
        round_trip_dice: Dice of native -> prepared -> native against native, by structure; mean
            over the structures present.
        path: The file of its arrays.
    """

    case_id: str
    patient_id: str
    phase: Phase
    group: str
    split: str
    spacing_mm: Spacing
    native_shape: tuple[int, int, int]
    grid: PlaneGrid
    round_trip_dice: float
    path: Path

    @property
    def native_grid(self) -> PlaneGrid:
        """Return the native plane's grid."""
        height, width = self.native_shape[1:]
        return PlaneGrid((height, width), (self.spacing_mm[1], self.spacing_mm[2]))

    def load(self) -> PreparedArrays:
        """Read the arrays."""
        with np.load(self.path) as arrays:
            return PreparedArrays(**{name: arrays[name] for name in PreparedArrays.__slots__})


def write_records(folder: Path, cases: Sequence[PreparedCase]) -> None:
    """Write who and where the cases are; their arrays are in the folder already."""
    records = [{**asdict(case), "path": case.path.name} for case in cases]
    (folder / RECORDS).write_text(json.dumps(records, indent=1))


def read_prepared(folder: Path, split: str | None = None) -> list[PreparedCase]:
    """Return the cases ``prepare_dataset`` left in a folder, all or those of one split.

    Raises:
        FileNotFoundError: if the folder is not prepared.
        ValueError: if there is no such split.
    """
    if not (folder / RECORDS).is_file():
        raise FileNotFoundError(
            f"{folder / RECORDS}: expected a prepared dataset, found none; run the prepare "
            "stage first"
        )
    if split is not None and split not in SplitSizes.model_fields:
        raise ValueError(f"expected a split of {list(SplitSizes.model_fields)}, got {split!r}")
    cases = (_case_of(folder, record) for record in json.loads((folder / RECORDS).read_text()))
    return [case for case in cases if split in (None, case.split)]


def _case_of(folder: Path, record: dict[str, Any]) -> PreparedCase:
    grid = PlaneGrid(**{name: tuple(values) for name, values in record["grid"].items()})
    return PreparedCase(
        **{
            **record,
            "phase": Phase(record["phase"]),
            "spacing_mm": tuple(record["spacing_mm"]),
            "native_shape": tuple(record["native_shape"]),
            "grid": grid,
            "path": folder / record["path"],
        }
    )
