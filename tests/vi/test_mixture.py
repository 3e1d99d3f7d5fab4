from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from evidence import a_prior, evidence, one_component_evidence
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cardiac_vae.vi import statistics as statistics_module
from cardiac_vae.vi.mixture import (
    MixturePosterior,
    MixturePrior,
    NaturalParameters,
    elbo,
    elbo_of_statistics,
    expected_statistics,
    update,
)
from cardiac_vae.vi.statistics import statistics


def some(seed: int, num_codes: int, num_components: int, size: int):
    """Return codes and responsibilities."""
    rng = np.random.default_rng(seed)
    codes = torch.from_numpy(2 * rng.standard_normal((num_codes, size)))
    return codes, torch.from_numpy(rng.dirichlet([0.5] * num_components, num_codes))


@pytest.fixture
def posterior() -> MixturePosterior:
    """Return an update of three components in two dimensions."""
    return update(a_prior(2), statistics(*some(3, 12, 3, 2)))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_with_one_component_the_bound_is_the_evidence(size):
    codes, certain = some(0, 9, 1, size)
    prior = a_prior(size)
    posterior = update(prior, statistics(codes, certain))
    expected = one_component_evidence(prior, codes.numpy())
    assert float(elbo(prior, posterior, codes)) == pytest.approx(expected, rel=1e-12)
    assert float(elbo(prior, posterior, codes, certain)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("num_components", [2, 3])
def test_given_the_assignments_the_bound_is_exact(num_components):
    """Of certain assignments c it is log p(codes, c), so that the sum over all is the evidence."""
    codes, _ = some(2, 5, 1, 2)
    prior = a_prior(2)
    certain = torch.eye(num_components).double()
    joint = []
    for labels in product(range(num_components), repeat=5):
        responsibilities = certain[list(labels)]
        posterior = update(prior, statistics(codes, responsibilities))
        joint.append(elbo(prior, posterior, codes, responsibilities))
    total = torch.stack(joint).logsumexp(dim=0)
    exact = evidence(prior, codes.numpy(), num_components)
    assert float(total) == pytest.approx(exact, rel=1e-12)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), num_components=st.integers(2, 3))
def test_the_bound_is_below_the_evidence(seed, num_components):
    """For any factors, local and global; it is nearer to it for better ones."""
    codes, responsibilities = some(seed, 5, num_components, 2)
    prior = a_prior(2)
    anything = update(prior, statistics(*some(seed + 1, 5, num_components, 2)))
    better = update(prior, expected_statistics(anything, codes))
    bounds = [
        elbo(prior, anything, codes, responsibilities),
        elbo(prior, anything, codes),
        elbo(prior, better, codes),
    ]
    values = [float(bound) for bound in bounds]
    assert values == sorted(values)
    assert values[-1] < evidence(prior, codes.numpy(), num_components)


def test_the_best_local_factor_makes_both_forms_of_the_bound_one(posterior):
    prior, (codes, _) = a_prior(2), some(4, 30, 3, 2)
    found = expected_statistics(posterior, codes)
    whole = elbo(prior, posterior, codes)
    torch.testing.assert_close(elbo_of_statistics(prior, posterior, found), whole)
    best = posterior.log_responsibilities(codes).exp()
    torch.testing.assert_close(elbo(prior, posterior, codes, best), whole)


def test_bounds_of_batches_average_to_that_of_all(posterior):
    prior, (codes, responsibilities) = a_prior(2), some(4, 30, 3, 2)
    parts = torch.stack([elbo(prior, posterior, rows, scale=3.0) for rows in codes.split(10)])
    torch.testing.assert_close(parts.mean(), elbo(prior, posterior, codes))
    pairs = zip(codes.split(10), responsibilities.split(10), strict=True)
    parts = torch.stack([elbo(prior, posterior, *pair, scale=3.0) for pair in pairs])
    torch.testing.assert_close(parts.mean(), elbo(prior, posterior, codes, responsibilities))


