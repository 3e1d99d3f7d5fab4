"""Where a study keeps segmented and refined cases, for each kind of scans in ``SCANS``.

    segmented/<scans>/<case_id>_mask.nii.gz, <case_id>_probabilities.nii.gz, and of the corrupted
    scans <case_id>_scan.nii.gz;  refined/<scans>/<case_id>.nii.gz

All on the grid of the case's own scan; masks hold the values of ``Structure``.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cardiac_vae.data.nifti import read_mask

SCANS = ("clean", "corrupted")
Split = Literal["train", "validation", "test"]


def mask_path(segmented: Path, scans: str, case_id: str) -> Path:
    """Return where the segmenter's mask of a case is."""
    return segmented / scans / f"{case_id}_mask.nii.gz"


def probabilities_path(segmented: Path, scans: str, case_id: str) -> Path:
    """Return where the segmenter's class probabilities of a case are."""
    return segmented / scans / f"{case_id}_probabilities.nii.gz"


def refined_path(refined: Path, scans: str, case_id: str) -> Path:
    """Return where the refined mask of a case is."""
    return refined / scans / f"{case_id}.nii.gz"


def case_ids(segmented: Path, scans: str) -> list[str]:
    """Return the cases that were segmented, sorted."""
    ending = "_mask.nii.gz"
    return sorted(p.name.removesuffix(ending) for p in (segmented / scans).glob(f"*{ending}"))


def read_structures(path: Path) -> np.ndarray:
    """Return a mask that the study wrote: (D, H, W) uint8 of ``Structure``."""
    return read_mask(path).volume.astype(np.uint8)


def patients_of(splits: Path, names: Sequence[Split]) -> set[str]:
    """Return the patients of some splits; ``splits`` is the prepared dataset's splits.json."""
    by_split = json.loads(splits.read_text())
    return {patient for name in names for patient in by_split[name]}
