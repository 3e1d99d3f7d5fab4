"""Fit a density to the codes of the hearts that a shape model was trained on."""

from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.densities.code_density import CodeDensity, Density, rows
from cardiac_vae.densities.normal_mixture import NormalMixture
from cardiac_vae.shape_model import ShapeModel
from cardiac_vae.vi.cavi import Cavi, CaviConfig
from cardiac_vae.vi.fitting import FitConfig, fit
from cardiac_vae.vi.mixture import MixturePrior

_VAMP_DRAWS = 2  # per dimension, of each posterior: what its covariance is taken of
_NO_SPREAD = 1e-6  # of the farthest direction: what is below is rounding
Kind = Literal["mixture", "gaussian", "kernels", "vampprior"]


class DensityConfig(StrictConfig):
    """Which density, over how much of the code.

    Attributes:
        kind: A Bayesian mixture of normals, or a control: a single normal, kernels at all training
            codes, a VampPrior.
        num_components: Of the mixture, and pseudo-inputs of the VampPrior.
        num_groups: Latent groups that have the density, from the top; all that there are if None.
        num_dimensions: Directions that the density is over, at most as many as there are scalars.
        num_draws: Draws of each posterior.
        batch_size: Slices encoded at a time.
    """

    kind: Kind = "mixture"
    num_components: PositiveInt = 20
    num_groups: PositiveInt | None = None
    num_dimensions: PositiveInt = 64
    num_draws: PositiveInt = 2
    batch_size: PositiveInt = 64
    seed: NonNegativeInt = 0


def fit_code_density(
    model: ShapeModel,
    masks: Tensor,
    config: DensityConfig | None = None,
    condition: Tensor | None = None,
) -> CodeDensity:
    """Fit a density to the aggregate posterior of label maps (N, H, W), a model in eval mode.

    ``condition`` (N, K) is what is known of each, for a model that looks at it.

    Raises:
        ValueError: if the model's latents are no normals, or the masks do not determine it.
    """
    config = config or DensityConfig()
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        sizes = config.num_groups, config.batch_size
        means = encoded_noise(model, masks, 0.0, *sizes, condition)
        directions = _directions(rows(means), config.num_dimensions)
        chosen, num_draws = _drawn_from(len(masks), directions.shape[1], config, generator)
        told = None if condition is None else condition[chosen]
        draws = torch.stack(
            [
                rows(encoded_noise(model, masks[chosen], 1.0, *sizes, told)) @ directions
                for _ in range(num_draws)
            ]
        )
    shapes = tuple(tuple(group.shape[1:]) for group in means)
    return CodeDensity(directions, _density_of(draws, config, generator), shapes)


def _drawn_from(
    number: int, dimensions: int, config: DensityConfig, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Return which hearts are drawn for, and how often: a few of them often, for a VampPrior."""
    if config.kind != "vampprior":
        return torch.arange(number), config.num_draws
    order = torch.randperm(number, generator=generator)
    return order[: config.num_components].sort().values, _VAMP_DRAWS * dimensions


@torch.no_grad()
def encoded_noise(
    model: ShapeModel,
    masks: Tensor,
    temperature: float,
    num_groups: int | None = None,
    batch_size: int = 64,
    condition: Tensor | None = None,
) -> list[Tensor]:
    """Return the noise (N, ...) behind the codes of label maps (N, H, W), top group first.

    Codes are means at temperature 0 and draws of the posteriors at 1; of ``num_groups`` from the
    top, or all. ``condition`` is (N, K).
    """
    device = next(model.parameters()).device
    batches = torch.split(masks, batch_size)
    told = [None] * len(batches) if condition is None else torch.split(condition, batch_size)
    found = []
    for batch, c in zip(batches, told, strict=True):
        latents = model.encode(one_hot(batch).to(device), condition=c, temperature=temperature)
        found.append([e.cpu() for e in model.noise_of(latents[:num_groups], c)])
    return [torch.cat(group) for group in zip(*found, strict=True)]


def _directions(means: Tensor, number: int) -> Tensor:
    """Return the orthonormal directions (Z, d) along which rows (N, Z) go farthest from 0."""
    _, s, v = torch.linalg.svd(means, full_matrices=False)
    return v[: min(number, int((s > _NO_SPREAD * s[0]).sum()))].T.contiguous()


def _density_of(draws: Tensor, config: DensityConfig, generator: torch.Generator) -> Density:
    """Fit to draws (R, N, d), R of each posterior."""
    if config.kind == "vampprior":
        return NormalMixture.of_draws(draws.movedim(0, 1))
    scores = draws.flatten(end_dim=1)
    if config.kind == "kernels":
        return NormalMixture.kernels(scores)
    components = 1 if config.kind == "gaussian" else config.num_components
    cavi = Cavi(MixturePrior.of(scores), CaviConfig(num_components=components, num_restarts=5))
    return fit(cavi, scores, FitConfig(max_steps=300, tolerance=0.1), generator).posterior
