"""The refiner: a segmenter's mask in, a mask that is a heart in every slice out.

Slices that break a criterion, draw a structure apart from its largest part, or hold a structure
that the stack says should not be there, or the reverse, are explained by the shape model (one pass
of the encoder trained on broken masks; then, if asked, steps up the bound). The explanation is
multiplied with what the segmenter said and, where the scan is given, with what its intensities say
(``inference``); the most probable valid candidate is taken. Where a corrector knows the segmenter's
mistakes, the encoder sees what it makes of a slice. A volume in which nothing is wrong comes back
as it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt, model_validator

from cardiac_vae.anatomy.criteria import (
    CRITERIA,
    check_volume,
    volume_verdict,
)
from cardiac_vae.anchors import read_anchors
from cardiac_vae.checkpoint import load_model, pixel_size
from cardiac_vae.config import StrictConfig
from cardiac_vae.correction.restraint import RestraintConfig, restrained
from cardiac_vae.data.case import Spacing
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.labels import NUM_CLASSES, Phase, Structure
from cardiac_vae.metrics.presence import present_structures
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.doubt import Doubt, limited
from cardiac_vae.refinement.explanation import ExplanationConfig, explained
from cardiac_vae.refinement.inference import (
    InferenceConfig,
    Inferred,
    infer,
    infer_without_scan,
    log_floored,
)
from cardiac_vae.refinement.moving_code import MovingCode
from cardiac_vae.refinement.native_grid import NativeGrid
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.result import UNTOUCHED, RefinementResult, SliceDecision
from cardiac_vae.refinement.search import LAST_RESORTS, Search
from cardiac_vae.refinement.seen import stack_evidence
from cardiac_vae.refinement.stack.consistency import inconsistencies
from cardiac_vae.refinement.stack.decisions import (
    DecisionConfig,
    PresenceDecision,
    decide,
    presence_term,
)
from cardiac_vae.refinement.stack.evidence import peaks
from cardiac_vae.refinement.stack.slice_order import Fault
from cardiac_vae.refinement.window import HeartWindow, require_one_grid
from cardiac_vae.shape_model import ShapeModel

_TOLD: tuple[Fault, ...] = ("swapped", "shifted")
"""Faults of a stack that are told. A missing slice is not: sound stacks look it as often."""
_MOST_LOOKS = 5  # at a volume, until it hangs together


class RefinementConfig(StrictConfig):
    """How masks are refined.

    Attributes:
        segmenter_exponent: Weight of the segmenter beside the shape model, in the product of the
            two; 0 is the projection alone.
        whole_volume: Refine every slice of a volume that breaks a criterion, not only those that
            break one or draw a structure apart from its largest part.
        num_anchors: Training shapes tried where nothing else is valid, nearest first.
        batch_size: Slices explained at a time; bounds memory.
        correction: How far a corrector may go, where a calibration has one.
        explanation: How the shape model explains a slice.
        presence: When the stack's word counts, where a calibration knows stacks.
        inference: How the scan's intensities are used, where the scan is given.
    """

    segmenter_exponent: NonNegativeFloat = 1.0
    whole_volume: bool = False
    num_anchors: PositiveInt = 50
    batch_size: PositiveInt = 32
    correction: RestraintConfig = RestraintConfig()
    explanation: ExplanationConfig = ExplanationConfig()
    presence: DecisionConfig = DecisionConfig()
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="after")
    def _something_moves_the_code(self) -> Self:
        if self.explanation.mode == "optimized" and self.segmenter_exponent == 0:
            raise ValueError(
                "segmenter_exponent: expected above 0 where codes move, got 0; what the segmenter "
                "said is all that holds a code to its slice"
            )
        return self


class Refiner:
    """A shape model, the valid shapes it learnt from, how the segmenter errs, and settings."""

    def __init__(
        self,
        model: ShapeModel,
        anchors: np.ndarray,
        pixel_mm: float,
        config: RefinementConfig | None = None,
        calibration: Calibration | None = None,
        density: CodeDensity | None = None,
    ) -> None:
        """Take a model in eval mode and its anchors (N, S, S), S pixels of ``pixel_mm`` a side.

        Without a ``calibration`` the segmenter is taken at its word, and slices are as drawn. A
        ``density`` of the model's codes takes the place of its prior where codes move.

        Raises:
            ValueError: if the density is over other codes than the model's, or the calibration's
                corrector learnt on another grid or is missing.
        """
        if density is not None:
            density.require_fit(model)
        calibration = calibration or Calibration()
        if calibration.corrector is not None:
            calibration.corrector.require_grid(anchors.shape[-1], pixel_mm)
        elif calibration.stack is not None and calibration.stack.hears_corrector:
            raise ValueError(
                "calibration: expected the corrector that its stack.json goes with, got none; "
                "run the stage calibrate again, or copy its folder whole"
            )
        self.model = model
        self.anchors = anchors
        self.pixel_mm = pixel_mm
        self.config = config or RefinementConfig()
        self.calibration = calibration
        self.density = density

    @classmethod
    def load(
        cls,
        folder: Path,
        config: RefinementConfig | None = None,
        calibration: Calibration | None = None,
        density: CodeDensity | None = None,
    ) -> Self:
        """Load the refiner of a trained model's folder.

        Raises:
            FileNotFoundError: if the folder is no model's, or incomplete.
            ValueError: if its files do not fit each other.
        """
        model, anchors = load_model(folder), read_anchors(folder)
        return cls(model, anchors, pixel_size(folder), config, calibration, density)

    def refine(
        self,
        mask: np.ndarray,
        spacing_mm: Spacing,
        probabilities: np.ndarray | None = None,
        image: np.ndarray | None = None,
        *,
        phase: Phase | None = None,
        refine_valid: bool = False,
    ) -> RefinementResult:
        """Refine a mask (D, H, W) of ``Structure`` values; ``spacing_mm`` is (slice, row, column).

        ``probabilities`` (D, C, H, W) are the segmenter's, ``image`` (D, H, W) is the scan and
        ``phase`` the instant of the cycle, where they are known. A mask in which nothing is wrong
        is returned as it is, unless ``refine_valid``; so is an empty one. A slice that became
        something else than a repair of what was drawn is named in the warnings.

        Raises:
            ValueError: if probabilities or image are not on the mask's grid.
        """
        require_one_grid(mask, probabilities, image)
        before = check_volume(mask, spacing_mm)
        if not mask.any():
            return RefinementResult.unchanged(
                mask, before, ("the mask is all background: nothing to refine",)
            )
        decisions, gain = self._presence(mask, probabilities, spacing_mm, phase)
        doubt = Doubt.of(mask, spacing_mm, before, decisions, gain)
        drawn = np.where(doubt.is_wrong, np.uint8(Structure.BACKGROUND), mask)
        warnings = self._misplaced(drawn, spacing_mm)
        is_fine = not doubt.is_chosen.any() and not inconsistencies(mask, spacing_mm)
        if is_fine and not refine_valid:
            return RefinementResult.unchanged(mask, before, tuple(warnings))
        if self.config.whole_volume or refine_valid:
            doubt = replace(doubt, is_chosen=doubt.is_chosen | mask.any(axis=(1, 2)))
        centered_on = drawn if drawn.any() else mask
        window = HeartWindow.around(centered_on, spacing_mm, self.anchors.shape[-1], self.pixel_mm)
        for _ in range(_MOST_LOOKS):
            redrawn = self._redraw(mask, doubt, window, probabilities, image)
            faults = inconsistencies(redrawn.mask, spacing_mm)
            closer = doubt.about(redrawn.mask, spacing_mm)
            if not faults or closer.is_as(doubt):
                break
            doubt = closer
        if faults:
            reason = "; ".join([*faults, *warnings])
            return RefinementResult.unchanged(mask, before, (reason,), is_refused=True)
        changed = (redrawn.mask != mask).sum(axis=(1, 2))
        after = list(before.slices)
        for index in np.flatnonzero(changed):
            after[index] = dict.fromkeys(CRITERIA, 0.0)  # as was found when it was chosen
        return RefinementResult(
            mask=redrawn.mask,
            is_changed=bool(changed.any()),
            before=before,
            after=volume_verdict(redrawn.mask, after),
            slices=tuple(
                SliceDecision(index, redrawn.routes.get(index, UNTOUCHED), int(count))
                for index, count in enumerate(changed)
            ),
            warnings=(*warnings, *_warnings(redrawn.routes, decisions, redrawn.inferred)),
            bounds=redrawn.inferred.bounds,
        )

    def shown(
        self,
        mask: np.ndarray,
        doubt: Doubt,
        window: HeartWindow,
        probabilities: np.ndarray | None,
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Return what is believed of the slices to draw anew, as ``HeartWindow.shown``.

        What the shape model is shown is what a corrector makes of it, where there is one.
        """
        chosen, corrector = np.flatnonzero(doubt.is_chosen), self.calibration.corrector
        rows = chosen if corrector is None else np.arange(len(mask))  # it looks at neighbors
        of_rows = None if probabilities is None else probabilities[rows]
        seen, given = window.shown(mask[rows], doubt.is_wrong[rows], of_rows)
        if corrector is None:
            return seen, given
        corrected = corrector.correct(given, chosen)
        given = restrained(corrected, given[chosen], self.config.correction)
        return None if seen is None else seen[chosen], given

    def _redraw(
        self,
        mask: np.ndarray,
        doubt: Doubt,
        window: HeartWindow,
        probabilities: np.ndarray | None,
        image: np.ndarray | None,
    ) -> "_Redrawn":
        """Draw the chosen slices of a mask (D, H, W) anew."""
        chosen = np.flatnonzero(doubt.is_chosen)
        believed = window.cut(np.where(doubt.is_wrong, np.uint8(Structure.BACKGROUND), mask))
        drawn, gain = believed[chosen], doubt.gain[chosen, :, None, None]
        seen, given = self.shown(mask, doubt, window, probabilities)
        explanation = explained(self.model, given, self.config.batch_size)
        log_model = log_floored(window.to_native(explanation))
        observed = self._observed(drawn, seen, window)
        log_joint, code = log_model + observed + gain, None
        if self.config.explanation.mode == "optimized" and len(chosen):
            grid, settings = NativeGrid.of(window), self.config.explanation
            code = MovingCode(self.model, grid, given, observed + gain, settings, self.density)
        if image is not None and len(chosen):
            scan, planes = window.cut(image), one_hot_planes(believed)
            how = self.config.inference
            inferred = infer(log_joint, scan, planes, doubt.is_chosen, how, code)
        else:
            inferred = infer_without_scan(log_joint, code)
        log_model = log_model if code is None else code.log_model
        refined, routes = mask.copy(), {}
        search = Search(self.model, self.anchors, self.config.num_anchors)
        for at, index in enumerate(chosen):
            scores = limited(inferred.log_belief[at], doubt.largest[index]), log_model[at]
            candidate = search.best(drawn[at], given[at], scores, window, doubt.expected[index])
            refined[index], routes[int(index)] = window.paste(candidate.mask), candidate.route
        return _Redrawn(refined, routes, inferred)

    def _misplaced(self, drawn: np.ndarray, spacing_mm: Spacing) -> list[str]:
        """Return what is to be said of slices out of place."""
        order = self.calibration.slice_order
        found = [] if order is None else order.misplaced(drawn, spacing_mm, _TOLD)
        return [f"{fault}; look at the stack" for fault in found]

    def _presence(
        self,
        mask: np.ndarray,
        probabilities: np.ndarray | None,
        spacing_mm: Spacing,
        phase: Phase | None,
    ) -> tuple[list[PresenceDecision], np.ndarray]:
        """Return what the stack says is drawn or missing by mistake, and its term (D, C) in nats.

        Nothing without a calibration that knows stacks, or without probabilities to judge by.
        """
        stack = self.calibration.stack
        if stack is None or probabilities is None:
            return [], np.zeros((len(mask), NUM_CLASSES))
        heard = self.calibration.corrector if stack.hears_corrector else None
        log_odds = stack.log_odds(stack_evidence(mask, probabilities, spacing_mm, heard), phase)
        decisions = decide(present_structures(mask), log_odds, self.config.presence)
        return decisions, presence_term(decisions, peaks(probabilities, spacing_mm[1:]), log_odds)

    def _observed(
        self, drawn: np.ndarray, probabilities: np.ndarray | None, window: HeartWindow
    ) -> np.ndarray:
        """Return the weighed log p(y | x) (N, C, h, w) of slices (N, h, w) of the window."""
        observation, pixel_mm = self.calibration.observation, window.native.pixel_mm
        said = observation.log_likelihood(drawn, pixel_mm, probabilities)
        return np.asarray(self.config.segmenter_exponent * said)


@dataclass(frozen=True)
class _Redrawn:
    """A volume (D, H, W), the route of each slice drawn anew, and what its scan said."""

    mask: np.ndarray
    routes: Mapping[int, str]
    inferred: Inferred


def _warnings(
    routes: Mapping[int, str], presence: Sequence[PresenceDecision], inferred: Inferred
) -> Iterator[str]:
    for index, route in routes.items():
        if route in LAST_RESORTS:
            yield f"slice {index}: no repair of what was drawn is a heart ({route}); look at it"
    yield from map(str, presence)
    if inferred.refusal:
        yield inferred.refusal
