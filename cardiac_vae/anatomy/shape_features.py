"""A slice as a short vector of lengths, in which sets of hearts can be compared.

What a cardiologist reads off a short-axis contour, written so that every number is a length in mm
that exists in every slice: of a structure that is absent it is 0, which is where it tends to as the
structure shrinks. Ratios such as circularity jump or are undefined there; diameter and perimeter
together hold the same information.
"""

from itertools import starmap

import numpy as np
from scipy import ndimage

from cardiac_vae.anatomy.heart_slice import PixelSize
from cardiac_vae.anatomy.outline import area_and_perimeter
from cardiac_vae.anatomy.topology import FOUR_CONNECTED, bounding_box
from cardiac_vae.labels import Structure

_WALL_PERCENTILES = (10, 50, 90)

SHAPE_FEATURES = (
    "lv_diameter_mm",
    "lv_perimeter_mm",
    "epicardium_diameter_mm",
    "epicardium_perimeter_mm",
    "rv_diameter_mm",
    "rv_perimeter_mm",
    "wall_p10_mm",
    "wall_p50_mm",
    "wall_p90_mm",
    "rv_below_lv_mm",
    "rv_right_of_lv_mm",
)
"""The names of the columns of ``shape_features``."""


def shape_features(masks: np.ndarray, pixel_mm: PixelSize) -> np.ndarray:
    """Return the features (N, 11) of label maps (N, H, W), in mm, in order of ``SHAPE_FEATURES``.

    - Diameters are those of the disk of the same area, perimeters as ``area_and_perimeter``; the
      epicardium is the outline of myocardium and LV together.
    - The wall is measured at each pixel of the LV's rim, as the distance to the nearest pixel that
      is neither myocardium nor LV, less one pixel: 0 where the LV is breached.
    - The RV's place is its centroid relative to that of the epicardium, down the rows and along the
      columns.

    Raises:
        ValueError: if the masks are not (N, H, W).
    """
    if masks.ndim != 3:
        raise ValueError(f"masks: expected label maps (N, H, W), got shape {masks.shape}")
    rows = [_features(mask[bounding_box(mask > 0)], pixel_mm) for mask in masks]
    return np.array(rows).reshape(len(masks), len(SHAPE_FEATURES))


def _features(mask: np.ndarray, pixel_mm: PixelSize) -> list[float]:
    lv, rv = mask == Structure.LV, mask == Structure.RV
    epicardium = lv | (mask == Structure.MYO)
    sizes = [area_and_perimeter(structure, pixel_mm) for structure in (lv, epicardium, rv)]
    return [
        *(value for size in starmap(_diameter_and_perimeter, sizes) for value in size),
        *_wall_mm(lv, epicardium, pixel_mm),
        *_offset_mm(rv, epicardium, pixel_mm),
    ]


def _diameter_and_perimeter(area: float, perimeter: float) -> tuple[float, float]:
    return float(np.sqrt(4 * area / np.pi)), perimeter


def _wall_mm(lv: np.ndarray, epicardium: np.ndarray, pixel_mm: PixelSize) -> list[float]:
    if not lv.any():
        return [0.0] * len(_WALL_PERCENTILES)
    rim = lv & ~ndimage.binary_erosion(lv, FOUR_CONNECTED)
    inside = ndimage.distance_transform_edt(np.pad(epicardium, 1), sampling=pixel_mm)[1:-1, 1:-1]
    wall = np.maximum(inside[rim] - np.sqrt(pixel_mm[0] * pixel_mm[1]), 0)
    return [float(value) for value in np.percentile(wall, _WALL_PERCENTILES)]


def _offset_mm(
    structure: np.ndarray, origin: np.ndarray, pixel_mm: PixelSize
) -> tuple[float, float]:
    if not structure.any() or not origin.any():
        return 0.0, 0.0
    row, column = (
        np.argwhere(structure).mean(axis=0) - np.argwhere(origin).mean(axis=0)
    ) * pixel_mm
    return float(row), float(column)
