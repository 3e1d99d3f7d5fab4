import pytest
import torch
from torch.utils.data import DataLoader

from cardiac_vae.data.transforms import augment_masks, one_hot
from cardiac_vae.models import build_model
from cardiac_vae.training import module as training_module
from cardiac_vae.training.batches import StepBatches
from cardiac_vae.training.fit import fit
from cardiac_vae.training.fitted_module import MONITORED
from cardiac_vae.training.module import ObjectiveConfig, ShapeModule

TINY = {
    "ae": {"image_size": 16, "channels": [8, 8], "latent_dim": 4, "noise": 0.1},
    "vae": {"image_size": 16, "channels": [8, 8], "latent_dim": 4},
    "nvae": {
        "image_size": 16,
        "channels": [8, 8],
        "groups": [1, 1],
        "latent_channels": 2,
        "group_width": 4,
    },
    "vq_vae": {
        "image_size": 16,
        "channels": [8, 8],
        "cells": [1, 1],
        "quantizer": {"num_embeddings": 8, "embedding_dim": 4, "revive_after": 2},
        "prior": {"width": 8, "num_layers": 1, "num_heads": 2},
    },
}
PLAIN = ObjectiveConfig.parse({"augmentation": {"probability": 0}, "broken_share": 0}, "test")


PENALIZED = {"nvae": {"num_flows": 1, "spectral_regularization": 0.1}}


def module(name, objective, config, **changes):
    torch.manual_seed(0)
    return ShapeModule(build_model(name, TINY[name] | changes), objective, config)


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_bound_falls_on_one_batch(name, hearts, fit_config, tmp_path):
    config = fit_config(steps=40, validate_every=40, batch_size=6)
    shape = module(name, PLAIN, config)
    whole = one_hot(hearts)
    before = shape.model.eval()(whole)[1].negative_elbo.mean().item()
    result = fit(
        shape.train(),
        StepBatches({"mask": hearts}, 6, 40, seed=0),
        DataLoader([{"mask": hearts}], batch_size=None),
        config,
        tmp_path,
    )
    terms = shape.model(whole)[1]
    assert terms.negative_elbo.mean() < 0.6 * before
    names = ("reconstruction", "kl", "negative_elbo")
    logged = {name: result.metrics.get(f"validation/whole/{name}") for name in names}
    if terms.has_bound:
        assert logged["negative_elbo"] < 0.6 * before
        total = logged["reconstruction"] + logged["kl"]
        assert total == pytest.approx(logged["negative_elbo"], rel=1e-4)
    else:
        assert logged["reconstruction"] < 0.6 * before
        assert not [name for name in result.metrics if "kl" in name or "elbo" in name]


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_shape_models_fit_is_resumed_bit_for_bit(name, hearts, fit_config, tmp_path, monkeypatch):
    """Also where the vectors behind a penalty go on turning from step to step."""
    config = fit_config(steps=6, validate_every=2, precision="bf16-mixed")

    def fresh():
        return module(name, ObjectiveConfig(), config, **PENALIZED.get(name, {}))

    def run(shape, folder):
        source = StepBatches({"mask": hearts}, config.batch_size, config.steps, config.seed)
        fit(shape, source, DataLoader([{"mask": hearts}], batch_size=None), config, folder)
        return shape.state_dict()

    whole = run(fresh(), tmp_path / "whole")
    interrupted = fresh()
    step = interrupted.training_step

    def fails_at_five(batch, batch_idx):
        if interrupted.global_step == 5:
            raise OSError("the machine went down")
        return step(batch, batch_idx)

    monkeypatch.setattr(interrupted, "training_step", fails_at_five)
    with pytest.raises(OSError, match="went down"):
        run(interrupted, tmp_path / "parts")
    resumed = run(fresh(), tmp_path / "parts")
    assert any(".spectral." in key for key in whole) == (name in PENALIZED)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize(("share", "number"), [(0.0, 0), (0.5, 3), (1.0, 6)])
def test_the_last_steps_see_masks_as_they_are(
    share, number, hearts, fit_config, tmp_path, monkeypatch
):
    """Once a step: what the batch norms are shown again is one more pass of the last batches."""
    steps = set()

    def noted(mask, config):
        steps.add(shape.global_step)
        return augment_masks(mask, config)

    monkeypatch.setattr(training_module, "augment_masks", noted)
    config = fit_config(steps=6, validate_every=6)
    shape = module("ae", ObjectiveConfig(augmented_share=share), config)
    source = StepBatches({"mask": hearts}, 4, 6, seed=0)
    fit(shape, source, DataLoader([{"mask": hearts}], batch_size=None), config, tmp_path)
    assert sorted(step for step in steps if step < 6) == list(range(number))


@pytest.mark.parametrize(("name", "cost"), [("vae", "negative_elbo"), ("ae", "reconstruction")])
def test_the_validation_loss_weighs_whole_and_broken_as_the_training_does(
    hearts, fit_config, tmp_path, name, cost
):
    config = fit_config(steps=2)
    objective = ObjectiveConfig(broken_share=0.25, broken_weight=0.4)
    shape = module(name, objective, config)
    source = StepBatches({"mask": hearts}, 4, 2, seed=0)
    metrics = fit(
        shape, source, DataLoader([{"mask": hearts}], batch_size=None), config, tmp_path
    ).metrics
    whole, broken = (metrics[f"validation/{kind}/{cost}"] for kind in ("whole", "broken"))
    assert metrics[MONITORED] == pytest.approx(0.75 * whole + 0.4 * 0.25 * broken, rel=1e-5)
    assert 0 <= metrics["validation/pixel_accuracy"] <= 1


