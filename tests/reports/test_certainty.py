"""What the page says of calibration: counts of the held values, widths, and the voxels' errors."""

import re
from typing import Any

from cardiac_vae.reports.certainty import certainty
from cardiac_vae.reports.inputs import RecipeResults


def quality(share: float, n: int, width: float) -> dict[str, Any]:
    coverage = {"mean": share, "low": 0.0, "high": 1.0, "n": n}
    return {"coverage": coverage, "width": width, "score": width}


def recipe(name: str, uncertainty: dict[str, Any]) -> RecipeResults:
    return RecipeResults(name, {"uncertainty": uncertainty}, {}, {}, {})


def scans(error: float, held: float) -> dict[str, Any]:
    bins = [
        {"count": 30, "confidence": 0.62, "accuracy": 0.6},
        {"count": 70, "confidence": 0.95, "accuracy": 0.9},
    ]
    voxels = {"expected_error": error, "brier": 0.2, "reliability": bins}
    intervals = {"lv_ml": {"50": quality(held / 2, 20, 12.4), "90": quality(held, 20, 32.0)}}
    return {"voxels": voxels, "intervals": intervals}


def rows_of(table: str) -> list[list[str]]:
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in table.split("<tr>")[2:]]


def test_a_row_holds_errors_counts_and_widths():
    found = {"clean": scans(0.004, 0.9), "corrupted": scans(0.012, 0.7)}
    section = certainty([recipe("nvae", found), recipe("vae", found)], {"nvae": "#000000"})
    [table] = [part for part in section.parts if "class='stacked'" in part]
    rows = rows_of(table)
    assert [row[0] for row in rows] == [
        "Clean scans, nvae",
        "Clean scans, vae",
        "Corrupted scans, nvae",
        "Corrupted scans, vae",
    ]
    # ECE, Brier, and five measures at two levels, of which one is known.
    assert all(len(row) == 1 + 2 + 2 * 5 for row in rows)
    assert rows[0][1:4] == ["0.004", "0.200", "9 of 20<small>width 12</small>"]
    assert rows[2][8] == "14 of 20<small>width 32</small>"
    assert rows[0][4] == "\N{EN DASH}"
    assert any("data:image/png" in part for part in section.parts)


def test_without_judged_voxels_there_is_no_section():
    nothing = {"clean": {"voxels": None, "intervals": {}}}
    assert not certainty([recipe("nvae", nothing)], {}).parts
    assert not certainty([RecipeResults("nvae", {}, {}, {}, {})], {}).parts
