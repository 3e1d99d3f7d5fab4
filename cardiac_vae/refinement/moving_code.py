"""The code of each slice on its way up the refiner's bound (docs/theory.md, "The code moves").

    F = E_q(e)[sum_i log sum_c p(x_i = c | z(e)) exp(g_ic)] - beta KL(q(e) || p(e)),    beta >= 1

g_ic is what else is said of class c at native pixel i: by the segmenter, the stack and the scan.
The sum over c is the bound at the best q(x | e), known in closed form, and what is wanted is

    q(x_i = c) = E_q(e)[q(x_i = c | e)],    q(x_i = c | e) ~ p(x_i = c | z(e)) exp(g_ic)

Were x independent of e in q, the mean would stand inside the logarithm of the sum. That bound is
never higher, and its estimate from a few draws is too high: it would reward a wide q(e) for draws
that happen to agree. F is a mean over draws, so that its estimate is right in the mean. Steps go up
gradients of fresh draws. Whether a slice keeps its step is judged by draws that stay the same, by
which its F never falls.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.refinement.code_posterior import CodePosterior
from cardiac_vae.refinement.explanation import ExplanationConfig
from cardiac_vae.refinement.native_grid import NativeGrid
from cardiac_vae.shape_model import ShapeModel
from cardiac_vae.vi.estimators import ESTIMATORS, Draws, EstimatorName, Factor, Term
from cardiac_vae.vi.normal import natural_gradient

_LEAST = 1e-6  # of a class: no pixel decides alone
_CODES = 64  # decoded at a time: bounds memory
_LONGER, _SHORTER = 1.5, 0.3  # the next step after one that was kept, or not
_SHORTEST = 1e-3  # step that is tried, as a share of the first one
_FARTHEST = 1.0  # that a logarithm of sigma changes in a step


class MovingCode:
    """q(e) of N slices, what it says of their pixels, and how it moves.

    Attributes:
        posterior: q(e).
        bounds: F in nats, summed over the slices, at the start and after each step; never falls
            as long as what else is said stays the same.
    """

    def __init__(
        self,
        model: ShapeModel,
        grid: NativeGrid,
        seen: np.ndarray,
        evidence: np.ndarray,
        config: ExplanationConfig,
        density: CodeDensity | None = None,
    ) -> None:
        """Start where the encoder puts what was seen (N, C, S, S).

        ``evidence`` (N, C, h, w) is g without the scan, float64; ``density`` stands for N(0, I) in
        p(e) where there is one.

        Raises:
            ValueError: if the model has no prior that q(e) could be held to.
        """
        if not (model.has_prior and model.has_noise):
            raise ValueError(
                f"explanation.mode: expected amortized for {type(model).__module__}, whose codes "
                "have no normal prior, got optimized; take a recipe such as vae to move codes"
            )
        self.model, self.grid, self.config, self.density = model, grid, config, density
        self.prior_weight = config.prior_weight * max(1.0, grid.pixels_per_prepared)
        self.posterior = CodePosterior.start(
            model, torch.from_numpy(seen), config.num_groups, config.seed, config.start_width
        )
        self.bounds: list[float] = []
        self._evidence = torch.from_numpy(evidence)
        self._said, self._cost = self.reading(self.posterior)
        self._sizes = torch.full((len(seen),), config.step_size)
        self._steps_left = torch.full((len(seen),), config.max_steps)

    @property
    def log_model(self) -> np.ndarray:
        """Log of the mean of p(x | z) over q(e), of each native pixel and class, (N, C, h, w)."""
        said = self._said.double().logsumexp(dim=0) - math.log(len(self._said))
        return np.asarray(said.numpy())

    def move(self, seen: np.ndarray | None = None) -> tuple[np.ndarray, float]:
        """Move q(e) until the bound hardly rises, or no step is left.

        Args:
            seen: (N, C, h, w) what the scan says, to be added to the evidence.

        Returns:
            log q(x) (N, C, h, w) float64, and the bound in nats of all slices.
        """
        evidence = self._evidence if seen is None else self._evidence + torch.from_numpy(seen)
        bound = _bound(self._said, self._cost, evidence)
        self.bounds.append(float(bound.sum()))
        is_moving = self._steps_left > 0
        while is_moving.any():
            for which in torch.split(is_moving.nonzero()[:, 0], self._slices_at_a_time):
                bound[which], is_moving[which] = self._step(which, bound[which], evidence[which])
            self.bounds.append(float(bound.sum()))
        return self._log_belief(evidence).numpy(), float(bound.sum())

    @torch.no_grad()
    def reading(self, posterior: CodePosterior) -> tuple[Tensor, Tensor]:
        """Return log p(x | z) (S, N, C, h, w) of the draws, and the weighted KL (N,) float64."""
        said, gained = [], []
        for which in torch.split(torch.arange(len(posterior.mu)), self._slices_at_a_time):
            part = posterior.of(which)
            values = part.at(self._noise(part))
            said.append(self._log_probabilities(part, values))
            gained.append(self._log_ratio(part, values).double().mean(dim=0))
        cost = self.prior_weight * (posterior.kl() - torch.cat(gained))
        return torch.cat(said, dim=1), cost

    def direction(self, posterior: CodePosterior, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """Return the direction (n, Z) of mu and of log_sigma by the estimator.

        ``evidence`` is (n, C, h, w).
        """

        def value(draws: Draws) -> Tensor:
            said = self._log_probabilities(posterior, draws["e"])
            return _explained(said, evidence) + self.prior_weight * self._log_ratio(
                posterior, draws["e"]
            )

        is_score = self.config.estimator == "score_function"
        noise = self._noise(posterior, len(self.bounds))
        name: EstimatorName = "rao_blackwellized_controlled" if is_score else "reparametrized"
        parameters = torch.stack([posterior.mu, posterior.log_sigma], dim=-1)
        family = {"e": Factor(parameters, lambda p: _NormalAt(p, noise), "ab")}
        estimate = ESTIMATORS[name](family, [Term(value, ("e",), "a")], len(noise))["e"]
        d_mu, d_log_sigma = estimate.mean(dim=0).unbind(dim=-1)
        variance = (2 * posterior.log_sigma).exp()
        d_mu = d_mu - self.prior_weight * posterior.mu  # of KL(q || N(0, I)), in closed form
        d_log_sigma = d_log_sigma + self.prior_weight * (1 - variance)
        if self.config.estimator == "reparametrized":  # in units in which one step size fits all
            scale = variance.mean(dim=1, keepdim=True)
            return scale * d_mu, scale * d_log_sigma
        return natural_gradient(d_mu, d_log_sigma, posterior.log_sigma)

    def _step(self, which: Tensor, bound: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """Try a step of some slices; return their bounds (n,), and which move on."""
        now, size = self.posterior.of(which), self._sizes[which]
        d_mu, d_log_sigma = self.direction(now, evidence)
        change = (size[:, None] * d_log_sigma).clamp(-_FARTHEST, _FARTHEST)
        tried = now.moved(size[:, None] * d_mu, change)
        said, cost = self.reading(tried)
        found = _bound(said, cost, evidence)
        is_kept = found > bound
        kept = which[is_kept]
        self.posterior.mu[kept] = tried.mu[is_kept]
        self.posterior.log_sigma[kept] = tried.log_sigma[is_kept]
        self._said[:, kept], self._cost[kept] = said[:, is_kept], cost[is_kept]
        self._steps_left[which] -= 1
        self._sizes[which] = size * torch.where(is_kept, _LONGER, _SHORTER)
        is_worth_it = torch.where(
            is_kept,
            found - bound > self.config.tolerance,
            self._sizes[which] > _SHORTEST * self.config.step_size,
        )
        return torch.where(is_kept, found, bound), is_worth_it & (self._steps_left[which] > 0)

    def _log_belief(self, evidence: Tensor) -> Tensor:
        """Return log q(x) (N, C, h, w) float64, draw by draw: bounds memory."""
        total = torch.zeros_like(evidence)
        for said in self._said:
            total += (said + evidence).softmax(dim=1)
        return (total / len(self._said)).log()

    def _log_probabilities(self, posterior: CodePosterior, values: Tensor) -> Tensor:
        """Return log p(x | z) (S, n, C, h, w) of values of q(e), (S, n, Z)."""
        latents = self.model.from_noise(posterior.noise(values))
        probabilities = self.grid(self.model.decode(latents).softmax(dim=1))
        said = probabilities.clamp(min=_LEAST).log()
        return said.reshape(*values.shape[:2], *said.shape[1:])

    def _log_ratio(self, posterior: CodePosterior, values: Tensor) -> Tensor:
        """Return log p(e) - log N(e; 0, I) (S, n) in nats of values (S, n, Z)."""
        if self.density is None:
            return torch.zeros(values.shape[:2])
        return self.density.log_ratio(posterior.noise(values)).reshape(values.shape[:2])

    def _noise(self, posterior: CodePosterior, step: int = 0) -> Tensor:
        """Return standard normal numbers (S, 1, Z), in pairs of both signs.

        Those of step 0 are the bound's. Control variates take draws for independent: no pairs then.
        """
        draws, size = self.config.num_draws, posterior.mu.shape[1]
        generator = torch.Generator().manual_seed(self.config.seed + step)
        if step and self.config.estimator == "score_function":
            return torch.randn(max(2, draws), 1, size, generator=generator)
        half = torch.randn((draws + 1) // 2, 1, size, generator=generator)
        return torch.cat([half, -half])[:draws]

    @property
    def _slices_at_a_time(self) -> int:
        return max(1, _CODES // self.config.num_draws)


_Shape = torch.Size | list[int] | tuple[int, ...]


class _NormalAt(Normal):
    """Normals of parameters (..., 2), mean and log-sigma, whose draws come from given numbers."""

    def __init__(self, parameters: Tensor, standard: Tensor) -> None:
        super().__init__(parameters[..., 0], parameters[..., 1].exp(), validate_args=False)
        self.standard = standard

    def rsample(self, sample_shape: _Shape = ()) -> Tensor:
        """Return the draws that the numbers stand for."""
        return self.loc + self.scale * self.standard

    def sample(self, sample_shape: _Shape = ()) -> Tensor:
        """Return the same without a gradient."""
        return self.rsample().detach()


def _explained(said: Tensor, evidence: Tensor) -> Tensor:
    """Return sum_i log sum_c p(x_i = c | z) exp(g_ic), (S, n) float64, of each draw and slice."""
    return (said + evidence).logsumexp(dim=2).flatten(start_dim=2).sum(dim=2)


def _bound(said: Tensor, cost: Tensor, evidence: Tensor) -> Tensor:
    """Return F (n,) in nats of each slice, at the best q(x | e)."""
    return _explained(said, evidence).mean(dim=0) - cost
