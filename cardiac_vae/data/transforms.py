"""Augmentation of masks, batched on the device the masks are on: one resampling for the batch.

Random numbers come from torch's global generator, which a fit seeds at every step.
"""

import math

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import NUM_CLASSES


class AugmentationConfig(StrictConfig):
    """Ranges of the random pose and of the smooth deformation of a mask.

    Attributes:
        rotation_degrees: Standard deviation of the rotation.
        log_scale: Standard deviation of the logarithm of the zoom.
        shift_pixels: Standard deviation of the shift along either axis.
        elastic_pixels: Standard deviation of the displacement of a control point.
        control_points: Control points a side of the smooth deformation.
        probability: Share of the cases that are changed at all.
    """

    rotation_degrees: NonNegativeFloat = 10.0
    log_scale: NonNegativeFloat = 0.06
    shift_pixels: NonNegativeFloat = 1.5
    elastic_pixels: NonNegativeFloat = 0.7
    control_points: PositiveInt = 5
    probability: float = Field(default=0.5, ge=0, le=1)


def one_hot(mask: Tensor) -> Tensor:
    """Return (B, C, H, W) float32 of a label map (B, H, W), channels last in memory."""
    classes = torch.arange(NUM_CLASSES, dtype=mask.dtype, device=mask.device)
    encoded = (mask[..., None] == classes).float().movedim(-1, 1)
    return encoded if mask.ndim == 3 else encoded.contiguous()


def augment_masks(mask: Tensor, config: AugmentationConfig) -> Tensor:
    """Return label maps (B, H, W), each moved, turned, scaled and bent a little.

    What enters from outside the window is background. Labels are resampled as linear one-hot
    planes and decided by the largest, so borders stay smooth.
    """
    none = torch.zeros(len(mask), 0, *mask.shape[1:], device=mask.device)
    return augment_views(none, mask, config)[1]


def augment_views(views: Tensor, mask: Tensor, config: AugmentationConfig) -> tuple[Tensor, Tensor]:
    """Return views (B, V * C, H, W) and label maps (B, H, W), those of a case moved alike.

    A view is the probabilities of the C classes, and ``mask`` what is true of the case; for the
    rest see ``augment_masks``. A view of zeros, one that is not there, stays so.
    """
    chosen = torch.rand(len(mask), device=mask.device) < config.probability
    if not bool(chosen.any()):
        return views.clone(), mask.clone()
    grid = _random_grid(mask[chosen], config)
    planes = torch.cat([one_hot(mask[chosen]), views[chosen]], dim=1)
    moved = F.grid_sample(planes, grid, mode="bilinear", align_corners=False)
    apart = (len(planes), -1, NUM_CLASSES, *mask.shape[1:])
    moved = moved.reshape(apart)
    is_there = planes.reshape(apart).amax(dim=(2, 3, 4))[:, :, None, None] > 0
    moved[:, :, 0] += (1 - moved.sum(dim=2)) * is_there  # outside the window
    views, mask = views.clone(), mask.clone()
    mask[chosen] = moved[:, 0].max(dim=1).indices.to(mask.dtype)  # argmax takes eight times as long
    views[chosen] = moved[:, 1:].flatten(1, 2)
    return views, mask


def _random_grid(mask: Tensor, config: AugmentationConfig) -> Tensor:
    """Return sampling positions (B, H, W, 2) in [-1, 1] units, x before y."""
    batch, height, width = mask.shape
    device = mask.device
    angle = torch.randn(batch, device=device) * math.radians(config.rotation_degrees)
    zoom = torch.exp(torch.randn(batch, device=device) * config.log_scale)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    per_pixel = torch.tensor([2 / width, 2 / height], device=device)
    shift = torch.randn(batch, 2, device=device) * config.shift_pixels * per_pixel
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    affine = torch.cat([rotation, shift[:, :, None]], dim=2)
    grid = F.affine_grid(affine, [batch, 1, height, width], align_corners=False)
    points = config.control_points
    bend = torch.randn(batch, 2, points, points, device=device) * config.elastic_pixels
    bend = F.interpolate(bend, (height, width), mode="bicubic", align_corners=True)
    return grid + bend.movedim(1, -1) * per_pixel
