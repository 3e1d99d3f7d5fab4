"""What a scanner does to an image on a bad day: receive bias, ghosting, Rician noise.

In the order of acquisition: a smooth coil sensitivity multiplies the anatomy, a periodic motion
modulates the phase-encode lines of k-space, and the magnitude of complex Gaussian noise is what
is recorded (Gudbjartsson & Patz 1995: M = abs(A + n1 + i n2)).
"""

import math
import zlib
from typing import Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.case import Spacing

PLANE_AXES = {"row": -2, "column": -1}


class ScanCorruptionConfig(StrictConfig):
    """Strength of each corruption; 0 leaves it out, and all three at 0 change nothing.

    Attributes:
        noise: Sigma of each noise channel, as a share of the scan's 99th percentile.
        bias: Standard deviation of the logarithm of the bias field.
        bias_scale_mm: Shortest distance over which the field goes from a crest to a trough.
        ghosting: Amplitude of the modulation of k-space; a replica has half of it.
        num_ghosts: Period of the modulation in lines; replicas lie ``size / num_ghosts`` apart.
        phase_axis: In-plane axis of phase encoding, along which the ghosts lie.
    """

    noise: NonNegativeFloat = 0.05
    bias: NonNegativeFloat = 0.3
    bias_scale_mm: PositiveFloat = 120.0
    ghosting: NonNegativeFloat = 0.35
    num_ghosts: PositiveInt = 4
    phase_axis: Literal["row", "column"] = "row"


def corrupt_scan(
    image: np.ndarray, spacing_mm: Spacing, rng: np.random.Generator, config: ScanCorruptionConfig
) -> np.ndarray:
    """Return the image (D, H, W) as a worse scan of the same patient, float32, non-negative.

    Each corruption has a random stream of its own, so that leaving one out does not change the
    others.

    Raises:
        ValueError: if the image is not (D, H, W), or has a NaN, infinite or negative value.
    """
    if image.ndim != 3 or not np.isfinite(image).all() or (image < 0).any():
        raise ValueError(
            "expected a (D, H, W) magnitude image without NaN, infinite or negative values, got "
            f"shape {image.shape} and range {image.min()} to {image.max()}; convert it first"
        )
    bias_rng, ghost_rng, noise_rng = rng.spawn(3)
    corrupted = image.astype(np.float32)
    if config.bias:
        field = bias_field(image.shape, spacing_mm, bias_rng, config.bias, config.bias_scale_mm)
        corrupted = corrupted * field
    if config.ghosting:
        corrupted = add_ghosts(
            corrupted, ghost_rng, config.ghosting, config.num_ghosts, config.phase_axis
        )
    if config.noise:
        sigma = config.noise * float(np.percentile(image, 99))
        corrupted = add_rician_noise(corrupted, noise_rng, sigma)
    return corrupted.astype(np.float32)


def corrupt_case(
    case_id: str, image: np.ndarray, spacing_mm: Spacing, seed: int, config: ScanCorruptionConfig
) -> np.ndarray:
    """Return ``corrupt_scan`` of a case by a random stream of its own, whatever the others are."""
    rng = np.random.default_rng([seed, zlib.crc32(case_id.encode())])
    return corrupt_scan(image, spacing_mm, rng, config)


def bias_field(
    shape: tuple[int, ...],
    spacing_mm: Spacing,
    rng: np.random.Generator,
    strength: float,
    scale_mm: float,
) -> np.ndarray:
    """Return a smooth positive field (D, H, W) of mean 1, float32.

    Its logarithm is a random cosine series with no half-wavelength below ``scale_mm``, and has
    the standard deviation ``strength``.
    """
    bases = [
        _cosines(size, math.floor(size * pixel / scale_mm))
        for size, pixel in zip(shape, spacing_mm, strict=True)
    ]
    coefficients = rng.standard_normal([len(basis) for basis in bases])
    coefficients[0, 0, 0] = 0  # the constant is set by the mean
    logarithm = np.einsum("abc,ad,bh,cw->dhw", coefficients, *bases, optimize=True)
    spread = logarithm.std()
    if spread == 0:  # the scan is smaller than the scale
        return np.ones(shape, np.float32)
    field = np.exp(logarithm * (strength / spread))
    return (field / field.mean()).astype(np.float32)


def add_ghosts(
    image: np.ndarray,
    rng: np.random.Generator,
    strength: float,
    num_ghosts: int,
    phase_axis: str = "row",
) -> np.ndarray:
    """Return the magnitude of the image (D, H, W) with phase-encode lines modulated, per slice.

    Line ``k`` is multiplied by ``1 + strength * cos(2 pi k / num_ghosts + phase)``, with a random
    phase per slice: replicas of half the strength appear shifted by ``+-size / num_ghosts``
    pixels, around the ends. With ``num_ghosts`` 1 the image is only scaled, and 2 puts both
    replicas in one place.
    """
    axis = PLANE_AXES[phase_axis]
    size = image.shape[axis]
    lines = np.fft.fftfreq(size) * size
    phases = rng.uniform(0, 2 * math.pi, size=len(image))
    modulation = 1 + strength * np.cos(2 * math.pi * lines / num_ghosts + phases[:, None])
    modulation = modulation[:, :, None] if phase_axis == "row" else modulation[:, None, :]
    k_space = np.fft.fft(image, axis=axis)
    return np.abs(np.fft.ifft(k_space * modulation, axis=axis)).astype(np.float32)


def add_rician_noise(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Return abs(image + n1 + i n2), n1 and n2 normal with standard deviation ``sigma``."""
    real, imaginary = rng.normal(0, sigma, size=(2, *image.shape)).astype(np.float32)
    return np.hypot(image + real, imaginary)


def _cosines(size: int, highest: int) -> np.ndarray:
    """Return the cosines (highest + 1, size) with 0 to ``highest`` half-waves along an axis."""
    centres = (np.arange(size) + 0.5) / size
    return np.cos(math.pi * np.arange(highest + 1)[:, None] * centres)