def test_chunks_change_nothing(posterior, monkeypatch):
    prior, (codes, _) = a_prior(2), some(4, 30, 3, 2)

    def everything():
        bound = elbo(prior, posterior, codes)
        found = vars(expected_statistics(posterior, codes))
        return bound, found, posterior.log_prob(codes), posterior.log_responsibilities(codes)

    whole = everything()
    monkeypatch.setattr(statistics_module, "_CHUNK", 40)
    torch.testing.assert_close(everything(), whole)


def test_the_update_is_that_of_the_book():
    codes, responsibilities = some(1, 20, 3, 2)
    prior = a_prior(2)
    found = update(prior, statistics(codes, responsibilities))
    for k in range(3):
        r = responsibilities[:, k]
        count, mean = r.sum(), (r[:, None] * codes).sum(dim=0) / r.sum()
        spread = torch.einsum("n,ni,nj->ij", r, codes - mean, codes - mean)
        kappa, shift = prior.mean_precision, mean - prior.mean
        torch.testing.assert_close(found.concentration[k], prior.concentration + count)
        torch.testing.assert_close(found.mean_precision[k], kappa + count)
        torch.testing.assert_close(found.degrees[k], prior.degrees + count)
        expected = (kappa * prior.mean + count * mean) / (kappa + count)
        torch.testing.assert_close(found.mean[k], expected)
        expected = prior.scale_inverse + spread
        expected = expected + kappa * count / (kappa + count) * torch.outer(shift, shift)
        torch.testing.assert_close(found.scale_inverse[k], expected)


def test_the_update_adds_statistics_to_natural_parameters():
    codes, responsibilities = some(1, 20, 3, 2)
    prior = a_prior(2)
    counts = responsibilities.sum(dim=0)
    before = prior.components(3).natural()
    expected = NaturalParameters(
        before.concentration + counts,
        before.precision_mean + responsibilities.T @ codes,
        before.mean_precision + counts,
        before.second_moment + torch.einsum("nk,ni,nj->kij", responsibilities, codes, codes),
        before.degrees + counts,
    )
    found = update(prior, statistics(codes, responsibilities))
    torch.testing.assert_close(vars(found.natural()), vars(expected))
    torch.testing.assert_close(vars(MixturePosterior.from_natural(expected)), vars(found))


def test_natural_parameters_are_those_of_the_density(posterior):
    """Ratios of densities at two points, by scipy and by the statistics they multiply."""
    natural, k = posterior.natural(), 1

    def by_scipy(mean, precision):
        scale = torch.linalg.inv(posterior.scale_inverse[k]).numpy()
        covariance = np.linalg.inv(float(posterior.mean_precision[k]) * precision)
        normal = stats.multivariate_normal(posterior.mean[k].numpy(), covariance)
        wishart = stats.wishart(float(posterior.degrees[k]), scale)
        return normal.logpdf(mean) + wishart.logpdf(precision)

    def by_statistics(mean, precision):
        return (
            natural.precision_mean[k].numpy() @ precision @ mean
            - float(natural.mean_precision[k]) * mean @ precision @ mean / 2
            - np.trace(natural.second_moment[k].numpy() @ precision) / 2
            + float(natural.degrees[k]) * np.log(np.linalg.det(precision)) / 2
        )

    points = (
        (np.array([0.1, 0.4]), np.eye(2)),
        (np.array([2.0, -1]), np.array([[2, 0.3], [0.3, 1]])),
    )
    expected = by_scipy(*points[1]) - by_scipy(*points[0])
    assert by_statistics(*points[1]) - by_statistics(*points[0]) == pytest.approx(expected)


def test_a_step_is_one_between_natural_parameters(posterior):
    target = update(a_prior(2), statistics(*some(5, 40, 3, 2)))
    first, second = vars(posterior.natural()), vars(target.natural())
    expected = {name: 0.7 * first[name] + 0.3 * second[name] for name in first}
    torch.testing.assert_close(vars(posterior.towards(target, 0.3).natural()), expected)
    for rate, end in ((0.0, posterior), (1.0, target)):
        torch.testing.assert_close(
            vars(posterior.towards(target, rate).natural()), vars(end.natural())
        )


