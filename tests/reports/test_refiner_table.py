"""One table per segmenter; bold is what beats the segmenter by more than chance."""

import re
from pathlib import Path
from typing import Any

from cardiac_vae.data.preparation import PreparationConfig
from cardiac_vae.reports.inputs import read_study
from cardiac_vae.reports.refiner_table import refiners

METRICS = ("dice_mean", "hd95_mm_mean", "valid_volumes", "valid_slices", "presence_errors_total")


def of(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": 4}


def variant(
    model: str, kind: str, dice: float, points: float | None, half: float = 0.1
) -> dict[str, Any]:
    agreement = {"bias": -1.5, "lower": -4.0, "upper": 1.0, "correlation": 0.987, "n": 4}
    changes = {
        "dice_points": of(points or 0, half),
        "hd95_percent": of(-25, 30),
        "valid_volumes": of(0.5, 0.2),
        "presence_errors_total": of(-0.25, 0.1),
    }
    return {
        "model": model,
        "kind": kind,
        "seconds_per_scan": None if points is None else 0.54,
        "metrics": {name: of(dice, 0.02) for name in METRICS},
        "differences": {} if points is None else changes,
        "worst_change": None if points is None else {"points": -0.44, "case_id": "a_ed"},
        "agreement": {"lv_ef_percent": agreement},
    }


def scores() -> dict[str, Any]:
    variants = {
        "segmenter": variant("", "segmenter", 0.85, None),
        "baseline": variant("", "baseline", 0.85, 0.0),
        "vae/random_search_32": variant("vae", "random_search_32", 0.851, 0.1, 0.5),
        "vae/product": variant("vae", "product", 0.87, 2.0),
        "nvae/product": variant("nvae", "product", 0.88, 3.0, 3.5),
    }
    of_scans = {"num_cases": 4, "num_patients": 2, "variants": variants}
    return {
        "split": "validation",
        "left_out": {"ae/nearest_drawn": "no density"},
        "scans": {"clean": of_scans, "corrupted": of_scans},
    }


def rows_of(table: str) -> list[list[str]]:
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in table.split("<tr>")[2:]]


def test_rows_are_variants_and_columns_both_kinds_of_scans():
    section = refiners({"strong": scores(), "weak": scores()})
    tables = [part for part in section.parts if "class='stacked'" in part]
    assert len(tables) == 2
    rows = rows_of(tables[0])
    assert [row[0] for row in rows] == [
        "Segmenter as it is",
        "Largest component, holes filled",
        "vae: random search, 32 decodings",
        "vae: product",
        "nvae: product",
    ]
    # Dice, distance, validity, presence and the worst volume on both kinds of scans; time.
    assert all(len(row) == 1 + 2 * 5 + 1 for row in rows)
    assert tables[0].index("Clean scans") < tables[0].index("Corrupted scans")
    assert tables[0].count("<tbody>") == 3  # baselines, and the modes of each model
    minus = "\N{MINUS SIGN}"
    assert rows[0][1] == "0.850<small>[0.830, 0.870]</small>"
    assert rows[0][5] == rows[0][-1] == "\N{EN DASH}"
    assert rows[3][2] == f"0.9<small>{minus}25.0 [{minus}55.0, 5.0]</small>"
    assert rows[3][5] == f"{minus}0.4"
    assert rows[3][-1] == "0.5"
    text = "".join(section.parts)
    assert "Segmenter: strong" in text
    assert "4 volumes of 2 patients (validation)." in text
    assert "Left out: ae/nearest_drawn (no density)." in text
    assert f"{minus}1.5 [{minus}4.0, 1.0], r 0.987" in text


def test_the_best_is_bold_only_if_it_beats_the_segmenter_by_more_than_chance():
    found = scores()
    [table] = [part for part in refiners({"s": found}).parts if "class='stacked'" in part]
    rows = rows_of(table)
    assert [row[1].startswith("<b>") for row in rows] == [False] * 5  # the best may be by chance
    found["scans"]["clean"]["variants"]["nvae/product"] = variant("nvae", "product", 0.88, 3.0)
    [table] = [part for part in refiners({"s": found}).parts if "class='stacked'" in part]
    rows = rows_of(table)
    assert [row[1].startswith("<b>") for row in rows] == [False] * 4 + [True]
    # Of presence errors fewer are better: the baseline's, though the segmenter has as few.
    assert [row[4].startswith("<b>") for row in rows] == [False, True, False, False, False]


def test_without_a_comparison_there_is_no_section():
    assert refiners({}).parts == []


def test_what_the_stage_wrote_is_read_and_told(study: Path, preparation: PreparationConfig):
    found = read_study(study, preparation, "unet").refiners
    assert list(found) == ["unet"]
    section = refiners(found)
    [table] = [part for part in section.parts if "class='stacked'" in part]
    rows = rows_of(table)
    assert [row[0] for row in rows] == [
        "Segmenter as it is",
        "Largest component, holes filled",
        "Refined",
    ]
    # Without the speck all slices are hearts, in every patient; the baseline left it where it was.
    assert [row[3].startswith("<b>100.0</b>") for row in rows] == [False, False, True]
    assert "0.00 [0.00, 0.00]" in rows[1][1]
