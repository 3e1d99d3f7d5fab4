"""Steps up a noisy gradient: Adam (Kingma & Ba 2015) with steps that fall as Robbins & Monro ask.

rho_t = size (1 + t / delay)^-decay,    sum rho_t = inf,  sum rho_t^2 < inf  for 1/2 < decay <= 1
"""

from typing import NamedTuple, Self

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from cardiac_vae.config import StrictConfig

FIRST_DECAY, SECOND_DECAY = 0.9, 0.999
TINY = 1e-8


class StepSizes(StrictConfig):
    """How far a step goes, in the units of the parameters.

    Attributes:
        size: The first step.
        delay: After how many steps the size has fallen to 2^-decay of the first.
        decay: Above 1/2, so that the noise averages out; at most 1, so that no start is too far.
    """

    size: PositiveFloat = 0.1
    delay: PositiveFloat = 100.0
    decay: float = Field(default=0.75, gt=0.5, le=1.0)

    def at(self, step: int) -> float:
        """Return the size of a step, counted from 0."""
        return self.size * (1 + step / self.delay) ** -self.decay


class Adam(NamedTuple):
    """Running means of the gradient and of its square, the shape of the parameters."""

    first: Tensor
    second: Tensor
    num_steps: int = 0

    @classmethod
    def at_rest(cls, parameters: Tensor) -> Self:
        """Return the state before the first step."""
        return cls(torch.zeros_like(parameters), torch.zeros_like(parameters))

    def step(self, parameters: Tensor, gradient: Tensor, sizes: StepSizes) -> tuple[Tensor, "Adam"]:
        """Return the parameters after one step up the gradient, and the new state."""
        first = torch.lerp(gradient, self.first, FIRST_DECAY)
        second = torch.lerp(gradient.square(), self.second, SECOND_DECAY)
        count = self.num_steps + 1
        scale = (second / (1 - SECOND_DECAY**count)).sqrt() + TINY
        change = first / (1 - FIRST_DECAY**count) / scale
        return parameters + sizes.at(self.num_steps) * change, Adam(first, second, count)
