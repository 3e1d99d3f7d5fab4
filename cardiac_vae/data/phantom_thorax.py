"""The chest around a phantom's heart: what tissue lies in each pixel of a short-axis plane.

Every pixel holds a share of water and of fat, each weighted by how brightly balanced steady-state
free precession shows it (blood 1). Edges are anti-aliased, so that a pixel on the border of fat
and muscle holds some of both; the two cancel in the image and draw the dark rim of bSSFP.
Positions are in mm from the left ventricle's axis at mid-ventricle: x along the columns (towards
the patient's back), y down the rows (towards the feet), z from base to apex. The intensities are
set by eye, after the published contrast of cine bSSFP: blood, fat, then liver and muscle, lung.
"""

from dataclasses import dataclass
from math import pi

import numpy as np
from scipy.ndimage import gaussian_filter

from cardiac_vae.data.phantom_tissue import (
    BLOOD,
    FAT,
    LIVER,
    LUNG,
    MUSCLE,
    PixelGrid,
    SmoothNoise,
    Tissue,
)

_VESSELS_OF_LUNG = 190
_GRAIN = 288  # pixels of the texture that repeats


@dataclass(frozen=True)
class Reach:
    """How far the end-diastolic heart reaches from its axis, in mm.

    Attributes:
        depth, left, down: (Z,) at a few depths z.
        up: Farthest of all.
    """

    depth: np.ndarray
    left: np.ndarray
    down: np.ndarray
    up: float

    def left_at(self, z_mm: float) -> float:
        """Return where the chest wall makes room: nearer beside the apex, but not as near."""
        return float(0.5 * self.left.max() + 0.5 * np.interp(z_mm, self.depth, self.left))

    def down_at(self, z_mm: float) -> float:
        """Return where the heart rests on the diaphragm."""
        return float(0.25 * self.down.max() + 0.75 * np.interp(z_mm, self.depth, self.down))


