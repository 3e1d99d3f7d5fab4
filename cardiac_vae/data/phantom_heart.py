"""A phantom's heart as tissue: what the image shows and the mask leaves out.

Papillary muscles and trabeculae in the cavities, the wall of the right ventricle, epicardial fat
and pericardium around them, atrium and aortic root above the base.
"""

from math import pi

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from cardiac_vae.data.phantom_anatomy import ANGLES, HeartShape, PolarPlane
from cardiac_vae.data.phantom_tissue import (
    BLOOD,
    FAT,
    MUSCLE,
    PixelGrid,
    SmoothNoise,
    Tissue,
)

_RV_WALL_MM = 2.8
_HALF_SLICE = (-0.32, 0.0, 0.32)  # planes that one slice averages, as shares of its thickness


class HeartTissue:
    """The tissues of one patient's heart, the same at both phases.

    ``pose_deg`` is the heart's; ``muscle`` is the signal of its muscle, as a share of blood's.
    """

    def __init__(self, pose_deg: float, muscle: float, rng: np.random.Generator) -> None:
        self._muscle = muscle
        self._pose = float(np.radians(pose_deg))
        self._papillary = [
            (self._pose + np.radians(rng.normal(middle, 10)), rng.uniform(0.8, 1.2))
            for middle in (-52, 62)
        ]
        orders = np.arange(4, 17)
        phases = rng.uniform(0, 2 * pi, (5, len(orders), 1))
        self._ripple = np.cos(orders[:, None] * ANGLES + phases).sum(axis=1) / 2.5
        waves = rng.standard_normal((4, 1)) * np.cos(
            np.arange(1, 5)[:, None] * ANGLES + rng.uniform(0, 2 * pi, (4, 1))
        )
        self._fat_mm = rng.uniform(0.5, 2.2) * np.exp(np.clip(0.6 * waves.sum(axis=0), -2, 1.6))
        self._pad_mm = rng.uniform(4, 15, 2)
        self._swirls = SmoothNoise(12, 220, rng)
        self._strands = SmoothNoise(4.2, 220, rng)

    def paint_slice(
        self, tissue: Tissue, shape: HeartShape, depth_mm: float, slice_mm: float, grid: PixelGrid
    ) -> None:
        """Paint the heart over what lies in a slice, averaged over the slice's thickness."""
        plane = PolarPlane(grid.y_mm[:, 0], grid.x_mm[0])
        z = depth_mm - shape.factors.length_mm / 2
        noise = self._swirls.plane(z, grid), self._strands.plane(z, grid)
        layers = [tissue.copy() for _ in _HALF_SLICE]
        for layer, offset in zip(layers, _HALF_SLICE, strict=True):
            around = shape.contours(depth_mm + slice_mm * (offset + np.array([-0.16, 0.16])))
            layer.edge_mm += float(np.abs(np.diff(around.epi, axis=0)).mean())
            self._paint(layer, shape, depth_mm + offset * slice_mm, plane, (grid, *noise))
        tissue.water[:] = sum(layer.water for layer in layers) / len(layers)
        tissue.fat[:] = sum(layer.fat for layer in layers) / len(layers)

    def _paint(
        self,
        tissue: Tissue,
        shape: HeartShape,
        depth_mm: float,
        plane: PolarPlane,
        at: tuple[PixelGrid, np.ndarray, np.ndarray],
    ) -> None:
        grid, swirls, texture = at
        contours = shape.contours(np.array([depth_mm]))
        endo, epi, rv = contours.endo[0], contours.epi[0], contours.rv[0]
        share = (depth_mm - shape.base_mm) / (shape.apex_mm - shape.base_mm)
        r = plane.radius_mm
        blood = BLOOD * (1 + 0.08 * swirls)
        wall = np.where(rv > epi, rv + _RV_WALL_MM, epi)

        sac_mm = self._sac(wall, share)
        sac = plane.at_angle(sac_mm)
        # Fat fills the corners between heart, chest wall and diaphragm: lung gives way to it.
        is_lung = np.clip(1.6 - (tissue.water + tissue.fat) / 0.12, 0, 1)
        pad = plane.at_angle(sac_mm + self._pads(share))
        uneven = pad - r + 2.5 * swirls
        tissue.paint(is_lung * tissue.cover(uneven), fat=FAT * (0.88 + 0.05 * texture))
        tissue.paint(tissue.cover(sac + 1.4 - r), water=0.8 * MUSCLE)
        tissue.paint(tissue.cover(sac - r), fat=FAT * (0.88 + 0.05 * texture))
        in_muscle = tissue.cover(plane.at_angle(wall) - r)
        tissue.paint(in_muscle, water=self._muscle * (0.95 + 0.06 * texture))
        rv_at, epi_at = plane.at_angle(rv), plane.at_angle(epi)
        in_rv = tissue.cover(rv_at - r) * tissue.cover(r - epi_at)
        tissue.paint(in_rv, water=0.86 * blood)
        near_wall = np.exp(-(((rv_at - r) / 6) ** 2))
        rough = np.clip(0.15 + 0.8 * share + 0.4 * near_wall, 0, 1)
        strands = np.exp(-(((swirls + 0.6 * texture + 0.2) / 0.34) ** 2))
        tissue.paint(0.75 * in_rv * rough * strands, water=self._muscle)
        lumps = np.clip(texture - 0.6, 0, 0.9) * near_wall
        tissue.paint(in_rv * lumps, water=self._muscle)
        in_left = tissue.cover(epi_at - r)
        tissue.paint(in_left, water=self._muscle * (1 + 0.05 * texture))
        self._paint_cavity(tissue, (endo, share), plane, grid, (blood, texture))
        if share < 0:
            self._paint_aorta(tissue, epi, grid, blood)

    def _sac(self, wall: np.ndarray, share: float) -> np.ndarray:
        """Return the pericardium's radius: smooth around the ventricles, over their fat."""
        smooth = gaussian_filter1d(maximum_filter1d(wall, 15, mode="wrap"), 6, mode="wrap")
        apical_mm = 6 * np.clip(share - 0.55, 0, 0.45)
        radius = np.maximum(0.5 * (smooth + wall), wall) + self._fat_mm + apical_mm
        return radius * np.clip(1 - (share - 1) * 6, 0, 1)

    def _pads(self, share: float) -> np.ndarray:
        """Return how far fat reaches past the pericardium, by angle, in mm."""
        towards = ((ANGLES - middle + pi) % (2 * pi) - pi for middle in (1.12 * pi, 0.62 * pi))
        pads = (
            size * np.exp(-((offset / 0.55) ** 2))
            for size, offset in zip(self._pad_mm, towards, strict=True)
        )
        return sum(pads, np.zeros(len(ANGLES))) * float(np.clip(5 - 4 * share, 0, 1))

    def _paint_cavity(
        self,
        tissue: Tissue,
        cavity: tuple[np.ndarray, float],
        plane: PolarPlane,
        grid: PixelGrid,
        noise: tuple[np.ndarray, np.ndarray],
    ) -> None:
        endo, share = cavity
        blood, texture = noise
        level = float(np.clip(share, 0, 0.999)) * (len(self._ripple) - 1)
        low, part = int(level), level % 1
        ripple = self._ripple[low] * (1 - part) + self._ripple[low + 1] * part
        depth = 0.10 * np.clip(ripple - 0.3, 0, 2.2) * endo * float(np.clip(3 * share, 0, 1))
        r = plane.radius_mm
        tissue.paint(tissue.cover(plane.at_angle(endo - np.minimum(depth, 4.5)) - r), water=blood)
        if not 0.22 < share < 0.92:
            return
        in_cavity = tissue.cover(plane.at_angle(endo) - r)
        beside_wall = np.exp(-(((plane.at_angle(endo) - r) / 4.5) ** 2))
        strands = np.clip(texture - 0.1, 0, 0.85) * beside_wall
        tissue.paint(in_cavity * strands, water=self._muscle)
        for angle, size in self._papillary:
            reach = float(np.interp(angle % (2 * pi), ANGLES, endo, period=2 * pi))
            radius = 0.21 * size * reach * float(np.sin(pi * (share - 0.2) / 0.76)) ** 0.5 + 0.5
            middle = reach - (1.3 if share < 0.45 else 0.95) * radius
            right = grid.x_mm - float(middle * np.cos(angle))
            down = grid.y_mm - float(middle * np.sin(angle))
            inside = radius * (1 + 0.28 * texture) - np.hypot(right, down)
            tissue.paint(in_cavity * tissue.cover(inside), water=0.95 * self._muscle)

    def _paint_aorta(
        self, tissue: Tissue, epi: np.ndarray, grid: PixelGrid, blood: np.ndarray
    ) -> None:
        """Paint the root of the aorta between atrium and right ventricle."""
        angle = self._pose + pi + 0.55
        away = 0.62 * float(epi.mean())
        right = grid.x_mm - away * float(np.cos(angle))
        down = grid.y_mm - away * float(np.sin(angle))
        inside = 14 - np.hypot(right, down)
        tissue.paint(tissue.cover(inside + 2), water=0.8 * self._muscle)
        tissue.paint(tissue.cover(inside), water=1.03 * blood)
