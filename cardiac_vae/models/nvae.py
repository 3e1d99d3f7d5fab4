"""NVAE of masks: a deep hierarchy of latent groups (Vahdat & Kautz 2020), written from the paper.

    p(x, z) = p(x | z) p(z_1) prod_l p(z_l | z_<l)
    q(z | x) = q(z_1 | x) prod_l q(z_l | z_<l, x)
    prior      p(z_l | z_<l)    = N(mu, sigma^2), read from the top-down state
    posterior  q(z_l | z_<l, x) = N(mu + d_mu, (sigma d_sigma)^2), the residual form (sec. 3.2)

A bottom-up pass leaves features at every scale; the top-down pass, shared by inference and
generation, draws the groups from the coarsest scale to the finest. All heads start at zero, so
the posterior equals the prior and the KL is zero before the first step. What the paper adds is a
setting each: squeeze-and-excitation, flows behind the posterior, spectral regularization. No code
of the published implementation was used.
"""

from typing import NamedTuple

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.blocks import (
    Upsample,
    batch_norm,
    convolution,
    from_patches,
    zero_initialized,
)
from cardiac_vae.layers.distributions import DiagonalNormal, soft_clamp
from cardiac_vae.layers.flow import InverseAutoregressiveFlow
from cardiac_vae.layers.hierarchy import HierarchyConfig, decoder_cell, upward_steps
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.layers.spectral import SpectralPenalty
from cardiac_vae.shape_model import Latents, LossTerms, ShapeModel, with_broken_plane


class Config(HierarchyConfig):
    """Settings of the NVAE: those of its groups and cells, and what the paper adds to them.

    Attributes:
        residual_posterior: The posterior moves the prior; if not, it stands on its own.
        num_flows: Steps of inverse autoregressive flow behind the posterior of each group.
        beta: Weight of the KL.
        kl_balancing: Weigh the groups' KL during the warm-up (NVAE appendix A).
        redraw_statistics: Let batch norms take the statistics of samples before hearts are drawn.
        spectral_regularization: The paper's lambda, in nats per unit of singular value.
    """

    residual_posterior: bool = True
    num_flows: NonNegativeInt = 0
    beta: PositiveFloat = 1.0
    kl_balancing: bool = True
    redraw_statistics: bool = True
    spectral_regularization: NonNegativeFloat = 0.0


class Step(NamedTuple):
    """What a latent group hands down.

    Attributes:
        state: (B, channels, H, W) of the top-down path, after this group.
        z: (B, latent_channels, H, W) value of the group.
        kl: (B,) nats per case; behind a flow an unbiased estimate, which may be negative.
        log_ratio: (B,) log q(z_l | z_<l, x) - log p(z_l | z_<l) of this value.
    """

    state: Tensor
    z: Tensor
    kl: Tensor
    log_ratio: Tensor


