import pytest
import torch
from torch.distributions import Gamma, MultivariateNormal, Normal, Wishart

from cardiac_vae.vi.estimators import Factor, Term, rao_blackwellized, reparametrized
from cardiac_vae.vi.normal_wishart import NormalWishart, NormalWishartParameters, log_normal
from cardiac_vae.vi.unconstrained import constrained_component, free_component


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def some_parameters(*batch, dim=3):
    root = torch.randn(*batch, dim, dim, dtype=torch.float64)
    return NormalWishartParameters(
        torch.randn(*batch, dim, dtype=torch.float64),
        0.5 + torch.rand(batch, dtype=torch.float64),
        root @ root.mT + torch.eye(dim, dtype=torch.float64),
        dim + 3 * torch.rand(batch, dtype=torch.float64),
    )


def test_the_density_is_that_of_its_two_parts_in_torch():
    parameters = some_parameters(4)
    mean, mean_precision, scale_inverse, degrees = parameters
    drawn = NormalWishart(parameters).sample((6,))
    mu, precision = drawn[..., 0], drawn[..., 1:]
    of_precision = Wishart(degrees, precision_matrix=scale_inverse, validate_args=False)
    of_mean = MultivariateNormal(
        mean, precision_matrix=mean_precision[:, None, None] * precision, validate_args=False
    )
    expected = of_mean.log_prob(mu) + of_precision.log_prob(precision)
    torch.testing.assert_close(NormalWishart(parameters).log_prob(drawn), expected)


def test_in_one_dimension_it_is_a_normal_gamma():
    parameters = some_parameters(5, dim=1)
    mean, mean_precision, scale_inverse, degrees = parameters
    drawn = NormalWishart(parameters).sample((3,))
    mu, precision = drawn[..., 0, 0], drawn[..., 0, 1]
    expected = Gamma(degrees / 2, scale_inverse[:, 0, 0] / 2).log_prob(precision)
    expected = expected + Normal(mean[:, 0], (mean_precision * precision) ** -0.5).log_prob(mu)
    torch.testing.assert_close(NormalWishart(parameters).log_prob(drawn), expected)


def test_draws_have_the_moments_of_the_distribution():
    """E Lambda = nu W; Var Lambda_ij = nu (W_ij^2 + W_ii W_jj); mu ~ t, Var = W^-1/(k (nu-Z-1))."""
    parameters = some_parameters(dim=2)._replace(degrees=torch.tensor(9.0, dtype=torch.float64))
    mean, mean_precision, scale_inverse, degrees = parameters
    drawn = NormalWishart(parameters).sample((100_000,))
    mu, precision = drawn[..., 0], drawn[..., 1:]
    scale = torch.linalg.inv(scale_inverse)
    diagonal = scale.diagonal()
    variance = degrees * (scale.square() + diagonal[:, None] * diagonal)
    error = (variance / len(drawn)).sqrt()
    assert ((precision.mean(dim=0) - degrees * scale) / error).abs().max() < 4
    torch.testing.assert_close(precision.var(dim=0), variance, rtol=0.05, atol=0)
    covariance = scale_inverse / mean_precision / (degrees - 3)
    error = (covariance.diagonal() / len(drawn)).sqrt()
    assert ((mu.mean(dim=0) - mean) / error).abs().max() < 4
    torch.testing.assert_close(torch.cov(mu.T), covariance, rtol=0.05, atol=0.01)


def test_few_degrees_give_finite_draws():
    parameters = some_parameters(2)._replace(degrees=torch.full((2,), 2.001, dtype=torch.float64))
    drawn = NormalWishart(parameters).sample((2000,))
    assert drawn.isfinite().all()


def test_log_normal_is_that_of_torch():
    x, mean = torch.randn(2, 4, 3, dtype=torch.float64)
    precision = some_parameters(4).scale_inverse
    expected = MultivariateNormal(mean, precision_matrix=precision).log_prob(x)
    torch.testing.assert_close(log_normal(x, mean, precision), expected)


@pytest.mark.parametrize("estimator", [rao_blackwellized, reparametrized])
def test_estimates_of_the_gradient_of_a_moment_are_unbiased(estimator):
    """Of E[m' Lambda a + b' mu] = nu m' W a + b' m, in the free numbers."""
    free = free_component(some_parameters(dim=2)._replace(degrees=torch.tensor(7.0).double()))
    left, right, along = torch.randn(3, 2, dtype=torch.float64)
    leaf = free.clone().requires_grad_()
    mean, _, scale_inverse, degrees = constrained_component(leaf)
    moment = degrees * left @ torch.linalg.solve(scale_inverse, right) + along @ mean
    (exact,) = torch.autograd.grad(moment, leaf)

    def value(draws):
        mu, precision = draws["c"][..., 0], draws["c"][..., 1:]
        return torch.einsum("i,sij,j->s", left, precision, right) + mu @ along

    factor = Factor(free, lambda p: NormalWishart(constrained_component(p)))
    found = estimator({"c": factor}, [Term(value, ("c",))], 40_000)["c"]
    error = found.std(dim=0) / len(found) ** 0.5
    moving = error > 0  # kappa moves no draw's mean, and along its path none of this
    assert ((found.mean(dim=0) - exact)[moving] / error[moving]).abs().max() < 4
    torch.testing.assert_close(found.mean(dim=0)[~moving], exact[~moving])
