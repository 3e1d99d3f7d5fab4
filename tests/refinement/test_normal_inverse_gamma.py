import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Gamma, kl_divergence

from cardiac_vae.refinement.normal_inverse_gamma import NormalInverseGamma


def belief(mean: float, strength: float, shape: float, rate: float) -> NormalInverseGamma:
    return NormalInverseGamma(*(np.array([value]) for value in (mean, strength, shape, rate)))


PRIOR = belief(0.5, 0.8, 1.5, 2.0)


def over_variance(function, q: NormalInverseGamma) -> float:
    """Return the expectation of a function of the variance, by quadrature."""
    density = stats.invgamma(q.shape[0], scale=q.rate[0]).pdf
    return integrate.quad(lambda v: density(v) * function(v), 0, np.inf, limit=200)[0]


def log_marginal(prior: NormalInverseGamma, values: np.ndarray) -> float:
    """Return log p(values) as the product of Student's predictive densities, one after another."""
    total = 0.0
    for value in values:
        scale = np.sqrt(prior.rate * (prior.strength + 1) / (prior.shape * prior.strength))
        total += stats.t(2 * prior.shape, prior.mean, scale).logpdf(value).item()
        prior = prior.given(np.array([value]), np.ones((1, 1)))
    return total


def test_what_is_seen_together_or_one_by_one_is_believed_alike(rng):
    values, weights = rng.normal(3, 2, 20), rng.random((1, 20))
    together = PRIOR.given(values, weights)
    one_by_one = PRIOR
    for index in range(20):
        one_by_one = one_by_one.given(values[[index]], weights[:, [index]])
    for name in ("mean", "strength", "shape", "rate"):
        np.testing.assert_allclose(getattr(together, name), getattr(one_by_one, name))


def test_much_data_wins_and_none_changes_nothing(rng):
    values = rng.normal(3, 2, 50_000)
    found = PRIOR.given(values, np.ones((1, 50_000)))
    assert found.mean[0] == pytest.approx(values.mean(), abs=1e-3)
    assert found.variance[0] == pytest.approx(values.var(), rel=1e-3)
    unseen = PRIOR.given(values, np.zeros((1, 50_000)))
    assert (unseen.mean, unseen.strength, unseen.shape, unseen.rate) == (0.5, 0.8, 1.5, 2.0)


@pytest.mark.parametrize("value", [-2.0, 0.5, 4.0])
def test_expected_log_density_is_the_integral(value):
    m, k = PRIOR.mean[0], PRIOR.strength[0]

    def given_variance(v: float) -> float:
        return -0.5 * (np.log(2 * np.pi * v) + ((value - m) ** 2 + v / k) / v)

    found = PRIOR.expected_log_density(np.array([value]))
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(over_variance(given_variance, PRIOR), rel=1e-6)


def test_kl_is_that_of_the_means_and_that_of_the_precisions():
    q = belief(1.2, 3.0, 4.0, 5.0)
    ratio = PRIOR.strength[0] / q.strength[0]
    apart = (q.mean[0] - PRIOR.mean[0]) ** 2

    def of_means(v: float) -> float:
        return 0.5 * (ratio - 1 - np.log(ratio) + PRIOR.strength[0] * apart / v)

    gammas = [Gamma(torch.tensor(b.shape), torch.tensor(b.rate)) for b in (q, PRIOR)]
    expected = over_variance(of_means, q) + kl_divergence(*gammas).item()
    assert q.kl(PRIOR).item() == pytest.approx(expected, rel=1e-6)
    assert q.kl(q).item() == pytest.approx(0, abs=1e-12)


def test_at_the_posterior_the_bound_is_the_evidence(rng):
    values = rng.normal(1, 0.7, 30)
    posterior = PRIOR.given(values, np.ones((1, 30)))
    bound = posterior.expected_log_density(values).sum() - posterior.kl(PRIOR).item()
    assert bound == pytest.approx(log_marginal(PRIOR, values), rel=1e-10)
    elsewhere = PRIOR.given(values[:20], np.ones((1, 20)))
    assert elsewhere.expected_log_density(values).sum() - elsewhere.kl(PRIOR).item() < bound
