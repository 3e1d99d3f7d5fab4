"""Gradient ascent on the bound of the mixture, along the Euclidean and along the natural gradient.

The bound is that of ``mixture.elbo`` with the best local factor, a function of the posterior over
weights, means and precisions alone. With free numbers theta, natural parameters eta, F the Fisher
information of q and eta* those of CAVI's update (Amari 1998; Hoffman et al. 2013, sec. 2.3):

    Euclidean:  theta + rho grad_theta L
    natural:    eta + rho F^-1 grad_eta L = eta + rho (eta* - eta)

The second needs no F and no gradient, and with rho = 1 it is CAVI.
"""

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.vi.mixture import MixturePosterior, MixturePrior, elbo
from cardiac_vae.vi.statistics import expected_statistics, update
from cardiac_vae.vi.unconstrained import FreeParameters, to_free, to_posterior

SUFFICIENT_RISE = 1e-4  # share of the rise that the gradient promises (Armijo 1966)
FIRST_STEP = 1e-2
MAX_CHANGE = 1.0  # of any free number in one step
SMALLEST_STEP = 1e-16


class GradientState(NamedTuple):
    """Where the ascent is, and the step size that it took last."""

    free: FreeParameters
    step_size: float


def gradient_ascent_step(
    state: GradientState, prior: MixturePrior, codes: Tensor
) -> GradientState:
    """Return the state after one step along the Euclidean gradient of the bound.

    The step is halved from twice the last one until the bound rises by enough, so that it never
    falls; where no step of a size that matters raises it the state stays.
    """
    free = FreeParameters(*(part.detach().requires_grad_() for part in state.free))
    bound = elbo(prior, to_posterior(free), codes)
    gradient = FreeParameters(*torch.autograd.grad(bound, free))
    steepest = max(float(part.abs().max()) for part in gradient)
    squares = sum(float(part.square().sum()) for part in gradient)
    size = min(2 * state.step_size, MAX_CHANGE / max(steepest, MAX_CHANGE * SMALLEST_STEP))
    while size > SMALLEST_STEP:
        moved = _moved(state.free, gradient, size)
        if float(elbo(prior, to_posterior(moved), codes) - bound) >= SUFFICIENT_RISE * size * squares:
            return GradientState(moved, size)
        size /= 2
    return GradientState(state.free, FIRST_STEP)


@torch.no_grad()
def _moved(free: FreeParameters, gradient: FreeParameters, size: float) -> FreeParameters:
    return FreeParameters(*(a + size * b for a, b in zip(free, gradient, strict=True)))
