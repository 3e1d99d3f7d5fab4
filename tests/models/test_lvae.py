import torch
from torch.distributions import Independent, Normal, kl_divergence

from cardiac_vae.layers.distributions import DiagonalNormal
from cardiac_vae.models.lvae import Config, Model

TINY = {
    "image_size": 16,
    "channels": (8, 8),
    "groups": (2, 1),
    "latent_channels": 2,
    "group_width": 4,
}


def build(perturbation=0.2):
    model = Model(Config(**TINY)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += perturbation * torch.randn_like(parameter)
    return model


def as_torch(normal):
    return Independent(Normal(normal.mu, normal.log_sigma.exp()), 3)


def test_the_posterior_is_the_normalized_product_of_prior_and_likelihood(masks):
    """log q(z) - log p(z) - log N(z; mu_hat, sigma_hat^2) is the same wherever z is."""
    model = build()
    likelihoods = model.likelihoods(masks)
    steps = model.infer(masks)
    for step, likelihood in zip(steps[1:], likelihoods[1:], strict=True):
        q, p, seen = (as_torch(n) for n in (step.posterior, step.prior, likelihood))
        constants = torch.stack(
            [
                q.log_prob(z) - p.log_prob(z) - seen.log_prob(z)
                for z in (step.z, step.z + torch.randn_like(step.z), torch.zeros_like(step.z))
            ]
        )
        torch.testing.assert_close(constants, constants[:1].expand(3, 5), atol=1e-3, rtol=1e-3)
        assert (step.posterior.log_sigma <= step.prior.log_sigma).all()
        assert (step.posterior.log_sigma <= likelihood.log_sigma).all()


def test_the_top_is_what_the_mask_says_of_it_and_each_prior_is_that_of_the_draw_above(masks):
    model = build()
    steps = model.infer(masks)
    top = model.likelihoods(masks)[0]
    assert torch.equal(steps[0].posterior.mu, top.mu)
    assert torch.equal(steps[0].posterior.log_sigma, top.log_sigma)
    for group in (1, 2):
        prior = model.generator.prior([step.z for step in steps[:group]], 5)
        assert torch.equal(steps[group].prior.mu, prior.mu)
        assert torch.equal(steps[group].prior.log_sigma, prior.log_sigma)


def test_the_terms_are_those_of_torch(masks):
    model = build()
    torch.manual_seed(5)
    steps = model.infer(masks)
    torch.manual_seed(5)
    _, terms = model(masks)
    pairs = [(as_torch(step.posterior), as_torch(step.prior)) for step in steps]
    expected = torch.stack([kl_divergence(*pair) for pair in pairs], dim=1)
    torch.testing.assert_close(terms.regularization, expected, atol=1e-4, rtol=1e-5)
    values = [step.z for step in steps]
    ratios = [q.log_prob(z) - p.log_prob(z) for (q, p), z in zip(pairs, values, strict=True)]
    torch.testing.assert_close(terms.log_ratio, sum(ratios), atol=1e-4, rtol=1e-5)


def test_a_mask_that_says_nothing_of_a_group_leaves_it_at_the_prior_free_of_cost(masks):
    model = build()
    likelihoods = model.likelihoods(masks)
    silent = DiagonalNormal(likelihoods[1].mu, torch.full_like(likelihoods[1].mu, 15.0))
    model.likelihoods = lambda *_: [likelihoods[0], silent, likelihoods[2]]
    step = model.infer(masks)[1]
    torch.testing.assert_close(step.posterior.mu, step.prior.mu)
    torch.testing.assert_close(step.posterior.log_sigma, step.prior.log_sigma)
    _, terms = model(masks)
    torch.testing.assert_close(terms.regularization[:, 1], torch.zeros(5), atol=1e-5, rtol=0)
    assert (terms.regularization[:, [0, 2]] > 1e-3).all()


def test_codes_are_means_each_given_the_mean_above_it(masks):
    model = build()
    top, middle, last = model.encode(masks)
    likelihoods = model.likelihoods(masks)
    torch.testing.assert_close(top, likelihoods[0].mu)
    for above, z, likelihood in ((top, middle, likelihoods[1]), (middle, last, likelihoods[2])):
        prior = model.generator.links[0 if above is top else 1](above)
        precision, seen = (-2 * prior.log_sigma).exp(), (-2 * likelihood.log_sigma).exp()
        mean = (prior.mu * precision + likelihood.mu * seen) / (precision + seen)
        torch.testing.assert_close(z, mean)
