"""The normal-Wishart distribution of a mean and a precision, as one of ``torch.distributions``.

    Lambda ~ Wishart(W, nu),    mu | Lambda ~ N(m, (kappa Lambda)^-1)

W^-1 is called ``scale_inverse``, nu ``degrees``, kappa ``mean_precision``, m ``mean``, as in
``mixture``.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Chi2, Distribution, constraints

LOG_2PI = math.log(2 * math.pi)
Shape = torch.Size | list[int] | tuple[int, ...]
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


class NormalWishart(Distribution):
    """Draws are (..., Z, Z + 1): the mean in the first column, then the precision matrix."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, parameters: NormalWishartParameters) -> None:
        self.parameters = parameters
        self._root = torch.linalg.cholesky(parameters.scale_inverse)
        dim = parameters.mean.shape[-1]
        super().__init__(parameters.degrees.shape, torch.Size((dim, dim + 1)), validate_args=False)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw by Bartlett's decomposition: Lambda = G G', G = R^-T A, where W^-1 = R R'.

        A is lower triangular, its diagonal the roots of chi-squared draws with nu, nu - 1, ...
        degrees, the rest standard normal; mu = m + R A^-T eps / sqrt(kappa).
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
        precision = value[..., 1:]
        distance, log_det = _distance_and_log_det(value[..., 0] - mean, precision)
        log_det_scale_inverse = 2 * self._root.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        of_mean = dim * (mean_precision.log() - LOG_2PI) + log_det - mean_precision * distance
        trace = (scale_inverse * precision).sum(dim=(-2, -1))
        of_precision = (degrees - dim - 1) * log_det - trace
        constant = degrees * (log_det_scale_inverse - dim * math.log(2))
        return 0.5 * (of_mean + of_precision + constant) - torch.mvlgamma(0.5 * degrees, dim)


def log_normal(x: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """Return log N(x | mean, precision^-1) in nats; (..., Z), (..., Z), (..., Z, Z) broadcast."""
    distance, log_det = _distance_and_log_det(x - mean, precision)
    return 0.5 * (log_det - distance - x.shape[-1] * LOG_2PI)


def _distance_and_log_det(away: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    distance = torch.einsum("...i,...ij,...j->...", away, precision, away)
    return distance, torch.linalg.slogdet(precision).logabsdet
