import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.models.nvae import Config, Model
from cardiac_vae.shape_model import LossTerms, with_broken_plane
from cardiac_vae.training.fit import FitConfig

TINY = {"image_size": 16, "channels": (8, 8), "latent_channels": 2, "group_width": 4}


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
    assert model.config.sizes == [16, 8, 4]
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
    posterior = group.posterior(state, features, prior)
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
    posterior = group.posterior(state, features, prior)
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
    (features,) = model.bottom_up(with_broken_plane(masks, None))
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
    features = model.bottom_up(with_broken_plane(mask, None))
    state, log_weight = model.top_down.first_state(500), torch.zeros(500)
    for index, group in enumerate(model.top_down.latent_groups()):
        state = model.top_down.before(index, state)
        prior = group.prior(state)
        posterior = group.posterior(state, features[index], prior)
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


def test_scales_need_one_width_and_one_count_each():
    with pytest.raises(ValueError, match="expected one of each per scale"):
        Config(channels=(8, 8), groups=(1,))
    with pytest.raises(ValueError, match="image_size 20 is not divisible by 8"):
        Config(image_size=20, channels=(8, 8), groups=(1, 1))
