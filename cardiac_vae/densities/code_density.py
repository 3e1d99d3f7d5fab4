"""A density over the codes of a shape model, where its prior does not say where hearts lie.

The prior that the bound of a model is best for is the aggregate posterior (Hoffman & Johnson 2016;
Tomczak & Welling 2018), the mean of q(z | x) over the hearts x:

    q(z) = 1/N sum_n q(z | x_n)

and p(z) is not that: few draws of N(0, I) are hearts. Here p is mended after the fit. In terms of
noise e (``ShapeModel.noise_of``), where every prior is N(0, I), let U be the d orthonormal
directions along which posterior means go farthest from 0, and s = U' e:

    p(e) = density(s) N(e - U s; 0, I - U U')

the density in d dimensions, and the model's own prior in all others. Draws and bound follow:

    s ~ density, r ~ N(0, I), e = U s + (I - U U') r
    log p_density(z) - log p(z) = log density(s) - log N(s; 0, I)

Of a hierarchy the top groups have the density; the conditional priors of those below stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cardiac_vae.layers.distributions import HALF_LOG_2PI
from cardiac_vae.shape_model import Latents, ShapeModel


class Density(Protocol):
    """A density of scores in d dimensions."""

    def log_prob(self, scores: Tensor) -> Tensor:
        """Return the log-density (N,) in nats of scores (N, d) float64."""

    def sample(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Return scores (num_samples, d) float64."""


@dataclass(frozen=True)
class CodeDensity:
    """A density of some directions of the noise of a model's top groups.

    Attributes:
        directions: (Z, d) float64, orthonormal; Z scalars in the top groups.
        scores: The density along them.
        group_shapes: Shape of each group that has it, top first.
    """

    directions: Tensor
    scores: Density
    group_shapes: tuple[tuple[int, ...], ...]

    @property
    def num_groups(self) -> int:
        """How many groups have the density, counted from the top."""
        return len(self.group_shapes)

    def require_fit(self, model: ShapeModel) -> None:
        """Refuse a model whose codes are of other sizes.

        Raises:
            ValueError: if they are.
        """
        expected = model.latent_sizes[: self.num_groups]
        sizes = [torch.Size(shape).numel() for shape in self.group_shapes]
        if not model.has_noise or sizes != expected:
            codes = f"{expected} scalars in its top groups" if model.has_noise else "no normals"
            raise ValueError(
                f"density: expected one over the codes of the model, {type(model).__module__} with "
                f"{codes}, got one over {sizes}; take the density that was fitted to this model"
            )

    def scores_of(self, noise: Latents) -> Tensor:
        """Return the scores (N, d) of noise of at least the top groups, each (N, ...)."""
        return rows(noise[: self.num_groups]) @ self.directions

    def log_ratio(self, noise: Latents) -> Tensor:
        """Return log p_density - log p (N,) in nats at noise of at least the top groups."""
        s = self.scores_of(noise)
        standard = -0.5 * s.square().sum(dim=1) - s.shape[1] * HALF_LOG_2PI
        return self.scores.log_prob(s) - standard

    def draw(self, number: int, generator: torch.Generator) -> list[Tensor]:
        """Return noise of the groups that have the density, top first, each (number, ...)."""
        s = self.scores.sample(number, generator)
        rest = torch.randn(number, len(self.directions), dtype=s.dtype, generator=generator)
        rest = rest - (rest @ self.directions) @ self.directions.T
        flat = (s @ self.directions.T + rest).float()
        sizes = [torch.Size(shape).numel() for shape in self.group_shapes]
        parts = torch.split(flat, sizes, dim=1)
        return [
            part.reshape(number, *shape)
            for part, shape in zip(parts, self.group_shapes, strict=True)
        ]


def rows(groups: Sequence[Tensor]) -> Tensor:
    """Return the scalars of groups, each (N, ...), side by side: (N, Z) float64."""
    return torch.cat([group.flatten(start_dim=1) for group in groups], dim=1).double()
