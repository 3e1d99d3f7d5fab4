import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from cardiac_vae.densities.normal_mixture import NormalMixture


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def scores(generator):
    turned = torch.tensor([[2.0, 0.3], [0.0, 0.5]], dtype=torch.float64)
    return torch.randn(60, 2, dtype=torch.float64, generator=generator) @ turned + 3


def as_distribution(mixture):
    number = len(mixture.means)
    factors = mixture.factors.expand(number, -1, -1)
    normals = MultivariateNormal(mixture.means, scale_tril=factors)
    return MixtureSameFamily(Categorical(torch.ones(number, dtype=torch.float64)), normals)


def test_kernels_are_the_usual_estimate(scores):
    found = NormalMixture.kernels(scores)
    expected = gaussian_kde(scores.numpy().T).logpdf(scores[:7].numpy().T)
    np.testing.assert_allclose(found.log_prob(scores[:7]), expected, rtol=1e-4)
    torch.testing.assert_close(found.log_prob(scores), as_distribution(found).log_prob(scores))


def test_normals_of_draws_have_their_moments_and_their_mixture_its_density(generator):
    draws = torch.randn(3, 40, 2, dtype=torch.float64, generator=generator)
    draws = draws * torch.tensor([1.0, 0.2]) + torch.arange(3)[:, None, None]
    found = NormalMixture.of_draws(draws)
    torch.testing.assert_close(found.means, draws.mean(dim=1))
    for factor, rows in zip(found.factors, draws, strict=True):
        torch.testing.assert_close(factor @ factor.T, torch.cov(rows.T), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.log_prob(draws[0]), as_distribution(found).log_prob(draws[0]))


def test_draws_have_the_moments_of_the_mixture(scores, generator):
    found = NormalMixture.kernels(scores)
    drawn = found.sample(20_000, generator)
    factor = found.factors[0]
    expected = torch.cov(scores.T, correction=0) + factor @ factor.T
    torch.testing.assert_close(drawn.mean(dim=0), scores.mean(dim=0), rtol=0.02, atol=0.05)
    torch.testing.assert_close(torch.cov(drawn.T), expected, rtol=0.05, atol=0.05)


def test_one_dimension_is_a_matrix_too(generator):
    scores = torch.randn(30, 1, dtype=torch.float64, generator=generator)
    found = NormalMixture.kernels(scores)
    grid = torch.linspace(-9, 9, 2001, dtype=torch.float64)[:, None]
    total = torch.trapezoid(found.log_prob(grid).exp(), grid[:, 0])
    assert math.isclose(float(total), 1, rel_tol=1e-6)


@pytest.mark.parametrize("scores", [torch.zeros(1, 2), torch.ones(5, 2)])
def test_kernels_without_a_width_are_refused(scores):
    with pytest.raises(ValueError, match="scores: expected two or more that differ"):
        NormalMixture.kernels(scores.double())


def test_too_few_draws_have_no_covariance():
    with pytest.raises(ValueError, match="draws: expected more than 2 of each posterior, got 2"):
        NormalMixture.of_draws(torch.zeros(3, 2, 2, dtype=torch.float64))
