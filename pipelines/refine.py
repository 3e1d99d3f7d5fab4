"""DVC stage ``refine``: the segmenter's masks -> plausible masks, by one shape model.

python -m pipelines.refine <recipe>
"""

import sys
from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.cohort import refine_cases
from cardiac_vae.refinement.refine import RefinementConfig, Refiner
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for the recipe named on the command line."""
    [recipe] = sys.argv[1:]
    data = read_section(PARAMS, "data")["name"]
    params = read_section(PARAMS, "refine")
    config = RefinementConfig.parse(params, f"{PARAMS}: refine")
    with tracking.stage_run("refine", params, {"model": recipe, "data": data}):
        calibration = Calibration.load(Path("calibration"))
        refiner = Refiner.load(Path("models") / recipe, config, calibration)
        summary = refine_cases(Path("data/segmented"), refiner, Path("data/refined") / recipe)
        tracking.record_metrics(Path(f"reports/refine/{recipe}.json"), summary)


if __name__ == "__main__":
    run(main)
