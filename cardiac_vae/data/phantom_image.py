"""The MR image of a phantom: its heart painted into the chest, then acquired as bSSFP cine.

Signal = abs(water - fat) (echo at half the repetition time, when the two oppose) times the
sensitivity of the surface coils; then k-space: limited matrix, ghosts along the phase-encoding
axis from uneven heart beats, complex white noise, zero filling. The magnitude of noisy complex
signal is Rician (Gudbjartsson & Patz 1995, MRM 34:910). Scheffler & Lehnhardt 2003, Eur Radiol
13:2409, describe the contrast and the bands of bSSFP.
"""

from dataclasses import dataclass
from math import pi

import numpy as np
from scipy import fft

from cardiac_vae.data.phantom_tissue import PixelGrid

_DISTURBANCE_MM = 235.0  # distance from the heart


@dataclass(frozen=True)
class Acquisition:
    """How the scanner made the images of one patient; written to ``factors.csv``.

    Attributes:
        noise: Standard deviation of each channel's noise, as a share of the blood's signal.
        bias: How much brighter the coils make tissue beside them than the heart.
        ghost: Amplitude of the ghosts, as a share of the signal.
        resolution: Share of the matrix that is acquired along columns; the rest is zero filled.
        brightness: Grey value of blood.
        muscle: Signal of the myocardium, as a share of the blood's.
        band_deg, band_mm: Where the field is off: direction of the disturbance (from the heart)
            and radius of the bands around it (none if negative).
        field_of_view: Radius that the gradients' correction leaves, as a share of the diagonal.
    """

    noise: float
    bias: float
    ghost: float
    resolution: float
    brightness: float
    muscle: float
    band_deg: float
    band_mm: float
    field_of_view: float


def acquire(signal: np.ndarray, acquisition: Acquisition, rng: np.random.Generator) -> np.ndarray:
    """Return the (H, W) int16 image of a plane's signal, (H, W) with blood at 1 (fat negative)."""
    height, width = signal.shape
    rows, columns = fft.fftfreq(height), fft.fftfreq(width)
    spectrum = fft.fft2(signal.astype(np.complex64))
    # Every heart beat fills its own group of lines, so beats that differ repeat the image.
    beat = rng.uniform(0, 2 * pi)
    spectrum *= 1 + acquisition.ghost * np.cos(2 * pi * 3.3 * np.arange(width) / 8 + beat)
    noise = rng.standard_normal((2, height, width), np.float32)
    level = np.float32(acquisition.noise * np.sqrt(height * width))
    spectrum += level * (noise[0] + np.complex64(1j) * noise[1])
    spectrum *= _taper(rows / 0.47)[:, None] * _taper(columns / (0.5 * acquisition.resolution))
    image = np.abs(fft.ifft2(spectrum)) * acquisition.brightness
    return np.clip(np.rint(image), 0, np.iinfo(np.int16).max).astype(np.int16)


def off_resonance(acquisition: Acquisition, grid: PixelGrid) -> np.ndarray:
    """Return what the field's bands leave of the signal, (H, W) within 0 and 1."""
    angle = np.radians(acquisition.band_deg)
    right = grid.x_mm - _DISTURBANCE_MM * float(np.cos(angle))
    down = grid.y_mm - _DISTURBANCE_MM * float(np.sin(angle))
    nearer = np.clip(acquisition.band_mm - np.hypot(right, down), 0, None)
    return 1 - 0.8 * np.sin(pi * (nearer / 30) ** 1.35) ** 6


def gradient_edge(acquisition: Acquisition, grid: PixelGrid) -> np.ndarray:
    """Return the corners that the correction of the gradients leaves empty, (H, W): 0 there."""
    x, y = grid.x_mm, grid.y_mm
    from_middle = np.hypot(x - x.mean(), y - y.mean())
    diagonal = np.hypot(np.ptp(x), np.ptp(y)) / 2
    return np.clip((acquisition.field_of_view * diagonal - from_middle) / 3, 0, 1)


def _taper(frequency: np.ndarray) -> np.ndarray:
    """Return the filter along one axis of k-space: flat, then a cosine down to the edge at 1."""
    inside = np.clip((1 - np.abs(frequency)) / 0.45, 0, 1)
    return np.sin(pi / 2 * inside).astype(np.float32) ** 2
