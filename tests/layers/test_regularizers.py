"""The KL in its parts, against an aggregate posterior that is enumerated with torch."""

import math
from itertools import combinations, permutations

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from cardiac_vae.layers.distributions import DiagonalNormal
from cardiac_vae.layers.regularizers import (
    KL,
    Capacity,
    TotalCorrelation,
    aggregate_log_densities,
)

STRATIFIED = TotalCorrelation(estimator="stratified")
WEIGHTED = TotalCorrelation(estimator="weighted")
PARTS = ("mutual_information", "total_correlation", "dimension_wise_kl")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def posteriors(cases, units=3):
    """Return q(z | x_n) of some cases, near enough to overlap."""
    return DiagonalNormal(torch.randn(cases, units), 0.3 * torch.randn(cases, units) - 0.5)


def draws(posterior, num_draws):
    return posterior.repeated(num_draws).rsample().unflatten(0, (num_draws, -1))


def all_whole(cases):
    return torch.ones(cases, dtype=torch.bool)


def aggregate(posterior):
    """Return q(z) = mean_n q(z | x_n), and its marginals as one batch of mixtures."""
    parts = Normal(posterior.mu, posterior.log_sigma.exp())
    cases, units = posterior.mu.shape
    joint = MixtureSameFamily(Categorical(torch.ones(cases)), Independent(parts, 1))
    by_unit = Normal(posterior.mu.T, posterior.log_sigma.T.exp())
    return joint, MixtureSameFamily(Categorical(torch.ones(units, cases)), by_unit)


def true_parts(posterior, z):
    """Return the three parts of each code (L, B), the batch being the whole data set."""
    joint, marginals = aggregate(posterior)
    log_q = joint.log_prob(z)
    log_product = marginals.log_prob(z).sum(dim=2)
    given_x = Normal(posterior.mu, posterior.log_sigma.exp()).log_prob(z).sum(dim=2)
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(dim=2)
    return dict(
        zip(PARTS, (given_x - log_q, log_q - log_product, log_product - log_prior), strict=True)
    )


def test_the_aggregate_and_its_marginals_are_mixtures_of_the_posteriors():
    posterior = posteriors(6)
    z = draws(posterior, 2)
    log_joint, log_product = aggregate_log_densities(posterior, z, torch.full((6, 6), 1 / 6))
    joint, marginals = aggregate(posterior)
    torch.testing.assert_close(log_joint, joint.log_prob(z))
    torch.testing.assert_close(log_product, marginals.log_prob(z).sum(dim=2))


@pytest.mark.parametrize("num_cases", [0, 6])
def test_with_all_the_data_in_the_batch_the_stratified_parts_are_exact(num_cases):
    posterior = posteriors(6)
    z = draws(posterior, 2)
    found = STRATIFIED.parts(posterior, z, all_whole(6), num_cases)
    expected = {name: part.mean(dim=0) for name, part in true_parts(posterior, z).items()}
    torch.testing.assert_close(found, expected)


def test_with_all_the_data_in_the_batch_weighted_densities_lie_low_by_the_log_of_its_size():
    posterior = posteriors(6)
    z = draws(posterior, 2)
    found = WEIGHTED.parts(posterior, z, all_whole(6), 6)
    offsets = dict(zip(PARTS, (math.log(6), (3 - 1) * math.log(6), -3 * math.log(6)), strict=True))
    expected = {
        name: part.mean(dim=0) + offsets[name] for name, part in true_parts(posterior, z).items()
    }
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("regularizer", [STRATIFIED, WEIGHTED], ids=lambda r: r.estimator)
@pytest.mark.parametrize("num_draws", [1, 3])
def test_the_parts_of_each_case_sum_to_its_log_ratio(regularizer, num_draws):
    posterior = posteriors(7)
    z = draws(posterior, num_draws)
    is_whole = torch.tensor([False, False, True, True, True, True, True])
    parts = regularizer.parts(posterior, z, is_whole, 100)
    many = posterior.repeated(num_draws)
    flat = z.flatten(end_dim=1)
    log_ratio = many.log_prob(flat) - DiagonalNormal.standard_like(flat).log_prob(flat)
    total = torch.stack([parts[name] for name in PARTS]).sum(dim=0)
    torch.testing.assert_close(total, log_ratio.unflatten(0, (num_draws, 7)).mean(dim=0))


