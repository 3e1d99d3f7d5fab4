"""What a window's resampling to native pixels is to a gradient: two matrices.

``HeartWindow.to_native`` takes probabilities of the prepared grid to the scan's pixels by a linear
map along either axis, A p B', structure by structure; the background is what they leave.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from cardiac_vae.labels import NUM_CLASSES, Structure
from cardiac_vae.refinement.window import HeartWindow


@dataclass(frozen=True)
class NativeGrid:
    """The map from the prepared grid (S, S) to native pixels (h, w), differentiable.

    Attributes:
        rows: A, (h, S); zero for native rows outside the prepared grid.
        columns: B, (w, S).
        pixels_per_prepared: Native pixels in the area of a prepared one.
    """

    rows: Tensor
    columns: Tensor
    pixels_per_prepared: float

    @classmethod
    def of(cls, window: HeartWindow) -> Self:
        """Read the matrices off what the window makes of single rows and columns."""
        size = window.prepared.shape[0]
        stripes = np.zeros((size, NUM_CLASSES, size, size), np.float32)
        stripes[:, Structure.RV] = np.eye(size, dtype=np.float32)[:, :, None]
        rows = window.to_native(stripes)[:, Structure.RV].max(axis=2).T
        columns = window.to_native(stripes.swapaxes(2, 3))[:, Structure.RV].max(axis=1).T
        area = np.prod(window.prepared.pixel_mm) / np.prod(window.native.pixel_mm)
        return cls(*(torch.from_numpy(a.copy()) for a in (rows, columns)), float(area))

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Return probabilities (N, C, h, w) of those on the prepared grid, (N, C, S, S)."""
        heart = (self.rows @ probabilities[:, 1:] @ self.columns.T).clamp(0, 1)
        background = (1 - heart.sum(dim=1, keepdim=True)).clamp(0, 1)
        return torch.cat([background, heart], dim=1)
