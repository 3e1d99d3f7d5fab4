"""What segmenters draw of patients whose expert masks are known: what a corrector learns from.

Scans are drawn as they are and made worse, for a user's scan may be either. Slices are seen as the
refiner sees them: in the window of the drawn heart, with what lies apart from it not believed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from cardiac_vae.correction.slices import DrawnStack
from cardiac_vae.data.case import CardiacCase, Spacing
from cardiac_vae.data.scan_corruption import ScanCorruptionConfig, corrupt_case
from cardiac_vae.labels import most_probable
from cardiac_vae.refinement.seen import seen_stack

Predict = Callable[[np.ndarray, Spacing], np.ndarray]
"""An image (D, H, W) and its spacing -> class probabilities (D, C, H, W)."""


def drawn_stacks(
    cases: Iterable[CardiacCase],
    segmenters: Sequence[Predict],
    size: int,
    pixel_mm: float,
    corruption: ScanCorruptionConfig,
    seed: int = 0,
) -> Iterator[DrawnStack]:
    """Yield what segmenters draw of the scans of cases, clean and corrupted, beside the experts'.

    A scan in which one draws nothing has no window, and is left out. Slices are ``size`` pixels of
    ``pixel_mm`` a side; ``corruption`` and ``seed`` say how scans are made worse.

    Raises:
        ValueError: if a case has no image.
    """
    for case in cases:
        if case.image is None:
            raise ValueError(f"{case.case_id}: expected a scan to draw, got a mask alone")
        worse = corrupt_case(case.case_id, case.image, case.spacing_mm, seed, corruption)
        for image in (case.image, worse):
            for predict in segmenters:
                probabilities = predict(image, case.spacing_mm)
                if most_probable(probabilities).any():
                    yield _drawn_stack(case, probabilities, size, pixel_mm)


def _drawn_stack(
    case: CardiacCase, probabilities: np.ndarray, size: int, pixel_mm: float
) -> DrawnStack:
    """Return the slices from the first to the last in which either of the two drew a heart."""
    mask = most_probable(probabilities)
    window, given = seen_stack(mask, probabilities, case.spacing_mm, size, pixel_mm)
    expert = window.masks_to_prepared(window.cut(case.mask))
    heart = np.flatnonzero((mask | case.mask).any(axis=(1, 2)))
    slices = slice(heart[0], heart[-1] + 1)
    return DrawnStack(given[slices], expert[slices])