class LatentGroup(nn.Module):
    """One latent group of the top-down path: its prior, its posterior, and the merge."""

    def __init__(self, config: Config, channels: int, is_top: bool) -> None:
        super().__init__()
        spatial_dims, latent_channels = config.spatial_dims, config.latent_channels
        parameters = 2 * latent_channels
        self.prior_head = (
            None
            if is_top  # p(z_1) = N(0, I)
            else nn.Sequential(
                nn.SiLU(),
                zero_initialized(convolution(spatial_dims, channels, parameters, kernel=1)),
            )
        )
        self.features_in = convolution(spatial_dims, channels, channels, kernel=1)
        self.posterior_head = nn.Sequential(
            nn.SiLU(), zero_initialized(convolution(spatial_dims, channels, parameters))
        )
        self.is_residual = config.residual_posterior
        self.latent_channels = latent_channels
        self.merge = convolution(spatial_dims, channels + latent_channels, channels, kernel=1)
        self.cell = decoder_cell(config, channels)
        self.flow = (
            InverseAutoregressiveFlow(spatial_dims, channels, latent_channels, config.num_flows)
            if config.num_flows
            else None
        )

    def prior(self, state: Tensor) -> DiagonalNormal:
        """Return p(z_l | z_<l)."""
        if self.prior_head is None:
            shape = (len(state), self.latent_channels, *state.shape[2:])
            return DiagonalNormal.standard_like(torch.zeros(shape, device=state.device))
        mu, log_sigma = self.prior_head(state).float().chunk(2, dim=1)
        return DiagonalNormal(soft_clamp(mu), soft_clamp(log_sigma))

    def context(self, state: Tensor, features: Tensor) -> Tensor:
        """Return what the posterior knows, (B, channels, H, W): z_<l and what the encoder saw."""
        return state + self.features_in(features)

    def posterior(self, context: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
        """Return q(z_l | z_<l, x): the prior, moved by what the encoder saw.

        Without the residual form the head gives it alone: N(0, I) at the start, as every prior.
        """
        mu, log_sigma = self.posterior_head(context).float().chunk(2, dim=1)
        said = DiagonalNormal(soft_clamp(mu), soft_clamp(log_sigma))
        return prior.shifted(said.mu, said.log_sigma) if self.is_residual else said

    def infer(self, state: Tensor, features: Tensor, temperature: float = 1.0) -> Step:
        """Draw the group from its posterior; temperature 0 takes the mean."""
        prior, context = self.prior(state), self.context(state, features)
        posterior = self.posterior(context, prior)
        z = posterior.rsample(temperature)
        log_ratio = posterior.log_prob(z) - prior.log_prob(z)
        change: Tensor | float = 0.0  # of log q - log p, by the flow
        if self.flow is not None:
            moved, log_det = self.flow(z, context)
            change = prior.log_prob(z) - prior.log_prob(moved) - log_det
            z = moved
        return Step(self.next_state(state, z), z, posterior.kl(prior) + change, log_ratio + change)

    def next_state(self, state: Tensor, z: Tensor) -> Tensor:
        """Merge a value of the group into the state."""
        return self.cell(self.merge(torch.cat([state, z.to(state.dtype)], dim=1)))


class TopDown(nn.Module):
    """The generative path, coarsest scale first: what each group sees and how states grow."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dims = config.spatial_dims
        widths, counts = config.channels[::-1], config.groups[::-1]
        self.start = nn.Parameter(torch.zeros(1, widths[0], *(config.sizes[0],) * dims))
        self.groups = nn.ModuleList()
        self.resizers = nn.ModuleDict()  # by the number of the group they come before
        for scale, (width, count) in enumerate(zip(widths, counts, strict=True)):
            if scale:
                self.resizers[str(len(self.groups))] = Upsample(dims, widths[scale - 1], width)
            for _ in range(count):
                is_top = not self.groups
                self.groups.append(LatentGroup(config, width, is_top))
        self.head = nn.Sequential(
            decoder_cell(config, widths[-1]),
            batch_norm(dims, widths[-1]),
            nn.SiLU(),
            from_patches(dims, widths[-1], NUM_CLASSES, config.patch_size),
        )

    def latent_groups(self) -> list[LatentGroup]:
        """Return the groups, top first."""
        return [group for group in self.groups if isinstance(group, LatentGroup)]

    def first_state(self, batch: int) -> Tensor:
        """Return the learnt start of the path for a batch."""
        return self.start.expand(batch, *self.start.shape[1:])

    def before(self, group: int, state: Tensor) -> Tensor:
        """Return the state that a group sees: resized where a scale begins."""
        return self.resizers[str(group)](state) if str(group) in self.resizers else state


class Model(ShapeModel):
    """A hierarchy of latent groups over several scales."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.redraws_statistics = config.redraw_statistics
        self.bottom_up = upward_steps(config)
        self.top_down = TopDown(config)
        self.spectral = SpectralPenalty(self) if config.spectral_regularization else None

    def features(self, mask: Tensor, is_broken: Tensor | None = None) -> list[Tensor]:
        """Return what each group sees of masks (B, C, H, W), top first."""
        x, features = with_broken_plane(mask, is_broken), []
        for upward in self.bottom_up:
            x = upward(x)
            features.append(x)
        return features[::-1]

    def infer(
        self, mask: Tensor, is_broken: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, list[Step]]:
        """Run both paths on masks (B, C, H, W); return the last state and every group's step."""
        features = self.features(mask, is_broken)
        state, steps = self.top_down.first_state(len(mask)), []
        for index, group in enumerate(self.top_down.latent_groups()):
            step = group.infer(self.top_down.before(index, state), features[index], temperature)
            state = step.state
            steps.append(step)
        return state, steps

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Return logits (B, C, H, W) and terms, from one draw of the posterior."""
        state, steps = self.infer(mask, is_broken)
        logits = self.top_down.head(state)
        nll = categorical_nll(logits, mask if target is None else target)
        kl = torch.stack([step.kl for step in steps], dim=1)
        return logits, LossTerms(
            nll, kl, torch.stack([step.log_ratio for step in steps]).sum(dim=0)
        )

    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        """Return the mean of reconstruction + warmup * beta * sum of the groups' balanced KL."""
        kl = terms.regularization.mean(dim=0)
        if self.config.kl_balancing and warmup < 1:
            kl = kl * self._balance(kl.detach())
        return terms.reconstruction.mean() + warmup * self.config.beta * kl.sum()

    def _balance(self, kl: Tensor) -> Tensor:
        """Return a weight per group, its size times its mean KL, with mean 1 (NVAE appendix A).

        A group that says little costs little: none dies while the warm-up lasts.
        """
        sizes = torch.tensor(self.config.latent_sizes, device=kl.device, dtype=kl.dtype)
        share = sizes * (kl + 1e-2).clamp(min=1e-3)  # behind a flow an estimate may be negative
        return share / share.mean()

    def penalty(self) -> Tensor:
        """Return lambda times the sum of the layers' spectral norms (NVAE sec. 3.2)."""
        if self.spectral is None:
            return super().penalty()
        return self.config.spectral_regularization * self.spectral(self)

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        """Return the posterior's mean or draw of each group, given those above it."""
        return [step.z for step in self.infer(mask, is_broken, temperature)[1]]

    @torch.no_grad()
    def reconstruct(
        self, mask: Tensor, is_broken: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Return probabilities (B, C, H, W) of the posterior means, decoded on the way down."""
        state, _ = self.infer(mask, is_broken, temperature=0.0)
        return self.top_down.head(state).float().softmax(dim=1)

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C, H, W); groups not given come from their conditional prior."""
        return self._generate(len(latents[0]), latents, temperature)[1]

    def draw(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> list[Tensor]:
        """Return every group drawn from its prior, given all above it."""
        return self._generate(num_samples, [], temperature)[0]

    def sample(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return probabilities (num_samples, C, H, W) of such draws, decoded on the way."""
        return self._generate(num_samples, [], temperature)[1].softmax(dim=1)

    def noise_of(self, latents: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Return the noise of the given groups, top first, each in its prior given all above."""
        state, noise = self.top_down.first_state(len(latents[0])), []
        for index, (group, z) in enumerate(
            zip(self.top_down.latent_groups(), latents, strict=False)  # the top ones may be all
        ):
            state = self.top_down.before(index, state)
            noise.append(group.prior(state).noise_of(z))
            state = group.next_state(state, z)
        return noise

    def from_noise(self, noise: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Return the groups, top first, that noise stands for."""
        state, latents = self.top_down.first_state(len(noise[0])), []
        for index, (group, epsilon) in enumerate(
            zip(self.top_down.latent_groups(), noise, strict=False)  # the top ones may be all
        ):
            state = self.top_down.before(index, state)
            latents.append(group.prior(state).at(epsilon))
            state = group.next_state(state, latents[index])
        return latents

    def _generate(
        self, batch: int, latents: Latents, temperature: float
    ) -> tuple[list[Tensor], Tensor]:
        """Return all groups, those not given drawn from their prior, and logits (B, C, H, W)."""
        state, drawn = self.top_down.first_state(batch), list(latents)
        for index, group in enumerate(self.top_down.latent_groups()):
            state = self.top_down.before(index, state)
            if index == len(drawn):
                drawn.append(group.prior(state).rsample(temperature))
            state = group.next_state(state, drawn[index])
        return drawn, self.top_down.head(state).float()

    @property
    def latent_sizes(self) -> list[int]:
        """Scalars of each group, top first."""
        return self.config.latent_sizes
