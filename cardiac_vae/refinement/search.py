"""The search for a slice's most probable heart, from what is most probable to what is last.

Lots of candidates (``guarantee``) come first, then the way to the nearest training shape
(``bisection``), then training shapes and what is left of a heart that gives structures up.
"""

from dataclasses import dataclass

import numpy as np

from cardiac_vae.anchors import nearest
from cardiac_vae.metrics.presence import present_structures
from cardiac_vae.refinement.bisection import walk_to_nearest
from cardiac_vae.refinement.guarantee import (
    EMPTIED,
    Candidate,
    most_probable_valid,
    partial_hearts,
    whole_hearts,
)
from cardiac_vae.refinement.inference import log_floored, normalized
from cardiac_vae.refinement.window import HeartWindow
from cardiac_vae.shape_model import ShapeModel

TOWARDS_TRAINING_SHAPE = "towards a training shape"
TRAINING_SHAPE = "training shape"
LAST_RESORTS = (TOWARDS_TRAINING_SHAPE, TRAINING_SHAPE, EMPTIED)
_MOST_WALKS = 3  # towards training shapes, where no repair is a heart


@dataclass(frozen=True)
class Search:
    """What is searched beside the candidates that a slice itself gives rise to.

    Attributes:
        model: In eval mode.
        anchors: (N, S, S) valid training shapes.
        num_anchors: How many of them are tried, nearest first.
    """

    model: ShapeModel
    anchors: np.ndarray
    num_anchors: int

    def best(
        self,
        drawn: np.ndarray,
        given: np.ndarray,
        scores: tuple[np.ndarray, np.ndarray],
        window: HeartWindow,
        expected: np.ndarray,
    ) -> Candidate:
        """Return the most probable valid mask of a slice, (h, w) on the window.

        ``drawn`` (h, w) is the slice as drawn and ``given`` (C, S, S) what the model saw;
        ``scores`` are log q(x) and log p(x | z), (C, h, w). One that holds the ``expected``
        structures (3,) if there is any, else any valid one; and there always is one, for an empty
        slice breaks nothing.
        """
        log_score, log_model = scores

        def is_whole(mask: np.ndarray) -> bool:
            holds = present_structures(mask[None])[0]
            return bool(holds[expected].all()) and window.is_valid(mask)

        tried = []
        for lot in whole_hearts(drawn, log_score, log_model):
            best = most_probable_valid(lot, log_score, is_whole)
            if best is not None:
                return best
            tried.append(lot)
        shapes = nearest(self.anchors, _prepared_score(log_score, window), self.num_anchors)
        walked = walk_to_nearest(self.model, given, shapes[:_MOST_WALKS], window, is_whole)
        if walked is not None:
            return Candidate(TOWARDS_TRAINING_SHAPE, walked)
        last = [Candidate(TRAINING_SHAPE, shape) for shape in window.masks_to_native(shapes)]
        emptied, *parts = partial_hearts(drawn, log_score)
        best = most_probable_valid([*last, *parts], log_score, is_whole)
        for lot in (*tried, [*last, *parts, emptied]):
            best = best or most_probable_valid(lot, log_score, window.is_valid)
        return best or emptied


def _prepared_score(log_score: np.ndarray, window: HeartWindow) -> np.ndarray:
    """Return a log-score (C, h, w) on the prepared grid, (C, S, S), normalized per pixel."""
    return log_floored(window.to_prepared(normalized(log_score[None])))[0]