def test_expectations_are_those_of_draws(posterior, rng):
    codes = some(6, 4, 3, 2)[0]
    draws = 20_000
    weights = rng.dirichlet(posterior.concentration.numpy(), draws)
    found = posterior.expected_log_weights().numpy()
    np.testing.assert_allclose(found, np.log(weights).mean(axis=0), atol=0.02)
    for k in range(3):
        scale = torch.linalg.inv(posterior.scale_inverse[k]).numpy()
        precisions = stats.wishart.rvs(float(posterior.degrees[k]), scale, draws, random_state=rng)
        roots = np.linalg.cholesky(np.linalg.inv(posterior.mean_precision[k].item() * precisions))
        noise = rng.standard_normal((draws, 2))
        means = posterior.mean[k].numpy() + np.einsum("nij,nj->ni", roots, noise)
        offsets = codes.numpy()[:, None] - means
        squares = np.einsum("mni,nij,mnj->mn", offsets, precisions, offsets)
        logs = np.linalg.slogdet(precisions)[1] / 2 - np.log(2 * np.pi) - squares / 2
        found = posterior.expected_log_densities(codes)[:, k].numpy()
        np.testing.assert_allclose(found, logs.mean(axis=1), rtol=0.02, atol=0.02)


def test_the_predictive_is_a_mixture_of_t_distributions(posterior):
    codes = some(6, 7, 3, 2)[0]
    density = np.zeros(7)
    for k in range(3):
        freedom = float(posterior.degrees[k]) - 1
        kappa = float(posterior.mean_precision[k])
        shape = posterior.scale_inverse[k].numpy() * (1 + kappa) / (kappa * freedom)
        component = stats.multivariate_t(posterior.mean[k].numpy(), shape, freedom)
        density += float(posterior.weights()[k]) * component.pdf(codes.numpy())
    np.testing.assert_allclose(posterior.log_prob(codes).numpy(), np.log(density))


def test_the_predictive_of_one_component_is_a_ratio_of_evidences():
    codes, certain = some(0, 9, 1, 3)
    prior = a_prior(3)
    found = update(prior, statistics(codes[:8], certain[:8])).log_prob(codes[8:])
    ends = [one_component_evidence(prior, rows.numpy()) for rows in (codes, codes[:8])]
    assert float(found) == pytest.approx(ends[0] - ends[1])


