"""Which files are one heart at several instants, by their names.

A name says its instant by a part of its own between separators: ``frame`` with a number, ``ed`` or
``es``. So do ``patient001_frame01_gt`` and ``patient001_frame12_gt`` (ACDC, nnU-Net), or
``001_SA_ED_gt`` and ``001_SA_ES_gt`` (M&Ms-2), or ``ed`` and ``es`` in a folder of the patient's.
Files in one folder whose names are equal but for that are one heart.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cardiac_vae.labels import Phase

_SEPARATORS = r"_\-. "
_INSTANT = re.compile(
    rf"(?:^|[{_SEPARATORS}])(frame[_-]?\d+|ed|es)(?=[{_SEPARATORS}]|$)", re.IGNORECASE
)
_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class HeartName:
    """What the name of a file says.

    Attributes:
        heart: Folder and name of the heart: the file's without ending and instant.
        instant: The instant as the name has it, in lower case: ``frame01``, ``ed``; "" for none.
        phase: End-diastole or end-systole, where the name says it.
    """

    heart: Path
    instant: str
    phase: Phase | None

    @classmethod
    def parse(cls, path: Path) -> Self:
        """Read the name of a file; of several phases in it the last one counts."""
        stem = _ENDING.sub("", path.name)
        parts = [part.lower() for part in _INSTANT.findall(stem)]
        phases = [Phase(part) for part in parts if part in set(Phase)]
        rest = _INSTANT.sub("", stem).lstrip("_-. ")
        return cls(path.parent / rest, "_".join(parts), phases[-1] if phases else None)


def find_hearts(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """Return the files of each heart that has two or more; a name without an instant has none.

    Raises:
        ValueError: if two files of a heart claim the same instant.
    """
    hearts: dict[Path, dict[str, Path]] = {}
    for path in paths:
        name = HeartName.parse(path)
        if not name.instant:
            continue
        instants = hearts.setdefault(name.heart, {})
        if name.instant in instants:
            raise ValueError(
                f"{path}: expected one file per heart and instant, got {instants[name.instant]} "
                f"as well for {name.instant}; name one of them"
            )
        instants[name.instant] = path
    return {heart: list(files.values()) for heart, files in hearts.items() if len(files) > 1}
