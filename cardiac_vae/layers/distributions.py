"""Diagonal normals, the only continuous distribution of the latents, in nats."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DiagonalNormal:
    """Independent normals; ``mu`` and ``log_sigma`` share one shape (B, ...)."""

    mu: Tensor
    log_sigma: Tensor

    @classmethod
    def standard_like(cls, mu: Tensor) -> DiagonalNormal:
        """Return N(0, I) of the given shape."""
        return cls(torch.zeros_like(mu), torch.zeros_like(mu))

    def rsample(self, temperature: float = 1.0) -> Tensor:
        """Draw by reparametrization; ``temperature`` scales sigma, 0 gives the mean."""
        if temperature == 0:
            return self.mu
        return self.mu + temperature * self.log_sigma.exp() * torch.randn_like(self.mu)

    def shifted(self, delta_mu: Tensor, delta_log_sigma: Tensor) -> DiagonalNormal:
        """Return the residual posterior of NVAE (Vahdat & Kautz 2020, sec. 3.2): this, moved."""
        return DiagonalNormal(self.mu + delta_mu, self.log_sigma + delta_log_sigma)

    def precision_weighted(self, other: DiagonalNormal) -> DiagonalNormal:
        """Return the normalized product of the two densities (Sonderby et al. 2016, eq. 18-19).

        Precisions add up and the mean is weighed by them, in logarithms: nothing overflows.
        """
        log_precision = torch.logaddexp(-2 * self.log_sigma, -2 * other.log_sigma)
        weight = torch.sigmoid(2 * (self.log_sigma - other.log_sigma))
        return DiagonalNormal(torch.lerp(self.mu, other.mu, weight), -0.5 * log_precision)

    def kl(self, other: DiagonalNormal) -> Tensor:
        """KL(self || other) in nats per case, shape (B,)."""
        return self.kl_per_unit(other).flatten(start_dim=1).sum(dim=1)

    def kl_per_unit(self, other: DiagonalNormal) -> Tensor:
        """KL(self || other) in nats of each unit, the shape of ``mu``."""
        ratio = (2 * (self.log_sigma - other.log_sigma)).exp()
        distance = ((self.mu - other.mu) / other.log_sigma.exp()).square()
        return 0.5 * (ratio + distance - 1) - self.log_sigma + other.log_sigma

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of a value (B, ...) in nats per case, shape (B,)."""
        standardized = (value - self.mu) / self.log_sigma.exp()
        half_log_2pi = 0.9189385332046727
        per_unit = -0.5 * standardized.square() - self.log_sigma - half_log_2pi
        return per_unit.flatten(start_dim=1).sum(dim=1)


def soft_clamp(value: Tensor, limit: float = 5.0) -> Tensor:
    """Bound a tensor smoothly to (-limit, limit), as NVAE does with its means and log-sigmas."""
    return limit * torch.tanh(value / limit)