def test_the_parts_sum_to_the_kl_in_the_mean_and_none_is_negative():
    posterior = posteriors(4, units=2)
    num_draws = 20_000
    z = draws(posterior, num_draws)
    parts = STRATIFIED.parts(posterior, z, all_whole(4), 4)
    kl = posterior.kl(DiagonalNormal.standard_like(posterior.mu))
    total = torch.stack([parts[name] for name in PARTS]).sum(dim=0)
    each = sum(true_parts(posterior, z).values())
    spread = each.std(dim=0) / math.sqrt(num_draws)
    assert ((total - kl).abs() < 5 * spread).all()
    assert all(parts[name].mean() > 0 for name in PARTS)
    assert parts["mutual_information"].mean() < math.log(4)  # four cases have names of two bits


def test_codes_that_vary_independently_have_no_total_correlation():
    mu = torch.cartesian_prod(torch.tensor([-2.0, 0.0, 1.0]), torch.tensor([-1.0, 3.0]))
    posterior = DiagonalNormal(mu, torch.full_like(mu, -1.0))
    found = STRATIFIED.parts(posterior, draws(posterior, 5), all_whole(6), 0)
    torch.testing.assert_close(found["total_correlation"], torch.zeros(6), atol=1e-5, rtol=0)
    on_a_line = DiagonalNormal(mu[:, :1].expand(6, 2), posterior.log_sigma)
    tied = STRATIFIED.parts(on_a_line, draws(on_a_line, 5), all_whole(6), 0)
    assert tied["total_correlation"].mean() > 0.3


def papers_weights(num_cases, num_others):
    """Return those of Chen et al. 2018, app. C: the case itself, then the others in their order."""
    last = (num_cases - num_others) / (num_cases * num_others)
    return [1 / num_cases, *[1 / num_others] * (num_others - 1), last]


def test_the_stratified_weights_are_the_mean_of_the_papers_over_the_orders_of_the_others():
    weights = STRATIFIED.weights(4, num_cases=50)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))
    own, *others = papers_weights(50, 3)
    assert own + sum(others) == pytest.approx(1)
    mean = torch.tensor(list(permutations(others))).mean(dim=0)
    for case in range(4):
        assert weights[case, case] == pytest.approx(own)
        torch.testing.assert_close(weights[case, torch.arange(4) != case], mean)


def test_the_stratified_density_is_unbiased_over_all_batches():
    posterior = posteriors(7)
    z = posterior.rsample()[:1]  # from case 0
    joint, _ = aggregate(posterior)
    estimates = []
    for others in combinations(range(1, 7), 2):
        batch = [0, *others]
        part = DiagonalNormal(posterior.mu[batch], posterior.log_sigma[batch])
        log_joint, _ = aggregate_log_densities(
            part, z.expand(1, 3, 3), STRATIFIED.weights(3, num_cases=7)
        )
        estimates.append(log_joint[0, 0].exp())
    torch.testing.assert_close(torch.stack(estimates).mean(), joint.log_prob(z)[0].exp())
    assert torch.stack(estimates).std() > 0


def test_weighted_weights_are_all_alike_and_the_size_of_the_data_set_moves_no_gradient():
    torch.testing.assert_close(WEIGHTED.weights(4, 50), torch.full((4, 4), 1 / 200))
    posterior = posteriors(5)
    mu = posterior.mu.requires_grad_()
    z = draws(posterior, 1)
    gradients = []
    for num_cases in (5, 5000):
        correlation = WEIGHTED.parts(posterior, z, all_whole(5), num_cases)["total_correlation"]
        gradients += torch.autograd.grad(correlation.sum(), mu, retain_graph=True)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0.01


@pytest.mark.parametrize("regularizer", [STRATIFIED, WEIGHTED], ids=lambda r: r.estimator)
def test_broken_cases_neither_count_in_the_aggregate_nor_are_pushed_by_it(regularizer):
    posterior = posteriors(6)
    mu = posterior.mu.requires_grad_()
    z = draws(posterior, 2)
    is_whole = torch.tensor([False, True, True, False, True, True])
    parts = regularizer.parts(posterior, z, is_whole, 40)
    alone = DiagonalNormal(posterior.mu[is_whole], posterior.log_sigma[is_whole])
    expected = regularizer.parts(alone, z[:, is_whole], all_whole(4), 40)
    torch.testing.assert_close({name: part[is_whole] for name, part in parts.items()}, expected)
    for name in PARTS[1:]:
        assert not parts[name][~is_whole].any()
    kl = posterior.kl(DiagonalNormal.standard_like(mu))[~is_whole]
    broken = {name: part[~is_whole] for name, part in parts.items()}
    torch.testing.assert_close(regularizer.cost(kl, broken, 0.5, 1.0), 0.5 * kl.mean())
    (gradient,) = torch.autograd.grad(parts["total_correlation"].sum(), mu)
    assert not gradient[~is_whole].any()
    assert gradient[is_whole].any(dim=1).all()


