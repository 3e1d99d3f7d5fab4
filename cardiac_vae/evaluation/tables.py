"""The table of cases: one CSV row per scans, variant and case; what is read is what was written."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from cardiac_vae.anatomy.criteria import CRITERIA
from cardiac_vae.evaluation.scores import CaseScores, StructureScores
from cardiac_vae.labels import HEART, Phase

RowsByVariant = Mapping[str, Sequence[CaseScores]]
"""The rows of each variant (``segmenter``, ``baseline``, ``refined``), on one kind of scans."""

_MEASURES = ("dice", "hd95_mm", "assd_mm", "volume_ml", "reference_volume_ml")
_SLICES = ("num_spurious_slices", "num_missed_slices")
_COUNTS = ("num_slices", "num_empty_slices", "num_valid_slices")
_FLAGS = ("is_missed", "is_spurious")  # follow from the volumes; written for those who read the CSV


def write_csv(path: Path, rows_by_scans: Mapping[str, RowsByVariant]) -> None:
    """Write the rows of each kind of scans (``clean``, ``corrupted``) and variant.

    Numbers are written in full: ``read_csv`` gives back the very same rows. ``inf`` is the distance
    to a missed or spurious structure, ``nan`` a score of one that neither mask has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, _columns(), lineterminator="\n")
        writer.writeheader()
        for scans, rows_by_variant in rows_by_scans.items():
            for variant, rows in rows_by_variant.items():
                for row in rows:
                    writer.writerow({"scans": scans, "variant": variant, **_flatten(row)})


def read_csv(path: Path) -> dict[str, dict[str, list[CaseScores]]]:
    """Read what ``write_csv`` wrote: the rows by kind of scans and by variant.

    Raises:
        ValueError: if columns are missing.
    """
    tables: dict[str, dict[str, list[CaseScores]]] = {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = sorted(set(_columns()) - set(reader.fieldnames or ()))
        if missing:
            raise ValueError(f"{path}: expected a table of case scores, got none of {missing}")
        for values in reader:
            variants = tables.setdefault(values["scans"], {})
            variants.setdefault(values["variant"], []).append(_unflatten(values))
    return tables


def _columns() -> list[str]:
    measures = [
        f"{structure.name.lower()}_{name}"
        for structure in HEART
        for name in (*_MEASURES, *_SLICES, *_FLAGS)
    ]
    head = ["scans", "variant", "case_id", "patient_id", "phase", "group"]
    broken = [f"broken_{name}" for name in CRITERIA]
    return [*head, *measures, "diagonal_mm", *_COUNTS, "is_valid_volume", *broken]


def _flatten(row: CaseScores) -> dict[str, object]:
    values: dict[str, object] = {
        name: getattr(row, name) for name in ("case_id", "patient_id", "group", *_COUNTS)
    }
    values |= {"phase": row.phase.value, "diagonal_mm": repr(row.diagonal_mm)}
    values["is_valid_volume"] = int(row.is_valid_volume)
    for structure, scores in row.structures.items():
        prefix = structure.name.lower()
        values |= {f"{prefix}_{name}": repr(float(getattr(scores, name))) for name in _MEASURES}
        values |= {f"{prefix}_{name}": int(getattr(scores, name)) for name in (*_SLICES, *_FLAGS)}
    return values | {f"broken_{name}": count for name, count in row.broken.items()}


def _unflatten(values: Mapping[str, str]) -> CaseScores:
    return CaseScores(
        case_id=values["case_id"],
        patient_id=values["patient_id"],
        phase=Phase(values["phase"]),
        group=values["group"],
        structures={
            structure: _unflatten_structure(structure.name.lower(), values) for structure in HEART
        },
        diagonal_mm=float(values["diagonal_mm"]),
        num_slices=int(values["num_slices"]),
        num_empty_slices=int(values["num_empty_slices"]),
        num_valid_slices=int(values["num_valid_slices"]),
        is_valid_volume=values["is_valid_volume"] == "1",
        broken={name: int(values[f"broken_{name}"]) for name in CRITERIA},
    )


def _unflatten_structure(prefix: str, values: Mapping[str, str]) -> StructureScores:
    return StructureScores(
        **{name: float(values[f"{prefix}_{name}"]) for name in _MEASURES},
        num_spurious_slices=int(values[f"{prefix}_num_spurious_slices"]),
        num_missed_slices=int(values[f"{prefix}_num_missed_slices"]),
    )
