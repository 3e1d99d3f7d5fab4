"""Gradient ascent on the bound of the mixture, along the Euclidean and along the natural gradient.

The bound is that with the best local factor, a function of the factors over weights, means and
precisions alone (``mixture.elbo``). With free numbers theta (``unconstrained``), natural parameters
eta, F their Fisher information and eta_hat those of the update of ``cavi`` (Amari 1998; Hoffman et
al. 2013, sec. 2.3):

    Euclidean:  theta <- theta + rho grad_theta L
    natural:    eta <- eta + rho F^-1 grad_eta L = eta + rho (eta_hat - eta)

The natural step needs neither F nor a gradient, and with rho = 1 it is a sweep of ``cavi``.
"""

from dataclasses import dataclass

import torch
from pydantic import Field, PositiveFloat, PositiveInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.vi.mixture import (
    MixturePosterior,
    MixturePrior,
    elbo,
    expected_statistics,
    update,
)
from cardiac_vae.vi.seeding import seeded_statistics
from cardiac_vae.vi.statistics import Codes
from cardiac_vae.vi.unconstrained import FreeParameters, to_free, to_posterior

_SHARE = 1e-4  # of the rise that the gradient promises, which a step has to reach (Armijo 1966)
_FARTHEST = 1.0  # that a logarithm changes in a step, so that none overflows
_SMALLEST = 1e-14  # step that is tried, as a share of the first one tried


class GradientConfig(StrictConfig):
    """Settings of the Euclidean ascent.

    Attributes:
        num_components: K.
        first_step: Step size that the first search starts from.
    """

    num_components: PositiveInt = 10
    first_step: PositiveFloat = 1e-2


class NaturalGradientConfig(StrictConfig):
    """Settings of the ascent along the natural gradient.

    Attributes:
        num_components: K.
        step_size: rho; 1 is coordinate ascent.
    """

    num_components: PositiveInt = 10
    step_size: float = Field(default=0.5, gt=0, le=1)


@dataclass(frozen=True)
class GradientState:
    """The posterior in free numbers, and the size of the next step to try."""

    free: FreeParameters
    step_size: float

    @property
    def posterior(self) -> MixturePosterior:
        """The posterior that the free numbers describe."""
        return to_posterior(self.free)


@dataclass(frozen=True)
class NaturalState:
    """The posterior."""

    posterior: MixturePosterior


class Gradient:
    """Steps along the Euclidean gradient in free numbers, by autograd, with a line search."""

    def __init__(self, prior: MixturePrior, config: GradientConfig) -> None:
        self.prior = prior
        self.config = config

    def init(self, codes: Codes, generator: torch.Generator) -> GradientState:
        """Return the best posterior for codes dealt out to spread seeds."""
        found = seeded_statistics(self.prior, codes, self.config.num_components, generator)
        return self.start(update(self.prior, found))

    def start(self, posterior: MixturePosterior) -> GradientState:
        """Return the state of a posterior."""
        return GradientState(to_free(posterior), self.config.first_step)

    def step(self, state: GradientState, codes: Codes) -> GradientState:
        """Return the state after a step.

        Its size is halved until the bound rises by enough, so that the bound never falls, and
        doubled for the next step. Where no step raises the bound the state stays where it is.
        """
        bound, gradient = bound_and_gradient(self.prior, state.free, codes)
        size = min(state.step_size, _FARTHEST / _steepest(gradient))
        promised = sum(float(part.square().sum()) for part in gradient)
        smallest = _SMALLEST * size
        while size > smallest:
            free = FreeParameters(
                *(old + size * change for old, change in zip(state.free, gradient, strict=True))
            )
            moved = GradientState(free, 2 * size)
            if self.elbo(moved, codes) >= bound + _SHARE * size * promised:
                return moved
            size /= 2
        return GradientState(state.free, self.config.first_step)

    @torch.no_grad()
    def elbo(self, state: GradientState, codes: Codes) -> float:
        """Return the bound with the best local factor, in nats."""
        return float(elbo(self.prior, state.posterior, codes))


class NaturalGradient:
    """Steps of one size along the natural gradient, on all codes."""

    def __init__(self, prior: MixturePrior, config: NaturalGradientConfig) -> None:
        self.prior = prior
        self.config = config

    def init(self, codes: Codes, generator: torch.Generator) -> NaturalState:
        """Return the best posterior for codes dealt out to spread seeds."""
        found = seeded_statistics(self.prior, codes, self.config.num_components, generator)
        return self.start(update(self.prior, found))

    def start(self, posterior: MixturePosterior) -> NaturalState:
        """Return the state of a posterior."""
        return NaturalState(posterior)

    @torch.no_grad()
    def step(self, state: NaturalState, codes: Codes) -> NaturalState:
        """Return the state after a step towards the update of coordinate ascent."""
        target = update(self.prior, expected_statistics(state.posterior, codes))
        return self.start(state.posterior.towards(target, self.config.step_size))

    @torch.no_grad()
    def elbo(self, state: NaturalState, codes: Codes) -> float:
        """Return the bound with the best local factor, in nats."""
        return float(elbo(self.prior, state.posterior, codes))


def bound_and_gradient(
    prior: MixturePrior, free: FreeParameters, codes: Codes
) -> tuple[float, FreeParameters]:
    """Return the bound with the best local factor in nats, and its gradient in free numbers."""
    leaves = FreeParameters(*(part.detach().clone().requires_grad_() for part in free))
    bound = elbo(prior, to_posterior(leaves), codes)
    return float(bound.detach()), FreeParameters(*torch.autograd.grad(bound, leaves))


def _steepest(gradient: FreeParameters) -> float:
    """Return the largest slope along a number that is not in the unit of the codes."""
    unitless = torch.cat([gradient.weights.flatten(), gradient.unitless.flatten()])
    return max(float(unitless.abs().max()), torch.finfo(torch.float64).tiny)
