"""DVC stage ``train_segmenter``: prepared images and masks -> one segmenter, as its recipe says.

python -m pipelines.train_segmenter <segmenter>
"""

import sys
from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section
from cardiac_vae.segmentation.recipe import SegmenterRecipe
from cardiac_vae.segmentation.training import train_segmenter
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for the segmenter named on the command line."""
    [name] = sys.argv[1:]
    path = Path(f"configs/segmenters/{name}.yaml")
    recipe = SegmenterRecipe.read(path)
    data = read_section(PARAMS, "data")["name"]
    study = read_section(PARAMS, "train_segmenter")["fit"]
    config = recipe.fit_config(study, f"{PARAMS}: train_segmenter.fit, or {path}: fit")
    logged = {"recipe": recipe.model_dump(), "fit": config.model_dump()}
    with tracking.stage_run("train_segmenter", logged, {"model": name, "data": data}):
        summary = train_segmenter(
            Path("data/prepared"),
            Path("segmenters") / name,
            recipe,
            config,
            tracking.lightning_logger(),
        )
        tracking.record_metrics(Path(f"reports/train_segmenter/{name}.json"), summary)


if __name__ == "__main__":
    run(main)
