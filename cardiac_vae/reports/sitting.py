"""A shape model and the slices it is pictured with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cardiac_vae.data.conditions import Condition
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.evaluation.reconstruction import HeldOutSlices, is_valid_heart
from cardiac_vae.reports.hearts import HeartLine
from cardiac_vae.shape_model import ShapeModel

FRAMED = "Framed: breaks an anatomical criterion, or is empty."


@dataclass(frozen=True)
class Picture:
    """One figure of a shape model.

    Attributes:
        name: What it is called among those of its model, fit for a file.
        title: Leads its caption.
        caption: How to read it.
        png: The image.
    """

    name: str
    title: str
    caption: str
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class Sitting:
    """A model and the slices it is pictured with, none of them empty.

    Attributes:
        masks: (N, H, W) uint8.
        one_hot: (N, C, H, W) the same, as the model reads them.
        condition: (N, K), or None for a model that does not look at it.
        known: What is known of each slice, or nothing at all.
    """

    name: str
    model: ShapeModel
    masks: np.ndarray
    one_hot: Tensor
    condition: Tensor | None
    known: Sequence[Condition]
    pixel_mm: tuple[float, float]

    def told(self, chosen: Sequence[int]) -> Tensor | None:
        """Return the conditions of some slices."""
        return None if self.condition is None else self.condition[chosen]

    def line(self, title: str, masks: np.ndarray) -> HeartLine:
        """Return a line of masks (N, H, W) that knows which break a criterion."""
        return HeartLine(title, masks, [is_valid_heart(mask, self.pixel_mm) for mask in masks])


def sit(name: str, model: ShapeModel, slices: HeldOutSlices) -> Sitting:
    """Return the sitting of a model with the slices that are not empty, on the model's device."""
    shown = slices.without_empty()
    device = next(model.parameters()).device
    masks = one_hot(torch.from_numpy(shown.masks)).to(device)
    condition = shown.condition_for(model)
    return Sitting(name, model, shown.masks, masks, condition, shown.conditions, shown.pixel_mm)


def evenly(length: int, number: int) -> list[int]:
    """Return at most ``number`` indices spread evenly over a sequence."""
    chosen = np.linspace(0, length - 1, min(number, length)).round().astype(int)
    return [int(index) for index in chosen]


def decided(probabilities: Tensor) -> np.ndarray:
    """Return the most probable label maps (..., H, W) uint8 of probabilities (..., C, H, W)."""
    return probabilities.argmax(dim=-3).cpu().numpy().astype(np.uint8)
