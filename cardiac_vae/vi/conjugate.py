"""Closed forms of the Dirichlet and the normal-Wishart distribution, in nats.

A Wishart distribution of precisions (K, Z, Z) is given by the Cholesky factor of the inverse of its
scale, C C^T = W^-1, and its degrees of freedom nu (K,). Equations are those of Bishop 2006.
"""

import math

import torch
from torch import Tensor


def log_det(cholesky: Tensor) -> Tensor:
    """Return log |C C^T| (K,) of Cholesky factors (K, Z, Z)."""
    return 2 * cholesky.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)


def squared_norms(whitening: Tensor, offsets: Tensor) -> Tensor:
    """Return d^T (C C^T)^-1 d (K, N) of offsets d (K, N, Z) and inverse factors C^-1 (K, Z, Z)."""
    return (offsets @ whitening.mT).square().sum(dim=-1)


def trace_of_ratio(cholesky: Tensor, matrix: Tensor) -> Tensor:
    """Return tr((C C^T)^-1 M), (K,), of matrices M (K, Z, Z)."""
    return torch.cholesky_solve(matrix, cholesky).diagonal(dim1=-2, dim2=-1).sum(dim=-1)


def expected_log_det(cholesky: Tensor, degrees: Tensor) -> Tensor:
    """Return E log |Lambda| (K,) of Wishart distributions (10.65, B.81)."""
    size = cholesky.shape[-1]
    halves = (degrees[:, None] - torch.arange(size).to(degrees)) / 2
    return torch.digamma(halves).sum(dim=1) + size * math.log(2) - log_det(cholesky)


def dirichlet_kl(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(Dirichlet(first) || Dirichlet(second)), a scalar; both are (K,)."""
    expected_logs = torch.digamma(first) - torch.digamma(first.sum())
    normalizers = [c.sum().lgamma() - c.lgamma().sum() for c in (first, second)]  # log of (B.23)
    return normalizers[0] - normalizers[1] + ((first - second) * expected_logs).sum()


def wishart_kl(cholesky: Tensor, degrees: Tensor, prior: Tensor, prior_degrees: Tensor) -> Tensor:
    """Return KL(Wishart || prior Wishart), (K,); ``prior`` is the prior's factor (K, Z, Z)."""
    size = cholesky.shape[-1]
    ratio = trace_of_ratio(cholesky, prior @ prior.mT)
    return (
        _log_normalizer(cholesky, degrees)
        - _log_normalizer(prior, prior_degrees)
        + (degrees - prior_degrees) / 2 * expected_log_det(cholesky, degrees)
        + degrees / 2 * (ratio - size)
    )


def _log_normalizer(cholesky: Tensor, degrees: Tensor) -> Tensor:
    """Return log B(W, nu), (K,) (B.79)."""
    size = cholesky.shape[-1]
    gamma = torch.mvlgamma(degrees / 2, size) + degrees * size / 2 * math.log(2)
    return degrees / 2 * log_det(cholesky) - gamma
