"""Random windows of whole slices, moved and re-lit, as one batched operation on the device.

A slice of any size is read through one affine map per window, which crops, rotates, scales and
shears it at once; intensities change by gamma, gain, a smooth bias field and noise.
"""

import math

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from cardiac_vae.config import StrictConfig

BIAS_KNOTS = 4


class WindowConfig(StrictConfig):
    """Size of the training windows and ranges of their random changes; all at 0 only crop.

    Attributes:
        size: Side of the square windows, in pixels.
        heart_share: Share of the windows placed at the heart; the others lie anywhere.
        heart_shift: How far the heart may lie from the window's centre, in window sizes.
        rotation_degrees: Largest rotation either way.
        scale: Largest change of the logarithm of the size, common to both axes.
        shear: Largest change of the logarithm of the size of one axis against the other.
        gamma: Largest logarithm of the exponent of the intensities.
        gain: Largest logarithm of the factor of the intensities.
        bias: Standard deviation of the logarithm of the bias field.
        noise: Largest standard deviation of the noise; bright tissue is at 1.
    """

    size: PositiveInt = 160
    heart_share: float = Field(default=0.75, ge=0, le=1)
    heart_shift: NonNegativeFloat = 0.25
    rotation_degrees: NonNegativeFloat = 40.0
    scale: NonNegativeFloat = 0.25
    shear: NonNegativeFloat = 0.1
    gamma: NonNegativeFloat = 0.4
    gain: NonNegativeFloat = 0.25
    bias: NonNegativeFloat = 0.15
    noise: NonNegativeFloat = 0.04


def random_windows(
    image: Tensor, mask: Tensor, place: Tensor, config: WindowConfig
) -> tuple[Tensor, Tensor]:
    """Return augmented windows: image (B, 1, size, size) float32 and mask, the same shape, int64.

    Image and mask are (B, 1, H, W): slices in the upper left corner of a common canvas of zeros.
    ``place`` (B, 4) float holds (heart row, heart column, rows, columns) of each slice, in pixels.
    """
    centre = _window_centres(place, config)
    grid = _affine_grid(centre, image.shape, config)
    window = F.grid_sample(image.float(), grid, mode="bilinear", align_corners=False)
    labels = F.grid_sample(mask.float(), grid, mode="nearest", align_corners=False)
    return relight(window, config), labels.long()


def relight(image: Tensor, config: WindowConfig) -> Tensor:
    """Change the intensities of images (B, 1, H, W); black stays black but for the noise."""
    exponent = _uniform(image, config.gamma).exp()
    knots = torch.randn(len(image), 1, BIAS_KNOTS, BIAS_KNOTS, device=image.device)
    field = F.interpolate(knots, image.shape[-2:], mode="bicubic", align_corners=True)
    factor = (_uniform(image, config.gain) + config.bias * field).exp()
    noise = torch.randn_like(image) * _uniform(image, config.noise).abs()
    return image.clamp(min=0) ** exponent * factor + noise


def _window_centres(place: Tensor, config: WindowConfig) -> Tensor:
    """Return the (row, column) (B, 2) of the windows' centres, in pixels of the canvas."""
    heart, extent = place[:, :2], place[:, 2:]
    near = heart + (2 * torch.rand_like(heart) - 1) * config.heart_shift * config.size
    margin = (extent / 2).clamp(max=config.size / 2)
    anywhere = margin + torch.rand_like(extent) * (extent - 2 * margin)
    at_heart = torch.rand(len(place), 1, device=place.device) < config.heart_share
    return torch.where(at_heart, near, anywhere)


def _affine_grid(centre: Tensor, shape: torch.Size, config: WindowConfig) -> Tensor:
    """Return where each window's pixels lie on the canvas, for ``grid_sample``."""
    angle = _uniform(centre, math.radians(config.rotation_degrees))[:, 0]
    zoom, stretch = _uniform(centre, config.scale)[:, 0], _uniform(centre, config.shear)[:, 0]
    cosine, sine = angle.cos(), angle.sin()
    columns, rows = (zoom + stretch).exp(), (zoom - stretch).exp()
    canvas = torch.tensor(shape[-2:], device=centre.device)
    along_x = torch.stack([columns * cosine, -rows * sine], dim=1) * config.size / canvas[1]
    along_y = torch.stack([columns * sine, rows * cosine], dim=1) * config.size / canvas[0]
    shift = 2 * centre / canvas - 1
    theta = torch.stack(
        [torch.cat([along_x, shift[:, 1:]], dim=1), torch.cat([along_y, shift[:, :1]], dim=1)],
        dim=1,
    )
    return F.affine_grid(theta, [len(centre), 1, config.size, config.size], align_corners=False)


def _uniform(like: Tensor, limit: float) -> Tensor:
    """Return one number in [-limit, limit] per case, (B, 1, ...) with the axes of ``like``."""
    shape = (len(like), *(1 for _ in like.shape[1:]))
    return (2 * torch.rand(shape, device=like.device) - 1) * limit
