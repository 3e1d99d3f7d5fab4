"""A canvas of water and fat per pixel, and the smooth noise that makes its edges organic."""

from dataclasses import dataclass
from typing import Self

import numpy as np

# Signal of tissues in cine bSSFP, relative to blood; fat has the sign its phase gives it later.
BLOOD, MUSCLE, LIVER, LUNG = 1.0, 0.35, 0.46, 0.05
FAT = 1.05

Window = tuple[slice, slice]


@dataclass(frozen=True)
class PixelGrid:
    """Where the pixels of a plane lie, in mm from the left ventricle's axis.

    Attributes:
        x_mm: (1, W) float32, centres of the columns.
        y_mm: (H, 1) float32, centres of the rows.
        pixel_mm: Distance between them.
    """

    x_mm: np.ndarray
    y_mm: np.ndarray
    pixel_mm: float

    @classmethod
    def around(cls, shape: tuple[int, int], centre: tuple[float, float], pixel_mm: float) -> Self:
        """Build the grid of an (H, W) plane with the axis at (row, column) ``centre``."""
        rows, columns = (
            ((np.arange(size) - middle) * pixel_mm).astype(np.float32)
            for size, middle in zip(shape, centre, strict=True)
        )
        return cls(columns[None, :], rows[:, None], pixel_mm)

    def moved(self, right_mm: float, down_mm: float) -> "PixelGrid":
        """Return the same pixels seen from a point that lies further right and down."""
        return PixelGrid(self.x_mm - right_mm, self.y_mm - down_mm, self.pixel_mm)

    def window(self, centre_mm: tuple[float, float], radius_mm: float) -> Window:
        """Return the pixels within a square around (x, y)."""
        x, y = (float(value) for value in centre_mm)
        rows = np.searchsorted(self.y_mm[:, 0], [y - radius_mm, y + radius_mm])
        columns = np.searchsorted(self.x_mm[0], [x - radius_mm, x + radius_mm])
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def part(self, window: Window) -> "PixelGrid":
        """Return the grid of a window."""
        return PixelGrid(self.x_mm[:, window[1]], self.y_mm[window[0]], self.pixel_mm)


@dataclass
class Tissue:
    """Water and fat per pixel, (H, W) float32 each; painting covers what was there.

    Attributes:
        edge_mm: Width over which an edge fades: one pixel, more where surfaces lie oblique.
    """

    water: np.ndarray
    fat: np.ndarray
    edge_mm: float

    @classmethod
    def empty(cls, grid: PixelGrid) -> Self:
        """Return air."""
        shape = grid.y_mm.shape[0], grid.x_mm.shape[1]
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32), grid.pixel_mm)

    def copy(self) -> "Tissue":
        """Return a copy that can be painted on its own."""
        return Tissue(self.water.copy(), self.fat.copy(), self.edge_mm)

    def part(self, window: Window) -> "Tissue":
        """Return a view of a window; what is painted there is painted here."""
        return Tissue(self.water[window], self.fat[window], self.edge_mm)

    def cover(self, inside_mm: np.ndarray) -> np.ndarray:
        """Turn the distance inside an edge, in mm, into the covered share of each pixel."""
        return np.clip(inside_mm * (1 / self.edge_mm) + 0.5, 0, 1)

    def paint(
        self, share: np.ndarray, water: np.ndarray | float = 0.0, fat: np.ndarray | float = 0.0
    ) -> None:
        """Replace a share of each pixel."""
        self.water += share * (water - self.water)
        self.fat += share * (fat - self.fat)


class SmoothNoise:
    """A smooth random field over (z, y, x) of unit variance and one length scale in mm."""

    def __init__(self, size_mm: float, extent_mm: float, rng: np.random.Generator) -> None:
        self._size_mm = size_mm
        self._depth_mm = max(size_mm, 22.0)  # what one slice shows, the next still hints at
        self._count = int(np.ceil(extent_mm / size_mm)) + 3
        self._deep = int(np.ceil(160 / self._depth_mm)) + 2
        values = rng.standard_normal((self._deep, self._count, self._count))
        self._values = values.astype(np.float32)

    def plane(self, z_mm: float, grid: PixelGrid) -> np.ndarray:
        """Return the field in one plane, (H, W) float32."""
        depth = _bumps(np.array([z_mm], np.float32), self._depth_mm, self._deep)[0]
        rows = _bumps(grid.y_mm[:, 0], self._size_mm, self._count)
        columns = _bumps(grid.x_mm[0], self._size_mm, self._count)
        coarse = np.einsum("k,kij->ij", depth, self._values)
        # Not matmul: its sums depend on the number of threads, and phantoms are the same bytes.
        partly = np.einsum("hi,ij->hj", rows, coarse)
        return np.einsum("hj,jw->hw", partly, np.ascontiguousarray(columns.T))


def _bumps(position_mm: np.ndarray, size_mm: float, count: int) -> np.ndarray:
    """Return weights of evenly spaced Gaussian bumps, (N, count), of unit square sum."""
    centres = (np.arange(count, dtype=np.float32) - (count - 1) / 2) * size_mm
    weights = np.exp(-0.5 * ((position_mm[:, None] - centres) / (0.6 * size_mm)) ** 2)
    return weights / np.sqrt(np.square(weights).sum(axis=1, keepdims=True) + 1e-12)
