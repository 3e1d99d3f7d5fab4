"""What a density over codes is worth: hearts drawn from it, and nats on hearts not seen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt

from cardiac_vae.anchors import plausible
from cardiac_vae.config import StrictConfig
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.file import save_density
from cardiac_vae.densities.fit import DensityConfig, Kind, encoded_noise, fit_code_density
from cardiac_vae.densities.rejection import Accepted, reject
from cardiac_vae.densities.surprise import has_bound
from cardiac_vae.densities.surprise_scale import SurpriseConfig, SurpriseScale
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
        max_tries: Draws until a sample is a heart, at most, where samples are drawn by rejection as
            well; 1 leaves that out.
        max_slices: Training hearts that densities are fitted to, drawn at random if there are more.
        surprise: How finely it is measured which hearts surprise, beside the density that is kept.
    """

    density: DensityConfig = DensityConfig()
    controls: tuple[Kind, ...] = ("gaussian", "kernels", "vampprior")
    num_samples: PositiveInt = 256
    num_passes: NonNegativeInt = 3
    max_tries: PositiveInt = 1
    max_slices: PositiveInt = 5000
    surprise: SurpriseConfig = SurpriseConfig()
    batch_size: PositiveInt = 64
    seed: int = 0


@dataclass(frozen=True)
class FittedDensities:
    """What was fitted to the codes of a model.

    Attributes:
        kept: The density that is kept; None if the model's latents are no normals.
        scale: The surprise of hearts under it; None without a density, or without a bound.
        summary: The scores of all densities as plain values for JSON: ``densities`` maps
            ``prior`` and every kind to ``score_density``, where the model has it.
    """

    kept: CodeDensity | None
    scale: SurpriseScale | None
    summary: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write what is kept; without a density the folder stays empty."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.scale is not None:
            self.scale.save(folder)
        elif self.kept is not None:
            save_density(folder, self.kept)


def fit_and_score_densities(
    model: ShapeModel, prepared: Path, split: str, config: DensityScoresConfig
) -> FittedDensities:
    """Fit a density and its controls to the training hearts; score each on the slices of a split.

    How much training hearts surprise is measured for the density that is kept.
    """
    train = held_out_slices(read_prepared(prepared, "train"))
    held_out = held_out_slices(read_prepared(prepared, split))
    hearts = train.of(_hearts(train, config))
    masks, told = torch.from_numpy(hearts.masks), hearts.condition_for(model)
    scores: dict[str, Any] = {}
    if model.has_prior:
        scores[PRIOR] = score_density(model, None, held_out, train, config)
    kept: CodeDensity | None = None
    kinds: Sequence[Kind] = (config.density.kind, *config.controls) if model.has_noise else ()
    for kind in dict.fromkeys(kinds):
        settings = config.density.model_copy(update={"kind": kind})
        density = fit_code_density(model, masks, settings, told)
        scores[kind] = score_density(model, density, held_out, train, config)
        kept = kept or density
    scale = None
    if kept is not None and has_bound(model, masks[:1]):
        scale = SurpriseScale.of(model, kept, masks, config.surprise)
    summary = {
        "kept": None if kept is None else config.density.kind,
        "num_hearts": len(hearts.masks),
        "num_dimensions": None if kept is None else kept.directions.shape[1],
        "densities": scores,
    }
    return FittedDensities(kept, scale, summary)


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
    ``score_generation``, of the samples after the last pass. With ``max_tries`` above 1 there is
    ``rejection`` as well: what drawing anew until there is a heart comes to instead.
    """
    samples = drawn = _drawn(model, density, train, config)
    shares = [_valid(samples, train)]
    for number in range(config.num_passes):
        samples = seen_again(model, samples, config.batch_size, config.seed + number)
        shares.append(_valid(samples, train))
    scores = {
        "valid_samples": shares,
        "nats_gained": None if density is None else _gain(model, density, held_out, config),
        **score_likeness(samples, held_out, train, GenerationConfig(seed=config.seed)),
    }
    if config.max_tries > 1:

        def draw(number: int, attempt: int) -> np.ndarray:
            again = {"num_samples": number, "seed": config.seed + attempt}
            return _drawn(model, density, train, config.model_copy(update=again))

        are_hearts = partial(plausible, pixel_mm=train.pixel_mm)
        accepted = reject(drawn, draw, are_hearts, config.max_tries)
        scores["rejection"] = _of_rejection(accepted) | score_likeness(
            accepted.masks, held_out, train, GenerationConfig(seed=config.seed)
        )
    return scores


def _of_rejection(accepted: Accepted) -> dict[str, Any]:
    """Return how much rejection took, as plain values for JSON.

    They are ``valid_samples``, the share of hearts in the end, and ``acceptance``, their share of
    all draws (mean, low, high, n each), and ``tries_per_heart``, None without a heart.
    """
    hearts, draws = int(accepted.is_heart.sum()), int(accepted.num_tries.sum())
    return {
        "valid_samples": asdict(share_interval(hearts, len(accepted.masks))),
        "acceptance": asdict(share_interval(hearts, draws)),
        "tries_per_heart": accepted.tries_per_heart if hearts else None,
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
