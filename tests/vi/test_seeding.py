import numpy as np
import torch
from evidence import clusters

from cardiac_vae.vi.mixture import MixturePrior
from cardiac_vae.vi.seeding import moved_seeds, seeded_statistics, spread_seeds


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_seeds_are_drawn_by_their_squared_distance():
    """After 0 as the first seed, 1 and 3 follow with probabilities 1/10 and 9/10."""
    points = torch.tensor([[0.0], [1.0], [3.0]])
    source = generator()
    pairs = [spread_seeds(points, 2, source).flatten().tolist() for _ in range(1500)]
    after_zero = [second for first, second in pairs if first == 0]
    assert 440 < len(after_zero) < 560
    assert abs(after_zero.count(3.0) / len(after_zero) - 0.9) < 0.04
    assert after_zero.count(0.0) == 0


def test_seeds_differ_as_long_as_points_do():
    points = torch.tensor([[0.0], [1.0], [1.0], [5.0]])
    seeds = spread_seeds(points, 5, generator()).flatten()
    assert sorted(seeds[:3].tolist()) == [0, 1, 5]


def test_seeds_move_to_the_middle_of_what_is_next_to_them_until_none_does():
    points = torch.tensor([[0.0], [1.0], [5.0], [9.0], [10.0]])
    moved = moved_seeds(points, torch.tensor([[0.0], [1.0], [99.0]]))
    # 1 takes all beyond 0, settles at their middle, 6.25, and loses 1 to 0; nothing is next to 99.
    assert moved.flatten().tolist() == [0.5, 8.0, 99.0]
    nearest = torch.cdist(points, moved).argmin(dim=1)
    assert [float(points[nearest == k].mean()) for k in (0, 1)] == [0.5, 8.0]


def test_clusters_apart_are_dealt_whole(rng):
    codes, labels = clusters(rng, distance=40)
    found = seeded_statistics(MixturePrior.of(codes), codes, 3, generator())
    assert sorted(found.counts.tolist()) == sorted(np.bincount(labels).tolist())
    assert float(found.entropy) == 0


def test_the_start_does_not_hang_on_place_turn_and_unit(rng):
    codes, _ = clusters(rng, distance=3)
    turned = 20 * codes @ np.array([[0.6, 0.8], [-0.8, 0.6]]) + 5
    first, second = (
        seeded_statistics(MixturePrior.of(c), c, 5, generator()) for c in (codes, turned)
    )
    assert torch.equal(first.counts, second.counts)


def test_one_code_leaves_all_components_but_one_empty():
    prior = MixturePrior(1.0, torch.zeros(2).double(), 1.0, torch.eye(2).double(), 2.0)
    found = seeded_statistics(prior, torch.ones(1, 2), 3, generator())
    assert sorted(found.counts.tolist()) == [0, 0, 1]
