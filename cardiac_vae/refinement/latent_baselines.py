"""What a refiner must beat with a shape model of its own: the nearest drawn heart, random search.

Both draw anew only the slices that break a criterion; all others stay as they are, and so does a
broken slice for which no heart is found. They know no stack, no candidates to repair, no training
shape to fall back to.

- Nearest drawn heart: after Painchaud et al. (TMI 2020), who walk to the nearest code. Codes are
  drawn once from a density over the codes of a model, and those that decode to a heart are kept. A
  broken slice becomes the heart whose code is nearest to its own (Euclidean).
- Random search: codes are drawn from the posterior of a broken slice and decoded; of those that are
  hearts, the one with the largest log-probability under the segmenter's probabilities is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.anchors import plausible
from cardiac_vae.data.case import Spacing
from cardiac_vae.densities.code_density import CodeDensity, rows
from cardiac_vae.densities.drawing import draw_codes
from cardiac_vae.labels import most_probable
from cardiac_vae.refinement.guarantee import total
from cardiac_vae.refinement.observation import log_probabilities, one_hot_planes
from cardiac_vae.refinement.window import HeartWindow
from cardiac_vae.shape_model import ShapeModel

_NUM_TRIED = 50  # nearest hearts, until one is valid on the native pixels
_BATCH_SIZE = 64

Redraw = Callable[[np.ndarray, HeartWindow], Sequence[np.ndarray | None]]
"""Broken slices' indices (N,) and the window -> the mask (h, w) of each, None to leave it."""


@dataclass(frozen=True)
class Bank:
    """Hearts that a model drew.

    Attributes:
        hearts: (N, S, S) uint8, each valid on pixels of ``pixel_mm``.
        codes: (N, Z) float64, what they were decoded from.
        num_groups: Latent groups in a code, from the top.
        pixel_mm: Length of a pixel's side.
    """

    hearts: np.ndarray
    codes: Tensor
    num_groups: int
    pixel_mm: float


@torch.no_grad()
def draw_bank(
    model: ShapeModel, density: CodeDensity, num_draws: int, pixel_mm: float, seed: int = 0
) -> Bank:
    """Draw codes from a density over the codes of a model in eval mode; keep those that are hearts.

    Latent groups that the density is not over take their priors' means.

    Raises:
        ValueError: if none of the draws is a heart.
    """
    generator = torch.Generator().manual_seed(seed)
    latents = draw_codes(model, density, num_draws, generator)
    drawn = [
        model.decode([group[start : start + _BATCH_SIZE] for group in latents]).argmax(dim=1)
        for start in range(0, num_draws, _BATCH_SIZE)
    ]
    hearts = torch.cat(drawn).to(torch.uint8).numpy()
    is_heart = plausible(hearts, (pixel_mm, pixel_mm))
    if not is_heart.any():
        raise ValueError(
            f"none of {num_draws} draws from the density is a heart; draw more, or train longer"
        )
    codes = rows(latents)[torch.from_numpy(is_heart)]
    return Bank(hearts[is_heart], codes, density.num_groups, pixel_mm)


