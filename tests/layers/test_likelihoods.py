import math

import pytest
import torch
from torch.distributions import Categorical

from cardiac_vae.layers.likelihoods import categorical_nll


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
