"""Muon against the singular value decomposition, AdamW against torch's."""

import pytest
import torch
from torch import nn

from cardiac_vae.layers.blocks import zero_initialized
from cardiac_vae.training.optimizer import Muon, layer_weights, orthogonal, orthogonals


@pytest.mark.parametrize("shape", [(7, 12), (12, 7), (3, 5, 40)])
def test_orthogonal_keeps_the_singular_vectors_and_levels_the_values(shape):
    matrix = torch.randn(shape, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    turned = orthogonal(matrix)
    middle = u.mT @ turned @ vh.mT  # diagonal, if the singular vectors are the same
    values = middle.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(middle, torch.diag_embed(values), atol=1e-6, rtol=0)
    assert values.min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(turned, orthogonal(1000 * matrix), atol=1e-5, rtol=0)


def test_many_at_once_are_turned_as_one_by_one():
    shapes = [(2, 5, 9), (1, 9, 5), (3, 4, 4), (1, 5, 5), (1, 4, 30), (2, 1, 6)]
    stacks = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    for turned, stack in zip(orthogonals(stacks), stacks, strict=True):
        for mine, matrix in zip(turned, stack, strict=True):
            torch.testing.assert_close(mine, orthogonal(matrix))


def test_a_matrix_of_zeros_stays_one():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_layers_are_taken_but_for_those_that_start_at_zero():
    head = zero_initialized(nn.Conv2d(8, 2, 1))
    grouped = nn.Conv2d(8, 8, 3, groups=4)
    linear, up = nn.Linear(8, 3), nn.ConvTranspose2d(8, 4, 2)
    model = nn.Sequential(grouped, nn.BatchNorm2d(8), up, head, linear, nn.Embedding(5, 8))
    found = dict(layer_weights(model))
    assert found == {grouped.weight: 4, up.weight: 1, linear.weight: 1}
    with torch.no_grad():
        head.weight += 1  # a fit that goes on finds the same layers
    assert dict(layer_weights(model)) == found


def test_a_step_by_hand():
    layer = nn.Linear(6, 3, bias=False).double()
    optimizer = Muon(layer, 1.0, matrix_learning_rate=0.1, weight_decay=0.5)
    weight, momentum = layer.weight.detach().clone(), torch.zeros(3, 6, dtype=torch.float64)
    for _ in range(3):
        gradient = torch.randn(3, 6, dtype=torch.float64)
        layer.weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.95 * momentum + gradient
        weight = (1 - 0.1 * 0.5) * weight - 0.1 * orthogonal(gradient + 0.95 * momentum)
        torch.testing.assert_close(layer.weight.detach(), weight)


def test_each_group_of_a_convolution_is_a_matrix_of_its_own():
    """As two convolutions of half the channels would be stepped; tall ones take longer steps."""
    whole = nn.Conv2d(4, 12, 1, groups=2, bias=False)
    before = whole.weight.detach().clone()
    whole.weight.grad = torch.randn_like(before)
    Muon(whole, 1.0, matrix_learning_rate=0.1).step()
    for half in (slice(0, 6), slice(6, 12)):
        gradient = whole.weight.grad[half].reshape(6, 2)
        expected = before[half].reshape(6, 2) - 0.1 * 3**0.5 * orthogonal(gradient)
        torch.testing.assert_close(whole.weight.detach()[half].reshape(6, 2), expected)


def test_everything_else_is_stepped_as_by_adamw():
    ours, theirs = nn.BatchNorm1d(5), nn.BatchNorm1d(5)
    optimizer = Muon(ours, 0.1, matrix_learning_rate=9.0, weight_decay=0.2)
    reference = torch.optim.AdamW(theirs.parameters(), 0.1, (0.9, 0.99), weight_decay=0.2)
    for _ in range(4):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.randn(5)
            other.grad = mine.grad.clone()
        optimizer.step()
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_what_has_no_gradient_stays_and_the_state_can_be_saved():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    optimizer = Muon(model, 0.1, 0.1, weight_decay=0.0)
    still = model[1].weight.detach().clone()
    model[0](torch.randn(2, 3)).square().sum().backward()
    optimizer.step()
    assert torch.equal(model[1].weight, still)
    again = Muon(model, 0.1, 0.1, weight_decay=0.0)
    again.load_state_dict(optimizer.state_dict())
    kept = again.state[model[0].weight]["momentum"]
    assert torch.equal(kept, optimizer.state[model[0].weight]["momentum"])
