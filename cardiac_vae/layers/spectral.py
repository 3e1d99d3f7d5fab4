"""Spectral regularization: a cost on how far each layer can stretch its input.

    penalty = sum_l s_l + sum_n max |gamma_n|,    s_l = max_{|u| = |v| = 1} u^T W_l v

The encoder of a deep hierarchy could move its posterior far for a small change of its input, and
the KL with it; small singular values keep it smooth (Yoshida & Miyato 2017; Vahdat & Kautz 2020,
sec. 3.2). The scales gamma of a batch normalization are a diagonal matrix, whose largest singular
value is the largest of them (the paper's sec. 3.1 asks for their norm).

One power iteration per training step finds u and v well enough, because weights move little and u
is kept; with u and v held fixed the gradient of s is u v^T, the exact one where they have settled.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from cardiac_vae.layers.flow import MaskedConvolution

FIRST_ITERATIONS = 20


def layer_matrices(network: nn.Module) -> Iterator[Tensor]:
    """Yield the weight of each convolution as matrices (groups, rows, columns).

    Rows are the outputs, columns all that an output sees. A transposed convolution is the adjoint
    of a plain one with the same weight, and its singular values are those.
    """
    for layer in network.modules():
        if isinstance(layer, _ConvNd):
            yield layer.weight.reshape(layer.groups, len(layer.weight) // layer.groups, -1)
        elif isinstance(layer, MaskedConvolution):
            yield layer.masked_weight.flatten(start_dim=1)[None]


def power_iteration(matrices: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Return better unit vectors (N, rows) and (N, columns) of ``matrices`` (N, rows, columns).

    A matrix of zeros leaves ``left`` as it is and has a right vector of zeros: no gradient.
    """
    right = F.normalize((left[:, None] @ matrices)[:, 0], dim=1)
    turned = (matrices @ right[:, :, None])[:, :, 0]
    return torch.where(turned.any(dim=1, keepdim=True), F.normalize(turned, dim=1), left), right


class SpectralPenalty(nn.Module):
    """The penalty of a network, and what it remembers of its layers: a left vector of each.

    Equal shapes are iterated as one batch. The vectors are buffers, so that a fit can resume; an
    exponential average of them does no harm, because every estimate begins by an iteration that
    normalizes them, and iterations of W W^T never flip a sign. In evaluation mode they stand still.

    Args:
        network: Whose layers are meant, with the weights that training starts from.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, matrices in _by_shape(network).items():
            left = torch.randn(matrices.shape[:2], dtype=matrices.dtype, device=matrices.device)
            for _ in range(FIRST_ITERATIONS):
                left, _ = power_iteration(matrices.detach(), left)
            self.register_buffer(name, left)

    def forward(self, network: nn.Module) -> Tensor:
        """Return the penalty, a scalar; ``network`` has the layers of the constructor's."""
        scales = [
            layer.weight.abs().amax()
            for layer in network.modules()
            if isinstance(layer, _BatchNorm) and layer.affine
        ]
        return torch.cat([self.singular_values(network), *(scale[None] for scale in scales)]).sum()

    def singular_values(self, network: nn.Module) -> Tensor:
        """Return estimates, from below, of the largest singular value of each matrix, (N,)."""
        values = []
        for name, matrices in _by_shape(network).items():
            kept = self.get_buffer(name)
            with torch.autocast(matrices.device.type, enabled=False):
                with torch.no_grad():
                    left, right = power_iteration(matrices, kept)
                    if self.training:
                        kept.copy_(left)
                values.append(((left[:, None] @ matrices)[:, 0] * right).sum(dim=1))
        return torch.cat(values)


def _by_shape(network: nn.Module) -> dict[str, Tensor]:
    """Return the matrices of a network, stacked (N, rows, columns) by shape."""
    lists: dict[str, list[Tensor]] = {}
    for matrices in layer_matrices(network):
        lists.setdefault("left_{}x{}".format(*matrices.shape[1:]), []).append(matrices)
    return {name: torch.cat(stack) for name, stack in lists.items()}
