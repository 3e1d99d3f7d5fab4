"""The volumes of one heart: which is end-diastole, which end-systole, and what the two measure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cardiac_vae.anatomy.measurements import ejection_fraction
from cardiac_vae.cli.measurements import Measurement, in_percent
from cardiac_vae.cli.phases import end_diastole_and_systole
from cardiac_vae.data.heart_names import HeartName
from cardiac_vae.labels import Phase, Structure
from cardiac_vae.refinement.uncertainty import (
    LEVELS,
    ErrorModel,
    LevelSets,
    ejection_fraction_interval,
)

HEART_MEASUREMENTS = (
    "lv_edv_ml",
    "lv_esv_ml",
    "lv_sv_ml",
    "lv_ef_percent",
    "rv_edv_ml",
    "rv_esv_ml",
    "rv_sv_ml",
    "rv_ef_percent",
    "mass_g",
)
"""What is measured of a heart; the mass is the end-diastolic one."""


@dataclass(frozen=True, eq=False)
class MeasuredVolume:
    """One volume: a 3-D file, or a frame of a cine.

    Attributes:
        source: Its file.
        frame: Position along time, from 0.
        is_cine: Whether its file has more frames.
        num_slices: Number of slices.
        num_plausible: Slices that break no anatomical criterion.
        measurements: Volumes and mass, ``cli.measurements.MEASUREMENTS``.
        levels: What the segmenter's belief says of the volumes, where it is known.
    """

    source: Path
    frame: int
    is_cine: bool
    num_slices: int
    num_plausible: int
    measurements: dict[str, Measurement]
    levels: LevelSets | None = field(default=None, repr=False)

    @property
    def instant(self) -> str:
        """The frame of a cine, or the instant as the file's name has it."""
        return f"frame {self.frame}" if self.is_cine else HeartName.parse(self.source).instant

    @property
    def is_empty(self) -> bool:
        """Whether nothing is drawn."""
        return not any(measured.value for measured in self.measurements.values())


@dataclass(frozen=True, eq=False)
class MeasuredHeart:
    """A heart at end-diastole and at end-systole.

    Attributes:
        path: Its name, in the folder of its files.
        volumes: All that is known of it.
        ed: The volume at end-diastole.
        es: The volume at end-systole.
        measurements: Those of ``HEART_MEASUREMENTS`` that are known: stroke volume and ejection
            fraction take a ventricle that is drawn at both instants.
    """

    path: Path
    volumes: Sequence[MeasuredVolume]
    ed: MeasuredVolume
    es: MeasuredVolume
    measurements: dict[str, Measurement]

    @classmethod
    def of(cls, path: Path, volumes: Sequence[MeasuredVolume], errors: ErrorModel | None) -> Self:
        """Measure a heart that is known from two or more volumes."""
        ed, es = end_diastole_and_systole(
            volumes,
            lambda volume: HeartName.parse(volume.source).phase,
            lambda volume: volume.measurements["lv_ml"].value,
        )
        measurements: dict[str, Measurement] = {}
        for side, structure in (("lv", Structure.LV), ("rv", Structure.RV)):
            edv, esv = (volume.measurements[f"{side}_ml"] for volume in (ed, es))
            measurements |= {f"{side}_edv_ml": edv, f"{side}_esv_ml": esv}
            if edv.value and esv.value:
                measurements[f"{side}_sv_ml"] = Measurement(edv.value - esv.value)
                fraction = ejection_fraction(edv.value, esv.value)
                intervals = _fraction_intervals(ed, es, structure, errors)
                measurements[f"{side}_ef_percent"] = Measurement(fraction, intervals)
        measurements["mass_g"] = ed.measurements["mass_g"]
        return cls(path, volumes, ed, es, measurements)

    def phase_of(self, volume: MeasuredVolume) -> Phase | None:
        """Return the phase of one of its volumes, if it is one of the two."""
        if volume is self.ed:
            return Phase.ED
        return Phase.ES if volume is self.es else None

    @property
    def warnings(self) -> list[str]:
        """What the person should know of it."""
        found = []
        for side in ("lv", "rv"):
            edv, esv = (self.measurements[f"{side}_{name}_ml"].value for name in ("edv", "esv"))
            absent = [phase for phase, ml in (("ED", edv), ("ES", esv)) if not ml]
            if absent:
                found.append(
                    f"no {side.upper()} at {' and '.join(absent)}, so it has no ejection fraction"
                )
            elif side == "lv" and esv > edv:
                found.append("the LV is larger at ES than at ED; are the two named the right way?")
        return found


def _fraction_intervals(
    ed: MeasuredVolume, es: MeasuredVolume, structure: Structure, errors: ErrorModel | None
) -> dict[str, tuple[float, float]]:
    if ed.levels is None or es.levels is None or errors is None:
        return {}
    share = errors.share(structure)
    return {
        in_percent(level): ejection_fraction_interval(ed.levels, es.levels, structure, share, level)
        for level in LEVELS
    }
