import pytest
import torch
from scipy import stats
from torch.distributions import Dirichlet, Gamma, kl_divergence

from cardiac_vae.vi.conjugate import (
    dirichlet_kl,
    expected_log_det,
    log_det,
    squared_norms,
    trace_of_ratio,
    wishart_kl,
)


@pytest.fixture
def matrices(rng) -> torch.Tensor:
    """Return positive definite matrices (4, 3, 3)."""
    roots = torch.from_numpy(rng.standard_normal((4, 3, 6)))
    return roots @ roots.mT


def test_forms_of_a_factor_are_those_of_its_matrix(rng, matrices):
    factors = torch.linalg.cholesky(matrices)
    inverses = torch.linalg.inv(matrices)
    offsets = torch.from_numpy(rng.standard_normal((4, 5, 3)))
    torch.testing.assert_close(log_det(factors), torch.logdet(matrices))
    expected = torch.einsum("kni,kij,knj->kn", offsets, inverses, offsets)
    torch.testing.assert_close(squared_norms(torch.linalg.inv(factors), offsets), expected)
    other = matrices.flip(0)
    expected = torch.stack([(i @ m).trace() for i, m in zip(inverses, other, strict=True)])
    torch.testing.assert_close(trace_of_ratio(factors, other), expected)


def test_dirichlet_kl_is_that_of_torch(rng):
    first, second = torch.from_numpy(rng.uniform(0.2, 4, (2, 5)))
    expected = kl_divergence(Dirichlet(first), Dirichlet(second))
    torch.testing.assert_close(dirichlet_kl(first, second), expected)


def test_a_wishart_of_size_one_is_a_gamma():
    scales_inverse, degrees = torch.tensor([[0.5, 3.0, 2.0], [1.5, 2.0, 7.0]]).double()
    prior_inverse, prior_degrees = torch.tensor([[2.0, 0.1, 2.0], [0.4, 5.0, 7.0]]).double()
    found = wishart_kl(
        scales_inverse.sqrt()[:, None, None],
        degrees,
        prior_inverse.sqrt()[:, None, None],
        prior_degrees,
    )
    gammas = (
        Gamma(degrees / 2, scales_inverse / 2),
        Gamma(prior_degrees / 2, prior_inverse / 2),
    )
    torch.testing.assert_close(found, kl_divergence(*gammas))


def test_wishart_kl_follows_from_the_entropy_of_scipy(matrices):
    """From the entropy E log |Lambda|, and from one density the prior's normalizer."""
    scale_inverse, prior_inverse = matrices[0], matrices[1]
    degrees, prior_degrees, size, eye = 6.5, 3.7, 3, torch.eye(3).double().numpy()
    scale = torch.linalg.inv(scale_inverse)
    of_q = stats.wishart(degrees, scale.numpy())
    of_p = stats.wishart(prior_degrees, torch.linalg.inv(prior_inverse).numpy())
    log_normalizer = of_q.logpdf(eye) + scale_inverse.trace() / 2
    expected_log = degrees * size / 2 - log_normalizer - of_q.entropy()
    expected_log = expected_log / ((degrees - size - 1) / 2)
    prior_normalizer = of_p.logpdf(eye) + prior_inverse.trace() / 2
    cross = (
        prior_normalizer
        + (prior_degrees - size - 1) / 2 * expected_log
        - degrees / 2 * (prior_inverse @ scale).trace()
    )
    factors = torch.linalg.cholesky(matrices)
    nu, nu0 = (torch.tensor([value]).double() for value in (degrees, prior_degrees))
    torch.testing.assert_close(expected_log_det(factors[:1], nu)[0], expected_log)
    found = wishart_kl(factors[:1], nu, factors[1:2], nu0)[0]
    torch.testing.assert_close(found, -of_q.entropy() - cross)
    same = wishart_kl(factors[:1], nu, factors[:1], nu)
    torch.testing.assert_close(same, torch.zeros(1).double(), atol=1e-12, rtol=0)
