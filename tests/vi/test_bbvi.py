import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Gamma, Normal

from cardiac_vae.vi.ascent import StepSizes
from cardiac_vae.vi.bbvi import (
    Bbvi,
    BbviConfig,
    BlackBoxConfig,
    BlackBoxState,
    black_box_step,
    mixture_family,
    mixture_terms,
)
from cardiac_vae.vi.cavi import Cavi, CaviConfig
from cardiac_vae.vi.estimators import Factor, Term, draw_with_scores, entropy_terms, variances
from cardiac_vae.vi.fitting import FitConfig, fit
from cardiac_vae.vi.mixture import MixturePrior, elbo, update
from cardiac_vae.vi.statistics import statistics
from cardiac_vae.vi.unconstrained import to_free

STEPS = StepSizes(size=0.2, delay=20, decay=0.9)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def codes():
    torch.manual_seed(0)
    noise = torch.randn(2, 12, 2, dtype=torch.float64)
    return (torch.tensor([-1.5, 1.5]).double()[:, None, None] + 0.7 * noise).flatten(0, 1)


@pytest.mark.parametrize("estimator", ["rao_blackwellized_controlled", "reparametrized"])
def test_the_posterior_of_a_normal_mean_is_recovered(estimator):
    torch.manual_seed(0)
    x = torch.tensor([2.1, 1.4, 2.6], dtype=torch.float64)
    precision = 1 / 2**2 + len(x) / 0.5**2
    mean = (1 / 2**2 + float(x.sum()) / 0.5**2) / precision
    log_joint = [
        Term(lambda d: Normal(1.0, 2.0).log_prob(d["m"]), ("m",)),
        Term(lambda d: Normal(d["m"][:, None], 0.5).log_prob(x), ("m",), "n"),
    ]
    factor = Factor(torch.zeros(2).double(), lambda p: Normal(p[..., 0], p[..., 1].exp()))
    state = BlackBoxState.at_rest({"m": factor})
    config = BlackBoxConfig(estimator=estimator, num_draws=20, steps=STEPS)
    for _ in range(150):
        state = black_box_step(state, log_joint, config)
    mu, log_sigma = state.family["m"].parameters.tolist()
    assert mu == pytest.approx(mean, abs=0.1 * precision**-0.5)
    assert log_sigma == pytest.approx(-0.5 * math.log(precision), abs=0.1)


def test_a_family_that_is_not_normal_is_fitted_all_the_same():
    """The rate of a Poisson: Gamma(2, 1) and counts 3, 5, 1 give Gamma(11, 4)."""
    torch.manual_seed(0)
    counts = torch.tensor([3.0, 5.0, 1.0], dtype=torch.float64)
    log_joint = [
        Term(lambda d: Gamma(2.0, 1.0).log_prob(d["rate"]), ("rate",)),
        Term(
            lambda d: torch.distributions.Poisson(d["rate"][:, None]).log_prob(counts),
            ("rate",),
            "n",
        ),
    ]
    factor = Factor(
        torch.zeros(2).double(), lambda p: Gamma(p[..., 0].exp(), (p[..., 0] - p[..., 1]).exp())
    )
    state = BlackBoxState.at_rest({"rate": factor})
    for _ in range(200):
        state = black_box_step(state, log_joint, BlackBoxConfig(num_draws=30, steps=STEPS))
    shape, mean = state.family["rate"].parameters.exp().tolist()
    assert mean == pytest.approx(11 / 4, rel=0.05)
    assert shape == pytest.approx(11, rel=0.1)


def test_terms_and_family_of_the_mixture_make_its_bound(codes):
    """The mean of log p - log q over draws, against the bound in closed form."""
    prior = MixturePrior.of(codes, mean_precision=0.5, concentration=2.0)
    posterior = Cavi(prior, CaviConfig(num_components=2)).init(codes, generator()).posterior
    log_responsibilities = (0.5 * posterior.log_responsibilities(codes)).log_softmax(dim=1)
    family = mixture_family(posterior, log_responsibilities)
    terms = [*mixture_terms(prior, codes, 2), *entropy_terms(family)]
    torch.manual_seed(0)
    draws, _ = draw_with_scores(family, 20_000)
    values = torch.stack([term.of(draws).reshape(20_000, -1).sum(dim=1) for term in terms]).sum(0)
    exact = elbo(prior, posterior, codes, log_responsibilities.exp())
    error = float(values.std()) / len(values) ** 0.5
    assert float(values.mean() - exact) == pytest.approx(0, abs=4 * error)
    assert error < 0.1


