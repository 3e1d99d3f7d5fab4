"""The cases of a run: the files named on the command line, each with its companions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Case:
    """One input file and what belongs to it.

    Attributes:
        source: The mask to check or refine, or the scan to segment.
        scan: The scan on whose grid the mask must lie.
        probabilities: The segmenter's class probabilities of the mask.
    """

    source: Path
    scan: Path | None = None
    probabilities: Path | None = None

    @property
    def files(self) -> Iterator[Path]:
        """The files the case is read from."""
        return (path for path in (self.source, self.scan, self.probabilities) if path is not None)


def find_cases(
    paths: Sequence[Path], scan: Path | None = None, probabilities: Path | None = None
) -> list[Case]:
    """Return a case for each file, and for each NIfTI file directly inside each folder, sorted.

    ``scan`` and ``probabilities`` are files where a single file is named, else folders whose files
    have the names of the inputs.

    Raises:
        ValueError: if a folder holds no NIfTI file, or a companion is a file and should be a folder
            or the reverse.
        FileNotFoundError: if a path does not exist.
    """
    for path in (*paths, scan, probabilities):
        if path is not None and not path.exists():
            raise FileNotFoundError(
                f"{path}: expected a file or folder, found none; is it spelt so?"
            )
    is_single = len(paths) == 1 and not paths[0].is_dir()
    return [
        Case(
            source,
            _companion(scan, source, "--scan", is_single=is_single),
            _companion(probabilities, source, "--probabilities", is_single=is_single),
        )
        for path in paths
        for source in (_files_of(path) if path.is_dir() else [path])
    ]


def is_nifti_name(path: Path) -> bool:
    """Tell whether a name ends as a NIfTI file's does."""
    return path.name.endswith(ENDINGS)


def _files_of(folder: Path) -> list[Path]:
    files = sorted(
        path
        for path in folder.iterdir()
        if is_nifti_name(path) and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        raise ValueError(f"{folder}: expected NIfTI files (.nii, .nii.gz) in the folder, got none")
    return files


def _companion(given: Path | None, source: Path, option: str, *, is_single: bool) -> Path | None:
    """Return the companion's path; whether it is there is the case's own affair."""
    if given is None:
        return None
    if given.is_dir():
        names = [source.name, *(_stem(source.name) + ending for ending in ENDINGS)]
        return next((path for name in names if (path := given / name).exists()), given / names[0])
    if not is_single:
        raise ValueError(
            f"{option} {given}: expected a folder with files named as the masks, since there are "
            "several masks, got a file"
        )
    return given


def _stem(name: str) -> str:
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), name)
