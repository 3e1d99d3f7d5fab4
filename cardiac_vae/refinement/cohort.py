"""A cohort through the refiner: what the segmenter left, made plausible, with every decision."""

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cardiac_vae.anatomy.criteria import VolumeVerdict
from cardiac_vae.data.heart_names import HeartName
from cardiac_vae.data.nifti import read_mask, read_probabilities, write_mask
from cardiac_vae.data.segmented import (
    SCANS,
    case_ids,
    mask_path,
    probabilities_path,
    refined_path,
)
from cardiac_vae.refinement.refine import Refiner
from cardiac_vae.refinement.result import RefinementResult


def refine_cases(segmented: Path, refiner: Refiner, output: Path) -> dict[str, Any]:
    """Refine every segmented mask with its probabilities; one that stays is copied as it is.

    Returns:
        Per kind of scans ``num_cases``, ``num_changed``, ``num_refused`` (left as they are),
        ``seconds_per_scan`` of the refinement alone, ``routes`` (number of slices by what was done
        to them) and ``cases``, a list with the decisions slice by slice.
    """
    return {scans: _refine_scans(segmented, scans, refiner, output) for scans in SCANS}


def _refine_scans(segmented: Path, scans: str, refiner: Refiner, output: Path) -> dict[str, Any]:
    (output / scans).mkdir(parents=True, exist_ok=True)
    seconds, decisions = [], []
    routes: Counter[str] = Counter()
    for case_id in case_ids(segmented, scans):
        source, target = mask_path(segmented, scans, case_id), refined_path(output, scans, case_id)
        mask = read_mask(source)
        probabilities, _ = read_probabilities(probabilities_path(segmented, scans, case_id))
        start = time.perf_counter()
        result = refiner.refine(
            mask.volume.astype(np.uint8),
            mask.spacing_mm,
            probabilities,
            phase=HeartName.parse(Path(case_id)).phase,
        )
        seconds.append(time.perf_counter() - start)
        if result.is_changed:
            write_mask(target, result.mask, mask)
        else:
            shutil.copyfile(source, target)
        routes.update(decision.route for decision in result.slices)
        decisions.append({"case_id": case_id, **_as_values(result)})
    return {
        "num_cases": len(decisions),
        "num_changed": sum(case["is_changed"] for case in decisions),
        "num_refused": sum(case["is_refused"] for case in decisions),
        "seconds_per_scan": round(float(np.mean(seconds)), 4),
        "routes": dict(routes),
        "cases": decisions,
    }


def _as_values(result: RefinementResult) -> dict[str, Any]:
    return {
        "is_changed": result.is_changed,
        "is_refused": result.is_refused,
        "before": _verdict(result.before),
        "after": _verdict(result.after),
        "slices": [
            {"index": slice_.index, "route": slice_.route, "changed_pixels": slice_.changed_pixels}
            for slice_ in result.slices
        ],
        "warnings": list(result.warnings),
    }


def _verdict(verdict: VolumeVerdict) -> dict[str, Any]:
    return {
        "is_valid": verdict.is_valid,
        "num_valid_slices": verdict.num_valid_slices,
        "broken": {name: count for name, count in verdict.broken.items() if count},
    }
