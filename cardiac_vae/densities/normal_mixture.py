"""Mixtures of given normals, the controls of a fitted mixture: kernels, and VampPriors.

    p(s) = 1/K sum_k N(s; m_k, S_k)

- Kernel density estimate: a normal at every training score, all with the scores' own covariance
  times the square of Scott's factor N^(-1 / (d + 4)) (Scott 1992, sec. 6.3).
- VampPrior (Tomczak & Welling 2018, eq. 9): the posteriors of K pseudo-inputs, here training hearts
  that stand in the middle of others, as nothing is trained any more.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

_CHUNK = 4096  # scores judged at a time: bounds memory
_LEAST = 1e-6  # of the mean variance, added to every axis: no covariance is singular


@dataclass(frozen=True)
class NormalMixture:
    """Normals of equal weight, all (K, ...) float64.

    Attributes:
        means: (K, d).
        factors: (K, d, d) lower Cholesky factors of the covariances, or (1, d, d) if all share one.
    """

    means: Tensor
    factors: Tensor

    @classmethod
    def kernels(cls, scores: Tensor) -> Self:
        """Return the kernel density estimate of scores (N, d).

        Raises:
            ValueError: if there are fewer than two, or they are all the same.
        """
        if len(scores) < 2 or bool((scores == scores[:1]).all()):
            raise ValueError(
                f"scores: expected two or more that differ, got {len(scores)}; fit to more hearts"
            )
        number, dimensions = scores.shape
        factor = number ** (-1 / (dimensions + 4))
        covariance = torch.cov(scores.T).reshape(dimensions, dimensions)
        return cls(scores, torch.linalg.cholesky(_regular(factor**2 * covariance))[None])

    @classmethod
    def of_draws(cls, draws: Tensor) -> Self:
        """Return normals with the mean and covariance of the draws (K, R, d) of each posterior.

        Raises:
            ValueError: if there are no more draws than dimensions.
        """
        if draws.shape[1] <= draws.shape[2]:
            raise ValueError(
                f"draws: expected more than {draws.shape[2]} of each posterior, got "
                f"{draws.shape[1]}; draw more, or take fewer dimensions"
            )
        means = draws.mean(dim=1)
        centered = draws - means[:, None]
        covariance = centered.mT @ centered / (draws.shape[1] - 1)
        return cls(means, torch.linalg.cholesky(_regular(covariance)))

    def log_prob(self, scores: Tensor) -> Tensor:
        """Return the log-density (N,) in nats of scores (N, d)."""
        return torch.cat([self._log_prob(part) for part in torch.split(scores, _CHUNK)])

    def _log_prob(self, scores: Tensor) -> Tensor:
        if len(self.factors) == 1:  # whitened once, distances are plain
            white = torch.linalg.solve_triangular(
                self.factors[0], torch.cat([scores, self.means]).T, upper=False
            ).T
            squares = torch.cdist(white[: len(scores)], white[len(scores) :]).square()
        else:
            apart = (scores[:, None] - self.means).movedim(0, 2)  # (K, d, N)
            squares = torch.linalg.solve_triangular(self.factors, apart, upper=False)
            squares = squares.square().sum(dim=1).T
        log_scale = self.factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        constant = 0.5 * self.means.shape[1] * math.log(2 * math.pi)
        terms = -0.5 * squares - log_scale - constant
        return terms.logsumexp(dim=1) - math.log(len(self.means))

    def sample(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        """Return scores (number, d)."""
        chosen = torch.randint(len(self.means), (number,), generator=generator)
        noise = torch.randn(
            number, self.means.shape[1], 1, dtype=torch.float64, generator=generator
        )
        factors = self.factors.expand(len(self.means), -1, -1)[chosen]
        return self.means[chosen] + (factors @ noise)[..., 0]


def _regular(covariance: Tensor) -> Tensor:
    """Return covariances (..., d, d) with a little of their mean variance added to every axis."""
    variance = covariance.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    least = torch.finfo(torch.float64).tiny ** 0.5
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    return covariance + (_LEAST * variance + least)[..., None, None] * identity
