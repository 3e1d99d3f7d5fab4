"""A small U-Net over a drawn slice and its two neighbors (Ronneberger et al. 2015).

The cells are those of the shape models; skips are added. It gives what the slice's own
log-probabilities are to gain, and starts at nothing: an untrained corrector changes nothing.
"""

from itertools import pairwise
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.blocks import (
    Downsample,
    EncoderCell,
    Upsample,
    batch_norm,
    from_patches,
    patches,
    zero_initialized,
)
from cardiac_vae.layers.scales import Scales

NUM_VIEWS = 3
"""The slice, the one before it and the one after it in the stack."""
_SUREST = 1e-3  # of a probability: what is drawn can be doubted


class Config(Scales):
    """Settings of the network, beside those of its scales.

    Attributes:
        channels: Width of each scale, finest first.
        cells_per_scale: Residual cells at each scale, on the way down and on the way up.
    """

    spatial_dims: Literal[2] = 2  # neighbors are views, not an axis
    channels: tuple[PositiveInt, ...] = (32, 48, 64, 96)
    cells_per_scale: PositiveInt = 1


class _Up(nn.Module):
    """One step up: resize, add the skip, and cells."""

    def __init__(self, resize: nn.Module, cells: list[nn.Module]) -> None:
        super().__init__()
        self.resize = resize
        self.cells = nn.Sequential(*cells)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.cells(self.resize(x) + skip)


class Network(nn.Module):
    """Views (B, V * C, H, W) of slices and their neighbors to logits (B, C, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dims, widths = config.spatial_dims, config.channels

        def cells(width: int) -> list[nn.Module]:
            return [EncoderCell(dims, width) for _ in range(config.cells_per_scale)]

        stem = patches(dims, NUM_VIEWS * NUM_CLASSES, widths[0], config.patch_size)
        down, up = [nn.Sequential(stem, *cells(widths[0]))], []
        for fine, coarse in pairwise(widths):
            down.append(nn.Sequential(Downsample(dims, fine, coarse), *cells(coarse)))
            up.append(_Up(Upsample(dims, coarse, fine), cells(fine)))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up[::-1])
        head = from_patches(dims, widths[0], NUM_CLASSES, config.patch_size)
        zero_initialized(next(reversed(list(head.children()))))
        self.head = nn.Sequential(batch_norm(dims, widths[0]), nn.SiLU(), head)

    def forward(self, views: Tensor) -> Tensor:
        """Return logits (B, C, H, W) of views (B, V * C, H, W), the slice's own first."""
        x, skips = views, []
        for step in self.down:
            x = step(x)
            skips.append(x)
        skips.pop()
        for step in self.up:
            x = step(x, skips.pop())
        return views[:, :NUM_CLASSES].clamp(min=_SUREST).log() + self.head(x).float()
