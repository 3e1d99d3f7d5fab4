"""The Bayesian mixture of Gaussians: prior, posterior, update and bound (Bishop 2006, sec. 10.2).

    pi ~ Dirichlet(alpha0),  Lambda_k ~ Wishart(W0, nu0),  mu_k ~ N(m0, (kappa0 Lambda_k)^-1)
    c_n ~ Categorical(pi),   x_n ~ N(mu_k, Lambda_k^-1) with k = c_n
    q = prod_n q(c_n) Dirichlet(pi; alpha) prod_k NormalWishart(mu_k, Lambda_k; m, kappa, W, nu)

kappa is Bishop's beta. Equation numbers are his, with the errata: in (10.63) nu_k = nu_0 + N_k, to
which the first printing adds 1. All is float64 and in nats, and gradients flow through all of it.

A posterior stores the inverse W^-1 of each scale. Where conjugacy adds natural parameters, weighted
means and scatters about them are merged instead: that is the same, and loses no digits where means
are far from the origin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import torch
from torch import Tensor

from cardiac_vae.vi.conjugate import (
    dirichlet_kl,
    expected_log_det,
    log_det,
    squared_norms,
    trace_of_ratio,
    wishart_kl,
)
from cardiac_vae.vi.statistics import (
    Codes,
    SufficientStatistics,
    chunks,
    merged,
    outer,
    statistics,
    total_statistics,
)

LOG_2PI = math.log(2 * math.pi)
_FLOOR = 1e-6  # of the largest variance: what is less in a prior's scale is raised to it
_SAME = 1e-10  # of the mean: a standard deviation below it is rounding


@dataclass(frozen=True)
class MixturePrior:
    """The prior of the weights and, the same for each component, of its mean and precision.

    Attributes:
        concentration: alpha0, that of each component; below 1 superfluous components empty.
        mean: (Z,) m0.
        mean_precision: kappa0, how many codes the prior mean counts for.
        scale_inverse: (Z, Z) W0^-1; nu0 W0 is the expected precision.
        degrees: nu0 > Z - 1, how many codes the prior scale counts for.
    """

    concentration: float
    mean: Tensor
    mean_precision: float
    scale_inverse: Tensor
    degrees: float

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.scale_inverse.shape != (len(self.mean), len(self.mean)):
            shapes = [tuple(self.mean.shape), tuple(self.scale_inverse.shape)]
            raise ValueError(f"prior: expected a mean (Z,) and a scale (Z, Z), got {shapes}")
        _ = self.components(1).cholesky  # which checks the values

    @classmethod
    def of(
        cls,
        codes: Codes,
        concentration: float = 1.0,
        mean_precision: float = 1.0,
        degrees: float | None = None,
    ) -> MixturePrior:
        """Return a prior as vague as it can be and know the codes' unit and place.

        m0 is the codes' mean and W0^-1 their covariance; ``degrees`` is Z if not given. A component
        is so expected to be narrower than the whole, its variance about 1 / Z of it. Variances
        below 1e-6 of the largest, along any direction, are raised to that: a constant dimension, or
        fewer codes than dimensions, give a narrow prior and not a singular one.

        Raises:
            ValueError: if there are fewer than two codes, or they are all the same.
        """
        whole = total_statistics(codes)
        number, mean, scatter = float(whole.counts), whole.means[0], whole.scatter[0]
        least = number * (_SAME * float(mean.abs().max())) ** 2
        if number < 2 or float(scatter.diagonal().max()) <= least:
            raise ValueError(
                f"codes: expected two or more that differ, got {number:.0f} without spread; no "
                "prior can be told from them, give its parameters"
            )
        variances, directions = torch.linalg.eigh(scatter / (number - 1))
        raised = variances.clamp(min=_FLOOR * float(variances[-1]))
        scale_inverse = (directions * raised) @ directions.T
        freedom = float(len(mean)) if degrees is None else degrees
        return cls(concentration, mean, mean_precision, scale_inverse, freedom)

    def components(self, num_components: int) -> MixturePosterior:
        """Return the prior as a posterior of K components that has seen no codes."""
        each = torch.ones_like(self.mean[:1].double()).expand(num_components)
        return MixturePosterior(
            self.concentration * each,
            self.mean.double().expand(num_components, -1),
            self.mean_precision * each,
            self.scale_inverse.double().expand(num_components, -1, -1),
            self.degrees * each,
        )


@dataclass(frozen=True)
class MixturePosterior:
    """The factors of q over weights, means and precisions.

    Attributes:
        concentration: (K,) alpha.
        mean: (K, Z) m.
        mean_precision: (K,) kappa.
        scale_inverse: (K, Z, Z) W^-1, symmetric and positive definite.
        degrees: (K,) nu, more than Z - 1.
    """

    concentration: Tensor
    mean: Tensor
    mean_precision: Tensor
    scale_inverse: Tensor
    degrees: Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(values.shape) for values in vars(self).values()]
        if self.mean.ndim != 2 or shapes != _shapes(*self.mean.shape):
            expected = "(K,), (K, Z), (K,), (K, Z, Z) and (K,)"
            raise ValueError(f"mixture: expected parameters {expected}, got {shapes}")
        least = {"concentration": 0, "mean_precision": 0, "degrees": self.mean.shape[1] - 1}
        for name, bound in least.items():
            values = getattr(self, name)
            if not bool((values > bound).all()):
                raise ValueError(f"{name}: expected more than {bound}, got {values.tolist()}")

    @classmethod
    def from_natural(cls, natural: NaturalParameters) -> MixturePosterior:
        """Return the posterior of natural parameters.

        Raises:
            ValueError: if they are those of no distribution.
        """
        mean = natural.precision_mean / natural.mean_precision[:, None]
        return cls(
            natural.concentration + 1,
            mean,
            natural.mean_precision,
            natural.second_moment - outer(natural.mean_precision, mean),
            natural.degrees + mean.shape[1],
        )

    def natural(self) -> NaturalParameters:
        """Return the natural parameters; the update adds the codes' statistics to the prior's."""
        return NaturalParameters(
            self.concentration - 1,
            self.mean_precision[:, None] * self.mean,
            self.mean_precision,
            self.scale_inverse + outer(self.mean_precision, self.mean),
            self.degrees - self.mean.shape[1],
        )

    def towards(self, target: MixturePosterior, rate: float) -> MixturePosterior:
        """Return the posterior with natural parameters (1 - rate) of this + rate of the target.

        For a rate in [0, 1]. It is a step along the natural gradient of the bound if the target is
        an ``update`` (Hoffman et al. 2013, sec. 2.3).
        """
        kept, scale_kept = (1 - rate) * self.mean_precision, (1 - rate) * self.scale_inverse
        taken, scale_taken = rate * target.mean_precision, rate * target.scale_inverse
        mean_precision, mean, scale_inverse = merged(
            (kept, self.mean, scale_kept), (taken, target.mean, scale_taken)
        )
        return MixturePosterior(
            torch.lerp(self.concentration, target.concentration, rate),
            mean,
            mean_precision,
            scale_inverse,
            torch.lerp(self.degrees, target.degrees, rate),
        )

    @cached_property
    def cholesky(self) -> Tensor:
        """(K, Z, Z) lower factors of the inverse scales.

        Raises:
            ValueError: if an inverse scale is not positive definite.
        """
        factors, problems = torch.linalg.cholesky_ex(self.scale_inverse)
        if bool(problems.any()) or not bool(self.scale_inverse.isfinite().all()):
            broken = sorted({*problems.nonzero().flatten().tolist()})
            raise ValueError(
                f"scale_inverse: expected positive definite matrices, got others of the "
                f"components {broken or 'with NaN or infinity'}"
            )
        return factors

    @cached_property
    def whitening(self) -> Tensor:
        """(K, Z, Z) inverses of the lower factors; many codes are multiplied faster than solved."""
        eye = torch.eye(self.mean.shape[1]).to(self.mean)
        return torch.linalg.solve_triangular(self.cholesky, eye, upper=False)

    def weights(self) -> Tensor:
        """Return E pi (K,) (10.69)."""
        return self.concentration / self.concentration.sum()

    def covariances(self) -> Tensor:
        """Return the inverse of the expected precisions, (K, Z, Z): W^-1 / nu."""
        return self.scale_inverse / self.degrees[:, None, None]

    def expected_log_weights(self) -> Tensor:
        """Return E log pi (K,) (10.66)."""
        return torch.digamma(self.concentration) - torch.digamma(self.concentration.sum())

    def expected_log_densities(self, codes: Codes) -> Tensor:
        """Return E log N(x_n; mu_k, Lambda_k^-1), (N, K) (10.64, 10.65)."""
        return torch.cat([self._expected_log_densities(rows) for rows in self._chunks(codes)])

    def log_responsibilities(self, codes: Codes) -> Tensor:
        """Return log r_nk (N, K), the best local factor given this posterior (10.46, 10.49)."""
        return torch.cat([self._log_joint(rows).log_softmax(dim=1) for rows in self._chunks(codes)])

    def log_evidences(self, codes: Codes) -> Tensor:
        """Return log sum_k exp E[log pi_k + log N(x_n; ...)], (N,): what each adds to the bound."""
        return torch.cat([self._log_joint(rows).logsumexp(dim=1) for rows in self._chunks(codes)])

    def log_prob(self, codes: Codes) -> Tensor:
        """Return the log-density (N,) of the posterior predictive, a mixture of t (10.81)."""
        return torch.cat([self._log_predictive(rows) for rows in self._chunks(codes)])

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Return codes (num_samples, Z) drawn from the posterior predictive."""
        component = torch.multinomial(self.weights(), num_samples, True, generator=generator)
        noise = torch.randn(
            num_samples, self.mean.shape[1], 1, dtype=self.mean.dtype, generator=generator
        )
        seed = int(torch.randint(2**62, (1,), generator=generator))
        freedom = self._freedom()[component].numpy()
        chi_square = torch.from_numpy(np.random.default_rng(seed).chisquare(freedom))
        kappa = self.mean_precision[component]
        spread = ((1 + kappa) / kappa / chi_square).sqrt()
        return self.mean[component] + spread[:, None] * (self.cholesky[component] @ noise)[..., 0]

    def kl(self, prior: MixturePrior) -> Tensor:
        """Return KL(q || prior) of weights, means and precisions, a scalar."""
        other = prior.components(len(self.mean))
        size = self.mean.shape[1]
        ratio = other.mean_precision / self.mean_precision
        distance = squared_norms(self.whitening, (self.mean - other.mean)[:, None])[:, 0]
        of_means = size * (ratio - 1 - ratio.log())
        of_means = (of_means + other.mean_precision * self.degrees * distance) / 2
        of_precisions = wishart_kl(self.cholesky, self.degrees, other.cholesky, other.degrees)
        of_weights = dirichlet_kl(self.concentration, other.concentration)
        return of_weights + (of_means + of_precisions).sum()

    def _chunks(self, codes: Codes) -> Iterator[Tensor]:
        return chunks(codes, *self.mean.shape)

    def _squared_distances(self, codes: Tensor) -> Tensor:
        """Return (x_n - m_k)^T W_k (x_n - m_k), (N, K)."""
        return squared_norms(self.whitening, codes - self.mean[:, None]).T

    def _expected_log_densities(self, codes: Tensor) -> Tensor:
        size = self.mean.shape[1]
        constants = expected_log_det(self.cholesky, self.degrees) - size * LOG_2PI
        constants = constants - size / self.mean_precision
        return (constants - self.degrees * self._squared_distances(codes)) / 2

    def _log_joint(self, codes: Tensor) -> Tensor:
        """Return E[log pi_k + log N(x_n; mu_k, Lambda_k^-1)], (N, K) (10.46)."""
        return self.expected_log_weights() + self._expected_log_densities(codes)

    def _freedom(self) -> Tensor:
        """Return the degrees of freedom (K,) of the predictive t distributions (10.81)."""
        return self.degrees + 1 - self.mean.shape[1]

    def _log_predictive(self, codes: Tensor) -> Tensor:
        size, freedom = self.mean.shape[1], self._freedom()
        shrunk = self.mean_precision / (1 + self.mean_precision)  # (10.82) without the freedom
        gammas = torch.lgamma((freedom + size) / 2) - torch.lgamma(freedom / 2)
        constants = gammas + (size * (shrunk / math.pi).log() - log_det(self.cholesky)) / 2
        tails = torch.log1p(shrunk * self._squared_distances(codes))
        of_components = constants - (freedom + size) / 2 * tails
        return (self.weights().log() + of_components).logsumexp(dim=1)


