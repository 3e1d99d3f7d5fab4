"""How unlike a heart each slice of a mask is, in nats, and its rank among training hearts.

Slices are seen as the refiner sees them: in a window around the heart, on the model's own grid.
What is outside the window is no part of it; the anatomical criteria judge the whole slice.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from cardiac_vae.checkpoint import load_model, pixel_size
from cardiac_vae.data.case import Spacing
from cardiac_vae.densities.surprise_scale import SurpriseScale
from cardiac_vae.refinement.window import HeartWindow
from cardiac_vae.shape_model import ShapeModel


@dataclass(frozen=True)
class Surprise:
    """How unlike hearts the slices of a volume are; NaN of slices whose window shows nothing.

    Attributes:
        nats: (D,) float64.
        excess: (D,) float64, nats beyond those of training hearts with an outline as long.
        ranks: (D,) float64, the share of the training hearts with less excess.
    """

    nats: np.ndarray
    excess: np.ndarray
    ranks: np.ndarray

    def of_slice(self, index: int) -> tuple[float, float, float] | None:
        """Return the three of a slice; None where its window shows nothing."""
        if np.isnan(self.nats[index]):
            return None
        nats, excess, rank = (values[index] for values in (self.nats, self.excess, self.ranks))
        return float(nats), float(excess), float(rank)


class Judge:
    """A shape model, the scale of its surprise, and the pixel size of its grid."""

    def __init__(self, model: ShapeModel, scale: SurpriseScale, pixel_mm: float) -> None:
        """Take a model in eval mode and what was fitted to it; ``pixel_mm`` is that of its masks.

        Raises:
            ValueError: if the density was fitted to another model, or the model has no bound.
        """
        scale.require_fit(model)
        self.model = model
        self.scale = scale
        self.pixel_mm = pixel_mm

    @classmethod
    def load(cls, folder: Path, density: Path) -> Self:
        """Load from the folders of a trained model and of the density over its codes.

        Raises:
            FileNotFoundError: if a folder is no such, or incomplete.
            ValueError: if the files of one do not fit each other, the density was fitted to another
                model, or the model has no bound.
        """
        model, pixel_mm = load_model(folder), pixel_size(folder)
        scale = SurpriseScale.load(density)
        try:
            return cls(model, scale, pixel_mm)
        except ValueError as error:
            raise ValueError(f"{density} with {folder}: {error}") from None

    def judge(self, mask: np.ndarray, spacing_mm: Spacing) -> Surprise:
        """Judge a mask (D, H, W) of ``Structure`` values; ``spacing_mm`` is (slice, row, column).

        Conditions that the model could be told (diagnosis, phase, position) stay unknown.
        """
        found = Surprise(*(np.full(len(mask), np.nan) for _ in range(3)))
        if not mask.any():
            return found
        size = self.scale.example.shape[-1]
        window = HeartWindow.around(mask, spacing_mm, size, self.pixel_mm)
        prepared = window.masks_to_prepared(window.cut(mask))
        is_shown = prepared.any(axis=(1, 2))
        seen = torch.from_numpy(prepared[is_shown])
        nats = self.scale.measure(self.model, seen)
        excess = self.scale.excess(nats, seen)
        found.nats[is_shown], found.excess[is_shown] = nats.numpy(), excess.numpy()
        found.ranks[is_shown] = self.scale.rank(excess).numpy()
        return found
