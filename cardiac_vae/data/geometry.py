"""Grids in the plane of the slices, and resampling between them: native to prepared and back.

All resampling is separable and linear in the values, so it is two small matrix products per slice.
Masks go as one indicator per structure: averaged over the pixel's area towards coarser pixels,
interpolated linearly towards finer ones, then the most probable class. Where one pixel size divides
the other, coarse -> fine -> coarse is exact. Structures thinner than a pixel can vanish on the way;
``resample_mask`` puts one pixel of each back.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from cardiac_vae.labels import HEART, NUM_CLASSES, Structure

_EIGHT_CONNECTED = np.zeros((3, 3, 3), bool)
_EIGHT_CONNECTED[1] = True  # within a slice, never across
_SAME_HEART_MM = 60.0  # no part of a heart has its centre farther from that of the largest part
_SAME_HEART_SHARE = 0.1
_TOLERANCE = 1e-6  # in pixels; header sizes are float32

Index = tuple[np.ndarray, ...]
Kernel = Literal["area", "linear", "smooth"]


@dataclass(frozen=True)
class PlaneGrid:
    """Pixels of a slice, placed in the plane of the native slice.

    Attributes:
        shape: (H, W).
        pixel_mm: Pixel size along (row, column).
        origin_mm: (row, column) position of the outer corner of pixel (0, 0); the native grid has
            (0, 0).
    """

    shape: tuple[int, int]
    pixel_mm: tuple[float, float]
    origin_mm: tuple[float, float] = (0.0, 0.0)


def heart_centre_mm(
    mask: np.ndarray, grid: PlaneGrid, window_mm: float = 144.0
) -> tuple[float, float]:
    """Return where to put the centre of a window around the heart of a (D, H, W) mask, in mm.

    It is the (row, column) centre of mass, moved as little as it takes for the whole heart to lie
    in a square of ``window_mm``; of a heart that is larger, the middle of its extent. The heart is
    the largest 3-D part of what is not background, with the parts of at least a tenth of its size
    near it (a slice may be missing); the specks of a broken mask do not count.

    Raises:
        ValueError: if the mask is all background.
    """
    _check_shape(mask.shape, (mask.shape[0], *grid.shape))
    if not mask.any():
        raise ValueError("expected a mask with a heart, got background only; leave this case out")
    box = _heart_box(mask)
    inner = mask[box] > 0
    parts, num_parts = ndimage.label(inner, np.ones((3, 3, 3), bool))
    sizes = np.bincount(parts.ravel())[1:]
    centres = np.array(ndimage.center_of_mass(inner, parts, np.arange(1, num_parts + 1)))[:, 1:]
    distances_mm = np.linalg.norm((centres - centres[sizes.argmax()]) * grid.pixel_mm, axis=1)
    is_heart = (sizes >= _SAME_HEART_SHARE * sizes.max()) & (distances_mm <= _SAME_HEART_MM)
    occupied = np.nonzero(np.isin(parts, np.flatnonzero(is_heart) + 1))[1:]
    mass = np.average(centres[is_heart], axis=0, weights=sizes[is_heart])
    corner = np.array([box[1].start, box[2].start])
    index = [
        _fitting_centre(mass[axis], occupied[axis], window_mm / pixel)
        for axis, pixel in enumerate(grid.pixel_mm)
    ]
    row, column = (corner + index + 0.5) * grid.pixel_mm + grid.origin_mm
    return float(row), float(column)


def _fitting_centre(mass: float, occupied: np.ndarray, window: float) -> float:
    """Return the index nearest to ``mass`` from which half a window reaches all that is occupied.

    Half a pixel is left over, for the window's corner is moved to a pixel edge.
    """
    first, last = occupied.min() - 1, occupied.max() + 1
    if last - first > window:
        return float(first + last) / 2
    return float(np.clip(mass, last - window / 2, first + window / 2))


def prepared_grid(
    native: PlaneGrid, centre_mm: tuple[float, float], size: int = 96, pixel_mm: float = 1.5
) -> PlaneGrid:
    """Return the square grid around ``centre_mm``, its corner on the nearest native pixel edge.

    On that edge the two grids nest wherever one pixel size divides the other.
    """
    row, column = (
        start + round((centre - size * pixel_mm / 2 - start) / pixel) * pixel
        for centre, start, pixel in zip(centre_mm, native.origin_mm, native.pixel_mm, strict=True)
    )
    return PlaneGrid((size, size), (pixel_mm, pixel_mm), (row, column))


def covering_grid(native: PlaneGrid, pixel_mm: float = 1.5) -> PlaneGrid:
    """Return the grid of square pixels over the whole native field of view."""
    height, width = (
        int(np.ceil(size * pixel / pixel_mm - _TOLERANCE))
        for size, pixel in zip(native.shape, native.pixel_mm, strict=True)
    )
    return PlaneGrid((height, width), (pixel_mm, pixel_mm), native.origin_mm)


def resample_mask(mask: np.ndarray, source: PlaneGrid, target: PlaneGrid) -> np.ndarray:
    """Resample a (D, H, W) uint8 mask of ``Structure`` values to (D, h, w) uint8.

    Outside the source is background. Every 8-connected part of a structure with a pixel inside the
    target keeps at least one pixel, so long as the target has pixels enough.
    """
    _check_shape(mask.shape, (mask.shape[0], *source.shape))
    resampled = np.zeros((len(mask), *target.shape), np.uint8)
    if not mask.any():
        return resampled
    box = _heart_box(mask)
    kernels = [_mask_kernel(source, target, axis) for axis in (0, 1)]
    rows, columns = (
        _inner_weights(source, target, axis, kernels[axis])[:, box[axis + 1]] for axis in (0, 1)
    )
    indicators = mask[box] == np.array(HEART, np.uint8)[:, None, None, None]
    heart, (row_out, column_out) = _product(rows, columns, indicators)
    shares = np.concatenate([1 - heart.sum(axis=0, keepdims=True), heart])
    shares = np.round(shares, 5)  # a tie is a tie whatever the order of summation,
    if "linear" in kernels:  # and towards finer pixels it goes to the pixel it lies in
        here = _nearest(target, source, 0)[row_out], _nearest(target, source, 1)[column_out]
        around = mask[box[0]][:, here[0]][:, :, here[1]]
        shares += 1e-6 * (around == np.arange(NUM_CLASSES)[:, None, None, None])
    resampled[box[0], row_out, column_out] = shares.argmax(axis=0)
    return _with_lost_parts(mask, resampled, source, target)


def resample_image(image: np.ndarray, source: PlaneGrid, target: PlaneGrid) -> np.ndarray:
    """Resample (D, H, W) float32 to (D, h, w): linear, smoothed first towards coarser pixels.

    Outside the source is its nearest edge value.
    """
    _check_shape(image.shape, (image.shape[0], *source.shape))
    rows, columns = (_weights(source, target, axis, "smooth") for axis in (0, 1))
    return _product(rows, columns, image)[0]


def resample_probabilities(
    probabilities: np.ndarray, source: PlaneGrid, target: PlaneGrid
) -> np.ndarray:
    """Resample (D, C, H, W) float32 to (D, C, h, w); sums to 1, background outside the source."""
    _check_shape(probabilities.shape, (probabilities.shape[0], NUM_CLASSES, *source.shape))
    rows, columns = probability_weights(source, target)
    resampled = np.zeros((len(probabilities), NUM_CLASSES, *target.shape), np.float32)
    heart, (row_out, column_out) = _product(rows, columns, probabilities[:, 1:])
    resampled[:, 1:, row_out, column_out] = heart.clip(0, 1)
    resampled[:, Structure.BACKGROUND] = (1 - resampled[:, 1:].sum(axis=1)).clip(0, 1)
    return resampled


def probability_weights(source: PlaneGrid, target: PlaneGrid) -> tuple[np.ndarray, np.ndarray]:
    """Return A (h, H) and B (w, W) float32 with which probabilities p of a structure are A p B'.

    Zero for the target's rows and columns outside the source; the others sum to 1.
    """
    rows, columns = (_inner_weights(source, target, axis, "smooth") for axis in (0, 1))
    return rows, columns


def lost_parts(
    mask: np.ndarray, resampled: np.ndarray, source: PlaneGrid, target: PlaneGrid
) -> list[tuple[Structure, np.ndarray]]:
    """Return the 8-connected parts inside the target of which ``resampled`` has no pixel.

    Each as its structure and its pixels inside the target, (N, 3) indices into ``mask``.
    """
    if not mask.any():
        return []
    box = _heart_box(mask)
    inner, seen = mask[box], resampled[box[0]]
    inside, at_source = _matches(
        len(seen), *(_nearest(source, target, axis)[box[axis + 1]] for axis in (0, 1))
    )
    in_box, at_target = _matches(
        len(seen), *(_nearest(target, source, axis, box[axis + 1]) for axis in (0, 1))
    )
    lost = []
    start = np.array([edge.start for edge in box])
    for structure in HEART:
        parts, num_parts = ndimage.label(inner == structure, _EIGHT_CONNECTED)
        is_kept = np.zeros(num_parts + 1, bool)
        is_kept[0] = True
        is_kept[parts[inside][seen[at_source] == structure]] = True
        is_kept[parts[at_target][seen[in_box] == structure]] = True
        if is_kept.all():
            continue
        visible = np.zeros_like(parts)
        visible[inside] = np.where(is_kept, 0, np.arange(num_parts + 1))[parts[inside]]
        pixels = np.argwhere(visible)
        part = visible[tuple(pixels.T)]
        order = np.argsort(part, kind="stable")  # part by part in one pass: noise has thousands
        edges = np.flatnonzero(np.diff(part[order])) + 1
        each = np.split(pixels[order] + start, edges)
        lost += [(structure, pixels) for pixels in each if len(pixels)]
    return lost


def _with_lost_parts(
    mask: np.ndarray, resampled: np.ndarray, source: PlaneGrid, target: PlaneGrid
) -> np.ndarray:
    """Plant each lost part's innermost pixel; a planted pixel is never planted over.

    Planting can cost another part its last pixel, so the search starts anew until nothing is lost;
    each part is planted at most once.
    """
    taken = np.zeros(resampled.shape, bool)
    planted: set[tuple[int, ...]] = set()
    while True:
        parts = lost_parts(mask, resampled, source, target)
        fresh = [part for part in parts if tuple(part[1][0]) not in planted]
        if not fresh:
            return resampled
        for structure, pixels in fresh:
            planted.add(tuple(pixels[0]))
            slice_index, row, column = _innermost(pixels)
            place = _free_place(taken[slice_index], (row, column), source, target)
            if place is not None:
                resampled[slice_index][place] = structure
                taken[slice_index][place] = True


def _innermost(pixels: np.ndarray) -> tuple[int, int, int]:
    """Return the pixel of a part (N, 3) farthest from its outside, the most central of these."""
    low = pixels[:, 1:].min(axis=0) - 1
    local = pixels[:, 1:] - low
    part = np.zeros(local.max(axis=0) + 2, bool)
    part[tuple(local.T)] = True
    depth = ndimage.distance_transform_edt(part)[tuple(local.T)]
    off_centre = np.linalg.norm(local - local.mean(axis=0), axis=1)
    slice_index, row, column = pixels[np.lexsort((off_centre, -depth))[0]]
    return int(slice_index), int(row), int(column)


def _free_place(
    taken: np.ndarray, pixel: tuple[int, int], source: PlaneGrid, target: PlaneGrid
) -> tuple[int, int] | None:
    """Return the target pixel nearest to a source pixel's centre that is not taken."""
    centre = [
        (index + 0.5) * size + start
        for index, size, start in zip(pixel, source.pixel_mm, source.origin_mm, strict=True)
    ]
    row_mm, column_mm = (
        (np.arange(length) + 0.5) * size + start - position
        for length, size, start, position in zip(
            target.shape, target.pixel_mm, target.origin_mm, centre, strict=True
        )
    )
    distance = np.hypot(row_mm[:, np.newaxis], column_mm)
    distance[taken] = np.inf
    row, column = np.unravel_index(distance.argmin(), distance.shape)
    return (int(row), int(column)) if np.isfinite(distance[row, column]) else None


