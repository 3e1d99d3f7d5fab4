"""What a shape model knows of hearts it has not seen: fidelity, bound, latents, samples.

Scored on held-out prepared slices, the empty ones left out: their bound is close to nothing and
would flatter the mean. A latent scalar is *active* if its posterior mean moves over the data,
Var_x(E_q[z | x]) > 0.01 (Burda, Grosse & Salakhutdinov 2016, sec. 5.2).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.config import StrictConfig
from cardiac_vae.data.conditions import Condition, encode_conditions, slice_conditions
from cardiac_vae.data.prepared import PreparedCase
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.evaluation.decoding import sample_slices
from cardiac_vae.evaluation.intervals import interval
from cardiac_vae.labels import HEART
from cardiac_vae.metrics.overlap import dice
from cardiac_vae.metrics.summary import share_interval
from cardiac_vae.shape_model import ShapeModel

ACTIVE_VARIANCE = 0.01


class ReconstructionConfig(StrictConfig):
    """How much to draw; the published comparisons use temperatures 1 and 0.6."""

    num_samples: PositiveInt = 256
    temperatures: tuple[PositiveFloat, ...] = (1.0, 0.6)
    bound_draws: PositiveInt = 1
    batch_size: PositiveInt = 64
    seed: int = 0


@dataclass(frozen=True)
class HeldOutSlices:
    """Prepared slices that the model was not fitted to.

    Attributes:
        masks: (N, H, W) uint8, values of ``Structure``.
        case_ids: The volume of each slice, in stack order within a volume.
        patient_ids: The patient of each slice.
        pixel_mm: Pixel size along (row, column).
        conditions: What is known of each slice; none at all says that nothing is.
    """

    masks: np.ndarray
    case_ids: Sequence[str]
    patient_ids: Sequence[str]
    pixel_mm: tuple[float, float]
    conditions: Sequence[Condition] = ()

    def __post_init__(self) -> None:
        lengths = (len(self.masks), len(self.case_ids), len(self.patient_ids))
        if self.masks.ndim != 3 or len(set(lengths)) != 1:
            raise ValueError(
                "expected masks (N, H, W) with N case and patient ids, got masks "
                f"{self.masks.shape}, {lengths[1]} cases and {lengths[2]} patients"
            )
        if len(self.conditions) not in (0, len(self.masks)):
            raise ValueError(
                f"expected a condition for each of {len(self.masks)} slices or none at all, got "
                f"{len(self.conditions)}"
            )
        if not self.masks.any():
            raise ValueError(
                f"expected at least one slice with a heart, got {len(self.masks)} empty ones; "
                "is this the right split?"
            )

    def of(self, indices: np.ndarray) -> "HeldOutSlices":
        """Return some of the slices."""
        kept = indices.tolist()
        return HeldOutSlices(
            masks=self.masks[kept],
            case_ids=[self.case_ids[index] for index in kept],
            patient_ids=[self.patient_ids[index] for index in kept],
            pixel_mm=self.pixel_mm,
            conditions=[self.conditions[index] for index in kept] if self.conditions else (),
        )

    def without_empty(self) -> "HeldOutSlices":
        """Return the slices that hold something."""
        return self.of(np.flatnonzero(self.masks.any(axis=(1, 2))))

    def condition_for(self, model: ShapeModel) -> Tensor | None:
        """Return the conditions (N, K) as a model reads them; None if it does not look at them."""
        groups = model.condition_groups
        if groups is None or not self.conditions:
            return None
        known = [condition.within(groups) for condition in self.conditions]
        return encode_conditions(known, groups).to(next(model.parameters()).device)


def held_out_slices(cases: Sequence[PreparedCase]) -> HeldOutSlices:
    """Read the prepared slices of some cases, volume by volume.

    Raises:
        ValueError: if there is no case, or none has a heart.
    """
    if not cases:
        raise ValueError("expected prepared cases to score, got none; enlarge their split")
    masks = [case.load().mask for case in cases]
    lengths = [len(mask) for mask in masks]
    return HeldOutSlices(
        masks=np.concatenate(masks),
        case_ids=np.repeat([case.case_id for case in cases], lengths).tolist(),
        patient_ids=np.repeat([case.patient_id for case in cases], lengths).tolist(),
        pixel_mm=cases[0].grid.pixel_mm,
        conditions=[
            condition
            for case, mask in zip(cases, masks, strict=True)
            for condition in slice_conditions(case.group, case.phase, mask)
        ],
    )


@torch.no_grad()
def score_reconstruction(
    model: ShapeModel, slices: HeldOutSlices, config: ReconstructionConfig | None = None
) -> dict[str, Any]:
    """Score a shape model in evaluation mode on held-out slices, as plain values for JSON.

    Returns ``num_slices``, ``num_volumes``, ``num_patients``, ``num_empty_slices`` (left out), and

    - ``metrics``: name -> mean, low, high, n, the interval drawing patients; ``dice_*`` per slice
      and ``volume_dice_*`` per volume of rv, myo, lv and their mean; ``valid_reconstructions`` and
      ``valid_references``, shares, where an empty mask is not valid; ``reconstruction`` and, of
      models with a bound, ``negative_elbo`` and ``rate`` (the KL) in nats per slice; of models
      with a prior ``valid_samples_at_1`` and so on for each temperature, the share in ``samples``
      with an interval over samples;
    - ``kl_per_group``: the same, one per latent group, top first; none without a bound;
    - ``latent_scalars``, ``latent_sizes`` and of these ``active_units``, ``active_per_group``;
    - ``samples``: per temperature ``temperature``, ``num_samples``, ``valid_share``; none of a
      model without a prior.

    A model that looks at conditions is told those of the slices, and its bound is then one of
    log p(x | c). What it draws by itself has the conditions of slices drawn from the same ones, so
    that its samples are the mix of groups, phases and positions that other priors have to learn.

    Random numbers are drawn from ``config.seed``; the caller's generator is left as it was.
    """
    config = config or ReconstructionConfig()
    drawn = slices.without_empty()
    condition = drawn.condition_for(model)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        predicted, means, costs, kl = _run(model, drawn.masks, condition, config)
        samples = [
            _score_samples(model, temperature, condition, slices.pixel_mm, config)
            for temperature in (config.temperatures if model.has_prior else ())
        ]
    rate = kl.sum(axis=1)
    values = {
        **({"negative_elbo": costs + rate, "rate": rate} if kl.shape[1] else {}),
        "reconstruction": costs,
        "valid_reconstructions": _validity(predicted, slices.pixel_mm),
        "valid_references": _validity(drawn.masks, slices.pixel_mm),
        **_slice_dice(drawn.masks, predicted),
    }
    metrics = {
        name: interval(column, drawn.patient_ids, config.seed) for name, column in values.items()
    }
    active = [(group.var(axis=0) > ACTIVE_VARIANCE).sum() for group in means]
    return {
        "num_slices": len(drawn.masks),
        "num_volumes": len(set(drawn.case_ids)),
        "num_patients": len(set(drawn.patient_ids)),
        "num_empty_slices": len(slices.masks) - len(drawn.masks),
        "metrics": metrics
        | _volume_dice(drawn, predicted, config.seed)
        | {
            f"valid_samples_at_{found['temperature']:g}": _valid_samples(found) for found in samples
        },
        "kl_per_group": [interval(column, drawn.patient_ids, config.seed) for column in kl.T],
        "latent_scalars": model.num_latents,
        "latent_sizes": list(model.latent_sizes),
        "active_units": int(sum(active)),
        "active_per_group": [int(number) for number in active],
        "samples": samples,
    }


def is_valid_heart(mask: np.ndarray, pixel_mm: tuple[float, float]) -> bool:
    """Return whether a slice (H, W) breaks no criterion and is not empty, which breaks none."""
    return bool(mask.any()) and is_valid(mask, pixel_mm)


def _run(
    model: ShapeModel, masks: np.ndarray, condition: Tensor | None, config: ReconstructionConfig
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]:
    """Return decoded masks (N, H, W), group means (N, Z), -log p(x|z) (N,) and KL (N, G)."""
    predicted, means, costs, kl = [], [], [], []
    for start, batch in _one_hot_batches(model, masks, config.batch_size):
        known = None if condition is None else condition[start : start + len(batch)]
        latents = model.encode(batch, condition=known)
        decoded = model.decode(latents, condition=known)
        predicted.append(decoded.argmax(dim=1).cpu().numpy().astype(np.uint8))
        means.append([_array(group.flatten(start_dim=1)) for group in latents])
        terms = [model(batch, condition=known)[1] for _ in range(config.bound_draws)]
        costs.append(np.mean([_array(draw.reconstruction) for draw in terms], axis=0))
        kl.append(np.mean([_array(draw.regularization) for draw in terms], axis=0))
    groups = [np.concatenate(parts) for parts in zip(*means, strict=True)]
    return np.concatenate(predicted), groups, np.concatenate(costs), np.concatenate(kl)


def _one_hot_batches(
    model: ShapeModel, masks: np.ndarray, size: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield where a batch starts, and its one-hot masks (B, C, H, W)."""
    device = next(model.parameters()).device
    for start in range(0, len(masks), size):
        batch = torch.from_numpy(masks[start : start + size]).to(device)
        yield start, one_hot(batch)


