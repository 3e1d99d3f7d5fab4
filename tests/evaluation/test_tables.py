"""What is read is what was written, infinities and all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cardiac_vae.evaluation.scores import CaseScores
from cardiac_vae.evaluation.tables import read_csv, write_csv
from cardiac_vae.labels import Structure

MakeRow = Callable[..., CaseScores]


def test_a_round_trip_is_exact(tmp_path: Path, make_row: MakeRow) -> None:
    rows = {
        "clean": {
            "segmenter": [
                make_row(dice=0.1 + 0.2, hd95_mm=float("inf"), broken={"detached_rv": 3})
            ],
            "refined": [make_row(dice=1 / 3), make_row("patient002", "es", group="DCM, old")],
        },
        "corrupted": {
            "segmenter": [make_row(volumes_ml=(1e-17, 2.5, 3.0))],
            "refined": [make_row(spurious_slices=(1, 0, 2), missed_slices=(0, 3, 4))],
        },
    }
    write_csv(tmp_path / "deep" / "rows.csv", rows)
    assert read_csv(tmp_path / "deep" / "rows.csv") == rows


def test_scores_of_an_absent_structure_stay_nan(tmp_path: Path, make_row: MakeRow) -> None:
    row = make_row()
    absent = replace(row.structures[Structure.RV], dice=float("nan"))
    row = replace(row, structures={**row.structures, Structure.RV: absent})
    write_csv(tmp_path / "rows.csv", {"clean": {"segmenter": [row]}})
    [read] = read_csv(tmp_path / "rows.csv")["clean"]["segmenter"]
    assert repr(read) == repr(row)  # NaN equals nothing, its text does


def test_misses_are_readable_in_the_file(tmp_path: Path, make_row: MakeRow) -> None:
    write_csv(tmp_path / "rows.csv", {"clean": {"segmenter": [make_row(volumes_ml=(0, 90, 100))]}})
    head, line = (text.split(",") for text in (tmp_path / "rows.csv").read_text().splitlines())
    values = dict(zip(head, line, strict=True))
    assert (values["rv_is_missed"], values["lv_is_missed"]) == ("1", "0")
    assert values["rv_is_spurious"] == "0"


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("case_id,dice\npatient001_ed,0.9\n")
    with pytest.raises(ValueError, match="expected a table of case scores"):
        read_csv(tmp_path / "rows.csv")