def _heart_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Return the box around all that is not background, of which there must be some."""
    depth, rows, columns = ndimage.find_objects((mask > 0).astype(np.uint8))[0]
    return depth, rows, columns


def _product(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Return rows @ values @ columns.T over the last two axes where it can be other than zero.

    The second value says where: the ranges of the result's rows and columns.
    """
    (row_out, row_in), (column_out, column_in) = _used(rows), _used(columns)
    inner = values[..., row_in, column_in].astype(np.float32)
    product = rows[row_out, row_in] @ inner @ columns[column_out, column_in].T
    return product, (row_out, column_out)


def _used(weights: np.ndarray) -> tuple[slice, slice]:
    """Return the ranges of rows and columns of a matrix that are not zero."""
    out, used = (np.flatnonzero(weights.any(axis=axis)) for axis in (1, 0))
    if not len(out):
        return slice(0), slice(0)
    return slice(out[0], out[-1] + 1), slice(used[0], used[-1] + 1)


def _mask_kernel(source: PlaneGrid, target: PlaneGrid, axis: int) -> Kernel:
    return "area" if target.pixel_mm[axis] > source.pixel_mm[axis] else "linear"


def _inner_weights(source: PlaneGrid, target: PlaneGrid, axis: int, kernel: Kernel) -> np.ndarray:
    """Return ``_weights``, zero for the target's pixels outside the source."""
    weights = _weights(source, target, axis, kernel)
    weights[~_is_inside(source, target, axis)] = 0
    return weights


