"""DVC stage ``density``: the codes of a shape model's training hearts -> a density over them.

python -m pipelines.density <recipe>
"""

import sys
from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.checkpoint import load_model
from cardiac_vae.config import read_section
from cardiac_vae.evaluation.densities import DensityScoresConfig, fit_and_score_densities
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for the recipe named on the command line."""
    [recipe] = sys.argv[1:]
    data = read_section(PARAMS, "data")["name"]
    split = read_section(PARAMS, "evaluate")["split"]
    params = read_section(PARAMS, "density")
    config = DensityScoresConfig.parse(params, f"{PARAMS}: density")
    with tracking.stage_run("density", params, {"model": recipe, "data": data}):
        model = load_model(Path("models") / recipe)
        fitted = fit_and_score_densities(model, Path("data/prepared"), split, config)
        fitted.save(Path("densities") / recipe)
        tracking.record_metrics(Path(f"reports/density/{recipe}.json"), fitted.summary)


if __name__ == "__main__":
    run(main)
