"""What a model draws by itself, and what it should have drawn: a loss on its own broken hearts.

The bound says nothing about codes to which no heart is ever encoded, and the prior draws those too.
As in the sleep phase of Hinton et al. 1995 (Science 268, "The wake-sleep algorithm") the model
draws cases of its own; here the generator learns from them, not the recognition. Where the most
probable mask of a draw z breaks an anatomical criterion, small repairs make a plausible heart x' of
it, and the model is told that this is what the code means:

    L(z) = -log p(x' | z),    z ~ p(z)

The draw z itself has no gradient: else the prior would shrink to where hearts are easy. All pixels
of x' count: if only those did that the repair changed, nothing would hold the others where they
are. Batch norms keep the statistics of encoded masks: with their own, samples are free of what
holds encoded hearts in place, and they shrink away. A sample that is plausible already costs
nothing, nor does one that a small repair does not make plausible.
"""

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.anatomy.repair import repaired
from cardiac_vae.config import StrictConfig
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.layers.batch_statistics import held_statistics
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.shape_model import ShapeModel


class SampleRepairConfig(StrictConfig):
    """How often a model draws, and how much its broken samples count.

    Attributes:
        weight: Of the loss above beside the bound; 0 draws nothing.
        first_share: Share of the steps before the first draw: at first no sample is near a heart.
        num_samples: Drawn at a time, at temperature 1.
        largest_change: Pixels that a repair may change, as a share of the heart's: larger repairs
            mostly take something away, and hearts would learn to be small.
        every: Steps from one draw to the next.
    """

    weight: NonNegativeFloat = 0.0
    first_share: float = Field(default=0.5, ge=0, lt=1)
    num_samples: PositiveInt = 8
    largest_change: float = Field(default=0.1, gt=0)
    every: PositiveInt = 2

    def is_due(self, step: int, progress: float) -> bool:
        """Say whether a step draws samples; ``progress`` is the share of the steps taken."""
        return self.weight > 0 and progress > self.first_share and step % self.every == 0


def sample_repair_loss(
    model: ShapeModel,
    config: SampleRepairConfig,
    pixel_mm: tuple[float, float],
    condition: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Return the mean loss of samples in nats, and the share of them that is plausible as drawn.

    ``condition`` (num_samples, K) is what a model with conditions is told.
    """
    with held_statistics(model):
        with torch.no_grad():
            latents = model.draw(config.num_samples, 1.0, condition)
        logits = model.decode(latents, condition=condition)
    scores = logits.log_softmax(dim=1).detach().cpu().numpy()
    wanted = scores.argmax(axis=1).astype(np.uint8)
    is_repaired, plausible = np.zeros(len(wanted), bool), 0
    for index, (mask, score) in enumerate(zip(wanted, scores, strict=True)):
        if not mask.any():
            continue
        if is_valid(mask, pixel_mm):
            plausible += 1
            continue
        heart = repaired(mask, score)
        is_small = (heart != mask).sum() <= config.largest_change * (mask > 0).sum()
        if is_small and heart.any() and is_valid(heart, pixel_mm):
            wanted[index], is_repaired[index] = heart, True
    device = logits.device
    cost = categorical_nll(logits, one_hot(torch.from_numpy(wanted)).to(device))
    loss = (cost * torch.from_numpy(is_repaired).to(device)).mean()
    return loss, plausible / len(wanted)
