"""Rejection sampling: draw until it is a heart.

Of proposals from p(x), a density through the decoder, those that are hearts are kept, which makes
them draws of p(x) 1[x is a heart] / P, P = p(x is a heart) being the share that is accepted (von
Neumann 1951, with an envelope that fits exactly). Each heart costs 1 / P draws on average.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Accepted:
    """What rejection left.

    Attributes:
        masks: (N, H, W) uint8: N hearts, and where all tries were in vain the last of them.
        is_heart: (N,) bool.
        num_tries: (N,) draws that each took.
    """

    masks: np.ndarray
    is_heart: np.ndarray
    num_tries: np.ndarray

    @property
    def tries_per_heart(self) -> float:
        """Draws per accepted heart, the reciprocal of the acceptance rate; inf without any."""
        hearts = int(self.is_heart.sum())
        return float(self.num_tries.sum() / hearts) if hearts else float("inf")


def reject(
    masks: np.ndarray,
    draw: Callable[[int, int], np.ndarray],
    are_hearts: Callable[[np.ndarray], np.ndarray],
    max_tries: int,
) -> Accepted:
    """Replace those of the draws (N, H, W) that are no hearts by new ones, as often as it takes.

    Args:
        masks: The first try of each.
        draw: Takes a number M and the number of the try, from 1; returns M more draws (M, H, W).
        are_hearts: Says which of (M, H, W) are hearts, (M,) bool.
        max_tries: Of each, the first one included.
    """
    masks, is_heart = masks.copy(), are_hearts(masks)
    num_tries = np.ones(len(masks), int)
    for attempt in range(1, max_tries):
        missing = np.flatnonzero(~is_heart)
        if not len(missing):
            break
        masks[missing] = draw(len(missing), attempt)
        is_heart[missing] = are_hearts(masks[missing])
        num_tries[missing] += 1
    return Accepted(masks, is_heart, num_tries)
