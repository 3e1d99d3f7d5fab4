"""What a model draws by itself, and what it should have drawn: a loss on its own broken hearts.

The bound says nothing about codes to which no heart is ever encoded, and the prior draws those too.
As in the sleep phase of Hinton et al. 1995 (Science 268, "The wake-sleep algorithm") the model
draws cases of its own; here the generator learns from them, not the recognition. Where the most
probable mask x of a draw z breaks an anatomical criterion, small repairs make a plausible heart x'
of it, and the pixels that they changed cost what the model says against them:

    L(z) = - sum_{i: x'_i != x_i} log p(x'_i | z),    z ~ p(z)

A sample that is plausible already, or that no small repair makes so, costs nothing.
"""

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.anatomy.repair import repaired_heart
from cardiac_vae.config import StrictConfig
from cardiac_vae.shape_model import ShapeModel

_SMALLEST = 1e-30  # of a probability, so that its logarithm is finite in float32


class SampleRepairConfig(StrictConfig):
    """How often a model draws, and how much its broken samples count.

    Attributes:
        weight: Of the loss above beside the bound; 0 draws nothing.
        num_samples: Drawn at a time, at temperature 1.
        every: Steps from one draw to the next.
    """

    weight: NonNegativeFloat = 0.0
    num_samples: PositiveInt = 8
    every: PositiveInt = 2

    def is_due(self, step: int) -> bool:
        """Say whether a step draws samples."""
        return self.weight > 0 and step % self.every == 0


def sample_repair_loss(
    model: ShapeModel,
    num_samples: int,
    pixel_mm: tuple[float, float],
    condition: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Return the mean loss of samples in nats, and the share of them that is plausible as drawn.

    ``condition`` (num_samples, K) is what a model with conditions is told.
    """
    probabilities = model.sample(num_samples, 1.0, condition)
    log_probability = probabilities.float().clamp(min=_SMALLEST).log()
    scores = log_probability.detach().cpu().numpy()
    drawn = scores.argmax(axis=1).astype(np.uint8)
    wanted, plausible = drawn.copy(), 0
    for index, (mask, score) in enumerate(zip(drawn, scores, strict=True)):
        if mask.any() and is_valid(mask, pixel_mm):
            plausible += 1
        elif mask.any():
            heart = repaired_heart(mask, score, pixel_mm)
            wanted[index] = mask if heart is None else heart
    device = probabilities.device
    changed = torch.from_numpy(wanted != drawn).to(device)
    classes = torch.from_numpy(wanted.astype(np.int64)).to(device)
    cost = -log_probability.gather(1, classes[:, None])[:, 0]
    return (cost * changed).sum() / num_samples, plausible / num_samples
