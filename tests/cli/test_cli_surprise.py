"""``cardiac-vae check`` with a model and a density, and its report."""

import csv
import json
import shutil

import numpy as np
import pytest

from cardiac_vae.data.nifti import read_mask
from cardiac_vae.refinement.judge import Judge


@pytest.fixture
def check(run, tiny_model, tiny_density):
    def invoke(source, *arguments):
        return run("check", source, "--model", tiny_model, "--density", tiny_density, *arguments)

    return invoke


def cells(text, first):
    """Return the cells of the rows that begin with a word."""
    rows = (line.split("  ") for line in text.splitlines())
    return [[cell.strip() for cell in row if cell] for row in rows if row[0].startswith(first)]


def test_the_most_surprising_slice_is_printed_and_the_criteria_decide(
    check, write_nifti, heart, tiny_model, tiny_density
):
    heart[0] = 0
    path = write_nifti("mask.nii.gz", heart)
    result = check(path)
    assert result.exit_code == 0
    surprise, summary = cells(result.stdout, "mask.nii.gz")
    volume = read_mask(path)
    found = Judge.load(tiny_model, tiny_density).judge(volume.volume, volume.spacing_mm)
    most = np.nanargmax(found.excess)
    percent = f"{int(100 * found.ranks[most] + 1e-4)} %"
    assert surprise[1:4] == ["0", str(most), f"{found.nats[most]:.0f} nats"]
    assert surprise[5] == f"{percent} of 6 training hearts"
    assert summary[1:] == ["1", "4", "4", "1", percent, "plausible"]


def test_a_mask_without_a_heart_has_no_surprise(check, write_nifti, heart):
    result = check(write_nifti("mask.nii.gz", np.zeros_like(heart)))
    assert result.exit_code == 0
    (summary,) = cells(result.stdout, "mask.nii.gz")
    assert summary[5] == "-"
    assert result.stderr.startswith("warning: ")


def test_the_report_has_a_row_per_slice(check, write_nifti, broken, tmp_path):
    broken[0] = 0
    frames = np.stack([broken, broken])
    path, report = write_nifti("masks/cine.nii.gz", frames), tmp_path / "new" / "report.csv"
    (tmp_path / "masks/rubbish.nii").write_bytes(b"no mask")
    assert check(tmp_path / "masks", "--report", report).exit_code == 2
    with report.open(newline="") as file:
        *rows, failed = csv.DictReader(file)
    assert [(row["frame"], row["slice"]) for row in rows] == [
        (str(frame), str(index)) for frame in range(2) for index in range(4)
    ]
    assert {row["source"] for row in rows} == {str(path)}
    assert rows[1]["broken"].startswith("holes in the LV by 1 px")
    assert rows[3]["broken"] == ""
    assert (rows[0]["is_empty"], rows[0]["nats"], rows[0]["rank"]) == ("True", "", "")
    assert all(0 <= float(row["rank"]) <= 1 for row in rows if row["is_empty"] == "False")
    assert float(rows[2]["nats"]) == float(rows[6]["nats"])
    assert "expected a NIfTI" in failed["error"]


def test_the_report_can_be_json_and_needs_no_model(run, write_nifti, broken, tmp_path):
    path, report = write_nifti("mask.nii.gz", broken), tmp_path / "report.json"
    assert run("check", path, "--report", report).exit_code == 1
    (mask,) = json.loads(report.read_text())["masks"]
    assert mask["source"] == str(path)
    assert mask["slices"][1]["broken"]["holes_in_lv"] == 1
    assert mask["slices"][1]["nats"] is None


def test_a_report_that_must_not_be_written_is_refused(run, write_nifti, heart, tmp_path):
    path, report = write_nifti("mask.nii.gz", heart), tmp_path / "report.csv"
    report.write_text("mine")
    result = run("check", path, "--report", report)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --report: expected new files, but ")
    assert report.read_text() == "mine"
    assert run("check", path, "--report", report, "--overwrite").exit_code == 0
    assert report.read_text().startswith("source,frame,slice,")
    result = run("check", path, "--report", tmp_path / "report.txt")
    assert "expected a name that ends in .csv or .json" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("option", ["--model", "--density"])
def test_one_folder_without_the_other_is_refused(run, write_nifti, heart, tmp_path, option):
    result = run("check", write_nifti("mask.nii.gz", heart), option, tmp_path)
    assert result.exit_code == 2
    assert f"expected a path beside {option}, got none" in result.stderr


def one_line_of(result):
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    return line


def test_folders_that_do_not_fit_end_in_one_line(
    run, write_nifti, heart, tiny_model, tiny_density, tmp_path
):
    from cardiac_vae.checkpoint import save_model
    from cardiac_vae.models import build_model

    mask = write_nifti("mask.nii.gz", heart)
    settings = {"image_size": 96, "channels": [4, 8], "latent_dim": 2}
    save_model(tmp_path / "ae", "ae", settings, build_model("ae", settings), 1.5)
    small = settings | {"image_size": 48}
    save_model(tmp_path / "small", "vae", small, build_model("vae", small), 1.5)
    wide = settings | {"latent_dim": 3}
    save_model(tmp_path / "wide", "vae", wide, build_model("vae", wide), 1.5)
    shutil.copytree(tiny_density, tmp_path / "no_hearts")
    (tmp_path / "no_hearts/surprise.safetensors").unlink()
    for model, density, words in (
        (tmp_path / "ae", tiny_density, "expected a model with a bound, got cardiac_vae.models.ae"),
        (tmp_path / "small", tiny_density, "expected a model of masks (96, 96)"),
        (tmp_path / "wide", tiny_density, "expected one over the codes of the model"),
        (tiny_model, tmp_path / "none", "expected the folder of a density over codes"),
        (tiny_model, tmp_path / "no_hearts", "expected the surprise of training hearts"),
    ):
        line = one_line_of(run("check", mask, "--model", model, "--density", density))
        assert line.startswith("error: ")
        assert words in line
