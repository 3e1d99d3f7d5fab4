"""What a window's resampling to native pixels is to a gradient: two matrices.

``HeartWindow.to_native`` takes probabilities of the prepared grid to the scan's pixels by a linear
map along either axis, A p B', structure by structure; the background is what they leave.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from cardiac_vae.data.geometry import probability_weights
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
        """Return the map that a window's ``to_native`` applies."""
        prepared, native = window.prepared, window.native
        area = np.prod(prepared.pixel_mm) / np.prod(native.pixel_mm)
        rows, columns = map(torch.from_numpy, probability_weights(prepared, native))
        return cls(rows, columns, float(area))

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Return probabilities (N, C, h, w) of those on the prepared grid, (N, C, S, S)."""
        heart = (self.rows @ probabilities[:, 1:] @ self.columns.T).clamp(0, 1)
        background = (1 - heart.sum(dim=1, keepdim=True)).clamp(0, 1)
        return torch.cat([background, heart], dim=1)
