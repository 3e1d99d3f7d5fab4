"""What a segmenter's output says of the true mask: log p(y | x), and helpers for decided masks.

What is seen of a pixel, p_i, are the segmenter's probabilities, or those of a decided mask that was
blurred: how far the border is and what lies beyond it. Pixels are taken as independent given the
true mask, and a belief that is calibrated on expert masks becomes a likelihood by Bayes:

    log p(y | x) = weight sum_i log p(x_i | p_i) + const
    p(x_i | p_i) = (1 - e) softmax(scale log p_i + bias) + e / C

(Platt 1999; Guo et al. 2017). The class prior by which Bayes divides is uniform: where the belief
is in doubt, on a border, the classes of both sides are about as likely beforehand. Divided by how
frequent they are in the window, four fifths background, each pixel on a border would count as
heart. ``refinement.observation_fit`` fits the map.
"""

import json
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat
from scipy import ndimage

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import NUM_CLASSES

BLUR_MM = 1.5  # how far a drawn border may lie from the true one, if nothing else is known
_LEAST = 0.02  # no class is ever ruled out
_DOUBT = 1e-3
_SMALLEST = 1e-6  # of a probability that a network rounds to 0

PixelSize = tuple[float, float]


class Scaling(StrictConfig):
    """A map of probabilities to calibrated ones; by default nearly the identity.

    Attributes:
        scale: Factor of the log-probabilities, an inverse temperature: below 1 for a segmenter that
            is too sure of itself.
        bias: (C,) added to the scaled log-probabilities.
        floor: Share of pixels where the segmenter, sure as it may be, knows nothing.
    """

    scale: PositiveFloat = 1.0
    bias: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    floor: float = Field(default=1e-3, gt=0, lt=1)

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (N, C, ...) float64 of a segmenter's (N, C, ...)."""
        planes = (NUM_CLASSES, *[1] * (probabilities.ndim - 2))
        logits = self.scale * log_probabilities(probabilities) + np.reshape(self.bias, planes)
        mapped = np.exp(logits - logits.max(axis=1, keepdims=True))
        mapped /= mapped.sum(axis=1, keepdims=True)
        return (1 - self.floor) * mapped + self.floor / NUM_CLASSES


class ObservationModel(StrictConfig):
    """How a segmenter errs. Without a fit: as if its borders were off by a millimeter or two.

    Attributes:
        blur_mm: By how much a decided mask is blurred (``soft_mask``).
        of_mask: Calibration of the blurred mask.
        of_probabilities: Calibration of the segmenter's own probabilities.
        weight: Exponent of the likelihood. Errors of neighboring pixels go together, so the product
            over pixels overstates what the segmenter knows of a whole shape; a power below 1 takes
            that back (a power likelihood: Bissiri, Holmes & Walker 2016). The fit makes single
            pixels right and leaves it at 1; what it should be beside other experts that see the
            same pixels is chosen with them, ``observation_fit.best_weight``.
    """

    blur_mm: PositiveFloat = BLUR_MM
    of_mask: Scaling = Scaling()
    of_probabilities: Scaling = Scaling()
    weight: NonNegativeFloat = 1.0

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no observation model.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: expected a fitted observation model, found none; fit one on validation "
                "patients, or leave it out for the default"
            )
        try:
            values = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}: expected JSON, got {error}; fit the observation model again"
            ) from None
        if not isinstance(values, dict):
            raise ValueError(f"{path}: expected a mapping, got {type(values).__name__}")
        return cls.parse(values, str(path))

    def save(self, path: Path) -> None:
        """Write the model as JSON."""
        path.write_text(self.model_dump_json(indent=1))

    def log_likelihood(
        self, drawn: np.ndarray, pixel_mm: PixelSize, probabilities: np.ndarray | None = None
    ) -> np.ndarray:
        """Return ``weight`` log p(y_i | x_i = c) of each pixel and class, (D, C, H, W) in nats.

        Up to a constant of each pixel; arguments and errors are those of ``belief``.
        """
        return self.weight * np.log(self.belief(drawn, pixel_mm, probabilities))

    def belief(
        self, drawn: np.ndarray, pixel_mm: PixelSize, probabilities: np.ndarray | None = None
    ) -> np.ndarray:
        """Return p(x_i | p_i), the calibrated belief by the segmenter alone, (D, C, H, W) float64.

        ``drawn`` (D, H, W) is the segmenter's mask, which is what is observed where there are no
        ``probabilities`` (D, C, H, W).

        Raises:
            ValueError: if the shapes do not fit each other.
        """
        if drawn.ndim != 3:
            raise ValueError(f"drawn: expected a mask (D, H, W), got shape {drawn.shape}")
        if probabilities is None:
            return self.of_mask.apply(soft_mask(drawn, pixel_mm, self.blur_mm))
        expected = (len(drawn), NUM_CLASSES, *drawn.shape[1:])
        if probabilities.shape != expected:
            raise ValueError(
                f"probabilities: expected shape {expected} beside a mask {drawn.shape}, "
                f"got {probabilities.shape}"
            )
        return self.of_probabilities.apply(probabilities)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return logarithms as float64, of no less than a millionth."""
    return np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))


def one_hot_planes(mask: np.ndarray) -> np.ndarray:
    """Return (D, C, H, W) float32 of a decided mask (D, H, W)."""
    classes = np.arange(NUM_CLASSES, dtype=mask.dtype)[:, None, None]
    return (mask[:, None] == classes).astype(np.float32)


def doubted(probabilities: np.ndarray, mask: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return probabilities (N, C, H, W) that hardly believe a mask (N, H, W) at some voxels.

    ``where`` is (N, H, W) bool; there the class that the mask draws loses all but a thousandth.
    """
    planes = one_hot_planes(mask).astype(bool) & where[:, None]
    doubtful = np.where(planes, _DOUBT * probabilities, probabilities)
    return doubtful / doubtful.sum(axis=1, keepdims=True)


def soft_mask(mask: np.ndarray, pixel_mm: PixelSize, blur_mm: float = BLUR_MM) -> np.ndarray:
    """Return probabilities (D, C, H, W) float32 for a decided mask (D, H, W).

    Sure inside a structure, unsure along its border; every class keeps a little everywhere, for a
    decided mask says nothing of how sure the segmenter was.
    """
    sigma = (0, 0, blur_mm / pixel_mm[0], blur_mm / pixel_mm[1])
    blurred = ndimage.gaussian_filter(one_hot_planes(mask), sigma, truncate=2.0)
    blurred = _LEAST / NUM_CLASSES + (1 - _LEAST) * blurred
    return blurred / blurred.sum(axis=1, keepdims=True)
