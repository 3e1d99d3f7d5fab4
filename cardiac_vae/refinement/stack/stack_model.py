"""Which structures are in which slice, given what a segmenter says of the whole stack.

    log p(s | y) = log p(s) + sum_i sum_k [k in s_i] (w_k . f_ik + b_k) + const

p(s) is the prior of ``presence_prior``, f_ik what is said of structure k in slice i (``evidence``)
by the segmenter, and by a corrector where there is one, and w_k . f_ik + b_k its weight of evidence
in nats: log p(y_ik | k there) - log p(y_ik | k not there), up to what slices and structures say
twice. The weights maximize log p(s | y) of stacks with an expert's mask, prior and all, so that
evidence is calibrated beside that prior (a conditional random field whose potentials between slices
are known: Lafferty, McCallum, Pereira, ICML 2001). Files do not say at which end the base is. Both
directions are equally probable before the stack is seen; what is drawn grows smaller towards the
apex, and by how much is a normal whose mean changes its sign with the direction. The posterior
averages over what is left of the doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import HEART, Phase
from cardiac_vae.refinement.stack.evidence import FEATURES, FEATURES_CORRECTED
from cardiac_vae.refinement.stack.markov_chain import (
    MarkovChain,
    forward_backward,
    most_probable_path,
)
from cardiac_vae.refinement.stack.presence_prior import STATES, PresencePrior

_BIAS_VARIANCE = 10.0  # in units of the weights' variance: a bias is hardly shrunk
_LEAST_DEVIATION = 0.1  # of the slope: a few stacks that agree prove no certainty


class StackConfig(StrictConfig):
    """How the evidence is weighed.

    Attributes:
        prior: A Markov chain along the stack, or slices that know only their place (the control).
        weight_variance: Variance of the normal prior of each weight, per standardized feature.
    """

    prior: Literal["chain", "independent"] = "chain"
    weight_variance: PositiveFloat = 1.0


@dataclass(frozen=True)
class SegmentedStack:
    """A stack that a segmenter and an expert have drawn, base first.

    Attributes:
        evidence: (D, 3, F) of ``seen.stack_evidence``: F is 2, or 4 where a corrector is heard.
        present: (D, 3) bool, where the expert drew each structure.
        phase: End-diastole or end-systole.
    """

    evidence: np.ndarray
    present: np.ndarray
    phase: Phase


@dataclass(frozen=True)
class StackPosterior:
    """What the whole stack says of each slice, in the order of the file.

    Attributes:
        log_odds: (D, 3) log p(k in s_i | y) - log p(k not in s_i | y), nats.
        path: (D, 3) bool, the most probable states of the stack as a whole.
        base_first: Probability that the first slice is the one nearest to the base.
    """

    log_odds: np.ndarray
    path: np.ndarray
    base_first: float

    @property
    def probability(self) -> np.ndarray:
        """Return p(k in s_i | y), (D, 3)."""
        return np.asarray(expit(self.log_odds))


class StackModel(StrictConfig):
    """A prior of presence and the weights of the evidence; plain values for JSON.

    ``model_dump(mode="json")`` gives them, ``StackModel.parse`` takes them.

    Attributes:
        config: How it was fitted.
        presence: The prior's counts.
        center: Mean of each feature over the slices fitted to, (F,).
        scale: Their standard deviations, (F,).
        weights: Of each structure, those of the standardized features and the bias, (3, F + 1).
        trend: Mean and standard deviation of the slope of the drawn area, from base to apex.
    """

    config: StackConfig
    presence: PresencePrior
    center: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    trend: tuple[float, PositiveFloat]

    @property
    def hears_corrector(self) -> bool:
        """Whether part of its evidence is what a corrector makes of slices."""
        return len(self.center) == len(FEATURES_CORRECTED)

    def posterior(self, evidence: np.ndarray, phase: Phase | None = None) -> StackPosterior:
        """Return what a stack's evidence (D, 3, F) says; base or apex first.

        Raises:
            ValueError: if the evidence is not (D, 3, F).
        """
        _require_evidence(evidence, len(self.center))
        scores = (_standardized(evidence, self.center, self.scale) * self.weights).sum(axis=2)
        log_likelihood = scores @ STATES.T
        chain = _chain(self.presence, self.config, len(evidence), phase)
        seen = np.stack([log_likelihood, log_likelihood[::-1]])
        marginals = forward_backward(chain, seen)
        log_joint = marginals.log_evidence + self._log_direction(evidence)
        log_direction = log_joint - logsumexp(log_joint)
        both = marginals.log_probability + log_direction[:, None, None]
        log_probability = np.logaddexp(both[0], both[1, ::-1])
        base_first = bool(log_direction[0] >= log_direction[1])
        path, _ = most_probable_path(chain, seen[0 if base_first else 1])
        return StackPosterior(
            log_odds=_log_odds(log_probability),
            path=STATES[path if base_first else path[::-1]].astype(bool),
            base_first=float(np.exp(log_direction[0])),
        )

    def log_odds(self, evidence: np.ndarray, phase: Phase | None = None) -> np.ndarray:
        """Return log p(k in s_i | y) - log p(k not in s_i | y) in nats, (D, 3).

        The base moves out of slices between end-diastole and end-systole. Of a stack whose phase
        nobody tells, what holds at both is said: the weaker of the two, and 0 where they disagree.

        Raises:
            ValueError: if the evidence is not (D, 3, F).
        """
        if phase is not None:
            return self.posterior(evidence, phase).log_odds
        ed, es = (self.posterior(evidence, either).log_odds for either in Phase)
        weaker = np.where(np.abs(ed) < np.abs(es), ed, es)
        return np.where(ed * es > 0, weaker, 0.0)

    def _log_direction(self, evidence: np.ndarray) -> np.ndarray:
        """Return log p(slope | direction), base first and apex first, (2,), up to a constant."""
        mean, deviation = self.trend
        distance = (_slope(evidence) - mean * np.array([1.0, -1.0])) / deviation
        return np.asarray(-0.5 * distance**2)


def fit_stack(
    presence: PresencePrior,
    segmented: Sequence[SegmentedStack],
    config: StackConfig | None = None,
) -> StackModel:
    """Fit the weights of the evidence to stacks the segmenter was not trained on.

    The objective is concave, and its maximum is the only one.

    Raises:
        ValueError: if there is no stack, or its evidence is not (D, 3, F).
    """
    if not segmented:
        raise ValueError("segmented: expected one stack at least, with an expert's mask, got none")
    num_features = segmented[0].evidence.shape[-1]
    for stack in segmented:
        _require_evidence(stack.evidence, num_features)
    config = config or StackConfig()
    slices = np.concatenate([stack.evidence.reshape(-1, num_features) for stack in segmented])
    center, scale = slices.mean(axis=0), slices.std(axis=0) + 1e-6
    groups = _grouped(presence, segmented, config, (center, scale))
    slopes = [_slope(stack.evidence) for stack in segmented]
    variance = np.full(num_features + 1, config.weight_variance)
    variance[-1] *= _BIAS_VARIANCE

    def cost_and_gradient(flat: np.ndarray) -> Any:
        return _objective(flat.reshape(len(HEART), -1), groups, variance)

    start = np.zeros(len(HEART) * len(variance))
    fitted: Any = minimize(cost_and_gradient, start, jac=True, method="L-BFGS-B")
    return StackModel(
        config=config,
        presence=presence,
        center=tuple(center.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple(map(tuple, fitted.x.reshape(len(HEART), -1).tolist())),
        trend=(float(np.mean(slopes)), float(np.std(slopes)) + _LEAST_DEVIATION),
    )


@dataclass(frozen=True)
class _Group:
    """Stacks of one length and phase, which share their prior."""

    chain: MarkovChain
    features: np.ndarray  # (N, D, 3, F + 1)
    present: np.ndarray  # (N, D, 3)


def _grouped(
    presence: PresencePrior,
    segmented: Sequence[SegmentedStack],
    config: StackConfig,
    standard: tuple[np.ndarray, np.ndarray],
) -> list[_Group]:
    by_kind: dict[tuple[int, Phase], list[SegmentedStack]] = {}
    for stack in segmented:
        by_kind.setdefault((len(stack.evidence), stack.phase), []).append(stack)
    return [
        _Group(
            _chain(presence, config, num_slices, phase),
            np.stack([_standardized(stack.evidence, *standard) for stack in stacks]),
            np.stack([stack.present for stack in stacks]).astype(float),
        )
        for (num_slices, phase), stacks in by_kind.items()
    ]


def _objective(
    weights: np.ndarray, groups: Sequence[_Group], variance: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return minus the log posterior of the weights (3, F + 1), up to a constant, and its gradient.

    The gradient of log p(s | y) is what the expert drew minus what is expected to be there.
    """
    value = 0.5 * float((weights**2 / variance).sum())
    gradient = weights / variance
    for group in groups:
        scores = (group.features * weights).sum(axis=3)
        marginals = forward_backward(group.chain, scores @ STATES.T)
        value -= float((scores * group.present).sum() - marginals.log_evidence.sum())
        surprise = group.present - np.exp(marginals.log_probability) @ STATES
        gradient = gradient - (surprise[..., None] * group.features).sum(axis=(0, 1))
    return value, gradient.ravel()


