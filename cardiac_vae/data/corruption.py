"""Break masks as segmenters do: the noisy channel p(y | x) that the encoder learns to invert.

A smooth random field is added to the logits of the whole mask: where it wins, borders move, holes
open, walls break and islands appear. Patches of a wrong class and parts of another heart come on
top. Half of the results stay soft (a segmenter's probabilities), half are decided (its mask).
Batched, on the device of the input, from torch's global generator.
"""

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from cardiac_vae.config import StrictConfig


class CorruptionConfig(StrictConfig):
    """How badly masks are broken; every case draws its own severity in [0, 1].

    Attributes:
        confidence: Logit of the right class deep inside a structure.
        field_strength: Largest standard deviation of the random field near the heart, in logits.
        field_points: Control points a side of the field, one field per entry.
        bias_strength: Largest standard deviation of a class's logit as a whole: structures drawn
            too large, too small, or not at all.
        max_patches: Patches of a wrong class a case may get.
        patch_radius: Largest radius of a patch, as a share of the window's side.
        mix_probability: Share of cases that get a part of another heart.
        soft_share: Share of cases that stay probabilities.
    """

    confidence: NonNegativeFloat = 4.0
    field_strength: NonNegativeFloat = 2.5
    field_points: tuple[PositiveInt, ...] = (6, 12, 24)
    bias_strength: NonNegativeFloat = 1.2
    max_patches: PositiveInt = 3
    patch_radius: float = Field(default=0.1, gt=0, le=0.5)
    mix_probability: float = Field(default=0.2, ge=0, le=1)
    soft_share: float = Field(default=0.5, ge=0, le=1)


def break_masks(mask: Tensor, config: CorruptionConfig) -> Tensor:
    """Return class probabilities (B, C, H, W), broken views of one-hot masks (B, C, H, W)."""
    batch, num_classes = mask.shape[:2]
    severity = torch.rand(batch, 1, 1, 1, device=mask.device)
    logits = config.confidence * _soften(mask)
    bias = config.bias_strength * torch.randn(batch, num_classes, 1, 1, device=mask.device)
    field = config.field_strength * _random_field(mask, config.field_points)
    logits = logits + severity * _near_heart(mask) * (bias + field)
    logits = _with_parts_of_others(logits, config)
    logits = _with_patches(logits, severity, config)
    probabilities = logits.softmax(dim=1)
    decided = F.one_hot(logits.argmax(dim=1), num_classes).movedim(-1, 1).float()
    is_soft = torch.rand(batch, 1, 1, 1, device=mask.device) < config.soft_share
    return torch.where(is_soft, probabilities, decided)


def _soften(mask: Tensor) -> Tensor:
    """Blur one-hot planes a little: a segmenter is least sure along borders."""
    return F.avg_pool2d(mask, 3, stride=1, padding=1, count_include_pad=False)


def _near_heart(mask: Tensor) -> Tensor:
    """Return where errors happen, (B, 1, H, W) in [0.2, 1]: near the heart, seldom far from it."""
    heart = 1 - mask[:, :1]
    return 0.2 + 0.8 * F.interpolate(
        F.max_pool2d(F.avg_pool2d(heart, 8), 3, stride=1, padding=1),
        mask.shape[2:],
        mode="bilinear",
    ).clamp(0, 1)


def _random_field(mask: Tensor, points: tuple[int, ...]) -> Tensor:
    """Return a smooth field of about unit variance, one plane per class, sum over the sizes."""
    batch, num_classes, height, width = mask.shape
    field = torch.zeros_like(mask)
    for count in points:
        coarse = torch.randn(batch, num_classes, count, count, device=mask.device)
        field += F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    return field / len(points) ** 0.5


def _with_parts_of_others(logits: Tensor, config: CorruptionConfig) -> Tensor:
    """Blend the logits of another case in, on one side of a random line."""
    batch, _, height, width = logits.shape
    device = logits.device
    angle = 2 * torch.pi * torch.rand(batch, 1, 1, 1, device=device)
    rows = torch.linspace(-1, 1, height, device=device)[:, None]
    columns = torch.linspace(-1, 1, width, device=device)[None, :]
    offset = 0.6 * torch.rand(batch, 1, 1, 1, device=device)
    beyond = (angle.cos() * rows + angle.sin() * columns > offset).float()
    chosen = (torch.rand(batch, 1, 1, 1, device=device) < config.mix_probability).float()
    share = beyond * chosen
    return (1 - share) * logits + share * logits.roll(1, dims=0)


def _with_patches(logits: Tensor, severity: Tensor, config: CorruptionConfig) -> Tensor:
    """Raise the logit of one random class inside random ellipses."""
    batch, num_classes, height, width = logits.shape
    device = logits.device
    rows = torch.linspace(0, 1, height, device=device)[:, None]
    columns = torch.linspace(0, 1, width, device=device)[None, :]
    for _ in range(config.max_patches):
        centre = 0.2 + 0.6 * torch.rand(batch, 2, 1, 1, 1, device=device)
        radius = 0.01 + config.patch_radius * torch.rand(batch, 2, 1, 1, 1, device=device)
        inside = (
            ((rows - centre[:, 0]) / radius[:, 0]).square()
            + ((columns - centre[:, 1]) / radius[:, 1]).square()
        ) < 1
        chosen = torch.rand(batch, 1, 1, 1, device=device) < severity
        wrong = F.one_hot(torch.randint(num_classes, (batch,), device=device), num_classes)
        boost = 2 * config.confidence * wrong[:, :, None, None]
        logits = logits + boost * (inside & chosen)
    return logits
