"""Valid by construction: of all candidates for a slice, a most probable one that is a heart.

The score of a mask x is its log-probability under the product of two experts, the shape model that
explained the slice and the segmenter that drew it:

    score(x) = sum over pixels of log p_model(x_i) + exponent * log p_segmenter(x_i)

Candidates come in lots, from the most probable mask of all to those that give up ever more of it.
The first lot with a valid candidate decides, and in it the score. The last lot holds shapes of the
training patients, each valid on its own grid.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cardiac_vae.anatomy.repair import convex_wall, repaired, smoothed
from cardiac_vae.labels import Structure

EMPTIED = "emptied"
_PARTIAL = {"without RV": [Structure.RV], "RV alone": [Structure.MYO, Structure.LV]}


class Candidate(NamedTuple):
    """One mask that a slice could become.

    Attributes:
        route: How it came about.
        mask: (H, W) uint8.
    """

    route: str
    mask: np.ndarray


def most_probable_valid(
    candidates: Sequence[Candidate],
    log_score: np.ndarray,
    is_valid: Callable[[np.ndarray], bool],
) -> Candidate | None:
    """Return the valid candidate with the largest score, or None if none is valid.

    ``log_score`` is (C, H, W), nats that each pixel gains by each class; ``is_valid`` judges a
    candidate's mask (H, W) where it will lie.
    """
    for candidate in sorted(candidates, key=lambda candidate: -total(candidate.mask, log_score)):
        if is_valid(candidate.mask):
            return candidate
    return None


def total(mask: np.ndarray, log_score: np.ndarray) -> float:
    """Return the score of a mask (H, W) in nats."""
    of_class = mask.size * mask.astype(np.intp)  # where the plane of each pixel's class begins
    return float(log_score.take(of_class + np.arange(mask.size).reshape(mask.shape)).sum())


def whole_hearts(
    drawn: np.ndarray, log_score: np.ndarray, log_model: np.ndarray
) -> Iterator[list[Candidate]]:
    """Yield lots of candidates that keep every structure which the experts see.

    First what both experts together say, the maximum of the score; then small repairs of that and
    of the mask as drawn; then the same with smoother outlines; last the shape model alone.
    """
    product = Candidate("product", log_score.argmax(axis=0).astype(np.uint8))
    experts = [product, Candidate("drawn", drawn)]
    yield [product]
    fixed = [repaired(expert.mask, log_score) for expert in experts]
    yield [
        Candidate(f"{expert.route}, repaired", mask)
        for expert, mask in zip(experts, fixed, strict=True)
    ]
    yield [
        rounded
        for expert, mask in zip(experts, fixed, strict=True)
        for rounded in _rounder(expert.route, mask, log_score)
    ]
    projection = Candidate("projection", log_model.argmax(axis=0).astype(np.uint8))
    mask = repaired(projection.mask, log_score)
    rounder = _rounder(projection.route, mask, log_score)
    yield [projection, Candidate("projection, repaired", mask), *rounder]


def partial_hearts(drawn: np.ndarray, log_score: np.ndarray) -> list[Candidate]:
    """Return candidates that give structures up: nothing at all, without RV, RV alone."""
    product = Candidate("product", log_score.argmax(axis=0).astype(np.uint8))
    candidates = [Candidate(EMPTIED, np.zeros_like(drawn))]
    for name, mask in (product, Candidate("drawn", drawn)):
        for kind, given_up in _PARTIAL.items():
            part = np.where(np.isin(mask, given_up), Structure.BACKGROUND, mask).astype(np.uint8)
            allowed = log_score.copy()
            allowed[given_up] = -np.inf
            candidates += _rounder(f"{name}, {kind}", repaired(part, allowed), allowed)
    return candidates


def _rounder(route: str, fixed: np.ndarray, log_score: np.ndarray) -> list[Candidate]:
    """Return a repaired mask with a convex wall, and smoothed by growing disks; each repaired."""
    rounder = [Candidate(f"{route}, convex wall", repaired(convex_wall(fixed), log_score))]
    for radius in (1, 2, 3):
        mask = repaired(convex_wall(smoothed(fixed, radius)), log_score)
        rounder.append(Candidate(f"{route}, smoothed by {radius} px", mask))
    return rounder
