"""Means with per-patient intervals as plain values, fit for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cardiac_vae.metrics.summary import Interval, bootstrap_mean, paired_difference, relative_change


def interval(values: np.ndarray, patients: Sequence[str], seed: int) -> dict[str, Any] | None:
    """Return mean, low, high and n of the values (N,) that are known; None if none is.

    ``patients`` names the patient of each value; the interval draws patients, and of a single one
    there is none: low and high are None.
    """
    known = ~np.isnan(values)
    if not known.any():
        return None
    owners = np.asarray(patients)[known].tolist()
    return _plain(bootstrap_mean(values[known], owners, seed), owners)


def difference(
    after: np.ndarray, before: np.ndarray, patients: Sequence[str], seed: int
) -> dict[str, Any] | None:
    """Return the same of after minus before, value by value; both are NaN in the same places."""
    known = ~np.isnan(after)
    if not known.any():
        return None
    owners = np.asarray(patients)[known].tolist()
    return _plain(paired_difference(after[known], before[known], owners, seed), owners)


def relative_difference(
    after: np.ndarray, before: np.ndarray, patients: Sequence[str], seed: int
) -> dict[str, Any] | None:
    """Return the same of mean(after) / mean(before) - 1; None if nothing but 0 was before."""
    known = ~np.isnan(after)
    if not np.nan_to_num(before).any():
        return None
    owners = np.asarray(patients)[known].tolist()
    return _plain(relative_change(after[known], before[known], owners, seed), owners)


def _plain(found: Interval, owners: Sequence[str]) -> dict[str, Any]:
    values = as_json(asdict(found))
    return values if len(set(owners)) > 1 else values | {"low": None, "high": None}


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain numbers; one that is not finite, which JSON cannot hold, becomes None."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        number = value.item() if isinstance(value, np.generic) else value
        is_lost = isinstance(number, float) and not np.isfinite(number)
        plain[name] = None if is_lost else number
    return plain
