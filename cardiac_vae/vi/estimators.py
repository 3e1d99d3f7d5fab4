"""Estimates of the gradient of an expectation under a mean-field family, draw by draw.

    q(z) = prod_i q_i(z_i; lambda_i),    F(lambda) = E_q[sum_t f_t(z)]

The score function needs no gradient of f (Ranganath, Gerrish & Blei 2014, eq. 2-3), and two ways
to lower its variance leave its mean as it is (sec. 3.1 and 3.2). The reparametrized gradient
(Kingma & Welling 2014, sec. 2.4) needs f differentiable and z(eps, lambda):

    score function:    E_q[h_i sum_t f_t],    h_i = grad log q_i(z_i; lambda_i)
    Rao-Blackwellized: E_q[h_i sum_{t touches i} f_t]
    controlled:        E_q[h_i (sum_t f_t - a_i)],    a_i = Cov(f h_i, h_i) / Var(h_i)
    reparametrized:    E_eps[grad_i sum_t f_t(z(eps, lambda))]

The evidence lower bound is F with the terms of log p(x, z) and ``entropy_terms``: as E_q[h] = 0,
the gradient of -log q with z held fixed vanishes in the mean, and is left out.

``a_i`` is estimated leave-one-out, for each draw from the others, so that it is independent of the
draw it corrects and the estimate stays unbiased.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributions import Distribution

EstimatorName = Literal[
    "score_function",
    "controlled",
    "rao_blackwellized",
    "rao_blackwellized_controlled",
    "reparametrized",
]
Draws = Mapping[str, Tensor]
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Factor:
    """A factor of the family, itself a product of independent parts along its plates.

    Attributes:
        parameters: (*plates, P) unconstrained, one row for each part.
        distribution: Makes of parameters (..., P) a distribution with batch shape (...).
        plates: One letter for each axis of the batch; terms name the same axes by these letters.
    """

    parameters: Tensor
    distribution: Callable[[Tensor], Distribution]
    plates: str = ""

    def __post_init__(self) -> None:
        if len(self.plates) != self.parameters.ndim - 1:
            raise ValueError(
                f"plates: expected a letter for each axis but the last of parameters of shape "
                f"{tuple(self.parameters.shape)}, got {self.plates!r}; name the others"
            )


@dataclass(frozen=True)
class Term:
    """Local terms of what is averaged, such as those of a log-joint, in nats.

    A part of a factor sees what lies at its own place on the plates that it shares with the term:
    the sum over the other plates of the term, the same value along the other plates of the factor.

    Attributes:
        value: Makes of draws, (S, *plates, *event) by the name of the factor, values (S, *plates).
        touches: The factors whose draws it looks at; no others.
        plates: One letter for each axis of the values but the first.
    """

    value: Callable[[Draws], Tensor]
    touches: tuple[str, ...]
    plates: str = ""

    def of(self, draws: Draws) -> Tensor:
        """Return the values (S, *plates)."""
        value = self.value(draws)
        if value.ndim != 1 + len(self.plates):
            raise ValueError(
                f"term of {', '.join(self.touches)}: expected values (draws, plates) with plates "
                f"{self.plates!r}, got shape {tuple(value.shape)}; name its plates or sum over them"
            )
        return value


MeanField = Mapping[str, Factor]


def entropy_terms(family: MeanField) -> list[Term]:
    """Return -log q_i of each factor, with the parameters held fixed.

    For the reparametrized gradient this is the path derivative, whose variance vanishes where q is
    the posterior (Roeder, Wu & Duvenaud 2017).
    """
    return [_entropy_term(name, factor) for name, factor in family.items()]


def _entropy_term(name: str, factor: Factor) -> Term:
    fixed = factor.distribution(factor.parameters.detach())
    return Term(lambda draws: -fixed.log_prob(draws[name]), (name,), factor.plates)


def score_function(family: MeanField, terms: Sequence[Term], num_draws: int) -> Gradients:
    """Return h_i times the sum of all terms, (S, *plates, P) of each factor."""
    draws, scores = draw_with_scores(family, num_draws)
    return _product(scores, _whole_signals(family, terms, draws))


def controlled(family: MeanField, terms: Sequence[Term], num_draws: int) -> Gradients:
    """Return h_i times (the sum of all terms less a_i), (S, *plates, P) of each factor."""
    draws, scores = draw_with_scores(family, num_draws)
    return _controlled_product(scores, _whole_signals(family, terms, draws))


def rao_blackwellized(family: MeanField, terms: Sequence[Term], num_draws: int) -> Gradients:
    """Return h_i times the terms in the Markov blanket of each part, (S, *plates, P)."""
    draws, scores = draw_with_scores(family, num_draws)
    return _product(scores, _blanket_signals(family, terms, draws))


def rao_blackwellized_controlled(
    family: MeanField, terms: Sequence[Term], num_draws: int
) -> Gradients:
    """Return h_i times (the terms in the Markov blanket less a_i), (S, *plates, P)."""
    draws, scores = draw_with_scores(family, num_draws)
    return _controlled_product(scores, _blanket_signals(family, terms, draws))


@torch.enable_grad()
def reparametrized(family: MeanField, terms: Sequence[Term], num_draws: int) -> Gradients:
    """Return the gradient of the terms through the draws, (S, *plates, P) of each factor.

    Raises:
        ValueError: if a factor cannot be reparametrized.
    """
    _check_names(family, terms)
    parameters = {name: _for_each_draw(factor, num_draws) for name, factor in family.items()}
    draws = {}
    for name, factor in family.items():
        distribution = factor.distribution(parameters[name])
        if not distribution.has_rsample:
            raise ValueError(
                f"reparametrized: expected factors with rsample, got {name!r}, a "
                f"{type(distribution).__name__}; take a score-function estimator"
            )
        draws[name] = distribution.rsample()
    total = torch.stack([term.of(draws).sum() for term in terms]).sum()
    gradients = torch.autograd.grad(total, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, gradients, strict=True))


Estimator = Callable[[MeanField, Sequence[Term], int], Gradients]
ESTIMATORS: dict[EstimatorName, Estimator] = {
    "score_function": score_function,
    "controlled": controlled,
    "rao_blackwellized": rao_blackwellized,
    "rao_blackwellized_controlled": rao_blackwellized_controlled,
    "reparametrized": reparametrized,
}


def variances(
    family: MeanField,
    terms: Sequence[Term],
    num_draws: int,
    num_repeats: int = 100,
    estimators: Sequence[EstimatorName] = get_args(EstimatorName),
) -> dict[EstimatorName, dict[str, float]]:
    """Measure the variance of each estimate of the gradient at the family's parameters.

    Returns:
        For each estimator and factor the variance of the mean of ``num_draws`` draws, over
        ``num_repeats`` such means, summed over the parameters of the factor.
    """
    found: dict[EstimatorName, dict[str, float]] = {}
    for name in estimators:
        means: dict[str, list[Tensor]] = {factor: [] for factor in family}
        for _ in range(num_repeats):
            for factor, gradient in ESTIMATORS[name](family, terms, num_draws).items():
                means[factor].append(gradient.mean(dim=0))
        found[name] = {
            factor: float(torch.stack(several).var(dim=0).sum())
            for factor, several in means.items()
        }
    return found


@torch.enable_grad()
def draw_with_scores(family: MeanField, num_draws: int) -> tuple[Draws, Gradients]:
    """Return draws (S, *plates, *event) and their scores h (S, *plates, P) by factor."""
    draws, scores = {}, {}
    for name, factor in family.items():
        parameters = _for_each_draw(factor, num_draws)
        distribution = factor.distribution(parameters)
        draws[name] = distribution.sample().detach()
        total = distribution.log_prob(draws[name]).sum()
        (scores[name],) = torch.autograd.grad(total, parameters)
    return draws, scores


def leave_one_out_scaling(score: Tensor, signal: Tensor) -> Tensor:
    """Return the optimal scaling of the control variate h for each draw, from the others.

    As E[h] = 0, Cov(f h, h) = E[f h^2] and Var(h) = E[h^2]: a is the mean of f over the other
    draws, weighed by their h^2. Both arguments begin with the draws' axis and are broadcast.
    """
    weights = score.square()
    smallest = torch.finfo(weights.dtype).tiny  # where all others have a score of 0, so has a
    return _sum_of_others(weights * signal) / _sum_of_others(weights).clamp(min=smallest)


def _sum_of_others(values: Tensor) -> Tensor:
    """Sum over the first axis without the entry itself, and without subtracting it."""
    before = values.cumsum(dim=0).roll(1, dims=0)
    after = values.flip(0).cumsum(dim=0).roll(1, dims=0)
    before[0] = after[0] = 0
    return before + after.flip(0)


def _product(scores: Gradients, signals: dict[str, Tensor]) -> Gradients:
    return {name: score * signals[name].unsqueeze(-1) for name, score in scores.items()}


def _controlled_product(scores: Gradients, signals: dict[str, Tensor]) -> Gradients:
    products = {}
    for name, score in scores.items():
        if len(score) < 2:
            raise ValueError(
                "num_draws: expected 2 or more where control variates are used, got 1; "
                "the scaling of each draw is estimated from the others"
            )
        signal = signals[name].unsqueeze(-1)
        products[name] = score * (signal - leave_one_out_scaling(score, signal))
    return products


@torch.no_grad()
def _whole_signals(family: MeanField, terms: Sequence[Term], draws: Draws) -> dict[str, Tensor]:
    """Return the sum of all terms (S, 1, ...) for every factor."""
    _check_names(family, terms)
    total = torch.stack([_onto("", term.of(draws), term.plates) for term in terms]).sum(dim=0)
    return {name: total.reshape(-1, *(1 for _ in factor.plates)) for name, factor in family.items()}


@torch.no_grad()
def _blanket_signals(family: MeanField, terms: Sequence[Term], draws: Draws) -> dict[str, Tensor]:
    """Return the sum of the terms that each part touches, (S, *plates) for every factor."""
    _check_names(family, terms)
    signals = {
        name: factor.parameters.new_zeros(len(draws[name]), *factor.parameters.shape[:-1])
        for name, factor in family.items()
    }
    for term in terms:
        value = term.of(draws)
        for name in term.touches:
            signals[name] += _onto(family[name].plates, value, term.plates)
    return signals


def _onto(plates: str, value: Tensor, own: str) -> Tensor:
    """Sum a term's value (S, *own) over the plates that are not the factor's, and align it."""
    shared = [plate for plate in plates if plate in own]
    summed = torch.einsum(f"...{own}->...{''.join(shared)}", value)
    for axis, plate in enumerate(plates, start=1):
        if plate not in own:
            summed = summed.unsqueeze(axis)
    return summed


def _for_each_draw(factor: Factor, num_draws: int) -> Tensor:
    """Repeat the parameters for each draw, so that each has a gradient of its own."""
    parameters = factor.parameters.detach()
    return parameters.expand(num_draws, *parameters.shape).clone().requires_grad_()


def _check_names(family: MeanField, terms: Sequence[Term]) -> None:
    unknown = {name for term in terms for name in term.touches} - set(family)
    if unknown:
        raise ValueError(
            f"terms: expected to touch factors of {sorted(family)}, got {sorted(unknown)}; "
            "name the factors as the family does"
        )
