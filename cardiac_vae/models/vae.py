"""Variational autoencoder of masks (Kingma & Welling 2014) and its family.

    x ~ p(x | decoder(z)),  z ~ N(0, I),  q(z | x) = N(mu(x), diag sigma(x)^2)
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z))

What sets the family apart is a setting here, not another model: what the decoder's outputs stand
for (``likelihood``), and what the loss makes of the KL, times ``beta`` (Higgins et al. 2017) or as
a ``regularizer`` says. The encoder has one more input plane that says whether the mask is broken;
then it infers q(z | y), y a broken view of x.
"""

from typing import Self

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.autoencoder import Pyramid, decoder, encoder
from cardiac_vae.layers.distributions import DiagonalNormal, soft_clamp
from cardiac_vae.layers.likelihoods import (
    CategoricalConfig,
    LikelihoodConfig,
    build_likelihood,
    categorical_nll,
)
from cardiac_vae.layers.regularizers import KL, Regularizer
from cardiac_vae.shape_model import Latents, LossTerms, ShapeModel, with_broken_plane


class Config(Pyramid):
    """Settings of the VAE, beside those of its scales.

    Attributes:
        num_samples: Draws of the posterior that the terms are the means of.
        beta: Weight of the KL; 1 where a regularizer has weights of its own.
    """

    latent_dim: PositiveInt = 32
    likelihood: LikelihoodConfig = CategoricalConfig()
    num_samples: PositiveInt = 1
    regularizer: Regularizer = KL()
    beta: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _one_weight_of_the_kl(self) -> Self:
        if self.beta != 1 and self.regularizer.name != "kl":
            raise ValueError(
                f"beta: expected 1 beside the regularizer {self.regularizer.name!r}, which has "
                f"its own weights, got {self.beta}; leave beta out"
            )
        return self


class Model(ShapeModel):
    """One latent vector per mask."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(config, NUM_CLASSES + 1, 2 * config.latent_dim)
        self.decoder = decoder(config, config.latent_dim, NUM_CLASSES)
        self.likelihood = build_likelihood(config.likelihood)

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
        """Return logits (B, C, H, W) of one draw of the posterior, and the means over all draws.

        The reconstruction is the cost of the label map whatever the likelihood is. With several
        draws -(reconstruction + log_ratio) is the logarithm of the geometric mean of their
        importance weights, which lies below their mean: what bounds log p(x) still does.
        """
        draws, cases = self.config.num_samples, len(mask)
        target = mask if target is None else target
        if is_broken is None:
            is_broken = torch.zeros(cases, dtype=torch.bool, device=mask.device)

        def mean(values: Tensor) -> Tensor:
            return values.reshape(draws, cases).mean(dim=0)

        posterior = self.posterior(mask, is_broken)
        prior = DiagonalNormal.standard_like(posterior.mu)
        drawn = posterior.repeated(draws)
        z = drawn.rsample()
        output = self.decoder(z).float()
        logits = self.likelihood.logits(output)
        log_ratio = drawn.log_prob(z) - prior.repeated(draws).log_prob(z)
        parts = {name: mean(part) for name, part in self.likelihood.parts(output).items()}
        parts |= self.config.regularizer.parts(
            posterior, z.reshape(draws, cases, -1), ~is_broken, self.num_train_cases
        )
        nll = mean(categorical_nll(logits, torch.cat([target] * draws)))
        kl = posterior.kl(prior)[:, None]
        return logits[:cases], LossTerms(nll, kl, mean(log_ratio), parts)

    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        """Return the mean cost under the likelihood, and what the regularizer makes of the KL."""
        config = self.config
        nll = self.likelihood.cost(terms.reconstruction, terms.parts)
        weight = warmup * config.beta
        return nll.mean() + config.regularizer.cost(terms.kl, terms.parts, weight, progress)

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        """Return the posterior's mean (B, Z) as the one group, or a draw at a temperature."""
        return [self.posterior(mask, is_broken).rsample(temperature)]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C, H, W) of codes (B, Z)."""
        (z,) = latents
        return self.likelihood.logits(self.decoder(z).float())

    def draw(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> list[Tensor]:
        """Return codes (num_samples, Z) from N(0, temperature^2 I) as the one group."""
        device = next(self.parameters()).device
        return [temperature * torch.randn(num_samples, self.config.latent_dim, device=device)]

    @torch.no_grad()
    def sample_near(
        self,
        mask: Tensor,
        num_samples: int,
        temperature: float = 1.0,
        is_broken: Tensor | None = None,
    ) -> Tensor:
        """Return probabilities (num_samples, B, C, H, W) of draws of q(z | mask).

        ``temperature`` scales its sigma: 0 gives the reconstruction, 1 the posterior.
        """
        posterior = self.posterior(mask, is_broken).repeated(num_samples)
        probabilities = self.decode([posterior.rsample(temperature)]).softmax(dim=1)
        return probabilities.reshape(num_samples, len(mask), *probabilities.shape[1:])

    @property
    def latent_sizes(self) -> list[int]:
        """Scalars of the one group."""
        return [self.config.latent_dim]
