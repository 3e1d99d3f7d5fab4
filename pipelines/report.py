"""DVC stage ``report``: all that the other stages left on file -> reports/report.html.

python -m pipelines.report <segmenter>
"""

import sys
from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.checkpoint import load_model
from cardiac_vae.config import read_section
from cardiac_vae.data.preparation import PreparationConfig
from cardiac_vae.data.source import SourceConfig
from cardiac_vae.reports.page import build_report
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for the segmenter, named on the command line, whose masks were refined."""
    [segmenter] = sys.argv[1:]
    source = SourceConfig.parse(read_section(PARAMS, "data"), f"{PARAMS}: data")
    params = {**read_section(PARAMS, "prepare"), "reader": source.reader}
    preparation = PreparationConfig.parse(params, f"{PARAMS}: prepare")
    recipes = sorted(path.stem for path in Path("reports/evaluate").glob("*.json"))
    with tracking.stage_run("report", params, {"data": source.name}):
        models = {recipe: load_model(Path("models") / recipe) for recipe in recipes}
        facts = {
            "Data": source.name,
            "Seed": str(preparation.seed),
            "Commit": tracking.git_commit(),
        }
        report = build_report(Path(), preparation, segmenter, models, facts)
        path = Path("reports/report.html")
        path.write_text(report.page)
        tracking.log_artifact(path)
        tracking.log_figures(report.figures)


if __name__ == "__main__":
    run(main)