def _weights(source: PlaneGrid, target: PlaneGrid, axis: int, kernel: Kernel) -> np.ndarray:
    """Return the (target, source) float32 matrix along one axis; its rows sum to 1."""
    ratio = target.pixel_mm[axis] / source.pixel_mm[axis]
    length = source.shape[axis]
    centres = _centres(source, target, axis)
    support = max(ratio, 1.0) if kernel == "smooth" else 1.0
    reach = int(np.ceil(max(support, ratio))) + 1
    offsets = np.floor(centres)[:, np.newaxis] + np.arange(-reach, reach + 2)
    distance = np.abs(offsets - centres[:, np.newaxis])
    if kernel == "area":
        weights = np.clip((ratio + 1) / 2 - distance, 0, min(1.0, ratio))
    else:
        weights = np.clip(1 - distance / support, 0, None)
    matrix = np.zeros((target.shape[axis], length))
    positions = np.clip(offsets, 0, length - 1).astype(int)
    np.add.at(matrix, (np.arange(len(matrix))[:, np.newaxis], positions), weights)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def _centres(source: PlaneGrid, target: PlaneGrid, axis: int) -> np.ndarray:
    """Return where the target's pixel centres lie, as source pixel indices."""
    start = target.origin_mm[axis] - source.origin_mm[axis]
    positions_mm = start + (np.arange(target.shape[axis]) + 0.5) * target.pixel_mm[axis]
    return positions_mm / source.pixel_mm[axis] - 0.5


