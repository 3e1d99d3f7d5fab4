import math

import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

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
