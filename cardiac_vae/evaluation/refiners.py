"""Ways to refine, side by side on the same segmented scans, each against the segmenter as it is.

Scored in memory, by the conventions of ``summaries``: a miss is a miss, intervals draw patients,
and differences are paired case by case.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.nifti import read_image, read_probabilities
from cardiac_vae.data.segmented import SCANS, mask_path, probabilities_path, read_structures
from cardiac_vae.evaluation.intervals import relative_difference
from cardiac_vae.evaluation.refiner_variants import SegmentedScan, Variant
from cardiac_vae.evaluation.scores import CaseScores, score_case
from cardiac_vae.evaluation.summaries import case_tables, summarize
from cardiac_vae.evaluation.tables import RowsByVariant

SEGMENTER = "segmenter"
METRICS = (
    "dice_mean",
    "dice_rv",
    "dice_myo",
    "dice_lv",
    "hd95_mm_mean",
    "valid_volumes",
    "valid_slices",
    "presence_errors_total",
    "spurious_slices_total",
    "missed_slices_total",
)
"""Of ``summarize``; all but Dice and distance also as differences, under the same names."""


def score_refiners(
    cases: Iterable[CardiacCase], segmented: Path, variants: Sequence[Variant], seed: int = 0
) -> dict[str, Any]:
    """Refine and score every segmented case (folder laid out as ``data.segmented``).

    Returns:
        By kind of scans ``num_cases``, ``num_patients`` and ``variants``: name -> ``compare``, and
        beside it ``model``, ``kind`` and ``seconds_per_scan`` of the refinement alone; the
        segmenter first, then in the order given.

    Raises:
        FileNotFoundError: if a case was not segmented.
        ValueError: if there is no case, or a mask is not on its case's grid.
    """
    names = [SEGMENTER, *(variant.name for variant in variants)]
    rows: dict[str, dict[str, list[CaseScores]]] = {s: {n: [] for n in names} for s in SCANS}
    seconds: dict[str, dict[str, list[float]]] = {s: {n: [] for n in names} for s in SCANS}
    for case in cases:
        for scans in SCANS:
            scan = read_segmented_scan(case, scans, segmented)
            before = score_case(case, scan.mask)
            rows[scans][SEGMENTER].append(before)
            for variant in variants:
                start = perf_counter()
                refined = variant.refine(scan)
                seconds[scans][variant.name].append(perf_counter() - start)
                is_same = np.array_equal(refined, scan.mask)
                after = before if is_same else score_case(case, refined)
                rows[scans][variant.name].append(after)
    known = {variant.name: {"model": variant.model, "kind": variant.kind} for variant in variants}
    return {
        scans: {
            "num_cases": len(of_scans[SEGMENTER]),
            "num_patients": len({row.patient_id for row in of_scans[SEGMENTER]}),
            "variants": {
                name: {
                    **known.get(name, {"model": "", "kind": SEGMENTER}),
                    "seconds_per_scan": _mean(seconds[scans][name]),
                    **scores,
                }
                for name, scores in compare(of_scans, seed).items()
            },
        }
        for scans, of_scans in rows.items()
    }


def read_segmented_scan(case: CardiacCase, scans: str, segmented: Path) -> SegmentedScan:
    """Read what the segmenter made of a case's scan of one kind, and the scan itself.

    Raises:
        FileNotFoundError: if the case was not segmented.
    """
    image = case.image
    if scans != SCANS[0]:
        image = read_image(segmented / scans / f"{case.case_id}_scan.nii.gz").volume
    return SegmentedScan(
        mask=read_structures(mask_path(segmented, scans, case.case_id)),
        probabilities=read_probabilities(probabilities_path(segmented, scans, case.case_id))[0],
        spacing_mm=case.spacing_mm,
        image=image,
        phase=case.phase,
    )


def compare(rows_by_variant: RowsByVariant, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return the scores of each variant, the segmenter among them, as plain values for JSON.

    - ``metrics``: those of ``METRICS`` (mean, low, high, n).
    - ``differences`` to the segmenter (the same): ``dice_points``, of the mean Dice times 100;
      ``hd95_percent``, by how much the mean HD95 changes relative to the segmenter's; the other
      ``METRICS`` under their own names. Of the segmenter none.
    - ``worst_change``: the largest loss of Dice of a volume, or the smallest gain where none loses:
      ``points`` (times 100) and ``case_id``. None of the segmenter.
    - ``agreement``: bias, limits and correlation of volumes, ejection fractions and mass.

    Raises:
        ValueError: as ``summarize``.
    """
    summary = summarize(rows_by_variant, SEGMENTER, seed)
    ordered = {
        name: sorted(rows, key=lambda row: row.case_id) for name, rows in rows_by_variant.items()
    }
    tables = case_tables(ordered)
    dice, hd95_mm = tables["dice_mean"], tables["hd95_mm_mean"]
    cases = [row.case_id for row in ordered[SEGMENTER]]
    patients = [row.patient_id for row in ordered[SEGMENTER]]
    compared: dict[str, dict[str, Any]] = {}
    for name, scores in summary["variants"].items():
        compared[name] = {
            "metrics": {key: scores["metrics"].get(key) for key in METRICS},
            "differences": {},
            "worst_change": None,
            "agreement": scores["agreement"],
        }
        if name == SEGMENTER:
            continue
        found = summary["differences"][name]
        shorter = relative_difference(hd95_mm[name], hd95_mm[SEGMENTER], patients, seed)
        compared[name]["differences"] = {
            "dice_points": _times_100(found.get("dice_mean")),
            "hd95_percent": _times_100(shorter),
            **{key: found.get(key) for key in METRICS if not key.startswith(("dice", "hd95"))},
        }
        compared[name]["worst_change"] = _worst(dice[name] - dice[SEGMENTER], cases)
    return compared


def _times_100(interval: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    ends = {key: interval[key] for key in ("mean", "low", "high")}
    return {**interval, **{key: None if end is None else 100 * end for key, end in ends.items()}}


def _worst(change: np.ndarray, cases: Sequence[str]) -> dict[str, Any] | None:
    if np.isnan(change).all():
        return None
    at = int(np.nanargmin(change))
    return {"points": 100 * float(change[at]), "case_id": cases[at]}


def _mean(seconds: Sequence[float]) -> float | None:
    return round(float(np.mean(seconds)), 4) if seconds else None
