"""DVC stage ``refine``: a segmenter's masks -> plausible masks, by one shape model.

python -m pipelines.refine <recipe> <segmenter>
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
    """Run the stage for the recipe and the segmenter named on the command line."""
    recipe, segmenter = sys.argv[1:]
    data = read_section(PARAMS, "data")["name"]
    params = read_section(PARAMS, "refine")
    config = RefinementConfig.parse(params, f"{PARAMS}: refine")
    tags = {"model": recipe, "segmenter": segmenter, "data": data}
    with tracking.stage_run("refine", params, tags):
        calibration = Calibration.load(Path("calibration") / segmenter)
        refiner = Refiner.load(Path("models") / recipe, config, calibration)
        segmented = Path("data/segmented") / segmenter
        summary = refine_cases(segmented, refiner, Path("data/refined") / recipe)
        tracking.record_metrics(Path(f"reports/refine/{recipe}.json"), summary)


if __name__ == "__main__":
    run(main)
