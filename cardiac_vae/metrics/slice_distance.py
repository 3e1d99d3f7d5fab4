"""How far apart two slices lie as hearts, in mm: of one pair, and of every pair of two sets.

The distance is the average symmetric surface distance of ``metrics.surface``, averaged over the
structures that either slice shows. A structure that only one of them shows costs the diagonal of
the slice: no distance within it is longer, so nothing is gained by leaving a structure out.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage, sparse

from cardiac_vae.labels import HEART, Structure
from cardiac_vae.metrics.surface import average_surface_distance

PixelSize = tuple[float, float]

_CHUNK = 128  # slices whose distance maps are held at a time: bounds memory


def slice_distance(reference: np.ndarray, predicted: np.ndarray, pixel_mm: PixelSize) -> float:
    """Return the distance of two label maps (H, W), in mm; NaN if both are empty.

    ``pixel_mm`` is the size along (row, column).

    Raises:
        ValueError: if the masks are not two (H, W) of one shape or a pixel size is not positive.
    """
    if reference.ndim != 2 or reference.shape != predicted.shape:
        raise ValueError(
            "expected two label maps (H, W) of one shape, "
            f"got {reference.shape} and {predicted.shape}"
        )
    distances = [
        average_surface_distance(
            reference[None] == structure, predicted[None] == structure, (1.0, *pixel_mm)
        )
        for structure in HEART
    ]
    known = [distance for distance in distances if not np.isnan(distance)]
    diagonal = _diagonal_mm(reference.shape, pixel_mm)
    return float(np.mean(np.minimum(known, diagonal))) if known else float("nan")


def pairwise_slice_distances(
    first: np.ndarray, second: np.ndarray, pixel_mm: PixelSize
) -> np.ndarray:
    """Return ``slice_distance`` of every pair of label maps (N, H, W) and (M, H, W), (N, M) in mm.

    All of them exactly, to single precision: with a map of the distance to each surface, the sum
    over the pixels of one surface is a row of a sparse matrix times a column of maps.

    Raises:
        ValueError: if the masks are not two stacks of slices of one size.
    """
    if first.ndim != 3 or second.ndim != 3 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            "expected label maps (N, H, W) and (M, H, W) of one size, "
            f"got {first.shape} and {second.shape}"
        )
    diagonal = _diagonal_mm(first.shape[1:], pixel_mm)
    box = _common_box(first, second)
    rows = [
        np.hstack([_block(near, far, pixel_mm, diagonal) for far in _chunks(second[:, *box])])
        for near in _chunks(first[:, *box])
    ]
    return np.vstack(rows) if rows else np.zeros((0, len(second)))


def _diagonal_mm(shape: tuple[int, ...], pixel_mm: PixelSize) -> float:
    return float(np.linalg.norm(np.multiply(shape, pixel_mm)))


def _common_box(first: np.ndarray, second: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns that any mask reaches: all distances lie within."""
    used = np.concatenate([first, second])
    rows = np.flatnonzero(np.any(used, axis=(0, 2)))
    columns = np.flatnonzero(np.any(used, axis=(0, 1)))
    if not len(rows):
        return slice(0, 1), slice(0, 1)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _chunks(masks: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(masks), _CHUNK):
        yield masks[start : start + _CHUNK]


def _block(
    first: np.ndarray, second: np.ndarray, pixel_mm: PixelSize, diagonal: float
) -> np.ndarray:
    total = np.zeros((len(first), len(second)))
    number = np.zeros_like(total)
    for structure in HEART:
        near, far = (_Surfaces(masks, structure, pixel_mm) for masks in (first, second))
        sums = near.pixels @ far.distance.T + (far.pixels @ near.distance.T).T
        counts = near.sizes[:, None] + far.sizes
        both = (near.sizes[:, None] > 0) & (far.sizes > 0)
        total += np.where(both, sums / np.maximum(counts, 1), diagonal * (counts > 0))
        number += counts > 0
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


class _Surfaces:
    """The surfaces of a structure in N slices.

    Attributes:
        pixels: (N, P) sparse, 1 where the surface is.
        sizes: (N,) pixels of each surface.
        distance: (N, P) float32, distance of each pixel to the surface in mm; 0 if there is none.
    """

    def __init__(self, masks: np.ndarray, structure: Structure, pixel_mm: PixelSize) -> None:
        inside = masks == structure
        in_plane = ndimage.generate_binary_structure(3, 1)
        in_plane[[0, 2]] = False
        surface = inside & ~ndimage.binary_erosion(inside, in_plane)
        self.sizes = np.count_nonzero(surface, axis=(1, 2))
        self.pixels = sparse.csr_array(surface.reshape(len(masks), -1).astype(np.float32))
        self.distance = np.zeros((len(masks), surface[0].size), np.float32)
        for index in np.flatnonzero(self.sizes):
            found = ndimage.distance_transform_edt(~surface[index], sampling=pixel_mm)
            self.distance[index] = found.ravel()
