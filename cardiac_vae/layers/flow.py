"""Inverse autoregressive flow: a posterior whose units hang together (Kingma et al. 2016).

    z_0 ~ N(mu, sigma^2),    z_k = s_k z_{k-1} + (1 - s_k) m_k,    s_k = sigmoid(a_k)   (eq. 13-14)
    log q(z_K) = log q(z_0) - sum_k sum_i log s_{k,i}

m_k and a_k are functions of z_{k-1} and a context; those of unit i see only the units before i.
So dz_k / dz_{k-1} is triangular with s_k on its diagonal. Units are ordered by position, row by
row (in three dimensions slice by slice), and by channel within a position; every other step
takes the reverse order. The last layer starts at zero and s near one: the flow at the identity.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cardiac_vae.layers.blocks import convolution, zero_initialized
from cardiac_vae.layers.distributions import soft_clamp

CONVOLVE: dict[int, Callable[..., Tensor]] = {2: F.conv2d, 3: F.conv3d}
KERNEL = 5
START = 5.0
"""Of a_k: a step shrinks its input by 0.7 % at the start."""


def autoregressive_mask(spatial_dims: int, kernel: int, sees: Tensor) -> Tensor:
    """Return which weights of a convolution may act, (out, in, kernel, kernel) bool.

    An output sees all channels of the positions before its own, and of its own those of
    ``sees`` (out, in).
    """
    taps = kernel**spatial_dims
    mask = torch.zeros(*sees.shape, taps, dtype=torch.bool)
    mask[:, :, : taps // 2] = True
    mask[:, :, taps // 2] = sees
    return mask.reshape(*sees.shape, *(kernel,) * spatial_dims)


class MaskedConvolution(nn.Module):
    """A convolution of which only some weights act; it keeps the size.

    Its weight is no matrix that an optimizer may turn as a whole, so it is no ``nn.Conv2d``.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        bound = mask[0].numel() ** -0.5
        self.weight = nn.Parameter(torch.empty(mask.shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(len(mask)))
        self.register_buffer("mask", mask, persistent=False)

    @property
    def masked_weight(self) -> Tensor:
        """The weight (out, in, ...) with zeros where it does not act."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, ...) of ``x`` (B, in, ...)."""
        convolve = CONVOLVE[self.mask.ndim - 2]
        return convolve(x, self.masked_weight, self.bias, padding=self.mask.shape[-1] // 2)


class AutoregressiveStep(nn.Module):
    """One step of the flow: a masked 5 x 5, swish, a masked 1 x 1."""

    def __init__(
        self, spatial_dims: int, channels: int, latent_channels: int, is_reversed: bool = False
    ) -> None:
        super().__init__()
        latent = torch.arange(latent_channels)
        hidden = torch.arange(channels) * latent_channels // channels  # the latent it stands before
        first = autoregressive_mask(spatial_dims, KERNEL, latent < hidden[:, None])
        last = autoregressive_mask(spatial_dims, 1, hidden <= latent.repeat(2)[:, None])
        if is_reversed:
            first, last = (mask.flip(tuple(range(mask.ndim))) for mask in (first, last))
        self.first = MaskedConvolution(first)
        self.context_in = convolution(spatial_dims, channels, channels, kernel=1)
        self.last = zero_initialized(MaskedConvolution(last))

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moved ``z`` (B, Z, H, W) and log |dz' / dz| (B,).

        ``context`` (B, channels, H, W) is what the step may know besides ``z``.
        """
        hidden = F.silu(self.first(z) + self.context_in(context))
        target, gate = self.last(hidden).float().chunk(2, dim=1)
        gate = START + soft_clamp(gate, 2 * START)
        moved = gate.sigmoid() * z + (-gate).sigmoid() * soft_clamp(target)
        return moved, F.logsigmoid(gate).flatten(start_dim=1).sum(dim=1)


class InverseAutoregressiveFlow(nn.Module):
    """Some steps, each in the order that the one before does not take."""

    def __init__(
        self, spatial_dims: int, channels: int, latent_channels: int, num_steps: int
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            AutoregressiveStep(spatial_dims, channels, latent_channels, bool(index % 2))
            for index in range(num_steps)
        )

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``z`` (B, Z, H, W) after all steps, and the sum of their log-determinants (B,)."""
        log_det = torch.zeros(len(z), device=z.device)
        for step in self.steps:
            z, change = step(z, context)
            log_det = log_det + change
        return z, log_det
