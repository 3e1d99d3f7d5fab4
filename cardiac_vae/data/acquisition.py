"""Raw data of a study: the embedded phantom, or what is needed of the user's folder, copied."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from cardiac_vae.data.phantom import PhantomConfig, write_cohort
from cardiac_vae.data.preparation import CASE_PATHS
from cardiac_vae.data.source import SourceConfig

SIDECARS = {"acdc": "patient*/Info.cfg", "nifti_folder": "groups.csv"}
"""Per layout the files that say what the volumes are, as a glob below the root."""


def acquire(source: SourceConfig, phantom: PhantomConfig, output: Path) -> dict[str, Any]:
    """Write the phantom, or copy what the reader needs of the user's folder, keeping its layout.

    A copy, so that the study depends on nothing outside the project that may move or change.

    Returns:
        Counts of patients, cases, and cases per group, as plain values for JSON.

    Raises:
        FileNotFoundError: if the folder, or a file that belongs to a case, is missing.
    """
    if source.root is None:
        write_cohort(output, phantom)
    else:
        _copy(source.root, output, source.reader)
    cases = CASE_PATHS[source.reader](output)
    return {
        "num_patients": len({case.patient_id for case in cases}),
        "num_cases": len(cases),
        "cases_per_group": dict(Counter(case.group or "unknown" for case in cases)),
    }


def _copy(root: Path, output: Path, reader: str) -> None:
    volumes = [path for case in CASE_PATHS[reader](root) for path in (case.scan, case.mask)]
    for source in [*volumes, *root.glob(SIDECARS[reader])]:
        target = output / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
