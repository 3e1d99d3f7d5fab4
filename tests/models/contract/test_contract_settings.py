"""Every model is under the contract, in two dimensions and three, or refused in one line."""

import re

import pytest
import torch
from tiny_models import (
    EVERY,
    GENERATIVE,
    SOLVED,
    TINY,
    TINY_3D,
    TRAINED,
    VARIANTS,
    WEIGHED,
    assert_distribution,
    perturbed,
)

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.models import available_models, build_model


def test_every_model_is_under_this_contract():
    assert set(TINY) == set(available_models())


@pytest.mark.parametrize("name", EVERY)
def test_three_dimensions_are_a_setting(name):
    model = perturbed(name, **TINY_3D[VARIANTS.get(name, (name,))[0]])
    volumes = one_hot(torch.randint(4, (2, 8, 8, 8)))
    _, terms = model(volumes, is_broken=torch.tensor([True, False]))
    if name in TRAINED:
        model.loss(terms).backward()
    model.eval()
    assert_distribution(model.reconstruct(volumes), volumes.shape)
    if name in GENERATIVE:
        assert_distribution(model.sample(2).detach(), volumes.shape)
    latents = model.encode(volumes)
    assert [z[0].numel() for z in latents] == model.latent_sizes
    assert model.edit(volumes, 0, torch.ones_like(latents[0])).shape == volumes.shape


def test_what_cannot_be_built_is_said_in_one_line():
    message = f"unknown model 'gan'; available: {available_models()}"
    with pytest.raises(ValueError, match=re.escape(message)):
        build_model("gan", {})


def assert_refused(name, settings, message):
    with pytest.raises(ValueError, match=f"settings of model '{name}': .*{message}") as caught:
        build_model(name, settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dims": 3}, "latent_dims: unknown parameter"),
        ({"spatial_dims": 4}, "spatial_dims: .*, got 4"),
    ],
)
def test_wrong_settings_are_named_with_their_model(name, settings, message):
    assert_refused(name, settings, message)


@pytest.mark.parametrize("name", sorted(set(TINY) - SOLVED))
def test_a_size_that_a_network_cannot_halve_is_refused(name):
    assert_refused(name, {"image_size": 90}, "image_size 90 is not divisible by 16")


@pytest.mark.parametrize("name", WEIGHED)
def test_beta_is_positive(name):
    assert_refused(name, {"beta": 0}, "beta: .*, got 0")
