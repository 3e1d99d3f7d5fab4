"""A cohort through the segmenter: each scan as it is, and made worse."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import NonNegativeInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.case_files import CasePaths
from cardiac_vae.data.nifti import read_image, write_image, write_mask, write_probabilities
from cardiac_vae.data.scan_corruption import ScanCorruptionConfig, corrupt_case
from cardiac_vae.data.segmented import SCANS, Split, mask_path, probabilities_path
from cardiac_vae.labels import most_probable
from cardiac_vae.segmentation.inference import Segmenter


class CohortConfig(StrictConfig):
    """Which patients are segmented, and how their scans are made worse for the second half."""

    splits: tuple[Split, ...] = ("validation", "test")
    corruption: ScanCorruptionConfig = ScanCorruptionConfig()
    seed: NonNegativeInt = 0


def segment_cases(
    cases: Iterable[CasePaths], segmenter: Segmenter, config: CohortConfig, output: Path
) -> dict[str, Any]:
    """Segment each scan, clean and corrupted, into ``output`` (laid out as ``data.segmented``).

    Returns:
        Per kind of scans ``num_cases`` and ``seconds_per_scan``, of the prediction alone.
    """
    for scans in SCANS:
        (output / scans).mkdir(parents=True, exist_ok=True)
    seconds: dict[str, list[float]] = {scans: [] for scans in SCANS}
    for case in cases:
        scan = read_image(case.scan)
        corrupted = corrupt_case(
            case.case_id, scan.volume, scan.spacing_mm, config.seed, config.corruption
        )
        write_image(output / "corrupted" / f"{case.case_id}_scan.nii.gz", corrupted, scan)
        for scans, image in zip(SCANS, (scan.volume, corrupted), strict=True):
            start = time.perf_counter()
            probabilities = segmenter.predict(image, scan.spacing_mm)
            seconds[scans].append(time.perf_counter() - start)
            mask = most_probable(probabilities)
            write_mask(mask_path(output, scans, case.case_id), mask, scan)
            write_probabilities(
                probabilities_path(output, scans, case.case_id), probabilities, scan
            )
    return {
        scans: {"num_cases": len(times), "seconds_per_scan": round(float(np.mean(times)), 4)}
        for scans, times in seconds.items()
    }
