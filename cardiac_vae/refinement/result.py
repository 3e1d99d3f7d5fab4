"""What came out of a refinement: the mask, the decision on each slice, and what to know of it."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cardiac_vae.anatomy.criteria import VolumeVerdict

UNTOUCHED = "untouched"


@dataclass(frozen=True)
class SliceDecision:
    """What became of a slice.

    Attributes:
        index: Which slice.
        route: ``untouched``, or how the new mask came about.
        changed_pixels: Pixels whose structure is another now.
    """

    index: int
    route: str
    changed_pixels: int


@dataclass(frozen=True)
class RefinementResult:
    """A refined volume and how it came about.

    Attributes:
        mask: (D, H, W) uint8, values of ``Structure``; a copy of the input if nothing changed.
        is_changed: Whether any voxel is another now.
        before: The criteria on the input.
        after: The criteria on the result; always valid, unless it was refused.
        slices: The decision for each slice.
        warnings: What the user should know, one line each.
        bounds: The bound of the scan in nats, sweep by sweep, where its intensities were used, or
            step by step, where codes moved without them. It never falls.
        is_refused: Whether no consistent volume was found; the mask is that of the input then, and
            the last warning says why.
    """

    mask: np.ndarray
    is_changed: bool
    before: VolumeVerdict
    after: VolumeVerdict
    slices: tuple[SliceDecision, ...]
    warnings: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    is_refused: bool = False

    @classmethod
    def unchanged(
        cls,
        mask: np.ndarray,
        verdict: VolumeVerdict,
        warnings: tuple[str, ...] = (),
        *,
        is_refused: bool = False,
    ) -> Self:
        """Return the result that is a copy of the input (D, H, W), of which the criteria say so."""
        slices = tuple(SliceDecision(index, UNTOUCHED, 0) for index in range(len(mask)))
        return cls(mask.copy(), False, verdict, verdict, slices, warnings, is_refused=is_refused)

    def unless_refused(self, where: str) -> Self:
        """Return the result; ``where`` names the volume in the error.

        Raises:
            ValueError: if it was refused, with the reason.
        """
        if self.is_refused:
            raise ValueError(
                f"{where}: expected slices that one heart explains, got none that do "
                f"({self.warnings[-1]}); look at the mask, and whether its slices are in order"
            )
        return self
