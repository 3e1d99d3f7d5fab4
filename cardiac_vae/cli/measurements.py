"""What a mask measures, and between which values the truth is thought to lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cardiac_vae.anatomy.measurements import MYOCARDIUM_G_PER_ML, volume_ml
from cardiac_vae.cli.console import say
from cardiac_vae.data.case import Spacing
from cardiac_vae.labels import Structure
from cardiac_vae.refinement.calibration import UNCERTAINTY, Calibration
from cardiac_vae.refinement.uncertainty import Interval

MEASUREMENTS = {
    "rv_ml": (Structure.RV, 1.0),
    "lv_ml": (Structure.LV, 1.0),
    "myo_ml": (Structure.MYO, 1.0),
    "mass_g": (Structure.MYO, MYOCARDIUM_G_PER_ML),
}
"""What is measured of a volume: a structure, and the unit's factor to its milliliters."""


@dataclass(frozen=True)
class Measurement:
    """A volume in ml, a mass in g or an ejection fraction in %.

    Attributes:
        value: Of the mask.
        intervals: Credible intervals of the true value, by their level in percent.
    """

    value: float
    intervals: dict[str, Interval] = field(default_factory=dict)

    def to_row(self, name: str) -> dict[str, float]:
        """Return the value, and low and high of each interval, flat with names for CSV."""
        row = {name: round(self.value, 2)}
        for level, ends in self.intervals.items():
            columns = interval_columns(name, level)
            row |= {column: round(end, 2) for column, end in zip(columns, ends, strict=True)}
        return row


def in_percent(level: float) -> str:
    """Return the level of an interval as reports name it."""
    return f"{100 * level:.0f}"


def interval_columns(name: str, level: str) -> tuple[str, str]:
    """Return the names of the columns for the ends of a measurement's interval."""
    return f"{name}_{level}_low", f"{name}_{level}_high"


def measure(
    mask: np.ndarray,
    spacing_mm: Spacing,
    intervals_ml: Mapping[Structure, Mapping[float, Interval]],
) -> dict[str, Measurement]:
    """Return ``MEASUREMENTS`` of a mask (D, H, W), with their intervals."""
    measured = {}
    for name, (structure, unit) in MEASUREMENTS.items():
        intervals = {
            in_percent(level): (unit * low, unit * high)
            for level, (low, high) in intervals_ml.get(structure, {}).items()
        }
        value = unit * volume_ml(mask, structure, spacing_mm)
        measured[name] = Measurement(value, intervals)
    return measured


def warn_without_intervals(folder: Path, calibration: Calibration) -> None:
    """Say so if a calibration, read from a folder, does not know how errors go together."""
    if calibration.errors is None:
        say(
            f"warning: {folder}: no {UNCERTAINTY} in it, so volumes get no intervals; "
            "run the stage calibrate again"
        )
