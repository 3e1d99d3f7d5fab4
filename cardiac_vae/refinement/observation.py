"""What a segmenter's output says of the true mask: log p(y | x), and helpers for decided masks.

A pixel is observed as s_i: its probabilities p_i, or of a decided mask its class y_i and the
distance d_i to the nearest border that is drawn in its slice. Pixels are taken as independent given
the true mask, and a belief that is calibrated on expert masks becomes a likelihood by Bayes:

    log p(y | x) = sum_i log p(x_i | s_i) - log prior(x_i) + const
    p(x_i | p_i) = (1 - e) softmax(scale log p_i + bias) + e / C
    p(x_i | y_i, d_i) = share of x_i among validation pixels that were drawn so

(temperature and bias: Platt 1999; Guo et al. 2017). The prior is that of pixels near a heart. In
the whole window nine in ten pixels are background; divided by that, every pixel on a border would
count as heart. A prior by distance would take away what the distance itself says, and leave
nothing against a heart far from the one that was drawn. ``refinement.observation_fit`` fits both.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from scipy import ndimage

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import HEART, NUM_CLASSES

_BLUR_MM = 1.5  # how far a drawn border may lie from the true one
_LEAST = 0.02  # no class is ever ruled out
_DOUBT = 1e-3
_SMALLEST = 1e-6  # of a probability that a network rounds to 0
_UNIFORM = (1 / NUM_CLASSES,) * NUM_CLASSES

PixelSize = tuple[float, float]
Shares = tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat]


class BorderTable(StrictConfig):
    """What is true where a class was drawn, by distance to the nearest drawn border.

    Attributes:
        edges_mm: Where one bin of distance ends and the next begins, ascending. After the last edge
            come two more bins: farther than that, and slices in which no border is drawn at all.
        shares: (B, C, C) p(true class | bin, drawn class); the last axis sums to 1.
    """

    edges_mm: tuple[PositiveFloat, ...]
    shares: tuple[tuple[Shares, Shares, Shares, Shares], ...]

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        if any(low >= high for low, high in pairwise(self.edges_mm)):
            raise ValueError(f"edges_mm: expected ascending distances, got {self.edges_mm}")
        if len(self.shares) != len(self.edges_mm) + 2:
            raise ValueError(
                f"shares: expected {len(self.edges_mm) + 2} bins for {len(self.edges_mm)} edges, "
                f"got {len(self.shares)}"
            )
        if not np.allclose(np.sum(self.shares, axis=-1), 1, atol=1e-6):
            raise ValueError("shares: expected shares that sum to 1 over the true class")
        return self

    def belief(self, drawn: np.ndarray, pixel_mm: PixelSize) -> np.ndarray:
        """Return p(x_i | y_i, d_i) for a mask (D, H, W), as (D, C, H, W)."""
        bins = distance_bins(drawn, pixel_mm, self.edges_mm)
        return np.moveaxis(np.array(self.shares)[bins, drawn], -1, 1)


class ObservationModel(StrictConfig):
    """How a segmenter errs. Without a fit: as if its borders were off by a millimeter or two.

    Attributes:
        border: What is true where a class was drawn; before a fit, a blur of the mask.
        scale: Factor of the log-probabilities, an inverse temperature: below 1 for a segmenter that
            is too sure of itself.
        bias: (C,) added to the log-probabilities.
        floor: Share of pixels where the segmenter, sure as it may be, knows nothing.
        prior: (C,) how frequent the classes are near a heart; before a fit all alike.
        weight: Exponent of the likelihood. Errors of neighboring pixels go together, so the product
            over pixels overstates what the segmenter knows of a whole shape; a power below 1 takes
            that back (a power likelihood: Bissiri, Holmes & Walker 2016). The fit makes single
            pixels right and leaves it at 1; what it should be beside other experts that see the
            same pixels is chosen with them, ``observation_fit.best_weight``.
    """

    border: BorderTable | None = None
    scale: PositiveFloat = 1.0
    bias: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    floor: float = Field(default=1e-3, gt=0, lt=1)
    prior: Shares = _UNIFORM
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
        log_prior = np.log(self.prior)[:, None, None]
        return self.weight * (np.log(self.belief(drawn, pixel_mm, probabilities)) - log_prior)

    def belief(
        self, drawn: np.ndarray, pixel_mm: PixelSize, probabilities: np.ndarray | None = None
    ) -> np.ndarray:
        """Return p(x_i | s_i), the calibrated belief by the segmenter alone, (D, C, H, W) float64.

        ``drawn`` (D, H, W) is the segmenter's mask, which is what is observed where there are no
        ``probabilities`` (D, C, H, W).

        Raises:
            ValueError: if the shapes do not fit each other.
        """
        if drawn.ndim != 3:
            raise ValueError(f"drawn: expected a mask (D, H, W), got shape {drawn.shape}")
        if probabilities is not None:
            expected = (len(drawn), NUM_CLASSES, *drawn.shape[1:])
            if probabilities.shape != expected:
                raise ValueError(
                    f"probabilities: expected shape {expected} beside a mask {drawn.shape}, "
                    f"got {probabilities.shape}"
                )
            return self._calibrated(probabilities)
        if self.border is None:
            return soft_mask(drawn, pixel_mm).astype(np.float64)
        return self.border.belief(drawn, pixel_mm)

    def _calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        logits = self.scale * np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
        logits += np.array(self.bias)[:, None, None]
        mapped = np.exp(logits - logits.max(axis=1, keepdims=True))
        mapped /= mapped.sum(axis=1, keepdims=True)
        return (1 - self.floor) * mapped + self.floor / NUM_CLASSES


def distance_bins(
    drawn: np.ndarray, pixel_mm: PixelSize, edges_mm: tuple[float, ...]
) -> np.ndarray:
    """Return the bin (D, H, W) of each pixel of a mask, by distance as in ``BorderTable``."""
    distance = border_distance_mm(drawn, pixel_mm)
    return np.searchsorted((*edges_mm, np.inf), distance, side="right")


def border_distance_mm(mask: np.ndarray, pixel_mm: PixelSize) -> np.ndarray:
    """Return the distance (D, H, W) in mm of pixels to the nearest border that their slice draws.

    Borders run between neighbors of different classes: the pixels beside them are half a pixel
    away. Infinite in a slice that draws none.
    """
    distance = np.full(mask.shape, np.inf)
    half_pixel = 0.5 * float(np.sqrt(pixel_mm[0] * pixel_mm[1]))
    for plane, found in zip(mask, distance, strict=True):
        beside = np.zeros(plane.shape, bool)
        down, right = plane[1:] != plane[:-1], plane[:, 1:] != plane[:, :-1]
        beside[1:] |= down
        beside[:-1] |= down
        beside[:, 1:] |= right
        beside[:, :-1] |= right
        if beside.any():
            found[:] = ndimage.distance_transform_edt(~beside, sampling=pixel_mm) + half_pixel
    return distance


def one_hot_planes(mask: np.ndarray) -> np.ndarray:
    """Return (D, C, H, W) float32 of a decided mask (D, H, W)."""
    classes = np.arange(NUM_CLASSES, dtype=mask.dtype)[:, None, None]
    return (mask[:, None] == classes).astype(np.float32)


def detached_voxels(mask: np.ndarray) -> np.ndarray:
    """Return where a mask (D, H, W) draws a structure apart from its largest 3-D part, as bool.

    Voxels touch by face, edge or corner. A heart has one of each; what lies apart is a mistake.
    """
    detached = np.zeros(mask.shape, bool)
    boxes = ndimage.find_objects(mask.astype(np.uint8), max_label=max(HEART))
    for structure in HEART:
        box = boxes[structure - 1]
        if box is None:
            continue
        parts, num_parts = ndimage.label(mask[box] == structure, np.ones((3, 3, 3)))
        if num_parts > 1:
            largest = 1 + np.bincount(parts.ravel())[1:].argmax()
            detached[box] |= (parts > 0) & (parts != largest)
    return detached


def doubted(probabilities: np.ndarray, mask: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return probabilities (N, C, H, W) that hardly believe a mask (N, H, W) at some voxels.

    ``where`` is (N, H, W) bool; there the class that the mask draws loses all but a thousandth.
    """
    planes = one_hot_planes(mask).astype(bool) & where[:, None]
    doubtful = np.where(planes, _DOUBT * probabilities, probabilities)
    return doubtful / doubtful.sum(axis=1, keepdims=True)


def soft_mask(mask: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    """Return probabilities (D, C, H, W) float32 for a decided mask (D, H, W).

    Sure inside a structure, unsure along its border; every class keeps a little everywhere, for a
    decided mask says nothing of how sure the segmenter was.
    """
    sigma = (0, 0, _BLUR_MM / pixel_mm[0], _BLUR_MM / pixel_mm[1])
    blurred = ndimage.gaussian_filter(one_hot_planes(mask), sigma, truncate=2.0)
    blurred = _LEAST / NUM_CLASSES + (1 - _LEAST) * blurred
    return blurred / blurred.sum(axis=1, keepdims=True)