def test_the_parts_of_a_models_own_loss_are_logged(hearts, fit_config, tmp_path):
    config = fit_config(steps=2)
    regularizer = {"name": "total_correlation", "estimator": "stratified"}
    model = build_model("vae", TINY["vae"] | {"regularizer": regularizer})
    shape = ShapeModule(model, ObjectiveConfig(broken_share=0.25), config)
    source = StepBatches({"mask": hearts}, 4, 2, seed=0)
    metrics = fit(
        shape, source, DataLoader([{"mask": hearts}], batch_size=None), config, tmp_path
    ).metrics
    for name in ("train", "validation"):
        assert metrics[f"{name}/whole/total_correlation"] != 0
        assert metrics[f"{name}/broken/total_correlation"] == 0


def test_what_is_monitored_is_the_loss_of_the_model_itself(hearts, fit_config, tmp_path):
    """A density has no place in the bound, but the scale is fitted by it."""
    config = fit_config(steps=2)
    likelihood = {"name": "gaussian", "is_scale_learnt": True}
    model = build_model("vae", TINY["vae"] | {"likelihood": likelihood, "beta": 2})
    shape = ShapeModule(model, PLAIN, config)
    source = StepBatches({"mask": hearts}, 4, 2, seed=0)
    metrics = fit(
        shape, source, DataLoader([{"mask": hearts}], batch_size=None), config, tmp_path
    ).metrics
    whole = {
        name: metrics[f"validation/whole/{name}"] for name in ("reconstruction", "one_hot", "kl")
    }
    expected = whole["reconstruction"] + whole["one_hot"] + 2 * whole["kl"]
    assert metrics[MONITORED] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.375, 3), (0.5, 4)])
def test_the_first_part_of_a_batch_is_broken_and_explained_by_the_whole_masks(
    hearts, fit_config, monkeypatch, share, expected
):
    objective = PLAIN.model_copy(update={"broken_share": share})
    shape = module("vae", objective, fit_config())
    monkeypatch.setattr(shape, "log", lambda *_, **__: None)
    monkeypatch.setattr(shape, "log_dict", lambda *_, **__: None)
    calls = []
    shape.model.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    batch = hearts.repeat(2, 1, 1)[:8]
    shape.training_step({"mask": batch}, 0)
    ((seen, target, is_broken, _),) = calls
    assert is_broken.tolist() == [True] * expected + [False] * (8 - expected)
    assert torch.equal(target, one_hot(batch))
    changed = (seen != target).flatten(start_dim=1).any(dim=1)
    assert torch.equal(changed, is_broken)


def test_a_share_of_less_than_a_case_is_kept_on_average(fit_config):
    shape = module("vae", PLAIN.model_copy(update={"broken_share": 0.3}), fit_config())
    numbers = [shape._num_broken(4) for _ in range(1000)]
    assert set(numbers) == {1, 2}
    # 1.2 cases of 4: the mean of 1000 draws lies within 4 standard deviations of it.
    assert sum(numbers) / 1000 == pytest.approx(1.2, abs=4 * (0.2 * 0.8 / 1000) ** 0.5)


def test_a_broken_case_counts_by_its_weight(hearts, fit_config, monkeypatch):
    whole = hearts.repeat(2, 1, 1)[:8]
    losses = {}
    for weight in (0.0, 0.5, 1.0):
        objective = PLAIN.model_copy(update={"broken_share": 0.25, "broken_weight": weight})
        shape = module("vae", objective, fit_config())
        monkeypatch.setattr(shape, "log", lambda *_, **__: None)
        monkeypatch.setattr(shape, "log_dict", lambda *_, **__: None)
        outputs = []
        shape.model.register_forward_hook(lambda *call, kept=outputs: kept.append(call[2][1]))
        torch.manual_seed(3)
        losses[weight] = shape.training_step({"mask": whole}, 0).item()
        warmup = shape.warmup()
        (terms,) = outputs
    costs = (terms.reconstruction + warmup * terms.kl).tolist()
    for weight, loss in losses.items():
        assert loss == pytest.approx((weight * sum(costs[:2]) + sum(costs[2:])) / 8, rel=1e-5)


def test_the_kl_warms_up_over_its_share_of_the_steps(fit_config, monkeypatch):
    shape = module("vae", ObjectiveConfig(kl_warmup=0.5), fit_config(steps=20))
    weights = []
    for step in range(20):
        monkeypatch.setattr(ShapeModule, "global_step", step)
        weights.append(shape.warmup())
    assert weights[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert weights[10:] == [1.0] * 10
    monkeypatch.setattr(ShapeModule, "global_step", 0)
    assert module("vae", ObjectiveConfig(kl_warmup=0), fit_config()).warmup() == 1.0
