"""What a density over codes is worth: hearts drawn from it, and nats on hearts not seen."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt

from cardiac_vae.anchors import plausible
from cardiac_vae.config import StrictConfig
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.fit import DensityConfig, Kind, encoded_noise, fit_code_density
from cardiac_vae.evaluation.decoding import sample_from_density, sample_slices, seen_again
from cardiac_vae.evaluation.generation import GenerationConfig, score_likeness
from cardiac_vae.evaluation.intervals import interval
from cardiac_vae.evaluation.reconstruction import HeldOutSlices, held_out_slices
from cardiac_vae.metrics.summary import share_interval
from cardiac_vae.shape_model import ShapeModel

PRIOR = "prior"


class DensityScoresConfig(StrictConfig):
    """What is compared, and how much is drawn.

    Attributes:
        controls: Densities that stand beside the one that is kept.
        num_passes: Of ``look_again`` over what was drawn; each is scored.
        max_slices: Training hearts that densities are fitted to, drawn at random if there are more.
    """

    density: DensityConfig = DensityConfig()
    controls: tuple[Kind, ...] = ("gaussian", "kernels", "vampprior")
    num_samples: PositiveInt = 256
    num_passes: NonNegativeInt = 3
    max_slices: PositiveInt = 5000
    batch_size: PositiveInt = 64
    seed: int = 0


def fit_and_score_densities(
    model: ShapeModel, prepared: Path, split: str, config: DensityScoresConfig
) -> tuple[CodeDensity | None, dict[str, Any]]:
    """Fit a density and its controls to the training hearts; score each on the slices of a split.

    Returns the density and the scores of all as plain values for JSON: ``prior`` and every kind ->
    ``score_density``, where the model has it. A model whose latents are no normals has no density.
    """
    train = held_out_slices(read_prepared(prepared, "train"))
    held_out = held_out_slices(read_prepared(prepared, split))
    hearts = train.of(_hearts(train, config))
    scores: dict[str, Any] = {}
    if model.has_prior:
        scores[PRIOR] = score_density(model, None, held_out, train, config)
    kept: CodeDensity | None = None
    kinds: Sequence[Kind] = (config.density.kind, *config.controls) if model.has_noise else ()
    for kind in dict.fromkeys(kinds):
        settings = config.density.model_copy(update={"kind": kind})
        masks, told = torch.from_numpy(hearts.masks), hearts.condition_for(model)
        density = fit_code_density(model, masks, settings, told)
        scores[kind] = score_density(model, density, held_out, train, config)
        kept = kept or density
    return kept, {
        "kept": None if kept is None else config.density.kind,
        "num_hearts": len(hearts.masks),
        "num_dimensions": None if kept is None else kept.directions.shape[1],
        "densities": scores,
    }


def _hearts(train: HeldOutSlices, config: DensityScoresConfig) -> np.ndarray:
    """Return the indices of the training slices that show a heart and break no criterion."""
    hearts = np.flatnonzero(plausible(train.masks, train.pixel_mm))
    rng = np.random.default_rng(config.seed)
    return np.sort(rng.permutation(hearts)[: config.max_slices])


def score_density(
    model: ShapeModel,
    density: CodeDensity | None,
    held_out: HeldOutSlices,
    train: HeldOutSlices,
    config: DensityScoresConfig,
) -> dict[str, Any]:
    """Score the hearts of a density, or of the prior for None, as plain values for JSON.

    Returns ``valid_samples``, a list with the share of samples that are hearts as they were drawn
    and after each pass (mean, low, high, n); ``nats_gained``, the mean of log p_density(z) -
    log p(z) over held-out slices, z drawn from their posteriors (mean, low, high, n over patients):
    how much their bound rises, None for the prior; and ``frechet`` and ``coverage``, those of
    ``score_generation``, of the samples after the last pass.
    """
    samples = _drawn(model, density, train, config)
    shares = [_valid(samples, train)]
    for number in range(config.num_passes):
        samples = seen_again(model, samples, config.batch_size, config.seed + number)
        shares.append(_valid(samples, train))
    return {
        "valid_samples": shares,
        "nats_gained": None if density is None else _gain(model, density, held_out, config),
        **score_likeness(samples, held_out, train, GenerationConfig(seed=config.seed)),
    }


def _drawn(
    model: ShapeModel,
    density: CodeDensity | None,
    train: HeldOutSlices,
    config: DensityScoresConfig,
) -> np.ndarray:
    told = train.condition_for(model)
    if density is not None:
        return sample_from_density(
            model, density, config.num_samples, config.batch_size, told, config.seed
        )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return sample_slices(model, config.num_samples, 1.0, config.batch_size, told)


def _valid(samples: np.ndarray, train: HeldOutSlices) -> dict[str, Any]:
    """Return the share of samples that show a heart and break no criterion, with its interval."""
    hearts = int(plausible(samples, train.pixel_mm).sum())
    return asdict(share_interval(hearts, len(samples)))


def _gain(
    model: ShapeModel, density: CodeDensity, held_out: HeldOutSlices, config: DensityScoresConfig
) -> dict[str, Any] | None:
    slices = held_out.without_empty()
    masks, told = torch.from_numpy(slices.masks), slices.condition_for(model)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        noise = encoded_noise(model, masks, 1.0, density.num_groups, config.batch_size, told)
    return interval(density.log_ratio(noise).numpy(), slices.patient_ids, config.seed)