@dataclass(frozen=True)
class NaturalParameters:
    """Natural parameters of q; each is named with the statistic that it multiplies.

    Attributes:
        concentration: (K,) alpha - 1, of log pi.
        precision_mean: (K, Z) kappa m, of Lambda mu.
        mean_precision: (K,) kappa, of -1/2 mu^T Lambda mu.
        second_moment: (K, Z, Z) W^-1 + kappa m m^T, of -1/2 Lambda.
        degrees: (K,) nu - Z, of 1/2 log |Lambda|.
    """

    concentration: Tensor
    precision_mean: Tensor
    mean_precision: Tensor
    second_moment: Tensor
    degrees: Tensor


def expected_statistics(posterior: MixturePosterior, codes: Codes) -> SufficientStatistics:
    """Return the statistics of codes under their best local factor, in one bounded pass."""
    of_chunks = (
        statistics(rows, posterior.log_responsibilities(rows).exp())
        for rows in chunks(codes, *posterior.mean.shape)
    )
    return reduce(SufficientStatistics.__add__, of_chunks)


def update(prior: MixturePrior, found: SufficientStatistics) -> MixturePosterior:
    """Return the best posterior given the codes' statistics (10.58, 10.60-10.63)."""
    before = prior.components(len(found.counts))
    mean_precision, mean, scale_inverse = merged(
        (before.mean_precision, before.mean, before.scale_inverse),
        (found.counts, found.means, found.scatter),
    )
    return MixturePosterior(
        before.concentration + found.counts,
        mean,
        mean_precision,
        scale_inverse,
        before.degrees + found.counts,
    )


