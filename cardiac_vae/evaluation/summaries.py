"""From rows to numbers: means with per-patient intervals, paired differences, agreement, counts.

Every mean is over cases (or patients, or slices), every interval a bootstrap that draws patients,
and every difference paired case by case against the reference variant. Conventions:

- An infinite distance (a missed or spurious structure) counts as the diagonal of its volume, in mm.
- A structure the expert did not draw counts as soon as one variant draws it: Dice 0 and the
  diagonal for that variant, Dice 1 and 0 mm for those that rightly left it out. Where no variant
  draws it there is nothing to score.
- Volumes of a structure that was missed are 0 ml; an ejection fraction without an end-diastolic
  volume counts as 0 %, so that its error is that of a heart that does not beat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cardiac_vae.anatomy.criteria import CRITERIA
from cardiac_vae.evaluation.intervals import as_json, difference, interval
from cardiac_vae.evaluation.patients import MEASUREMENTS, measure_patients
from cardiac_vae.evaluation.scores import CaseScores
from cardiac_vae.evaluation.tables import RowsByVariant
from cardiac_vae.labels import HEART, Phase, Structure
from cardiac_vae.metrics.clinical import agreement
from cardiac_vae.metrics.summary import summarize_distances

Table = Mapping[str, np.ndarray]
"""Per variant the values of one metric, in one order of cases for all variants."""


def summarize(
    rows_by_variant: RowsByVariant, reference_variant: str = "segmenter", seed: int = 0
) -> dict[str, Any]:
    """Summarize the rows of several variants on the same cases, as plain values for JSON.

    Returns ``num_cases``, ``num_patients``, ``reference_variant``, and

    - ``variants``: per variant ``metrics`` (name -> mean, low, high, n), ``counts`` (missed and
      spurious structures; slices and volumes, the valid and the empty ones, those that break each
      criterion) and ``agreement`` (bias, limits and correlation of volumes, EF and mass);
    - ``differences``: per other variant and metric the paired difference, variant minus reference.

    The metrics are ``dice_*``, ``hd95_mm_*`` and ``assd_mm_*`` of ``rv``, ``myo``, ``lv`` and their
    ``mean``, also per phase (``dice_lv_ed``); the shares ``valid_slices``, ``valid_volumes`` and
    ``valid_slices_not_empty``; ``spurious_slices_*`` and ``missed_slices_*`` per volume, of each
    structure and in ``total`` (a slice counts once for each structure), and their sums
    ``presence_errors_*``; ``abs_error_*`` of each measurement of a patient, in its unit.

    Raises:
        ValueError: if the variants do not hold the same cases, once each.
    """
    _check_same_cases(rows_by_variant, reference_variant)
    ordered = {
        variant: sorted(rows, key=lambda row: row.case_id)
        for variant, rows in rows_by_variant.items()
    }
    cases = ordered[reference_variant]
    patients = [row.patient_id for row in cases]
    summary: dict[str, Any] = {
        "num_cases": len(cases),
        "num_patients": len(set(patients)),
        "reference_variant": reference_variant,
        "variants": {
            variant: {"metrics": {}, "counts": count(rows), "agreement": _agreements(rows)}
            for variant, rows in ordered.items()
        },
        "differences": {variant: {} for variant in ordered if variant != reference_variant},
    }
    tables = case_tables(ordered) | _presence_tables(ordered)
    groups = dict.fromkeys(tables, patients)
    for name, (table, owners) in _share_tables(ordered).items():
        tables[name], groups[name] = table, owners
    for name, (table, owners) in _patient_tables(ordered).items():
        tables[name], groups[name] = table, owners
    for name, table in tables.items():
        _add_metric(summary, name, table, groups[name], seed)
    _add_not_empty(summary, ordered, seed)
    return summary


def count(rows: Sequence[CaseScores]) -> dict[str, Any]:
    """Count what went wrong, without any averaging."""
    return {
        "missed": _count_structures(rows, "is_missed"),
        "spurious": _count_structures(rows, "is_spurious"),
        "volumes": len(rows),
        "valid_volumes": sum(row.is_valid_volume for row in rows),
        "slices": sum(row.num_slices for row in rows),
        "empty_slices": sum(row.num_empty_slices for row in rows),
        "valid_slices": sum(row.num_valid_slices for row in rows),
        "broken_slices": {name: sum(row.broken[name] for row in rows) for name in CRITERIA},
        "broken_volumes": {name: sum(row.broken[name] > 0 for row in rows) for name in CRITERIA},
    }


def _count_structures(rows: Sequence[CaseScores], flag: str) -> dict[str, int]:
    return {
        structure.name.lower(): sum(getattr(row.structures[structure], flag) for row in rows)
        for structure in HEART
    }


def _check_same_cases(rows_by_variant: RowsByVariant, reference_variant: str) -> None:
    if not rows_by_variant.get(reference_variant):
        raise ValueError(
            f"expected rows of the variant {reference_variant!r}, got {sorted(rows_by_variant)}"
        )
    expected = sorted(row.case_id for row in rows_by_variant[reference_variant])
    for variant, rows in rows_by_variant.items():
        found = sorted(row.case_id for row in rows)
        if found != expected or len(set(found)) != len(found):
            odd = sorted(set(found) ^ set(expected)) or "a case given twice"
            raise ValueError(
                f"{variant}: expected the {len(expected)} cases of {reference_variant}, once each; "
                f"they differ in {odd}"
            )


def case_tables(ordered: RowsByVariant) -> dict[str, Table]:
    """Return Dice and distances per case; NaN where there is nothing to score."""
    tables: dict[str, Table] = {}
    for metric, perfect in (("dice", 1.0), ("hd95_mm", 0.0), ("assd_mm", 0.0)):
        per_structure = {
            structure: _filled(
                {v: _values(rows, structure, metric) for v, rows in ordered.items()}, perfect
            )
            for structure in HEART
        }
        for structure, table in per_structure.items():
            tables[f"{metric}_{structure.name.lower()}"] = table
        tables[f"{metric}_mean"] = {
            variant: _mean_of_known([per_structure[structure][variant] for structure in HEART])
            for variant in ordered
        }
    phases = np.array([row.phase for row in next(iter(ordered.values()))])
    for name, table in list(tables.items()):
        for phase in Phase:
            tables[f"{name}_{phase}"] = {
                variant: np.where(phases == phase, values, np.nan)
                for variant, values in table.items()
            }
    return tables


def _values(rows: Sequence[CaseScores], structure: Structure, metric: str) -> np.ndarray:
    values = np.array([getattr(row.structures[structure], metric) for row in rows])
    return summarize_distances(values, [row.diagonal_mm for row in rows])[0]


def _filled(table: Table, perfect: float) -> Table:
    """Give full marks for leaving out what the expert left out and another variant drew."""
    drawn_by_any = ~np.isnan(np.stack(list(table.values()))).all(axis=0)
    return {
        variant: np.where(np.isnan(values) & drawn_by_any, perfect, values)
        for variant, values in table.items()
    }


def _mean_of_known(columns: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(columns)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _presence_tables(ordered: RowsByVariant) -> dict[str, Table]:
    """Return per case in how many slices structures are spurious, missed, or either."""
    tables: dict[str, Table] = {}
    for name, structures in ({s.name.lower(): (s,) for s in HEART} | {"total": HEART}).items():
        spurious, missed = (
            {variant: _sums(rows, structures, count) for variant, rows in ordered.items()}
            for count in ("num_spurious_slices", "num_missed_slices")
        )
        tables[f"spurious_slices_{name}"] = spurious
        tables[f"missed_slices_{name}"] = missed
        tables[f"presence_errors_{name}"] = {v: spurious[v] + missed[v] for v in ordered}
    return tables


def _sums(rows: Sequence[CaseScores], structures: Sequence[Structure], measure: str) -> np.ndarray:
    return np.array([sum(getattr(row.structures[s], measure) for s in structures) for row in rows])


def _share_tables(ordered: RowsByVariant) -> dict[str, tuple[Table, list[str]]]:
    """Return 0 or 1 per slice and per volume, with the patient of each."""
    rows = next(iter(ordered.values()))
    slice_owners = [row.patient_id for row in rows for _ in range(row.num_slices)]
    slices = {
        variant: np.concatenate(
            [_flags(row.num_valid_slices, row.num_slices) for row in variant_rows]
        )
        for variant, variant_rows in ordered.items()
    }
    volumes = {
        variant: np.array([float(row.is_valid_volume) for row in variant_rows])
        for variant, variant_rows in ordered.items()
    }
    return {
        "valid_slices": (slices, slice_owners),
        "valid_volumes": (volumes, [row.patient_id for row in rows]),
    }


def _flags(num_true: int, num_all: int) -> np.ndarray:
    return (np.arange(num_all) < num_true).astype(float)


def _add_not_empty(summary: dict[str, Any], ordered: RowsByVariant, seed: int) -> None:
    """Add the share of valid slices among those that hold something.

    Which slices those are differs between variants, so that there is no paired difference.
    """
    for variant, rows in ordered.items():
        drawn = [row.num_slices - row.num_empty_slices for row in rows]
        flags = [
            _flags(row.num_valid_slices - row.num_empty_slices, num)
            for row, num in zip(rows, drawn, strict=True)
        ]
        owners = [row.patient_id for row, num in zip(rows, drawn, strict=True) for _ in range(num)]
        share = interval(np.concatenate(flags), owners, seed)
        if share is not None:
            summary["variants"][variant]["metrics"]["valid_slices_not_empty"] = share


def _patient_tables(ordered: RowsByVariant) -> dict[str, tuple[Table, list[str]]]:
    """Return the absolute error of each measurement per patient."""
    errors: dict[str, dict[str, np.ndarray]] = {name: {} for name in MEASUREMENTS}
    owners: dict[str, list[str]] = {}
    for variant, rows in ordered.items():
        measured = measure_patients(rows)
        for name in MEASUREMENTS:
            found = [patient for patient in measured if name in patient.reference]
            owners[name] = [patient.patient_id for patient in found]
            errors[name][variant] = np.array([abs(patient.error(name)) for patient in found])
    return {f"abs_error_{name}": (errors[name], owners[name]) for name in MEASUREMENTS}


def _agreements(rows: Sequence[CaseScores]) -> dict[str, Any]:
    measured = measure_patients(rows)
    result = {}
    for name in MEASUREMENTS:
        found = [patient for patient in measured if name in patient.reference]
        if found:
            reference = np.array([patient.reference[name] for patient in found])
            predicted = np.array([patient.predicted[name] for patient in found])
            result[name] = as_json(asdict(agreement(reference, predicted)))
    return result


def _add_metric(
    summary: dict[str, Any], name: str, table: Table, owners: Sequence[str], seed: int
) -> None:
    reference = table[summary["reference_variant"]]
    for variant, values in table.items():
        mean = interval(values, owners, seed)
        if mean is None:
            continue
        summary["variants"][variant]["metrics"][name] = mean
        if variant in summary["differences"]:
            summary["differences"][variant][name] = difference(values, reference, owners, seed)
