"""Network blocks in two or three dimensions: residual cells, squeeze-and-excitation, patches.

The cells follow the description of NVAE (Vahdat & Kautz 2020, sec. 3.1 and fig. 3); squeeze-and-
excitation is that of Hu et al. 2018. Shapes are (B, C, H, W), or (B, C, D, H, W).
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)

CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}

_FROM_ZERO = "is_zero_initialized"
BATCH_NORM_MOMENTUM = 0.05  # as NVAE: statistics of small batches change slowly


def convolution(
    spatial_dims: int, in_channels: int, out_channels: int, kernel: int = 3, groups: int = 1
) -> nn.Module:
    """Return a convolution that keeps the size; ``kernel`` is odd."""
    return CONVOLUTIONS[spatial_dims](
        in_channels, out_channels, kernel, padding=kernel // 2, groups=groups
    )


def zero_initialized(layer: nn.Module) -> nn.Module:
    """Set a layer's parameters to zero, so that training starts from its input alone."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    setattr(layer, _FROM_ZERO, True)
    return layer


def starts_at_zero(layer: nn.Module) -> bool:
    """Say whether a layer was made by ``zero_initialized``, whatever it has learnt since."""
    return getattr(layer, _FROM_ZERO, False)


def channels_last(network: Net) -> Net:
    """Lay the weights of two-dimensional convolutions out as CPUs and GPUs like them best."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def patches(spatial_dims: int, in_channels: int, out_channels: int, size: int) -> nn.Module:
    """Return a stem that turns each patch of ``size`` pixels a side into one position.

    It is space-to-depth and two 1 x 1 convolutions: nothing runs at full size. The first is as
    wide as a patch has values, so that no detail is lost before the first nonlinearity.
    """
    wide = max(out_channels, in_channels * size**2)
    return nn.Sequential(
        CONVOLUTIONS[spatial_dims](in_channels, wide, size, stride=size),
        nn.SiLU(),
        convolution(spatial_dims, wide, out_channels, kernel=1),
    )


def from_patches(spatial_dims: int, in_channels: int, out_channels: int, size: int) -> nn.Module:
    """Return the mirror of ``patches``: each position becomes ``size`` pixels a side."""
    wide = 4 * max(in_channels, out_channels * size**2)
    return nn.Sequential(
        convolution(spatial_dims, in_channels, wide, kernel=1),
        nn.SiLU(),
        TRANSPOSED[spatial_dims](wide, out_channels, size, stride=size),
    )


def batch_norm(spatial_dims: int, channels: int) -> nn.Module:
    """Return batch normalization with NVAE's slow statistics."""
    return BATCH_NORMS[spatial_dims](channels, momentum=BATCH_NORM_MOMENTUM)


class SqueezeExcitation(nn.Module):
    """Weigh channels by what the whole field of view holds (Hu et al. 2018)."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(channels // reduction, 4)
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (B, C, ...) with its channels weighed."""
        gate = self.gate(x.flatten(start_dim=2).mean(dim=2))
        return x * gate.reshape(*gate.shape, *(1 for _ in x.shape[2:]))


def _gate(channels: int, squeeze_excitation: bool) -> list[nn.Module]:
    """Return how a cell's branch ends: by squeeze-and-excitation, or as it is."""
    return [SqueezeExcitation(channels)] if squeeze_excitation else []


class EncoderCell(nn.Module):
    """Residual cell of the bottom-up path: twice BN - swish - 3 x 3, then SE (NVAE fig. 3b)."""

    def __init__(self, spatial_dims: int, channels: int, squeeze_excitation: bool = True) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            batch_norm(spatial_dims, channels),
            nn.SiLU(),
            convolution(spatial_dims, channels, channels),
            batch_norm(spatial_dims, channels),
            nn.SiLU(),
            convolution(spatial_dims, channels, channels),
            *_gate(channels, squeeze_excitation),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        return x + self.branch(x)


class DecoderCell(nn.Module):
    """Residual cell of the top-down path: expand, 5 x 5, project, SE (NVAE fig. 3a).

    The wide convolution of the paper is depthwise; ``group_width`` 1 gives that. Groups of 16
    channels are the richer and, on CPUs that multiply in bf16, six times as fast.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        expansion: int = 2,
        group_width: int = 16,
        squeeze_excitation: bool = True,
    ) -> None:
        super().__init__()
        wide = expansion * channels
        self.branch = nn.Sequential(
            batch_norm(spatial_dims, channels),
            convolution(spatial_dims, channels, wide, kernel=1),
            batch_norm(spatial_dims, wide),
            nn.SiLU(),
            convolution(spatial_dims, wide, wide, kernel=5, groups=wide // min(group_width, wide)),
            batch_norm(spatial_dims, wide),
            nn.SiLU(),
            convolution(spatial_dims, wide, channels, kernel=1),
            batch_norm(spatial_dims, channels),
            *_gate(channels, squeeze_excitation),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        return x + self.branch(x)


class Downsample(nn.Module):
    """Halve every side and change the channels: a strided 3 x 3 after swish."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = CONVOLUTIONS[spatial_dims](
            in_channels, out_channels, 3, stride=2, padding=1
        )
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, H / 2, W / 2)."""
        return self.convolution(self.activation(x))


class Upsample(nn.Module):
    """Double every side and change the channels: a 1 x 1, then the nearest neighbour."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = convolution(spatial_dims, in_channels, out_channels, kernel=1)
        self.resize = nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, 2 H, 2 W)."""
        return self.resize(self.convolution(x))
