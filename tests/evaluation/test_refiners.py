"""Differences, intervals and worst cases of rows with known numbers, and a cohort refined."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cardiac_vae.data.segmented import SCANS, read_structures
from cardiac_vae.evaluation.refiner_variants import SegmentedScan, Variant
from cardiac_vae.evaluation.refiners import METRICS, SEGMENTER, compare, score_refiners
from cardiac_vae.evaluation.scores import CaseScores
from cardiac_vae.labels import Structure
from cardiac_vae.refinement.baselines import largest_component_and_filled_holes

MakeRow = Callable[..., CaseScores]


@pytest.fixture
def compared(make_row: MakeRow) -> dict[str, dict[str, Any]]:
    """Return two patients, one phase each: Dice changes by 2 and -1 points, HD95 by -2 and 0 mm."""
    rows = {
        SEGMENTER: [
            make_row("a", dice=0.80, slices=(10, 1, 8), spurious_slices=(2, 0, 0)),
            make_row("b", dice=0.90, slices=(10, 1, 10), volumes_ml=(120, 90, 110)),
        ],
        "z/harms": [
            make_row("b", dice=0.89, slices=(10, 1, 10), missed_slices=(0, 0, 1)),
            make_row("a", dice=0.82, hd95_mm=2.0, slices=(10, 1, 10)),
        ],
        "a/same": [],
    }
    rows["a/same"] = rows[SEGMENTER][::-1]
    return compare(rows)


def test_rows_keep_their_order(compared: dict[str, Any]):
    assert list(compared) == [SEGMENTER, "z/harms", "a/same"]


def test_differences_are_paired_and_their_intervals_draw_patients(compared: dict[str, Any]):
    found = compared["z/harms"]["differences"]
    # A quarter of the draws takes the first patient twice, another the second: the ends.
    expected = {
        "dice_points": (0.5, -1, 2),
        "hd95_percent": (-25, -50, 0),  # 4 and 4 mm become 2 and 4
        "valid_volumes": (0.5, 0, 1),
        "valid_slices": (0.1, 0, 0.2),
        "presence_errors_total": (-0.5, -2, 1),
        "spurious_slices_total": (-1, -2, 0),
        "missed_slices_total": (0.5, 0, 1),
    }
    assert set(found) == set(expected)
    for name, ends in expected.items():
        assert [found[name][key] for key in ("mean", "low", "high")] == pytest.approx(ends), name


def test_one_harmed_volume_shows(compared: dict[str, Any]):
    worst = compared["z/harms"]["worst_change"]
    assert worst["case_id"] == "b_ed"
    assert worst["points"] == pytest.approx(-1)


def test_without_a_change_a_variant_is_the_segmenter(compared: dict[str, Any]):
    same, before = compared["a/same"], compared[SEGMENTER]
    assert same["metrics"] == before["metrics"]
    assert same["agreement"] == before["agreement"]
    assert {tuple(d[k] for k in ("mean", "low", "high")) for d in same["differences"].values()} == {
        (0, 0, 0)
    }
    assert same["worst_change"]["points"] == 0
    assert before["differences"] == {}
    assert before["worst_change"] is None


def test_metrics_are_those_of_the_summary(compared: dict[str, Any]):
    metrics = compared[SEGMENTER]["metrics"]
    assert list(metrics) == list(METRICS)
    assert metrics["dice_mean"]["mean"] == pytest.approx(0.85)
    assert metrics["valid_slices"]["mean"] == pytest.approx(0.9)
    bias = {name: compared[name]["agreement"]["lv_edv_ml"]["bias"] for name in compared}
    assert bias == {SEGMENTER: pytest.approx(5), "z/harms": 0, "a/same": pytest.approx(5)}


def test_perfect_masks_have_no_distance_to_change(make_row: MakeRow):
    rows = [make_row("a", hd95_mm=0.0), make_row("b", hd95_mm=0.0)]
    found = compare({SEGMENTER: rows, "same": rows})
    assert found["same"]["differences"]["hd95_percent"] is None
    json.dumps(found, allow_nan=False)


def test_every_variant_sees_the_scan_and_is_scored_on_what_it_returns(cohort: Any):
    for case in cohort.cases:
        path = cohort.segmented / "corrupted" / f"{case.case_id}_scan.nii.gz"
        shutil.copyfile(cohort.root / "scan.nii.gz", path)
    seen: list[SegmentedScan] = []

    def keep(scan: SegmentedScan) -> np.ndarray:
        seen.append(scan)
        return scan.mask.copy()

    def without_rv(scan: SegmentedScan) -> np.ndarray:
        return np.where(scan.mask == Structure.RV, 0, scan.mask).astype(np.uint8)

    variants = [
        Variant("", "baseline", lambda scan: largest_component_and_filled_holes(scan.mask)),
        Variant("vae", "without_rv", without_rv),
        Variant("vae", "keep", keep),
    ]
    found = score_refiners(cohort.cases[:4], cohort.segmented, variants)
    assert list(found) == list(SCANS)
    assert len(seen) == 8
    for scan, case in zip(seen[::2], cohort.cases, strict=False):
        path = cohort.segmented / "clean" / f"{case.case_id}_mask.nii.gz"
        np.testing.assert_array_equal(scan.mask, read_structures(path))
        np.testing.assert_array_equal(scan.probabilities.argmax(axis=1), scan.mask)
    assert all(scan.image is not None for scan in seen[1::2])
    for scores in found.values():
        assert (scores["num_cases"], scores["num_patients"]) == (4, 2)
        by_name = scores["variants"]
        assert list(by_name) == [SEGMENTER, "baseline", "vae/without_rv", "vae/keep"]
        assert by_name["vae/keep"]["metrics"] == by_name[SEGMENTER]["metrics"]
        assert by_name["vae/without_rv"]["metrics"]["dice_rv"]["mean"] == 0
        assert by_name["vae/without_rv"]["worst_change"]["points"] < -20
        assert by_name["vae/without_rv"]["agreement"]["rv_edv_ml"]["bias"] < 0
        assert (by_name["vae/keep"]["model"], by_name["vae/keep"]["kind"]) == ("vae", "keep")
        assert by_name[SEGMENTER]["seconds_per_scan"] is None
        assert by_name["vae/keep"]["seconds_per_scan"] >= 0
    corrupted, clean = (found[s]["variants"][SEGMENTER]["metrics"] for s in ("corrupted", "clean"))
    spurious = "spurious_slices_total"
    assert corrupted[spurious]["mean"] == pytest.approx(clean[spurious]["mean"] + 1)
    json.dumps(found, allow_nan=False)
