import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, kl_divergence

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.models.vae import Config, Model

TINY = {"image_size": 16, "channels": (8, 8), "latent_dim": 3}


def test_the_bound_is_that_of_torch_distributions(masks):
    model = Model(Config(**TINY)).eval()
    torch.manual_seed(7)
    logits, terms = model(masks)
    mu, log_sigma = model.encoder(torch.cat([masks, torch.zeros(5, 1, 16, 16)], 1)).chunk(2, 1)
    q = Independent(Normal(mu, (5 * torch.tanh(log_sigma / 5)).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    torch.testing.assert_close(terms.kl, kl_divergence(q, p))
    torch.manual_seed(7)
    decoded = model.decoder(mu + q.stddev * torch.randn_like(mu))
    torch.testing.assert_close(logits, decoded)
    pixels = Independent(Categorical(logits=decoded.movedim(1, -1)), 2)
    torch.testing.assert_close(terms.reconstruction, -pixels.log_prob(masks.argmax(dim=1)))


def test_the_bound_is_the_log_likelihood_less_the_error_of_the_posterior():
    """ELBO = log p(x) - KL(q(z | x) || p(z | x)), all by quadrature over the one latent."""
    model = Model(Config(image_size=16, channels=(8, 8), latent_dim=1)).eval()
    model.decoder[0].weight.data *= 4  # a decoder that hardly depends on z would prove nothing
    mask = one_hot(torch.randint(4, (1, 16, 16)))
    grid = torch.linspace(-9, 9, 4001)
    with torch.no_grad():
        log_lik = (model.decode([grid[:, None]]).log_softmax(1) * mask).sum(dim=(1, 2, 3)).double()
        posterior = model.posterior(mask)
        terms = model(mask.expand(4096, -1, -1, -1))[1]
    log_joint = log_lik + Normal(0.0, 1.0).log_prob(grid.double())
    log_step = math.log(18 / 4000)
    log_evidence = torch.logsumexp(log_joint, 0) + log_step
    log_q = Normal(posterior.mu.double(), posterior.log_sigma.double().exp()).log_prob(
        grid.double()
    )[0]
    error = ((log_q + log_step).exp() * (log_q - (log_joint - log_evidence))).sum()
    bound = -terms.negative_elbo.double()
    assert error > 0.1
    spread = bound.std() / math.sqrt(len(bound))
    assert abs(bound.mean() - (log_evidence - error)) < 5 * spread
    assert bound.mean() < log_evidence


def test_samples_are_decoded_standard_normals_scaled_by_the_temperature():
    model = Model(Config(**TINY)).eval()
    torch.manual_seed(3)
    samples = model.sample(4, temperature=0.5)
    torch.manual_seed(3)
    expected = model.decoder(0.5 * torch.randn(4, 3)).softmax(dim=1)
    torch.testing.assert_close(samples, expected)


def test_sizes_follow_from_the_settings(masks):
    config = Config(image_size=48, patch_size=2, channels=(4, 8, 8), latent_dim=7)
    model = Model(config)
    assert model.latent_sizes == [7]
    assert model.decode([torch.zeros(1, 7)]).shape == (1, 4, 48, 48)
    with pytest.raises(ValueError, match="unpack"):
        model.decode([])


LIKELIHOODS = {
    "bernoulli": ({"name": "bernoulli"}, lambda output: Bernoulli(logits=output)),
    "gaussian": ({"name": "gaussian", "scale": 0.5}, lambda output: Normal(output, 0.5)),
    "learnt": (
        {"name": "gaussian", "scale": 0.7, "is_scale_learnt": True},
        lambda output: Normal(output, 0.7),
    ),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_loss_is_the_likelihoods_own_and_the_bound_that_of_the_label_map(name, masks):
    settings, planes = LIKELIHOODS[name]
    model = Model(Config(**TINY, likelihood=settings)).eval()
    torch.manual_seed(7)
    logits, terms = model(masks)
    torch.manual_seed(7)
    posterior = model.posterior(masks)
    output = model.decoder(posterior.mu + posterior.log_sigma.exp() * torch.randn(5, 3))
    own = -planes(output).log_prob(masks).sum(dim=(1, 2, 3))
    torch.testing.assert_close(model.loss(terms, 0.3), (own + 0.3 * terms.kl).mean())
    pixels = Independent(Categorical(logits=logits.movedim(1, -1)), 2)
    torch.testing.assert_close(terms.reconstruction, -pixels.log_prob(masks.argmax(dim=1)))
    torch.testing.assert_close(
        model.decode([posterior.mu]), model.likelihood.logits(model.decoder(posterior.mu))
    )


def test_several_draws_are_averaged_term_by_term(masks):
    settings = {"likelihood": {"name": "bernoulli"}}
    model = Model(Config(**TINY, **settings, num_samples=3)).eval()
    torch.manual_seed(7)
    logits, terms = model(masks, masks.roll(1, dims=0))
    torch.manual_seed(7)
    noise = torch.randn(15, 3).unflatten(0, (3, 5))
    posterior = model.posterior(masks)
    q = Independent(Normal(posterior.mu, posterior.log_sigma.exp()), 1)
    p = Independent(Normal(torch.zeros(5, 3), torch.ones(5, 3)), 1)
    codes = [posterior.mu + posterior.log_sigma.exp() * draw for draw in noise]
    decoded = [model.decode([z]) for z in codes]
    torch.testing.assert_close(logits, decoded[0])
    nll = [-(masks.roll(1, dims=0) * one.log_softmax(dim=1)).sum(dim=(1, 2, 3)) for one in decoded]
    torch.testing.assert_close(terms.reconstruction, torch.stack(nll).mean(dim=0))
    ratios = [q.log_prob(z) - p.log_prob(z) for z in codes]
    torch.testing.assert_close(terms.log_ratio, torch.stack(ratios).mean(dim=0))
    parts = [model.likelihood.parts(one)["one_hot"] for one in decoded]
    torch.testing.assert_close(terms.parts["one_hot"], torch.stack(parts).mean(dim=0))
    torch.testing.assert_close(terms.kl, kl_divergence(q, p))


@torch.no_grad()
def test_the_mean_of_eight_draws_varies_an_eighth_as_much_about_the_same_mean(masks):
    mask = masks[:1].expand(400, -1, -1, -1)
    costs = []
    for num_samples in (1, 8):
        torch.manual_seed(0)
        model = Model(Config(**TINY, num_samples=num_samples)).eval()
        model.decoder[0].weight *= 4
        costs.append(model(mask)[1].reconstruction)
    one, eight = costs
    assert 0.8 < 8 * eight.var() / one.var() < 1.25
    assert abs(one.mean() - eight.mean()) < 5 * one.std() / math.sqrt(400)


@pytest.mark.parametrize("is_broken", [None, torch.tensor([True, False, True, False, False])])
def test_samples_near_a_mask_are_decoded_draws_of_its_posterior(masks, is_broken):
    model = Model(Config(**TINY)).eval()
    torch.manual_seed(3)
    samples = model.sample_near(masks, 4, 0.5, is_broken)
    torch.manual_seed(3)
    noise = torch.randn(20, 3).unflatten(0, (4, 5))
    posterior = model.posterior(masks, is_broken)
    codes = posterior.mu + 0.5 * posterior.log_sigma.exp() * noise
    assert samples.shape == (4, *masks.shape)
    for drawn, code in zip(samples, codes, strict=True):
        torch.testing.assert_close(drawn, model.decode([code]).softmax(dim=1))
    (still,) = model.sample_near(masks, 1, 0.0, is_broken)
    torch.testing.assert_close(still, model.reconstruct(masks, is_broken))


def test_the_capacity_follows_the_progress_of_the_fit_and_no_warm_up(masks):
    regularizer = {"name": "capacity", "gamma": 2, "max_capacity": 8, "share": 0.5}
    model = Model(Config(**TINY, regularizer=regularizer))
    terms = model(masks)[1]
    for progress, capacity in ((0.0, 0), (0.25, 4), (1.0, 8)):
        expected = terms.reconstruction.mean() + 2 * (terms.kl.mean() - capacity).abs()
        torch.testing.assert_close(model.loss(terms, warmup=0.1, progress=progress), expected)


def test_the_total_correlation_is_that_of_the_data_set_also_for_a_part_of_the_batch(masks):
    regularizer = {"name": "total_correlation", "beta": 5, "estimator": "stratified"}
    model = Model(Config(**TINY, regularizer=regularizer, num_samples=2)).eval()
    model.encoder[-1].weight.data *= 300  # posteriors apart from each other
    is_broken = torch.tensor([True, False, False, False, False])
    correlations = []
    for num_cases in (4, 1000):
        model.num_train_cases = num_cases
        torch.manual_seed(7)
        terms = model(masks, is_broken=is_broken)[1]
        correlation = terms.parts["total_correlation"]
        correlations.append(correlation)
        expected = terms.reconstruction + 0.5 * (terms.kl + (5 - 1) * correlation)
        for cases in (is_broken, ~is_broken):
            torch.testing.assert_close(model.loss(terms.of(cases), 0.5), expected[cases].mean())
    assert (correlations[0] - correlations[1])[1:].abs().min() > 0.01


def test_beta_beside_a_regularizer_with_weights_of_its_own_is_refused():
    with pytest.raises(ValueError, match="beta: expected 1 beside the regularizer 'capacity'"):
        Config(regularizer={"name": "capacity"}, beta=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"likelihood": {"name": "poisson"}}, "likelihood: .*'poisson'.*'categorical'"),
        ({"likelihood": {"name": "gaussian", "scale": 0}}, "likelihood.gaussian.scale: .*got 0"),
        ({"regularizer": {"name": "capacity", "share": 2}}, "regularizer.capacity.share: .*got 2"),
        ({"regularizer": {"name": "kl", "gamma": 2}}, "regularizer.kl.gamma: unknown parameter"),
        ({"num_samples": 0}, "num_samples: .*got 0"),
    ],
)
def test_a_wrong_member_of_the_family_is_named(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        Config.parse(settings, "vae")
    assert "\n" not in str(caught.value)
