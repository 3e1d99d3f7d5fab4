"""DVC stage ``prepare``: raw cases -> heart-centred masks and images, and the split by patient.

python -m pipelines.prepare
"""

from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section
from cardiac_vae.data.preparation import PreparationConfig, prepare_dataset
from cardiac_vae.data.source import SourceConfig
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage."""
    source = SourceConfig.parse(read_section(PARAMS, "data"), f"{PARAMS}: data")
    params = {**read_section(PARAMS, "prepare"), "reader": source.reader}
    config = PreparationConfig.parse(params, f"{PARAMS}: prepare")
    with tracking.stage_run("prepare", params, {"data": source.name}):
        summary = prepare_dataset(Path("data/raw"), Path("data/prepared"), config)
        tracking.record_metrics(Path("reports/prepare.json"), summary)


if __name__ == "__main__":
    run(main)
