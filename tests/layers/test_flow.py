import math

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal

from cardiac_vae.layers.distributions import DiagonalNormal
from cardiac_vae.layers.flow import START, AutoregressiveStep, InverseAutoregressiveFlow

REACH = 2  # a 5 x 5 sees two positions to each side


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def perturbed(module, size=0.3):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn_like(parameter)
    return module


def inputs(channels, latent_channels, shape, batch=1):
    return torch.randn(batch, latent_channels, *shape), torch.randn(batch, channels, *shape)


def ordered_jacobian(flow, z, context):
    """Return d flow / d z (N, N), units by position in raster order, then by channel."""
    order = torch.arange(z.numel()).reshape(z.shape[1:]).movedim(0, -1).flatten()
    matrix = jacobian(lambda value: flow(value, context)[0], z).reshape(z.numel(), -1)
    return matrix[order][:, order]


def visible(latent_channels, shape):
    """Return (N, N) bool: which units lie before a unit and in its reach, or are the unit."""
    places = torch.cartesian_prod(*(torch.arange(size) for size in shape))
    units = places.repeat_interleave(latent_channels, dim=0)
    near = ((units[:, None] - units[None]).abs() <= REACH).all(dim=2)
    return near & torch.ones(len(units), len(units), dtype=torch.bool).tril()


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize(
    ("latent_channels", "shape"), [(2, (4, 6)), (3, (3, 3)), (1, (1, 7)), (2, (2, 4, 3))]
)
def test_a_unit_sees_itself_and_all_before_it_within_reach(latent_channels, shape, is_reversed):
    step = perturbed(AutoregressiveStep(len(shape), 8, latent_channels, is_reversed))
    z, context = inputs(8, latent_channels, shape)
    matrix = ordered_jacobian(step, z, context)
    expected = visible(latent_channels, shape)
    assert torch.equal(matrix != 0, expected.T if is_reversed else expected)
    assert (matrix.diag() > 0).all()
    sign, log_det = torch.linalg.slogdet(matrix)
    assert sign == 1
    torch.testing.assert_close(step(z, context)[1][0], log_det, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 3)])
def test_the_log_determinant_of_all_steps_is_that_of_their_jacobian(shape):
    flow = perturbed(InverseAutoregressiveFlow(len(shape), 6, 2, num_steps=3))
    z, context = inputs(6, 2, shape, batch=3)
    log_det = flow(z, context)[1]
    assert log_det.shape == (3,)
    for case in range(3):
        matrix = ordered_jacobian(flow, z[case : case + 1], context[case : case + 1])
        assert matrix.triu(1).any()
        assert matrix.tril(-1).any()  # the orders take turns
        torch.testing.assert_close(
            torch.linalg.slogdet(matrix)[1], log_det[case], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 3)])
def test_at_the_start_a_flow_is_nearly_the_identity(shape):
    flow = InverseAutoregressiveFlow(len(shape), 6, 2, num_steps=2)
    z, context = inputs(6, 2, shape, batch=3)
    moved, log_det = flow(z, context)
    scale = torch.tensor(START).sigmoid() ** 2
    torch.testing.assert_close(moved, scale * z)
    torch.testing.assert_close(log_det, (z[0].numel() * scale.log()).expand(3))
    assert 1 - scale < 0.015


def test_the_context_reaches_every_unit_and_cases_do_not_see_each_other():
    step = perturbed(AutoregressiveStep(2, 6, 2))
    z, context = inputs(6, 2, (3, 3), batch=2)
    moved, log_det = step(z, context)
    other, _ = step(z, context + 1)
    assert (moved != other).all()
    changed, changed_log_det = step(torch.stack([z[0], z[1] + 1]), context)
    torch.testing.assert_close(changed[0], moved[0])
    torch.testing.assert_close(changed_log_det[0], log_det[0])


def test_no_weight_can_push_a_draw_out_of_reach():
    flow = perturbed(InverseAutoregressiveFlow(2, 6, 2, num_steps=2), 100.0)
    z, context = inputs(6, 2, (3, 3), batch=20)
    moved, log_det = flow(z, context)
    assert moved.abs().max() <= max(5, z.abs().max())
    assert (log_det <= 0).all()
    assert log_det.min() >= -2 * z[0].numel() * (START + 0.01)


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 1, 2)])  # two channels, or two positions
def test_a_flow_comes_nearer_to_a_correlated_target_than_any_diagonal_normal(shape):
    """The best of them has KL -log(1 - rho^2) / 2: Bishop 2006, sec. 10.1.2, with its variance."""
    rho = 0.9
    target = MultivariateNormal(torch.zeros(2), torch.tensor([[1, rho], [rho, 1]]))
    flow = InverseAutoregressiveFlow(2, 8, shape[0], num_steps=1)
    mu, log_sigma = (torch.zeros(shape, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.Adam([mu, log_sigma, *flow.parameters()], lr=0.02)

    def kl(draws):
        base = DiagonalNormal(mu.expand(draws, *shape), log_sigma.expand(draws, *shape))
        z = base.rsample()
        moved, log_det = flow(z, torch.zeros(draws, 8, *shape[1:]))
        return base.log_prob(z) - log_det - target.log_prob(moved.flatten(start_dim=1))

    for _ in range(300):
        optimizer.zero_grad()
        kl(128).mean().backward()
        optimizer.step()
    with torch.no_grad():
        cost = kl(4000)
    best_normal = -0.5 * math.log(1 - rho**2)
    assert cost.mean() < 0.3 * best_normal
    assert cost.mean() > -5 * cost.std() / 4000**0.5  # a density that is none would go below
