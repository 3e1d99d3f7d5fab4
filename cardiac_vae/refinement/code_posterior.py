"""q(e): a diagonal normal over the noise behind the code of each slice, and its start.

In terms of noise the prior of every model is N(0, I) (``ShapeModel.noise_of``). The top groups have
the normal; the noise of those below is a point, given once and for all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from cardiac_vae.layers.distributions import DiagonalNormal
from cardiac_vae.shape_model import ShapeModel

_START_DRAWS = 8  # of the encoder's posterior, to see how wide it is
_NARROWEST = 1e-2


@dataclass(frozen=True)
class CodePosterior:
    """Normals over noise, one for each slice.

    Attributes:
        mu: (N, Z) of the groups that move, side by side.
        log_sigma: (N, Z).
        group_shapes: Shape of each group that moves, top first.
        below: Noise (N, ...) of each group that does not.
    """

    mu: Tensor
    log_sigma: Tensor
    group_shapes: tuple[tuple[int, ...], ...]
    below: tuple[Tensor, ...] = ()

    @classmethod
    @torch.no_grad()
    def start(
        cls, model: ShapeModel, seen: Tensor, num_groups: int | None, seed: int, width: float = 1.0
    ) -> Self:
        """Return the encoder's mean for what was seen (N, C, S, S), taken as broken, and a spread.

        That is ``width`` times the spread of draws about the mean, the same numbers for every
        slice.
        """
        means = _encoded_noise(model, seen, 0.0)
        moving, below = means[:num_groups], means[len(means[:num_groups]) :]
        mu = _rows(moving)
        spread = []
        with torch.random.fork_rng(devices=[]):
            for slice_, at in zip(seen, mu, strict=True):
                torch.manual_seed(seed)
                drawn = _encoded_noise(model, slice_.expand(_START_DRAWS, *slice_.shape), 1.0)
                apart = _rows(drawn[:num_groups]) - at
                spread.append(apart.square().mean(dim=0).sqrt())
        log_sigma = torch.stack(spread).clamp(min=_NARROWEST).log() + math.log(width)
        return cls(mu, log_sigma, tuple(tuple(g.shape[1:]) for g in moving), tuple(below))

    def at(self, standard: Tensor) -> Tensor:
        """Return the values (S, N, Z) that standard normal numbers (S, 1, Z) stand for."""
        return self.mu + self.log_sigma.exp() * standard

    def noise(self, values: Tensor) -> list[Tensor]:
        """Return values (S, N, Z) as noise of all groups, top first, each (S * N, ...)."""
        sizes = [math.prod(shape) for shape in self.group_shapes]
        parts = torch.split(values.flatten(end_dim=1), sizes, dim=1)
        moving = [
            part.reshape(-1, *shape) for part, shape in zip(parts, self.group_shapes, strict=True)
        ]
        return moving + [torch.cat([group] * len(values)) for group in self.below]

    def kl(self) -> Tensor:
        """Return KL(q || N(0, I)) in nats of each slice, (N,) float64."""
        mu, log_sigma = self.mu.double(), self.log_sigma.double()
        return DiagonalNormal(mu, log_sigma).kl(DiagonalNormal.standard_like(mu))

    def of(self, which: Tensor) -> Self:
        """Return the normals of some slices; ``which`` is bool (N,) or indices."""
        below = tuple(group[which] for group in self.below)
        return replace(self, mu=self.mu[which], log_sigma=self.log_sigma[which], below=below)

    def moved(self, mu_by: Tensor, log_sigma_by: Tensor) -> Self:
        """Return the normals after a step (N, Z) of both parameters."""
        return replace(self, mu=self.mu + mu_by, log_sigma=self.log_sigma + log_sigma_by)


def _encoded_noise(model: ShapeModel, seen: Tensor, temperature: float) -> list[Tensor]:
    is_broken = torch.ones(len(seen), dtype=torch.bool)
    return model.noise_of(model.encode(seen, is_broken, temperature=temperature))


def _rows(groups: Sequence[Tensor]) -> Tensor:
    return torch.cat([group.flatten(start_dim=1) for group in groups], dim=1)