@pytest.mark.parametrize("regularizer", [STRATIFIED, WEIGHTED], ids=lambda r: r.estimator)
@pytest.mark.parametrize("num_whole", [0, 1])
@pytest.mark.parametrize("num_cases", [0, 1, 30])
def test_a_batch_may_hold_too_few_whole_cases_to_tell(regularizer, num_whole, num_cases):
    posterior = posteriors(3)
    posterior.mu.requires_grad_()
    parts = regularizer.parts(
        posterior, draws(posterior, 1), torch.arange(3) < num_whole, num_cases
    )
    assert all(bool(part.isfinite().all()) for part in parts.values())
    regularizer.cost(torch.ones(3), parts, 1.0, 1.0).backward()
    assert posterior.mu.grad.isfinite().all()


def test_codes_far_apart_have_finite_densities_and_gradients():
    mu = torch.linspace(-50, 50, 5)[:, None].repeat(1, 32).requires_grad_()
    posterior = DiagonalNormal(mu, torch.full_like(mu, -5.0))
    parts = STRATIFIED.parts(posterior, draws(posterior, 1), all_whole(5), 5)
    own = torch.full((5,), math.log(5))
    torch.testing.assert_close(parts["mutual_information"], own, atol=0.05, rtol=0)
    torch.testing.assert_close(parts["total_correlation"], 31 * own, atol=0.05, rtol=0)
    parts["total_correlation"].sum().backward()
    assert mu.grad.isfinite().all()


def test_equal_weights_of_the_parts_are_the_plain_kl():
    kl, parts = torch.rand(5), {name: torch.randn(5) for name in PARTS}
    plain = TotalCorrelation(alpha=1, beta=1, gamma=1).cost(kl, parts, 0.7, 0.1)
    torch.testing.assert_close(plain, KL().cost(kl, parts, 0.7, 0.1))
    torch.testing.assert_close(plain, 0.7 * kl.mean())


def test_weighed_parts_cost_their_weighted_sum_in_the_mean():
    posterior = posteriors(4, units=2)
    num_draws = 20_000
    each = true_parts(posterior, draws(posterior, num_draws))
    weighed = sum(w * each[name] for w, name in zip((0.5, 6.0, 2.0), PARTS, strict=True))
    regularizer = TotalCorrelation(alpha=0.5, beta=6, gamma=2)
    parts = {name: part.mean(dim=0) for name, part in each.items()}
    kl = posterior.kl(DiagonalNormal.standard_like(posterior.mu))
    spread = weighed.mean(dim=1).std() / math.sqrt(num_draws)
    assert abs(regularizer.cost(kl, parts, 1.0, 1.0) - weighed.mean()) < 5 * spread


def test_the_capacity_grows_linearly_over_its_share_of_the_steps():
    regularizer = Capacity(gamma=30, max_capacity=90, share=0.6)
    found = [regularizer.capacity(progress) for progress in (0, 0.3, 0.6, 0.9, 1)]
    assert found == pytest.approx([0, 45, 90, 90, 90])


def test_at_its_capacity_the_rate_costs_nothing_and_the_gradient_turns_round():
    """The rate is the mean over the cases: single ones may differ."""
    regularizer = Capacity(gamma=30, max_capacity=90, share=0.5)
    for mean, cost, slope in ((44.0, 30.0, -30), (45.0, 0.0, 0), (46.0, 30.0, 30)):
        kl = (mean + torch.tensor([-20.0, 0.0, 5.0, 15.0])).requires_grad_()
        found = regularizer.cost(kl, {}, weight=0.01, progress=0.25)
        assert found.item() == pytest.approx(cost)
        found.backward()
        torch.testing.assert_close(kl.grad, torch.full((4,), slope / 4))


def test_only_the_total_correlation_needs_parts():
    posterior = posteriors(4)
    for regularizer in (KL(), Capacity()):
        assert regularizer.parts(posterior, draws(posterior, 1), all_whole(4), 0) == {}
