"""On a hierarchy of normals, where the bound and its gradient have closed forms:

theta ~ N(0, 1),  z_n ~ N(theta, 0.5^2),  x_n ~ N(z_n, 0.3^2),  q = q(theta) prod_n q(z_n)
"""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal

from cardiac_vae.vi.estimators import (
    ESTIMATORS,
    Factor,
    Term,
    draw_with_scores,
    entropy_terms,
    leave_one_out_scaling,
    rao_blackwellized,
    reparametrized,
    score_function,
    variances,
)

X = torch.tensor([0.9, -0.4, 1.7, 0.3], dtype=torch.float64)
SPREAD, NOISE = 0.5, 0.3


def normal(parameters):
    return Normal(parameters[..., 0], parameters[..., 1].exp())


def a_family():
    theta = torch.tensor([0.8, -0.7], dtype=torch.float64)
    z = torch.stack([X - 0.2, torch.linspace(-1.5, -1.0, 4, dtype=torch.float64)], dim=1)
    return {"theta": Factor(theta, normal), "z": Factor(z, normal, "n")}


LOG_JOINT = [
    Term(lambda d: Normal(0.0, 1.0).log_prob(d["theta"]), ("theta",)),
    Term(
        lambda d: Normal(d["theta"][:, None], SPREAD).log_prob(d["z"]), ("theta", "z"), plates="n"
    ),
    Term(lambda d: Normal(d["z"], NOISE).log_prob(X), ("z",), plates="n"),
]


def expected_log_normal(first, second, scale):
    """E log N(a; b, scale^2) of independent normal a and b, given as (mean, variance)."""
    log_density = Normal(second[0], scale).log_prob(first[0])
    return log_density - (first[1] + second[1]) / (2 * scale**2)


def exact_gradients(family):
    """Of the evidence lower bound in closed form, by autograd."""
    free = {name: f.parameters.clone().requires_grad_() for name, f in family.items()}
    theta, z = ((p[..., 0], (2 * p[..., 1]).exp()) for p in free.values())
    zero = torch.zeros((), dtype=torch.float64)
    bound = expected_log_normal(theta, (zero, zero), 1.0)
    bound = bound + expected_log_normal(z, theta, SPREAD).sum()
    bound = bound + expected_log_normal((X, zero), z, NOISE).sum()
    for values in free.values():  # entropy: log sigma + 1/2 log(2 pi e)
        bound = bound + values[..., 1].sum() + values[..., 1].numel() * math.log(2 * math.pi) / 2
    return dict(zip(free, torch.autograd.grad(bound, list(free.values())), strict=True))


def z_scores(estimates, exact):
    """How many standard errors the mean over the first axis is away, elementwise."""
    error = estimates.std(dim=0) / len(estimates) ** 0.5
    return (estimates.mean(dim=0) - exact) / error


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_mean_of_many_draws_is_the_exact_gradient(name):
    family = a_family()
    terms = [*LOG_JOINT, *entropy_terms(family)]
    estimates = ESTIMATORS[name](family, terms, 40_000)
    for factor, exact in exact_gradients(family).items():
        assert estimates[factor].shape == (40_000, *exact.shape)
        scores = z_scores(estimates[factor], exact)
        assert scores.abs().max() < 4
        assert scores.abs().max() > 0.05  # an error of 0 would be no estimate


def variance_of_a_draw(name, family, terms):
    estimates = ESTIMATORS[name](family, terms, 40_000)
    return {factor: float(values.var(dim=0).sum()) for factor, values in estimates.items()}


def test_each_way_to_lower_the_variance_lowers_it():
    family = a_family()
    terms = [*LOG_JOINT, *entropy_terms(family)]
    found = {name: variance_of_a_draw(name, family, terms) for name in ESTIMATORS}
    for factor in family:
        plain, scaled, blanket, both, path = (found[name][factor] for name in ESTIMATORS)
        assert blanket < plain
        assert scaled < 0.5 * plain
        assert path < both < 0.5 * blanket
    of_z = {name: found[name]["z"] for name in ESTIMATORS}  # a local factor sees one case of four
    assert of_z["rao_blackwellized"] < 0.25 * of_z["score_function"]
    assert of_z["rao_blackwellized_controlled"] < 0.5 * of_z["controlled"]


@pytest.mark.parametrize("name", ["rao_blackwellized", "reparametrized"])
def test_the_variance_of_a_mean_is_that_of_a_draw_over_the_draws(name):
    family = a_family()
    terms = [*LOG_JOINT, *entropy_terms(family)]
    found = variances(family, terms, 50, 200, [name])
    assert list(found) == [name]
    for factor, of_a_draw in variance_of_a_draw(name, family, terms).items():
        assert found[name][factor] == pytest.approx(of_a_draw / 50, rel=0.3)


def test_the_gradient_of_a_discrete_factor_is_that_of_its_enumeration():
    logits = torch.tensor([[0.3, -0.5, 0.1], [1.0, 0.0, -1.0]], dtype=torch.float64)
    table = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]], dtype=torch.float64)
    family = {"c": Factor(logits, lambda p: Categorical(logits=p), "n")}
    term = Term(lambda d: table.T.gather(0, d["c"]), ("c",), "n")
    p = logits.softmax(dim=1)
    exact = p * (table - (p * table).sum(dim=1, keepdim=True))
    for name in ("score_function", "rao_blackwellized", "rao_blackwellized_controlled"):
        assert z_scores(ESTIMATORS[name](family, [term], 20_000)["c"], exact).abs().max() < 4


