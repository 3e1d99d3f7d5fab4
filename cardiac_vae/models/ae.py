"""Autoencoder of masks: one latent vector and no distribution over it; the control of the VAE.

    z = encoder(x),  x ~ Categorical(decoder(z)),  loss = -log p(x | z)

Encoder and decoder are the VAE's, so what differs is what the KL brings. With ``noise`` it is the
denoising autoencoder (Vincent et al. 2008, sec. 2.2-2.3): while it is trained, a share of the
input's pixels is replaced by random classes, and the clean mask is to be explained. Nothing says
which codes are hearts: there is no bound, and nothing to sample from.
"""

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor

from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.autoencoder import Pyramid, decoder, encoder
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.shape_model import Latents, LossTerms, ShapeModel, with_broken_plane


class Config(Pyramid):
    """Settings of the autoencoder, beside those of its scales.

    Attributes:
        noise: Share of the input's pixels that a random class replaces in training; each class is
            as likely, so a quarter of them keep theirs.
    """

    latent_dim: PositiveInt = 32
    noise: float = Field(default=0.0, ge=0, le=1)


class Model(ShapeModel):
    """One latent vector per mask, as it is."""

    has_prior = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(config, NUM_CLASSES + 1, config.latent_dim)
        self.decoder = decoder(config, config.latent_dim, NUM_CLASSES)

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Return logits (B, C, H, W) and terms without a KL; in training mode with noise."""
        seen = with_noise(mask, self.config.noise) if self.training else mask
        logits = self.decode(self.encode(seen, is_broken))
        nll = categorical_nll(logits, mask if target is None else target)
        return logits, LossTerms(nll, nll.new_zeros(len(nll), 0))

    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        """Return the mean of the reconstruction."""
        return terms.reconstruction.mean()

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        """Return the code (B, Z) as the one group."""
        return [self.encoder(with_broken_plane(mask, is_broken)).float()]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C, H, W) of codes (B, Z)."""
        (z,) = latents
        return self.decoder(z).float()

    @property
    def latent_sizes(self) -> list[int]:
        """Scalars of the one group."""
        return [self.config.latent_dim]


def with_noise(mask: Tensor, share: float) -> Tensor:
    """Return a mask (B, C, H, W) with a share of its pixels replaced by a class drawn evenly.

    Each pixel is drawn on its own, from torch's global generator; share 0 draws nothing.
    """
    if not share:
        return mask
    pixels = (len(mask), *mask.shape[2:])
    drawn = torch.randint(mask.shape[1], pixels, device=mask.device)
    noise = F.one_hot(drawn, mask.shape[1]).movedim(-1, 1).to(mask.dtype)
    is_replaced = torch.rand(pixels, device=mask.device) < share
    return torch.where(is_replaced[:, None], noise, mask)