class NearestDrawnHeart:
    """Replace every broken slice by the drawn heart whose code is nearest to its own."""

    def __init__(self, model: ShapeModel, bank: Bank) -> None:
        """Take a model in eval mode and hearts that it drew."""
        self.model = model
        self.bank = bank

    def __call__(self, mask: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
        """Return a new mask (D, H, W); ``spacing_mm`` is along (slice, row, column).

        Raises:
            ValueError: if the mask is no label map (D, H, W).
        """

        def redraw(broken: np.ndarray, window: HeartWindow) -> list[np.ndarray | None]:
            codes = self._encode(window.masks_to_prepared(window.cut(mask[broken])))
            return [self._nearest(code, window) for code in codes]

        size = self.bank.hearts.shape[-1]
        return _with_broken_redrawn(mask, spacing_mm, (size, self.bank.pixel_mm), redraw)

    @torch.no_grad()
    def _encode(self, drawn: np.ndarray) -> Tensor:
        """Return the codes (N, Z) of slices (N, S, S), taken as broken."""
        is_broken = torch.ones(len(drawn), dtype=torch.bool)
        latents = self.model.encode(torch.from_numpy(one_hot_planes(drawn)), is_broken)
        return rows(latents[: self.bank.num_groups])

    def _nearest(self, code: Tensor, window: HeartWindow) -> np.ndarray | None:
        distances = (self.bank.codes - code).square().sum(dim=1)
        for index in torch.argsort(distances, stable=True)[:_NUM_TRIED].tolist():
            [native] = window.masks_to_native(self.bank.hearts[index : index + 1])
            if window.is_valid(native):
                return native
        return None


class RandomSearch:
    """Replace every broken slice by the most probable heart among draws of its posterior."""

    def __init__(
        self, model: ShapeModel, size: int, pixel_mm: float, num_decodings: int, seed: int = 0
    ) -> None:
        """Take a model in eval mode of masks (S, S), S = ``size`` pixels of ``pixel_mm`` a side.

        Of every broken slice ``num_decodings`` codes are drawn and decoded.

        Raises:
            ValueError: if the model has no posterior: all its draws for a mask are one.
        """
        self.model = model
        self.size = size
        self.pixel_mm = pixel_mm
        self.num_decodings = num_decodings
        self.seed = seed
        if not self._has_posterior():
            raise ValueError("the model has one code for a mask, and no posterior to search in")

    @torch.no_grad()
    def __call__(
        self, mask: np.ndarray, spacing_mm: Spacing, probabilities: np.ndarray
    ) -> np.ndarray:
        """Return a new mask (D, H, W) for one of a segmenter and its probabilities (D, C, H, W).

        The draws depend on the seed and the volume alone.

        Raises:
            ValueError: if the mask is no label map (D, H, W).
        """

        def redraw(broken: np.ndarray, window: HeartWindow) -> list[np.ndarray | None]:
            seen = window.cut(probabilities[broken]).astype(np.float32)
            log_score = log_probabilities(seen)
            prepared = torch.from_numpy(window.to_prepared(seen))
            best: list[np.ndarray | None] = [None] * len(broken)
            best_score = np.full(len(broken), -np.inf)
            for _ in range(self.num_decodings):
                drawn = most_probable(window.to_native(self._draw(prepared)))
                for at, candidate in enumerate(drawn):
                    score = total(candidate, log_score[at])
                    if score > best_score[at] and window.is_valid(candidate):
                        best[at], best_score[at] = candidate, score
            return best

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return _with_broken_redrawn(mask, spacing_mm, (self.size, self.pixel_mm), redraw)

    def _draw(self, seen: Tensor) -> np.ndarray:
        """Return the probabilities (N, C, S, S) decoded from a draw of each slice's posterior."""
        is_broken = torch.ones(len(seen), dtype=torch.bool)
        latents = self.model.encode(seen, is_broken, temperature=1.0)
        return self.model.decode(latents).softmax(dim=1).numpy()

    @torch.no_grad()
    def _has_posterior(self) -> bool:
        twice = np.zeros((2, self.size, self.size), np.uint8)
        with torch.random.fork_rng(devices=[]):
            latents = self.model.encode(torch.from_numpy(one_hot_planes(twice)), temperature=1.0)
        return any(not torch.equal(*group) for group in latents)


def _with_broken_redrawn(
    mask: np.ndarray, spacing_mm: Spacing, grid: tuple[int, float], redraw: Redraw
) -> np.ndarray:
    """Return a copy of a mask (D, H, W) whose broken slices are what ``redraw`` makes of them.

    ``grid`` is the model's: pixels a side and their size in mm. The window lies around the mask.
    """
    verdict = check_volume(mask, spacing_mm)
    broken = np.flatnonzero([any(found.values()) for found in verdict.slices])
    redrawn = mask.copy()
    if len(broken):
        window = HeartWindow.around(mask, spacing_mm, *grid)
        for index, drawn in zip(broken, redraw(broken, window), strict=True):
            if drawn is not None:
                redrawn[index] = window.paste(drawn)
    return redrawn
