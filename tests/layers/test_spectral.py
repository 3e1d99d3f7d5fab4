import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from cardiac_vae.layers.blocks import (
    CONVOLUTIONS,
    TRANSPOSED,
    DecoderCell,
    EncoderCell,
    batch_norm,
    convolution,
    from_patches,
    patches,
    zero_initialized,
)
from cardiac_vae.layers.flow import AutoregressiveStep
from cardiac_vae.layers.spectral import FIRST_ITERATIONS, SpectralPenalty


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def network(spatial_dims=2):
    """Return layers of every kind, in double precision, with scales that differ."""
    layers = nn.Sequential(
        patches(spatial_dims, 2, 4, 2),
        EncoderCell(spatial_dims, 4),
        DecoderCell(spatial_dims, 4, expansion=2, group_width=4),
        from_patches(spatial_dims, 4, 2, 2),
    ).double()
    for layer in layers.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(layer.weight, -2, 2)
    return layers


def singular_values(layers):
    """Return the largest singular value of each matrix of the network, by decomposition."""
    values = []
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            for part in layer.weight.chunk(layer.groups):
                values.append(torch.linalg.svdvals(part.flatten(start_dim=1))[0])
    return torch.stack(values)


def settled(layers, iterations=300):
    penalty = SpectralPenalty(layers)
    with torch.no_grad():
        for _ in range(iterations):
            penalty.singular_values(layers)
    return penalty


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_estimates_are_the_largest_singular_values_and_so_are_their_gradients(spatial_dims):
    layers = network(spatial_dims)
    estimates = settled(layers).singular_values(layers)
    exact = singular_values(layers)
    assert len(exact) == 2 + 2 + 1 + 2 + 1 + 2  # the grouped convolution has two
    torch.testing.assert_close(estimates.sort()[0], exact.sort()[0])
    weights = [value for value in layers.parameters() if value.ndim > 2]
    for estimated, expected in zip(
        torch.autograd.grad(estimates.sum(), weights),
        torch.autograd.grad(exact.sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(estimated, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(
    ("layer", "channels", "size"),
    [
        (lambda dims: CONVOLUTIONS[dims](4, 6, 3), 4, 3),
        (lambda dims: CONVOLUTIONS[dims](4, 6, 3, groups=2), 4, 3),
        (lambda dims: TRANSPOSED[dims](4, 6, 2, stride=2), 4, 1),
        (lambda dims: TRANSPOSED[dims](4, 6, 2, stride=2, groups=2), 4, 1),
    ],
)
def test_a_layer_stretches_what_one_window_holds_by_its_largest_value(
    layer, channels, size, spatial_dims
):
    module = layer(spatial_dims).double()
    window = torch.zeros(channels, *(size,) * spatial_dims, dtype=torch.double)
    whole = jacobian(module, window).reshape(-1, window.numel())
    largest = settled(module).singular_values(module).max()
    torch.testing.assert_close(largest, torch.linalg.svdvals(whole)[0])


def test_a_masked_convolution_counts_by_the_weights_that_act():
    step = AutoregressiveStep(2, channels=6, latent_channels=2).double()
    nn.init.normal_(step.last.weight)
    exact = [
        torch.linalg.svdvals((layer.weight * layer.mask).flatten(start_dim=1))[0]
        for layer in (step.first, step.last)
    ] + [torch.linalg.svdvals(step.context_in.weight.flatten(start_dim=1))[0]]
    estimates = settled(step).singular_values(step)
    torch.testing.assert_close(estimates.sort()[0], torch.stack(exact).sort()[0])


def test_estimates_rise_to_the_values_from_below():
    layers = network()
    penalty, exact = SpectralPenalty(layers), singular_values(layers).sum()
    sums = torch.stack([penalty.singular_values(layers).sum() for _ in range(50)])
    assert (sums.diff() >= -1e-12).all()
    assert 0.99 * exact < sums[0] < sums[-1] <= exact + 1e-12  # warm from the start


@torch.no_grad()
def test_one_iteration_a_step_keeps_up_with_weights_that_move():
    layers = network()
    penalty = SpectralPenalty(layers)
    for _ in range(50):
        for weight in layers.parameters():
            weight += 0.01 * weight.norm() / weight.numel() ** 0.5 * torch.randn_like(weight)
        estimate, exact = penalty.singular_values(layers).sum(), singular_values(layers).sum()
        assert 0.97 * exact < estimate <= exact + 1e-12


def test_batch_norms_count_by_their_largest_scale():
    layers = nn.Sequential(
        convolution(2, 3, 3), batch_norm(2, 3), nn.BatchNorm2d(3, affine=False)
    ).double()
    norm = layers[1]
    norm.weight.data = torch.tensor([0.5, -3.0, 1.0], dtype=torch.double)
    penalty = SpectralPenalty(layers)
    total = penalty.eval()(layers)
    torch.testing.assert_close(total, penalty.singular_values(layers).sum() + 3)
    total.backward()
    assert norm.weight.grad.tolist() == [0, -1, 0]
    assert norm.bias.grad is None


def test_evaluation_leaves_the_vectors_and_training_moves_them():
    layers = network()
    penalty = SpectralPenalty(layers)
    before = {name: value.clone() for name, value in penalty.state_dict().items()}
    first = penalty.eval()(layers)
    assert first.requires_grad
    assert torch.equal(penalty(layers), first)
    assert all(torch.equal(value, before[name]) for name, value in penalty.state_dict().items())
    assert torch.equal(penalty.train()(layers), first)
    assert not any(torch.equal(value, before[name]) for name, value in penalty.named_buffers())
    assert not any(value.requires_grad for value in penalty.buffers())


def test_a_layer_of_zeros_costs_nothing_is_not_pushed_and_is_found_when_it_wakes():
    layer = zero_initialized(convolution(2, 4, 4)).double()
    penalty = SpectralPenalty(layer)
    value = penalty(layer)
    value.backward()
    assert value == 0
    assert not layer.weight.grad.any()
    nn.init.normal_(layer.weight)
    for _ in range(FIRST_ITERATIONS):
        value = penalty(layer)
    torch.testing.assert_close(value, singular_values(layer).sum(), rtol=0.01, atol=0)


def test_neither_averaged_vectors_nor_half_precision_change_an_estimate():
    layers = network().float()
    penalty = SpectralPenalty(layers).eval()
    expected = penalty(layers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(penalty(layers), expected)
    for vectors in penalty.buffers():
        vectors *= 0.1  # an average of vectors that turn is shorter than they are
    torch.testing.assert_close(penalty(layers), expected)
