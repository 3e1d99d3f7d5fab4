from itertools import pairwise

import numpy as np
import pytest
import torch
from evidence import a_prior, clusters, one_component_evidence
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

from cardiac_vae.vi.cavi import Cavi, CaviConfig, CaviState
from cardiac_vae.vi.fitting import FitConfig, fit
from cardiac_vae.vi.mixture import MixturePrior, elbo, update
from cardiac_vae.vi.statistics import statistics


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def swept(method: Cavi, state: CaviState, codes, sweeps: int) -> CaviState:
    for _ in range(sweeps):
        state = method.step(state, codes)
    return state


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_codes=st.integers(1, 60),
    num_components=st.integers(1, 6),
    size=st.integers(1, 4),
    concentration=st.sampled_from([1e-3, 0.3, 1.0, 20.0]),
)
def test_no_sweep_lowers_the_bound(seed, num_codes, num_components, size, concentration):
    codes = np.random.default_rng(seed).standard_normal((num_codes, size)) ** 3
    method = Cavi(a_prior(size, concentration), CaviConfig(num_components=num_components))
    states = [method.init(codes, generator(seed))]
    for _ in range(8):
        states.append(method.step(states[-1], codes))
    bounds = [method.elbo(state, codes) for state in states]
    slack = 1e-12 * max(map(abs, bounds))
    assert all(after >= before - slack for before, after in pairwise(bounds))
    best_local = float(elbo(method.prior, states[-1].posterior, codes))
    assert (
        bounds[-1] - slack
        <= best_local
        <= method.elbo(method.step(states[-1], codes), codes) + slack
    )


@pytest.mark.parametrize("num_components", [3, 6])
def test_fits_are_those_of_scikit_learn(rng, num_components):
    """From the same labels of k-means, after the same number of sweeps; the bound to a constant."""
    codes, _ = clusters(rng, distance=2.5)
    prior = MixturePrior.of(codes, concentration=1 / num_components)
    labels = KMeans(num_components, n_init=1, random_state=np.random.RandomState(5)).fit(codes)
    certain = torch.nn.functional.one_hot(torch.from_numpy(labels.labels_).long()).double()
    method = Cavi(prior, CaviConfig(num_components=num_components))
    state = method.start(statistics(codes, certain))
    gaps = []
    for sweeps in (1, 4, 40):
        theirs = BayesianGaussianMixture(
            n_components=num_components,
            weight_concentration_prior_type="dirichlet_distribution",
            weight_concentration_prior=prior.concentration,
            reg_covar=0.0,
            tol=0.0,
            max_iter=sweeps,
            random_state=np.random.RandomState(5),
        )
        with pytest.warns(ConvergenceWarning):
            theirs.fit(codes)
        ours = swept(method, state, codes, sweeps)
        posterior = ours.posterior
        pairs = {
            "weight_concentration_": posterior.concentration,
            "weights_": posterior.weights(),
            "means_": posterior.mean,
            "mean_precision_": posterior.mean_precision,
            "covariances_": posterior.covariances(),
            "degrees_of_freedom_": posterior.degrees,
        }
        for name, values in pairs.items():
            np.testing.assert_allclose(values, getattr(theirs, name), rtol=1e-8, atol=1e-8)
        gaps.append(method.elbo(ours, codes) - theirs.lower_bound_)
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-9)


def test_a_known_mixture_is_recovered(rng):
    """Of eight components three are left, each that of the codes that were drawn from it."""
    codes, labels = clusters(rng, (200, 120, 180))
    prior = MixturePrior.of(codes, concentration=0.01)
    method = Cavi(prior, CaviConfig(num_components=8, num_restarts=4, trial_sweeps=5))
    found = fit(method, codes, FitConfig(), generator())
    assert found.has_converged
    weights = found.posterior.weights()
    assert int((weights > 0.001).sum()) == 3
    for label in range(3):
        own = torch.from_numpy(codes[labels == label])
        known = update(prior, statistics(own, torch.ones(len(own), 1).double()))
        near = int((found.posterior.mean - own.mean(dim=0)).norm(dim=1).argmin())
        assert float(weights[near]) == pytest.approx(len(own) / 500, abs=1e-3)
        torch.testing.assert_close(found.posterior.mean[near], known.mean[0], rtol=0, atol=1e-3)
        covariances = (found.posterior.covariances()[near], known.covariances()[0])
        torch.testing.assert_close(*covariances, rtol=0.01, atol=0.01)


