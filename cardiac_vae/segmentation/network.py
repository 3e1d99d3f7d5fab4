"""A segmenter's settings, its network, and what the network is shown.

A 2-D network of MONAI's between a space-to-depth and a depth-to-space: nothing runs at full
resolution, which is where a segmenter on a CPU spends most of its time.

- ``unet``: plain convolution blocks, skips joined as features (``DynUNet``, the architecture of
  nnU-Net, Isensee et al. 2021);
- ``segresnet``: an encoder of residual blocks, most of them at the coarsest level, a thin decoder,
  skips added (``SegResNet``, Myronenko 2018, arXiv:1810.11654, without its autoencoder).
"""

from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.segmentation.augmentation import WindowConfig

DARK, BRIGHT = 1.0, 99.0
"""Percentiles of a volume that become 0 and 1."""
BRIGHTEST = 1.5
"""Where normalized intensities end: fat and flow may outshine all that matters."""
PIXELS_AT_ONCE = 2**17
"""Pixels of the slices that go through the network together."""


class SegmenterConfig(StrictConfig):
    """Settings of a segmenter and of the windows it is trained on, beside the common ``FitConfig``.

    Attributes:
        architecture: Which network; one that was saved without it is a U-Net.
        channels: Features of each level, finest first; each level has half the side of the last. A
            SegResNet doubles them from level to level.
        patch_size: Pixels a side that are one position of the finest level.
        norm: Batch norm makes a slice's result independent of the window it is seen in.
        dropout: Share of features dropped in training.
        pixel_mm: In-plane pixel size at which the network sees a scan.
        windows: The training windows, in pixels of ``pixel_mm``.
    """

    architecture: Literal["unet", "segresnet"] = "unet"
    channels: tuple[PositiveInt, ...] = (32, 64, 96, 128, 160)
    patch_size: PositiveInt = 2
    norm: Literal["batch", "instance"] = "batch"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    pixel_mm: PositiveFloat = 1.5
    windows: WindowConfig = WindowConfig()

    @model_validator(mode="after")
    def _channels_suit_the_architecture(self) -> Self:
        doubled = tuple(self.channels[0] * 2**level for level in range(len(self.channels)))
        if self.architecture == "segresnet" and self.channels != doubled:
            raise ValueError(
                f"channels: expected {doubled} of a segresnet, which doubles them from level to "
                f"level, got {self.channels}"
            )
        return self

    @model_validator(mode="after")
    def _window_can_be_halved(self) -> Self:
        if len(self.channels) < 3:
            raise ValueError(f"channels: expected three levels or more, got {self.channels}")
        if self.windows.size % self.multiple:
            raise ValueError(
                f"windows.size {self.windows.size} is not divisible by {self.multiple}, which "
                f"{len(self.channels)} levels over patches of {self.patch_size} need"
            )
        return self

    @property
    def multiple(self) -> int:
        """What the sides of the network's input must be divisible by."""
        return self.patch_size * 2 ** (len(self.channels) - 1)


def build_network(config: SegmenterConfig) -> nn.Module:
    """Return the untrained network: images (B, 1, H, W) to logits (B, C, H, W).

    H and W must be divisible by ``config.multiple``.
    """
    build = {"unet": _unet, "segresnet": _segresnet}[config.architecture]
    pixels = config.patch_size**2
    network = build(config, pixels, NUM_CLASSES * pixels)
    return nn.Sequential(
        nn.PixelUnshuffle(config.patch_size),
        convert_conv2d_weight_memory_format(network, torch.channels_last),
        nn.PixelShuffle(config.patch_size),
    )


def _unet(config: SegmenterConfig, in_channels: int, out_channels: int) -> nn.Module:
    from monai.networks.nets import DynUNet  # here, as it takes seconds

    num_levels = len(config.channels)
    strides = [1, *[2] * (num_levels - 1)]
    return DynUNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=[3] * num_levels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=config.channels,
        norm_name=(config.norm, {"affine": True}),
        dropout=config.dropout or None,
    )


def _segresnet(config: SegmenterConfig, in_channels: int, out_channels: int) -> nn.Module:
    from monai.networks.nets import SegResNet  # here, as it takes seconds

    num_levels = len(config.channels)
    return SegResNet(
        spatial_dims=2,
        init_filters=config.channels[0],
        in_channels=in_channels,
        out_channels=out_channels,
        dropout_prob=config.dropout or None,
        norm=(config.norm, {"affine": True}),
        blocks_down=(1, *[2] * (num_levels - 2), 4),
        blocks_up=(1,) * (num_levels - 1),
    )


def normalize_image(image: np.ndarray) -> np.ndarray:
    """Scale a volume (D, H, W) by its own percentiles: dark becomes 0, bright 1; float32.

    A constant volume becomes 0.

    Raises:
        ValueError: if a value is NaN or infinite.
    """
    if not np.isfinite(image).all():
        raise ValueError("expected an image without NaN or infinite values; mend the scan first")
    dark, bright = np.percentile(image, (DARK, BRIGHT))
    width = bright - dark if bright > dark else 1.0
    return np.clip((image - dark) / width, 0.0, BRIGHTEST).astype(np.float32)


def slice_probabilities(network: nn.Module, image: Tensor, multiple: int) -> Tensor:
    """Return probabilities (D, C, H, W) float32 of the slices of a normalized image (D, H, W).

    Slices are padded with dark to sides the network takes, and go through it in batches that
    bound the memory.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image.float(), (0, -width % multiple, 0, -height % multiple))[:, None]
    padded = padded.contiguous(memory_format=torch.channels_last)
    num_at_once = max(PIXELS_AT_ONCE // padded[0].numel(), 1)
    parts = []
    for first in range(0, len(padded), num_at_once):
        logits: Tensor = network(padded[first : first + num_at_once])
        parts.append(logits[..., :height, :width].float().softmax(dim=1))
    return torch.cat(parts)
