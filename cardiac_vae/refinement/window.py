"""The part of a scan that the shape model sees: its own grid, and the native pixels under it."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.data.case import Spacing
from cardiac_vae.data.geometry import (
    PlaneGrid,
    heart_centre_mm,
    prepared_grid,
    resample_mask,
    resample_probabilities,
)
from cardiac_vae.labels import NUM_CLASSES, Structure
from cardiac_vae.refinement.observation import doubted, one_hot_planes


@dataclass(frozen=True)
class HeartWindow:
    """A window around the heart of one volume.

    Attributes:
        whole: Grid of the native slices.
        native: Grid of the native pixels inside the window.
        prepared: Grid that the shape model works on.
        rows: Native rows inside the window.
        columns: Native columns inside the window.
    """

    whole: PlaneGrid
    native: PlaneGrid
    prepared: PlaneGrid
    rows: slice
    columns: slice

    @classmethod
    def around(cls, mask: np.ndarray, spacing_mm: Spacing, size: int, pixel_mm: float) -> Self:
        """Place the window on the heart of a mask (D, H, W), the one that is being refined."""
        whole = PlaneGrid((mask.shape[1], mask.shape[2]), (spacing_mm[1], spacing_mm[2]))
        centre_mm = heart_centre_mm(mask, whole, size * pixel_mm)
        prepared = prepared_grid(whole, centre_mm, size, pixel_mm)
        rows, columns = (_covered(whole, prepared, axis) for axis in (0, 1))
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        origin = (
            whole.origin_mm[0] + rows.start * whole.pixel_mm[0],
            whole.origin_mm[1] + columns.start * whole.pixel_mm[1],
        )
        return cls(whole, PlaneGrid(shape, whole.pixel_mm, origin), prepared, rows, columns)

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Return the window of an array (..., H, W)."""
        return array[..., self.rows, self.columns]

    def paste(self, mask: np.ndarray) -> np.ndarray:
        """Return a native slice (H, W) that is background outside the window's mask (h, w)."""
        slice_mask = np.zeros(self.whole.shape, np.uint8)
        slice_mask[self.rows, self.columns] = mask
        return slice_mask

    def shown(
        self, mask: np.ndarray, is_wrong: np.ndarray, probabilities: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Return what is believed of slices: on the window, and as a shape model is shown it.

        Args:
            mask: (N, H, W) as drawn.
            is_wrong: (N, H, W) bool, voxels whose structure is not believed.
            probabilities: (N, C, H, W) of the segmenter, if they are known.

        Returns:
            Probabilities (N, C, h, w) float32 if there are any, and planes (N, C, S, S) float32:
            the same resampled, or a one-hot mask.
        """
        mask, is_wrong = self.cut(mask), self.cut(is_wrong)
        if probabilities is None:
            believed = np.where(is_wrong, np.uint8(Structure.BACKGROUND), mask)
            return None, one_hot_planes(self.masks_to_prepared(believed))
        seen = doubted(self.cut(probabilities), mask, is_wrong).astype(np.float32)
        return seen, self.to_prepared(seen)

    def is_valid(self, mask: np.ndarray) -> bool:
        """Say whether a mask (h, w) of the window breaks no criterion on the native slice."""
        return is_valid(self.paste(mask), self.whole.pixel_mm)

    def masks_to_prepared(self, masks: np.ndarray) -> np.ndarray:
        """Resample masks (N, h, w) of the window to (N, S, S)."""
        return resample_mask(masks, self.native, self.prepared)

    def masks_to_native(self, masks: np.ndarray) -> np.ndarray:
        """Resample masks (N, S, S) to (N, h, w)."""
        return resample_mask(masks, self.prepared, self.native)

    def to_prepared(self, probabilities: np.ndarray) -> np.ndarray:
        """Resample probabilities (N, C, h, w) of the window to (N, C, S, S)."""
        return resample_probabilities(probabilities, self.native, self.prepared)

    def to_native(self, probabilities: np.ndarray) -> np.ndarray:
        """Resample probabilities (N, C, S, S) to (N, C, h, w)."""
        return resample_probabilities(probabilities, self.prepared, self.native)


def require_one_grid(
    mask: np.ndarray, probabilities: np.ndarray | None, image: np.ndarray | None
) -> None:
    """Refuse probabilities (D, C, H, W) or an image (D, H, W) on another grid than the mask's.

    Raises:
        ValueError: if either is.
    """
    expected = (len(mask), NUM_CLASSES, *mask.shape[1:])
    if probabilities is not None and probabilities.shape != expected:
        raise ValueError(
            f"expected probabilities (D, C, H, W) on the mask's grid, {expected}, "
            f"got shape {probabilities.shape}; give those the mask was decided from"
        )
    if image is not None and image.shape != mask.shape:
        raise ValueError(
            f"expected an image (D, H, W) on the mask's grid, {mask.shape}, got shape "
            f"{image.shape}; give the scan that was segmented"
        )


def _covered(whole: PlaneGrid, prepared: PlaneGrid, axis: int) -> slice:
    """Return the native pixels along one axis that the prepared grid covers."""
    pixel = whole.pixel_mm[axis]
    first = round((prepared.origin_mm[axis] - whole.origin_mm[axis]) / pixel)
    length = int(np.ceil(prepared.shape[axis] * prepared.pixel_mm[axis] / pixel - 1e-6))
    return slice(max(first, 0), min(first + length, whole.shape[axis]))