def test_empty_components_are_the_prior_again(rng):
    codes, _ = clusters(rng)
    prior = MixturePrior.of(codes, concentration=1e-3)
    method = Cavi(prior, CaviConfig(num_components=6, num_restarts=3))
    found = fit(method, codes, FitConfig(tolerance=1e-9), generator()).posterior
    empty = found.concentration < 2 * prior.concentration
    assert int(empty.sum()) == 3
    for name, values in vars(prior.components(3)).items():
        torch.testing.assert_close(getattr(found, name)[empty], values, rtol=1e-3, atol=1e-3)


def test_the_best_of_several_starts_goes_on(rng):
    codes, _ = clusters(rng, distance=2.0)
    prior = MixturePrior.of(codes)
    one = Cavi(prior, CaviConfig(num_components=7, num_restarts=1))
    several = Cavi(prior, CaviConfig(num_components=7, num_restarts=5, trial_sweeps=3))
    source = generator()
    trials = [swept(one, one.init(codes, source), codes, 3) for _ in range(5)]
    bounds = [one.elbo(state, codes) for state in trials]
    assert max(bounds) - min(bounds) > 1
    assert several.elbo(several.init(codes, generator()), codes) == max(bounds)


def test_sweeps_go_with_the_codes_through_linear_maps(rng):
    """The bound of A x + b is that of x less N log |det A|, with a prior taken from the codes."""
    codes, labels = clusters(rng, distance=3.0)
    map_of_codes = np.array([[20.0, 1.0], [-0.3, 0.02]])
    moved = codes @ map_of_codes.T + 100
    dealt = torch.nn.functional.one_hot(torch.as_tensor(labels)).double()
    bounds, means = [], []
    for c in (codes, moved):
        method = Cavi(MixturePrior.of(c), CaviConfig(num_components=3))
        state = swept(method, method.start(statistics(torch.as_tensor(c), dealt)), c, 5)
        bounds.append(method.elbo(state, c))
        means.append(state.posterior.mean.numpy())
    lost = len(codes) * np.log(abs(np.linalg.det(map_of_codes)))
    assert bounds[1] == pytest.approx(bounds[0] - lost, rel=1e-8)
    np.testing.assert_allclose(means[1], means[0] @ map_of_codes.T + 100, rtol=1e-6)


@pytest.mark.parametrize("codes", [np.array([[0.3, -2.0]]), np.full((4, 2), 7.0)])
def test_codes_in_one_point_have_a_sane_fit(codes):
    prior = a_prior(2)
    method = Cavi(prior, CaviConfig(num_components=3, num_restarts=2))
    result = fit(method, codes, FitConfig(), generator())
    assert result.posterior.weights().sum() == pytest.approx(1)
    assert (torch.linalg.eigvalsh(result.posterior.covariances()) > 0.01).all()
    assert result.posterior.log_prob(codes).isfinite().all()
    single = fit(Cavi(prior, CaviConfig(num_components=1)), codes, FitConfig(), generator())
    assert single.bounds[-1] == pytest.approx(one_component_evidence(prior, codes))


def test_a_constant_dimension_has_a_sane_fit(rng):
    codes = np.column_stack([clusters(rng)[0], np.full(400, 3.0)])
    method = Cavi(MixturePrior.of(codes, concentration=0.01), CaviConfig(num_components=5))
    result = fit(method, codes, FitConfig(), generator())
    assert (np.diff(result.bounds) > -1e-6).all()
    drawn = result.posterior.sample(200, generator())
    assert float((drawn[:, 2] - 3).abs().max()) < 0.1
    assert float(drawn[:, 0].std()) > 3


def test_codes_that_are_no_numbers_are_refused(rng):
    codes, _ = clusters(rng)
    prior = MixturePrior.of(codes)
    codes[17, 1] = np.nan
    with pytest.raises(ValueError, match=r"codes: expected finite values.* row 17"):
        fit(Cavi(prior, CaviConfig()), codes, FitConfig(), generator())
    with pytest.raises(ValueError, match=r"codes: expected finite values.* row 17"):
        MixturePrior.of(codes)


def test_batches_are_refused(rng):
    codes, _ = clusters(rng)
    with pytest.raises(ValueError, match="coordinate ascent takes no batches"):
        fit(Cavi(MixturePrior.of(codes), CaviConfig()), codes, FitConfig(batch_size=9), generator())
