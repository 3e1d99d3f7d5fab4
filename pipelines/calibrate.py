"""DVC stage ``calibrate``: validation patients, segmented -> how one segmenter errs.

python -m pipelines.calibrate <segmenter>
"""

import sys
from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section
from cardiac_vae.correction.corrector import Corrector
from cardiac_vae.data.case_files import read_case
from cardiac_vae.data.preparation import CASE_PATHS, PreparationConfig
from cardiac_vae.data.segmented import patients_of
from cardiac_vae.data.source import SourceConfig
from cardiac_vae.evaluation.calibration import CalibrationConfig, fit_and_score_calibration
from cardiac_vae.labels import parse_labels
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for the segmenter named on the command line."""
    [name] = sys.argv[1:]
    raw, prepared = Path("data/raw"), Path("data/prepared")
    source = SourceConfig.parse(read_section(PARAMS, "data"), f"{PARAMS}: data")
    preparation = PreparationConfig.parse(read_section(PARAMS, "prepare"), f"{PARAMS}: prepare")
    params = read_section(PARAMS, "calibrate")
    config = CalibrationConfig.parse(params, f"{PARAMS}: calibrate")
    patients = patients_of(prepared / "splits.json", ["validation"])
    labels = parse_labels(preparation.labels)
    cases = (
        read_case(paths, labels)
        for paths in CASE_PATHS[source.reader](raw)
        if paths.patient_id in patients
    )
    with tracking.stage_run("calibrate", params, {"model": name, "data": source.name}):
        calibration, summary = fit_and_score_calibration(
            cases,
            Path("data/segmented") / name,
            prepared,
            config,
            Corrector.load(Path("corrector")),
        )
        calibration.save(Path("calibration") / name)
        tracking.record_metrics(Path(f"reports/calibrate/{name}.json"), summary)


if __name__ == "__main__":
    run(main)
