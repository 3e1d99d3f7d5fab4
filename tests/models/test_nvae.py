import math

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.distributions import Independent, Normal, kl_divergence

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.layers.blocks import SqueezeExcitation
from cardiac_vae.models.nvae import Config, Model
from cardiac_vae.shape_model import LossTerms
from cardiac_vae.training.fit import FitConfig

TINY = {"image_size": 16, "channels": (8, 8), "latent_channels": 2, "group_width": 4}
VARIANTS = [
    {"residual_posterior": False},
    {"squeeze_excitation": False},
    {"num_flows": 2},
    {"spectral_regularization": 0.1},
]


def build(perturbation=0.0, **changes):
    model = Model(Config(**(TINY | {"groups": (2, 1)} | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += perturbation * torch.randn_like(parameter)
    return model


def as_torch(normal):
    return Independent(Normal(normal.mu, normal.log_sigma.exp()), 3)


def test_before_the_first_step_the_posterior_is_the_prior(masks):
    _, terms = build()(masks)
    assert torch.equal(terms.regularization, torch.zeros(5, 3))


def test_the_kl_neither_explodes_nor_is_nan_at_the_start():
    """At the full learning rate and the full weight of the KL, harsher than any fit begins."""
    model = build()
    optimizer = torch.optim.Adamax(model.parameters(), lr=FitConfig().learning_rate)
    knowing_nothing = 16 * 16 * math.log(4)
    losses = []
    for _ in range(30):
        masks = one_hot(torch.randint(4, (4, 16, 16)))
        _, terms = model(masks, is_broken=torch.rand(4) < 0.5)
        assert terms.kl.max() < 0.1 * knowing_nothing
        loss = model.loss(terms)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(map(math.isfinite, losses))
    assert max(losses) < 1.5 * knowing_nothing
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def test_groups_of_a_scale_share_its_size_and_the_top_comes_first(masks):
    model = build(image_size=32, groups=(2, 1, 3), channels=(4, 8, 8), patch_size=2)
    assert model.config.sizes == [4, 4, 4, 8, 16, 16]
    assert model.latent_sizes == [2 * 16] * 3 + [2 * 64] + [2 * 256] * 2
    big = one_hot(torch.randint(4, (2, 32, 32)))
    assert [tuple(z.shape[1:]) for z in model.eval().encode(big)] == [
        *[(2, 4, 4)] * 3,
        (2, 8, 8),
        *[(2, 16, 16)] * 2,
    ]


def test_the_residual_posterior_is_the_prior_moved(masks):
    """q(z_l | z_<l, x) = N(mu + d_mu, (sigma d_sigma)^2), NVAE sec. 3.2."""
    model = build(0.3).eval()
    group = model.top_down.latent_groups()[1]
    state, features = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    prior = group.prior(state)
    posterior = group.posterior(group.context(state, features), prior)
    change = group.posterior_head(state + group.features_in(features))
    delta_mu, delta_log_sigma = (5 * torch.tanh(part / 5) for part in change.chunk(2, dim=1))
    torch.testing.assert_close(posterior.mu, prior.mu + delta_mu)
    sigma = prior.log_sigma.exp() * delta_log_sigma.exp()
    torch.testing.assert_close(posterior.log_sigma.exp(), sigma)
    step = group.infer(state, features)
    expected = kl_divergence(as_torch(posterior), as_torch(prior))
    torch.testing.assert_close(step.kl, expected)
    assert (expected > 0).all()


def test_no_weight_can_push_a_prior_or_a_posterior_out_of_reach():
    model = build(100.0).eval()
    group = model.top_down.latent_groups()[1]
    state, features = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    prior = group.prior(state)
    posterior = group.posterior(group.context(state, features), prior)
    for values in (prior.mu, prior.log_sigma):
        assert values.abs().max() <= 5
    for values in (posterior.mu - prior.mu, posterior.log_sigma - prior.log_sigma):
        assert values.abs().max() <= 5 + 1e-5
    assert posterior.kl(prior).isfinite().all()


def test_the_first_prior_is_the_standard_normal():
    top = build(0.3).top_down.latent_groups()[0]
    prior = top.prior(torch.randn(3, 8, 2, 2))
    assert prior.mu.shape == (3, 2, 2, 2)
    assert not prior.mu.any()
    assert not prior.log_sigma.any()


def test_one_group_is_a_vae_of_one_latent(masks):
    """Its bound by hand: E_q[log p(x | z)] - KL(q(z | x) || N(0, I))."""
    model = build(0.2, groups=(1,), channels=(8,)).eval()
    (group,) = model.top_down.latent_groups()
    (features,) = model.features(masks)
    start = model.top_down.first_state(5)
    change = group.posterior_head(start + group.features_in(features))
    mu, log_sigma = (5 * torch.tanh(part / 5) for part in change.chunk(2, dim=1))
    q = Independent(Normal(mu, log_sigma.exp()), 3)
    p = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 3)
    torch.manual_seed(2)
    z = mu + log_sigma.exp() * torch.randn_like(mu)
    logits = model.decode([z])
    nll = -(masks * logits.log_softmax(dim=1)).sum(dim=(1, 2, 3))
    torch.manual_seed(2)
    _, terms = model(masks)
    torch.testing.assert_close(terms.regularization, kl_divergence(q, p)[:, None])
    torch.testing.assert_close(terms.reconstruction, nll)
    torch.testing.assert_close(terms.negative_elbo, nll + kl_divergence(q, p))


@torch.no_grad()
def test_the_bound_is_below_the_likelihood_estimated_by_importance_weights():
    """IWAE: E[-negative ELBO] <= E[log mean_k p(x, z_k) / q(z_k | x)] <= log p(x)."""
    model = build(0.3).eval()
    mask = one_hot(torch.randint(4, (1, 16, 16))).expand(500, -1, -1, -1)
    features = model.features(mask)
    state, log_weight = model.top_down.first_state(500), torch.zeros(500)
    for index, group in enumerate(model.top_down.latent_groups()):
        state = model.top_down.before(index, state)
        prior = group.prior(state)
        posterior = group.posterior(group.context(state, features[index]), prior)
        z = posterior.rsample()
        log_weight += as_torch(prior).log_prob(z) - as_torch(posterior).log_prob(z)
        state = group.next_state(state, z)
    log_lik = (mask * model.top_down.head(state).log_softmax(dim=1)).sum(dim=(1, 2, 3))
    log_weight += log_lik
    bound = -model(mask)[1].negative_elbo
    spread = math.hypot(bound.std().item(), log_weight.std().item()) / math.sqrt(500)
    assert abs(bound.mean() - log_weight.mean()) < 5 * spread
    estimate = torch.logsumexp(log_weight, 0) - math.log(500)
    assert bound.mean() < estimate - 5 * spread


def test_balancing_weighs_groups_by_size_and_kl_with_mean_one_and_ends_with_the_warm_up(masks):
    model = build(beta=2.0)
    reconstruction = torch.rand(5)
    kl = (torch.rand(5, 3) * torch.tensor([0.1, 5.0, 20.0])).requires_grad_()

    def weights(model, warmup):
        loss = model.loss(LossTerms(reconstruction, kl), warmup)
        return 5 * torch.autograd.grad(loss, kl)[0]  # the loss is a mean over five cases

    balanced = weights(model, 0.5) / (0.5 * 2.0)
    torch.testing.assert_close(balanced.mean(), torch.tensor(1.0))
    mean_kl = kl.detach().mean(dim=0)
    share = torch.tensor(model.latent_sizes) * (mean_kl + 1e-2)
    torch.testing.assert_close(balanced, (3 * share / share.sum()).expand(5, 3))
    torch.testing.assert_close(weights(model, 1.0), torch.full((5, 3), 2.0))
    plain = build(beta=2.0, kl_balancing=False)
    torch.testing.assert_close(weights(plain, 0.5), torch.full((5, 3), 1.0))


def test_an_edit_leaves_the_groups_above_as_they_are_and_redraws_those_below(masks):
    model = build(0.2).eval()
    groups = model.top_down.latent_groups()
    merged = {}
    for index, group in enumerate(groups):
        group.merge.register_forward_pre_hook(
            lambda _, inputs, index=index: merged.update({index: inputs[0][:, -2:]})
        )
    latents = model.encode(masks)
    change = torch.ones_like(latents[1])
    model.edit(masks, 1, change)
    torch.testing.assert_close(merged[0], latents[0])
    torch.testing.assert_close(merged[1], latents[1] + change)
    assert not torch.allclose(merged[2], latents[2])


def test_what_lies_below_the_given_codes_is_drawn_at_the_temperature(masks):
    model = build(0.2).eval()
    top = model.encode(masks)[:1]
    assert torch.equal(model.decode(top), model.decode(top, temperature=0.0))
    assert not torch.allclose(model.decode(top, temperature=1.0), model.decode(top))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("changes", VARIANTS, ids=lambda changes: next(iter(changes)))
def test_every_variant_learns_codes_and_draws_in_two_and_three_dimensions(changes, dims):
    smaller = {"spatial_dims": 3, "image_size": 8, "patch_size": 2} if dims == 3 else {}
    model = build(0.1, **changes, **smaller)
    masks = one_hot(torch.randint(4, (3, *(model.config.image_size,) * dims)))
    _, terms = model(masks, is_broken=torch.tensor([True, False, False]))
    (model.loss(terms, warmup=0.5) + model.penalty()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    model.eval()
    latents = model.encode(masks)
    assert [z[0].numel() for z in latents] == model.latent_sizes
    assert all(torch.equal(a, b) for a, b in zip(latents, model.encode(masks), strict=True))
    assert model.sample(2).shape == (2, *masks.shape[1:])


def test_without_the_residual_form_the_posterior_stands_on_its_own(masks):
    assert not build(residual_posterior=False)(masks)[1].regularization.any()  # at the start
    model = build(0.3, residual_posterior=False).eval()
    group = model.top_down.latent_groups()[1]
    context = torch.randn(2, 8, 4, 4)
    priors = [group.prior(torch.randn(2, 8, 4, 4)) for _ in range(2)]
    mu, log_sigma = (5 * torch.tanh(part / 5) for part in group.posterior_head(context).chunk(2, 1))
    for prior in priors:
        posterior = group.posterior(context, prior)
        torch.testing.assert_close(posterior.mu, mu)
        torch.testing.assert_close(posterior.log_sigma, log_sigma)


def test_squeeze_and_excitation_is_in_every_cell_or_in_none():
    def gates(model):
        return sum(isinstance(layer, SqueezeExcitation) for layer in model.modules())

    assert gates(build()) == 3 + 3 + 1  # an encoder and a decoder cell per group, one at the end
    assert gates(build(squeeze_excitation=False)) == 0


def flowing(opened=0.0):
    """Build a model whose flows are gentle, as near the start, or far from the identity."""
    model = build(0.1, num_flows=2).eval()
    for group in model.top_down.latent_groups():
        for step in group.flow.steps:
            step.last.bias.data[2:] -= opened  # of the gates
    return model


@torch.no_grad()
def test_behind_a_flow_the_log_ratio_is_that_of_the_density_of_what_was_drawn():
    """log q(z_K) = log q(z_0) - log |det dz_K / dz_0|, the determinant by autograd."""
    group = flowing(opened=5.0).top_down.latent_groups()[1]
    state, features = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 4, 4)
    prior, context = group.prior(state), group.context(state, features)
    posterior = group.posterior(context, prior)
    torch.manual_seed(2)
    step = group.infer(state, features)
    torch.manual_seed(2)
    start = posterior.rsample()
    with torch.enable_grad():
        matrix = jacobian(lambda z: group.flow(z, context)[0], start).reshape(32, 32)
    torch.testing.assert_close(step.z, group.flow(start, context)[0])
    log_q = as_torch(posterior).log_prob(start) - torch.linalg.slogdet(matrix)[1]
    torch.testing.assert_close(
        step.log_ratio, log_q - as_torch(prior).log_prob(step.z), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
@pytest.mark.parametrize("opened", [0.0, 5.0])
def test_behind_a_flow_the_kl_is_an_estimate_of_the_mean_log_ratio(masks, opened):
    terms = flowing(opened)(masks[:1].expand(2000, -1, -1, -1))[1]
    difference = terms.kl - terms.log_ratio
    assert difference.std() > 0
    assert abs(difference.mean()) < 5 * difference.std() / 2000**0.5
    if not opened:  # a gentle flow leaves most of it in closed form
        assert terms.kl.std() < 0.5 * terms.log_ratio.std()
    log_weight = -(terms.reconstruction + terms.log_ratio)
    estimate = torch.logsumexp(log_weight, 0) - math.log(2000)
    assert -terms.negative_elbo.mean() < estimate


def test_behind_a_flow_a_code_is_the_mean_pushed_through_it(masks):
    model = flowing(opened=5.0)
    top = model.top_down.latent_groups()[0]
    features = model.features(masks)[0]
    state = model.top_down.first_state(5)
    context = top.context(state, features)
    mean = top.posterior(context, top.prior(state)).mu
    code = model.encode(masks)[0]
    torch.testing.assert_close(code, top.flow(mean, context)[0])
    assert (code - mean).abs().max() > 0.1


def test_balancing_takes_estimates_that_are_negative():
    model = build(num_flows=1)
    kl = torch.tensor([[-3.0, 2.0, -0.5]]).requires_grad_()
    model.loss(LossTerms(torch.ones(1), kl), warmup=0.5).backward()
    assert (kl.grad > 0).all()
    torch.testing.assert_close(kl.grad.mean(), torch.tensor(0.5))


def test_the_penalty_is_lambda_times_all_singular_values_and_scales():
    model = build(0.1, spectral_regularization=0.5)
    for _ in range(100):
        penalty = model.penalty()
    total = 0.0
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            for part in layer.weight.chunk(layer.groups):
                total += torch.linalg.svdvals(part.flatten(start_dim=1))[0].item()
        elif isinstance(layer, nn.BatchNorm2d):
            total += layer.weight.abs().max().item()
    assert penalty.item() == pytest.approx(0.5 * total, rel=1e-3)


def test_a_model_without_a_penalty_has_nothing_to_remember_and_the_same_start(masks):
    plain = build()
    assert plain.penalty() == 0
    assert not plain.penalty().requires_grad
    torch.manual_seed(5)
    plain = build().state_dict()
    torch.manual_seed(5)
    spectral = build(spectral_regularization=0.1).state_dict()
    assert set(plain) < set(spectral)
    assert all("spectral" in name for name in set(spectral) - set(plain))
    assert all(torch.equal(value, spectral[name]) for name, value in plain.items())


def test_scales_need_one_width_and_one_count_each():
    with pytest.raises(ValueError, match="expected one of each per scale"):
        Config(channels=(8, 8), groups=(1,))
    with pytest.raises(ValueError, match="image_size 20 is not divisible by 8"):
        Config(image_size=20, channels=(8, 8), groups=(1, 1))
