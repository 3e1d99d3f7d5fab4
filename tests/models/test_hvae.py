import math

import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.layers.distributions import DiagonalNormal
from cardiac_vae.models.hvae import Config, Model
from cardiac_vae.shape_model import with_broken_plane

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


def test_a_group_is_inferred_from_the_draw_below_it_alone(masks):
    model = build()
    latents, posteriors = model.infer(masks)
    below = [*latents[1:], with_broken_plane(masks, None)]
    for posterior, link, seen in zip(posteriors, reversed(model.links), below, strict=True):
        expected = link(seen)
        torch.testing.assert_close(posterior.mu, expected.mu)
        torch.testing.assert_close(posterior.log_sigma, expected.log_sigma)


def test_codes_are_means_each_given_the_mean_below_it(masks):
    model = build()
    top, middle, last = model.encode(masks)
    torch.testing.assert_close(last, model.links[0](with_broken_plane(masks, None)).mu)
    torch.testing.assert_close(middle, model.links[1](last).mu)
    torch.testing.assert_close(top, model.links[2](middle).mu)


def test_the_top_has_a_closed_form_and_the_others_are_the_log_ratios_of_the_draw(masks):
    model = build()
    torch.manual_seed(5)
    latents, posteriors = model.infer(masks)
    torch.manual_seed(5)
    _, terms = model(masks)
    q = [as_torch(posterior) for posterior in posteriors]
    p = [as_torch(model.generator.prior(latents[:above], 5)) for above in range(3)]
    ratios = [a.log_prob(z) - b.log_prob(z) for a, b, z in zip(q, p, latents, strict=True)]
    expected = torch.stack([kl_divergence(q[0], p[0]), *ratios[1:]], dim=1)
    torch.testing.assert_close(terms.regularization, expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(terms.log_ratio, sum(ratios), atol=1e-4, rtol=1e-5)


class Near(nn.Module):
    """A normal of spread 0.1 around what it is given."""

    def forward(self, z):
        return DiagonalNormal(z, torch.full_like(z, math.log(0.1)))


class Standard(nn.Module):
    """A standard normal of one number, whatever it is given."""

    def forward(self, x):
        return DiagonalNormal.standard_like(x[:, :1, :1, :1])


@torch.no_grad()
def test_where_two_groups_tell_the_same_one_term_is_negative_and_their_sum_is_the_kl():
    """q: z_2 ~ N(0, 1), z_1 | z_2 ~ N(z_2, 0.01); p the other way round. All by hand.

    The KL of q(z_2 | x) and p(z_2 | z_1) would cost about 100 nats.
    """
    settings = {"image_size": 4, "channels": (8,), "groups": (2,), "latent_channels": 1}
    model = Model(Config(**settings)).eval()
    model.links = nn.ModuleList([Standard(), Near()])
    model.generator.links = nn.ModuleList([Near()])
    masks = one_hot(torch.randint(4, (1, 4, 4))).expand(20_000, -1, -1, -1)
    _, terms = model(masks)
    top, last = terms.regularization.mean(dim=0)
    closed = 0.5 * 0.01 - math.log(0.1)
    torch.testing.assert_close(top, torch.tensor(closed), atol=0.02, rtol=0)
    torch.testing.assert_close(last, torch.tensor(math.log(0.1)), atol=0.02, rtol=0)
    for total in (terms.kl, terms.log_ratio):
        torch.testing.assert_close(total.mean(), torch.tensor(0.5 * 0.01), atol=0.02, rtol=0)
