"""What a cardiologist reads off a patient's two masks: volumes, ejection fractions, mass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cardiac_vae.anatomy.measurements import MYOCARDIUM_G_PER_ML, ejection_fraction
from cardiac_vae.evaluation.scores import CaseScores
from cardiac_vae.labels import Phase, Structure

MEASUREMENTS = {
    "lv_ef_percent": "%",
    "rv_ef_percent": "%",
    "lv_edv_ml": "ml",
    "lv_esv_ml": "ml",
    "rv_edv_ml": "ml",
    "rv_esv_ml": "ml",
    "mass_g": "g",
}
"""The measurements of a patient and their units; the mass is the end-diastolic one."""

Volumes = Mapping[tuple[Structure, Phase], float]


@dataclass(frozen=True, slots=True)
class PatientMeasurements:
    """The measurements of one patient, by the expert's and by the predicted masks.

    Attributes:
        patient_id: The patient.
        group: Diagnosis, or "".
        reference: Name in ``MEASUREMENTS`` -> value; those that need a phase, or an end-diastolic
            volume, that the expert did not draw are left out.
        predicted: The same names.
    """

    patient_id: str
    group: str
    reference: Mapping[str, float]
    predicted: Mapping[str, float]

    def error(self, name: str) -> float:
        """Return predicted minus reference, in the measurement's unit."""
        return self.predicted[name] - self.reference[name]


def measure_patients(rows: Sequence[CaseScores]) -> list[PatientMeasurements]:
    """Join the phases of each patient, in the order of patients."""
    phases: dict[str, dict[Phase, CaseScores]] = {}
    for row in sorted(rows, key=lambda row: (row.patient_id, row.phase)):
        phases.setdefault(row.patient_id, {})[row.phase] = row
    measured = []
    for patient_id, by_phase in phases.items():
        reference = _measure(_volumes(by_phase, "reference_volume_ml"))
        predicted = _measure(_volumes(by_phase, "volume_ml"))
        # An ejection fraction that only the expert's masks allow is scored as no contraction.
        measured.append(
            PatientMeasurements(
                patient_id=patient_id,
                group=next(iter(by_phase.values())).group,
                reference=reference,
                predicted={name: predicted.get(name, 0.0) for name in reference},
            )
        )
    return measured


def _volumes(by_phase: Mapping[Phase, CaseScores], name: str) -> Volumes:
    return {
        (structure, phase): getattr(scores, name)
        for phase, row in by_phase.items()
        for structure, scores in row.structures.items()
    }


def _measure(volumes: Volumes) -> dict[str, float]:
    values: dict[str, float] = {}
    for structure, side in ((Structure.LV, "lv"), (Structure.RV, "rv")):
        edv, esv = (volumes.get((structure, phase)) for phase in (Phase.ED, Phase.ES))
        if edv is not None:
            values[f"{side}_edv_ml"] = edv
        if esv is not None:
            values[f"{side}_esv_ml"] = esv
        if edv and esv is not None:
            values[f"{side}_ef_percent"] = ejection_fraction(edv, esv)
    myocardium_ml = volumes.get((Structure.MYO, Phase.ED))
    if myocardium_ml is not None:
        values["mass_g"] = MYOCARDIUM_G_PER_ML * myocardium_ml
    return values
