"""``cardiac-vae measure``: volumes and hearts by hand, which files are one heart, the reports."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cardiac_vae.labels import Structure

ML = 0.1  # of a voxel of 2 x 5 x 10 mm
ZOOMS = (2.0, 5.0, 10.0)


def box(lv: int, myo: int = 0, rv: int = 0) -> np.ndarray:
    """Return a mask (2, 20, 30) with so many voxels of each structure."""
    mask = np.zeros((2, 20, 30), np.uint8)
    counts = ((Structure.LV, lv), (Structure.MYO, myo), (Structure.RV, rv))
    mask.flat[: lv + myo + rv] = np.concatenate([np.full(n, s) for s, n in counts])
    return mask


def cells(text: str, start: str) -> list[str]:
    """Return the cells of the only printed row that starts with a text."""
    [line] = [line for line in text.splitlines() if line.startswith(f"{start} ")]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


@pytest.fixture
def write(write_nifti):
    """Return a writer of masks with voxels of 0.1 ml."""
    return lambda name, mask: write_nifti(name, mask, zooms=ZOOMS)


def test_the_volumes_of_a_mask(run, write):
    result = run("measure", write("mask.nii.gz", box(lv=100, myo=200, rv=50)), "--labels", "acdc")
    assert result.exit_code == 0
    lv, myo, rv, mass = cells(result.stdout, "mask.nii.gz")[3:]
    assert (lv, myo, rv) == ("10.0", "20.0", "5.0")
    assert mass == "21.0"  # 1.05 g/ml
    assert result.stdout.endswith("\n1 volume, 0 hearts\n")
    assert result.stderr == ""


def test_a_mask_says_how_many_of_its_slices_are_plausible(run, write_nifti, heart, broken):
    assert cells(run("measure", write_nifti("a.nii", heart)).stdout, "a.nii")[2] == "4 of 4"
    assert cells(run("measure", write_nifti("b.nii", broken)).stdout, "b.nii")[2] == "2 of 4"


def test_two_files_are_a_heart(run, write, tmp_path):
    write("masks/p1_frame01_gt.nii.gz", box(lv=40, myo=110, rv=60))
    write("masks/p1_frame12_gt.nii.gz", box(lv=100, myo=100, rv=80))
    write("masks/p2_frame01_gt.nii.gz", box(lv=90, myo=90, rv=90))
    result = run("measure", tmp_path / "masks", "--labels", "acdc")
    assert result.exit_code == 0
    edv, esv, stroke, fraction = "10.0", "4.0", "6.0", "60.0"
    assert cells(result.stdout, "p1_gt") == [
        *("p1_gt", "frame12", "frame01", edv, esv, stroke, fraction),
        *("8.0", "6.0", "25.0"),
        "10.5",  # 10 ml at end-diastole
    ]
    assert result.stdout.endswith("\n3 volumes, 1 heart\n")


def test_the_two_files_may_have_different_voxels(run, write, write_nifti, tmp_path):
    write("p1_ed.nii.gz", box(lv=100, rv=50))
    write_nifti("p1_es.nii.gz", box(lv=100, rv=50), zooms=(1.0, 5.0, 10.0))
    files = (tmp_path / "p1_ed.nii.gz", tmp_path / "p1_es.nii.gz")
    result = run("measure", *files, "--labels", "acdc")
    assert cells(result.stdout, "p1")[3:7] == ["10.0", "5.0", "5.0", "50.0"]


@pytest.mark.parametrize(
    ("volumes", "ed", "es"),
    [
        ({"frame01": 90, "frame12": 40}, "frame01", "frame12"),
        ({"frame01": 40, "frame12": 90}, "frame12", "frame01"),
        ({"frame01": 80, "frame05": 30, "frame09": 90}, "frame09", "frame05"),
        ({"frame01": 80, "frame05": 0, "frame09": 90}, "frame09", "frame01"),
        ({"ed": 40, "es": 90}, "ed", "es"),
        ({"ed": 40, "frame05": 90, "frame09": 60}, "ed", "frame09"),
        ({"es": 60, "frame05": 40, "frame09": 90}, "frame09", "es"),
        ({"ed_frame01": 80, "ed_frame02": 90, "es_frame09": 95}, "ed_frame02", "es_frame09"),
        ({"es_frame01": 90, "es_frame09": 40}, "es_frame01", "es_frame09"),
        ({"ed_frame01": 40, "ed_frame09": 90}, "ed_frame09", "ed_frame01"),
    ],
)
def test_which_is_end_diastole_and_which_end_systole(run, write, tmp_path, volumes, ed, es):
    """Names go before sizes, and a file without an LV is the last to be taken for end-systole."""
    for instant, lv in volumes.items():
        write(f"masks/p1_{instant}.nii.gz", box(lv=lv, rv=50))
    result = run("measure", tmp_path / "masks", "--labels", "acdc")
    assert cells(result.stdout, "p1")[1:3] == [ed, es]


def test_a_cine_is_a_heart(run, write):
    """Frames that were not annotated have no LV, and are not end-systole."""
    frames = [box(lv=n, rv=n // 2) for n in (80, 0, 100, 0, 30, 60)]
    result = run("measure", write("cine.nii.gz", np.stack(frames)), "--labels", "acdc")
    assert result.exit_code == 0
    assert cells(result.stdout, "cine.nii.gz  2")[3] == "10.0"
    heart = cells(result.stdout, "cine.nii.gz  frame")
    assert heart[1:7] == ["frame 2", "frame 4", "10.0", "3.0", "7.0", "70.0"]
    assert result.stdout.endswith("\n6 volumes, 1 heart\n")
    [warning] = result.stderr.splitlines()
    assert warning.endswith("cine.nii.gz: all background in 2 of 6 frames, so the volumes are 0")


def test_a_cine_joins_no_files(run, write, tmp_path):
    write("masks/p1_frame01.nii.gz", np.stack([box(lv=80, rv=9), box(lv=40, rv=9)]))
    write("masks/p1_frame12.nii.gz", box(lv=20, rv=9))
    result = run("measure", tmp_path / "masks", "--labels", "acdc")
    assert result.stdout.endswith("\n3 volumes, 1 heart\n")
    assert cells(result.stdout, "p1_frame01.nii.gz  frame")[3:5] == ["8.0", "4.0"]


@pytest.mark.parametrize(
    ("ed", "es", "when"),
    [(0, 0, "ED and ES"), (0, 30, "ED"), (90, 0, "ES")],
)
def test_a_ventricle_that_is_missing_has_no_ejection_fraction(run, write, tmp_path, ed, es, when):
    write("masks/p1_ed.nii.gz", box(lv=ed, myo=100, rv=80))
    write("masks/p1_es.nii.gz", box(lv=es, myo=100, rv=40))
    result = run("measure", tmp_path / "masks", "--labels", "acdc")
    assert result.exit_code == 0
    shown = cells(result.stdout, "p1")[3:]
    assert shown == [f"{ed * ML:.1f}", f"{es * ML:.1f}", "-", "-", "8.0", "4.0", "50.0", "10.5"]
    [warning] = result.stderr.splitlines()
    assert warning.endswith(f"p1: no LV at {when}, so it has no ejection fraction")


def test_names_that_look_exchanged_are_warned_of(run, write, tmp_path):
    write("masks/p1_ed.nii.gz", box(lv=50, rv=80))
    write("masks/p1_es.nii.gz", box(lv=100, rv=80))
    result = run("measure", tmp_path / "masks", "--labels", "acdc")
    assert cells(result.stdout, "p1")[6] == "-100.0"
    assert "larger at ES than at ED" in result.stderr


def test_an_empty_mask_measures_nothing(run, write):
    result = run("measure", write("mask.nii.gz", box(lv=0)))
    assert result.exit_code == 0
    assert cells(result.stdout, "mask.nii.gz")[3:] == ["0.0"] * 4
    assert result.stderr.startswith("warning: ")
    assert result.stderr.endswith("mask.nii.gz: all background, so the volumes are 0\n")


def test_one_bad_file_does_not_stop_the_others(run, write, tmp_path):
    for name in ("p1_ed", "p1_es", "p2_ed"):
        write(f"masks/{name}.nii.gz", box(lv=50, rv=80))
    (tmp_path / "masks/p2_es.nii.gz").write_bytes(b"this is no mask")
    report = tmp_path / "report.csv"
    result = run("measure", tmp_path / "masks", "--labels", "acdc", "--report", report)
    assert result.exit_code == 2
    assert result.stdout.endswith("\n3 volumes, 1 heart\n")
    warning, first, second = result.stderr.splitlines()
    assert warning.endswith("p2: not measured as one heart, since a file of it failed")
    assert first == "1 of 4 failed:"
    assert "p2_es.nii.gz: expected a NIfTI file" in second
    rows = list(csv.DictReader(report.read_text().splitlines()))
    assert [row["heart"] for row in rows] == ["p1", "p1", "", ""]
    assert "expected a NIfTI file" in rows[-1]["error"]


def test_two_files_of_one_instant_are_refused(run, write, tmp_path):
    for name in ("p1_ed.nii", "p1_ed.nii.gz", "p1_es.nii"):
        write(f"masks/{name}", box(lv=50))
    result = run("measure", tmp_path / "masks")
    assert result.exit_code == 2
    assert result.stdout == ""
    [error] = result.stderr.splitlines()
    assert "expected one file per heart and instant" in error


@pytest.fixture
def study(write, tmp_path) -> Path:
    """Return a folder with a heart in two files, and a lone mask."""
    write("masks/lone.nii.gz", box(lv=1, myo=1, rv=1))
    write("masks/p1_frame01.nii.gz", box(lv=90, myo=100, rv=0))
    write("masks/p1_frame12.nii.gz", box(lv=30, myo=100, rv=0))
    return tmp_path / "masks"


def test_the_report_in_two_tables(run, study, tmp_path):
    report = tmp_path / "report.csv"
    result = run("measure", study, "--labels", "acdc", "--report", report)
    assert result.exit_code == 0
    volumes = list(csv.DictReader(report.read_text().splitlines()))
    assert [(row["heart"], row["phase"]) for row in volumes] == [
        ("", ""),
        ("p1", "ed"),
        ("p1", "es"),
    ]
    assert volumes[1] == {
        "source": str(study / "p1_frame01.nii.gz"),
        **{"frame": "0", "heart": "p1", "phase": "ed", "slices": "2"},
        **{"plausible_slices": volumes[1]["plausible_slices"]},
        **{"rv_ml": "0.0", "lv_ml": "9.0", "myo_ml": "10.0", "mass_g": "10.5", "error": ""},
    }
    [row] = csv.DictReader((tmp_path / "report_hearts.csv").read_text().splitlines())
    assert row == {
        "heart": "p1",
        **{"ed_source": str(study / "p1_frame01.nii.gz"), "ed_frame": "0"},
        **{"es_source": str(study / "p1_frame12.nii.gz"), "es_frame": "0"},
        **{"lv_edv_ml": "9.0", "lv_esv_ml": "3.0", "lv_sv_ml": "6.0", "lv_ef_percent": "66.67"},
        **{"rv_edv_ml": "0.0", "rv_esv_ml": "0.0", "rv_sv_ml": "", "rv_ef_percent": ""},
        "mass_g": "10.5",
        "warnings": "no RV at ED and ES, so it has no ejection fraction",
    }


def test_the_report_in_one_json(run, study, tmp_path):
    report = tmp_path / "report.json"
    (study / "bad.nii.gz").write_bytes(b"this is no mask")
    result = run("measure", study, "--labels", "acdc", "--report", report)
    assert result.exit_code == 2
    found = json.loads(report.read_text())
    assert [volume.get("phase") for volume in found["volumes"]] == [None, "ed", "es", None]
    assert found["volumes"][0]["measurements"]["mass_g"]["value"] == pytest.approx(1.05 * ML)
    assert "expected a NIfTI file" in found["volumes"][-1]["error"]
    [heart] = found["hearts"]
    assert heart["measurements"]["lv_ef_percent"] == {
        "value": pytest.approx(200 / 3),
        "intervals": {},
    }
    assert "rv_ef_percent" not in heart["measurements"]
    assert heart["warnings"] == ["no RV at ED and ES, so it has no ejection fraction"]
    assert not (tmp_path / "report_hearts.json").exists()


def test_a_table_without_hearts_has_its_header(run, study, tmp_path):
    report = tmp_path / "report.csv"
    run("measure", study / "lone.nii.gz", "--labels", "acdc", "--report", report)
    [header] = (tmp_path / "report_hearts.csv").read_text().splitlines()
    assert header.startswith("heart,ed_source,")


@pytest.mark.parametrize("taken", ["report.csv", "report_hearts.csv"])
def test_neither_table_replaces_a_file_unasked(run, study, tmp_path, taken):
    (tmp_path / taken).write_text("kept")
    arguments = ("measure", study, "--labels", "acdc", "--report", tmp_path / "report.csv")
    result = run(*arguments)
    assert result.exit_code == 2
    assert f"{taken} exists" in result.stderr
    assert (tmp_path / taken).read_text() == "kept"
    assert run(*arguments, "--overwrite").exit_code == 0
    assert (tmp_path / taken).read_text() != "kept"


def test_the_ending_of_a_report_is_known(run, study, tmp_path):
    result = run("measure", study, "--report", tmp_path / "report.xlsx")
    assert result.exit_code == 2
    assert "expected a name that ends in .csv or .json" in result.stderr


def test_torch_is_not_imported(study):
    program = (
        "import sys\n"
        "from cardiac_vae.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'monai', 'lightning', 'mlflow'} & set(sys.modules)\n"
    )
    arguments = [sys.executable, "-c", program, "measure", study, "--labels", "acdc"]
    subprocess.run(arguments, check=True, capture_output=True)
