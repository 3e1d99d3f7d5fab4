"""Variational autoencoder of masks (Kingma & Welling 2014), with the beta of Higgins et al. 2017.

    x ~ Categorical(decoder(z)),  z ~ N(0, I),  q(z | x) = N(mu(x), diag sigma(x)^2)
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z))

Beta is a number here, not another model: ``beta: 1`` is the VAE. The encoder has one more input
plane that says whether the mask is broken; then it infers q(z | y), y a broken view of x.
"""

from typing import Literal, Self

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.autoencoder import Pyramid, decoder, encoder
from cardiac_vae.layers.distributions import DiagonalNormal, soft_clamp
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.shape_model import Latents, LossTerms, ShapeModel, with_broken_plane


class Config(StrictConfig):
    """Settings of the VAE.

    Attributes:
        image_size: Pixels a side; divisible by ``patch_size`` times two per further scale.
        channels: Width of each scale, finest first.
    """

    spatial_dims: Literal[2, 3] = 2
    image_size: PositiveInt = 96
    patch_size: PositiveInt = 4
    channels: tuple[PositiveInt, ...] = (48, 96, 128)
    cells_per_scale: PositiveInt = 1
    latent_dim: PositiveInt = 32
    beta: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _image_can_be_halved(self) -> Self:
        factor = self.patch_size * 2 ** (len(self.channels) - 1)
        if self.image_size % factor:
            raise ValueError(f"image_size {self.image_size} is not divisible by {factor}")
        return self


class Model(ShapeModel):
    """One latent vector per mask."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        pyramid = Pyramid(**config.model_dump(include=set(Pyramid.model_fields)))
        self.encoder = encoder(pyramid, NUM_CLASSES + 1, 2 * config.latent_dim)
        self.decoder = decoder(pyramid, config.latent_dim, NUM_CLASSES)

    def posterior(self, mask: Tensor, is_broken: Tensor | None = None) -> DiagonalNormal:
        """Return q(z | mask); ``mask`` is (B, C, H, W)."""
        mu, log_sigma = self.encoder(with_broken_plane(mask, is_broken)).float().chunk(2, dim=1)
        return DiagonalNormal(mu, soft_clamp(log_sigma))

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Return logits (B, C, H, W) and terms, from one draw of the posterior."""
        posterior = self.posterior(mask, is_broken)
        prior = DiagonalNormal.standard_like(posterior.mu)
        z = posterior.rsample()
        logits = self.decoder(z)
        nll = categorical_nll(logits, mask if target is None else target)
        log_ratio = posterior.log_prob(z) - prior.log_prob(z)
        return logits, LossTerms(nll, posterior.kl(prior)[:, None], log_ratio)

    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        """Return the mean of reconstruction + warmup * beta * KL."""
        return (terms.reconstruction + warmup * self.config.beta * terms.kl).mean()

    def encode(
        self, mask: Tensor, is_broken: Tensor | None = None, condition: Tensor | None = None
    ) -> list[Tensor]:
        """Return the posterior mean (B, Z) as the one group."""
        return [self.posterior(mask, is_broken).mu]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C, H, W) of codes (B, Z)."""
        (z,) = latents
        return self.decoder(z).float()

    def sample(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return probabilities (num_samples, C, H, W) of codes from N(0, temperature^2 I)."""
        device = next(self.parameters()).device
        z = temperature * torch.randn(num_samples, self.config.latent_dim, device=device)
        return self.decode([z]).softmax(dim=1)

    @property
    def latent_sizes(self) -> list[int]:
        """Scalars of the one group."""
        return [self.config.latent_dim]
