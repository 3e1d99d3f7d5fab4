"""Every model, small enough for a test, and for which of them what does not hold."""

from functools import cache

import torch

from cardiac_vae.data.conditions import Condition, encode_conditions
from cardiac_vae.models import build_model
from cardiac_vae.shape_model import ClosedFormModel

VECTOR = {"image_size": 16, "channels": [8, 8], "latent_dim": 3}
HIERARCHY = {
    "image_size": 16,
    "channels": [8, 8],
    "groups": [2, 1],
    "latent_channels": 2,
    "group_width": 4,
}
TINY = {
    "ae": VECTOR,
    "cvae": VECTOR,
    "hvae": HIERARCHY,
    "lvae": HIERARCHY,
    "nvae": HIERARCHY,
    "pca": {"image_size": 16, "num_modes": 3},
    "vae": VECTOR,
    "vq_vae": {
        "image_size": 16,
        "patch_size": 2,
        "channels": [8, 8],
        "cells": [1, 1],
        "quantizer": {"num_embeddings": 512, "embedding_dim": 1},  # fine: little moves a token
        "prior": {"width": 8, "num_layers": 1, "num_heads": 2},
    },
}
NETWORK_3D = {"spatial_dims": 3, "channels": [4, 4], "patch_size": 2, "image_size": 8}
TINY_3D = dict.fromkeys(TINY, NETWORK_3D) | {"pca": {"spatial_dims": 3, "image_size": 8}}

VARIANTS = {  # settings of one model that change what it is
    "vae: bits": ("vae", {"likelihood": {"name": "bernoulli"}}),
    "vae: normals, capacity": (
        "vae",
        {"likelihood": {"name": "gaussian", "scale": 0.5}, "regularizer": {"name": "capacity"}},
    ),
    "vae: learnt scale, total correlation": (
        "vae",
        {
            "likelihood": {"name": "gaussian", "scale": 0.5, "is_scale_learnt": True},
            "regularizer": {"name": "total_correlation", "estimator": "stratified"},
        },
    ),
}
EVERY = [*TINY, *VARIANTS]

# What does not hold for every model, and for which it does not.
SOLVED = {"pca"}  # no gradient; a broken mask is coded as any other
WITHOUT_BOUND = {"ae", "pca"}  # no KL
WITHOUT_PRIOR = {"ae"}  # nothing to sample from
WITHOUT_SPREAD = {"vq_vae"}  # q(z | x) is a point
WITHOUT_BETA = {"vq_vae"}  # the rate teaches the prior alone
WITHOUT_NOISE = {"vq_vae"}  # tokens are no normals
WITH_ESTIMATED_KL = {"hvae"}  # columns are log-ratios of a draw, not negative in the mean alone

TRAINED = [name for name in EVERY if name not in SOLVED]
VARIATIONAL = [name for name in EVERY if name not in WITHOUT_BOUND]
GENERATIVE = [name for name in EVERY if name not in WITHOUT_PRIOR]
WEIGHED = sorted(set(TINY) - WITHOUT_BOUND - WITHOUT_BETA)

CONDITION = encode_conditions(
    [
        Condition("HCM", "es", 0.5),
        Condition("DCM", "ed", 0.0),
        Condition(phase="ed", position=0.9),
        Condition("NOR"),
        Condition("RV", "es", 1.0),
    ]
)


def tiny(name, **changes):
    """Build a tiny model, or a variant of one."""
    module, settings = VARIANTS.get(name, (name, {}))
    return build_model(module, TINY[module] | settings | changes)


def perturbed(name, **changes):
    """Build a tiny model and move every weight a little: heads that start at zero say something.

    A model whose weights are solved for is fitted to masks of nothing in particular instead.
    """
    torch.manual_seed(0)
    model = tiny(name, **changes)
    if isinstance(model, ClosedFormModel):
        sides = (model.config.image_size,) * model.config.spatial_dims
        model.fit_masks(torch.randint(4, (12, *sides)))
        return model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@cache
def settled(name):
    """Return a perturbed model in evaluation mode, one for all tests that leave it as it is."""
    return perturbed(name).eval()


def assert_distribution(probabilities, shape):
    assert probabilities.shape == shape
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(shape[0], *shape[2:]))