def _is_inside(source: PlaneGrid, target: PlaneGrid, axis: int) -> np.ndarray:
    centres = _centres(source, target, axis)
    return (centres > -0.5 - _TOLERANCE) & (centres < source.shape[axis] - 0.5 + _TOLERANCE)


def _nearest(
    grid: PlaneGrid, other: PlaneGrid, axis: int, within: slice | None = None
) -> np.ndarray:
    """Return, for each pixel of ``grid``, the pixel of ``other`` around its centre, or -1.

    ``within`` restricts ``other`` to a range, from whose start the indices then count.
    """
    start, stop = (within.start, within.stop) if within else (0, other.shape[axis])
    index = np.floor(_centres(other, grid, axis) + 0.5 + _TOLERANCE).astype(int)
    return np.where((index >= start) & (index < stop), index - start, -1)


def _matches(depth: int, rows: np.ndarray, columns: np.ndarray) -> tuple[Index, Index]:
    """Return the pixels of one (depth, H, W) array that have a match in another, and the matches.

    ``rows`` and ``columns`` give for each row and column its match, or -1.
    """
    slices = np.arange(depth)
    has_match = np.ix_(slices, np.flatnonzero(rows >= 0), np.flatnonzero(columns >= 0))
    return has_match, np.ix_(slices, rows[rows >= 0], columns[columns >= 0])


def _check_shape(got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise ValueError(
            f"expected an array of shape {expected}, slices on the source grid, got {got}; "
            "pass the grid the array lies on"
        )
