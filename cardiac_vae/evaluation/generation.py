"""Whether a shape model's hearts are like real ones, each figure beside what real masks score.

Generalization, specificity and compactness are those of Davies (Styner et al. 2003), distances
between masks in mm (``metrics.slice_distance``): how far unseen hearts are from what the model
makes of them, how far what it draws is from the nearest heart it learnt from, and how many modes
its hearts vary in. Frechet distance, coverage and density compare sets of hearts in the lengths of
``anatomy.shape_features``, in units of their standard deviation over the training slices: there is
no pretrained network whose features would suit masks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt

from cardiac_vae.anatomy.shape_features import shape_features
from cardiac_vae.config import StrictConfig
from cardiac_vae.evaluation.decoding import encode_slices, sample_slices
from cardiac_vae.evaluation.intervals import interval
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.labels import HEART
from cardiac_vae.metrics.generative import (
    compactness,
    coverage,
    density,
    frechet_beside_floor,
    num_modes,
    signed_distance_maps,
)
from cardiac_vae.metrics.slice_distance import pairwise_slice_distances, slice_distance
from cardiac_vae.shape_model import ShapeModel

_MODE_SHARE = 0.9


class GenerationConfig(StrictConfig):
    """How much to draw, and how sets are compared.

    Attributes:
        num_neighbors: k of coverage and density; the authors take 5.
        num_splits: How often the training patients are dealt into halves.
    """

    num_samples: PositiveInt = 256
    temperature: PositiveFloat = 1.0
    num_neighbors: PositiveInt = 5
    num_splits: PositiveInt = 20
    batch_size: PositiveInt = 64
    seed: int = 0


def score_generation(
    model: ShapeModel,
    held_out: HeldOutSlices,
    train: HeldOutSlices,
    config: GenerationConfig | None = None,
) -> dict[str, Any]:
    """Score the hearts of a model in evaluation mode, as plain values for JSON.

    ``train`` are the slices it was fitted to. Returns the settings, the numbers of slices, and
    ``metrics``: name -> mean, low, high, n. Intervals draw patients where each value has one, else
    samples. Always there are

    - ``generalization_mm``: distance of held-out slices to their reconstruction; beside it
      ``generalization_median_mm`` and ``num_mismatched``, the slices whose reconstruction has a
      structure too many or too few, which the mean charges with the diagonal of the slice;

    and for a model with a prior

    - ``specificity_mm``: distance of a sample to the nearest training slice, of all of them;
    - ``coverage`` of held-out slices by samples, and ``density`` of the samples among them;
    - ``frechet``: of samples and half of the training patients, in squared standard deviations;
      low and high are where 95 % of the halves lie;
    - the same four of real masks, ``real_*``: held-out slices for ``specificity_mm``, as many
      training slices as samples for the others, for ``frechet`` of the other half of the patients;
    - ``modes`` and ``real_modes``: principal modes of signed distance maps that hold 90 % of the
      variance, of samples and of as many training slices; ``variance_mm2`` and
      ``real_variance_mm2``: that variance as a whole, mean over the maps' pixels.

    Random numbers are drawn from ``config.seed``; the caller's generator is left as it was.
    """
    config = config or GenerationConfig()
    held_out, train = held_out.without_empty(), train.without_empty()
    scores = {
        "num_held_out_slices": len(held_out.masks),
        "num_train_slices": len(train.masks),
        **_generalization(model, held_out, config),
    }
    if not model.has_prior:
        return scores
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        samples = sample_slices(model, config.num_samples, config.temperature, config.batch_size)
    rng = np.random.default_rng(config.seed)
    chosen = rng.permutation(len(train.masks))[: len(samples)]
    sets = _Sets(samples, held_out, train, chosen)
    return {
        **scores,
        "num_samples": config.num_samples,
        "temperature": config.temperature,
        "num_neighbors": config.num_neighbors,
        "num_splits": config.num_splits,
        **_variation(sets),
        "metrics": scores["metrics"] | _specificity(sets, config) | _likeness(sets, config, rng),
    }


def score_likeness(
    samples: np.ndarray,
    held_out: HeldOutSlices,
    train: HeldOutSlices,
    config: GenerationConfig | None = None,
) -> dict[str, Any]:
    """Return ``coverage``, ``density`` and ``frechet`` of label maps (S, H, W) drawn in any way.

    The same of real masks is beside them, and all are as ``score_generation`` has them.
    """
    config = config or GenerationConfig()
    rng = np.random.default_rng(config.seed)
    train = train.without_empty()
    chosen = rng.permutation(len(train.masks))[: len(samples)]
    sets = _Sets(samples, held_out.without_empty(), train, chosen)
    return _likeness(sets, config, rng)


@dataclass(frozen=True)
class _Sets:
    """The hearts that are compared.

    Attributes:
        samples: (S, H, W) of the model.
        chosen: (S,) which training slices stand beside them, fewer if there are not so many.
    """

    samples: np.ndarray
    held_out: HeldOutSlices
    train: HeldOutSlices
    chosen: np.ndarray


def _generalization(
    model: ShapeModel, held_out: HeldOutSlices, config: GenerationConfig
) -> dict[str, Any]:
    decoded = encode_slices(model, held_out.masks, config.batch_size).decoded
    pairs = list(zip(held_out.masks, decoded, strict=True))
    distances = np.array([slice_distance(*pair, held_out.pixel_mm) for pair in pairs])
    mismatched = [
        any((a == structure).any() != (b == structure).any() for structure in HEART)
        for a, b in pairs
    ]
    return {
        "metrics": {"generalization_mm": interval(distances, held_out.patient_ids, config.seed)},
        "generalization_median_mm": float(np.median(distances)),
        "num_mismatched": sum(mismatched),
    }


def _specificity(sets: _Sets, config: GenerationConfig) -> dict[str, Any]:
    hearts = np.concatenate([sets.samples, sets.held_out.masks])
    pixel_mm = sets.train.pixel_mm
    nearest = pairwise_slice_distances(hearts, sets.train.masks, pixel_mm).min(axis=1)
    sampled, real = np.split(nearest, [len(sets.samples)])
    return {
        "specificity_mm": _over_samples(sampled, config),
        "real_specificity_mm": interval(real, sets.held_out.patient_ids, config.seed),
    }


def _likeness(sets: _Sets, config: GenerationConfig, rng: np.random.Generator) -> dict[str, Any]:
    """Return coverage, density and Frechet distance of samples, and of training slices."""
    train, held_out, sampled = (
        shape_features(masks, sets.train.pixel_mm)
        for masks in (sets.train.masks, sets.held_out.masks, sets.samples)
    )
    spread = train.std(axis=0)
    unit = np.where(spread > 0, spread, 1.0)
    train, held_out, sampled = train / unit, held_out / unit, sampled / unit
    found: dict[str, Any] = {}
    for prefix, rows in (("", sampled), ("real_", train[sets.chosen])):
        covered = coverage(held_out, rows, config.num_neighbors).astype(float)
        owners = sets.held_out.patient_ids
        found[f"{prefix}coverage"] = interval(covered, owners, config.seed)
        crowded = density(held_out, rows, config.num_neighbors)
        found[f"{prefix}density"] = _over_samples(crowded, config)
    distances = frechet_beside_floor(sampled, train, sets.train.patient_ids, config.num_splits, rng)
    for name, values in zip(("frechet", "real_frechet"), distances, strict=True):
        low, high = np.percentile(values, [2.5, 97.5]).tolist()
        found[name] = {"mean": float(values.mean()), "low": low, "high": high, "n": len(values)}
    return found


def _variation(sets: _Sets) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for prefix, masks in (("", sets.samples), ("real_", sets.train.masks[sets.chosen])):
        maps = signed_distance_maps(masks, sets.train.pixel_mm)
        variances = compactness(maps)
        found[f"{prefix}modes"] = num_modes(variances, _MODE_SHARE)
        found[f"{prefix}variance_mm2"] = float(variances[-1] / maps.shape[1])
    return found


def _over_samples(values: np.ndarray, config: GenerationConfig) -> dict[str, Any] | None:
    """Return mean and interval of one value per sample, which no patient owns."""
    return interval(values, [str(index) for index in range(len(values))], config.seed)
