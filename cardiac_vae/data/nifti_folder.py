"""Reader of plain folders: ``images/`` and ``masks/``, paired by file name.

Files are ``<patient>_<ed|es>.nii.gz`` (or .nii); a name without a phase counts as end-diastole. An
optional ``groups.csv`` with the columns patient_id and group gives diagnoses.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.case_files import CasePaths, read_case
from cardiac_vae.labels import ACDC_LABELS, LabelMap, Phase

_SUFFIXES = (".nii.gz", ".nii")


def case_paths(root: Path) -> list[CasePaths]:
    """Return the cases of a folder, sorted by patient, then phase.

    Raises:
        FileNotFoundError: if there is no mask, or a mask has no image or an image no mask.
        ValueError: if two files claim the same patient and phase, or groups.csv is malformed.
    """
    masks, images = _files(root / "masks"), _files(root / "images")
    for missing, there in (("image", set(masks) - set(images)), ("mask", set(images) - set(masks))):
        if there:
            raise FileNotFoundError(
                f"{root / missing}s: expected one {missing} for each file of the other folder, "
                f"found none for {', '.join(sorted(there))}; add it or take the other away"
            )
    groups = _read_groups(root / "groups.csv")
    cases: dict[tuple[str, Phase], CasePaths] = {}
    for name in sorted(masks):
        patient_id, phase = _split_name(name)
        if (patient_id, phase) in cases:
            raise ValueError(
                f"{masks[name]}: expected one mask per patient and phase, got "
                f"{cases[patient_id, phase].mask.name} as well for {patient_id} at {phase}; "
                "rename one"
            )
        cases[patient_id, phase] = CasePaths(
            patient_id, phase, groups.get(patient_id, ""), images[name], masks[name]
        )
    return [cases[key] for key in sorted(cases)]


def read_cases(root: Path, labels: LabelMap | None = None) -> Iterator[CardiacCase]:
    """Yield each case with its image, read when asked for, in the order of ``case_paths``.

    ``labels`` defaults to ACDC's values. All file names are checked before the first case is read.

    Raises:
        FileNotFoundError: as ``case_paths``.
        ValueError: as ``case_paths``, or if a file is no sound NIfTI volume, holds unknown labels,
            or mask and image lie on different grids.
    """
    return (read_case(paths, labels or ACDC_LABELS) for paths in case_paths(root))


def _files(folder: Path) -> dict[str, Path]:
    """Return the NIfTI files of a folder by their name without suffix."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        suffix = next((end for end in _SUFFIXES if path.name.endswith(end)), None)
        if suffix is None or path.name.startswith("."):
            continue
        name = path.name.removesuffix(suffix)
        if name in files:
            raise ValueError(
                f"{path}: expected one file per name, got {files[name].name} as well; remove one"
            )
        files[name] = path
    if not files:
        raise FileNotFoundError(
            f"{folder}: expected files such as patient001_ed.nii.gz, found none; "
            "put the images into images/ and the masks, on the same names, into masks/"
        )
    return files


def _split_name(name: str) -> tuple[str, Phase]:
    patient_id, _, phase = name.rpartition("_")
    if patient_id and phase.lower() in set(Phase):
        return patient_id, Phase(phase.lower())
    return name, Phase.ED


def _read_groups(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = reader.fieldnames or []
        if not {"patient_id", "group"} <= set(columns):
            raise ValueError(
                f"{path}: expected the columns patient_id and group, got {list(columns)}; "
                "add a header line"
            )
        rows = [
            {key: (row[key] or "").strip() for key in ("patient_id", "group")} for row in reader
        ]
    return {row["patient_id"]: row["group"] for row in rows}
