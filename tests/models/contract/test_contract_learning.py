"""What every model learns by, and what it is told beside the mask: flags and conditions."""

import pytest
import torch
from tiny_models import CONDITION, SOLVED, TRAINED, perturbed, tiny

from cardiac_vae.shape_model import ClosedFormModel


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_learns(name, masks):
    model = perturbed(name)
    is_broken = torch.tensor([True, False, True, False, False])
    model.loss(model(masks, is_broken=is_broken, condition=CONDITION)[1]).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    silent = [name for name, grad in gradients.items() if grad is None or not grad.any()]
    assert silent == []
    assert all(bool(grad.isfinite().all()) for grad in gradients.values())


@pytest.mark.parametrize("name", sorted(SOLVED))
def test_no_parameter_that_is_solved_for_asks_for_a_gradient(name, masks):
    model = perturbed(name)
    assert isinstance(model, ClosedFormModel)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.loss(model(masks)[1]).requires_grad
    assert sum(parameter.numel() for parameter in model.parameters()) > 0  # they are counted


@pytest.mark.parametrize("name", TRAINED)
def test_no_weight_stands_still_from_its_start(name, masks):
    """Heads that start at zero hide what lies behind them for some steps, not for ever."""
    torch.manual_seed(0)
    model = tiny(name)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.Adamax(model.parameters(), lr=2e-3)
    for _ in range(4):
        optimizer.zero_grad()
        model.loss(model(masks, condition=CONDITION)[1]).backward()
        optimizer.step()
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert still == []


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_learnt_of_broken_masks_leaves_the_posterior_of_whole_ones_apart(name, masks):
    torch.manual_seed(0)
    model = tiny(name)
    is_broken = torch.arange(10) < 5
    optimizer = torch.optim.Adamax(model.parameters(), lr=1e-2)
    for _ in range(8):
        optimizer.zero_grad()
        seen, target = torch.cat([masks, masks]), torch.cat([masks.roll(1, dims=0), masks])
        model.loss(model(seen, target, is_broken)[1]).backward()
        optimizer.step()
    model.eval()
    whole, broken = model.encode(masks), model.encode(masks, is_broken[:5])
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(whole, broken, strict=True))
    unmarked = model.encode(masks, torch.zeros(5, dtype=torch.bool))
    assert all(torch.equal(a, b) for a, b in zip(whole, unmarked, strict=True))


def test_the_flag_marks_single_cases(trained, masks):
    flag = torch.tensor([False, True, False, False, True])
    marked, plain = trained.reconstruct(masks, flag), trained.reconstruct(masks)
    torch.testing.assert_close(marked[~flag], plain[~flag])
    assert ((marked - plain)[flag].abs().amax(dim=(1, 2, 3)) > 1e-6).all()


def test_a_condition_says_something_to_the_models_that_look_at_it_and_to_no_other(model, masks):
    looks = model.condition_groups is not None
    told, untold = (model.reconstruct(masks, condition=c) for c in (CONDITION, None))
    assert torch.equal(told, untold) != looks
    assert torch.equal(model.reconstruct(masks, condition=0 * CONDITION), untold)
    bounds = []
    for condition in (CONDITION, None, 0 * CONDITION):
        torch.manual_seed(0)
        bounds.append(model(masks, condition=condition)[1].negative_elbo)
    told, untold, told_nothing = bounds
    assert torch.equal(told, untold) != looks
    assert torch.equal(told_nothing, untold)


def test_a_condition_is_drawn_for_by_the_models_that_look_at_it_and_by_no_other(generative):
    drawn = []
    for condition in (CONDITION, None, 0 * CONDITION):
        torch.manual_seed(0)
        drawn.append(generative.sample(5, condition=condition))
    told, untold, told_nothing = drawn
    assert torch.equal(told, untold) != (generative.condition_groups is not None)
    assert torch.equal(told_nothing, untold)
