"""Whether a model's codes are those the phantom was made by: its true factors are on file.

Slices that show all three structures, of all splits: what is asked is how the codes are laid out
and not whether they generalize, and every factor (``data.phantom_factors.FACTORS``) is to be seen.
All slices and not one per heart, with the slice's position as a factor of its own: it is what
varies most between slices, and a code that mixes it with anything else should be told so.

Codes are the posterior means of the active scalars (``ACTIVE_VARIANCE``); of a hierarchy, which has
thousands, those that vary most.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import Field, PositiveInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.phantom_factors import FACTORS
from cardiac_vae.evaluation.decoding import encode_slices
from cardiac_vae.evaluation.reconstruction import ACTIVE_VARIANCE, HeldOutSlices
from cardiac_vae.labels import HEART
from cardiac_vae.metrics.disentanglement import (
    dci,
    mutual_information_gap,
    separated_attribute_predictability,
    total_correlation,
)
from cardiac_vae.shape_model import ShapeModel


class DisentanglementConfig(StrictConfig):
    """How many slices and codes to look at, and how finely.

    Attributes:
        num_slices: Slices drawn at random; all if there are not so many.
        max_codes: Most latent scalars that are compared with the factors.
        num_bins: Bins of codes and of factors for MIG.
    """

    num_slices: PositiveInt = 600
    max_codes: int = Field(default=32, ge=2)
    num_bins: int = Field(default=10, ge=2)
    batch_size: PositiveInt = 64
    seed: int = 0


def score_disentanglement(
    model: ShapeModel,
    slices: HeldOutSlices,
    factors: np.ndarray,
    config: DisentanglementConfig | None = None,
) -> dict[str, Any]:
    """Compare a model's codes of phantom slices with their factors (N, F), as values for JSON.

    Returns ``num_slices``, ``num_patients``, ``num_codes``, ``num_bins`` and, where at least two
    codes are active, ``mig``, ``sap`` (means over the factors, and by factor in ``mig_by_factor``
    and ``sap_by_factor``), ``dci`` (``disentanglement``, ``completeness``, ``informativeness``)
    and ``total_correlation`` in nats; None where it is infinite.

    Raises:
        ValueError: if there is not one row of factors per slice, or no slice shows all structures.
    """
    config = config or DisentanglementConfig()
    if factors.shape != (len(slices.masks), len(FACTORS)):
        raise ValueError(
            f"factors: expected ({len(slices.masks)}, {len(FACTORS)}), got {factors.shape}"
        )
    rng = np.random.default_rng(config.seed)
    chosen = _whole_hearts(slices.masks, config.num_slices, rng)
    patients = [slices.patient_ids[index] for index in chosen]
    encoded = encode_slices(model, slices.masks[chosen], config.batch_size)
    codes, truth = _most_active(encoded.codes, config.max_codes), factors[chosen]
    scores: dict[str, Any] = {
        "num_slices": len(chosen),
        "num_patients": len(set(patients)),
        "num_codes": codes.shape[1],
        "num_bins": config.num_bins,
    }
    if codes.shape[1] < 2:
        return scores
    gaps = {
        "mig": mutual_information_gap(codes, truth, config.num_bins),
        "sap": separated_attribute_predictability(codes, truth),
    }
    for name, values in gaps.items():
        scores[name] = float(values.mean())
        scores[f"{name}_by_factor"] = dict(zip(FACTORS, values.tolist(), strict=True))
    correlation = total_correlation(codes)
    return {
        **scores,
        "dci": asdict(dci(codes, truth, patients, rng)),
        "total_correlation": correlation if np.isfinite(correlation) else None,
    }


def _whole_hearts(masks: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of slices that show all structures, at most ``number``, in order."""
    is_whole = np.all([(masks == structure).any(axis=(1, 2)) for structure in HEART], axis=0)
    whole = np.flatnonzero(is_whole)
    if not len(whole):
        raise ValueError(f"expected slices that show all structures, got none of {len(masks)}")
    return np.sort(rng.permutation(whole)[:number])


def _most_active(codes: np.ndarray, number: int) -> np.ndarray:
    """Return the active columns of codes (N, Z), at most ``number``, those that vary most."""
    variances = codes.var(axis=0)
    ranked = np.argsort(-variances, kind="stable")[:number]
    return codes[:, np.sort(ranked[variances[ranked] > ACTIVE_VARIANCE])]
