import pytest
import torch
from torch import nn

from cardiac_vae.layers.weights import read_weights, write_weights


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(
        memory_format=torch.channels_last
    )


def test_weights_and_buffers_come_back_to_the_bit(network, tmp_path):
    network(torch.randn(4, 1, 8, 8))  # moves the running statistics
    write_weights(tmp_path / "weights.safetensors", network)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    read_weights(tmp_path / "weights.safetensors", other, tmp_path / "config.yaml", "model")
    assert all(
        torch.equal(value, other.state_dict()[k]) for k, value in network.state_dict().items()
    )


@pytest.mark.parametrize("is_damaged", [False, True])
def test_other_weights_are_refused_in_a_line(network, tmp_path, is_damaged):
    path = tmp_path / "weights.safetensors"
    write_weights(path, network)
    if is_damaged:
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(
        ValueError,
        match=r"expected the weights of .*config.yaml, got .*; train the "
        "corrector again, or copy its folder whole",
    ) as error:
        read_weights(path, nn.Linear(2, 2), tmp_path / "config.yaml", "corrector")
    assert "\n" not in str(error.value)
