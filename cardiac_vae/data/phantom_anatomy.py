"""The shape of a phantom's heart: ventricles as polar contours along the long axis.

A short-axis plane at depth z (mm, from the end-diastolic mitral plane towards the apex) is
described around the left ventricle's axis by three radii per angle: endocardium, epicardium and
the outer border of the right ventricular cavity, which lies against the epicardium as a crescent.
Angles follow the array: 0 along the columns, 90 degrees down the rows, so that pi is where the
right ventricle lies before ``pose_deg`` turns the heart. The scale of each surface is solved so
that the continuous shape has the volume that was drawn for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import numpy as np
from scipy.ndimage import label
from scipy.optimize import brentq

from cardiac_vae.data.phantom_diagnosis import HeartFactors
from cardiac_vae.labels import Phase, Structure

NUM_ANGLES = 180
ANGLES = np.arange(NUM_ANGLES) * (2 * pi / NUM_ANGLES)
_STEP_MM = 1.0  # of the volume integrals along the axis
_SMALLEST_CAVITY_MM = 2.2  # mean radius below which no expert would draw the cavity
_THINNEST_RV_MM = 2.0
_DEEPEST_CRESCENT_MM = 28.0  # how far it curls around the left ventricle
_EQUATOR = 0.18  # where along the axis the epicardium is widest


@dataclass(frozen=True)
class Contours:
    """Radii in mm around the left ventricle's axis, (Z, NUM_ANGLES) each.

    Where there is no right ventricle ``rv`` equals ``epi``; past the apex all are 0. Above the
    base they go on as the thin walls of the atrium, which a mask leaves out.
    """

    endo: np.ndarray
    epi: np.ndarray
    rv: np.ndarray


class PolarPlane:
    """The pixels of a plane in polar coordinates around a point.

    Attributes:
        radius_mm: (H, W) distance of each pixel's centre.
    """

    def __init__(self, rows_mm: np.ndarray, columns_mm: np.ndarray) -> None:
        """Take the pixel centres relative to the point, (H,) and (W,)."""
        down, right = rows_mm[:, None], columns_mm[None, :]
        self.radius_mm = np.hypot(down, right)
        position = np.arctan2(down, right) % (2 * pi) * (NUM_ANGLES / (2 * pi))
        self._before = position.astype(np.intp) % NUM_ANGLES
        self._share = position - np.floor(position)

    def at_angle(self, table: np.ndarray) -> np.ndarray:
        """Look up a value per angle, (NUM_ANGLES,), for each pixel, (H, W)."""
        after = np.roll(table, -1)
        return table[self._before] * (1 - self._share) + after[self._before] * self._share


class HeartShape:
    """The surfaces of one heart at one phase, with the volumes its factors name."""

    def __init__(self, factors: HeartFactors, phase: Phase) -> None:
        self.factors = factors
        self.phase = phase
        shortening = 7.5 * (factors.ef_percent / 60) if phase is Phase.ES else 0.0
        self.base_mm = 0.9 * shortening
        self.apex_mm = factors.length_mm - 0.1 * shortening
        rv_shortening = 11.0 * (factors.rv_ef_percent / 55) if phase is Phase.ES else 0.0
        self.rv_base_mm = factors.rv_base_mm + rv_shortening
        self.rv_apex_mm = factors.rv_apex * factors.length_mm - 0.2 * rv_shortening
        self._thickening = 1.0
        if phase is Phase.ED:
            self._radius_mm = _solve(self._cavity_given_radius, factors.edv_ml, 10, 90)
        else:
            # The muscle keeps its volume, so the epicardium follows from the cavity.
            muscle_ml = HeartShape(factors, Phase.ED).myocardium_ml
            enclosed = factors.esv_ml + muscle_ml
            self._radius_mm = _solve(self._enclosed_given_radius, enclosed, 10, 90)
            self._thickening = _solve(self._cavity_given_thickening, factors.esv_ml, 0.5, 4)
        self._rv_width_mm = 0.0
        rv_ml = factors.rv_edv_ml if phase is Phase.ED else factors.rv_esv_ml
        self._rv_width_mm = _solve(self._rv_given_width, rv_ml, 1, 140)

    @property
    def lv_ml(self) -> float:
        """Return the volume of the left ventricular cavity."""
        return self._volume_ml(self._left(self._levels)[0])

    @property
    def rv_ml(self) -> float:
        """Return the volume of the right ventricular cavity."""
        return self._rv_given_width(self._rv_width_mm)

    @property
    def myocardium_ml(self) -> float:
        """Return the volume of the left ventricle's muscle."""
        endo, epi = self._left(self._levels)
        return self._volume_ml(epi) - self._volume_ml(endo)

    def contours(self, depth_mm: np.ndarray) -> Contours:
        """Return the radii in the planes at these depths, (Z,) in mm."""
        endo, epi = self._left(depth_mm)
        return Contours(endo, epi, epi + self._rv_width(depth_mm, self._rv_width_mm))

    def mask(self, depth_mm: float, plane: "PolarPlane") -> np.ndarray:
        """Return what an expert would draw in one plane, (H, W) uint8 of ``Structure``.

        The cavity includes papillary muscles and trabeculae, as in ACDC; a pixel belongs to the
        structure that holds its centre.
        """
        mask = np.zeros(plane.radius_mm.shape, np.uint8)
        contours = self.contours(np.array([depth_mm]))
        if self.rv_base_mm <= depth_mm <= self.rv_apex_mm:
            mask[plane.radius_mm < plane.at_angle(contours.rv[0])] = Structure.RV
        epi = plane.radius_mm < plane.at_angle(contours.epi[0])
        mask[epi] = Structure.BACKGROUND
        if self.base_mm <= depth_mm <= self.apex_mm:
            mask[epi] = Structure.MYO
            if contours.endo[0].mean() >= _SMALLEST_CAVITY_MM:
                mask[plane.radius_mm < plane.at_angle(contours.endo[0])] = Structure.LV
        rv = mask == Structure.RV
        mask[rv & ~_largest(rv)] = Structure.BACKGROUND
        return mask

    @property
    def _levels(self) -> np.ndarray:
        return np.arange(self.base_mm + _STEP_MM / 2, self.apex_mm, _STEP_MM)

    def _volume_ml(self, radius: np.ndarray) -> float:
        return float(np.square(radius).sum()) * (pi / NUM_ANGLES) * _STEP_MM / 1000

    def _cavity_given_radius(self, radius_mm: float) -> float:
        self._radius_mm = radius_mm
        return self.lv_ml

    def _enclosed_given_radius(self, radius_mm: float) -> float:
        self._radius_mm = radius_mm
        return self._volume_ml(self._left(self._levels)[1])

    def _cavity_given_thickening(self, thickening: float) -> float:
        self._thickening = thickening
        return self.lv_ml

    def _rv_given_width(self, width_mm: float) -> float:
        levels = np.arange(self.rv_base_mm + _STEP_MM / 2, self.rv_apex_mm, _STEP_MM)
        epi = self._left(levels)[1]
        return self._volume_ml(epi + self._rv_width(levels, width_mm)) - self._volume_ml(epi)

    def _left(self, depth_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return endocardial and epicardial radius, (Z, NUM_ANGLES) each."""
        f = self.factors
        share = ((depth_mm - self.base_mm) / (self.apex_mm - self.base_mm))[:, None]
        septum = _turned(pi + np.radians(f.pose_deg))
        outline = 1 + f.ellipticity * np.cos(2 * (ANGLES - np.radians(f.ellipse_deg)))
        outline = outline * (1 - f.septal_flattening * np.exp(-0.5 * (septum / 0.6) ** 2))
        from_equator = (np.clip(share, -0.4, 1) - _EQUATOR) / (1 - _EQUATOR)
        epi = self._radius_mm * np.sqrt(np.clip(1 - from_equator**2, 0, None)) * outline
        in_septum = np.exp(-0.5 * ((septum - 0.25) / 0.75) ** 2)
        along = np.exp(-0.5 * ((share - 0.38) / 0.32) ** 2)
        scar = self._scar(share, septum)
        thickening = 1 + (self._thickening - 1) * (1 - 0.9 * scar)
        wall = f.wall_mm * (1.08 - 0.22 * np.clip(share, 0, 1)) * thickening
        wall = wall * (1 + f.septal_excess * in_septum * along) * (1 - f.infarct_thinning * scar)
        above_mm = np.clip(self.base_mm - depth_mm, 0, None)[:, None]
        wall = wall * np.clip(1 - above_mm / 5, 0.3, 1)
        # A wall wider than the radius closes the cavity smoothly instead of turning inside out.
        filled = wall / np.maximum(epi, 1e-6)
        endo = epi * (1 - filled / (1 + filled**8) ** 0.125)
        return endo, epi

    def _scar(self, share: np.ndarray, septum: np.ndarray) -> np.ndarray:
        """Return how far each part of the wall is infarcted, 0 to 1, (Z, NUM_ANGLES)."""
        f = self.factors
        offset = (septum - np.radians(f.infarct_deg) + pi) % (2 * pi) - pi
        across = np.exp(-((offset / 0.85) ** 4))
        along = np.exp(-(((share - f.infarct_depth) / 0.32) ** 4))
        return np.where(f.infarct_thinning > 0, across * along, 0.0)

    def _rv_width(self, depth_mm: np.ndarray, largest_mm: float) -> np.ndarray:
        """Return the crescent's width outside the epicardium, (Z, NUM_ANGLES)."""
        f = self.factors
        share = (depth_mm - self.rv_base_mm) / (self.rv_apex_mm - self.rv_base_mm)
        share = np.clip(share, 0, 1)[:, None]
        above_mm = np.clip(self.rv_base_mm - depth_mm, 0, None)[:, None]
        width_mm = largest_mm * np.exp(-((above_mm / 30) ** 2))
        # A crescent around a wide ventricle covers less of it, or it would be a claw.
        widest = 2 * np.arccos(max(0.0, 1 - _DEEPEST_CRESCENT_MM / self._radius_mm))
        span = min(np.radians(f.rv_span_deg), widest) * (1 - 0.38 * share**1.5)
        centre = pi + np.radians(f.pose_deg) - 0.12 * share
        # 0 at the anterior insertion, 1 at the inferior one.
        along = np.clip(0.5 - _turned(centre) / span, 0, 1)
        anterior = 0.40 + 0.45 * share  # the outflow tract makes the base full, the apex is pointed
        inferior = 0.38
        peak = anterior / (anterior + inferior)
        crescent = (along / peak) ** anterior * ((1 - along) / (1 - peak)) ** inferior
        width = width_mm * crescent * (1 - share**1.9) ** 0.8 * (0.86 + 0.14 * np.sqrt(share))
        return np.where(width < _THINNEST_RV_MM, 0.0, width)


def _turned(direction: float | np.ndarray) -> np.ndarray:
    """Return each angle relative to a direction, within -pi and pi; positive is anterior."""
    return (ANGLES - direction + pi) % (2 * pi) - pi


def _largest(region: np.ndarray) -> np.ndarray:
    """Keep the largest 8-connected part of a region: what tapers below a pixel is not drawn."""
    parts, count = label(region, np.ones((3, 3)))
    if count < 2:
        return region
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


def _solve(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    return float(brentq(lambda value: function(value) - target, low, high, xtol=1e-6))
