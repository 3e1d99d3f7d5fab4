from collections.abc import Iterator

import numpy as np
import pytest
import torch
from evidence import clusters
from pydantic import ValidationError

from cardiac_vae.vi.cavi import Cavi, CaviConfig
from cardiac_vae.vi.fitting import FitConfig, fit
from cardiac_vae.vi.mixture import MixturePosterior, MixturePrior, elbo, expected_statistics, update
from cardiac_vae.vi.svi import Svi, SviConfig

SIZES = (2400, 1600, 4000)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_all_codes_at_rate_one_are_a_sweep_of_coordinate_ascent(rng):
    codes, _ = clusters(rng, distance=2.5)
    prior = MixturePrior.of(codes)
    method = Svi(prior, SviConfig(num_components=4, delay=0, start_sweeps=0))
    assert method.rate(1) == 1
    state = method.init(codes, generator())
    found = method.step(state, codes).posterior
    sweep = update(prior, expected_statistics(state.posterior, codes))
    torch.testing.assert_close(vars(found), vars(sweep))
    assert float((found.mean - state.posterior.mean).abs().max()) > 0.01


def test_a_step_is_unbiased(rng):
    """In natural parameters, over all batches of a pass."""
    codes, _ = clusters(rng, distance=2.5)
    method = Svi(MixturePrior.of(codes), SviConfig(num_components=4))
    state = method.init(codes, generator())
    whole = vars(method.step(state, codes).posterior.natural())
    parts = [vars(method.step(state, rows).posterior.natural()) for rows in np.split(codes, 20)]
    for name, values in whole.items():
        mean = torch.stack([part[name] for part in parts]).mean(dim=0)
        torch.testing.assert_close(mean, values, rtol=1e-9, atol=1e-9)


def test_the_start_stands_for_all_codes(rng):
    codes, _ = clusters(rng)
    method = Svi(MixturePrior.of(codes), SviConfig(num_components=3, num_start=50))
    posterior = method.init(codes, generator()).posterior
    assert float(posterior.concentration.sum()) == pytest.approx(len(codes) + 3)


@pytest.mark.parametrize("seed", range(3))
def test_it_reaches_the_bound_of_coordinate_ascent(seed):
    """To 0.001 nats per code, on overlapping clusters, in 5 passes with batches of 200."""
    codes, _ = clusters(np.random.default_rng(seed), SIZES, distance=3.0)
    prior = MixturePrior.of(codes)
    exact = fit(Cavi(prior, CaviConfig(num_components=3)), codes, FitConfig(), generator())
    method = Svi(prior, SviConfig(num_components=3, num_start=1000))
    found = fit(method, codes, FitConfig(batch_size=200, max_steps=200, tolerance=0), generator())

    def below_best(posterior: MixturePosterior) -> float:
        return (exact.bounds[-1] - float(elbo(prior, posterior, codes))) / len(codes)

    assert -1e-5 < below_best(found.posterior) < 1e-3
    start = method.init(codes, generator()).posterior
    assert below_best(found.posterior) < below_best(start) / 2


def test_a_stream_is_learned_from_in_passing(rng, tmp_path):
    codes, _ = clusters(rng, SIZES)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")

    def stream() -> Iterator[np.ndarray]:
        for start in range(0, len(mapped), 400):
            yield mapped[start : start + 400]

    prior = MixturePrior.of(mapped[:400])
    method = Svi(prior, SviConfig(num_components=3, num_codes=len(mapped), num_restarts=3))
    result = fit(method, stream(), FitConfig(window=100), generator())
    assert (result.num_steps, result.has_converged) == (20, False)
    exact = fit(Cavi(prior, CaviConfig(num_components=3)), mapped, FitConfig(), generator())
    reached = float(elbo(prior, result.posterior, mapped))
    assert reached / len(codes) == pytest.approx(exact.bounds[-1] / len(codes), abs=0.01)


def test_the_bound_of_a_batch_is_an_estimate_of_that_of_all(rng):
    codes, _ = clusters(rng)
    method = Svi(MixturePrior.of(codes), SviConfig(num_components=3))
    state = method.init(codes, generator())
    bounds = [method.elbo(state, rows) for rows in np.split(codes, 4)]
    assert np.ptp(bounds) > 1
    assert np.mean(bounds) == pytest.approx(method.elbo(state, codes))
    assert method.elbo(state, codes) == pytest.approx(
        float(elbo(method.prior, state.posterior, codes))
    )


def test_the_noisy_bound_stops_the_fit(rng):
    codes, _ = clusters(rng, SIZES)
    method = Svi(MixturePrior.of(codes), SviConfig(num_components=3))
    result = fit(method, codes, FitConfig(batch_size=400, tolerance=1.0), generator())
    assert result.has_converged
    assert 39 <= result.num_steps < 300


def test_steps_shrink_as_robbins_and_monro_ask():
    method = Svi(MixturePrior.of(np.eye(3)), SviConfig(delay=3, forgetting=0.6))
    assert [method.rate(t) for t in (1, 5)] == [pytest.approx(4**-0.6), pytest.approx(8**-0.6)]
    for forgetting in (0.5, 0.2, 1.01):
        with pytest.raises(ValidationError):
            SviConfig(forgetting=forgetting)
    assert SviConfig(forgetting=1.0).forgetting == 1


def test_a_batch_that_is_no_numbers_is_refused(rng):
    codes, _ = clusters(rng)
    method = Svi(MixturePrior.of(codes), SviConfig(num_components=3))
    state = method.init(codes, generator())
    with pytest.raises(ValueError, match="codes: expected finite values"):
        method.step(state, codes * np.nan)
