"""Where a fit of the mixture starts: k-means, from spread seeds.

Seeds are drawn as by k-means++ (Arthur & Vassilvitskii 2007): the first at random, each next one
with a probability proportional to its squared distance to the nearest seed so far. They then move
to the middle of the codes next to them a few times (Lloyd 1982), and each code belongs to the seed
next to it. Distances are Euclidean: directions along which codes vary more count for more. Were
each counted alike, those that hold only noise would deal out the codes as much as those that do
not; on codes of hearts such starts end thousands of nats lower.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from cardiac_vae.vi.mixture import MixturePrior
from cardiac_vae.vi.statistics import Codes, SufficientStatistics, chunks, statistics, taken

_SEEDED_FROM = 10_000  # codes, drawn at random where there are more
_LLOYD_STEPS = 50


@torch.no_grad()
def seeded_statistics(
    prior: MixturePrior, codes: Codes, num_components: int, generator: torch.Generator
) -> SufficientStatistics:
    """Return the statistics of codes (N, Z) that belong to the nearest of K seeds.

    If fewer codes than components differ some components are empty.
    """
    drawn = torch.randperm(len(codes), generator=generator)[:_SEEDED_FROM]
    points = taken(codes, drawn) - prior.mean  # near the origin, where distances are exact
    seeds = moved_seeds(points, spread_seeds(points, num_components, generator))

    def dealt(rows: Tensor) -> SufficientStatistics:
        nearest = torch.cdist(rows - prior.mean, seeds).argmin(dim=1)
        return statistics(rows, F.one_hot(nearest, num_components).double())

    return reduce(SufficientStatistics.__add__, map(dealt, chunks(codes, num_components)))


def spread_seeds(points: Tensor, num_seeds: int, generator: torch.Generator) -> Tensor:
    """Return seeds (K, Z), drawn from points (N, Z); the same twice only if no others are left."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    seeds = [points[first]]
    distances = (points - seeds[0]).square().sum(dim=1)
    while len(seeds) < num_seeds:
        weights = distances if bool(distances.any()) else torch.ones_like(distances)
        seeds.append(points[int(torch.multinomial(weights, 1, generator=generator))])
        distances = torch.minimum(distances, (points - seeds[-1]).square().sum(dim=1))
    return torch.stack(seeds)


def moved_seeds(points: Tensor, seeds: Tensor) -> Tensor:
    """Return seeds (K, Z), each in the middle of the points (N, Z) next to it; one with none stays.

    They move until none does, or _LLOYD_STEPS times.
    """
    for _ in range(_LLOYD_STEPS):
        belongs = F.one_hot(torch.cdist(points, seeds).argmin(dim=1), len(seeds)).to(points.dtype)
        counts = belongs.sum(dim=0)[:, None]
        middles = torch.where(counts > 0, belongs.T @ points / counts.clamp(min=1), seeds)
        if torch.equal(middles, seeds):
            break
        seeds = middles
    return seeds
