"""Stochastic variational inference of the mixture (Hoffman, Blei, Wang & Paisley 2013).

The natural gradient of the bound in the natural parameters eta of the global factors is the update
of coordinate ascent less where they are. A batch of B out of N codes, each counted N / B times,
gives an unbiased estimate of it, along which step t goes by rho_t:

    eta <- (1 - rho_t) eta + rho_t (eta0 + N / B sum_batch E[t(x_n, c_n)]),   rho_t = (t + d)^-f

With f in (0.5, 1] the steps sum to infinity and their squares do not (Robbins & Monro 1951). All
codes at once and rho = 1 are a sweep of ``cavi``.
"""

from dataclasses import dataclass

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.vi.cavi import Cavi, CaviConfig
from cardiac_vae.vi.mixture import (
    MixturePosterior,
    MixturePrior,
    elbo,
    expected_statistics,
    update,
)
from cardiac_vae.vi.statistics import Codes, taken


class SviConfig(StrictConfig):
    """Settings of the stochastic fit.

    Attributes:
        num_components: K.
        forgetting: f, how fast steps shrink; more than 0.5 and at most 1.
        delay: d, how many steps the first ones are slowed as if they had been taken.
        num_codes: N; None for as many as ``init`` sees, which a stream does not show.
        num_start: Codes, drawn at random, that the start is found on. As steps shrink, a poor
            start is left slowly.
        start_sweeps: Sweeps of coordinate ascent over those.
        num_restarts: Starts that are tried on those; the one with the best bound goes on.
    """

    num_components: PositiveInt = 10
    forgetting: float = Field(default=0.7, gt=0.5, le=1)
    delay: NonNegativeFloat = 10.0
    num_codes: PositiveInt | None = None
    num_start: PositiveInt = 5000
    start_sweeps: NonNegativeInt = 10
    num_restarts: PositiveInt = 1


@dataclass(frozen=True)
class SviState:
    """The posterior, the steps taken and the number N of codes that it is about."""

    posterior: MixturePosterior
    num_steps: int
    num_codes: int


class Svi:
    """Steps along the natural gradient, estimated from batches, in memory for one batch."""

    def __init__(self, prior: MixturePrior, config: SviConfig) -> None:
        self.prior = prior
        self.config = config

    def init(self, codes: Codes, generator: torch.Generator) -> SviState:
        """Return the start: coordinate ascent on some of the codes, each for many."""
        number = self.config.num_codes or len(codes)
        rows = torch.randperm(len(codes), generator=generator)[: self.config.num_start]
        some = taken(codes, rows)
        method = Cavi(
            self.prior,
            CaviConfig(
                num_components=self.config.num_components,
                num_restarts=self.config.num_restarts,
            ),
        )
        state = method.init(some, generator)
        for _ in range(self.config.start_sweeps):
            state = method.step(state, some)
        found = state.statistics.scaled(number / len(some))
        return SviState(update(self.prior, found), 0, number)

    @torch.no_grad()
    def step(self, state: SviState, codes: Codes) -> SviState:
        """Return the state after one step on a batch (B, Z)."""
        found = expected_statistics(state.posterior, codes).scaled(state.num_codes / len(codes))
        rate = self.rate(state.num_steps + 1)
        posterior = state.posterior.towards(update(self.prior, found), rate)
        return SviState(posterior, state.num_steps + 1, state.num_codes)

    @torch.no_grad()
    def elbo(self, state: SviState, codes: Codes) -> float:
        """Return the bound with the best local factor; of a batch, an unbiased estimate of it."""
        scale = state.num_codes / len(codes)
        return float(elbo(self.prior, state.posterior, codes, scale=scale))

    def rate(self, step: int) -> float:
        """Return rho_t in (0, 1] of step t, counted from 1 (sec. 2.4)."""
        return (step + self.config.delay) ** -self.config.forgetting