@dataclass(frozen=True)
class Organ:
    """An ellipsoid below the diaphragm.

    Attributes:
        centre, radii: (x, y, z) in mm; ``tilt_deg`` turns it in the plane.
        water: Signal of its inside; ``rim`` of its outer 3 mm, ``mottle`` its texture's contrast.
        fat: Signal of fat in its inside (the sinus of a kidney).
    """

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    tilt_deg: float
    water: float
    rim: float
    mottle: float
    fat: float = 0.0

    def inside_mm(self, z_mm: float, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray | None:
        """Return about how far inside the surface pixels lie, or None where no plane meets it."""
        section = 1 - ((z_mm - self.centre[2]) / self.radii[2]) ** 2
        if section <= 0.02:
            return None
        cos, sin = np.cos(np.radians(self.tilt_deg)), np.sin(np.radians(self.tilt_deg))
        right, down = x_mm - self.centre[0], y_mm - self.centre[1]
        a, b = self.radii[0] * np.sqrt(section), self.radii[1] * np.sqrt(section)
        along = (right * float(cos) + down * float(sin)) / float(a)
        across = (down * float(cos) - right * float(sin)) / float(b)
        return (1 - np.hypot(along, across)) * float(min(a, b))


class Thorax:
    """The chest and upper abdomen of one patient, laid out around the heart."""

    def __init__(self, reach: Reach, extent_mm: float, rng: np.random.Generator) -> None:
        self._reach = reach
        self._back_mm = rng.uniform(108, 142)
        self._fat_mm = rng.uniform(7, 26), rng.uniform(7, 20)
        self._muscle_mm = rng.uniform(9, 14)
        self._dome_mm = reach.up + rng.uniform(40, 66)
        self._taper = rng.uniform(30, 62), rng.uniform(30, 68)
        self._lean = rng.uniform(-0.05, 0.12)
        self._rib_phase = rng.uniform(0, 2 * pi, 2)
        self._lung_side_mm = rng.uniform(8, 32)
        self._haze = rng.uniform(0.03, 0.10)
        extent_mm *= 1.4
        self._outline = SmoothNoise(75, extent_mm, rng)
        self._warp = SmoothNoise(40, extent_mm, rng), SmoothNoise(40, extent_mm, rng)
        self._patches = SmoothNoise(18, extent_mm, rng)
        self._fine = SmoothNoise(8, extent_mm, rng)
        grain = gaussian_filter(rng.standard_normal((_GRAIN, _GRAIN), np.float32), 1.1, mode="wrap")
        self._grain = grain / grain.std()
        self._organs = _draw_organs(float(reach.down.max()), rng)
        self._vessels = _draw_vessels(reach, rng)

    def paint(self, z_mm: float, grid: PixelGrid) -> Tissue:
        """Return the tissues of one plane without the heart."""
        x, y = grid.x_mm, grid.y_mm
        outline = self._outline.plane(z_mm, grid)
        warps = tuple(noise.plane(z_mm, grid) for noise in self._warp)
        patches, fine = self._patches.plane(z_mm, grid), self._fine.plane(z_mm, grid)
        tissue = Tissue.empty(grid)
        front, back = self._walls(z_mm, y + 8 * warps[1][:, :1])
        in_front, in_back = x + 5 * outline - front, back - x - 5 * outline
        wall = np.minimum(in_front, in_back)
        dome = y + 5 * warps[1] + self._dome_mm - 0.0065 * (x + 5 * warps[0] - 30) ** 2
        diaphragm = self._diaphragm(z_mm, x + 5 * warps[0]) - y - 2 * warps[1]

        self._paint_wall(tissue, (in_front, in_back), y, (*warps, patches, fine))
        above = tissue.cover(wall - 1) * tissue.cover(-dome)
        layers = np.sin(0.15 * in_front + 1.7 * warps[0] + 0.8 * warps[1]) + 0.4 * patches
        tissue.paint(above, water=MUSCLE * (1 + 0.08 * fine))
        tissue.paint(above * tissue.cover(4 * (layers - 0.8)), fat=0.85 * FAT)
        cavity = np.minimum(wall, dome)
        haze = self._haze * np.exp(-np.hypot(x, y) / 60) + LUNG
        tissue.paint(tissue.cover(cavity), water=haze * (1 + 0.35 * patches + 0.35 * fine))
        self._paint_vessels(tissue, z_mm, grid, tissue.cover(np.minimum(cavity - 2, diaphragm - 2)))
        below = tissue.cover(wall + 2) * tissue.cover(dome) * tissue.cover(-diaphragm)
        tissue.paint(below, water=0.8 * MUSCLE)
        abdomen = tissue.cover(wall) * tissue.cover(dome) * tissue.cover(-diaphragm - 2.0)
        self._paint_abdomen(tissue, z_mm, grid, abdomen, (*warps, patches, fine))
        speckle = np.roll(self._grain, (round(7.3 * z_mm), round(3.1 * z_mm)), axis=(0, 1))
        speckle = 1 + 0.07 * speckle[: len(y), : x.shape[1]]
        tissue.water *= speckle
        tissue.fat *= 0.6 + 0.4 * speckle
        return tissue

    def coils(self, z_mm: float, grid: PixelGrid) -> np.ndarray:
        """Return the gain of coils on chest and back over that at the heart, (H, W)."""
        front, back = self._walls(z_mm, grid.y_mm)
        front, back = front - self._fat_mm[0], back + self._fat_mm[1]

        def gain(x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
            near = np.exp(-np.abs(x - front) / 48) + 0.8 * np.exp(-np.abs(x - back) / 48)
            return near * np.exp(-((y / 150) ** 2))

        return gain(grid.x_mm, grid.y_mm) - gain(0.0, 0.0)

    def _walls(self, z_mm: float, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x of the inner chest wall in front and behind, (H, 1)."""
        above = np.clip(-y - 5, 0, 165) / 150
        below = np.clip(y - 40, 0, None) / 150
        front = self._taper[0] * above**1.8 - 8 * below - self._reach.left_at(z_mm) - 4
        back = self._back_mm - self._taper[1] * above**2.2 - 16 * below**2
        lean = self._lean * y
        return front - lean, back - lean - 0.15 * z_mm

    def _diaphragm(self, z_mm: float, x: np.ndarray) -> np.ndarray:
        """Return y of the diaphragm, (H, W)."""
        under_heart = self._reach.down_at(z_mm) + 0.0022 * (x + 12) ** 2
        lung_side = self._lung_side_mm * np.exp(-(((x - 62) / 40) ** 2))
        recess = 0.010 * np.clip(x - 72, 0, None) ** 2
        return under_heart - lung_side + recess

    def _paint_wall(
        self,
        tissue: Tissue,
        depth: tuple[np.ndarray, np.ndarray],
        y: np.ndarray,
        noise: tuple[np.ndarray, ...],
    ) -> None:
        """Paint skin, fat, muscle and ribs; ``depth`` is inwards from either inner wall."""
        warp_x, warp_y, patches, fine = noise
        wall = np.minimum(*depth)
        is_front = depth[0] < depth[1]
        fat_mm = np.where(is_front, *self._fat_mm) * (1 + 0.15 * warp_x)
        muscle_mm = self._muscle_mm * (1 + 0.22 * warp_y)
        outside = wall + fat_mm + muscle_mm
        in_body = tissue.cover(outside)
        septa = np.exp(-((patches + 0.3 * fine) ** 2) / 0.02)
        tissue.paint(in_body, fat=FAT * (1 - 0.04 * np.abs(fine)) * (1 - 0.22 * septa))
        tissue.paint(in_body * tissue.cover(1.6 - outside), water=0.4)
        muscle = tissue.cover(wall + muscle_mm)
        tissue.paint(muscle, water=MUSCLE * (1 + 0.10 * fine))
        between = tissue.cover(1.4 - np.abs(wall + 0.62 * muscle_mm + 2.5 * patches))
        tissue.paint(muscle * between * (0.35 + 0.25 * np.tanh(warp_x)), fat=FAT)
        bead = np.where(
            is_front, *(np.sin(2 * pi * y / 30 + p + 1.1 * warp_x) for p in self._rib_phase)
        )
        rib = 4.2 + 5.5 * (bead - 0.5) + 0.7 * patches - np.abs(wall + 0.34 * muscle_mm)
        tissue.paint(0.8 * muscle * tissue.cover(rib), water=0.08)
        tissue.paint(muscle * tissue.cover(rib - 1.3), water=0.36 + 0.08 * warp_y)

    def _paint_vessels(
        self, tissue: Tissue, z_mm: float, grid: PixelGrid, where: np.ndarray
    ) -> None:
        depth = z_mm - self._vessels[:, 2]
        for (x, y, _, size, angle, bright), away in zip(self._vessels, depth, strict=True):
            if abs(away) > 11:
                continue
            x, y = x + 0.7 * away * np.cos(angle), y + 0.7 * away * np.sin(angle)
            window = grid.window((x, y), 3 * size + 3)
            part = grid.part(window)
            right, down = part.x_mm - float(x), part.y_mm - float(y)
            along = right * float(np.cos(angle)) + down * float(np.sin(angle))
            across = down * float(np.cos(angle)) - right * float(np.sin(angle))
            inside = float(size) - np.hypot(along / 1.7, across)
            share = where[window] * np.clip(inside / 2.2 + 0.5, 0, 1)
            tissue.part(window).paint(share, water=float(bright))

    def _paint_abdomen(
        self,
        tissue: Tissue,
        z_mm: float,
        grid: PixelGrid,
        where: np.ndarray,
        noise: tuple[np.ndarray, ...],
    ) -> None:
        warp_x, warp_y, patches, fine = noise
        threads = np.exp(-((patches + 0.2 * fine) ** 2) / 0.015)
        tissue.paint(where, fat=FAT * (0.86 - 0.05 * np.abs(fine)))
        tissue.paint(0.16 * where * threads, water=0.7)
        deep = np.clip((grid.y_mm - self._reach.down.max() - 58) / 25, 0, 1)
        loops = where * deep * tissue.cover(7 * (patches + 0.4 * warp_x - 0.45))
        tissue.paint(loops, water=0.28 + 0.16 * np.tanh(1.5 * warp_y) + 0.07 * fine)
        inner = where * deep * tissue.cover(7 * (patches + 0.4 * warp_x - 1.15))
        tissue.paint(inner, water=0.35 - 0.3 * np.tanh(3 * warp_x) + 0.1 * fine)
        for organ in self._organs:
            window = grid.window(organ.centre[:2], max(organ.radii[:2]) + 14)
            part = grid.part(window)
            bent_x, bent_y = 7 * warp_x + 1.6 * patches, 7 * warp_y - 1.6 * patches
            inside = organ.inside_mm(z_mm, part.x_mm + bent_x[window], part.y_mm + bent_y[window])
            if inside is None:
                continue
            canvas = tissue.part(window)
            canvas.paint(where[window] * canvas.cover(inside), water=organ.rim)
            within = where[window] * canvas.cover(inside - 3)
            texture = 1 + organ.mottle * (fine[window] + 0.6 * patches[window])
            canvas.paint(within, water=organ.water * texture, fat=organ.fat)
            if organ.water == LIVER:
                points = np.clip(1.2 * (fine + 0.5 * warp_x)[window] - 1.9, 0, 0.7)
                canvas.paint(within * points, water=0.8 * BLOOD)
                branches = np.exp(-((warp_y + 0.25 * fine)[window] ** 2) / 0.004)
                canvas.paint(
                    0.8 * within * branches * np.clip(patches[window], 0, 1), water=0.75 * BLOOD
                )


def _draw_vessels(reach: Reach, rng: np.random.Generator) -> np.ndarray:
    """Draw the vessels of the lung, (N, 6): x, y, z, radius in mm; direction; signal."""
    from_hilum = rng.gamma(1.8, 26, _VESSELS_OF_LUNG)
    angle = rng.uniform(0, 2 * pi, _VESSELS_OF_LUNG)
    return np.column_stack(
        [
            32 + from_hilum * np.cos(angle),
            -0.4 * reach.up + from_hilum * np.sin(angle),
            rng.uniform(-75, 75, _VESSELS_OF_LUNG),
            0.3 + rng.gamma(2.0, 0.9, _VESSELS_OF_LUNG) * np.exp(-from_hilum / 70),
            angle + rng.normal(0, 0.5, _VESSELS_OF_LUNG),
            rng.uniform(0.2, 0.85, _VESSELS_OF_LUNG),
        ]
    )


def _draw_organs(down_mm: float, rng: np.random.Generator) -> list[Organ]:
    """Draw the organs below the diaphragm, in painting order."""

    def near(x: float, y: float, z: float, spread_mm: float) -> tuple[float, float, float]:
        right, down, deep = rng.normal((x, y, z), spread_mm)
        return float(right), float(down), float(deep)

    kidney = near(56, down_mm + 100, -8, 7)
    return [
        Organ(near(-50, down_mm + 50, -15, 7), near(88, 64, 95, 6), 20, LIVER, 0.44, 0.05),
        Organ(near(86, down_mm + 20, 0, 6), near(31, 52, 80, 4), 14, 0.50, 0.46, 0.05),
        Organ(kidney, near(24, 36, 50, 3), 15, 0.46, 0.56, 0.14),
        Organ(kidney, (6, 15, 30), 30, 0.20, 0.3, 0.3, fat=0.75),
        Organ(near(32, down_mm + 22, 15, 7), near(36, 28, 75, 4), -18, 0.50, 0.32, 0.22),
        Organ(near(36, down_mm + 62, -40, 5), (9.5, 11, 55), 10, BLOOD, 0.3, 0.03),
    ]
