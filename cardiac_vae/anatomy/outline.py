"""The shape of a structure's outline in mm: how deep it caves in, how round it is."""

import numpy as np

from cardiac_vae.anatomy.topology import bounding_box

Point = tuple[int, int]


def concavity_mm(structure: np.ndarray, pixel_mm: tuple[float, float]) -> float:
    """Return the depth of the deepest concavity of a filled structure (H, W) bool, in mm.

    It is the largest distance to the edge of the convex hull (of the pixel centers) among the pixel
    centers that lie in the hull and not in the structure. A convex shape put on a grid has none, so
    its concavity is exactly 0; so is that of an empty structure.
    """
    structure = structure[bounding_box(structure)]
    if not structure.size:
        return 0.0
    hull = np.array(convex_hull(structure)) * pixel_mm
    outside = np.argwhere(~structure) * pixel_mm
    if len(hull) < 3 or not len(outside):
        return 0.0
    edges = np.roll(hull, -1, axis=0) - hull
    normals = np.stack([-edges[:, 1], edges[:, 0]], axis=1)
    normals /= np.hypot(edges[:, 0], edges[:, 1])[:, None]
    inwards = normals @ outside.T  # (edges, pixels)
    inwards -= (normals * hull).sum(axis=1)[:, None]
    return max(0.0, float(inwards.min(axis=0).max()))


def circularity(structure: np.ndarray, pixel_mm: tuple[float, float]) -> float:
    """Return 4 pi A / P^2 of a structure (H, W) bool: 1 for a disk, towards 0 for a thread.

    Area and perimeter are those of ``area_and_perimeter``. NaN if the structure is empty.
    """
    area, perimeter = area_and_perimeter(structure, pixel_mm)
    return 4 * np.pi * area / perimeter**2 if perimeter else float("nan")


def area_and_perimeter(structure: np.ndarray, pixel_mm: tuple[float, float]) -> tuple[float, float]:
    """Return the area (mm^2) and the perimeter (mm) of a structure (H, W) bool; 0 if it is empty.

    They are those of the polygon that marching squares draw half way between the pixels in and
    out, summed over the 2 x 2 windows.
    """
    padded = np.zeros((structure.shape[0] + 2, structure.shape[1] + 2), np.uint8)
    padded[1:-1, 1:-1] = structure
    rows = padded[:, :-1] | padded[:, 1:] << 1
    windows = np.bincount((rows[:-1] | rows[1:] << 2).ravel(), minlength=16)
    height, width = pixel_mm
    corner = 0.5 * np.hypot(height, width)
    # Bits of a window: 1 upper left, 2 upper right, 4 lower left, 8 lower right. Diagonal pairs
    # (6 and 9) are joined, for structures are 8-connected.
    length = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0]) * corner
    length[[3, 12]], length[[5, 10]] = width, height
    eighths = np.array([0, 1, 1, 4, 1, 4, 6, 7, 1, 6, 4, 7, 4, 7, 7, 8])
    return float(windows @ eighths) / 8 * height * width, float(windows @ length)


def convex_hull(structure: np.ndarray) -> list[Point]:
    """Return the corners (row, column) of the hull of the pixel centers, counter-clockwise.

    Andrew's monotone chain (1979) over the first and last pixel of each row, in whole numbers and
    so without rounding.
    """
    is_used = structure.any(axis=1)
    used = np.flatnonzero(is_used).tolist()
    first = structure.argmax(axis=1)[is_used].tolist()
    last = (structure.shape[1] - 1 - structure[:, ::-1].argmax(axis=1))[is_used].tolist()
    top, bottom = (used[0], first[0]), (used[-1], last[-1])
    left = _half_hull([*zip(used, first, strict=True), bottom])
    right = _half_hull([*zip(used[::-1], last[::-1], strict=True), top])
    return left[:-1] + right[:-1]


def inside_hull(corners: list[Point], shape: tuple[int, ...]) -> np.ndarray:
    """Return the pixels whose centers lie in the hull of ``convex_hull``, (H, W) bool.

    ``shape`` is that of the structure, which fills its rows from the first to the last. In whole
    numbers: on the way down an edge says where a row begins, on the way up where it ends.
    """
    start = np.array(corners)
    step = np.array([*corners[1:], corners[0]]) - start
    rows, columns = np.arange(shape[0]), np.arange(shape[1])
    down, up = step[:, 0] > 0, step[:, 0] < 0
    first = -_columns_at(rows, start[down] * (1, -1), step[down] * (1, -1)).min(0, initial=0)
    last = _columns_at(rows, start[up], step[up]).min(axis=0, initial=shape[1] - 1)
    return (columns >= first[:, None]) & (columns <= last[:, None])


def _columns_at(rows: np.ndarray, start: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the last whole column before each of some lines (N, 2) in each row, (N, rows)."""
    return start[:, 1:] + step[:, 1:] * (rows - start[:, :1]) // step[:, :1]


def _half_hull(points: list[Point]) -> list[Point]:
    hull: list[Point] = []
    for row, column in points:
        while len(hull) > 1:
            r0, c0 = hull[-2]
            r1, c1 = hull[-1]
            if (r1 - r0) * (column - c0) - (c1 - c0) * (row - r0) > 0:
                break
            hull.pop()
        hull.append((row, column))
    return hull
