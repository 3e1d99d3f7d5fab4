"""What is not believed of a drawn volume, and which slices are therefore drawn anew.

Doubt comes from the criteria of each slice, from the volume (a part apart from the rest, a gap in
the stack), and from the stack's word on which structures a slice holds. What was drawn anew is
looked at again, and doubt grows until the volume hangs together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cardiac_vae.anatomy.criteria import VolumeVerdict
from cardiac_vae.data.case import Spacing
from cardiac_vae.labels import HEART, NUM_CLASSES, Structure
from cardiac_vae.metrics.presence import present_structures, structure_pixels
from cardiac_vae.refinement.stack.consistency import detached_voxels, is_gap
from cardiac_vae.refinement.stack.decisions import PresenceDecision

LARGEST_LOSS = 0.25
"""Share of a structure that may be given up because it lies apart from the rest."""


@dataclass(frozen=True)
class Doubt:
    """What is to become another of a volume of D slices.

    Attributes:
        is_wrong: (D, H, W) bool, voxels whose structure is not believed.
        gain: (D, C) nats that every pixel of a slice gains by each class; -inf forbids it.
        expected: (D, 3) bool, which structures each slice should hold, as ``HEART``.
        largest: (D, 3) pixels that each structure may have: where the stack adds one, no more than
            in the larger of the slices beside it, else infinity.
        is_chosen: (D,) bool, the slices to draw anew.
    """

    is_wrong: np.ndarray
    gain: np.ndarray
    expected: np.ndarray
    largest: np.ndarray
    is_chosen: np.ndarray

    @classmethod
    def of(
        cls,
        mask: np.ndarray,
        spacing_mm: Spacing,
        verdict: VolumeVerdict,
        decisions: Sequence[PresenceDecision],
        gain: np.ndarray,
    ) -> Self:
        """Return the doubt about a mask (D, H, W) as drawn.

        ``verdict`` are the criteria on it, ``decisions`` the stack's word, and ``gain`` (D, C) what
        that is worth (``presence_term``).
        """
        is_wrong = loose_voxels(mask, spacing_mm)
        for decision in decisions:
            if decision.is_removal:
                is_wrong[decision.index] |= mask[decision.index] == decision.structure
        is_chosen = np.array([any(broken.values()) for broken in verdict.slices])
        is_chosen |= is_wrong.any(axis=(1, 2))
        is_chosen[[decision.index for decision in decisions]] = True
        drawn = np.where(is_wrong, np.uint8(Structure.BACKGROUND), mask)
        expected = present_structures(drawn)
        largest = _largest(drawn, decisions)
        doubt = cls(is_wrong, gain, expected, largest, is_chosen)
        return doubt._with_gaps_filled(is_gap(expected))

    def about(self, refined: np.ndarray, spacing_mm: Spacing) -> Self:
        """Return the doubt after a look at what was drawn, (D, H, W).

        A structure goes from the slices where it lies apart; where it has a gap, it is expected.
        """
        loose = loose_voxels(refined, spacing_mm)
        gone = present_structures(np.where(loose, refined, np.uint8(Structure.BACKGROUND)))
        gain = self.gain.copy()
        gain[:, list(HEART)] = np.where(gone, -np.inf, gain[:, list(HEART)])
        doubt = replace(
            self,
            gain=gain,
            expected=self.expected & ~gone,
            is_chosen=self.is_chosen | gone.any(axis=1),
        )
        return doubt._with_gaps_filled(is_gap(present_structures(refined) & ~gone))

    def is_as(self, other: Self) -> bool:
        """Say whether the other doubt asks for the same slices to be drawn in the same way."""
        same = (self.gain, self.expected, self.largest, self.is_chosen)
        others = (other.gain, other.expected, other.largest, other.is_chosen)
        return all(np.array_equal(mine, its) for mine, its in zip(same, others, strict=True))

    def _with_gaps_filled(self, missing: np.ndarray) -> Self:
        """Expect structures where they are missing (D, 3), whatever was said against them."""
        gain = self.gain.copy()
        is_forbidden = np.isneginf(gain[:, list(HEART)])
        gain[:, list(HEART)] = np.where(missing & is_forbidden, 0.0, gain[:, list(HEART)])
        return replace(
            self,
            gain=gain,
            expected=self.expected | missing,
            largest=np.where(missing, np.inf, self.largest),
            is_chosen=self.is_chosen | missing.any(axis=1),
        )


def limited(log_score: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Return a log-score (C, h, w) by which no structure has more pixels than ``largest`` (3,).

    Pixel by pixel, its most probable class counts. A structure that would have more loses as many
    nats everywhere as leave it its surest pixels.
    """
    log_score, is_settled = log_score.copy(), False
    while not is_settled:  # what one gives up may fall to another that is limited
        is_settled = True
        for structure, most in zip(HEART, largest, strict=True):
            lead = log_score[structure] - np.delete(log_score, structure, axis=0).max(axis=0)
            if np.count_nonzero(lead > 0) > most:
                surest = -np.sort(-lead, axis=None)
                kept = surest[int(most) - 1] if most else surest[0] + 1
                log_score[structure] -= (kept + surest[int(most)]) / 2
                is_settled = False
    return log_score


def _largest(drawn: np.ndarray, decisions: Sequence[PresenceDecision]) -> np.ndarray:
    beside = np.pad(structure_pixels(drawn), ((1, 1), (0, 0)))
    beside = np.maximum(beside[:-2], beside[2:])
    largest = np.full(beside.shape, np.inf)
    for decision in decisions:
        if not decision.is_removal:
            at = decision.index, HEART.index(decision.structure)
            largest[at] = beside[at]
    return largest


def loose_voxels(mask: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Return what of a mask (D, H, W) lies apart and is little enough to be given up, as bool."""
    detached = detached_voxels(mask, spacing_mm)
    apart = np.bincount(mask[detached], minlength=NUM_CLASSES)
    drawn = np.bincount(mask.ravel(), minlength=NUM_CLASSES)
    return detached & (apart <= LARGEST_LOSS * drawn)[mask]
