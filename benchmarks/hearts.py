"""What the benchmarks work on: phantom hearts, whole and broken, seeded and the same each time."""

from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
import torch

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.data.case import Spacing
from cardiac_vae.data.corruption import CorruptionConfig, break_masks
from cardiac_vae.data.geometry import (
    PlaneGrid,
    heart_centre_mm,
    prepared_grid,
    resample_mask,
    resample_probabilities,
)
from cardiac_vae.data.phantom import Patient, PhantomConfig, make_patient
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.labels import Phase, most_probable
from cardiac_vae.refinement.observation import soft_mask

NUM_SLICES = 10
SIZE, PIXEL_MM = 96, 1.5


@dataclass(frozen=True)
class Scan:
    """A scan and what a segmenter could have made of it.

    Attributes:
        image: (D, H, W) float32, the whole field of view.
        mask: (D, H, W) uint8, the most probable structures.
        probabilities: (D, C, H, W) float32.
        spacing_mm: Voxel size along (slice, row, column).
    """

    image: np.ndarray
    mask: np.ndarray
    probabilities: np.ndarray
    spacing_mm: Spacing


def prepared_slices(num_patients: int = 2) -> np.ndarray:
    """Return the slices of some phantoms that show a heart, (N, 96, 96) uint8 at 1.5 mm."""
    slices = []
    for index in range(num_patients):
        patient = make_patient(index, PhantomConfig())
        for phase in Phase:
            mask = patient.masks[phase]
            native, prepared = _grids(mask, _spacing_mm(patient))
            slices.append(resample_mask(mask, native, prepared))
    masks = np.concatenate(slices)
    return masks[masks.any(axis=(1, 2))]


def broken_scan(num_broken: int, num_slices: int = NUM_SLICES) -> Scan:
    """Return a scan with a heart in each slice, of which the middle ``num_broken`` are broken.

    They come through the noisy channel of training until they break a criterion; the others are
    whole, and sure but for their borders.
    """
    patient = _patient_of(num_slices)
    spacing_mm = _spacing_mm(patient)
    shown = np.flatnonzero(patient.masks[Phase.ED].any(axis=(1, 2)))[:num_slices]
    mask = patient.masks[Phase.ED][shown]
    probabilities = soft_mask(mask, spacing_mm[1:])
    first = (num_slices - num_broken) // 2
    for index in range(first, first + num_broken):
        probabilities[index] = _broken(mask, index, spacing_mm)
    return Scan(
        image=patient.images[Phase.ED][shown].astype(np.float32),
        mask=most_probable(probabilities),
        probabilities=probabilities,
        spacing_mm=spacing_mm,
    )


@cache
def _patient_of(num_slices: int) -> Patient:
    """Return the first phantom whose heart is in that many slices or more at end-diastole."""
    for index in count():
        patient = make_patient(index, PhantomConfig())
        if np.count_nonzero(patient.masks[Phase.ED].any(axis=(1, 2))) >= num_slices:
            return patient
    raise AssertionError("unreachable")


def _broken(mask: np.ndarray, index: int, spacing_mm: Spacing) -> np.ndarray:
    """Return probabilities (C, H, W) of a slice whose most probable structures are no heart."""
    native, prepared = _grids(mask, spacing_mm)
    whole = one_hot(torch.from_numpy(resample_mask(mask, native, prepared)))
    for attempt in count():
        torch.manual_seed(1000 * index + attempt)
        seen = break_masks(whole, CorruptionConfig())[index : index + 1].numpy()
        probabilities = resample_probabilities(seen, prepared, native)[0]
        if not is_valid(probabilities.argmax(axis=0), spacing_mm[1:]):
            return probabilities
    raise AssertionError("unreachable")


def _grids(mask: np.ndarray, spacing_mm: Spacing) -> tuple[PlaneGrid, PlaneGrid]:
    native = PlaneGrid((mask.shape[1], mask.shape[2]), spacing_mm[1:])
    centre_mm = heart_centre_mm(mask, native, SIZE * PIXEL_MM)
    return native, prepared_grid(native, centre_mm, SIZE, PIXEL_MM)


def _spacing_mm(patient: Patient) -> Spacing:
    place = patient.placement
    return (place.slice_mm, place.pixel_mm, place.pixel_mm)