def elbo(
    prior: MixturePrior,
    posterior: MixturePosterior,
    codes: Codes,
    responsibilities: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Return the lower bound of log p(codes), a scalar in nats, with all constants (10.70).

    Without ``responsibilities`` (N, K) the local factor is the best one: then the bound is a
    function of the posterior alone, sum_n log_evidences_n - KL(q || prior). ``scale`` is how many
    codes each stands for: N / B of a batch of B out of N makes an unbiased estimate of the bound.
    """
    if responsibilities is not None:
        found = statistics(codes, responsibilities).scaled(scale)
        return elbo_of_statistics(prior, posterior, found)
    parts = [posterior.log_evidences(rows).sum() for rows in chunks(codes, *posterior.mean.shape)]
    return scale * torch.stack(parts).sum() - posterior.kl(prior)


def elbo_of_statistics(
    prior: MixturePrior, posterior: MixturePosterior, found: SufficientStatistics
) -> Tensor:
    """Return the bound with the local factor that the statistics were taken with (10.71-10.77)."""
    size = posterior.mean.shape[1]
    offsets = squared_norms(posterior.whitening, (found.means - posterior.mean)[:, None])[:, 0]
    squares = trace_of_ratio(posterior.cholesky, found.scatter) + found.counts * offsets
    constants = expected_log_det(posterior.cholesky, posterior.degrees) - size * LOG_2PI
    constants = constants - size / posterior.mean_precision
    of_codes = (found.counts * constants - posterior.degrees * squares) / 2
    of_assignments = found.counts * posterior.expected_log_weights()
    return (of_codes + of_assignments).sum() + found.entropy - posterior.kl(prior)


def _shapes(number: int, size: int) -> list[tuple[int, ...]]:
    return [(number,), (number, size), (number,), (number, size, size), (number,)]
