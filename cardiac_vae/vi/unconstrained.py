"""Free numbers that describe the posterior of a mixture, for methods that step along gradients.

Every value of them is a posterior. For the weights they are log alpha; for a component m, log
kappa, log(nu - Z + 1), and of S = W^-1 / nu = U diag(exp(2 d)) U', the inverse of the expected
precision, the d and what is below the unit diagonal of U.

With S and not W^-1 the Fisher information has no entry between nu and the scale: what a step
changes in one, no step in the other can undo.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cardiac_vae.vi.mixture import MixturePosterior
from cardiac_vae.vi.normal_wishart import NormalWishartParameters


class FreeParameters(NamedTuple):
    """The posterior of a mixture in free numbers.

    Attributes:
        weights: (K,) of the Dirichlet distribution.
        components: (K, P) of the normal-Wishart distributions, P = Z + 2 + Z (Z + 1) / 2.
    """

    weights: Tensor
    components: Tensor

    @property
    def unitless(self) -> Tensor:
        """(K, P - Z) what describes the components beside their means."""
        return self.components[:, _dim(self.components) :]


def to_free(posterior: MixturePosterior) -> FreeParameters:
    """Return the free numbers of a posterior."""
    parameters = NormalWishartParameters(
        posterior.mean, posterior.mean_precision, posterior.scale_inverse, posterior.degrees
    )
    return FreeParameters(posterior.concentration.log(), free_component(parameters))


def to_posterior(free: FreeParameters) -> MixturePosterior:
    """Return the posterior that free numbers describe; gradients flow through."""
    return MixturePosterior(free.weights.exp(), *constrained_component(free.components))


def free_component(parameters: NormalWishartParameters) -> Tensor:
    """Return normal-Wishart parameters as free numbers, (..., P)."""
    mean, mean_precision, scale_inverse, degrees = parameters
    dim = mean.shape[-1]
    root = torch.linalg.cholesky(scale_inverse / degrees[..., None, None])
    diagonal = root.diagonal(dim1=-2, dim2=-1)
    rows, columns = torch.tril_indices(dim, dim, offset=-1)
    return torch.cat(
        [
            mean,
            mean_precision.log().unsqueeze(-1),
            (degrees - dim + 1).log().unsqueeze(-1),
            diagonal.log(),
            (root / diagonal.unsqueeze(-2))[..., rows, columns],
        ],
        dim=-1,
    )


def constrained_component(free: Tensor) -> NormalWishartParameters:
    """Return the normal-Wishart parameters of free numbers (..., P)."""
    dim = _dim(free)
    sizes = [dim, 1, 1, dim, dim * (dim - 1) // 2]
    mean, log_precision, log_degrees, log_diagonal, below = torch.split(free, sizes, dim=-1)
    degrees = log_degrees.squeeze(-1).exp() + dim - 1
    rows, columns = torch.tril_indices(dim, dim, offset=-1)
    unit = torch.eye(dim, dtype=free.dtype, device=free.device).repeat(*free.shape[:-1], 1, 1)
    unit[..., rows, columns] = below
    root = unit * log_diagonal.exp().unsqueeze(-2)
    scale_inverse = degrees[..., None, None] * root @ root.mT
    return NormalWishartParameters(mean, log_precision.squeeze(-1).exp(), scale_inverse, degrees)


def _dim(free: Tensor) -> int:
    """Return Z of free numbers (..., P), P = Z + 2 + Z (Z + 1) / 2."""
    return (math.isqrt(8 * free.shape[-1] - 7) - 3) // 2