def test_a_part_sees_the_terms_at_its_own_place_on_shared_plates():
    """Against sums written out, for a term on plates (n, k) and factors on n, k and none."""
    table = torch.randn(3, 2, dtype=torch.float64)
    family = {
        "of_n": Factor(torch.randn(3, 2, dtype=torch.float64), normal, "n"),
        "of_k": Factor(torch.randn(2, 2, dtype=torch.float64), normal, "k"),
        "of_kn": Factor(torch.randn(2, 3, 2, dtype=torch.float64), normal, "kn"),
        "whole": Factor(torch.randn(2, dtype=torch.float64), normal),
    }
    every = tuple(family)
    term = Term(lambda d: d["whole"][:, None, None] + table, every, "nk")
    torch.manual_seed(1)
    draws, scores = draw_with_scores(family, 5)
    value = draws["whole"][:, None, None] + table
    expected = {
        "of_n": value[:, :, 0] + value[:, :, 1],
        "of_k": value[:, 0] + value[:, 1] + value[:, 2],
        "of_kn": value.mT,
        "whole": value.sum(dim=(1, 2)),
    }
    torch.manual_seed(1)
    found = rao_blackwellized(family, [term], 5)
    torch.manual_seed(1)
    whole = score_function(family, [term], 5)
    for name in family:
        torch.testing.assert_close(found[name], scores[name] * expected[name][..., None])
        sums = expected["whole"].reshape(5, *(1 for _ in scores[name].shape[1:]))
        torch.testing.assert_close(whole[name], scores[name] * sums)


def test_a_term_without_plates_is_seen_by_every_part():
    family = {"z": Factor(torch.zeros(3, 2, dtype=torch.float64), normal, "n")}
    term = Term(lambda d: d["z"].square().sum(dim=1), ("z",))
    torch.manual_seed(1)
    draws, scores = draw_with_scores(family, 5)
    torch.manual_seed(1)
    found = rao_blackwellized(family, [term], 5)["z"]
    torch.testing.assert_close(found, scores["z"] * draws["z"].square().sum(1)[:, None, None])


def test_scores_are_those_of_the_density():
    parameters = torch.tensor([[0.4, -0.3], [1.0, 0.2]], dtype=torch.float64)
    draws, scores = draw_with_scores({"z": Factor(parameters, normal, "n")}, 7)
    sigma = parameters[:, 1].exp()
    away = (draws["z"] - parameters[:, 0]) / sigma
    torch.testing.assert_close(scores["z"], torch.stack([away / sigma, away**2 - 1], dim=-1))


def test_the_scaling_of_a_draw_comes_from_the_others():
    score, signal = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)
    found = leave_one_out_scaling(score, signal)
    for s in range(6):
        others = [t for t in range(6) if t != s]
        h, f = score[others], signal[others]
        torch.testing.assert_close(found[s], (f * h**2).sum(dim=0) / (h**2).sum(dim=0))


def test_the_scaling_of_a_draw_is_unbiased_where_that_of_all_draws_is_not():
    """Three draws of z ~ N(0, 1), 50,000 times: d/dmu E[exp(z)] = exp(1/2)."""
    z = torch.randn(3, 50_000, dtype=torch.float64)
    signal = z.exp()
    controlled = z * (signal - leave_one_out_scaling(z, signal))
    exact = math.exp(0.5)
    assert z_scores(controlled.mean(dim=0), exact).abs() < 4
    of_all = (signal * z**2).sum(dim=0) / (z**2).sum(dim=0)
    assert z_scores((z * (signal - of_all)).mean(dim=0), exact) < -20


@pytest.mark.parametrize("name", ["rao_blackwellized_controlled", "reparametrized"])
def test_at_the_posterior_every_draw_gives_no_gradient(name):
    """log p - log q is then constant: its scaled control variate, or its path, takes all of it."""
    posterior = torch.tensor([0.4, -0.3], dtype=torch.float64)
    family = {"z": Factor(posterior, normal)}
    joint = Term(lambda d: normal(posterior).log_prob(d["z"]) + 7.0, ("z",))
    estimates = ESTIMATORS[name](family, [joint, *entropy_terms(family)], 50)["z"]
    torch.testing.assert_close(estimates, torch.zeros_like(estimates), atol=1e-12, rtol=0)
    plain = rao_blackwellized(family, [joint, *entropy_terms(family)], 50)["z"]
    assert plain.abs().max() > 1


def test_what_does_not_fit_is_named():
    family = a_family()
    with pytest.raises(ValueError, match=r"touch factors of .*theta.*got .*'mu'"):
        rao_blackwellized(family, [Term(lambda d: d["z"], ("mu",), "n")], 3)
    with pytest.raises(ValueError, match=r"plates '', got shape"):
        rao_blackwellized(family, [Term(lambda d: d["z"], ("z",))], 3)
    with pytest.raises(ValueError, match="a letter for each axis"):
        Factor(torch.zeros(3, 2), normal)
    with pytest.raises(ValueError, match="2 or more"):
        ESTIMATORS["controlled"](family, LOG_JOINT, 1)
    coin = {"c": Factor(torch.zeros(1), lambda p: Bernoulli(logits=p[..., 0]))}
    with pytest.raises(ValueError, match="'c', a Bernoulli; take a score-function"):
        reparametrized(coin, [Term(lambda d: d["c"], ("c",))], 3)
