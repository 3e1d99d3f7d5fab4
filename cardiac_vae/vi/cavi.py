"""Coordinate ascent on the bound of the mixture (Bishop 2006, sec. 10.2; Blei et al. 2017).

A sweep sets each factor of q to the best one given the others, in closed form:

    log r_nk = E[log pi_k] + E[log N(x_n; mu_k, Lambda_k^-1)] + const        (10.46, 10.64-10.66)
    alpha_k = alpha0 + N_k,  kappa_k = kappa0 + N_k,  nu_k = nu0 + N_k       (10.58, 10.60, 10.63)
    kappa_k m_k = kappa0 m0 + N_k xbar_k                                     (10.61)
    W_k^-1 = W0^-1 + N_k S_k
             + kappa0 N_k / (kappa0 + N_k) (xbar_k - m0)(xbar_k - m0)^T      (10.62)

so the bound never falls. A component that lost its codes has N_k = 0, which is the prior again.
"""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.vi.mixture import (
    MixturePosterior,
    MixturePrior,
    elbo_of_statistics,
    expected_statistics,
    update,
)
from cardiac_vae.vi.seeding import seeded_statistics
from cardiac_vae.vi.statistics import Codes, SufficientStatistics


class CaviConfig(StrictConfig):
    """Settings of the coordinate ascent.

    Attributes:
        num_components: K.
        num_restarts: Starts that are tried; the one with the best bound goes on.
        trial_sweeps: Sweeps after which the starts are compared.
    """

    num_components: PositiveInt = 10
    num_restarts: PositiveInt = 1
    trial_sweeps: NonNegativeInt = 10


@dataclass(frozen=True)
class CaviState:
    """The posterior, and the statistics of the local factor that it is the best one for."""

    posterior: MixturePosterior
    statistics: SufficientStatistics


class Cavi:
    """Coordinate ascent; a step is a sweep over all codes, in one pass and bounded memory."""

    def __init__(self, prior: MixturePrior, config: CaviConfig) -> None:
        self.prior = prior
        self.config = config

    def init(self, codes: Codes, generator: torch.Generator) -> CaviState:
        """Return the best of the starts from spread seeds."""
        starts = [self._trial(codes, generator) for _ in range(self.config.num_restarts)]
        return max(starts, key=lambda state: self.elbo(state, codes))

    def start(self, found: SufficientStatistics) -> CaviState:
        """Return the state of a local factor; ``statistics`` takes them of responsibilities."""
        return CaviState(update(self.prior, found), found)

    @torch.no_grad()
    def step(self, state: CaviState, codes: Codes) -> CaviState:
        """Return the state after a sweep: the local factor, then the global one."""
        return self.start(expected_statistics(state.posterior, codes))

    @torch.no_grad()
    def elbo(self, state: CaviState, codes: Codes) -> float:
        """Return the bound of the state's own factors, local and global, without a pass.

        Raises:
            ValueError: if these are not the codes that the state was fitted to.
        """
        number = round(float(state.statistics.counts.sum()))
        if number != len(codes):
            raise ValueError(
                f"codes: expected the {number} that the local factor is about, got {len(codes)}; "
                "coordinate ascent takes no batches"
            )
        return float(elbo_of_statistics(self.prior, state.posterior, state.statistics))

    def _trial(self, codes: Codes, generator: torch.Generator) -> CaviState:
        number = self.config.num_components
        state = self.start(seeded_statistics(self.prior, codes, number, generator))
        if self.config.num_restarts > 1:
            for _ in range(self.config.trial_sweeps):
                state = self.step(state, codes)
        return state
