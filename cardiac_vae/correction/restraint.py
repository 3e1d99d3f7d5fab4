"""How far a correction may go: a structure that was drawn is neither lost nor invented by it.

A corrector looks at neighbors. Where these mislead, it takes the right ventricle from a slice, or
draws a ring around a speck. What it makes of such a slice is not used.
"""

import numpy as np
from pydantic import Field

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import most_probable
from cardiac_vae.metrics.presence import structure_pixels


class RestraintConfig(StrictConfig):
    """Limits of a correction.

    Attributes:
        least: Share of its pixels that every structure drawn must keep.
        most: How many times as many it may get.
    """

    least: float = Field(default=0.5, ge=0, le=1)
    most: float = Field(default=3.0, ge=1)


def restrained(
    corrected: np.ndarray, given: np.ndarray, config: RestraintConfig | None = None
) -> np.ndarray:
    """Return corrections, and slices as given where a correction goes too far; (N, C, S, S) both.

    Pixels count for their most probable class. A structure that was not drawn has no limit.
    """
    config = config or RestraintConfig()
    before, after = (structure_pixels(most_probable(planes)) for planes in (given, corrected))
    goes_too_far = (after < config.least * before) | (after > config.most * before)
    is_as_given = np.any(goes_too_far & (before > 0), axis=1, keepdims=True)
    return np.where(is_as_given[:, :, None, None], given, corrected)
