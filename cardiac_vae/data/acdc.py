"""Reader of ACDC (Bernard et al. 2018, doi 10.1109/TMI.2018.2837502).

Layout: ``patientNNN/{Info.cfg, patientNNN_frameFF.nii.gz, patientNNN_frameFF_gt.nii.gz}``, where
Info.cfg names the frames of end-diastole and end-systole (end-diastole is not always frame 1) and
the group. The affine of every file is diag(-1, -1, 1): the true spacing is only in pixdim.
"""

from collections.abc import Iterator
from pathlib import Path

from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.case_files import CasePaths, read_case
from cardiac_vae.labels import ACDC_LABELS, LabelMap, Phase

# The same scan twice under two numbers; in the official splits 055 is also test patient 118.
DUPLICATES = (("patient074", "patient076"),)


def case_paths(root: Path) -> list[CasePaths]:
    """Return the cases of a folder that holds ``patient*`` folders, sorted by patient, then phase.

    Raises:
        FileNotFoundError: if there is no patient, or one lacks its Info.cfg, a frame or a mask.
        ValueError: if an Info.cfg does not name its frames.
    """
    folders = sorted(folder for folder in root.glob("patient*") if folder.is_dir())
    if not folders:
        raise FileNotFoundError(
            f"{root}: expected folders patient001, patient002, …, found none; "
            "give the folder that directly contains them"
        )
    return [case for folder in folders for case in _patient_paths(folder)]


def read_cases(root: Path, labels: LabelMap | None = None) -> Iterator[CardiacCase]:
    """Yield each case with its image, read when asked for, in the order of ``case_paths``.

    All file names are checked before the first case is read.

    Raises:
        FileNotFoundError: as ``case_paths``.
        ValueError: if a file is no sound NIfTI volume, holds unknown labels, or mask and image lie
            on different grids.
    """
    return (read_case(paths, labels or ACDC_LABELS) for paths in case_paths(root))


def _patient_paths(folder: Path) -> list[CasePaths]:
    info = _read_info(folder / "Info.cfg")
    cases = []
    for phase in Phase:
        key = phase.name
        frame = info.get(key, "")
        if not frame.isdigit():
            raise ValueError(
                f"{folder / 'Info.cfg'}: expected a line '{key}: <frame number>', "
                f"got {frame or 'none'}; add it"
            )
        stem = f"{folder.name}_frame{int(frame):02d}"
        cases.append(
            CasePaths(
                patient_id=folder.name,
                phase=phase,
                group=info.get("Group", ""),
                scan=_existing(folder, stem, f"the image of {key}"),
                mask=_existing(folder, f"{stem}_gt", f"the mask of {key}"),
            )
        )
    return cases


def _read_info(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a file with ED, ES and Group, found none; "
            "restore it or leave the patient's folder out"
        )
    pairs = (line.partition(":") for line in path.read_text("utf-8", errors="replace").splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _existing(folder: Path, stem: str, what: str) -> Path:
    for suffix in (".nii.gz", ".nii"):
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{folder / stem}.nii.gz: expected {what} named in Info.cfg, found none; "
        "restore the file or correct Info.cfg"
    )
