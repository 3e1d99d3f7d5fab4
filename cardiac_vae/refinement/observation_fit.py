"""Fitting the observation model to pairs of a segmenter's and an expert's mask.

Take patients that neither the segmenter nor the shape model has learnt from: a segmenter hardly
errs on those it was trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import PositiveFloat, PositiveInt
from scipy import optimize
from scipy.special import expit, log_softmax, logit

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.metrics.calibration import near_heart, negative_log_likelihood, voxels
from cardiac_vae.refinement.observation import (
    ObservationModel,
    PixelSize,
    Scaling,
    log_probabilities,
    soft_mask,
)


class ObservationFitConfig(StrictConfig):
    """How the observation model is fitted.

    Attributes:
        blurs_mm: Widths to choose from for decided masks.
        class_bias: Fit a bias of each class beside the temperature. It follows the patients at
            hand: of few, the temperature alone predicts others better.
        margin_mm: The voxels within this distance of what either drew are fitted to.
        most_voxels: Of these, at most so many, evenly spread.
    """

    blurs_mm: tuple[PositiveFloat, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    class_bias: bool = False
    margin_mm: PositiveFloat = 10.0
    most_voxels: PositiveInt = 200_000


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
    pairs: Sequence[ExpertPair], config: ObservationFitConfig | None = None
) -> ObservationModel:
    """Return the observation model under which the experts' masks are most likely, weight 1.

    Decided masks are always fitted, probabilities if all pairs have them.

    Raises:
        ValueError: if there is no pair, or none has a heart.
    """
    config = config or ObservationFitConfig()
    if not pairs:
        raise ValueError("expected at least one pair of masks, got none")
    near = [
        near_heart((pair.expert > 0) | (pair.drawn > 0), pair.pixel_mm, config.margin_mm)
        for pair in pairs
    ]
    expert = np.concatenate([pair.expert[where] for pair, where in zip(pairs, near, strict=True)])
    if not len(expert):
        raise ValueError("expected masks with a heart, got background only")
    chosen = slice(None, None, 1 + (len(expert) - 1) // config.most_voxels)

    def fitted(seen: Sequence[np.ndarray]) -> tuple[float, Scaling]:
        parts = [
            voxels(probabilities, pair.expert, where)[0]
            for probabilities, pair, where in zip(seen, pairs, near, strict=True)
        ]
        probabilities = np.concatenate(parts)[chosen]
        scaling = fit_scaling(probabilities, expert[chosen], class_bias=config.class_bias)
        return negative_log_likelihood(scaling.apply(probabilities), expert[chosen]), scaling

    of_blurs = [
        (*fitted([soft_mask(pair.drawn, pair.pixel_mm, blur_mm) for pair in pairs]), blur_mm)
        for blur_mm in config.blurs_mm
    ]
    _, of_mask, blur_mm = min(of_blurs, key=lambda found: found[0])
    model = ObservationModel(blur_mm=blur_mm, of_mask=of_mask)
    seen = [pair.probabilities for pair in pairs if pair.probabilities is not None]
    if len(seen) < len(pairs):
        return model
    return model.model_copy(update={"of_probabilities": fitted(seen)[1]})


def fit_scaling(
    probabilities: np.ndarray, expert: np.ndarray, *, class_bias: bool = False
) -> Scaling:
    """Return the most likely scaling of voxels (N, C) to their true classes (N,).

    A segmenter's probabilities are one use. A refiner's q(x) is another: it takes more from its
    factors than they know together, as they have seen the same scan, and is too sure.

    Minimizes the mean of -log[(1 - e) softmax(scale log p + bias) + e / C] at the true class by
    L-BFGS, over log scale, bias (of mean 0) and logit e.
    """
    log_p = log_probabilities(probabilities)
    truth = np.eye(NUM_CLASSES)[expert]

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias, floor = np.exp(parameters[0]), parameters[1:-1], expit(parameters[-1])
        mapped = np.exp(log_softmax(scale * log_p + bias, axis=1))
        of_truth = (mapped * truth).sum(axis=1)
        likelihood = (1 - floor) * of_truth + floor / NUM_CLASSES
        of_logits = ((1 - floor) * of_truth / likelihood)[:, None] * (mapped - truth)
        of_floor = (1 / NUM_CLASSES - of_truth) / likelihood
        gradient = np.concatenate(
            [
                [scale * (of_logits * log_p).sum(axis=1).mean()],
                of_logits.mean(axis=0),
                [-floor * (1 - floor) * of_floor.mean()],
            ]
        )
        return -float(np.log(likelihood).mean()), gradient

    limit = 5.0 if class_bias else 0.0
    start = np.array([0.0, *np.zeros(NUM_CLASSES), logit(0.01)])
    bounds = [(-3.0, 3.0), *[(-limit, limit)] * NUM_CLASSES, (logit(1e-5), logit(0.5))]
    found = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    bias = found[1:-1] - found[1:-1].mean()
    return Scaling(scale=np.exp(found[0]), bias=tuple(bias.tolist()), floor=expit(found[-1]))


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
