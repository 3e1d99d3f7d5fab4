"""How far apart the surfaces of two masks lie, in mm.

A surface is the voxels of a mask with a free neighbor across a face; what lies beyond the array is
free. In a volume of one slice the surface is the outline in the plane.
"""

import numpy as np
from scipy import ndimage

Spacing = tuple[float, float, float]


def hausdorff95(reference: np.ndarray, predicted: np.ndarray, spacing_mm: Spacing) -> float:
    """Return the 95th percentile of the symmetric surface distance, in mm.

    The greater of the two directed percentiles, each over the voxels of one surface. Both masks are
    (D, H, W) bool, ``spacing_mm`` along (slice, row, column). NaN if both masks are empty, infinite
    if one is: a missed structure is a miss, not a gap in the table.

    Raises:
        ValueError: if the masks are not two (D, H, W) of one shape or a voxel size is not positive.
    """
    there, back = surface_distances(reference, predicted, spacing_mm)
    if not len(there) or not len(back):
        return float("nan") if len(there) == len(back) else float("inf")
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def average_surface_distance(
    reference: np.ndarray, predicted: np.ndarray, spacing_mm: Spacing
) -> float:
    """Return the average symmetric surface distance (ASSD), in mm.

    The mean over the voxels of both surfaces together; arguments, special values and errors are
    those of ``hausdorff95``.
    """
    there, back = surface_distances(reference, predicted, spacing_mm)
    if not len(there) or not len(back):
        return float("nan") if len(there) == len(back) else float("inf")
    return float((there.sum() + back.sum()) / (len(there) + len(back)))


def surface_distances(
    reference: np.ndarray, predicted: np.ndarray, spacing_mm: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    """Return each surface voxel's distance to the other surface, in mm.

    First those of the reference (N,), then those of the predicted mask (M,); infinite where the
    other mask is empty.

    Raises:
        ValueError: as ``hausdorff95``.
    """
    _require_volumes(reference, predicted, spacing_mm)
    box = _bounding_box(reference | predicted)
    surfaces = [_surface(mask[box]) for mask in (reference, predicted)]
    there, back = (
        _distance_to(other, spacing_mm)[surface]
        for surface, other in zip(surfaces, surfaces[::-1], strict=True)
    )
    return there, back


def volume_diagonal_mm(shape: tuple[int, int, int], spacing_mm: Spacing) -> float:
    """Return the length of a volume's diagonal in mm: no distance within it is longer."""
    return float(np.linalg.norm(np.multiply(shape, spacing_mm)))


def _surface(mask: np.ndarray) -> np.ndarray:
    connectivity = ndimage.generate_binary_structure(3, 1)
    if mask.shape[0] == 1:
        connectivity[[0, 2]] = False
    return mask & ~ndimage.binary_erosion(mask, connectivity)


def _distance_to(surface: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    if not surface.any():
        return np.full(surface.shape, np.inf)
    return ndimage.distance_transform_edt(~surface, sampling=spacing_mm)


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    box = ndimage.find_objects(mask.astype(np.uint8))
    return box[0] if box else (slice(0, 0),) * mask.ndim


def _require_volumes(reference: np.ndarray, predicted: np.ndarray, spacing_mm: Spacing) -> None:
    if reference.ndim != 3 or reference.shape != predicted.shape:
        raise ValueError(
            "expected two masks (D, H, W) of one shape, "
            f"got {reference.shape} and {predicted.shape}"
        )
    if len(spacing_mm) != 3 or not all(np.isfinite(size) and size > 0 for size in spacing_mm):
        raise ValueError(f"spacing_mm: expected three positive sizes in mm, got {spacing_mm}")
