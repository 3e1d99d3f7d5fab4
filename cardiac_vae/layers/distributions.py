"""Diagonal normals, the only continuous distribution of the latents, in nats."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


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

    def at(self, noise: Tensor) -> Tensor:
        """Return the value mu + sigma * noise that noise of N(0, I) stands for."""
        return self.mu + self.log_sigma.exp() * noise

    def noise_of(self, value: Tensor) -> Tensor:
        """Return the noise (value - mu) / sigma that a value stands for."""
        return (value - self.mu) / self.log_sigma.exp()

    def repeated(self, num_draws: int) -> DiagonalNormal:
        """Return the normals (num_draws * B, ...) of several draws of each case, draw by draw."""
        return DiagonalNormal(
            torch.cat([self.mu] * num_draws), torch.cat([self.log_sigma] * num_draws)
        )

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
        return self.log_prob_per_unit(value).flatten(start_dim=1).sum(dim=1)

    def log_prob_per_unit(self, value: Tensor) -> Tensor:
        """Log-density of each unit in nats; ``value`` and ``mu`` are broadcast."""
        standardized = (value - self.mu) / self.log_sigma.exp()
        return -0.5 * standardized.square() - self.log_sigma - HALF_LOG_2PI


def soft_clamp(value: Tensor, limit: float = 5.0) -> Tensor:
    """Bound a tensor smoothly to (-limit, limit), as NVAE does with its means and log-sigmas."""
    return limit * torch.tanh(value / limit)
