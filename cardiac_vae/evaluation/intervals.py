"""Means with per-patient intervals as plain values, fit for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cardiac_vae.metrics.summary import bootstrap_mean


def interval(values: np.ndarray, patients: Sequence[str], seed: int) -> dict[str, Any] | None:
    """Return mean, low, high and n of the values (N,) that are known; None if none is.

    ``patients`` names the patient of each value; the interval draws patients.
    """
    known = ~np.isnan(values)
    if not known.any():
        return None
    owners = np.asarray(patients)[known].tolist()
    return as_json(asdict(bootstrap_mean(values[known], owners, seed)))


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain numbers; one that is not finite, which JSON cannot hold, becomes None."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        number = value.item() if isinstance(value, np.generic) else value
        is_lost = isinstance(number, float) and not np.isfinite(number)
        plain[name] = None if is_lost else number
    return plain