def _chain(
    presence: PresencePrior, config: StackConfig, num_slices: int, phase: Phase | None
) -> MarkovChain:
    if config.prior == "chain":
        return presence.chain(num_slices, phase)
    return presence.independent_slices(num_slices, phase)


def _slope(evidence: np.ndarray) -> float:
    """Return by how much what is drawn grows from the first slice drawn to the last.

    The slope of a straight line through the drawn areas, all structures together, as a share of the
    largest; 0 where fewer than two slices are drawn.
    """
    area = np.expm1(evidence[:, :, FEATURES.index("drawn_area")]).sum(axis=1)
    drawn = np.flatnonzero(area > 0)
    if len(drawn) < 2:
        return 0.0
    area = area[drawn[0] : drawn[-1] + 1]
    place = np.linspace(-0.5, 0.5, len(area))
    return float(place @ area / (place @ place * area.max()))


def _standardized(evidence: np.ndarray, center: Any, scale: Any) -> np.ndarray:
    """Return the features (D, 3, F + 1) in standard units, and 1 for the bias."""
    standard = (evidence - np.asarray(center)) / np.asarray(scale)
    return np.concatenate([standard, np.ones((*evidence.shape[:2], 1))], axis=2)


def _log_odds(log_probability: np.ndarray) -> np.ndarray:
    """Return the log-odds (D, 3) of each structure from the log-probability of states (D, S)."""
    holds = STATES.astype(bool)
    sides = [
        [logsumexp(log_probability[:, side], axis=1) for side in (holds[:, k], ~holds[:, k])]
        for k in range(len(HEART))
    ]
    return np.stack([there - gone for there, gone in sides], axis=1)


def _require_evidence(evidence: np.ndarray, num_features: int) -> None:
    known = num_features in (len(FEATURES), len(FEATURES_CORRECTED))
    wanted = (len(HEART), num_features)
    if not known or evidence.ndim != 3 or evidence.shape[1:] != wanted or not len(evidence):
        raise ValueError(
            f"evidence: expected (D, {len(HEART)}, {num_features}) with D at least 1, "
            f"got shape {evidence.shape}; take stack_evidence"
        )
