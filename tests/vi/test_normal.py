import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cardiac_vae.vi.ascent import StepSizes
from cardiac_vae.vi.estimators import ESTIMATORS
from cardiac_vae.vi.normal import expectation_gradients, natural_gradient, normal_factor

STANDARD = Normal(torch.zeros((), dtype=torch.float64), 1.0)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def z_scores(estimates, exact):
    error = estimates.std(dim=0) / len(estimates) ** 0.5
    return (estimates.mean(dim=0) - exact) / error


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "reparametrized"])
def test_a_function_without_a_gradient_is_climbed_all_the_same(name):
    """E[z > c] = Phi(u), u = (mu - c) / sigma, of one unit; the sum over the units of a case."""
    mu = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64)
    log_sigma = torch.tensor([[0.2, -0.5], [0.0, 0.7]], dtype=torch.float64)
    edge = torch.tensor([[0.0, -0.8], [2.5, 0.0]], dtype=torch.float64)
    d_mu, d_log_sigma = expectation_gradients(
        lambda z: (z > edge).double().sum(dim=1), mu, log_sigma, 20_000, name
    )
    u = (mu - edge) / log_sigma.exp()
    density = STANDARD.log_prob(u).exp()
    assert d_mu.shape == d_log_sigma.shape == (20_000, 2, 2)
    assert z_scores(d_mu, density / log_sigma.exp()).abs().max() < 4
    assert z_scores(d_log_sigma, -u * density).abs().max() < 4


def test_the_reparametrized_gradient_is_that_of_the_path():
    """z = mu + sigma eps: dz^2/dmu = 2 z and dz^2/dlog sigma = 2 z (z - mu), for any shape."""
    mu, log_sigma = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3, 4, 5).double()
    seen = []

    def f(z):
        seen.append(z.detach())
        return z.square().flatten(start_dim=1).sum(dim=1)

    d_mu, d_log_sigma = expectation_gradients(f, mu, log_sigma, 3, "reparametrized")
    z = torch.stack(seen)
    torch.testing.assert_close(d_mu, 2 * z)
    torch.testing.assert_close(d_log_sigma, 2 * z * (z - mu))


def test_a_case_pays_nothing_for_what_others_do():
    mu = torch.zeros(2, 3, dtype=torch.float64)
    scale = torch.tensor([1.0, 1e6], dtype=torch.float64)
    d_mu, _ = expectation_gradients(lambda z: scale * z.sum(dim=1), mu, mu, 200)
    assert d_mu[:, 0].std() < 20
    assert d_mu[:, 1].std() > 1e5


def test_the_natural_gradient_is_divided_by_the_fisher_information():
    """The information is the Hessian of KL(q || q') in the parameters of q', where q' is q."""
    mu, log_sigma = torch.randn(2, dtype=torch.float64)
    fixed = Normal(mu, log_sigma.exp())
    fisher = torch.autograd.functional.hessian(
        lambda p: kl_divergence(fixed, Normal(p[0], p[1].exp())), torch.stack([mu, log_sigma])
    )
    gradient = torch.randn(2, dtype=torch.float64)
    natural = torch.stack(natural_gradient(*gradient, log_sigma))
    torch.testing.assert_close(fisher @ natural, gradient)


@pytest.mark.parametrize("name", ["rao_blackwellized_controlled", "reparametrized"])
def test_natural_steps_reach_the_posterior_of_a_normal_mean(name):
    """m ~ N(1, 2^2), x_n ~ N(m, 0.5^2), and the entropy's gradient (0, 1) in closed form."""
    x = torch.tensor([2.1, 1.4, 2.6], dtype=torch.float64)
    precision = 1 / 2**2 + len(x) / 0.5**2
    exact = (1 / 2**2 + float(x.sum()) / 0.5**2) / precision

    def log_joint(m):
        of_codes = Normal(m, 0.5).log_prob(x).sum(dim=1)
        return Normal(1.0, 2.0).log_prob(m)[:, 0] + of_codes

    mu, log_sigma = torch.tensor([0.0, -0.5], dtype=torch.float64).reshape(2, 1, 1)
    steps = StepSizes(size=0.15, delay=20, decay=0.9)
    for step in range(150):
        estimates = expectation_gradients(log_joint, mu, log_sigma, 20, name)
        d_mu, d_log_sigma = (estimate.mean(dim=0) for estimate in estimates)
        d_mu, d_log_sigma = natural_gradient(d_mu, d_log_sigma + 1, log_sigma)
        mu = mu + steps.at(step) * d_mu
        log_sigma = log_sigma + steps.at(step) * d_log_sigma
    assert float(mu) == pytest.approx(exact, abs=0.1 * precision**-0.5)
    assert float(log_sigma) == pytest.approx(-0.5 * math.log(precision), abs=0.1)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape, got \\(2,\\) and \\(3,\\)"):
        normal_factor(torch.zeros(2), torch.zeros(3))
