"""Prepared views of the MLflow UI: which runs and which charts an address opens.

``python -m cardiac_vae.tracking_views <port>`` adds them to the study in the working directory and
prints their addresses; ``make ui`` does so before it opens the UI. MLflow keeps a view that is
shared as a tag of the experiment, and opens the one that the address names. A study logs hundreds
of numbers; these are the few by which its models, its refiners and its fits are compared.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cardiac_vae import tracking

TAG_PREFIX = "mlflow.sharedViewState."

_SHAPE = "shape_model/metrics"
_SAMPLES = "shape_model/generation/metrics"
_LADDER = (
    f"{_SHAPE}/dice_mean",
    f"{_SHAPE}/negative_elbo",
    f"{_SHAPE}/rate",
    f"{_SHAPE}/valid_reconstructions",
    f"{_SHAPE}/valid_samples_at_1",
    f"{_SAMPLES}/frechet",
)
_CHANGES = ("dice_mean", "hd95_mm_mean", "valid_volumes", "presence_errors_total")
_FITS = (
    "validation/whole/negative_elbo",
    "validation/whole/reconstruction",
    "validation/whole/kl",
    "validation/broken/negative_elbo",
    "validation/loss",
    "validation/pixel_accuracy",
)

_FIXED = {"deleted": False, "isGenerated": False, "isReordered": False}

Chart = dict[str, Any]


@dataclass(frozen=True)
class View:
    """One view of the runs.

    Attributes:
        title: What the menu of views calls it.
        search: Which runs, in MLflow's language of filters.
        charts: What is drawn of them, in MLflow's terms but for where it stands.
    """

    title: str
    search: str
    charts: Sequence[Chart]

    def state(self) -> dict[str, Any]:
        """Return what MLflow's page is to restore: a wide section, and one of cards."""
        wide = [chart for chart in self.charts if chart["type"] == "PARALLEL"]
        cards = [chart for chart in self.charts if chart["type"] != "PARALLEL"]
        sections = [
            (name, charts, columns)
            for name, charts, columns in (("At a glance", wide, 1), ("One by one", cards, 2))
            if charts
        ]
        return {
            "searchFilter": self.search,
            "runsHiddenMode": "SHOW_ALL",
            "isAccordionReordered": True,  # or MLflow sorts the sections by name
            "compareRunCharts": [
                {
                    **chart,
                    **_FIXED,
                    "uuid": f"{name} {number}",
                    "metricSectionId": name,
                    "runsCountToCompare": 100,
                }
                for name, charts, _ in sections
                for number, chart in enumerate(charts)
            ],
            "compareRunSections": [
                {**_FIXED, "uuid": name, "name": name, "display": True, "columns": columns}
                for name, _, columns in sections
            ],
        }


def _bars(metrics: Sequence[str]) -> list[Chart]:
    return [{"type": "BAR", "metricKey": metric} for metric in metrics]


def _lines(metrics: Sequence[str]) -> list[Chart]:
    axes = {"xAxisKey": "step", "xAxisScaleType": "linear", "yAxisKey": "metric"}
    fixed = {"type": "LINE", **axes, "scaleType": "linear", "range": {}, "lineSmoothness": 0}
    return [{**fixed, "metricKey": metric, "selectedMetricKeys": [metric]} for metric in metrics]


def _parallel(metrics: Sequence[str]) -> Chart:
    shown = {"selectedParams": [], "selectedMetrics": list(metrics), "showAllRuns": True}
    return {"type": "PARALLEL", **shown}


VIEWS: Mapping[str, View] = {
    "ladder": View(
        "Shape models compared", 'tags.stage = "evaluate"', [_parallel(_LADDER), *_bars(_LADDER)]
    ),
    "refined": View(
        "What refining changes",
        'tags.stage = "evaluate"',
        _bars(
            [
                f"scans/{scans}/differences/refined/{metric}"
                for metric in _CHANGES
                for scans in ("clean", "corrupted")
            ]
        ),
    ),
    "fits": View("Fits of shape models", 'tags.stage = "train"', _lines(_FITS)),
}
"""By the name in the address."""


def experiment_tags() -> dict[str, str]:
    """Return the tags of an experiment in which MLflow finds the views, and lists them."""
    now_ms = round(1000 * time.time())
    return {
        f"{TAG_PREFIX}{name}": json.dumps(
            {
                "name": view.title,
                "createdAt": now_ms,
                "updatedAt": now_ms,
                "state": json.dumps(view.state()),
            }
        )
        for name, view in VIEWS.items()
    }


def main() -> None:
    """Add the views to the experiment, and print where they are; without runs there are none."""
    [port] = sys.argv[1:]
    experiment = tracking.tag_experiment(experiment_tags())
    if experiment is None:
        print(f"no runs in {tracking.DATABASE} yet: make repro makes some")
        return
    for name in VIEWS:
        print(f"{name}: {address(name, experiment, port)}")


def address(view: str, experiment: str, port: str) -> str:
    """Return where the UI of a port on this machine shows a view of an experiment."""
    page = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs"
    return f"{page}?viewStateShareKey={view}&compareRunsMode=CHART"


if __name__ == "__main__":
    main()