def test_on_the_mixture_each_way_to_lower_the_variance_lowers_it(codes):
    """At a start. At the posterior, where log p - log q is all but constant, its scaling by itself
    takes more of the components' variance than with a blanket, which is not constant there.
    """
    prior = MixturePrior.of(codes)
    best = Cavi(prior, CaviConfig(num_components=2)).init(codes, generator()).posterior
    names = ["score_function", "controlled", "rao_blackwellized", "rao_blackwellized_controlled"]
    found = {}
    for place, posterior in {"start": replace(best, mean=best.mean + 0.7), "best": best}.items():
        family = mixture_family(posterior, posterior.log_responsibilities(codes))
        terms = [*mixture_terms(prior, codes, 2), *entropy_terms(family)]
        torch.manual_seed(0)
        found[place] = variances(family, terms, 32, 15, names)
    for factor in ("weights", "components", "assignments"):
        plain, scaled, blanket, both = (found["start"][name][factor] for name in names)
        assert both < min(scaled, blanket)
        assert max(scaled, blanket) < plain
    _, scaled, _, both = (found["best"][name]["components"] for name in names)
    assert scaled < both


def test_one_component_recovers_the_exact_posterior(codes):
    prior = MixturePrior.of(codes)
    exact = update(prior, statistics(codes, torch.ones(len(codes), 1, dtype=torch.float64)))
    start = update(prior, statistics(codes[:6], torch.ones(6, 1, dtype=torch.float64)))
    method = Bbvi(prior, BbviConfig(num_components=1, steps=STEPS))
    state = method.start(start, codes, seed=0)
    before = method.elbo(state, codes)
    for _ in range(200):
        state = method.step(state, codes)
    best = float(elbo(prior, exact, codes))
    assert before < best - 5
    assert best - 0.1 < method.elbo(state, codes) <= best
    found, expected = to_free(state.posterior), to_free(exact)
    torch.testing.assert_close(found.components, expected.components, rtol=0, atol=0.15)


def test_it_agrees_with_coordinate_ascent_within_noise(codes):
    prior = MixturePrior.of(codes)
    target = fit(Cavi(prior, CaviConfig(num_components=2)), codes, FitConfig(), generator())
    method = Bbvi(prior, BbviConfig(num_components=2, steps=STEPS))
    found = fit(method, codes, FitConfig(max_steps=200, window=100), generator())
    best = target.bounds[-1]
    assert best - 0.5 < found.bounds[-1] <= best + 1e-6
    torch.testing.assert_close(found.posterior.mean, target.posterior.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(
        found.posterior.weights(), target.posterior.weights(), rtol=0, atol=0.05
    )
    ratio = found.posterior.covariances() @ target.posterior.covariances().inverse()
    torch.testing.assert_close(ratio, torch.eye(2).double().expand(2, 2, 2), rtol=0, atol=0.25)


def test_a_step_is_a_function_of_the_state(codes):
    method = Bbvi(MixturePrior.of(codes), BbviConfig(num_components=2, num_draws=4))
    state = method.init(codes, generator())
    before = torch.get_rng_state()
    first = method.step(state, codes)
    torch.manual_seed(5)
    assert_equal(method.step(state, codes), first)
    with pytest.raises(AssertionError):
        assert_equal(method.step(first, codes), first)
    torch.set_rng_state(before)
    method.step(state, codes)
    assert torch.equal(torch.get_rng_state(), before)


def assert_equal(one, other):
    for name, factor in one.ascent.family.items():
        torch.testing.assert_close(factor.parameters, other.ascent.family[name].parameters)


def test_batches_are_refused(codes):
    method = Bbvi(MixturePrior.of(codes), BbviConfig(num_components=2))
    with pytest.raises(ValueError, match="the 24 that assignments are about, got 5"):
        method.step(method.init(codes, generator()), codes[:5])
