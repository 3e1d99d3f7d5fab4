from dataclasses import dataclass

import numpy as np
import pytest
import torch
from evidence import a_prior

from cardiac_vae.vi.fitting import Fit, FitConfig, fit, has_converged, shuffled_batches
from cardiac_vae.vi.mixture import MixturePosterior


@dataclass(frozen=True)
class CountState:
    num_steps: int
    seen: list[list[float]]

    @property
    def posterior(self) -> MixturePosterior:
        return a_prior(1).components(1 + self.num_steps)


class Scripted:
    """A method whose bounds are given, and that notes what it sees."""

    def __init__(self, bounds: list[float]) -> None:
        self.bounds = bounds
        self.started_on: object = None

    def init(self, codes, generator) -> CountState:
        self.started_on = codes
        return CountState(0, [])

    def step(self, state: CountState, codes) -> CountState:
        return CountState(state.num_steps + 1, [*state.seen, codes.flatten().tolist()])

    def elbo(self, state: CountState, codes) -> float:
        return self.bounds[state.num_steps]


def run(method: Scripted, codes, **settings) -> Fit:
    return fit(method, codes, FitConfig(**settings), torch.Generator().manual_seed(0))


def test_the_loop_stops_when_the_bound_rises_no_more():
    result = run(Scripted([-9, -5, -4, -3.9, -3.89, 0]), torch.ones(4, 1), tolerance=0.05)
    assert result.bounds == [-9, -5, -4, -3.9, -3.89]
    assert result.has_converged
    assert result.num_steps == 4
    assert len(result.posterior.mean) == 5  # of the state whose bound is the last


def test_the_loop_stops_at_its_budget():
    result = run(Scripted([-9, -5, -4, -3]), torch.ones(4, 1), max_steps=2)
    assert (result.bounds, result.has_converged, result.num_steps) == ([-9, -5, -4], False, 2)


def test_noise_is_averaged_over_the_window():
    noisy = [-10.0, -6.0, -8.0, -4.0, -6.0, -5.0, -5.0, -6.0]
    assert has_converged(noisy[:3], 1, 0.0)
    assert not has_converged(noisy[:4], 2, 0.0)
    assert not has_converged(noisy[:6], 2, 0.0)
    assert has_converged(noisy, 2, 0.0)
    assert not has_converged([0.0, 1.0, 2.0, 3.0], 2, 0.9)  # rises by 1 in a step
    assert has_converged([0.0, 1.0, 2.0, 3.0], 2, 1.0)


def test_a_window_is_one_pass_unless_it_is_given():
    bounds = [0.0, 3.0, 1.0, 4.0, 5.0, 6.0, 5.0, 6.0, 0.0]
    codes = torch.arange(8.0)[:, None]
    assert run(Scripted(bounds), codes, batch_size=4).num_steps == 7
    assert run(Scripted(bounds), codes, batch_size=4, window=1).num_steps == 2


def test_each_pass_deals_all_codes_anew():
    codes = np.arange(12.0)[:, None]
    batches = shuffled_batches(codes, 4, torch.Generator().manual_seed(0))
    passes = [torch.cat([next(batches) for _ in range(3)]).flatten() for _ in range(2)]
    assert not torch.equal(*passes)
    for dealt in passes:
        assert sorted(dealt.tolist()) == list(range(12))
    whole = next(shuffled_batches(codes, 100, torch.Generator().manual_seed(0)))
    assert len(whole) == 12


def test_what_does_not_fill_a_batch_is_left_to_another_pass():
    batches = shuffled_batches(torch.arange(7.0)[:, None], 3, torch.Generator().manual_seed(0))
    first = [next(batches) for _ in range(6)]
    assert {len(batch) for batch in first} == {3}
    assert len(set(torch.cat(first[:2]).flatten().tolist())) == 6


def test_a_stream_is_read_once_and_starts_on_its_first_batch():
    method = Scripted([-9, -8, -7, -6])
    stream = (np.full((2, 1), float(number)) for number in range(3))
    result = run(method, stream, window=50)
    assert result.bounds == [-9, -8, -7]
    assert (result.has_converged, result.num_steps) == (False, 3)
    assert np.array_equal(method.started_on, np.zeros((2, 1)))
    array = torch.ones(4, 1)
    run(method, array, batch_size=2, max_steps=1)
    assert method.started_on is array


def test_a_stream_says_what_it_lacks():
    with pytest.raises(ValueError, match="window: expected a number of steps"):
        run(Scripted([0]), iter([torch.ones(1, 1)]))
    with pytest.raises(ValueError, match="codes: expected a stream of one batch or more"):
        run(Scripted([0]), iter([]), window=2)


def test_a_bound_that_is_no_number_is_an_error():
    with pytest.raises(ValueError, match="bound: expected a finite value after 1 steps, got nan"):
        run(Scripted([0.0, float("nan")]), torch.ones(2, 1))
