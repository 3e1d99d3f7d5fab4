"""Beliefs over the mean and the variance of normals, conjugate to what is seen of them.

    p(mu, v) = N(mu; m, v / k) InvGamma(v; a, b)

(Bishop 2006, section 2.3.6; Murphy 2012, section 4.6.3, with v the variance.)
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import digamma, gammaln

_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class NormalInverseGamma:
    """Independent beliefs over L normals; all arrays are (L,) float64.

    Attributes:
        mean: m, where the normal's mean is believed to be.
        strength: k, how many observations the belief in it is worth.
        shape: a, half of the number of observations that the belief in the variance is worth.
        rate: b; b / a is the variance believed in.
    """

    mean: np.ndarray
    strength: np.ndarray
    shape: np.ndarray
    rate: np.ndarray

    def given(self, values: np.ndarray, weights: np.ndarray) -> Self:
        """Return the posterior after values (n,), each seen weights (L, n) times.

        With N = sum w, xbar = sum w x / N and S = sum w (x - xbar)^2:
        k' = k + N, m' = (k m + N xbar) / k', a' = a + N / 2,
        b' = b + S / 2 + k N (xbar - m)^2 / (2 k').
        """
        count = weights.sum(axis=1)
        center = weights @ values / np.maximum(count, np.finfo(float).tiny)
        spread = (weights * np.square(values - center[:, None])).sum(axis=1)
        strength = self.strength + count
        shift = self.strength * count * np.square(center - self.mean) / (2 * strength)
        return type(self)(
            mean=(self.strength * self.mean + count * center) / strength,
            strength=strength,
            shape=self.shape + count / 2,
            rate=self.rate + spread / 2 + shift,
        )

    def expected_log_density(self, values: np.ndarray) -> np.ndarray:
        """Return E[log N(x; mu, v)] (L, n) of values (n,), in nats.

        -1/2 (log 2 pi + log b - digamma(a) + 1 / k + a / b (x - m)^2).
        """
        squares = np.square(values - self.mean[:, None])
        log_variance = np.log(self.rate) - digamma(self.shape)
        constant = _LOG_2PI + log_variance + 1 / self.strength
        return -0.5 * (constant[:, None] + (self.shape / self.rate)[:, None] * squares)

    def kl(self, prior: Self) -> np.ndarray:
        """Return KL(self || prior) of each normal (L,), in nats."""
        precision = self.shape / self.rate
        ratio = prior.strength / self.strength
        of_mean = ratio - 1 - np.log(ratio)
        of_mean += prior.strength * precision * np.square(self.mean - prior.mean)
        of_variance = (
            (self.shape - prior.shape) * digamma(self.shape)
            - gammaln(self.shape)
            + gammaln(prior.shape)
            + prior.shape * np.log(self.rate / prior.rate)
            + precision * prior.rate
            - self.shape
        )
        return 0.5 * of_mean + of_variance

    @property
    def variance(self) -> np.ndarray:
        """(L,) the variance believed in, 1 / E[1 / v]."""
        return self.rate / self.shape
