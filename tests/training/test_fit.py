import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from cardiac_vae.training import fit as fit_file
from cardiac_vae.training.batches import StepBatches
from cardiac_vae.training.fit import (
    FitConfig,
    FitResult,
    fit,
    fit_at_once,
    optimization,
    resolve_precision,
)
from cardiac_vae.training.fitted_module import MONITORED, FittedModule


class Regression(FittedModule):
    """A line to learn, with noise from the global generator and running statistics.

    Attributes:
        weights: The weight after each step.
        scores: Validation values to report instead of the real ones.
        fail_at: The step that raises, as a machine that goes down.
    """

    def __init__(self, config, scores=(), fail_at=None, poison_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.config, self.scores = config, list(scores)
        self.fail_at, self.poison_at = fail_at, poison_at
        self.steps, self.weights, self.seen = [], [], []

    def loss(self, batch):
        return (self.layers(batch["x"])[:, 0] - batch["y"]).square().mean()

    def training_step(self, batch, _):
        if self.global_step == self.fail_at:
            raise OSError("the machine went down")
        self.steps.append(self.global_step)
        noisy = batch | {"x": batch["x"] + 0.1 * torch.randn_like(batch["x"])}
        loss = self.loss(noisy)
        self.log("train/loss", loss)
        return loss * float("nan") if self.global_step == self.poison_at else loss

    def observe(self, batch):
        self.layers(batch["x"])

    def on_train_batch_end(self, *_):
        self.weights.append(self.layers[0].weight.detach().clone())

    def validation_step(self, batch, _):
        self.seen.append(self.layers[0].weight.detach().clone())
        value = self.scores.pop(0) if self.scores else self.loss(batch)
        self.log(MONITORED, value, batch_size=len(batch["x"]))

    def configure_optimizers(self):
        return optimization(self.layers, self.config)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(10, 3, generator=generator)
    return {"x": x, "y": x @ torch.tensor([1.0, -2.0, 0.5])}


def run(module, data, folder):
    config = module.config
    source = StepBatches(data, config.batch_size, config.steps, config.seed)
    return fit(module, source, DataLoader([data], batch_size=None), config, folder)


def assert_same_state(first, second):
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_loss_falls_and_the_fit_says_how_it_went(data, fit_config, tmp_path):
    config = fit_config(steps=60, learning_rate=0.1)
    module = Regression(config)
    module.eval()
    before = module.loss(data).item()
    result = run(module.train(), data, tmp_path)
    assert module.loss(data) < 0.2 * before
    assert isinstance(result, FitResult)
    assert result.steps == 60
    assert not result.stopped_early
    assert {MONITORED, "train/loss"} <= set(result.metrics)
    assert result.as_dict()["metrics"] == result.metrics
    assert [step for step, _ in result.history[MONITORED]] == list(range(5, 61, 5))
    assert min(value for _, value in result.history[MONITORED]) == pytest.approx(result.best_value)
    assert list(tmp_path.iterdir()) == []  # its checkpoints are gone


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data, fit_config, tmp_path):
    modules = [Regression(fit_config(seed=seed)) for seed in (1, 1, 2)]
    for index, module in enumerate(modules):
        torch.manual_seed(index)  # what was drawn before a fit is nothing to it
        run(module, data, tmp_path / str(index))
    assert_same_state(*modules[:2])
    assert not torch.equal(modules[0].layers[0].weight, modules[2].layers[0].weight)


