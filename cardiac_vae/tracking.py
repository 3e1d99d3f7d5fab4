"""MLflow, and nothing else imports it: one database, one experiment, one run per stage.

DVC holds the truth, MLflow is the window on it: what a stage writes to its metrics file is what it
logs here (of a mean with its interval, the mean), and no stage ever reads from here. The database
``mlflow.db`` and the artifacts ``mlruns/`` lie in the project's root, where ``make ui`` finds them.
MLflow takes a second to import, so it is imported when a run starts and not before.
"""

import json
import math
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

EXPERIMENT = "cardiac-vae"
DATABASE = "mlflow.db"
ARTIFACTS = "mlruns"
_SUMMARY = {"mean", "low", "high", "n"}


@contextmanager
def stage_run(
    stage: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    root: Path = Path(),
) -> Iterator[str]:
    """Open the run of one stage and yield its id; an exception inside marks the run as failed.

    ``params`` may be nested. Runs are flat: the tag ``stage`` groups them, and ``git_commit`` says
    which code ran; callers add ``model`` and ``data``.
    """
    mlflow = _mlflow()
    mlflow.set_tracking_uri(f"sqlite:///{(root / DATABASE).resolve()}")
    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    experiment_id = (
        experiment.experiment_id
        if experiment
        else mlflow.create_experiment(EXPERIMENT, (root / ARTIFACTS).resolve().as_uri())
    )
    commit = git_commit(root)
    tags = {"stage": stage, **({"git_commit": commit} if commit else {}), **(tags or {})}
    name = "-".join(filter(None, (stage, tags.get("model"))))
    with mlflow.start_run(experiment_id=experiment_id, run_name=name, tags=tags) as run:
        mlflow.log_params(flatten(params))
        yield run.info.run_id


def log_metrics(metrics: Mapping[str, Any], step: int | None = None) -> None:
    """Log the numbers of a nested mapping under names such as ``test/dice/lv``.

    Of a mean with its interval, ``{"mean": ..., "low": ..., "high": ..., "n": ...}``, the mean is
    logged under the name of the whole: the charts show no intervals. Characters that MLflow refuses
    in names become underscores.
    """
    numbers = {
        re.sub(r"[^a-zA-Z0-9_\-. :/]", "_", name): float(value)
        for name, value in flatten(_means(metrics)).items()
        if isinstance(value, bool | int | float)
    }
    _mlflow().log_metrics(numbers, step=step)


def log_artifact(path: Path) -> None:
    """Keep a copy of a file with the run."""
    _mlflow().log_artifact(str(path))


def log_figures(figures: Mapping[str, bytes]) -> None:
    """Keep PNG with the run, in its folder ``figures``; names may have folders of their own."""
    with TemporaryDirectory() as folder:
        for name, png in figures.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        _mlflow().log_artifacts(folder, "figures")


def record_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write a stage's metrics as JSON, and log the very same.

    Numbers that JSON cannot hold (NaN, infinities) become null in the file, which is also attached
    to the run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_finite(metrics), indent=2, allow_nan=False) + "\n")
    log_metrics(metrics)
    log_artifact(path)


def tag_experiment(tags: Mapping[str, str], root: Path = Path()) -> str | None:
    """Tag the experiment, and return its id; None if no run was ever made."""
    if not (root / DATABASE).is_file():
        return None
    mlflow = _mlflow()
    mlflow.set_tracking_uri(f"sqlite:///{(root / DATABASE).resolve()}")
    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    for name, value in tags.items():
        mlflow.MlflowClient().set_experiment_tag(experiment.experiment_id, name, value)
    return str(experiment.experiment_id)


def lightning_logger() -> "Logger":
    """Return the Lightning logger that writes into the run that is open.

    Raises:
        RuntimeError: outside ``stage_run``.
    """
    mlflow = _mlflow()
    run = mlflow.active_run()
    if run is None:
        raise RuntimeError("no run is open: call lightning_logger inside stage_run")
    from lightning.pytorch.loggers import MLFlowLogger

    return MLFlowLogger(
        experiment_name=EXPERIMENT,
        tracking_uri=mlflow.get_tracking_uri(),
        run_id=run.info.run_id,
    )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Join the keys of nested mappings by slashes."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _means(value: Any) -> Any:
    """Return the value with every mean that has an interval in the place of the two."""
    if not isinstance(value, Mapping):
        return value
    if value.keys() == _SUMMARY:
        return value["mean"]
    return {key: _means(item) for key, item in value.items()}


def _mlflow() -> ModuleType:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    return mlflow


def git_commit(root: Path = Path()) -> str:
    """Return the commit checked out, or "" outside a repository."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def _finite(value: Any) -> Any:
    """Return the value with None in place of every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
