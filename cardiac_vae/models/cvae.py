"""Conditional VAE of masks (Sohn, Lee & Yan 2015, sec. 4.1): its prior, encoder and decoder see c.

    x ~ Categorical(decoder(z, c)),  z ~ p(z | c) = N(mu(c), diag sigma(c)^2)
    log p(x | c) >= E_q[log p(x | z, c)] - KL(q(z | x, c) || p(z | c)),  q diagonal, too

The condition c is what is known of a slice (``data.conditions``): group, phase, position. Parts of
it are hidden at random while the model is fitted, so each of them may be missing afterwards.
"""

from typing import Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from cardiac_vae.data.conditions import ACDC_GROUPS, part_sizes
from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.autoencoder import Pyramid, bottom_up, top_down
from cardiac_vae.layers.blocks import zero_initialized
from cardiac_vae.layers.distributions import DiagonalNormal, soft_clamp
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.shape_model import Latents, LossTerms, ShapeModel, with_broken_plane


class Config(Pyramid):
    """Settings of the conditional VAE, beside those of its scales.

    Attributes:
        groups: The groups that a condition can name; a slice of any other has none.
        condition_width: Numbers that a condition becomes before it meets masks and codes.
        condition_dropout: Chance that a part of a condition is hidden in training; with the same
            chance all of it is.
    """

    latent_dim: PositiveInt = 32
    beta: PositiveFloat = 1.0
    groups: tuple[str, ...] = ACDC_GROUPS
    condition_width: PositiveInt = 32
    condition_dropout: float = Field(default=0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _groups_have_names_of_their_own(self) -> Self:
        if "" in self.groups or len(set(self.groups)) < len(self.groups):
            raise ValueError(f"groups {list(self.groups)}: expected different names, none empty")
        return self


def condition_embedding(in_features: int, width: int) -> nn.Sequential:
    """Return two layers that turn conditions (B, K) into numbers that linear layers can use.

    Each group, phase and position starts as a vector of N(0, 1), as embeddings do: with a linear
    layer's usual weights conditions would differ by far less than the features they lie beside,
    and short fits would hardly hear them.
    """
    table = nn.Linear(in_features, width)
    nn.init.normal_(table.weight)
    return nn.Sequential(table, nn.SiLU(), nn.Linear(width, width), nn.SiLU())


class Model(ShapeModel):
    """One latent vector per mask, all of whose distributions depend on the condition.

    The condition enters beside the codes and the features, at the coarsest scale: every layer of
    the decoder lies behind it. The prior starts as N(0, I) whatever the condition.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.condition_groups = config.groups
        self.part_sizes = part_sizes(config.groups)
        width, features = config.condition_width, config.num_features
        self.embedding = condition_embedding(sum(self.part_sizes), width)
        self.prior_head = zero_initialized(nn.Linear(width, 2 * config.latent_dim))
        self.encoder = bottom_up(config, NUM_CLASSES + 1)
        self.posterior_head = nn.Linear(features + width, 2 * config.latent_dim)
        self.features_of = nn.Linear(config.latent_dim + width, features)
        self.decoder = top_down(config, NUM_CLASSES)

    def prior(self, condition: Tensor) -> DiagonalNormal:
        """Return p(z | c) of conditions (B, K)."""
        return _normal(self.prior_head(self.embedding(condition)))

    def posterior(
        self, mask: Tensor, condition: Tensor, is_broken: Tensor | None = None
    ) -> DiagonalNormal:
        """Return q(z | mask, c) of masks (B, C, H, W) and conditions (B, K)."""
        features = self.encoder(with_broken_plane(mask, is_broken))
        seen = torch.cat([features, self.embedding(condition)], dim=1)
        return _normal(self.posterior_head(seen))

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Return logits (B, C, H, W) and terms, from one draw of the posterior.

        In training mode parts of the condition are hidden first.
        """
        condition = self._rows(len(mask), condition)
        if self.training:
            condition = self._partly_hidden(condition)
        prior, posterior = self.prior(condition), self.posterior(mask, condition, is_broken)
        z = posterior.rsample()
        logits = self._logits(z, condition)
        nll = categorical_nll(logits, mask if target is None else target)
        log_ratio = posterior.log_prob(z) - prior.log_prob(z)
        return logits, LossTerms(nll, posterior.kl(prior)[:, None], log_ratio)

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
        """Return the posterior's mean (B, Z) as the one group, or a draw at a temperature."""
        posterior = self.posterior(mask, self._rows(len(mask), condition), is_broken)
        return [posterior.rsample(temperature)]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C, H, W) of codes (B, Z)."""
        (z,) = latents
        return self._logits(z, self._rows(len(z), condition)).float()

    def draw(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> list[Tensor]:
        """Return codes (num_samples, Z) from p(z | c) as the one group.

        ``condition`` is (num_samples, K), or (1, K) for all; None is the prior of slices of which
        nothing is known.
        """
        return [self.prior(self._rows(num_samples, condition)).rsample(temperature)]

    def noise_of(self, latents: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Return the noise (B, Z) of codes (B, Z) in p(z | c)."""
        (z,) = latents
        return [self.prior(self._rows(len(z), condition)).noise_of(z)]

    def from_noise(self, noise: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Return the codes (B, Z) of p(z | c) that noise (B, Z) stands for."""
        (epsilon,) = noise
        return [self.prior(self._rows(len(epsilon), condition)).at(epsilon)]

    @property
    def latent_sizes(self) -> list[int]:
        """Scalars of the one group."""
        return [self.config.latent_dim]

    def _logits(self, z: Tensor, condition: Tensor) -> Tensor:
        return self.decoder(self.features_of(torch.cat([z, self.embedding(condition)], dim=1)))

    def _rows(self, num_cases: int, condition: Tensor | None) -> Tensor:
        """Return one condition per case; zeros, which say that nothing is known, for None."""
        size = sum(self.part_sizes)
        device = next(self.parameters()).device
        if condition is None:
            return torch.zeros(num_cases, size, device=device)
        if (
            condition.ndim != 2
            or condition.shape[1] != size
            or len(condition) not in (1, num_cases)
        ):
            raise ValueError(
                f"condition: expected shape ({num_cases}, {size}) or (1, {size}), got "
                f"{tuple(condition.shape)}; encode it with the model's groups {self.config.groups}"
            )
        return condition.to(device).expand(num_cases, -1)

    def _partly_hidden(self, condition: Tensor) -> Tensor:
        """Return conditions (B, K) with parts made zero at random, and some wholly."""
        chance = self.config.condition_dropout
        if not chance:
            return condition
        num_draws = 1 + len(self.part_sizes)
        is_kept = torch.rand(len(condition), num_draws, device=condition.device) >= chance
        whole, *parts = torch.split(is_kept, 1, dim=1)
        kept = [
            (whole & part).expand(-1, size)
            for part, size in zip(parts, self.part_sizes, strict=True)
        ]
        return condition * torch.cat(kept, dim=1)


def _normal(parameters: Tensor) -> DiagonalNormal:
    mu, log_sigma = parameters.float().chunk(2, dim=1)
    return DiagonalNormal(mu, soft_clamp(log_sigma))
