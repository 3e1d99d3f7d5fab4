"""What a model asks of its weights enters a step once, and no report of the bound."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from cardiac_vae.models import build_model
from cardiac_vae.training.batches import StepBatches
from cardiac_vae.training.fit import fit
from cardiac_vae.training.fitted_module import MONITORED
from cardiac_vae.training.module import ObjectiveConfig, ShapeModule

TINY = {
    "image_size": 16,
    "channels": [8, 8],
    "groups": [1, 1],
    "latent_channels": 2,
    "group_width": 4,
    "num_flows": 1,
}


def module(config, spectral_regularization):
    torch.manual_seed(0)
    settings = TINY | {"spectral_regularization": spectral_regularization}
    return ShapeModule(build_model("nvae", settings), ObjectiveConfig(broken_share=0.25), config)


def run(shape, hearts, folder):
    config = shape.config
    source = StepBatches({"mask": hearts}, config.batch_size, config.steps, config.seed)
    return fit(shape, source, DataLoader([{"mask": hearts}], batch_size=None), config, folder)


def stretch(model):
    """Return the sum of the largest singular values of the plain convolutions."""
    weights = [
        layer.weight.reshape(layer.groups, layer.out_channels // layer.groups, -1)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    return sum(torch.linalg.svdvals(weight)[:, 0].sum().item() for weight in weights)


def test_a_step_adds_the_penalty_once_though_its_batch_has_two_parts(
    hearts, fit_config, monkeypatch
):
    shape = module(fit_config(), 0.0)
    logged = {}
    monkeypatch.setattr(shape, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(shape, "log_dict", lambda *_, **__: None)

    def step():
        logged.clear()
        torch.manual_seed(3)
        return shape.training_step({"mask": hearts}, 0)

    plain = step()
    assert "train/penalty" not in logged
    weight = next(shape.model.parameters())
    monkeypatch.setattr(shape.model, "penalty", lambda: 7 + 0 * weight.sum())
    costly = step()
    torch.testing.assert_close(costly, plain + 7)
    assert logged["train/penalty"] == 7


def test_a_fit_with_a_penalty_stretches_less_and_reports_the_bound_alone(
    hearts, fit_config, tmp_path
):
    config = fit_config(steps=8, validate_every=8)
    free, held = module(config, 0.0), module(config, 30.0)
    run(free, hearts, tmp_path / "free")
    metrics = run(held, hearts, tmp_path / "held").metrics
    assert stretch(held.model) < 0.95 * stretch(free.model)
    assert metrics["train/penalty"] > 0
    whole, broken = (metrics[f"validation/{kind}/negative_elbo"] for kind in ("whole", "broken"))
    share, weight = held.objective.broken_share, held.objective.broken_weight
    expected = (1 - share) * whole + weight * share * broken
    assert metrics[MONITORED] == pytest.approx(expected, rel=1e-5)
