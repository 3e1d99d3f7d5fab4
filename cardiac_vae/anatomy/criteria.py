"""The 16 criteria of a plausible short-axis slice, per slice and per volume.

Painchaud, Skandarani, Judge, Bernard, Lalande, Jodoin: Cardiac Segmentation With Strong Anatomical
Guarantees, IEEE TMI 39(11), 2020; the limits are those of the authors' published code (vital).
Where a defect would have counted under several criteria it counts under one: shapes are measured on
a structure's largest part, and gaps between structures are of background. Two measures are our own:
a concavity is measured between pixel centers, not after an erosion by three pixels; and the single
touching pixel is tolerated per contact, not per slice, for two of them are two thin places of a
wall and no breach.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cardiac_vae.anatomy.heart_slice import HeartSlice, PixelSize
from cardiac_vae.anatomy.outline import circularity, concavity_mm
from cardiac_vae.anatomy.topology import (
    gap_mm,
    holes,
    holes_between,
    touching_pixels,
)
from cardiac_vae.labels import NUM_CLASSES

_ROUNDING = 1e-9  # what floating point may add to a measure that is just at its limit


@dataclass(frozen=True)
class Criterion:
    """A number measured on a slice, and the limit that a plausible heart keeps.

    Attributes:
        description: What is wrong with a slice that breaks it, for a reader.
        unit: Pixels, mm, or "" for a ratio.
        measure: The number; NaN where the structure is absent, which breaks nothing.
        limit: The largest plausible value, or the smallest one if ``is_minimum``.
    """

    description: str
    unit: Literal["px", "mm", ""]
    measure: Callable[[HeartSlice], float | np.integer]
    limit: Callable[[HeartSlice], float]
    is_minimum: bool = False

    def excess(self, heart: HeartSlice) -> float:
        """Return by how much the slice is beyond the limit, in ``unit``; 0 if it keeps it."""
        beyond = float(self.measure(heart)) - self.limit(heart)
        if self.is_minimum:
            beyond = -beyond
        return beyond if beyond > _ROUNDING else 0.0


@dataclass(frozen=True)
class VolumeVerdict:
    """The criteria on every slice of a volume.

    Attributes:
        slices: (D,) what ``violations`` says of each slice.
        is_valid: No slice breaks a criterion.
        num_valid_slices: Slices that break none, the empty ones among them.
        num_empty_slices: Slices with no heart in them.
        broken: Per criterion, in the order of ``CRITERIA``, the number of slices that break it.
    """

    slices: tuple[dict[str, float], ...]
    is_valid: bool
    num_valid_slices: int
    num_empty_slices: int
    broken: dict[str, int]


def violations(mask: np.ndarray, pixel_mm: PixelSize) -> dict[str, float]:
    """Return by how much a slice is beyond each criterion's limit; 0.0 where it keeps it.

    ``mask`` is (H, W) with values of ``Structure``, ``pixel_mm`` the size along (row, column); the
    keys are those of ``CRITERIA``, in its order, the units those of each criterion.

    Raises:
        ValueError: if the mask is no label map (H, W) or a pixel size is not positive.
    """
    _require_slice(mask, pixel_mm)
    if not mask.any():
        return dict.fromkeys(CRITERIA, 0.0)
    heart = HeartSlice(mask, pixel_mm)
    return {name: criterion.excess(heart) for name, criterion in CRITERIA.items()}


def is_valid(mask: np.ndarray, pixel_mm: PixelSize) -> bool:
    """Return whether a slice (H, W) breaks no criterion; stops at the first one it breaks.

    Raises:
        ValueError: as ``violations``.
    """
    _require_slice(mask, pixel_mm)
    if not mask.any():
        return True
    heart = HeartSlice(mask, pixel_mm)
    return not any(CRITERIA[name].excess(heart) for name in _SOONEST_SETTLED)


def check_volume(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> VolumeVerdict:
    """Check each slice of a volume (D, H, W); ``spacing_mm`` is along (slice, row, column).

    Raises:
        ValueError: if the mask is no label map (D, H, W) or a pixel size is not positive.
    """
    if mask.ndim != 3:
        raise ValueError(f"mask: expected a label map (D, H, W), got shape {mask.shape}")
    return volume_verdict(mask, [violations(plane, spacing_mm[1:]) for plane in mask])


def volume_verdict(mask: np.ndarray, slices: Sequence[dict[str, float]]) -> VolumeVerdict:
    """Return the verdict on a volume (D, H, W) of whose slices ``violations`` is known."""
    num_valid = sum(not any(found.values()) for found in slices)
    return VolumeVerdict(
        slices=tuple(slices),
        is_valid=num_valid == len(slices),
        num_valid_slices=num_valid,
        num_empty_slices=sum(not plane.any() for plane in mask),
        broken={name: sum(found[name] > 0 for found in slices) for name in CRITERIA},
    )


def _require_slice(mask: np.ndarray, pixel_mm: PixelSize) -> None:
    is_label_map = mask.ndim == 2 and mask.size > 0 and mask.dtype.kind in "iub"
    if not is_label_map or mask.min() < 0 or mask.max() >= NUM_CLASSES:
        raise ValueError(
            f"mask: expected an integer label map (H, W) with values 0 to {NUM_CLASSES - 1}, "
            f"got shape {mask.shape}, {mask.dtype} and values {np.unique(mask)[:8].tolist()}"
        )
    if len(pixel_mm) != 2 or not all(np.isfinite(size) and size > 0 for size in pixel_mm):
        raise ValueError(f"pixel_mm: expected two positive sizes in mm, got {pixel_mm}")


def _nothing(heart: HeartSlice) -> float:
    return 0.0


def _pixel_diagonal(heart: HeartSlice) -> float:
    """The concavity that putting a convex outline on the grid may feign.

    The grid may take or leave any pixel that the outline crosses, whose center is up to half a
    diagonal off it: half a diagonal outwards for the pixels that carry the hull, half a diagonal
    inwards for the pixel at the bottom of the concavity.
    """
    return float(np.hypot(*heart.pixel_mm))


def _at_most(limit: float) -> Callable[[HeartSlice], float]:
    return lambda heart: limit


def _detached(structure: np.ndarray, part: np.ndarray) -> int:
    return int(np.count_nonzero(structure) - np.count_nonzero(part))


def _gap_pixels(heart: HeartSlice, first: np.ndarray, second: np.ndarray) -> int:
    # What two structures enclose, all three do.
    if not heart.has_enclosed_background or not first.any() or not second.any():
        return 0
    return int(np.count_nonzero(holes_between(first, second) & heart.background))


def _small_gap(heart: HeartSlice) -> float:
    return heart.num_pixels / 2**14


CRITERIA: dict[str, Criterion] = {
    "holes_in_lv": Criterion(
        "holes in the LV", "px", lambda heart: np.count_nonzero(heart.lv_holes), _nothing
    ),
    "holes_in_rv": Criterion(
        "holes in the RV", "px", lambda heart: np.count_nonzero(heart.rv_holes), _nothing
    ),
    "holes_in_myo": Criterion(
        "holes in the myocardium besides the LV",
        "px",
        lambda heart: np.count_nonzero(holes(heart.myo, around=heart.lv)),
        _nothing,
    ),
    "detached_lv": Criterion(
        "LV in several parts", "px", lambda heart: _detached(heart.lv, heart.lv_part), _nothing
    ),
    "detached_rv": Criterion(
        "RV in several parts", "px", lambda heart: _detached(heart.rv, heart.rv_part), _nothing
    ),
    "detached_myo": Criterion(
        "myocardium in several parts",
        "px",
        lambda heart: _detached(heart.myo, heart.myo_part),
        _nothing,
    ),
    "holes_between_lv_and_myo": Criterion(
        "holes between LV and myocardium",
        "px",
        lambda heart: _gap_pixels(heart, heart.lv, heart.myo),
        _small_gap,
    ),
    "holes_between_rv_and_myo": Criterion(
        "holes between RV and myocardium",
        "px",
        lambda heart: _gap_pixels(heart, heart.rv, heart.myo),
        _small_gap,
    ),
    "gap_between_rv_and_myo": Criterion(
        "RV apart from the myocardium",
        "mm",
        lambda heart: gap_mm(heart.rv, heart.myo, heart.pixel_mm),
        _nothing,
    ),
    "lv_touches_rv": Criterion(
        "LV touches the RV", "px", lambda heart: touching_pixels(heart.lv, heart.rv), _nothing
    ),
    "lv_touches_background": Criterion(
        "LV touches the background",
        "px",
        lambda heart: touching_pixels(heart.lv, heart.background),
        _nothing,
    ),
    "lv_concavity": Criterion(
        "LV caves in",
        "mm",
        lambda heart: concavity_mm(heart.filled_lv, heart.pixel_mm),
        _at_most(4.0),
    ),
    "rv_concavity": Criterion(
        "RV caves in",
        "mm",
        lambda heart: concavity_mm(heart.filled_rv, heart.pixel_mm),
        _at_most(30.0),
    ),
    "myo_concavity": Criterion(
        "myocardium's outline caves in",
        "mm",
        lambda heart: concavity_mm(heart.filled_myo, heart.pixel_mm),
        _pixel_diagonal,
    ),
    "lv_circularity": Criterion(
        "LV is not round",
        "",
        lambda heart: circularity(heart.filled_lv, heart.pixel_mm),
        _at_most(0.2),
        is_minimum=True,
    ),
    "myo_circularity": Criterion(
        "myocardium's outline is not round",
        "",
        lambda heart: circularity(heart.filled_myo, heart.pixel_mm),
        _at_most(0.2),
        is_minimum=True,
    ),
}

# What slices break most often, of what is quick to measure; the LV's concavity, by far the most
# frequent of what survives small repairs; then pixel counts and ratios, which take tens of
# microseconds; last the distances, which take hundreds.
_OFTEN_BROKEN = (
    "detached_rv",
    "detached_lv",
    "holes_in_lv",
    "lv_touches_background",
    "lv_touches_rv",
    "lv_concavity",
)
_SOONEST_SETTLED = (
    *_OFTEN_BROKEN,
    *(name for name in CRITERIA if name not in _OFTEN_BROKEN and CRITERIA[name].unit != "mm"),
    *(name for name in CRITERIA if name not in _OFTEN_BROKEN and CRITERIA[name].unit == "mm"),
)
