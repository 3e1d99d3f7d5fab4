"""DVC stage ``segment``: raw scans, clean and corrupted -> one segmenter's masks, probabilities.

python -m pipelines.segment <segmenter>
"""

import sys
from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section
from cardiac_vae.data.preparation import CASE_PATHS
from cardiac_vae.data.segmented import patients_of
from cardiac_vae.data.source import SourceConfig
from cardiac_vae.segmentation.cohort import CohortConfig, segment_cases
from cardiac_vae.segmentation.inference import Segmenter
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for the segmenter named on the command line."""
    [name] = sys.argv[1:]
    source = SourceConfig.parse(read_section(PARAMS, "data"), f"{PARAMS}: data")
    params = read_section(PARAMS, "segment")
    config = CohortConfig.parse(params, f"{PARAMS}: segment")
    patients = patients_of(Path("data/prepared/splits.json"), config.splits)
    raw = CASE_PATHS[source.reader](Path("data/raw"))
    cases = [paths for paths in raw if paths.patient_id in patients]
    with tracking.stage_run("segment", params, {"model": name, "data": source.name}):
        segmenter = Segmenter.load(Path("segmenters") / name)
        summary = segment_cases(cases, segmenter, config, Path("data/segmented") / name)
        tracking.record_metrics(Path(f"reports/segment/{name}.json"), summary)


if __name__ == "__main__":
    run(main)
