import pytest
import torch

from cardiac_vae.vi.mixture import MixturePosterior
from cardiac_vae.vi.normal_wishart import NormalWishart
from cardiac_vae.vi.unconstrained import (
    FreeParameters,
    constrained_component,
    to_free,
    to_posterior,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_there_and_back_is_the_same_posterior(dim):
    root = torch.randn(3, dim, dim, dtype=torch.float64)
    posterior = MixturePosterior(
        torch.rand(3, dtype=torch.float64) + 0.1,
        10 * torch.randn(3, dim, dtype=torch.float64),
        torch.rand(3, dtype=torch.float64) + 0.1,
        root @ root.mT + 0.1 * torch.eye(dim, dtype=torch.float64),
        torch.rand(3, dtype=torch.float64) + dim,
    )
    free = to_free(posterior)
    assert free.components.shape == (3, dim + 2 + dim * (dim + 1) // 2)
    back = to_posterior(free)
    for name, values in list(vars(posterior).items()):
        torch.testing.assert_close(getattr(back, name), values)
    assert torch.equal(torch.cat([free.components[:, :dim], free.unitless], dim=1), free.components)


def test_any_numbers_are_a_posterior_and_no_two_the_same():
    free = FreeParameters(
        3 * torch.randn(4, dtype=torch.float64), 3 * torch.randn(4, 11, dtype=torch.float64)
    )
    posterior = to_posterior(free)  # which checks itself
    assert torch.linalg.eigvalsh(posterior.scale_inverse).min() > 0
    for found, expected in zip(to_free(posterior), free, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_only_means_share_information():
    """The covariance of the scores is diagonal but for the means; with W^-1 for S it is not."""
    free = torch.tensor([0.3, -0.5, 0.2, 1.1, 0.4, -0.2, 0.6], dtype=torch.float64)  # Z = 2
    leaf = free.expand(50_000, 7).clone().requires_grad_()
    distribution = NormalWishart(constrained_component(leaf))
    (scores,) = torch.autograd.grad(distribution.log_prob(distribution.sample()).sum(), leaf)
    correlation = torch.corrcoef(scores.T)
    between = correlation[2:, :].clone()
    between[:, 2:].fill_diagonal_(0)
    assert between.abs().max() < 4 / 50_000**0.5
    # log(nu - 1) with W^-1 = nu S held: each d falls by half of what log nu rises
    degrees = free[3].exp() + 1
    held = scores[:, 3] - 0.5 * (degrees - 1) / degrees * scores[:, 4:6].sum(dim=1)
    assert torch.corrcoef(torch.stack([held, scores[:, 4]]))[0, 1] < -0.3
