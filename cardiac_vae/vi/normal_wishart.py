"""The normal-Wishart distribution of a mean and a precision, and free numbers that describe it.

    Lambda ~ Wishart(W, nu),  mu | Lambda ~ N(m, (beta Lambda)^-1)

W^-1 is called ``scale_inverse`` (Z, Z), nu ``degrees``, beta ``mean_precision``, m ``mean`` (Z,).

``free_parameters`` have no constraint: m, log beta, log(nu - Z + 1), and of the mean covariance
S = W^-1 / nu = U diag(exp(2 d)) U', U with a unit diagonal, the d and what is below U's diagonal.
As E[Lambda] = S^-1, the Fisher information has no entry between nu and S: along each of the two
the density changes in ways that the other cannot undo.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Chi2, Distribution, constraints

LOG_2PI = math.log(2 * math.pi)
SMALLEST = 1e-150  # of a draw of a chi-squared; its square is not zero


class NormalWishartParameters(NamedTuple):
    """Parameters of normal-Wishart distributions, with any batch axes in front.

    Attributes:
        mean: (..., Z).
        mean_precision: (...), positive.
        scale_inverse: (..., Z, Z), symmetric and positive definite.
        degrees: (...), above Z - 1.
    """

    mean: Tensor
    mean_precision: Tensor
    scale_inverse: Tensor
    degrees: Tensor


def free_parameters(parameters: NormalWishartParameters) -> Tensor:
    """Return all as unconstrained numbers, (..., Z + 2 + Z (Z + 1) / 2)."""
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


def from_free_parameters(free: Tensor) -> NormalWishartParameters:
    """Return the parameters of unconstrained numbers, the inverse of ``free_parameters``."""
    dim = (math.isqrt(8 * free.shape[-1] - 7) - 3) // 2
    sizes = [dim, 1, 1, dim, dim * (dim - 1) // 2]
    mean, log_precision, log_degrees, log_diagonal, below = free.split(sizes, dim=-1)
    degrees = log_degrees.squeeze(-1).exp() + dim - 1
    rows, columns = torch.tril_indices(dim, dim, offset=-1)
    root = torch.eye(dim, dtype=free.dtype, device=free.device).repeat(*free.shape[:-1], 1, 1)
    root[..., rows, columns] = below
    root = root * log_diagonal.exp().unsqueeze(-2)
    scale_inverse = degrees[..., None, None] * root @ root.mT
    return NormalWishartParameters(mean, log_precision.squeeze(-1).exp(), scale_inverse, degrees)


class NormalWishart(Distribution):
    """Draws are (..., Z, Z + 1): the mean in the first column, then the precision matrix."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, parameters: NormalWishartParameters) -> None:
        self.parameters = parameters
        self._root = torch.linalg.cholesky(parameters.scale_inverse)
        dim = parameters.mean.shape[-1]
        super().__init__(parameters.degrees.shape, torch.Size((dim, dim + 1)), validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw by Bartlett's decomposition: Lambda = G G', G = R^-T A, where W^-1 = R R'.

        A is lower triangular, its diagonal the roots of chi-squared draws with nu, nu - 1, ...
        degrees, the rest standard normal; mu = m + R A^-T eps / sqrt(beta).
        """
        mean, mean_precision, _, degrees = self.parameters
        dim = mean.shape[-1]
        shape = (*sample_shape, *self.batch_shape)
        falling = degrees.unsqueeze(-1) - torch.arange(dim, dtype=mean.dtype, device=mean.device)
        squares = Chi2(falling, validate_args=False).rsample(sample_shape).clamp(min=SMALLEST)
        noise = torch.randn(*shape, dim, dim + 1, dtype=mean.dtype, device=mean.device)
        bartlett = noise[..., 1:].tril(-1) + torch.diag_embed(squares.sqrt())
        root = self._root.expand(*shape, dim, dim)
        half = torch.linalg.solve_triangular(root.mT, bartlett, upper=True)
        along = torch.linalg.solve_triangular(bartlett.mT, noise[..., :1], upper=True)
        mu = mean.unsqueeze(-1) + root @ along / mean_precision.sqrt()[..., None, None]
        return torch.cat([mu, half @ half.mT], dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of draws (..., Z, Z + 1) in nats, (...)."""
        mean, mean_precision, scale_inverse, degrees = self.parameters
        dim = mean.shape[-1]
        mu, precision = value[..., 0], value[..., 1:]
        log_det = torch.linalg.slogdet(precision).logabsdet
        normal = log_normal(mean, mu, precision * mean_precision[..., None, None])
        log_det_scale_inverse = 2 * self._root.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        return (
            normal
            + 0.5 * (degrees - dim - 1) * log_det
            - 0.5 * (scale_inverse * precision).sum(dim=(-2, -1))
            + 0.5 * degrees * (log_det_scale_inverse - dim * math.log(2))
            - torch.mvlgamma(0.5 * degrees, dim)
        )


def log_normal(x: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """Return log N(x | mean, precision^-1) in nats; (..., Z), (..., Z), (..., Z, Z) broadcast."""
    away = x - mean
    distance = torch.einsum("...i,...ij,...j->...", away, precision, away)
    log_det = torch.linalg.slogdet(precision).logabsdet
    return 0.5 * (log_det - distance - x.shape[-1] * LOG_2PI)
