"""Ladder variational autoencoder of masks (Sonderby et al. 2016, sec. 2.1).

    p(x, z)  = p(z_1) prod_l p(z_l | z_l-1) p(x | z_L), the chain of ``hvae``
    q(z | x) = q(z_1 | x) prod_l q(z_l | z_l-1, x), top-down as p
    d_L = d(x), d_l = d(d_l+1)          a deterministic path upward
    N(z_l; mu_hat(d_l), sigma_hat(d_l)^2)   what the mask says of group l, an approximate likelihood
    q(z_l | z_l-1, x) ~ p(z_l | z_l-1) N(z_l; mu_hat, sigma_hat^2): precisions add up, and the mean
    is weighed by them (eq. 17-19). The top is q(z_1 | x) = N(mu_hat, sigma_hat^2) alone.

Group 1 is the top, as everywhere here; the paper counts from below. The KL of each group is a
closed form given the draw above it. Below the top sigma_hat starts large: a likelihood that says
little leaves the posterior at the prior.
"""

from typing import NamedTuple

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from cardiac_vae.layers.distributions import DiagonalNormal
from cardiac_vae.layers.hierarchy import Generator, HierarchyConfig, NormalHead, upward_steps
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.shape_model import Latents, LossTerms, ShapeModel, with_broken_plane

FIRST_LOG_SIGMA = 2.0
"""Where log sigma_hat starts below the top: the mask weighs 2 % beside a prior of sigma 1."""


class Config(HierarchyConfig):
    """Settings of the ladder: those of its groups, and the weight of their KL."""

    beta: PositiveFloat = 1.0


class Step(NamedTuple):
    """The value of a group, each (B, Z, H, W), and the distributions it lies between."""

    z: Tensor
    posterior: DiagonalNormal
    prior: DiagonalNormal


class Model(ShapeModel):
    """A chain of latent groups whose posterior corrects the prior by what the mask says."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        starts = [FIRST_LOG_SIGMA] * (len(config.scales) - 1) + [0.0]
        self.steps = upward_steps(config)
        self.heads = nn.ModuleList(
            NormalHead(
                config.spatial_dims, config.channels[scale], config.latent_channels, log_sigma
            )
            for scale, log_sigma in zip(config.scales[::-1], starts, strict=True)
        )
        self.generator = Generator(config)

    def likelihoods(self, mask: Tensor, is_broken: Tensor | None = None) -> list[DiagonalNormal]:
        """Return N(mu_hat, sigma_hat^2) of each group, top first, of masks (B, C, H, W)."""
        x, normals = with_broken_plane(mask, is_broken), []
        for step, head in zip(self.steps, self.heads, strict=True):
            x = step(x)
            normals.append(head(x))
        return normals[::-1]

    def infer(
        self, mask: Tensor, is_broken: Tensor | None = None, temperature: float = 1.0
    ) -> list[Step]:
        """Draw each group, top first, from its posterior given the draw above it."""
        steps: list[Step] = []
        for likelihood in self.likelihoods(mask, is_broken):
            prior = self.generator.prior([step.z for step in steps], len(mask))
            posterior = prior.precision_weighted(likelihood) if steps else likelihood
            steps.append(Step(posterior.rsample(temperature), posterior, prior))
        return steps

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Return logits (B, C, H, W) and terms, from one draw of the posterior."""
        steps = self.infer(mask, is_broken)
        logits = self.generator([step.z for step in steps], len(mask))
        nll = categorical_nll(logits, mask if target is None else target)
        kl = torch.stack([step.posterior.kl(step.prior) for step in steps], dim=1)
        ratios = [step.posterior.log_prob(step.z) - step.prior.log_prob(step.z) for step in steps]
        return logits, LossTerms(nll, kl, torch.stack(ratios).sum(dim=0))

    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        """Return the mean of reconstruction + warmup * beta * KL."""
        return (terms.reconstruction + warmup * self.config.beta * terms.kl).mean()

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        """Return the posterior's mean or draw of each group, top first, given that above it."""
        return [step.z for step in self.infer(mask, is_broken, temperature)]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C, H, W); only the last group given counts, those below are drawn."""
        return self.generator(latents, len(latents[0]), temperature)

    def draw(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> list[Tensor]:
        """Return every group drawn from its prior, given the one above."""
        return self.generator.draw([], num_samples, temperature)

    def noise_of(self, latents: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Return the noise of groups, top first, each in its prior given the one above."""
        return self.generator.noise_of(latents)

    def from_noise(self, noise: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Return the groups, top first, that noise stands for."""
        return self.generator.from_noise(noise)

    @property
    def latent_sizes(self) -> list[int]:
        """Scalars of each group, top first."""
        return self.config.latent_sizes
