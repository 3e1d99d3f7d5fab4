"""What a refiner must beat: the usual clean-up without any knowledge of hearts."""

import numpy as np
from scipy import ndimage

from cardiac_vae.anatomy.topology import holes
from cardiac_vae.labels import Structure

_TOUCHING = np.ones((3, 3, 3), bool)


def largest_component_and_filled_holes(mask: np.ndarray) -> np.ndarray:
    """Return a mask (D, H, W) with each structure in one part and without holes, as a new array.

    Of each structure only the largest component in 3-D stays (voxels touch by face, edge or
    corner); then the background that it encloses within a slice becomes that structure. Other
    structures keep their place: the LV is no hole of the myocardium. The input is not changed.

    Raises:
        ValueError: if the mask is not (D, H, W).
    """
    if mask.ndim != 3:
        raise ValueError(f"mask: expected a label map (D, H, W), got shape {mask.shape}")
    cleaned = np.zeros_like(mask)
    inside_out = (Structure.LV, Structure.MYO, Structure.RV)
    for structure in inside_out:
        cleaned[_largest_component(mask == structure)] = structure
    for plane in cleaned:
        for structure in inside_out:
            plane[holes(plane == structure) & (plane == Structure.BACKGROUND)] = structure
    return cleaned


def _largest_component(structure: np.ndarray) -> np.ndarray:
    components, num_components = ndimage.label(structure, _TOUCHING)
    if num_components <= 1:
        return structure
    return components == 1 + np.bincount(components.ravel())[1:].argmax()
