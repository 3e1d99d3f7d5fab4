"""Encoder and decoder around one latent vector: a pyramid of residual cells, and its mirror."""

from pydantic import PositiveInt
from torch import nn

from cardiac_vae.layers.blocks import (
    Downsample,
    EncoderCell,
    Upsample,
    batch_norm,
    from_patches,
    patches,
)
from cardiac_vae.layers.scales import Scales


class Pyramid(Scales):
    """Settings of the scales between a mask and its latent vector."""

    cells_per_scale: PositiveInt = 1

    @property
    def num_features(self) -> int:
        """Numbers at the coarsest scale."""
        return self.channels[-1] * self.coarsest_size**self.spatial_dims


def bottom_up(pyramid: Pyramid, in_channels: int) -> nn.Sequential:
    """Return the cells that turn planes (B, in_channels, H, W) into features (B, num_features)."""
    dims, widths = pyramid.spatial_dims, pyramid.channels
    layers: list[nn.Module] = [patches(dims, in_channels, widths[0], pyramid.patch_size)]
    for index, width in enumerate(widths):
        if index:
            layers.append(Downsample(dims, widths[index - 1], width))
        layers += [EncoderCell(dims, width) for _ in range(pyramid.cells_per_scale)]
    return nn.Sequential(*layers, batch_norm(dims, widths[-1]), nn.SiLU(), nn.Flatten())


def top_down(pyramid: Pyramid, out_channels: int) -> nn.Sequential:
    """Return the mirror of ``bottom_up``: features (B, num_features) to (B, out_channels, H, W)."""
    dims, widths = pyramid.spatial_dims, pyramid.channels[::-1]
    layers: list[nn.Module] = [nn.Unflatten(1, (widths[0], *(pyramid.coarsest_size,) * dims))]
    for index, width in enumerate(widths):
        if index:
            layers.append(Upsample(dims, widths[index - 1], width))
        layers += [EncoderCell(dims, width) for _ in range(pyramid.cells_per_scale)]
    return nn.Sequential(
        *layers,
        batch_norm(dims, widths[-1]),
        nn.SiLU(),
        from_patches(dims, widths[-1], out_channels, pyramid.patch_size),
    )


def encoder(pyramid: Pyramid, in_channels: int, num_values: int) -> nn.Sequential:
    """Return a network from planes (B, in_channels, H, W) to vectors (B, num_values)."""
    last = nn.Linear(pyramid.num_features, num_values)
    return nn.Sequential(*bottom_up(pyramid, in_channels), last)


def decoder(pyramid: Pyramid, num_values: int, out_channels: int) -> nn.Sequential:
    """Return a network from vectors (B, num_values) to planes (B, out_channels, H, W)."""
    first = nn.Linear(num_values, pyramid.num_features)
    return nn.Sequential(first, *top_down(pyramid, out_channels))
