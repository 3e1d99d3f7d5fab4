import pytest
import torch

from cardiac_vae.correction.network import NUM_VIEWS, Config, Network
from cardiac_vae.labels import NUM_CLASSES


def seen(count, size):
    """Return views (count, V * C, size, size): probabilities, many of them next to nothing."""
    planes = torch.distributions.Dirichlet(torch.full((NUM_CLASSES,), 0.1))
    drawn = planes.sample((count, NUM_VIEWS, size, size))
    return drawn.movedim(-1, 2).flatten(1, 2)


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (16, {"patch_size": 1, "channels": (4,)}),
        (24, {"patch_size": 2, "channels": (4, 6, 8)}),
        (40, {"patch_size": 4, "channels": (8, 8), "cells_per_scale": 2}),
    ],
)
def test_an_untrained_network_gives_back_what_was_drawn(size, settings, is_training):
    views = seen(3, size)
    network = Network(Config(image_size=size, **settings)).train(is_training)
    kept = views[:, :NUM_CLASSES].clamp(min=1e-3)
    torch.testing.assert_close(
        network(views).softmax(dim=1), kept / kept.sum(dim=1, keepdim=True), rtol=1e-5, atol=1e-6
    )


def test_each_step_up_adds_what_the_step_down_of_its_size_saw():
    network = Network(Config(image_size=32, patch_size=2, channels=(4, 8, 12)))
    down, up = [], []
    for step in network.down:
        step.register_forward_hook(lambda _, __, x: down.append(x))
    for step in network.up:
        step.register_forward_pre_hook(lambda _, inputs: up.append(inputs[1]))
    network(seen(2, 32))
    assert [tuple(x.shape[1:]) for x in down] == [(4, 16, 16), (8, 8, 8), (12, 4, 4)]
    assert [skip is x for skip, x in zip(up, down[-2::-1], strict=True)] == [True, True]


def test_after_one_step_every_weight_learns_and_every_view_counts():
    network = Network(Config(image_size=16, patch_size=2, channels=(4, 8)))
    views, target = seen(4, 16).requires_grad_(), seen(4, 16)[:, :NUM_CLASSES]

    def backward():
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(views), target).backward()

    backward()  # the head starts at zero: what lies before it learns nothing yet
    assert not any(weight.grad.any() for weight in network.down.parameters())
    with torch.no_grad():
        for weight in network.parameters():
            weight -= 0.1 * weight.grad
    views.grad = None
    backward()
    unmoved = [name for name, w in network.named_parameters() if w.ndim > 1 and not w.grad.any()]
    assert unmoved == []
    assert (views.grad != 0).any(dim=(0, 2, 3)).all()


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="image_size 20 is not divisible by 8"):
        Config(image_size=20, patch_size=2, channels=(4, 8, 8))
