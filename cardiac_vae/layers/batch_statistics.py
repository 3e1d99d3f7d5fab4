"""Batch-norm statistics: estimated anew from what a network is shown, or held as they are.

Running means lag behind weights that move fast, and they are those of encoded masks: what a model
draws from its prior has others. Vahdat & Kautz 2020 (NVAE) re-estimate them before they sample.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def re_estimate(network: nn.Module, observe: Callable[[], None]) -> None:
    """Set the statistics of all batch norms to the mean over the batches that ``observe`` passes.

    Nothing else of the network is in training mode meanwhile; afterwards nothing is.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    network.eval()
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches, not a running one
        layer.train()
    with torch.no_grad():
        observe()
    network.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


@contextmanager
def statistics_of(network: nn.Module, observe: Callable[[], None]) -> Iterator[None]:
    """Let a network in evaluation mode have the statistics of ``observe``; then its own again.

    ``observe`` passes batches through it; what it draws from torch's generator is drawn.
    """
    kept = {
        name: value.clone()
        for name, value in network.named_buffers()
        if name.rpartition(".")[2] in {"running_mean", "running_var", "num_batches_tracked"}
    }
    re_estimate(network, observe)
    try:
        yield
    finally:
        buffers = dict(network.named_buffers())
        with torch.no_grad():
            for name, value in kept.items():
                buffers[name].copy_(value)


@contextmanager
def held_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms use their running statistics, and leave those alone, also in training."""
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()
