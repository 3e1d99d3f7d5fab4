"""What hierarchies share: where the groups are, the bottom-up path, the chain of Sonderby et al.

The chain (Sonderby et al. 2016) is the generative model of ``hvae`` and ``lvae``:

    p(x, z) = p(z_1) prod_l p(z_l | z_l-1) p(x | z_L),  p(z_1) = N(0, I)

Groups are maps (B, Z, H, W), or (B, Z, D, H, W), over several scales, numbered from the top (the
coarsest) down; the paper counts from below. Each sees the group above it alone, and the mask sees
the last: all that a group can tell passes through those below.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.blocks import (
    DecoderCell,
    Downsample,
    EncoderCell,
    Upsample,
    batch_norm,
    convolution,
    from_patches,
    patches,
)
from cardiac_vae.layers.distributions import DiagonalNormal, soft_clamp
from cardiac_vae.layers.scales import Scales


class HierarchyConfig(Scales):
    """How many groups there are, where, and how wide the networks between them.

    Attributes:
        groups: Latent groups of each scale, finest first.
        latent_channels: Channels of a latent group.
        expansion: How much wider the generator's cells are inside.
        group_width: Channels that a generator cell's 5 x 5 mixes; 1 is depthwise.
        squeeze_excitation: End every cell by squeeze-and-excitation.
    """

    channels: tuple[PositiveInt, ...] = (32, 64, 128)
    groups: tuple[PositiveInt, ...] = (2, 2, 2)
    latent_channels: PositiveInt = 4
    expansion: PositiveInt = 2
    group_width: PositiveInt = 16
    squeeze_excitation: bool = True

    @property
    def scales(self) -> list[int]:
        """The scale of each group, top first; scale 0 is the finest."""
        counts = reversed(list(enumerate(self.groups)))
        return [scale for scale, count in counts for _ in range(count)]

    @property
    def sizes(self) -> list[int]:
        """Positions a side of each group, top first."""
        return [self.size_at(scale) for scale in self.scales]

    @property
    def latent_sizes(self) -> list[int]:
        """Scalars of each group, top first."""
        return [self.latent_channels * size**self.spatial_dims for size in self.sizes]

    @model_validator(mode="after")
    def _scales_agree(self) -> Self:
        if len(self.channels) != len(self.groups):
            raise ValueError(
                f"channels {self.channels} and groups {self.groups}: expected one of each per scale"
            )
        return self


def decoder_cell(config: HierarchyConfig, channels: int) -> DecoderCell:
    """Return a cell of the path from the top group down to the mask."""
    return DecoderCell(
        config.spatial_dims,
        channels,
        config.expansion,
        config.group_width,
        config.squeeze_excitation,
    )


class NormalHead(nn.Module):
    """The normal that features tell of: BN - swish - 3 x 3, mean and log-sigma softly bounded.

    It starts near mean 0 and the given log-sigma. Near, not at it: the prior of a group and the
    posterior of the one above learn from each other, and if both said nothing, neither would.
    """

    START = 0.1  # share of the usual first weights

    def __init__(
        self, spatial_dims: int, channels: int, latent_channels: int, log_sigma: float = 0.0
    ) -> None:
        super().__init__()
        self.log_sigma = log_sigma
        last = convolution(spatial_dims, channels, 2 * latent_channels)
        with torch.no_grad():
            for parameter in last.parameters():
                parameter.mul_(self.START)
        self.network = nn.Sequential(batch_norm(spatial_dims, channels), nn.SiLU(), last)

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Return a normal (B, latent_channels, H, W) of features (B, channels, H, W)."""
        mu, log_sigma = self.network(features).float().chunk(2, dim=1)
        return DiagonalNormal(soft_clamp(mu), soft_clamp(self.log_sigma + log_sigma))


def upward_steps(config: HierarchyConfig) -> nn.ModuleList:
    """Return the bottom-up path as a network per group, finest first.

    The first takes masks with their broken plane (B, C + 1, H, W), each other features of the width
    and size of the group before it; each gives features of the width and size of its own group.
    """
    dims, widths = config.spatial_dims, config.channels
    scales = config.scales[::-1]
    ways: list[nn.Module | None] = [patches(dims, NUM_CLASSES + 1, widths[0], config.patch_size)]
    for below, scale in pairwise(scales):
        ways.append(Downsample(dims, widths[below], widths[scale]) if scale != below else None)
    cells = [EncoderCell(dims, widths[scale], config.squeeze_excitation) for scale in scales]
    return nn.ModuleList(
        nn.Sequential(*([way] if way else []), cell) for way, cell in zip(ways, cells, strict=True)
    )


class Generator(nn.Module):
    """The chain from the top group down to the mask."""

    def __init__(self, config: HierarchyConfig) -> None:
        super().__init__()
        self.config = config
        dims, width = config.spatial_dims, config.channels[0]
        self.links = nn.ModuleList(
            nn.Sequential(
                *self._path(above, scale),
                NormalHead(dims, config.channels[scale], config.latent_channels),
            )
            for above, scale in pairwise(config.scales)
        )
        self.image = nn.Sequential(
            *self._path(0, 0),
            decoder_cell(config, width),
            batch_norm(dims, width),
            nn.SiLU(),
            from_patches(dims, width, NUM_CLASSES, config.patch_size),
        )

    def _path(self, above: int, scale: int) -> list[nn.Module]:
        """Return the layers from a group at scale ``above`` to features at ``scale``."""
        config = self.config
        dims, widths = config.spatial_dims, config.channels
        path = [convolution(dims, config.latent_channels, widths[above])]
        if scale != above:
            path.append(Upsample(dims, widths[above], widths[scale]))
        return [*path, decoder_cell(config, widths[scale])]

    def prior(self, latents: Sequence[Tensor], batch: int) -> DiagonalNormal:
        """Return p(z_l | z_l-1) of the group that follows the given ones, top first.

        Nothing is above the top: its prior is N(0, I), of ``batch`` cases.
        """
        if latents:
            return self.links[len(latents) - 1](latents[-1])
        size = (self.config.sizes[0],) * self.config.spatial_dims
        device = next(self.parameters()).device
        shape = (batch, self.config.latent_channels, *size)
        return DiagonalNormal.standard_like(torch.zeros(shape, device=device))

    def forward(self, latents: Sequence[Tensor], batch: int, temperature: float = 0.0) -> Tensor:
        """Return logits (B, C, H, W); the groups not given are drawn at a temperature.

        Raises:
            ValueError: if more groups are given than there are.
        """
        return self.image(self.draw(latents, batch, temperature)[-1]).float()

    def draw(self, latents: Sequence[Tensor], batch: int, temperature: float) -> list[Tensor]:
        """Return all groups, top first: those given, and below them draws at a temperature.

        Raises:
            ValueError: if more groups are given than there are.
        """
        drawn, num_groups = list(latents), len(self.config.scales)
        if len(drawn) > num_groups:
            raise ValueError(f"latents: expected at most {num_groups} groups, got {len(drawn)}")
        while len(drawn) < num_groups:
            drawn.append(self.prior(drawn, batch).rsample(temperature))
        return drawn

    def noise_of(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return the noise of the given groups, top first, each in its prior given those above."""
        batch = len(latents[0])
        return [self.prior(latents[:above], batch).noise_of(z) for above, z in enumerate(latents)]

    def from_noise(self, noise: Sequence[Tensor]) -> list[Tensor]:
        """Return the groups, top first, that noise stands for."""
        latents: list[Tensor] = []
        for epsilon in noise:
            latents.append(self.prior(latents, len(epsilon)).at(epsilon))
        return latents
