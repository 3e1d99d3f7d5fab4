import pytest
import torch
from torch import nn

from cardiac_vae.layers.batch_statistics import held_statistics, re_estimate, statistics_of


@pytest.fixture
def network():
    """Return a batch norm between layers that would show if they were in training mode."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3, momentum=0.05), nn.Conv2d(3, 2, 1))
    return network.eval()


@pytest.fixture
def batches():
    torch.manual_seed(1)
    return [scale * torch.randn(4, 3, 5, 5) + scale for scale in (1.0, 2.0, 3.0)]


def statistics(network):
    layer = network[1]
    return layer.running_mean.clone(), layer.running_var.clone(), layer.num_batches_tracked.clone()


def expected(batches):
    means = [batch.mean(dim=(0, 2, 3)) for batch in batches]
    variances = [batch.var(dim=(0, 2, 3)) for batch in batches]
    return torch.stack(means).mean(dim=0), torch.stack(variances).mean(dim=0)


def test_statistics_are_the_mean_over_what_is_shown(network, batches):
    network(batches[0])
    re_estimate(network, lambda: [network(batch) for batch in batches])
    mean, variance, count = statistics(network)
    torch.testing.assert_close(mean, expected(batches)[0])
    torch.testing.assert_close(variance, expected(batches)[1])
    assert count == 3
    assert network[1].momentum == 0.05
    assert not any(layer.training for layer in network.modules())


def test_nothing_else_is_in_training_mode_meanwhile(network, batches):
    modes = []
    re_estimate(network, lambda: modes.append([layer.training for layer in network]))
    assert modes == [[False, True, False]]


def test_a_network_without_batch_norms_is_not_shown_anything():
    network = nn.Linear(2, 2)
    re_estimate(network, lambda: pytest.fail("shown something"))
    assert not network.training


def test_the_network_has_its_own_statistics_again(network, batches):
    before = statistics(network)
    with statistics_of(network, lambda: [network(batch) for batch in batches]):
        torch.testing.assert_close(statistics(network)[0], expected(batches)[0])
    for own, again in zip(before, statistics(network), strict=True):
        assert torch.equal(own, again)


def test_it_has_them_again_after_an_error(network, batches):
    before = statistics(network)
    with pytest.raises(RuntimeError), statistics_of(network, lambda: [network(batches[0])]):
        raise RuntimeError
    assert torch.equal(before[0], statistics(network)[0])


def test_held_statistics_are_used_and_kept_in_training(network, batches):
    network.train()
    before = statistics(network)
    with held_statistics(network):
        assert [layer.training for layer in network] == [True, False, True]
        held = network[1](batches[1])
    for own, again in zip(before, statistics(network), strict=True):
        assert torch.equal(own, again)
    torch.testing.assert_close(held, batches[1] / (1 + network[1].eps) ** 0.5)
    assert network[1].training
    network.eval()
    with held_statistics(network):
        pass
    assert not network[1].training
