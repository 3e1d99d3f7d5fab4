"""A naive hierarchy of latent groups: the VAE of several layers in Sonderby et al. 2016 (sec. 2).

    p(x, z)  = p(z_1) prod_l p(z_l | z_l-1) p(x | z_L)
    q(z | x) = q(z_L | x) prod_l q(z_l | z_l+1),  bottom-up, each from the draw below it alone
    log p(x) >= E_q[log p(x | z_L) - sum_l log q(z_l | z_l+1) - log p(z_l | z_l-1)]

Group 1 is the top, as everywhere here (the paper counts from below), and z_L+1 stands for x. Only
the top's term has a closed form given the draw below, KL(q(z_1 | z_2) || N(0, I)). The prior of any
other group hangs on z_l-1, which was drawn given z_l: the KL of the two normals, at that z_l-1,
would be that of another joint distribution, so these terms are the log-ratios of the draw. They
are unbiased, can be negative, and only their sum is a KL, in the mean.
"""

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from cardiac_vae.layers.blocks import convolution
from cardiac_vae.layers.distributions import DiagonalNormal
from cardiac_vae.layers.hierarchy import Generator, HierarchyConfig, NormalHead, upward_steps
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.shape_model import Latents, LossTerms, ShapeModel, with_broken_plane


class Config(HierarchyConfig):
    """Settings of the naive hierarchy: those of its groups, and the weight of their KL."""

    beta: PositiveFloat = 1.0


class Model(ShapeModel):
    """A chain of latent groups, inferred bottom-up from draws."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        dims, latent_channels = config.spatial_dims, config.latent_channels
        widths = [config.channels[scale] for scale in config.scales[::-1]]
        lifts = [None, *(convolution(dims, latent_channels, width) for width in widths[:-1])]
        self.links = nn.ModuleList(
            nn.Sequential(*([lift] if lift else []), step, NormalHead(dims, width, latent_channels))
            for lift, step, width in zip(lifts, upward_steps(config), widths, strict=True)
        )
        self.generator = Generator(config)

    def infer(
        self, mask: Tensor, is_broken: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[list[Tensor], list[DiagonalNormal]]:
        """Return the draw and the posterior of each group, top first, of masks (B, C, H, W)."""
        latents, posteriors = [], []
        below = with_broken_plane(mask, is_broken)
        for link in self.links:
            posterior: DiagonalNormal = link(below)
            below = posterior.rsample(temperature)
            latents.append(below)
            posteriors.append(posterior)
        return latents[::-1], posteriors[::-1]

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Return logits (B, C, H, W) and terms, from one draw of the posterior."""
        latents, posteriors = self.infer(mask, is_broken)
        priors = [self.generator.prior(latents[:above], len(mask)) for above in range(len(latents))]
        logits = self.generator(latents, len(mask))
        nll = categorical_nll(logits, mask if target is None else target)
        ratios = torch.stack(
            [
                q.log_prob(z) - p.log_prob(z)
                for z, q, p in zip(latents, posteriors, priors, strict=True)
            ],
            dim=1,
        )
        top = posteriors[0].kl(priors[0])[:, None]
        return logits, LossTerms(nll, torch.cat([top, ratios[:, 1:]], dim=1), ratios.sum(dim=1))

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
        """Return the posterior's mean or draw of each group, top first, given that below it."""
        return self.infer(mask, is_broken, temperature)[0]

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
