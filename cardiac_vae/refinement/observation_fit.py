"""Fitting the observation model to pairs of a segmenter's and an expert's mask.

Take patients that neither the segmenter nor the shape model has learnt from: a segmenter hardly
errs on those it was trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize
from scipy.special import expit, log_softmax, logit

from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.metrics.calibration import near_heart, voxels
from cardiac_vae.refinement.observation import (
    BorderTable,
    ObservationModel,
    PixelSize,
    distance_bins,
)

EDGES_MM = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
_PSEUDO_PIXELS = 100.0  # at each distance, divided as at all distances together
_MOST_VOXELS = 400_000  # that the scaling is fitted to
_SMALLEST = 1e-6


@dataclass(frozen=True)
class ExpertPair:
    """What a segmenter and an expert made of one scan, best in the window around the heart.

    Attributes:
        expert: (D, H, W) uint8, values of ``Structure``.
        drawn: (D, H, W) uint8, the segmenter's mask.
        pixel_mm: Pixel size along (row, column).
        probabilities: (D, C, H, W) the segmenter's, if it gives any.
    """

    expert: np.ndarray = field(repr=False)
    drawn: np.ndarray = field(repr=False)
    pixel_mm: PixelSize
    probabilities: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.expert.ndim != 3 or self.expert.shape != self.drawn.shape:
            raise ValueError(
                "expected two masks (D, H, W) on one grid, got shapes "
                f"{self.expert.shape} and {self.drawn.shape}"
            )


def fit_observation(
    pairs: Sequence[ExpertPair], edges_mm: Sequence[float] = EDGES_MM
) -> ObservationModel:
    """Return the observation model of a segmenter, its weight left at 1.

    The table holds shares of pixels: of each bin of distance, with a hundred more pixels that are
    divided as those of all bins are. The prior and the scaling of probabilities, if all pairs have
    some, are of the pixels within 10 mm of what either drew; the scaling is the most likely one.

    Raises:
        ValueError: if there is no pair, or none has a heart.
    """
    if not pairs:
        raise ValueError("expected at least one pair of masks, got none")
    near = [near_heart((pair.expert > 0) | (pair.drawn > 0), pair.pixel_mm) for pair in pairs]
    true = np.concatenate([pair.expert[where] for pair, where in zip(pairs, near, strict=True)])
    if not len(true):
        raise ValueError("expected masks with a heart, got background only")
    counts = 1 + np.bincount(true, minlength=NUM_CLASSES)
    fitted = ObservationModel(
        border=_count_borders(pairs, tuple(edges_mm)),
        prior=tuple((counts / counts.sum()).tolist()),
    )
    seen = [
        voxels(pair.probabilities, pair.expert, where)[0]
        for pair, where in zip(pairs, near, strict=True)
        if pair.probabilities is not None
    ]
    if len(seen) < len(pairs):
        return fitted
    chosen = slice(None, None, 1 + len(true) // _MOST_VOXELS)
    return fitted.model_copy(update=fit_scaling(np.concatenate(seen)[chosen], true[chosen]))


def fit_scaling(probabilities: np.ndarray, expert: np.ndarray) -> dict[str, object]:
    """Return ``scale``, ``bias`` and ``floor`` of the most likely map of voxels (N, C) to (N,).

    Minimizes the mean of -log[(1 - e) softmax(scale log p + bias) + e / C] at the true class by
    L-BFGS, over log scale, bias and logit e. The bias is given with mean 0.
    """
    log_p = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    truth = np.eye(NUM_CLASSES)[expert]

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias, floor = np.exp(parameters[0]), parameters[1:-1], expit(parameters[-1])
        mapped = np.exp(log_softmax(scale * log_p + bias, axis=1))
        of_truth = (mapped * truth).sum(axis=1)
        likelihood = (1 - floor) * of_truth + floor / NUM_CLASSES
        of_logits = ((1 - floor) * of_truth / likelihood)[:, None] * (mapped - truth)
        of_floor = (of_truth - 1 / NUM_CLASSES) / likelihood
        gradient = np.concatenate(
            [
                [scale * (of_logits * log_p).sum(axis=1).mean()],
                of_logits.mean(axis=0),
                [floor * (1 - floor) * of_floor.mean()],
            ]
        )
        return -float(np.log(likelihood).mean()), gradient

    start = np.array([0.0, *np.zeros(NUM_CLASSES), logit(0.01)])
    bounds = [(-3.0, 3.0), *[(-5.0, 5.0)] * NUM_CLASSES, (logit(1e-5), logit(0.5))]
    found = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    bias = found[1:-1] - found[1:-1].mean()
    return {
        "scale": float(np.exp(found[0])),
        "bias": tuple(bias.tolist()),
        "floor": float(expit(found[-1])),
    }


def best_weight(
    log_likelihoods: Sequence[np.ndarray],
    log_others: Sequence[np.ndarray],
    experts: Sequence[np.ndarray],
    weights: Sequence[float],
) -> float:
    """Return the weight of the segmenter under which experts' masks are predicted best.

    It has the greatest mean of log q(x_i = expert) over all voxels, q(x) being proportional to
    exp(weight log p(y | x) + others), where the ``log_others`` are what else is believed of x: a
    shape model's E[log p(x | z)], an appearance. All (D, C, H, W), ``experts`` (D, H, W).

    Raises:
        ValueError: if there is no case or no weight.
    """
    if not len(experts) or not len(weights):
        raise ValueError(f"expected cases and weights, got {len(experts)} and {len(weights)}")
    totals = [
        sum(
            _log_belief_of(weight * likelihood + other, expert)
            for likelihood, other, expert in zip(log_likelihoods, log_others, experts, strict=True)
        )
        for weight in weights
    ]
    return weights[int(np.argmax(totals))]


def _log_belief_of(log_score: np.ndarray, expert: np.ndarray) -> float:
    chosen = np.take_along_axis(log_softmax(log_score, axis=1), expert[:, None].astype(int), axis=1)
    return float(chosen.sum())


def _count_borders(pairs: Sequence[ExpertPair], edges_mm: tuple[float, ...]) -> BorderTable:
    counts = np.zeros((len(edges_mm) + 2, NUM_CLASSES, NUM_CLASSES))
    for pair in pairs:
        cells = (distance_bins(pair.drawn, pair.pixel_mm, edges_mm), pair.drawn, pair.expert)
        index = np.ravel_multi_index([cell.astype(np.intp) for cell in cells], counts.shape)
        counts += np.bincount(index.ravel(), minlength=counts.size).reshape(counts.shape)
    overall = 1 + counts.sum(axis=0)
    overall /= overall.sum(axis=-1, keepdims=True)
    counts += _PSEUDO_PIXELS * overall
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return BorderTable.parse({"edges_mm": edges_mm, "shares": shares.tolist()}, "border")
