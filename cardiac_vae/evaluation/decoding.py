"""Masks through a shape model a batch at a time, from arrays to arrays."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.drawing import draw_codes, look_again
from cardiac_vae.layers.batch_statistics import statistics_of
from cardiac_vae.shape_model import ShapeModel

_NUM_OBSERVED = 4  # batches of samples whose statistics the batch norms take


@dataclass(frozen=True)
class EncodedSlices:
    """What a model makes of N slices.

    Attributes:
        codes: (N, Z) float64, the posterior means of all latent groups, top first.
        decoded: (N, H, W) uint8, the most probable structure at each pixel, given those means.
    """

    codes: np.ndarray
    decoded: np.ndarray


@torch.no_grad()
def encode_slices(model: ShapeModel, masks: np.ndarray, batch_size: int = 64) -> EncodedSlices:
    """Encode and decode label maps (N, H, W) with a model in evaluation mode."""
    device = next(model.parameters()).device
    codes, decoded = [], []
    for batch in torch.split(torch.from_numpy(masks), batch_size):
        latents = model.encode(one_hot(batch).to(device))
        flat = torch.cat([group.flatten(start_dim=1) for group in latents], dim=1)
        codes.append(flat.double().cpu().numpy())
        decoded.append(_decided(model.decode(latents)))
    return EncodedSlices(np.concatenate(codes), np.concatenate(decoded))


@torch.no_grad()
def sample_slices(
    model: ShapeModel,
    num_samples: int,
    temperature: float,
    batch_size: int = 64,
    condition: Tensor | None = None,
) -> np.ndarray:
    """Draw label maps (num_samples, H, W) uint8 from the prior of a model in evaluation mode.

    Batch norms of a model that wants it have the statistics of samples meanwhile. ``condition``
    (N, K) holds those that samples may have.
    """

    def observe() -> None:
        for _ in range(_NUM_OBSERVED):
            model.sample(batch_size, temperature, some_conditions(condition, batch_size))

    sizes = [min(batch_size, num_samples - start) for start in range(0, num_samples, batch_size)]
    with statistics_of(model, observe) if model.redraws_statistics else nullcontext():
        drawn = [
            _decided(model.sample(size, temperature, some_conditions(condition, size)))
            for size in sizes
        ]
    return np.concatenate(drawn)


@torch.no_grad()
def sample_from_density(
    model: ShapeModel,
    density: CodeDensity,
    num_samples: int,
    batch_size: int = 64,
    condition: Tensor | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draw label maps (num_samples, H, W) uint8 from a density over a model's codes.

    Latents that it is not over are drawn from their priors. ``condition`` is as in
    ``sample_slices``. Random numbers are drawn from ``seed`` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, num_samples, batch_size):
            number = min(batch_size, num_samples - start)
            told = some_conditions(condition, number)
            latents = draw_codes(model, density, number, generator, told)
            drawn.append(_decided(model.decode(latents, temperature=1.0, condition=told)))
    return np.concatenate(drawn)


@torch.no_grad()
def seen_again(
    model: ShapeModel, masks: np.ndarray, batch_size: int = 64, seed: int = 0
) -> np.ndarray:
    """Return label maps (N, H, W) uint8 after a pass of ``look_again``, drawn from ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = torch.split(torch.from_numpy(masks), batch_size)
        return np.concatenate([look_again(model, part).numpy() for part in parts])


def some_conditions(condition: Tensor | None, number: int) -> Tensor | None:
    """Return rows of (N, K) drawn with replacement, (number, K); of None none."""
    return None if condition is None else condition[torch.randint(len(condition), (number,))]


def _decided(probabilities: Tensor) -> np.ndarray:
    return probabilities.argmax(dim=1).cpu().numpy().astype(np.uint8)
