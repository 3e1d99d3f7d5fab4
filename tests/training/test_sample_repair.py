"""The loss on a model's own broken samples, against models whose samples are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.models import build_model
from cardiac_vae.training import module as training_module
from cardiac_vae.training.batches import StepBatches
from cardiac_vae.training.fit import fit
from cardiac_vae.training.module import ObjectiveConfig, ShapeModule
from cardiac_vae.training.sample_repair import SampleRepairConfig, sample_repair_loss

PIXEL_MM = (1.5, 1.5)
SURE = 4.0  # logit of the class that a pixel shows


def heart():
    """Return (32, 32) uint8 of a plausible heart."""
    rows, columns = np.mgrid[:32, :32]
    radius = np.hypot(rows - 16, columns - 20)
    mask = np.zeros((32, 32), np.uint8)
    mask[np.hypot(rows - 16, columns - 10) < 7] = 1
    mask[radius < 8] = 2
    mask[radius < 5] = 3
    assert is_valid(mask, PIXEL_MM)
    return mask


def with_speck(mask):
    """Return a heart with one pixel of RV far off."""
    mask = mask.copy()
    mask[2, 2] = 1
    return mask


def drawing(num_samples, largest_change=0.1):
    return SampleRepairConfig(weight=1, num_samples=num_samples, largest_change=largest_change)


class Drawing(nn.Module):
    """A model that draws the given masks, one after another; its logits are its parameters."""

    def __init__(self, masks):
        super().__init__()
        planes = torch.from_numpy(np.stack(masks)[:, None] == np.arange(4)[:, None, None])
        self.logits = nn.Parameter(SURE * planes.float())

    def draw(self, num_samples, temperature=1.0, condition=None):
        assert num_samples == len(self.logits)
        assert temperature == 1
        return [torch.arange(num_samples)]

    def decode(self, latents, temperature=0.0, condition=None):
        return self.logits[latents[0]]


def test_the_loss_is_what_the_repaired_heart_costs():
    model = Drawing([heart(), with_speck(heart())])
    loss, plausible = sample_repair_loss(model, drawing(2), PIXEL_MM)
    assert plausible == 0.5
    # One sample of two is broken: of its pixels one is wanted as what it is not.
    shown = math.log(math.exp(SURE) + 3) - SURE
    expected = (shown * (32 * 32 - 1) + shown + SURE) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_the_likelihood_of_the_repaired_heart():
    model = Drawing([heart(), with_speck(heart())])
    sample_repair_loss(model, drawing(2), PIXEL_MM)[0].backward()
    assert not model.logits.grad[0].any()
    wanted = torch.from_numpy(heart() == np.arange(4)[:, None, None]).float()
    expected = (model.logits[1].softmax(dim=0) - wanted) / 2
    torch.testing.assert_close(model.logits.grad[1], expected.detach(), rtol=1e-4, atol=1e-6)


def test_plausible_and_hopeless_samples_cost_nothing():
    empty = np.zeros((32, 32), np.uint8)
    loss, plausible = sample_repair_loss(Drawing([heart(), empty]), drawing(2), PIXEL_MM)
    assert loss.item() == 0
    assert plausible == 0.5


def test_a_repair_that_changes_much_is_not_asked_for():
    mask = heart()
    mask[:8, 26:] = 1  # 48 pixels, of which none touches the RV
    share = 48 / (mask > 0).sum()
    for limit, is_asked in ((share + 1e-6, True), (share - 1e-6, False)):
        loss, plausible = sample_repair_loss(Drawing([mask]), drawing(1, limit), PIXEL_MM)
        assert bool(loss > 0) == is_asked
        assert plausible == 0


def test_a_descent_on_it_makes_the_samples_plausible():
    model = Drawing([with_speck(heart())])
    optimizer = torch.optim.SGD(model.parameters(), lr=4.0)
    for _ in range(10):
        loss, plausible = sample_repair_loss(model, drawing(1), PIXEL_MM)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert plausible == 1


@pytest.mark.parametrize(
    ("weight", "due"), [(0.0, []), (1.0, [6])], ids=["off", "every third step of the second half"]
)
def test_samples_are_drawn_when_they_are_due(weight, due):
    config = SampleRepairConfig(weight=weight, every=3)
    assert [step for step in range(8) if config.is_due(step, (step + 1) / 8)] == due


@pytest.mark.parametrize(("name", "drawn"), [("vae", 3), ("ae", 0)])
def test_a_step_adds_the_weighted_loss_of_models_with_a_prior(
    name, drawn, hearts, fit_config, tmp_path, monkeypatch
):
    """In six steps of which the last three draw; the loss that stands in is 1 nat each time."""
    calls = []

    def one_nat(model, config, pixel_mm, condition):
        calls.append((config.num_samples, pixel_mm, condition))
        return torch.ones(()), 0.25

    monkeypatch.setattr(training_module, "sample_repair_loss", one_nat)
    losses = {}
    for weight in (0.0, 5.0):
        repair = SampleRepairConfig(weight=weight, num_samples=4, every=1)
        objective = ObjectiveConfig(broken_share=0, sample_repair=repair)
        torch.manual_seed(0)
        settings = {"image_size": 16, "channels": [8, 8], "latent_dim": 4}
        module = ShapeModule(
            build_model(name, settings), objective, fit_config(steps=6), (2.0, 1.0)
        )
        validation = DataLoader([{"mask": hearts}], batch_size=None)
        batches = StepBatches({"mask": hearts}, 6, 6, seed=0)
        result = fit(module, batches, validation, module.config, tmp_path / str(weight))
        losses[weight] = result.metrics["train/loss"]
    assert calls == [(4, (2.0, 1.0), None)] * drawn
    assert losses[5.0] - losses[0.0] == pytest.approx(5.0 if drawn else 0.0, abs=1e-3)


def test_no_criterion_without_the_size_of_a_pixel(fit_config):
    objective = ObjectiveConfig(sample_repair=SampleRepairConfig(weight=1))
    with pytest.raises(ValueError, match="expected the size of a pixel in mm, got none"):
        ShapeModule(torch.nn.Identity(), objective, fit_config())
