"""Clinical measurements on masks: volumes in ml, myocardial mass in g, ejection fraction in %."""

import numpy as np

from cardiac_vae.labels import Structure

MYOCARDIUM_G_PER_ML = 1.05  # Lorenz et al., J Cardiovasc Magn Reson 1(1), 1999


def volume_ml(
    mask: np.ndarray, structure: Structure, spacing_mm: tuple[float, float, float]
) -> float:
    """Return the volume of a structure in a mask (D, H, W), in ml.

    ``spacing_mm`` is the voxel size along (slice, row, column); slices count as far apart as they
    lie, gaps included, as Simpson's rule does.

    Raises:
        ValueError: if the mask is not (D, H, W) or a voxel size is not positive.
    """
    if mask.ndim != 3:
        raise ValueError(f"mask: expected a label map (D, H, W), got shape {mask.shape}")
    if len(spacing_mm) != 3 or not all(np.isfinite(size) and size > 0 for size in spacing_mm):
        raise ValueError(f"spacing_mm: expected three positive sizes in mm, got {spacing_mm}")
    num_voxels = np.count_nonzero(mask == structure)
    return float(num_voxels * np.prod(spacing_mm) / 1000)


def myocardial_mass_g(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Return the mass of the left ventricular myocardium in a mask (D, H, W), in g.

    Raises:
        ValueError: as ``volume_ml``.
    """
    return MYOCARDIUM_G_PER_ML * volume_ml(mask, Structure.MYO, spacing_mm)


def ejection_fraction(edv_ml: float, esv_ml: float) -> float:
    """Return the share of the end-diastolic volume that is ejected, in %.

    Negative if the end-systolic volume is the larger one; NaN if the end-diastolic volume is 0, for
    a ventricle that was not found has no ejection fraction.

    Raises:
        ValueError: if a volume is negative.
    """
    if edv_ml < 0 or esv_ml < 0:
        raise ValueError(f"expected volumes of 0 ml or more, got ED {edv_ml} and ES {esv_ml}")
    return 100 * (edv_ml - esv_ml) / edv_ml if edv_ml > 0 else float("nan")
