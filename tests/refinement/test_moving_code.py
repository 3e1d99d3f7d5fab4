"""The bound against brute force: masks enumerated, codes integrated out on a grid."""

from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from stub_model import UntrainableModel

from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.normal_mixture import NormalMixture
from cardiac_vae.models import build_model
from cardiac_vae.refinement.code_posterior import CodePosterior
from cardiac_vae.refinement.explanation import Estimator, ExplanationConfig
from cardiac_vae.refinement.moving_code import MovingCode
from cardiac_vae.refinement.native_grid import NativeGrid

SIZE = 2
ESTIMATORS = get_args(Estimator)


class Linear(UntrainableModel):
    """Logits that are linear in the code, and an encoder that says N(start, 0.3^2)."""

    def __init__(self, dimensions=1, start=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        shape = (dimensions, 4, SIZE, SIZE)
        self.weights = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.start = start

    def encode(self, mask, is_broken=None, condition=None, temperature=0.0):
        shape = (len(mask), len(self.weights))
        mean = torch.full(shape, self.start, dtype=torch.float64)
        if temperature == 0:
            return [mean]
        return [mean + 0.3 * temperature * torch.randn(shape, dtype=torch.float64)]

    def decode(self, latents, temperature=0.0, condition=None):
        return torch.einsum("nz,zchw->nchw", latents[0], self.weights)

    @property
    def latent_sizes(self):
        return [len(self.weights)]


GRID = NativeGrid(*[torch.eye(SIZE, dtype=torch.float64)] * 2, 1.0)


def evidence_of(rng, number=1):
    return rng.normal(scale=1.5, size=(number, 4, SIZE, SIZE))


def moving(model, evidence, density=None, grid=GRID, **settings):
    config = ExplanationConfig(mode="optimized", num_groups=None, **settings)
    seen = np.zeros((len(evidence), 4, SIZE, SIZE))
    return MovingCode(model, grid, seen, evidence, config, density)


def log_evidence(model, evidence, log_prior):
    """Return log of the integral over e of the sum over all masks x of p(e) p(x | e) exp(g_x)."""
    codes = torch.linspace(-9, 9, 1801, dtype=torch.float64)[:, None]
    said = model.decode([codes]).log_softmax(dim=1).flatten(start_dim=2)  # (E, C, pixels)
    g = torch.from_numpy(evidence).flatten(start_dim=1)
    pixels = torch.arange(g.shape[1])
    masks = [torch.tensor(mask) for mask in product(range(4), repeat=g.shape[1])]
    terms = torch.stack([(said[:, x, pixels] + g[x, pixels]).sum(dim=1) for x in masks])
    step = codes[1, 0] - codes[0, 0]
    return float((terms.logsumexp(dim=0) + log_prior(codes)).logsumexp(dim=0) + step.log())


def standard(codes):
    return torch.distributions.Normal(0.0, 1.0).log_prob(codes).sum(dim=1)


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_is_below_the_evidence_and_close_to_it_in_the_end(seed):
    model, evidence = Linear(), evidence_of(np.random.default_rng(seed))
    settings = {"num_draws": 1000, "max_steps": 40, "tolerance": 0.0}
    code = moving(model, evidence, **settings)
    truth = log_evidence(model, evidence[0], standard)
    code.move()
    assert code.bounds[0] < code.bounds[-1] < truth
    assert truth - code.bounds[-1] < 0.1


def test_the_bound_holds_with_a_density_in_the_priors_place():
    mixture = NormalMixture(
        torch.tensor([[-2.0], [1.5]], dtype=torch.float64),
        torch.tensor([[[0.5]], [[0.4]]], dtype=torch.float64),
    )
    density = CodeDensity(torch.eye(1, dtype=torch.float64), mixture, ((1,),))
    evidence, found = evidence_of(np.random.default_rng(1)), []
    truth = log_evidence(Linear(), evidence[0], mixture.log_prob)
    for start in (-2.0, 1.5):
        settings = {"num_draws": 1000, "max_steps": 60, "tolerance": 0.0}
        code = moving(Linear(start=start), evidence, density, **settings)
        found.append(code.move()[1])
    assert max(found) < truth
    assert truth - max(found) < 0.75  # a normal is in one of two modes: log 2 if they weigh alike


def test_without_evidence_the_code_goes_to_the_density():
    center, spread = 1.2, 0.5
    normal = NormalMixture(
        torch.tensor([[center]], dtype=torch.float64),
        torch.tensor([[[spread]]], dtype=torch.float64),
    )
    density = CodeDensity(torch.eye(1, dtype=torch.float64), normal, ((1,),))
    nothing = np.zeros((1, 4, SIZE, SIZE))
    code = moving(Linear(), nothing, density, num_draws=1000, max_steps=60, tolerance=0.0)
    code.move()
    assert code.posterior.mu.item() == pytest.approx(center, abs=0.05)
    assert code.posterior.log_sigma.exp().item() == pytest.approx(spread, abs=0.03)


def test_a_density_that_is_the_prior_changes_nothing(rng):
    normal = NormalMixture(
        torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[None]
    )
    density = CodeDensity(torch.eye(2, dtype=torch.float64), normal, ((2,),))
    evidence = evidence_of(rng, 2)
    with_it, without = (moving(Linear(2), evidence, d) for d in (density, None))
    for code in (with_it, without):
        code.move()
    np.testing.assert_allclose(with_it.bounds, without.bounds, rtol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_no_step_and_no_sweep_lowers_the_bound(rng, estimator, weight):
    model, evidence = Linear(3, start=0.5), evidence_of(rng, 5)
    settings = {"estimator": estimator, "tolerance": 0.0, "max_steps": 12}
    code = moving(model, evidence, prior_weight=weight, num_draws=6, **settings)
    log_belief, bound = code.move()
    assert (np.diff(code.bounds) >= 0).all()
    assert code.bounds[-1] > code.bounds[0] + 0.5
    assert bound == code.bounds[-1]
    np.testing.assert_allclose(np.exp(log_belief).sum(axis=1), 1, atol=1e-9)
    assert code.move()[1] == pytest.approx(bound, abs=1e-9)  # no steps left
    told = moving(model, np.zeros_like(evidence), prior_weight=weight, num_draws=6, **settings)
    same, bound = told.move(evidence)  # wherever it comes from
    np.testing.assert_allclose(same, log_belief, atol=1e-9)
    assert bound == pytest.approx(code.bounds[-1], abs=1e-9)


def test_the_gradient_is_that_of_the_bound(rng):
    """By finite differences."""
    model, evidence = Linear(2, start=0.3), evidence_of(rng)
    code = moving(model, evidence, estimator="natural", num_draws=6, prior_weight=2.0)
    at = code.posterior

    def bound(mu, log_sigma):
        said, cost = code.reading(CodePosterior(mu, log_sigma, at.group_shapes))
        joint = said + torch.from_numpy(evidence)
        return float(joint.logsumexp(dim=2).sum(dim=(2, 3)).mean(dim=0) - cost)

    d_mu, d_log_sigma = code.direction(at, torch.from_numpy(evidence))
    for axis in range(2):
        small = torch.zeros(1, 2, dtype=torch.float64)
        small[0, axis] = 1e-5
        slope = bound(at.mu + small, at.log_sigma) - bound(at.mu - small, at.log_sigma)
        variance = (2 * at.log_sigma[0, axis]).exp()
        assert d_mu[0, axis].item() == pytest.approx(float(variance * slope / 2e-5), rel=1e-4)
        slope = bound(at.mu, at.log_sigma + small) - bound(at.mu, at.log_sigma - small)
        assert d_log_sigma[0, axis].item() == pytest.approx(slope / 4e-5, rel=1e-4)


def test_the_estimators_agree_in_the_mean(rng):
    model, evidence = Linear(2, start=0.3), evidence_of(rng)
    found = {}
    for estimator in ESTIMATORS:
        code = moving(model, evidence, estimator=estimator, num_draws=10_000)
        code.bounds.append(0.0)  # the first step, whose draws are not the bound's
        found[estimator] = torch.cat(code.direction(code.posterior, torch.from_numpy(evidence)))
    variance = (2 * code.posterior.log_sigma).exp()
    scale = variance.mean()  # what makes one step size fit
    natural = torch.cat([variance / scale, torch.full_like(variance, 0.5) / scale])
    torch.testing.assert_close(
        found["reparametrized"] * natural, found["natural"], atol=1e-6, rtol=1e-6
    )
    torch.testing.assert_close(found["score_function"], found["natural"], atol=0.03, rtol=0.05)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_slices_move_on_their_own_and_twice_alike(rng, estimator):
    evidence = evidence_of(rng, 70)  # more than are decoded at a time
    settings = {"estimator": estimator, "max_steps": 4, "num_draws": 2}
    together, again = (moving(Linear(2), evidence, **settings) for _ in range(2))
    together.move()
    again.move()
    assert together.bounds == again.bounds
    alone = [moving(Linear(2), evidence[i : i + 1], **settings) for i in (0, 33, 69)]
    for code, index in zip(alone, (0, 33, 69), strict=True):
        code.move()
        np.testing.assert_allclose(code.posterior.mu[0], together.posterior.mu[index], atol=1e-9)
        np.testing.assert_allclose(code.log_model[0], together.log_model[index], atol=1e-9)


def test_the_global_generator_is_left_alone(rng):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    moving(Linear(2), evidence_of(rng), estimator="score_function").move()
    torch.testing.assert_close(torch.rand(3), expected)


def test_more_pixels_than_the_model_knows_do_not_count_more(rng):
    """Native pixels of half the size: four times the evidence, four times the KL."""
    fine = NativeGrid(GRID.rows, GRID.columns, 4.0)
    coarse = NativeGrid(GRID.rows, GRID.columns, 0.25)
    evidence = evidence_of(rng)
    weights = [moving(Linear(), evidence, grid=grid).prior_weight for grid in (fine, coarse)]
    assert weights == [4.0, 1.0]  # never below 1: it would be no bound


def test_it_starts_where_and_as_wide_as_the_encoder_says():
    seen = torch.zeros(2, 4, SIZE, SIZE)
    found = CodePosterior.start(Linear(500, start=0.7), seen, None, seed=0)
    assert (found.mu == 0.7).all()
    assert found.log_sigma.mul(2).exp().mean().item() == pytest.approx(0.09, rel=0.1)
    torch.testing.assert_close(found.log_sigma[0], found.log_sigma[1])
    narrow = CodePosterior.start(Linear(500, start=0.7), seen, None, seed=0, width=0.1)
    torch.testing.assert_close(narrow.log_sigma.exp(), 0.1 * found.log_sigma.exp())
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(found.mu, found.log_sigma.exp()),
        torch.distributions.Normal(0.0, 1.0),
    ).sum(dim=1)
    torch.testing.assert_close(found.kl(), expected)


def test_groups_below_keep_the_noise_of_the_encoder():
    torch.manual_seed(0)
    settings = {"image_size": 16, "patch_size": 2, "channels": [4, 8], "groups": [1, 1]}
    model = build_model("nvae", {**settings, "latent_channels": 2}).eval()
    seen = torch.rand(3, 4, 16, 16)
    found = CodePosterior.start(model, seen, 1, seed=0)
    is_broken = torch.ones(3, dtype=torch.bool)
    with torch.no_grad():
        top, below = model.noise_of(model.encode(seen, is_broken))
        values = torch.stack([found.mu, found.mu + 1])
        drawn = found.noise(values)
    torch.testing.assert_close(found.mu, top.flatten(start_dim=1))
    torch.testing.assert_close(drawn[0][:3], top)
    torch.testing.assert_close(drawn[0][3:], top + 1)
    for draw in drawn[1].split(3):
        torch.testing.assert_close(draw, below)


def test_codes_without_a_normal_prior_do_not_move(rng):
    for flag in ("has_prior", "has_noise"):
        model = Linear()
        setattr(model, flag, False)
        with pytest.raises(ValueError, match=r"expected amortized for .* got optimized"):
            moving(model, evidence_of(rng))
