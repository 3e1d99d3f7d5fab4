import math

import pytest
import torch
from torch.autograd.functional import hessian, jacobian

from cardiac_vae.vi.cavi import Cavi, CaviConfig
from cardiac_vae.vi.fitting import FitConfig, fit
from cardiac_vae.vi.gradient import (
    Gradient,
    GradientConfig,
    NaturalGradient,
    NaturalGradientConfig,
    bound_and_gradient,
)
from cardiac_vae.vi.mixture import (
    MixturePosterior,
    MixturePrior,
    NaturalParameters,
    elbo,
    expected_statistics,
    update,
)
from cardiac_vae.vi.statistics import statistics
from cardiac_vae.vi.unconstrained import FreeParameters, to_free, to_posterior

LONG = FitConfig(tolerance=1e-11)


def generator():
    return torch.Generator().manual_seed(0)


def two_clusters(dim=2, number=24):
    torch.manual_seed(0)
    noise = torch.randn(2, number // 2, dim, dtype=torch.float64)
    spread = torch.tensor([0.5, 1.0], dtype=torch.float64)[:, None, None]
    center = torch.tensor([-1.5, 2.0], dtype=torch.float64)[:, None, None]
    return (center + spread * noise).flatten(0, 1)


def methods(prior, num_components):
    return {
        "gradient": Gradient(prior, GradientConfig(num_components=num_components)),
        "natural": NaturalGradient(
            prior, NaturalGradientConfig(num_components=num_components, step_size=0.5)
        ),
    }


def assert_same(found, expected, rtol):
    for name in ("concentration", "mean", "mean_precision", "scale_inverse", "degrees"):
        values = getattr(expected, name)
        torch.testing.assert_close(getattr(found, name), values, rtol=rtol, atol=rtol, msg=name)


def disturbed(posterior, unit=1.0):
    """A posterior some nats away, of codes in another unit."""
    dim = posterior.mean.shape[1]
    return MixturePosterior(
        0.5 * posterior.concentration,
        unit * (posterior.mean + 0.7),
        0.5 * posterior.mean_precision,
        unit**2 * (posterior.scale_inverse + torch.eye(dim, dtype=torch.float64)),
        posterior.degrees - 0.3 * (posterior.degrees - dim + 1),
    )


def climb(method, posterior, codes, num_steps):
    """Return the bound after each step, and where the last one led."""
    states = [method.start(posterior)]
    for _ in range(num_steps):
        states.append(method.step(states[-1], codes))
    bounds = torch.tensor([method.elbo(s, codes) for s in states], dtype=torch.float64)
    return bounds, states[-1].posterior


@pytest.fixture(scope="module")
def fixed_point():
    """Codes, prior, and where coordinate ascent comes to rest."""
    codes = two_clusters()
    prior = MixturePrior.of(codes)
    found = fit(Cavi(prior, CaviConfig(num_components=2)), codes, LONG, generator())
    assert found.has_converged
    return codes, prior, found


@pytest.mark.parametrize(
    ("name", "num_steps", "nats", "rtol"),
    [("gradient", 120, 2e-3, 0.05), ("natural", 50, 1e-9, 1e-6)],
)
def test_the_posterior_of_one_component_is_the_exact_one(name, num_steps, nats, rtol):
    """Without assignments to infer the conjugate posterior has a closed form."""
    codes = two_clusters()
    prior = MixturePrior.of(codes)
    exact = update(prior, statistics(codes, torch.ones(len(codes), 1, dtype=torch.float64)))
    bounds, found = climb(methods(prior, 1)[name], disturbed(exact), codes, num_steps)
    best = float(elbo(prior, exact, codes))
    assert bounds[0] < best - 3
    assert (bounds.diff() > -1e-9).all()
    assert float(bounds[-1]) == pytest.approx(best, abs=nats)
    for part in ("mean", "mean_precision", "scale_inverse", "degrees"):
        torch.testing.assert_close(getattr(found, part), getattr(exact, part), rtol=rtol, atol=0)


@pytest.mark.parametrize("name", ["gradient", "natural"])
def test_both_reach_the_fixed_point_of_coordinate_ascent(name, fixed_point):
    codes, prior, target = fixed_point
    found = fit(methods(prior, 2)[name], codes, FitConfig(tolerance=1e-9), generator())
    assert found.has_converged
    assert found.bounds[-1] == pytest.approx(target.bounds[-1], abs=1e-6)
    assert found.bounds[-1] > found.bounds[0] + 1e-3
    assert (torch.tensor(found.bounds).diff() > -1e-9).all()
    assert_same(found.posterior, target.posterior, rtol=5e-3)


def test_the_natural_gradient_needs_far_fewer_steps(fixed_point):
    codes, prior, target = fixed_point
    steps = {}
    for name, method in methods(prior, 2).items():
        bounds, _ = climb(method, disturbed(target.posterior), codes, 60)
        assert bounds[0] < target.bounds[-1] - 5
        steps[name] = int((bounds < target.bounds[-1] - 0.1).sum())
    assert steps["natural"] < 10
    assert 30 < steps["gradient"] < 60


def test_the_natural_gradient_asks_for_no_unit_and_the_euclidean_does(fixed_point):
    codes, _, target = fixed_point
    seen = {}
    for unit in (1.0, 100.0):
        prior = MixturePrior.of(unit * codes)
        start = disturbed(target.posterior, unit)
        for name, method in methods(prior, 2).items():
            bounds, _ = climb(method, start, unit * codes, 15)
            seen[name, unit] = bounds + codes.numel() * math.log(unit)
    torch.testing.assert_close(seen["natural", 100.0], seen["natural", 1.0])
    assert seen["gradient", 100.0][-1] < seen["gradient", 1.0][-1] - 0.1


def test_a_natural_step_of_size_one_is_a_sweep_of_coordinate_ascent():
    codes = two_clusters()
    prior = MixturePrior.of(codes)
    method = NaturalGradient(prior, NaturalGradientConfig(num_components=3, step_size=1))
    sweeps = Cavi(prior, CaviConfig(num_components=3))
    state, swept = method.init(codes, generator()), sweeps.init(codes, generator())
    for _ in range(4):
        assert_same(state.posterior, swept.posterior, rtol=1e-12)
        state, swept = method.step(state, codes), sweeps.step(swept, codes)


# Of one dimension, where no natural parameter stands twice in a symmetric matrix: eta is a vector.


def flat(posterior):
    return torch.cat([values.flatten() for values in vars(posterior.natural()).values()])


def of_flat(eta):
    alpha, first, kappa, second, degrees = eta.chunk(5)
    natural = NaturalParameters(alpha, first[:, None], kappa, second[:, None, None], degrees)
    return MixturePosterior.from_natural(natural)


def log_normalizer(eta):
    """A(eta) of Dirichlet x normal-gamma, whose Hessian is the Fisher information."""
    q = of_flat(eta)
    rate, degrees = q.scale_inverse.flatten() / 2, q.degrees
    of_weights = q.concentration.lgamma().sum() - q.concentration.sum().lgamma()
    of_components = (degrees / 2).lgamma() - degrees / 2 * rate.log() - q.mean_precision.log() / 2
    return of_weights + of_components.sum()


@pytest.fixture
def one_dimension():
    codes = two_clusters(dim=1, number=10)
    prior = MixturePrior.of(codes)
    start = Gradient(prior, GradientConfig(num_components=2)).init(codes, generator()).posterior
    posterior = MixturePosterior(
        0.7 * start.concentration,
        start.mean + 0.3,
        1.4 * start.mean_precision,
        1.2 * start.scale_inverse,
        0.8 * start.degrees,
    )
    return prior, posterior, codes


def test_the_natural_gradient_is_the_gradient_over_the_fisher_information(one_dimension):
    prior, posterior, codes = one_dimension
    eta = flat(posterior).requires_grad_()
    (gradient,) = torch.autograd.grad(elbo(prior, of_flat(eta), codes), eta)
    natural = torch.linalg.solve(hessian(log_normalizer, eta.detach()), gradient)
    target = flat(update(prior, expected_statistics(posterior, codes)))
    torch.testing.assert_close(natural, target - eta.detach())


def test_the_natural_step_is_the_same_in_other_parameters_and_the_euclidean_is_not(one_dimension):
    """Both are taken in free numbers, and seen in natural parameters.

    What is left between the two natural steps is of second order: half the step, a quarter of it.
    Between the Euclidean ones it is of first order: half of it, and as long as the step.
    """
    prior, posterior, codes = one_dimension
    eta, free = flat(posterior), to_free(posterior)
    theta = torch.cat([free.weights, free.components.flatten()])

    def seen(theta):
        return flat(to_posterior(FreeParameters(theta[:2], theta[2:].reshape(2, -1))))

    jacobi = jacobian(seen, theta)
    fisher = hessian(log_normalizer, eta)
    gradient = torch.cat(
        [part.flatten() for part in bound_and_gradient(prior, free, codes)[1]]
    )  # in theta; in eta it is J^-T of it
    in_eta = torch.linalg.solve(jacobi.T, gradient)
    natural_in_eta = torch.linalg.solve(fisher, in_eta)
    natural = torch.linalg.solve(jacobi.T @ fisher @ jacobi, gradient)

    def apart(step, step_in_eta, rate):
        return float((seen(theta + rate * step) - eta - rate * step_in_eta).norm())

    rate = 1e-3
    of_natural = [apart(natural, natural_in_eta, size) for size in (rate, rate / 2)]
    assert of_natural[0] / of_natural[1] == pytest.approx(4, rel=0.05)
    assert of_natural[0] < 0.01 * rate * float(natural_in_eta.norm())
    small = 1e-3 / float(gradient.norm())
    of_euclidean = [apart(gradient, in_eta, size) for size in (small, small / 2)]
    assert of_euclidean[0] / of_euclidean[1] == pytest.approx(2, rel=0.05)
    assert of_euclidean[0] > 0.5 * small * float(in_eta.norm())


def test_the_bound_and_gradient_are_those_of_finite_differences(one_dimension):
    prior, posterior, codes = one_dimension
    free = to_free(posterior)
    bound, gradient = bound_and_gradient(prior, free, codes)
    assert bound == pytest.approx(float(elbo(prior, posterior, codes)))
    tiny = 1e-5
    for index in range(free.components.shape[1]):
        change = torch.zeros_like(free.components)
        change[1, index] = tiny
        sides = [
            float(elbo(prior, to_posterior(free._replace(components=free.components + c)), codes))
            for c in (change, -change)
        ]
        slope = (sides[0] - sides[1]) / (2 * tiny)
        assert float(gradient.components[1, index]) == pytest.approx(slope, rel=1e-5, abs=1e-6)