def _array(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def _score_samples(
    model: ShapeModel,
    temperature: float,
    condition: Tensor | None,
    pixel_mm: tuple[float, float],
    config: ReconstructionConfig,
) -> dict[str, Any]:
    masks = sample_slices(model, config.num_samples, temperature, config.batch_size, condition)
    verdicts = _validity(masks, pixel_mm)
    return {
        "temperature": temperature,
        "num_samples": len(verdicts),
        "valid_share": float(np.mean(verdicts)),
    }


def _valid_samples(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of valid samples of one temperature as a metric, which no patient owns."""
    total = found["num_samples"]
    return asdict(share_interval(round(found["valid_share"] * total), total))


def _validity(masks: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    return np.array([float(is_valid_heart(mask, pixel_mm)) for mask in masks])


def _slice_dice(reference: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Return Dice (N,) per structure and their mean; NaN where neither mask has the structure."""
    columns = {
        f"dice_{structure.name.lower()}": np.array(
            [
                dice(expected[None] == structure, found[None] == structure)
                for expected, found in zip(reference, predicted, strict=True)
            ]
        )
        for structure in HEART
    }
    stacked = np.stack(list(columns.values()))
    known = ~np.isnan(stacked)
    mean = np.where(known, stacked, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return columns | {"dice_mean": np.where(known.any(axis=0), mean, np.nan)}


def _volume_dice(slices: HeldOutSlices, predicted: np.ndarray, seed: int) -> dict[str, Any]:
    cases = np.asarray(slices.case_ids)
    names, first = np.unique(cases, return_index=True)
    volumes = [np.flatnonzero(cases == name) for name in names]
    owners = [slices.patient_ids[index] for index in first]
    columns = {
        structure.name.lower(): np.array(
            [dice(slices.masks[v] == structure, predicted[v] == structure) for v in volumes]
        )
        for structure in HEART
    }
    stacked = np.stack(list(columns.values()))
    columns["mean"] = np.array([np.mean(column[~np.isnan(column)]) for column in stacked.T])
    return {
        f"volume_dice_{name}": interval(column, owners, seed) for name, column in columns.items()
    }
