"""Credible intervals of volumes, mass and ejection fractions against the experts' values.

The volumes of the phases and scans of a patient err together, while the interval of a coverage
counts them one by one: it says how well the coverage is known at best.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cardiac_vae.anatomy.measurements import MYOCARDIUM_G_PER_ML, ejection_fraction
from cardiac_vae.evaluation.intervals import as_json
from cardiac_vae.labels import HEART, Phase, Structure
from cardiac_vae.metrics.calibration import interval_quality
from cardiac_vae.refinement.uncertainty import (
    LEVELS,
    ErrorModel,
    Interval,
    ejection_fraction_interval,
)
from cardiac_vae.refinement.uncertainty_fit import ExpertVolumes

_VENTRICLES = {"lv": Structure.LV, "rv": Structure.RV}


@dataclass(frozen=True)
class Judged:
    """One volume with its expert's, and errors that were fitted to other patients.

    Attributes:
        patient_id: Whose heart it is.
        phase: End-diastole or end-systole.
        volumes: By the belief, and by the expert.
        errors: How far errors go together.
    """

    patient_id: str
    phase: Phase
    volumes: ExpertVolumes = field(repr=False)
    errors: ErrorModel

    def interval_ml(self, structure: Structure, level: float) -> Interval:
        """Return the credible interval of a structure's volume."""
        return self.volumes.levels.interval_ml(structure, self.errors.share(structure), level)


@dataclass(frozen=True)
class _Measured:
    """True values and their intervals by level, in one unit."""

    reference: list[float] = field(default_factory=list)
    intervals: dict[float, list[Interval]] = field(default_factory=lambda: {k: [] for k in LEVELS})


def score_intervals(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return how good the intervals are, of volumes of one kind of scans, as values for JSON.

    Of ``lv_ml``, ``rv_ml`` and ``mass_g`` of either phase, and of ``lv_ef_percent`` and
    ``rv_ef_percent`` of the patients with both: by level in percent ``coverage`` (mean, low, high,
    n), mean ``width`` and mean ``score``. What no expert's mask has is left out.
    """
    measured = _volumes(judged) | _ejection_fractions(judged)
    return {name: _quality(values) for name, values in measured.items() if values.reference}


def _volumes(judged: Sequence[Judged]) -> dict[str, _Measured]:
    names = {Structure.LV: "lv_ml", Structure.RV: "rv_ml", Structure.MYO: "mass_g"}
    measured = {}
    for structure in HEART:
        unit = MYOCARDIUM_G_PER_ML if structure == Structure.MYO else 1.0
        values = measured[names[structure]] = _Measured()
        for volume in judged:
            values.reference.append(unit * volume.volumes.expert_ml[structure])
            for level in LEVELS:
                low, high = volume.interval_ml(structure, level)
                values.intervals[level].append((unit * low, unit * high))
    return measured


def _ejection_fractions(judged: Sequence[Judged]) -> dict[str, _Measured]:
    patients: dict[str, dict[Phase, Judged]] = {}
    for volume in judged:
        patients.setdefault(volume.patient_id, {})[volume.phase] = volume
    measured = {f"{name}_ef_percent": _Measured() for name in _VENTRICLES}
    for phases in patients.values():
        if len(phases) < len(Phase):
            continue
        ed, es = phases[Phase.ED], phases[Phase.ES]
        for name, structure in _VENTRICLES.items():
            values, share = measured[f"{name}_ef_percent"], ed.errors.share(structure)
            edv, esv = (one.volumes.expert_ml[structure] for one in (ed, es))
            if edv == 0:
                continue
            values.reference.append(ejection_fraction(edv, esv))
            for level in LEVELS:
                pair = ed.volumes.levels, es.volumes.levels
                interval = ejection_fraction_interval(*pair, structure, share, level)
                values.intervals[level].append(interval)
    return measured


def _quality(values: _Measured) -> dict[str, Any]:
    scores = {}
    for level in LEVELS:
        low, high = np.array(values.intervals[level]).T
        quality = interval_quality(low, high, np.array(values.reference), level)
        coverage = as_json(asdict(quality.coverage))
        scores[f"{100 * level:.0f}"] = {
            "coverage": coverage,
            "width": quality.width,
            "score": quality.score,
        }
    return scores
