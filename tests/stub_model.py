"""A shape model for tests of what never trains it: whoever does fails."""

import pytest
from torch import Tensor

from cardiac_vae.shape_model import LossTerms, ShapeModel


class UntrainableModel(ShapeModel):
    """A shape model of which only codes and masks are asked."""

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Fail: nobody here should ask for a bound."""
        pytest.fail("forward: expected no call")

    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        """Fail: nobody here should train."""
        pytest.fail("loss: expected no call")
