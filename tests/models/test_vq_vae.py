import math
from itertools import product

import pytest
import torch
from torch.distributions import Categorical, Independent

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.models.vq_vae import Config, Model

TINY = {
    "image_size": 16,
    "patch_size": 4,
    "channels": (8, 8),
    "cells": (1, 1),
    "tokens_per_position": 2,
    "quantizer": {"num_embeddings": 6, "embedding_dim": 3},
    "prior": {"width": 8, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
}
FLAGS = torch.tensor([True, False, True, False, False])


def build(perturbation=0.0, **changes):
    values = {
        key: value | changes.pop(key, {}) if isinstance(value, dict) else value
        for key, value in TINY.items()
    }
    model = Model(Config(**(values | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += perturbation * torch.randn_like(parameter)
    return model


def learning(model):
    """Return which parts of the model have a gradient, and forget it."""
    names = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return names


def raster(k):
    """Return indices (B, T, h, w) as sequences: row by row, the tokens of a position together."""
    places = product(range(k.shape[2]), range(k.shape[3]), range(k.shape[1]))
    return torch.stack([k[:, token, row, column] for row, column, token in places], dim=1)


def test_the_terms_are_those_of_the_nearest_codes(masks):
    model = build(0.3).eval()
    z = model.encoder(torch.cat([masks, torch.zeros(5, 1, 16, 16)], dim=1))
    z = z.reshape(5, 3, 2, 2, 2)  # D numbers of T tokens
    distances = (z[:, None] - model.quantizer.codebook.reshape(1, 6, 3, 1, 1, 1)).norm(dim=2)
    k = distances.argmin(dim=1)
    logits, terms = model(masks)
    assert torch.equal(model.tokens(masks), k)
    decoded = model.decoder(model.quantizer.codebook[k].movedim(-1, 1).reshape(5, 6, 2, 2))
    torch.testing.assert_close(logits, decoded)
    pixels = Independent(Categorical(logits=decoded.movedim(1, -1)), 2)
    torch.testing.assert_close(terms.reconstruction, -pixels.log_prob(masks.argmax(dim=1)))
    rate = -model.prior.log_prob(raster(k)).sum(dim=1)
    torch.testing.assert_close(terms.regularization, rate[:, None])
    assert torch.equal(terms.log_ratio, terms.kl)
    squared = distances.amin(dim=1).square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(terms.parts["commitment"], squared)


def test_the_bound_is_the_log_likelihood_less_the_surprise_of_the_code():
    """log p(x) - ELBO = -log p(k | x), all by enumeration of the codes of a 1 x 1 grid."""
    model = build(0.3, channels=(8, 8, 8), cells=(1, 1, 1)).eval()
    mask = one_hot(torch.randint(4, (1, 16, 16)))
    every = torch.tensor(list(product(range(6), repeat=2)))
    with torch.no_grad():
        log_prior = model.prior.log_prob(every).sum(dim=1)
        grids = model.quantizer.codebook[every].movedim(1, 2).reshape(36, 6, 1, 1)
        log_lik = (model.decode([grids]).log_softmax(dim=1) * mask).sum(dim=(1, 2, 3))
        bound = -model(mask)[1].negative_elbo
        first, second = model.tokens(mask).flatten().tolist()
    log_joint = (log_prior + log_lik).double()
    log_evidence = torch.logsumexp(log_joint, dim=0)
    surprise = log_evidence - log_joint[6 * first + second]
    assert surprise > 0.01
    assert (log_evidence - bound.double()).item() == pytest.approx(surprise.item(), abs=1e-3)


def test_before_the_first_step_a_token_costs_log_k(masks):
    terms = build()(masks)[1]
    torch.testing.assert_close(terms.kl, torch.full((5,), 8 * math.log(6)))


def test_the_loss_adds_what_moves_the_codes_and_what_commits_to_them(masks):
    ema = build(quantizer={"commitment_cost": 0.7})
    terms = ema(masks)[1]
    assert set(terms.parts) == {"commitment"}
    own = 0.7 * terms.parts["commitment"]
    expected = (terms.reconstruction + 0.3 * terms.kl + own).mean()
    torch.testing.assert_close(ema.loss(terms, warmup=0.3), expected)
    gradient = build(quantizer={"updates": "gradient", "commitment_cost": 0.7})
    terms = gradient(masks)[1]
    own = 0.7 * terms.parts["commitment"] + terms.parts["codebook"]
    expected = (terms.reconstruction + terms.kl + own).mean()
    torch.testing.assert_close(gradient.loss(terms), expected)


def test_each_term_teaches_its_own_part_of_the_model(masks):
    model = build(0.1, quantizer={"updates": "gradient"})
    terms = model(masks)[1]
    terms.kl.sum().backward(retain_graph=True)
    assert learning(model) == {"prior"}
    terms.parts["codebook"].sum().backward(retain_graph=True)
    assert learning(model) == {"quantizer"}
    terms.parts["commitment"].sum().backward(retain_graph=True)
    assert learning(model) == {"encoder"}
    terms.reconstruction.sum().backward()
    assert learning(model) == {"encoder", "decoder"}


def test_the_prior_learns_from_whole_masks_alone(masks):
    model = build(0.1).eval()
    gradients = []
    for cases in (slice(None), ~FLAGS):
        model(masks[cases], is_broken=FLAGS[cases])[1].kl.sum().backward()
        gradients.append([p.grad.clone() for p in model.prior.parameters()])
        model.zero_grad()
    assert any(gradient.any() for gradient in gradients[0])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_the_anomaly_map_says_where_the_rate_comes_from(masks):
    model = build(0.5).eval()
    nats = model.anomaly_map(masks)
    assert nats.shape == (5, 2, 2)
    torch.testing.assert_close(nats.sum(dim=(1, 2)), model(masks)[1].kl)
    per_token = -model.prior.log_prob(raster(model.tokens(masks)))
    for place, (row, column) in enumerate(product(range(2), range(2))):
        expected = per_token[:, 2 * place] + per_token[:, 2 * place + 1]
        torch.testing.assert_close(nats[:, row, column], expected)


def test_samples_are_decoded_from_sequences_of_the_prior():
    model = build(0.5).eval()
    torch.manual_seed(3)
    samples = model.sample(4, temperature=0.8)
    torch.manual_seed(3)
    drawn = model.prior.sample(4, temperature=0.8)
    k = torch.zeros(4, 2, 2, 2, dtype=torch.int64)
    for place, (row, column, token) in enumerate(product(range(2), range(2), range(2))):
        k[:, token, row, column] = drawn[:, place]
    assert torch.equal(raster(k), drawn)
    grids = model.quantizer.codebook[k].movedim(-1, 1).reshape(4, 6, 2, 2)
    torch.testing.assert_close(samples, model.decoder(grids).softmax(dim=1))


def test_what_is_decoded_is_put_to_the_nearest_codes_and_lets_gradients_through(masks):
    model = build(0.3).eval()
    (codes,) = model.encode(masks)
    gap = torch.pdist(model.quantizer.codebook).min()
    near = codes + 0.3 * gap / 6**0.5 * torch.rand_like(codes)
    near.requires_grad_()
    torch.testing.assert_close(model.decode([near]), model.decode([codes]))
    model.decode([near]).square().sum().backward()
    codes.requires_grad_()
    model.decoder(codes).square().sum().backward()
    torch.testing.assert_close(near.grad, codes.grad)


def test_an_edit_of_one_vector_exchanges_its_token(masks):
    model = build(0.3).eval()
    k = model.tokens(masks)
    wanted = k.clone()
    wanted[:, 1, 0, 1] = (k[:, 1, 0, 1] + 1) % 6
    codes, wanted_codes = (
        model.quantizer.codebook[index].movedim(-1, 1).reshape(5, 6, 2, 2) for index in (k, wanted)
    )
    edited = model.edit(masks, 0, wanted_codes - codes)
    torch.testing.assert_close(edited, model.decoder(wanted_codes).softmax(dim=1))


def test_sizes_follow_from_the_settings():
    assert Config().grid == (6, 6)
    model = build(image_size=32, tokens_per_position=3)
    assert (model.num_latents, model.latent_sizes) == (4 * 4 * 3, [4 * 4 * 3 * 3])
    assert model.sample(1).shape == (1, 4, 32, 32)
    with pytest.raises(ValueError, match="expected one of each per scale"):
        Config(channels=(8, 8), cells=(1,))
