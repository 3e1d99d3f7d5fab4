"""One slice as the criteria see it: cropped, its structures apart, and filled."""

from functools import cached_property

import numpy as np

from cardiac_vae.anatomy.topology import bounding_box, holes, largest_part, pixels_of
from cardiac_vae.labels import Structure

PixelSize = tuple[float, float]

_OUTSIDE = 255  # beyond the array: no structure, and no background that one could touch


class HeartSlice:
    """A slice cropped to its heart, with what several criteria need, each computed once.

    Attributes:
        pixel_mm: Pixel size along (row, column).
        num_pixels: H * W of the whole slice.

    The structures are (h, w) bool: the heart's bounding box and one pixel around it.
    """

    def __init__(self, mask: np.ndarray, pixel_mm: PixelSize) -> None:
        self.pixel_mm = pixel_mm
        self.num_pixels = mask.size
        self._mask = _crop(mask)

    @cached_property
    def lv(self) -> np.ndarray:
        """Left ventricular cavity."""
        return pixels_of(self._mask, Structure.LV)

    @cached_property
    def myo(self) -> np.ndarray:
        """Left ventricular myocardium."""
        return pixels_of(self._mask, Structure.MYO)

    @cached_property
    def rv(self) -> np.ndarray:
        """Right ventricular cavity."""
        return pixels_of(self._mask, Structure.RV)

    @cached_property
    def background(self) -> np.ndarray:
        """Neither, within the array."""
        return pixels_of(self._mask, Structure.BACKGROUND)

    @cached_property
    def lv_part(self) -> np.ndarray:
        """The largest part of the LV."""
        return largest_part(self.lv)

    @cached_property
    def rv_part(self) -> np.ndarray:
        """The largest part of the RV."""
        return largest_part(self.rv)

    @cached_property
    def myo_part(self) -> np.ndarray:
        """The largest part of the myocardium."""
        return largest_part(self.myo)

    @cached_property
    def lv_holes(self) -> np.ndarray:
        """What the LV encloses."""
        return holes(self.lv)

    @cached_property
    def rv_holes(self) -> np.ndarray:
        """What the RV encloses."""
        return holes(self.rv)

    @cached_property
    def filled_lv(self) -> np.ndarray:
        """The largest part of the LV without its holes."""
        is_whole = self.lv_part is self.lv
        return self.lv_part | (self.lv_holes if is_whole else holes(self.lv_part))

    @cached_property
    def filled_rv(self) -> np.ndarray:
        """The largest part of the RV without its holes."""
        is_whole = self.rv_part is self.rv
        return self.rv_part | (self.rv_holes if is_whole else holes(self.rv_part))

    @cached_property
    def filled_myo(self) -> np.ndarray:
        """What the myocardium's outer contour encloses, the LV included, if there is any."""
        if not self.myo.any():
            return self.myo
        part = largest_part(self.myo | self.lv)
        return part | holes(part)

    @cached_property
    def has_enclosed_background(self) -> bool:
        """Whether the heart as a whole encloses any background."""
        return bool((holes(self.lv | self.myo | self.rv) & self.background).any())


def _crop(mask: np.ndarray) -> np.ndarray:
    """Return the heart's bounding box with one pixel around it, ``_OUTSIDE`` past the array."""
    rows, columns = bounding_box(mask)
    top, left = rows.start - 1, columns.start - 1
    inner = mask[max(top, 0) : rows.stop + 1, max(left, 0) : columns.stop + 1]
    crop = np.full((rows.stop + 1 - top, columns.stop + 1 - left), _OUTSIDE, np.uint8)
    row, column = int(top < 0), int(left < 0)
    crop[row : row + inner.shape[0], column : column + inner.shape[1]] = inner
    return crop
