"""DVC stage ``acquire``: the phantom, or the user's folder -> data/raw.

python -m pipelines.acquire
"""

from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section
from cardiac_vae.data.acquisition import acquire
from cardiac_vae.data.phantom import PhantomConfig
from cardiac_vae.data.source import SourceConfig
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage."""
    source = SourceConfig.parse(read_section(PARAMS, "data"), f"{PARAMS}: data")
    phantom = PhantomConfig.parse(read_section(PARAMS, "phantom"), f"{PARAMS}: phantom")
    params = {"data": source.model_dump(), "phantom": phantom.model_dump()}
    with tracking.stage_run("acquire", params, {"data": source.name}):
        summary = acquire(source, phantom, Path("data/raw"))
        tracking.record_metrics(Path("reports/acquire.json"), summary)


if __name__ == "__main__":
    run(main)
