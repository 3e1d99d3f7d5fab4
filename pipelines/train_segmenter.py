"""DVC stage ``train_segmenter``: prepared images and masks -> models/segmenter.

python -m pipelines.train_segmenter
"""

from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section
from cardiac_vae.segmentation.network import SegmenterConfig
from cardiac_vae.segmentation.training import train_segmenter
from cardiac_vae.training.fit import FitConfig
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage."""
    data = read_section(PARAMS, "data")["name"]
    params = read_section(PARAMS, "train_segmenter")
    settings = SegmenterConfig.parse(params["settings"], f"{PARAMS}: train_segmenter.settings")
    config = FitConfig.parse(params["fit"], f"{PARAMS}: train_segmenter.fit")
    with tracking.stage_run("train_segmenter", params, {"data": data}):
        summary = train_segmenter(
            Path("data/prepared"),
            Path("models/segmenter"),
            settings,
            config,
            tracking.lightning_logger(),
        )
        tracking.record_metrics(Path("reports/train_segmenter.json"), summary)


if __name__ == "__main__":
    run(main)
