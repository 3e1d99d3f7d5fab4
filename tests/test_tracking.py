import json
import math
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cardiac_vae import tracking
from cardiac_vae.tracking_views import TAG_PREFIX, VIEWS, experiment_tags

pytestmark = pytest.mark.filterwarnings(
    "ignore::sqlalchemy.exc.SADeprecationWarning",  # MLflow's own mappers
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for the whole file: MLflow takes seconds to create its database."""
    return tmp_path_factory.mktemp("tracking")


def query(root: Path, sql: str, *values: str) -> list[tuple]:
    """Read the database without MLflow, as an independent witness."""
    with sqlite3.connect(root / tracking.DATABASE) as database:
        return database.execute(sql, values).fetchall()


def metrics_of(root: Path, run_id: str) -> dict[str, float]:
    return dict(query(root, "SELECT key, value FROM latest_metrics WHERE run_uuid = ?", run_id))


def tags_of(root: Path, run_id: str) -> dict[str, str]:
    return dict(query(root, "SELECT key, value FROM tags WHERE run_uuid = ?", run_id))


def status_of(root: Path, run_id: str) -> str:
    [(status,)] = query(root, "SELECT status FROM runs WHERE run_uuid = ?", run_id)
    return status


def test_flatten_joins_nested_keys_and_keeps_leaves():
    assert tracking.flatten({"a": 1, "b": {"c": {"d": 2}, "e": [3]}, "f": {}}) == {
        "a": 1,
        "b/c/d": 2,
        "b/e": [3],
    }


def test_importing_tracking_imports_neither_mlflow_nor_lightning():
    script = (
        "import sys, cardiac_vae.tracking; "
        "assert not {'mlflow', 'lightning', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_file_holds_the_dict_that_is_logged(root: Path):
    metrics = {"dice": {"lv": 0.9, "rv": math.nan}, "worst": "patient001_ed", "count": 3}
    path = root / "reports" / "deep" / "stage.json"
    with tracking.stage_run("evaluate", {}, {"model": "vae"}, root) as run_id:
        tracking.record_metrics(path, metrics)
    written = json.loads(path.read_text())
    assert written == {"dice": {"lv": 0.9, "rv": None}, "worst": "patient001_ed", "count": 3}
    logged = metrics_of(root, run_id)
    assert set(logged) == {"dice/lv", "dice/rv", "count"}
    assert (logged["dice/lv"], logged["count"]) == (0.9, 3)
    copies = list((root / tracking.ARTIFACTS / run_id).rglob("stage.json"))
    assert [copy.read_text() for copy in copies] == [path.read_text()]


def test_of_a_mean_with_its_interval_the_mean_is_logged(root: Path):
    dice = {"mean": 0.9, "low": 0.8, "high": 0.95, "n": 10}
    with tracking.stage_run("evaluate", {}, root=root) as run_id:
        tracking.log_metrics({"dice": dice, "part": {"mean": 1.0, "low": 0.5}, "none": None})
    assert metrics_of(root, run_id) == {"dice": 0.9, "part/mean": 1.0, "part/low": 0.5}


def test_views_are_tags_of_the_experiment(root: Path, tmp_path: Path):
    with tracking.stage_run("train", {}, root=root):
        pass
    experiment = tracking.tag_experiment(experiment_tags(), root)
    sql = "SELECT key, value FROM experiment_tags WHERE experiment_id = ?"
    tags = dict(query(root, sql, experiment))
    states = {name: json.loads(tags[f"{TAG_PREFIX}{name}"]) for name in VIEWS}
    assert {name: state["name"] for name, state in states.items()} == {
        name: view.title for name, view in VIEWS.items()
    }
    for state in states.values():
        restored = json.loads(state["state"])
        sections = {section["uuid"] for section in restored["compareRunSections"]}
        assert {chart["metricSectionId"] for chart in restored["compareRunCharts"]} == sections
    assert tracking.tag_experiment(experiment_tags(), tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_runs_are_flat_in_one_experiment_and_say_what_they_are(root: Path):
    runs = []
    for model in ("vae", "nvae"):
        with tracking.stage_run(
            "train", {"steps": 5, "a": {"b": 1}}, {"model": model}, root
        ) as run:
            runs.append(run)
    names = query(root, "SELECT name FROM experiments WHERE name != 'Default'")
    assert names == [(tracking.EXPERIMENT,)]
    for run_id, model in zip(runs, ("vae", "nvae"), strict=True):
        tags = tags_of(root, run_id)
        assert (tags["stage"], tags["model"]) == ("train", model)
        assert tags["mlflow.runName"] == f"train-{model}"
        assert "mlflow.parentRunId" not in tags
        params = dict(query(root, "SELECT key, value FROM params WHERE run_uuid = ?", run_id))
        assert params == {"steps": "5", "a/b": "1"}


def test_a_run_names_the_commit_of_its_code(root: Path, tmp_path: Path):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert tracking.git_commit(tmp_path) == commit.stdout.strip()
    assert tracking.git_commit(root) == ""


def test_a_stage_that_raises_leaves_a_failed_run(root: Path):
    run_ids = []

    def fail() -> None:
        with tracking.stage_run("prepare", {}, root=root) as run_id:
            run_ids.append(run_id)
            raise ValueError("no such data")

    with pytest.raises(ValueError, match="no such data"):
        fail()
    assert [status_of(root, run_id) for run_id in run_ids] == ["FAILED"]


def test_figures_lie_in_a_folder_of_their_run(root: Path):
    with tracking.stage_run("report", {}, root=root) as run_id:
        tracking.log_figures({"vae/samples.png": b"of the VAE", "nvae/samples.png": b"of the NVAE"})
    [(uri,)] = query(root, "SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_id)
    figures = Path(uri.removeprefix("file://")) / "figures"
    files = {str(f.relative_to(figures)): f.read_bytes() for f in figures.rglob("*.png")}
    assert files == {"vae/samples.png": b"of the VAE", "nvae/samples.png": b"of the NVAE"}


def test_steps_keep_their_number(root: Path):
    with tracking.stage_run("train", {}, root=root) as run_id:
        for step in (0, 50):
            tracking.log_metrics({"loss": 2.0 / (step + 1)}, step)
    sql = "SELECT step, value FROM metrics WHERE run_uuid = ? ORDER BY step"
    assert query(root, sql, run_id) == [(0, 2.0), (50, 2.0 / 51)]


def test_any_text_may_name_a_metric(root: Path):
    with tracking.stage_run("refine", {}, root=root) as run_id:
        tracking.log_metrics({"routes": {"product, smoothed by 3 px": 2, "LV > 0 %": 1}})
    assert metrics_of(root, run_id) == {
        "routes/product_ smoothed by 3 px": 2,
        "routes/LV _ 0 _": 1,
    }


def test_the_lightning_logger_writes_into_the_open_run(root: Path):
    with pytest.raises(RuntimeError, match="stage_run"):
        tracking.lightning_logger()
    with tracking.stage_run("train", {}, root=root) as run_id:
        logger = tracking.lightning_logger()
        logger.log_metrics({"train/loss": 1.5}, step=50)
        logger.finalize("success")
        tracking.log_metrics({"seconds": 2.0})
    assert metrics_of(root, run_id) == {"train/loss": 1.5, "seconds": 2.0}
    assert status_of(root, run_id) == "FINISHED"
