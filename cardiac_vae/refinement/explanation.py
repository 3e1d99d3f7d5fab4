"""How the shape model explains what was seen of slices: by its encoder alone, or by the bound.

Amortized, the code of a slice is where the encoder puts it: one pass. Optimized, q(z) starts there
and moves up the refiner's bound (``moving_code``).
"""

from typing import Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.shape_model import ShapeModel

Estimator = Literal["reparametrized", "natural", "score_function"]


class ExplanationConfig(StrictConfig):
    """Where the code of a slice is, and how it moves.

    Attributes:
        mode: ``amortized`` leaves it at the encoder's mean, ``optimized`` moves a normal from there
            up the bound. What follows is for the latter.
        estimator: The gradient through the draws; that times the inverse Fisher information; or the
            score function with control variates, which only evaluates the decoder.
        num_draws: Of q(z), in each mean over it.
        max_steps: Tried for a slice at most, over all sweeps.
        step_size: Of the first step; a slice's own grows where a step is kept and falls where not.
        tolerance: A step that lifts the bound of a slice by this or less, in nats, is its last.
        num_groups: Latent groups that move, from the top; the noise of those below stays the
            encoder's. All move if None.
        start_width: Share of the encoder's spread that q(z) starts with. A spread that is too wide
            for groups whose lower ones are points makes of every mean over draws a lottery; one
            that is too narrow costs the logarithm, and grows.
        prior_weight: Weight of KL(q || p), 1 or more. Pixels of a segmenter err together, so that
            their product overstates what it knows of a code; the bound holds for every weight.
        seed: Of the draws.
    """

    mode: Literal["amortized", "optimized"] = "amortized"
    estimator: Estimator = "natural"
    num_draws: PositiveInt = 4
    max_steps: PositiveInt = 10
    step_size: PositiveFloat = 0.3
    tolerance: NonNegativeFloat = 0.5
    num_groups: PositiveInt | None = 2
    start_width: float = Field(default=0.1, gt=0, le=1)
    prior_weight: float = Field(default=1.0, ge=1)
    seed: NonNegativeInt = 0


def explained(model: ShapeModel, seen: np.ndarray, batch_size: int) -> np.ndarray:
    """Return probabilities (N, C, S, S) at the encoder's mean for what was seen, taken as broken.

    ``seen`` is (N, C, S, S) float32, one-hot masks or a segmenter's probabilities.
    """
    parts = []
    for chunk in torch.split(torch.from_numpy(seen), batch_size):
        is_broken = torch.ones(len(chunk), dtype=torch.bool)
        parts.append(model.reconstruct(chunk, is_broken).numpy())
    return np.concatenate(parts)
