"""The true factors of phantom hearts, read back from beside them and joined to their slices.

``phantom.write_cohort`` leaves ``factors.csv``, a row per case. Here it becomes a row per slice.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

FACTORS_FILE = "factors.csv"
FACTORS = ("position", "lv_ml", "rv_ml", "wall_mm", "pose_deg")
"""What varies in every heart and shows in every slice through both ventricles.

``position`` is how far down the end-diastolic length the plane lies, 0 at the mitral plane and 1 at
the apex; volumes are those of the case's phase. What only one diagnosis has (infarcts, a thick
septum) is left out.
"""

_COLUMNS = ("first_slice_mm", "slice_mm", "length_mm", *FACTORS[1:])


def read_factors(path: Path) -> dict[str, dict[str, float]]:
    """Return the factors of each case, by case id.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected the true factors of the phantom, found none; run the acquire stage"
        )
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    missing = sorted({"case_id", *_COLUMNS} - set(rows[0] if rows else ()))
    if missing:
        raise ValueError(f"{path}: expected the columns of a phantom cohort, {missing} are missing")
    return {row["case_id"]: {name: float(row[name]) for name in _COLUMNS} for row in rows}


def slice_factors(
    factors: Mapping[str, Mapping[str, float]], case_ids: Sequence[str]
) -> np.ndarray:
    """Return the factors of slices (N, 5), columns as ``FACTORS``.

    ``case_ids`` names the case of each slice, whole stacks in their order.

    Raises:
        ValueError: if a case has no factors.
    """
    unknown = sorted(set(case_ids) - set(factors))
    if unknown:
        raise ValueError(f"expected true factors of every case, got none of {', '.join(unknown)}")
    rows, seen = [], dict.fromkeys(case_ids, 0)
    for case_id in case_ids:
        known = factors[case_id]
        depth_mm = known["first_slice_mm"] + seen[case_id] * known["slice_mm"]
        rows.append([depth_mm / known["length_mm"], *(known[name] for name in FACTORS[1:])])
        seen[case_id] += 1
    return np.array(rows)