def test_draws_are_of_the_predictive(posterior):
    """The log-density of draws, per component a monotone function of the distance, tells tails."""
    narrow = replace(posterior, degrees=posterior.degrees + 20)
    drawn = narrow.sample(100_000, torch.Generator().manual_seed(0))
    again = narrow.sample(100_000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    kappa, weights = narrow.mean_precision, narrow.weights()
    mean = weights @ narrow.mean
    # of a t with f degrees of freedom the covariance is its shape times f / (f - 2)
    spread = narrow.scale_inverse * ((1 + kappa) / kappa / (narrow.degrees - 3))[:, None, None]
    offsets = narrow.mean - mean
    spread = spread + offsets[:, :, None] * offsets[:, None, :]
    expected = torch.einsum("k,kij->ij", weights, spread)
    torch.testing.assert_close(drawn.mean(dim=0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), expected, atol=0.02, rtol=0.02)


def test_tails_of_draws_are_those_of_the_t():
    one = a_prior(1).components(1)
    drawn = one.sample(4000, torch.Generator().manual_seed(1))[:, 0].numpy()
    freedom, kappa = float(one.degrees), float(one.mean_precision)
    scale = np.sqrt(float(one.scale_inverse) * (1 + kappa) / (kappa * freedom))
    assert stats.kstest(drawn, stats.t(freedom, float(one.mean), scale).cdf).pvalue > 0.05


def test_gradients_flow_through_the_bound(posterior):
    prior, codes = a_prior(2), some(7, 6, 3, 2)[0]
    parameters = [values.clone().requires_grad_() for values in vars(posterior).values()]

    def bound(concentration, mean, mean_precision, scale_inverse, degrees):
        symmetric = (scale_inverse + scale_inverse.mT) / 2
        at = MixturePosterior(concentration, mean, mean_precision, symmetric, degrees)
        return elbo(prior, at, codes)

    assert torch.autograd.gradcheck(bound, parameters)


def test_the_density_has_a_gradient_in_the_codes(posterior):
    codes = some(7, 6, 3, 2)[0].requires_grad_()
    assert torch.autograd.gradcheck(posterior.log_prob, codes)


def test_at_the_optimum_the_gradient_is_zero():
    prior, codes = a_prior(2), some(7, 12, 2, 2)[0]
    posterior = update(prior, statistics(*some(7, 12, 2, 2)))
    for _ in range(400):
        posterior = update(prior, expected_statistics(posterior, codes))
    parameters = {name: v.clone().requires_grad_() for name, v in vars(posterior).items()}
    elbo(prior, MixturePosterior(**parameters), codes).backward()
    for name, values in parameters.items():
        assert values.grad is not None
        assert float(values.grad.abs().max()) < 1e-6, name


def test_a_prior_of_codes_has_their_moments():
    codes = some(8, 40, 1, 3)[0]
    prior = MixturePrior.of(codes)
    torch.testing.assert_close(prior.mean, codes.mean(dim=0))
    torch.testing.assert_close(prior.scale_inverse, torch.cov(codes.T))
    assert (prior.concentration, prior.mean_precision, prior.degrees) == (1, 1, 3)
    assert MixturePrior.of(codes.numpy(), degrees=7).degrees == 7


def test_a_constant_dimension_has_a_narrow_prior():
    codes = some(8, 40, 1, 3)[0]
    codes[:, 1] = 1e4
    prior = MixturePrior.of(codes)
    largest = torch.linalg.eigvalsh(torch.cov(codes.T))[-1]
    assert float(prior.scale_inverse[1, 1]) == pytest.approx(1e-6 * float(largest))
    posterior = update(prior, statistics(codes, torch.ones(40, 1).double()))
    assert float(elbo(prior, posterior, codes)) == pytest.approx(
        one_component_evidence(prior, codes.numpy()), rel=1e-6
    )
    drawn = posterior.sample(100, torch.Generator().manual_seed(0))
    assert float((drawn[:, 1] - 1e4).abs().max()) < 0.02


def test_fewer_codes_than_dimensions_have_a_prior():
    codes = some(8, 3, 1, 8)[0]
    posterior = update(MixturePrior.of(codes), statistics(codes, torch.ones(3, 1).double()))
    assert posterior.log_prob(codes).isfinite().all()


@pytest.mark.parametrize("codes", [np.ones((1, 2)), np.full((5, 2), 0.1), np.zeros((4, 2))])
def test_codes_without_spread_have_no_prior(codes):
    with pytest.raises(ValueError, match="codes: expected two or more that differ"):
        MixturePrior.of(codes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concentration": 0.0}, "concentration: expected more than 0"),
        ({"mean_precision": float("nan")}, "mean_precision: expected more than 0"),
        ({"degrees": 1.0}, "degrees: expected more than 1"),
        ({"scale_inverse": torch.zeros(2, 2)}, "scale_inverse: expected positive definite"),
        ({"scale_inverse": torch.eye(2) * torch.nan}, "scale_inverse: expected positive definite"),
        ({"scale_inverse": torch.eye(3)}, "prior: expected a mean"),
    ],
)
def test_a_prior_that_is_none_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(a_prior(2), **change)


def test_a_posterior_that_is_none_is_refused(posterior):
    with pytest.raises(ValueError, match="mixture: expected parameters"):
        replace(posterior, degrees=torch.ones(2))
    natural = posterior.natural()
    with pytest.raises(ValueError, match="mean_precision: expected more than 0"):
        MixturePosterior.from_natural(replace(natural, mean_precision=-natural.mean_precision))
    flat = replace(natural, second_moment=torch.zeros(3, 2, 2).double())
    with pytest.raises(ValueError, match=r"positive definite matrices.* \[0, 1, 2\]"):
        _ = MixturePosterior.from_natural(flat).cholesky
