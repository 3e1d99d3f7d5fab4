import math

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Categorical, Normal

from cardiac_vae.layers.likelihoods import (
    LOG_SIGMA_GRADIENT,
    LOG_SIGMA_STEP,
    BernoulliConfig,
    CategoricalConfig,
    Gaussian,
    GaussianConfig,
    build_likelihood,
    categorical_nll,
)


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_nll_is_that_of_one_categorical_per_pixel(shape):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, *shape), torch.randint(4, (2, *shape))
    target = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    expected = -Categorical(logits=logits.movedim(1, -1)).log_prob(labels)
    torch.testing.assert_close(categorical_nll(logits, target), expected.flatten(1).sum(dim=1))


def test_knowing_nothing_costs_log_c_per_pixel_and_being_right_nothing():
    target = torch.zeros(3, 4, 8, 8)
    target[:, 2] = 1
    nothing = categorical_nll(torch.zeros(3, 4, 8, 8), target)
    torch.testing.assert_close(nothing, torch.full((3,), 64 * math.log(4)))
    torch.testing.assert_close(categorical_nll(100 * target, target), torch.zeros(3))


def test_soft_targets_give_the_cross_entropy():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3).softmax(dim=1)
    expected = -(target * logits.log_softmax(dim=1)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(categorical_nll(logits, target), expected)


def test_half_precision_is_summed_in_single():
    logits = torch.randn(2, 4, 64, 64)
    target = torch.nn.functional.one_hot(torch.randint(4, (2, 64, 64)), 4).movedim(-1, 1)
    nll = categorical_nll(logits.bfloat16(), target)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, categorical_nll(logits.bfloat16().float(), target))


def one_hot_vectors(output):
    """Return (C, *output.shape): the mask that has class k at every pixel, for each k."""
    shape = (4, *output.shape)
    return torch.eye(4).reshape(4, 1, 4, *(1 for _ in output.shape[2:])).expand(shape)


LEARNT = GaussianConfig(scale=0.4, is_scale_learnt=True)
EVERY = {
    "categorical": (CategoricalConfig(), None),
    "bernoulli": (BernoulliConfig(), lambda output: TorchBernoulli(logits=output)),
    "gaussian": (GaussianConfig(scale=0.3), lambda output: Normal(output, 0.3)),
    "learnt gaussian": (LEARNT, lambda output: Normal(output, 0.4)),
}
PLANES = [name for name, (_, planes) in EVERY.items() if planes]


def labels_and_one_hot(*shape):
    labels = torch.randint(4, shape)
    return labels, torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
@pytest.mark.parametrize("name", PLANES)
def test_planes_cost_what_torch_says(name, shape):
    torch.manual_seed(0)
    config, planes = EVERY[name]
    output = torch.randn(2, 4, *shape)
    _, target = labels_and_one_hot(2, *shape)
    expected = -planes(output).log_prob(target).flatten(start_dim=1).sum(dim=1)
    torch.testing.assert_close(build_likelihood(config).nll(output, target), expected)


def test_the_categorical_has_nothing_to_pay_beside_its_logits():
    output, (_, target) = torch.randn(2, 4, 3, 3), labels_and_one_hot(2, 3, 3)
    likelihood = build_likelihood(CategoricalConfig())
    assert torch.equal(likelihood.nll(output, target), categorical_nll(output, target))
    assert torch.equal(likelihood.logits(output), output)
    assert likelihood.parts(output) == {}


@pytest.mark.parametrize("name", PLANES)
def test_the_logits_and_the_rest_are_those_of_all_one_hot_vectors(name):
    """p(e_k | one-hot) = p(e_k) / sum_j p(e_j), the vectors tried one by one."""
    torch.manual_seed(0)
    config, planes = EVERY[name]
    output = torch.randn(2, 4, 3, 3)
    likelihood = build_likelihood(config)
    each = planes(output).log_prob(one_hot_vectors(output)).sum(dim=2)  # (C, B, H, W)
    expected = each.softmax(dim=0).movedim(0, 1)
    torch.testing.assert_close(likelihood.logits(output).softmax(dim=1), expected)
    (rest,) = likelihood.parts(output).values()
    torch.testing.assert_close(rest, -each.logsumexp(dim=0).sum(dim=(1, 2)))


@pytest.mark.parametrize("name", EVERY)
def test_a_soft_target_costs_its_expectation(name):
    torch.manual_seed(0)
    likelihood = build_likelihood(EVERY[name][0])
    output, target = torch.randn(2, 4, 1, 1), torch.randn(2, 4, 1, 1).softmax(dim=1)
    each = torch.stack([likelihood.nll(output, mask) for mask in one_hot_vectors(output)])
    torch.testing.assert_close(likelihood.nll(output, target), (each * target[..., 0, 0].T).sum(0))


def test_bits_pay_for_the_vectors_that_no_mask_can_hold():
    likelihood = build_likelihood(BernoulliConfig())
    (knowing_nothing,) = likelihood.parts(torch.zeros(1, 4, 8, 8)).values()
    torch.testing.assert_close(knowing_nothing, torch.tensor([64 * math.log(16 / 4)]))
    target = labels_and_one_hot(1, 8, 8)[1]
    (sure,) = likelihood.parts(200 * target - 100).values()
    torch.testing.assert_close(sure, torch.zeros(1))


@pytest.mark.parametrize("sigma", [0.01, 0.3])
def test_the_gradient_of_a_gaussian_is_the_residual_over_the_variance(sigma):
    torch.manual_seed(0)
    target = labels_and_one_hot(2, 5, 5)[1]
    output = (target + 0.1 * torch.randn_like(target)).requires_grad_()
    build_likelihood(GaussianConfig(scale=sigma)).nll(output, target).sum().backward()
    expected = (output.detach() - target) / sigma**2
    torch.testing.assert_close(output.grad, expected, rtol=1e-3, atol=1e-4 / sigma**2)


def test_a_learnt_scale_starts_as_told_and_ends_at_the_size_of_the_residuals():
    torch.manual_seed(0)
    likelihood = Gaussian(LEARNT)
    target = labels_and_one_hot(3, 9, 9)[1]
    output = target + 0.05 * torch.randn_like(target)
    mean_square = (output - target).square().mean()

    likelihood.nll(output, target).sum().backward()
    torch.testing.assert_close(likelihood.log_sigma.exp(), torch.tensor(0.4))
    slope = target.numel() * (1 - mean_square / 0.4**2)
    expected = LOG_SIGMA_GRADIENT * LOG_SIGMA_STEP * slope
    torch.testing.assert_close(likelihood.log_change.grad, expected, rtol=1e-4, atol=0)

    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        likelihood.nll(output, target).sum().backward()
        optimizer.step()
    torch.testing.assert_close(likelihood.log_sigma.exp(), mean_square.sqrt(), rtol=1e-3, atol=0)


def test_a_learnt_scale_is_bounded_and_a_fixed_one_is_no_parameter():
    likelihood = Gaussian(LEARNT)
    for extreme in (-1e9, 1e9):
        likelihood.log_change.data.fill_(extreme)
        change = likelihood.log_sigma.item() - math.log(0.4)
        assert change == pytest.approx(math.copysign(5, extreme))
    assert list(Gaussian(GaussianConfig()).parameters()) == []


@pytest.mark.parametrize("name", EVERY)
def test_half_precision_outputs_cost_as_in_single(name):
    likelihood = build_likelihood(EVERY[name][0])
    output = torch.randn(2, 4, 32, 32).bfloat16()
    target = labels_and_one_hot(2, 32, 32)[1]
    nll = likelihood.nll(output, target)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, likelihood.nll(output.float(), target))
