"""Parts, holes and contacts of binary structures on the pixel grid.

A structure is 8-connected, so what it leaves free is 4-connected: two pixels of a wall that meet at
a corner close the wall. Only this pairing makes "one part" and "one hole" agree (Rosenfeld 1979).
Beyond the array nothing encloses and nothing touches.
"""

import numpy as np
from scipy import ndimage

EIGHT_CONNECTED = np.ones((3, 3), bool)
FOUR_CONNECTED = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def pixels_of(mask: np.ndarray, label: int) -> np.ndarray:
    """Return where a mask (H, W) has a label, as (H, W) bool."""
    return mask == int(label)  # beside a member of an enumeration numpy widens the mask first


def bounding_box(structure: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns that a structure (H, W) reaches; empty slices if it is empty."""
    rows, columns = np.flatnonzero(structure.any(axis=1)), np.flatnonzero(structure.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def grown(structure: np.ndarray) -> np.ndarray:
    """Return a structure (H, W) bool with the eight neighbors of each pixel."""
    taller = structure.copy()
    taller[1:] |= structure[:-1]
    taller[:-1] |= structure[1:]
    result = taller.copy()
    result[:, 1:] |= taller[:, :-1]
    result[:, :-1] |= taller[:, 1:]
    return result


def largest_part(structure: np.ndarray) -> np.ndarray:
    """Return the largest 8-connected part of a structure (H, W) bool; of equals, the first."""
    parts, num_parts = ndimage.label(structure, EIGHT_CONNECTED)
    if num_parts <= 1:
        return structure
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax()


def holes(structure: np.ndarray, around: np.ndarray | None = None) -> np.ndarray:
    """Return the pixels that a structure (H, W) bool encloses, as (H, W) bool.

    A hole that holds a pixel of ``around`` (H, W) is left out: it is the place of that structure.
    """
    enclosed = np.zeros(structure.shape, bool)
    box = bounding_box(structure)
    inner = structure[box]
    if _has_one_run_a_row(inner):  # a hole would part its rows
        return enclosed
    free = np.ones((inner.shape[0] + 2, inner.shape[1] + 2), bool)
    np.logical_not(inner, out=free[1:-1, 1:-1])
    regions, num_regions = ndimage.label(free, FOUR_CONNECTED)
    if num_regions == 1:
        return enclosed
    is_hole = np.ones(num_regions + 1, bool)
    is_hole[[0, regions[0, 0]]] = False
    regions = regions[1:-1, 1:-1]
    if around is not None:
        is_hole[regions[around[box]]] = False
    enclosed[box] = is_hole[regions]
    return enclosed


def _has_one_run_a_row(structure: np.ndarray) -> bool:
    """Say whether no row of a structure (H, W) bool has a gap in it."""
    starts = np.count_nonzero(structure[:, 1:] > structure[:, :-1])
    starts += np.count_nonzero(structure[:, :1])
    return starts == np.count_nonzero(structure.any(axis=1))


def holes_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the pixels that two structures (H, W) bool enclose together, as (H, W) bool.

    What one of them encloses by itself is a hole of its own and no gap between the two, unless the
    other one lies in it.
    """
    own = holes(first, around=second) | holes(second, around=first)
    return holes(first | second | own)


def touching_pixels(structure: np.ndarray, other: np.ndarray) -> int:
    """Count the pixels of a structure (H, W) bool that touch another, by a side or a corner.

    A single touching pixel is tolerated: a pixel that touches only one pixel of the other, which
    in turn touches only it. Such a contact is what the grid makes of two outlines that cross a
    wall one pixel thin diagonally.
    """
    touched = _count_neighbors(other) * structure
    if not touched.any():
        return 0
    is_wide = other & (_count_neighbors(structure) > 1)
    return int(np.count_nonzero((touched > 1) | (structure & (_count_neighbors(is_wide) > 0))))


def gap_mm(first: np.ndarray, second: np.ndarray, pixel_mm: tuple[float, float]) -> float:
    """Return the width of the gap between two structures (H, W) bool, in mm.

    0 if they touch by a side or a corner, one pixel's size if one pixel lies between them, and 0
    where one of them is absent.
    """
    beside_first = _count_neighbors(first) > 0
    if not first.any() or not second.any() or (beside_first & second).any():
        return 0.0
    distance = ndimage.distance_transform_edt(~second, sampling=pixel_mm)
    return float(distance[beside_first].min())


def _count_neighbors(structure: np.ndarray) -> np.ndarray:
    """Return how many pixels of each 3 x 3 neighborhood (H, W) belong to the structure."""
    count = np.zeros((structure.shape[0] + 2, structure.shape[1] + 2), np.uint8)
    count[1:-1, 1:-1] = structure
    count = count[:-2] + count[1:-1] + count[2:]
    return count[:, :-2] + count[:, 1:-1] + count[:, 2:]
