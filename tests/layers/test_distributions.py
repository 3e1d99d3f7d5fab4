import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from cardiac_vae.layers.distributions import DiagonalNormal, soft_clamp


def draw(*shape):
    return DiagonalNormal(torch.randn(shape), torch.randn(shape))


def as_torch(normal):
    return Independent(Normal(normal.mu, normal.log_sigma.exp()), normal.mu.ndim - 1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4, 5), (2, 3, 2, 3, 4)])
def test_kl_and_log_density_equal_those_of_torch(shape):
    q, p = draw(*shape), draw(*shape)
    torch.testing.assert_close(q.kl(p), kl_divergence(as_torch(q), as_torch(p)))
    x = torch.randn(shape)
    torch.testing.assert_close(q.log_prob(x), as_torch(q).log_prob(x))


def test_kl_per_unit_adds_up_and_is_zero_only_for_the_same():
    q, p = draw(4, 3, 2, 2), draw(4, 3, 2, 2)
    per_unit = q.kl_per_unit(p)
    assert per_unit.shape == q.mu.shape
    assert (per_unit > 0).all()
    torch.testing.assert_close(per_unit.sum(dim=(1, 2, 3)), q.kl(p))
    assert not q.kl(q).any()


def test_kl_is_the_mean_of_the_log_ratio():
    q, p = draw(1, 2), draw(1, 2)
    many = DiagonalNormal(q.mu.expand(40_000, 2), q.log_sigma.expand(40_000, 2))
    z = many.rsample()
    estimate = (q.log_prob(z) - p.log_prob(z)).mean()
    torch.testing.assert_close(estimate, q.kl(p)[0], rtol=0.05, atol=0.02)


def test_a_temperature_scales_the_spread_and_zero_gives_the_mean():
    normal = DiagonalNormal(torch.full((20_000, 1), 3.0), torch.full((20_000, 1), 0.5))
    sigma = torch.tensor(0.5).exp()
    for temperature in (1.0, 0.4):
        z = normal.rsample(temperature)
        torch.testing.assert_close(z.mean(), torch.tensor(3.0), atol=0.05, rtol=0)
        torch.testing.assert_close(z.std(), temperature * sigma, rtol=0.02, atol=0)
    assert torch.equal(normal.rsample(0.0), normal.mu)


def test_draws_carry_gradients_to_both_parameters():
    mu, log_sigma = torch.zeros(5, 2, requires_grad=True), torch.zeros(5, 2, requires_grad=True)
    z = DiagonalNormal(mu, log_sigma).rsample()
    z.sum().backward()
    assert torch.equal(mu.grad, torch.ones(5, 2))
    torch.testing.assert_close(log_sigma.grad, z.detach())  # d(mu + e^s eps)/ds = eps at 0


def test_a_residual_posterior_multiplies_sigma_and_its_kl_does_not_see_the_prior_mean():
    """NVAE eq. 2: KL = (dmu^2 / sigma^2 + dsigma^2 - log dsigma^2 - 1) / 2."""
    prior, change = draw(4, 3), draw(4, 3)
    posterior = prior.shifted(change.mu, change.log_sigma)
    sigma, delta_sigma = prior.log_sigma.exp(), change.log_sigma.exp()
    torch.testing.assert_close(posterior.mu, prior.mu + change.mu)
    torch.testing.assert_close(posterior.log_sigma.exp(), sigma * delta_sigma)
    expected = 0.5 * (
        (change.mu / sigma).square() + delta_sigma.square() - delta_sigma.square().log() - 1
    )
    torch.testing.assert_close(posterior.kl(prior), expected.sum(dim=1))


def test_the_precision_weighted_normal_is_the_normalized_product_of_the_densities():
    """Against the product on a grid, and Sonderby et al. 2016, eq. 18-19, as they are written."""
    p, q = draw(6, 1), draw(6, 1)
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    densities = [Normal(n.mu.double(), n.log_sigma.double().exp()) for n in (p, q)]
    product = (densities[0].log_prob(grid) + densities[1].log_prob(grid)).softmax(dim=1) / 1e-3
    combined = p.precision_weighted(q)
    found = Normal(combined.mu.double(), combined.log_sigma.double().exp()).log_prob(grid).exp()
    torch.testing.assert_close(found, product, atol=1e-5, rtol=0)

    precisions = [(-2 * n.log_sigma).exp() for n in (p, q)]
    total = precisions[0] + precisions[1]
    torch.testing.assert_close(combined.log_sigma.exp(), total**-0.5)
    mean = (p.mu * precisions[0] + q.mu * precisions[1]) / total
    torch.testing.assert_close(combined.mu, mean)


def test_precision_weighting_takes_either_first_and_any_scale():
    p, q = draw(4, 3), draw(4, 3)
    one, other = p.precision_weighted(q), q.precision_weighted(p)
    torch.testing.assert_close(one.mu, other.mu)
    torch.testing.assert_close(one.log_sigma, other.log_sigma)
    for log_sigma, expected in ((60.0, p), (-60.0, DiagonalNormal(q.mu, p.mu * 0 - 60))):
        extreme = DiagonalNormal(q.mu, torch.full_like(q.mu, log_sigma))
        combined = p.precision_weighted(extreme)
        torch.testing.assert_close(combined.mu, expected.mu)
        torch.testing.assert_close(combined.log_sigma, expected.log_sigma)
    twice = p.precision_weighted(p)
    torch.testing.assert_close(twice.mu, p.mu)
    torch.testing.assert_close(twice.log_sigma.exp(), p.log_sigma.exp() / 2**0.5)


def test_the_standard_normal_has_mean_zero_and_sigma_one():
    standard = DiagonalNormal.standard_like(torch.full((2, 3), 7.0))
    assert not standard.mu.any()
    assert not standard.log_sigma.any()


def test_the_soft_clamp_is_bounded_rising_odd_and_flat_on_nothing_small():
    x = torch.linspace(-40, 40, 801, dtype=torch.float64, requires_grad=True)
    y = soft_clamp(x)
    assert (y.abs() <= 5).all()
    assert (y.diff() >= 0).all()
    torch.testing.assert_close(y, -y.flip(0))
    small = x.abs() < 0.5
    torch.testing.assert_close(y[small], x[small], atol=2e-3, rtol=0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope[400] == 1  # at zero
    assert soft_clamp(torch.tensor(1e6), limit=2.0) == 2.0
