"""``cardiac-vae measure`` with probabilities and a calibration: intervals of all that it prints."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cardiac_vae.labels import HEART, Structure
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.uncertainty import ErrorModel, ejection_fraction_interval

SPACING = (8.0, 1.5, 1.5)
ERRORS = ErrorModel(rv=0.2, myo=0.1, lv=0.4)
NAMES = {Structure.RV: "rv_ml", Structure.LV: "lv_ml", Structure.MYO: "myo_ml"}


def unsure(mask: np.ndarray) -> np.ndarray:
    """Return probabilities (C, D, H, W) that give the class of a mask 0.85."""
    return (0.8 * np.eye(4)[mask].transpose(3, 0, 1, 2) + 0.05).astype(np.float32)


@pytest.fixture
def phases(heart) -> dict[str, np.ndarray]:
    """Return a heart at end-diastole and, one slice shorter, at end-systole."""
    es = heart.copy()
    es[3] = Structure.BACKGROUND
    return {"ed": heart, "es": es}


@pytest.fixture
def asked(tmp_path: Path, write_nifti, phases) -> tuple:
    """Return the arguments of a run that asks for the intervals of a heart."""
    Calibration(errors=ERRORS).save(tmp_path / "calibration")
    for phase, mask in phases.items():
        write_nifti(f"masks/p1_{phase}.nii.gz", mask)
        write_nifti(f"probabilities/p1_{phase}.nii.gz", unsure(mask))
    return (
        *("measure", tmp_path / "masks", "--probabilities", tmp_path / "probabilities"),
        *("--calibration", tmp_path / "calibration"),
    )


@pytest.fixture
def expected(phases) -> dict:
    """Return how sure each phase is, by the functions themselves."""
    calibration = Calibration(errors=ERRORS)
    return {
        phase: calibration.uncertainty(mask, unsure(mask).swapaxes(0, 1), SPACING)
        for phase, mask in phases.items()
    }


def test_the_report_has_the_intervals_of_volumes_mass_and_fractions(run, asked, expected, tmp_path):
    report = tmp_path / "report.json"
    result = run(*asked, "--report", report)
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    for volume, phase in zip(found["volumes"], ("ed", "es"), strict=True):
        for structure in HEART:
            intervals = volume["measurements"][NAMES[structure]]["intervals"]
            for level, ends in expected[phase].intervals_ml()[structure].items():
                assert intervals[f"{100 * level:.0f}"] == pytest.approx(ends)
        mass, myo = (volume["measurements"][name] for name in ("mass_g", "myo_ml"))
        assert mass["intervals"]["90"] == pytest.approx(1.05 * np.array(myo["intervals"]["90"]))
    [heart] = found["hearts"]
    ed, es = (expected[phase].levels for phase in ("ed", "es"))
    for side, structure, share in (("lv", Structure.LV, 0.4), ("rv", Structure.RV, 0.2)):
        fraction = heart["measurements"][f"{side}_ef_percent"]
        for level in (0.5, 0.9):
            interval = ejection_fraction_interval(ed, es, structure, share, level)
            assert fraction["intervals"][f"{100 * level:.0f}"] == pytest.approx(interval)
    of_ed = found["volumes"][0]["measurements"]
    assert heart["measurements"]["lv_edv_ml"] == of_ed["lv_ml"]
    assert heart["measurements"]["mass_g"] == of_ed["mass_g"]


def test_the_tables_show_the_90_percent_intervals(run, asked, expected):
    result = run(*asked)
    assert result.exit_code == 0, result.output
    low, high = expected["ed"].intervals_ml()[Structure.LV][0.9]
    assert f" ({low:.0f} to {high:.0f})" in result.stdout
    ed, es = (expected[phase].levels for phase in ("ed", "es"))
    low, high = ejection_fraction_interval(ed, es, Structure.LV, ERRORS.lv, 0.9)
    assert f"25.0 ({low:.0f} to {high:.0f})" in result.stdout
    assert result.stdout.endswith("\n2 volumes, 1 heart; in parentheses 90 % intervals\n")


def test_the_tables_on_file_have_the_ends_beside_each_value(run, asked, tmp_path):
    run(*asked, "--report", tmp_path / "report.csv")
    for name, measured in (("report", "lv_ml"), ("report_hearts", "lv_ef_percent")):
        rows = csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines())
        columns = list(rows.fieldnames or ())
        at = columns.index(measured)
        ends = [f"{measured}_{level}_{end}" for level in (50, 90) for end in ("low", "high")]
        assert columns[at + 1 : at + 5] == ends
        row = next(rows)
        low, inner_low, inner_high, high = (float(row[ends[i]]) for i in (2, 0, 1, 3))
        assert low < inner_low < inner_high < high


def test_one_mask_with_the_file_of_its_probabilities(run, asked, tmp_path):
    result = run(
        *("measure", tmp_path / "masks" / "p1_ed.nii.gz"),
        *("--probabilities", tmp_path / "probabilities" / "p1_ed.nii.gz", *asked[-2:]),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("\n1 volume, 0 hearts; in parentheses 90 % intervals\n")


def test_a_calibration_without_errors_gives_no_intervals_and_says_so(run, asked, tmp_path):
    Calibration().save(tmp_path / "calibration")
    result = run(*asked)
    assert result.exit_code == 0, result.output
    assert "no uncertainty.json in it, so volumes get no intervals" in result.stderr
    assert " to " not in result.stdout
    assert "intervals" not in result.stdout


@pytest.mark.parametrize("left_out", ["--probabilities", "--calibration"])
def test_one_of_the_two_asks_for_the_other(run, asked, left_out):
    at = asked.index(left_out)
    result = run(*asked[:at], *asked[at + 2 :])
    assert result.exit_code == 2
    assert result.stdout == ""
    [error] = result.stderr.splitlines()
    assert error.startswith(f"error: {left_out}: expected a path beside ")


def test_a_cine_has_no_probabilities(run, asked, write_nifti, phases):
    write_nifti("masks/cine.nii.gz", np.stack(list(phases.values())))
    write_nifti("probabilities/cine.nii.gz", unsure(phases["ed"]))
    result = run(*asked)
    assert result.exit_code == 2
    assert "2 volumes, 1 heart" in result.stdout
    assert "expected no probabilities for a cine mask" in result.stderr


def test_probabilities_on_another_grid_or_missing_are_named(run, asked, write_nifti, tmp_path):
    write_nifti("probabilities/p1_ed.nii.gz", np.full((4, 4, 60, 72), 0.25, np.float32))
    (tmp_path / "probabilities" / "p1_es.nii.gz").unlink()
    result = run(*asked)
    assert result.exit_code == 2
    *_, grid, absent = result.stderr.splitlines()
    assert "p1_ed.nii.gz: expected the grid of" in grid
    assert "p1_es.nii.gz" in absent
