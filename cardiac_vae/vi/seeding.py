"""Where a fit of the mixture starts: codes dealt out to spread seeds.

Seeds are drawn as by k-means++ (Arthur & Vassilvitskii 2007): the first at random, each next one
with a probability proportional to its squared distance to the nearest seed so far. Each code then
belongs to the seed next to it. Distances are those of the prior's scale, |x|^2 = x^T W0 x, so that
the start does not hang on the unit or the axes of the codes.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from cardiac_vae.vi.mixture import MixturePrior
from cardiac_vae.vi.statistics import Codes, SufficientStatistics, chunks, statistics, taken

_SEEDED_FROM = 10_000  # codes, drawn at random where there are more


@torch.no_grad()
def seeded_statistics(
    prior: MixturePrior, codes: Codes, num_components: int, generator: torch.Generator
) -> SufficientStatistics:
    """Return the statistics of codes (N, Z) that belong to the nearest of K seeds.

    If fewer codes than components differ some components are empty.
    """
    drawn = torch.randperm(len(codes), generator=generator)[:_SEEDED_FROM]
    seeds = spread_seeds(_whitened(prior, taken(codes, drawn)), num_components, generator)

    def dealt(rows: Tensor) -> SufficientStatistics:
        nearest = torch.cdist(_whitened(prior, rows), seeds).argmin(dim=1)
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


def _whitened(prior: MixturePrior, codes: Tensor) -> Tensor:
    return (codes - prior.mean) @ prior.components(1).whitening[0].T
