"""What a refined mask measures, and between which values the truth is thought to lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cardiac_vae.anatomy.measurements import MYOCARDIUM_G_PER_ML, volume_ml
from cardiac_vae.data.case import Spacing
from cardiac_vae.labels import Structure
from cardiac_vae.refinement.uncertainty import Interval

_NAMES = {Structure.RV: "rv_ml", Structure.LV: "lv_ml", Structure.MYO: "mass_g"}


@dataclass(frozen=True)
class Measurement:
    """A volume in ml or a mass in g.

    Attributes:
        value: Of the mask as refined.
        intervals: Credible intervals of the true value, by their level in percent.
    """

    value: float
    intervals: dict[str, Interval] = field(default_factory=dict)

    def to_row(self, name: str) -> dict[str, float]:
        """Return the value, and low and high of each interval, flat with names for CSV."""
        row = {name: round(self.value, 2)}
        for level, (low, high) in self.intervals.items():
            row |= {f"{name}_{level}_low": round(low, 2), f"{name}_{level}_high": round(high, 2)}
        return row


def measure(
    mask: np.ndarray,
    spacing_mm: Spacing,
    intervals_ml: Mapping[Structure, Mapping[float, Interval]],
) -> dict[str, Measurement]:
    """Return ``rv_ml``, ``lv_ml`` and ``mass_g`` of a mask (D, H, W), with their intervals."""
    measured = {}
    for structure, name in _NAMES.items():
        unit = MYOCARDIUM_G_PER_ML if structure == Structure.MYO else 1.0
        intervals = {
            f"{100 * level:.0f}": (unit * low, unit * high)
            for level, (low, high) in intervals_ml.get(structure, {}).items()
        }
        value = unit * volume_ml(mask, structure, spacing_mm)
        measured[name] = Measurement(value, intervals)
    return measured
