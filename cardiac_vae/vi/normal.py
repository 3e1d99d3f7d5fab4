"""A diagonal normal q(z) = N(mu, sigma^2) that climbs any function of z, differentiable or not.

With one row of ``mu`` and ``log_sigma`` for each case b, and a callable f that gives every code a
number, the gradients of F_b = E_q[f(z)_b] are estimated draw by draw (``estimators``). Where f is
log p(x, z), the gradient of the entropy is added in closed form: 0 for mu, 1 for log_sigma.

The Fisher information of (mu, log_sigma) is diag(1 / sigma^2, 2), so that the natural gradient
(Amari 1998) is (sigma^2 dF/dmu, 1/2 dF/dlog_sigma).
"""

from collections.abc import Callable
from string import ascii_letters

import torch
from torch import Tensor
from torch.distributions import Normal

from cardiac_vae.vi.estimators import ESTIMATORS, EstimatorName, Factor, Term


def normal_factor(mu: Tensor, log_sigma: Tensor) -> Factor:
    """Return q(z) as a factor with parameters (*mu.shape, 2), a plate ``a``, ``b``, ... per axis.

    Raises:
        ValueError: if the two differ in shape.
    """
    if mu.shape != log_sigma.shape:
        raise ValueError(
            f"expected mu and log_sigma of one shape, got {tuple(mu.shape)} and "
            f"{tuple(log_sigma.shape)}; expand one to the other"
        )
    return Factor(torch.stack([mu, log_sigma], dim=-1), _normal, ascii_letters[: mu.ndim])


def _normal(parameters: Tensor) -> Normal:
    return Normal(parameters[..., 0], parameters[..., 1].exp(), validate_args=False)


def expectation_gradients(
    f: Callable[[Tensor], Tensor],
    mu: Tensor,
    log_sigma: Tensor,
    num_draws: int,
    estimator: EstimatorName = "rao_blackwellized_controlled",
) -> tuple[Tensor, Tensor]:
    """Estimate the gradients of E_q[f(z)] in mu and log_sigma.

    Args:
        f: Makes of codes (B, ...) a value (B,) for each; called once a draw. A case's value may
            depend on its own code only, unless the estimator is not Rao-Blackwellized.
        mu: (B, ...).
        log_sigma: (B, ...).
        num_draws: S, 2 or more where control variates are used.
        estimator: ``reparametrized`` differentiates f, the others only evaluate it.

    Returns:
        Estimates of each draw, (S, B, ...), for mu and for log_sigma; their mean over the first
        axis is the estimate of least variance.
    """
    factor = normal_factor(mu, log_sigma)
    term = Term(lambda draws: torch.stack([f(z) for z in draws["z"]]), ("z",), factor.plates[:1])
    d_mu, d_log_sigma = ESTIMATORS[estimator]({"z": factor}, [term], num_draws)["z"].unbind(dim=-1)
    return d_mu, d_log_sigma


def natural_gradient(d_mu: Tensor, d_log_sigma: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients in mu and log_sigma times the inverse of the Fisher information."""
    return (2 * log_sigma).exp() * d_mu, 0.5 * d_log_sigma
