"""Means, paired differences, counts and agreement of rows with known numbers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cardiac_vae.evaluation.patients import measure_patients
from cardiac_vae.evaluation.scores import CaseScores
from cardiac_vae.evaluation.summaries import summarize
from cardiac_vae.labels import Structure

MakeRow = Callable[..., CaseScores]
PATIENTS = [f"patient{number:03d}" for number in range(1, 7)]


def with_rv(row: CaseScores, **changes: float) -> CaseScores:
    rv = replace(row.structures[Structure.RV], **changes)
    return replace(row, structures={**row.structures, Structure.RV: rv})


@pytest.fixture
def summary(make_row: MakeRow) -> dict[str, Any]:
    return summarize(
        {
            "segmenter": [
                make_row(p, phase, dice=0.80 + 0.01 * i, slices=(10, 1, 8))
                for i, p in enumerate(PATIENTS)
                for phase in ("ed", "es")
            ],
            "refined": [
                make_row(p, phase, dice=0.82 + 0.01 * i, hd95_mm=5, slices=(10, 2, 10))
                for i, p in reversed(list(enumerate(PATIENTS)))
                for phase in ("es", "ed")
            ],
        }
    )


def test_means_and_intervals(summary: dict[str, Any]) -> None:
    dice = summary["variants"]["segmenter"]["metrics"]["dice_mean"]
    assert dice["mean"] == pytest.approx(0.825)
    assert 0.80 <= dice["low"] < dice["mean"] < dice["high"] <= 0.85
    assert (summary["num_cases"], summary["num_patients"]) == (12, 6)
    per_phase = summary["variants"]["segmenter"]["metrics"]["dice_lv_es"]
    assert (per_phase["mean"], per_phase["n"]) == (pytest.approx(0.825), 6)


def test_differences_are_variant_minus_reference_in_any_order(summary: dict[str, Any]) -> None:
    better = summary["differences"]["refined"]["dice_rv"]
    assert better["mean"] == pytest.approx(0.02)
    # Every case gains the same, so the interval of the difference has no width.
    assert better["low"] == pytest.approx(0.02)
    assert better["high"] == pytest.approx(0.02)
    assert summary["differences"]["refined"]["hd95_mm_lv"]["mean"] == pytest.approx(1)
    assert "segmenter" not in summary["differences"]


def test_validity_three_ways(summary: dict[str, Any]) -> None:
    before, after = (summary["variants"][v]["metrics"] for v in ("segmenter", "refined"))
    assert before["valid_slices"]["mean"] == pytest.approx(0.8)
    assert before["valid_slices_not_empty"]["mean"] == pytest.approx(7 / 9)
    assert before["valid_volumes"]["mean"] == 0
    assert [after[f"valid_{name}"]["mean"] for name in ("slices", "volumes")] == [1, 1]
    assert summary["differences"]["refined"]["valid_slices"]["mean"] == pytest.approx(0.2)
    counts = summary["variants"]["segmenter"]["counts"]
    assert (counts["slices"], counts["valid_slices"], counts["empty_slices"]) == (120, 96, 12)


def test_presence_errors_are_per_volume_and_their_interval_over_patients(
    make_row: MakeRow,
) -> None:
    before = [
        make_row("patient001", "ed", spurious_slices=(1, 0, 2), missed_slices=(0, 1, 0)),
        make_row("patient001", "es", missed_slices=(2, 0, 0)),
        make_row("patient002", "ed", spurious_slices=(0, 0, 1)),
    ]
    after = [make_row("patient001", "ed"), make_row("patient001", "es"), make_row("patient002")]
    summary = summarize({"segmenter": before, "refined": after})
    metrics = summary["variants"]["segmenter"]["metrics"]
    sums = {
        "spurious_slices": {"rv": 1, "myo": 0, "lv": 3, "total": 4},
        "missed_slices": {"rv": 2, "myo": 1, "lv": 0, "total": 3},
        "presence_errors": {"rv": 3, "myo": 1, "lv": 3, "total": 7},
    }
    for metric, by_name in sums.items():
        for name, expected in by_name.items():
            assert metrics[f"{metric}_{name}"]["mean"] == pytest.approx(expected / 3)
    # Of two patients the first has 6 errors in 2 volumes and the second 1 in 1: a quarter of the
    # draws takes the first twice, another the second twice.
    total = metrics["presence_errors_total"]
    assert (total["low"], total["high"], total["n"]) == (1, 3, 3)
    gain = summary["differences"]["refined"]["presence_errors_total"]
    assert (gain["low"], gain["high"], gain["n"]) == (-3, -1, 3)
    assert gain["mean"] == pytest.approx(-7 / 3)
    assert summary["variants"]["refined"]["metrics"]["missed_slices_rv"]["mean"] == 0


def test_a_miss_costs_the_diagonal_and_is_counted(make_row: MakeRow) -> None:
    found = [make_row("patient001"), make_row("patient002")]
    missed = [with_rv(found[0], dice=0, hd95_mm=float("inf"), volume_ml=0), found[1]]
    summary = summarize({"segmenter": missed, "refined": found})
    variant = summary["variants"]["segmenter"]
    assert variant["counts"]["missed"] == {"rv": 1, "myo": 0, "lv": 0}
    assert variant["metrics"]["hd95_mm_rv"]["mean"] == pytest.approx((400 + 4) / 2)
    assert variant["metrics"]["hd95_mm_rv"]["n"] == 2
    assert variant["metrics"]["dice_rv"]["mean"] == pytest.approx(0.45)
    assert summary["differences"]["refined"]["hd95_mm_rv"]["mean"] == pytest.approx(-198)


def test_removing_a_spurious_structure_earns_full_marks(make_row: MakeRow) -> None:
    nan, inf = float("nan"), float("inf")
    row = make_row()
    spurious = with_rv(row, dice=0, hd95_mm=inf, reference_volume_ml=0)
    absent = with_rv(row, dice=nan, hd95_mm=nan, reference_volume_ml=0, volume_ml=0)
    summary = summarize({"segmenter": [spurious], "refined": [absent]})
    assert summary["variants"]["segmenter"]["counts"]["spurious"]["rv"] == 1
    assert summary["differences"]["refined"]["dice_rv"]["mean"] == 1
    assert summary["differences"]["refined"]["hd95_mm_rv"]["mean"] == -400
    alone = summarize({"segmenter": [absent]})
    assert "dice_rv" not in alone["variants"]["segmenter"]["metrics"]
    assert alone["variants"]["segmenter"]["metrics"]["dice_mean"]["mean"] == pytest.approx(0.9)


def test_ejection_fraction_joins_the_phases(make_row: MakeRow) -> None:
    rows = []
    for patient, esv in (("patient001", 50.0), ("patient002", 30.0)):
        rows.append(make_row(patient, "ed", volumes_ml=(120, 90, 110)))
        rows.append(
            make_row(patient, "es", volumes_ml=(60, 90, 55), reference_volumes_ml=(60, 90, esv))
        )
    first, second = measure_patients(rows)
    assert first.reference["lv_ef_percent"] == pytest.approx(50)
    assert first.predicted["lv_ef_percent"] == pytest.approx(50)
    assert second.error("lv_ef_percent") == pytest.approx(50 - 70)
    assert first.error("lv_edv_ml") == pytest.approx(10)
    assert first.reference["mass_g"] == pytest.approx(90 * 1.05)
    agreement = summarize({"segmenter": rows})["variants"]["segmenter"]["agreement"]
    assert agreement["lv_ef_percent"]["bias"] == pytest.approx(-10)
    assert agreement["lv_ef_percent"]["n"] == 2
    assert agreement["rv_edv_ml"]["correlation"] is None  # constant: no correlation, no NaN in JSON


def test_a_heart_without_a_ventricle_counts_as_no_contraction(make_row: MakeRow) -> None:
    rows = [
        make_row("patient001", "ed", volumes_ml=(120, 90, 0)),
        make_row("patient001", "es", volumes_ml=(60, 90, 0), reference_volumes_ml=(60, 90, 40)),
    ]
    [patient] = measure_patients(rows)
    assert patient.error("lv_ef_percent") == pytest.approx(-60)


def test_one_phase_has_volumes_but_no_ejection_fraction(make_row: MakeRow) -> None:
    [patient] = measure_patients([make_row("patient001", "es")])
    assert sorted(patient.reference) == ["lv_esv_ml", "rv_esv_ml"]
    metrics = summarize({"segmenter": [make_row("patient001", "es")]})["variants"]["segmenter"][
        "metrics"
    ]
    assert "abs_error_lv_ef_percent" not in metrics
    assert metrics["abs_error_lv_esv_ml"]["mean"] == 0


def test_one_patient_has_no_interval(make_row: MakeRow) -> None:
    rows = [make_row("patient001", "ed"), make_row("patient001", "es", dice=0.7)]
    better = [make_row("patient001", "ed", dice=1), make_row("patient001", "es", dice=1)]
    summary = summarize({"segmenter": rows, "refined": better})
    for found in (
        summary["variants"]["segmenter"]["metrics"]["dice_lv"],
        summary["differences"]["refined"]["dice_lv"],
    ):
        assert (found["low"], found["high"], found["n"]) == (None, None, 2)
    assert found["mean"] == pytest.approx(0.2)


def test_other_cases_are_refused(make_row: MakeRow) -> None:
    rows = {"segmenter": [make_row("patient001")], "refined": [make_row("patient002")]}
    with pytest.raises(ValueError, match=r"refined: expected the 1 cases .*patient001_ed"):
        summarize(rows)
    with pytest.raises(ValueError, match="expected rows of the variant 'segmenter'"):
        summarize({"refined": rows["refined"]})