@pytest.mark.parametrize("fail_at", [5, 13, 19])
def test_a_fit_that_went_down_ends_like_one_that_did_not(data, fit_config, tmp_path, fail_at):
    whole = Regression(fit_config())
    expected = run(whole, data, tmp_path / "whole")
    with pytest.raises(OSError, match="went down"):
        run(Regression(fit_config(), fail_at=fail_at), data, tmp_path / "parts")
    torch.manual_seed(99)
    resumed = Regression(fit_config())
    result = run(resumed, data, tmp_path / "parts")
    assert resumed.steps == list(range(5 * (fail_at // 5), 20))
    assert_same_state(resumed, whole)
    assert result.history == expected.history
    assert (result.steps, result.best_value) == (expected.steps, expected.best_value)


def test_it_goes_on_from_the_last_checkpoint_even_if_an_earlier_one_was_better(
    data, fit_config, tmp_path
):
    with pytest.raises(OSError, match="went down"):
        run(Regression(fit_config(), scores=[1, 2], fail_at=12), data, tmp_path)
    resumed = Regression(fit_config(), scores=[3, 4])
    result = run(resumed, data, tmp_path)
    assert resumed.steps[0] == 10
    assert result.best_value == 1
    fresh = Regression(fit_config(), scores=[1, 2, 3, 4])
    run(fresh, data, tmp_path / "fresh")
    assert_same_state(resumed, fresh)


def test_a_fit_stops_when_nothing_gets_better_and_keeps_the_best(data, fit_config, tmp_path):
    module = Regression(fit_config(steps=60, patience=2), scores=[3, 1, 2, 2, 2, 2, 2])
    result = run(module, data, tmp_path)
    assert result.steps == 20  # two validations after the best one
    assert result.stopped_early
    assert result.best_value == 1
    assert torch.equal(module.layers[0].weight, module.seen[1])


def test_the_weights_kept_are_the_running_average(data, fit_config, tmp_path):
    """EMA with the decay min(0.9, (1 + n) / (10 + n)), started from the first step's weights."""
    module = Regression(fit_config(steps=15, ema_decay=0.3), scores=[3, 2, 1])
    run(module, data, tmp_path)
    average = module.weights[0]
    for n, weight in enumerate(module.weights[1:], start=1):
        decay = min(0.3, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(module.layers[0].weight.detach(), average)
    assert not torch.equal(module.layers[0].weight, module.weights[-1])
    assert not module.training


@pytest.mark.parametrize(("steps", "num_seen"), [(4, 4), (20, 16)])
def test_batch_norm_knows_the_kept_weights_by_the_last_batches(
    data, fit_config, tmp_path, steps, num_seen
):
    config = fit_config(steps=steps, validate_every=steps)
    module = Regression(config)
    run(module, data, tmp_path)
    source = StepBatches(data, config.batch_size, steps, config.seed)
    seen = [module.layers[0](source.batch(step)["x"]) for step in range(steps - num_seen, steps)]
    norm = module.layers[1]
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(dim=(0, 1)))
    torch.testing.assert_close(norm.running_var, torch.stack(seen).var(dim=1).mean(dim=0))
    assert norm.momentum == 0.1


@pytest.mark.parametrize(("steps", "poison_at"), [(60, 45), (20, 3), (20, 19)])
def test_a_loss_that_is_no_number_ends_the_fit(data, fit_config, tmp_path, steps, poison_at):
    module = Regression(fit_config(steps=steps), poison_at=poison_at)
    with pytest.raises(ValueError, match="expected a finite loss, got nan; lower") as caught:
        run(module, data, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_budget_shorter_than_the_interval_is_validated_once(data, fit_config, tmp_path):
    module = Regression(fit_config(steps=3, validate_every=500))
    result = run(module, data, tmp_path)
    assert (result.steps, len(module.seen)) == (3, 1)


def test_the_learning_rates_warm_up_and_fall_to_a_hundredth(fit_config):
    config = fit_config(
        steps=100, warmup_steps=10, learning_rate=0.5, matrix_learning_rate=0.2, weight_decay=0.1
    )
    plan = optimization(nn.Linear(2, 2), config)
    optimizer, schedule = plan["optimizer"], plan["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(100):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    rates.append([group["lr"] for group in optimizer.param_groups])
    matrices, others = zip(*rates, strict=True)
    np.testing.assert_allclose(others, 2.5 * np.array(matrices))
    assert others[0] == pytest.approx(0.005)
    assert max(others) == others[10] == pytest.approx(0.5)
    assert others[:11] == tuple(sorted(others[:11]))
    assert others[10:] == tuple(sorted(others[10:], reverse=True))
    assert others[-1] == pytest.approx(0.005)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}


@pytest.mark.parametrize("has_bf16", [True, False])
def test_precision_is_as_said_or_what_the_cpu_is_fast_in(monkeypatch, has_bf16):
    monkeypatch.setattr(fit_file, "cpu_has_bf16", lambda: has_bf16)
    assert resolve_precision("auto", "cpu") == ("bf16-mixed" if has_bf16 else "32-true")
    assert resolve_precision("16-mixed", "cpu") == "16-mixed"
    assert resolve_precision("32-true", "auto") == "32-true"


def test_a_wrong_setting_is_named():
    with pytest.raises(ValueError, match=r"train: precision: .*'half'.*known: steps, batch_size"):
        FitConfig.parse({"precision": "half"}, "train")


class Drawing(Regression):
    """Reports a random number."""

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("validation/drawn", torch.rand(()), batch_size=1)


def test_what_is_solved_for_is_validated_with_the_random_numbers_of_a_fit(
    data, fit_config, tmp_path
):
    config = fit_config(steps=2)
    drawn = run(Drawing(config), data, tmp_path).metrics["validation/drawn"]
    module = Drawing(config)

    def solve():
        torch.rand(7)  # what is drawn here has no say
        with torch.no_grad():
            module.layers[0].weight.fill_(0.25)

    result = fit_at_once(module, solve, DataLoader([data], batch_size=None), config)
    assert result.metrics["validation/drawn"] == drawn
    (seen,) = module.seen
    assert (seen == 0.25).all()
    assert result.best_value == result.metrics[MONITORED]
    assert result.best_value == pytest.approx(module.loss(data).item())
    assert not module.training
    assert (result.steps, result.history, result.stopped_early) == (0, {}, False)
