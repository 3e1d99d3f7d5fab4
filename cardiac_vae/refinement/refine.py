"""The refiner: a segmenter's mask in, a mask that is a heart in every slice out.

Slices that break a criterion, or draw a structure apart from its largest part, are explained by
the shape model (one pass of the encoder trained on broken masks); the explanation is multiplied
with what the segmenter said, and the most probable valid candidate is taken. A volume that breaks
nothing comes back as it was.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveInt

from cardiac_vae.anatomy.criteria import (
    CRITERIA,
    VolumeVerdict,
    check_volume,
    volume_verdict,
)
from cardiac_vae.anchors import nearest, read_anchors
from cardiac_vae.checkpoint import load_model, pixel_size
from cardiac_vae.config import StrictConfig
from cardiac_vae.data.case import Spacing
from cardiac_vae.labels import NUM_CLASSES, Structure
from cardiac_vae.refinement.guarantee import (
    EMPTIED,
    Candidate,
    most_probable_valid,
    partial_hearts,
    whole_hearts,
)
from cardiac_vae.refinement.observation import (
    detached_voxels,
    doubted,
    one_hot_planes,
    soft_mask,
)
from cardiac_vae.refinement.window import HeartWindow
from cardiac_vae.shape_model import ShapeModel

UNTOUCHED = "untouched"
TRAINING_SHAPE = "training shape"
LAST_RESORTS = (TRAINING_SHAPE, EMPTIED)


class RefinementConfig(StrictConfig):
    """How masks are refined.

    Attributes:
        segmenter_exponent: Weight of the segmenter beside the shape model, in the product of the
            two; 0 is the projection alone.
        whole_volume: Refine every slice of a volume that breaks a criterion, not only those that
            break one or draw a structure apart from its largest part.
        num_anchors: Training shapes tried where nothing else is valid, nearest first.
        batch_size: Slices explained at a time; bounds memory.
    """

    segmenter_exponent: NonNegativeFloat = 1.0
    whole_volume: bool = False
    num_anchors: PositiveInt = 50
    batch_size: PositiveInt = 32


@dataclass(frozen=True)
class SliceDecision:
    """What became of a slice.

    Attributes:
        index: Which slice.
        route: ``untouched``, or how the new mask came about.
        changed_pixels: Pixels whose structure is another now.
    """

    index: int
    route: str
    changed_pixels: int


@dataclass(frozen=True)
class RefinementResult:
    """A refined volume and how it came about.

    Attributes:
        mask: (D, H, W) uint8, values of ``Structure``; a copy of the input if nothing changed.
        is_changed: Whether any voxel is another now.
        before: The criteria on the input.
        after: The criteria on the result; always valid.
        slices: The decision for each slice.
        warnings: What the user should know, one line each.
    """

    mask: np.ndarray
    is_changed: bool
    before: VolumeVerdict
    after: VolumeVerdict
    slices: tuple[SliceDecision, ...]
    warnings: tuple[str, ...] = ()


class Refiner:
    """A shape model, the valid shapes it learnt from, and the settings of their use."""

    def __init__(
        self,
        model: ShapeModel,
        anchors: np.ndarray,
        pixel_mm: float,
        config: RefinementConfig | None = None,
    ) -> None:
        """Take a model in eval mode and its anchors (N, S, S), S pixels of ``pixel_mm`` a side."""
        self.model = model
        self.anchors = anchors
        self.pixel_mm = pixel_mm
        self.config = config or RefinementConfig()

    @classmethod
    def load(cls, folder: Path, config: RefinementConfig | None = None) -> Self:
        """Load the refiner of a trained model's folder.

        Raises:
            FileNotFoundError: if the folder is no model's, or incomplete.
            ValueError: if its files do not fit each other.
        """
        return cls(load_model(folder), read_anchors(folder), pixel_size(folder), config)

    def refine(
        self,
        mask: np.ndarray,
        spacing_mm: Spacing,
        probabilities: np.ndarray | None = None,
        *,
        refine_valid: bool = False,
    ) -> RefinementResult:
        """Refine a mask (D, H, W) of ``Structure`` values; ``spacing_mm`` is (slice, row, column).

        ``probabilities`` (D, C, H, W) are the segmenter's, if it gave any. A mask that breaks no
        criterion is returned as it is, unless ``refine_valid``; so is an empty one. A slice that
        became something else than a repair of what was drawn is named in the warnings.

        Raises:
            ValueError: if the probabilities are not on the mask's grid.
        """
        before = check_volume(mask, spacing_mm)
        if not mask.any():
            return _as_it_is(mask, before, ("the mask is all background: nothing to refine",))
        if before.is_valid and not refine_valid:
            return _as_it_is(mask, before)
        expected = (len(mask), NUM_CLASSES, *mask.shape[1:])
        if probabilities is not None and probabilities.shape != expected:
            raise ValueError(
                f"expected probabilities (D, C, H, W) on the mask's grid, {expected}, "
                f"got shape {probabilities.shape}; give those the mask was decided from"
            )
        detached = detached_voxels(mask)
        drawn = np.where(detached, np.uint8(Structure.BACKGROUND), mask)
        is_chosen = np.array([any(broken.values()) for broken in before.slices])
        is_chosen |= np.any(detached, axis=(1, 2))
        if self.config.whole_volume or refine_valid:
            is_chosen |= mask.any(axis=(1, 2))
        chosen = np.flatnonzero(is_chosen)
        window = HeartWindow.around(drawn, spacing_mm, self.anchors.shape[-1], self.pixel_mm)
        seen = None
        if probabilities is not None:
            parts = (probabilities[chosen], mask[chosen], detached[chosen])
            seen = doubted(*(window.cut(part) for part in parts))
        refined, routes = mask.copy(), {}
        found = self._refine_slices(window.cut(drawn[chosen]), seen, window)
        for index, candidate in zip(chosen, found, strict=True):
            refined[index], routes[int(index)] = window.paste(candidate.mask), candidate.route
        changed = (refined != mask).sum(axis=(1, 2))
        after = list(before.slices)
        for index in np.flatnonzero(changed):
            after[index] = dict.fromkeys(CRITERIA, 0.0)  # as was found when it was chosen
        return RefinementResult(
            mask=refined,
            is_changed=bool(changed.any()),
            before=before,
            after=volume_verdict(refined, after),
            slices=tuple(
                SliceDecision(index, routes.get(index, UNTOUCHED), int(count))
                for index, count in enumerate(changed)
            ),
            warnings=tuple(
                f"slice {index}: no repair of what was drawn is a heart ({route}); look at it"
                for index, route in routes.items()
                if route in LAST_RESORTS
            ),
        )

    def _refine_slices(
        self, drawn: np.ndarray, probabilities: np.ndarray | None, window: HeartWindow
    ) -> list[Candidate]:
        """Return the new mask of each slice (N, h, w), all on the window."""
        if probabilities is None:
            seen = soft_mask(drawn, window.native.pixel_mm)
            explained = self._explain(one_hot_planes(window.masks_to_prepared(drawn)))
        else:
            seen = probabilities.astype(np.float32)
            explained = self._explain(window.to_prepared(seen))
        log_model = _log(window.to_native(explained))
        log_scores = log_model + self.config.segmenter_exponent * _log(seen)
        return [
            self._best(*slices, window) for slices in zip(drawn, log_scores, log_model, strict=True)
        ]

    def _explain(self, seen: np.ndarray) -> np.ndarray:
        """Return the model's probabilities (N, C, S, S) for what was seen, taken as broken."""
        explained = []
        for chunk in torch.split(torch.from_numpy(seen), self.config.batch_size):
            is_broken = torch.ones(len(chunk), dtype=torch.bool)
            explained.append(self.model.reconstruct(chunk, is_broken).numpy())
        return np.concatenate(explained)

    def _best(
        self, drawn: np.ndarray, log_score: np.ndarray, log_model: np.ndarray, window: HeartWindow
    ) -> Candidate:
        """Return the most probable valid mask of a slice, (h, w) on the window.

        There always is one: an empty slice breaks nothing, and stands among the last candidates.
        """
        for lot in whole_hearts(drawn, log_score, log_model):
            best = most_probable_valid(lot, log_score, window.is_valid)
            if best is not None:
                return best
        shapes = nearest(self.anchors, _prepared_score(log_score, window), self.config.num_anchors)
        emptied, *parts = partial_hearts(drawn, log_score)
        last = [Candidate(TRAINING_SHAPE, shape) for shape in window.masks_to_native(shapes)]
        return most_probable_valid([*last, *parts, emptied], log_score, window.is_valid) or emptied


def _as_it_is(
    mask: np.ndarray, verdict: VolumeVerdict, warnings: tuple[str, ...] = ()
) -> RefinementResult:
    decisions = tuple(SliceDecision(index, UNTOUCHED, 0) for index in range(len(mask)))
    return RefinementResult(mask.copy(), False, verdict, verdict, decisions, warnings)


def _prepared_score(log_score: np.ndarray, window: HeartWindow) -> np.ndarray:
    """Return a log-score (C, h, w) on the prepared grid, (C, S, S), normalized per pixel."""
    probabilities = np.exp(log_score - log_score.max(axis=0))
    probabilities /= probabilities.sum(axis=0)
    return _log(window.to_prepared(probabilities[None]))[0]


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, 1e-6))
