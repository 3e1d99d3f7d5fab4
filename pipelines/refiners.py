"""DVC stage ``refiners``: one segmenter's masks through every way to refine -> how they compare.

python -m pipelines.refiners <segmenter>
"""

import sys
from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section
from cardiac_vae.data.case_files import read_case
from cardiac_vae.data.preparation import CASE_PATHS, PreparationConfig
from cardiac_vae.data.segmented import patients_of
from cardiac_vae.data.source import SourceConfig
from cardiac_vae.evaluation.refiner_variants import RefinersConfig, read_variants
from cardiac_vae.evaluation.refiners import score_refiners
from cardiac_vae.labels import parse_labels
from cardiac_vae.refinement.calibration import Calibration
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for the segmenter named on the command line."""
    [segmenter] = sys.argv[1:]
    source = SourceConfig.parse(read_section(PARAMS, "data"), f"{PARAMS}: data")
    preparation = PreparationConfig.parse(read_section(PARAMS, "prepare"), f"{PARAMS}: prepare")
    params = read_section(PARAMS, "refiners")
    config = RefinersConfig.parse(params, f"{PARAMS}: refiners")
    recipes = list(read_section(Path("configs/recipes.yaml"), "recipes"))
    patients = sorted(patients_of(Path("data/prepared/splits.json"), [config.split]))
    patients = patients[: config.max_patients]
    labels = parse_labels(preparation.labels)
    cases = (
        read_case(paths, labels)
        for paths in CASE_PATHS[source.reader](Path("data/raw"))
        if paths.patient_id in patients
    )
    with tracking.stage_run("refiners", params, {"model": segmenter, "data": source.name}):
        calibration = Calibration.load(Path("calibration") / segmenter)
        variants, left_out = read_variants(
            recipes, Path("models"), Path("densities"), calibration, config
        )
        segmented = Path("data/segmented") / segmenter
        summary = {
            "data": source.name,
            "split": config.split,
            "patients": patients,
            "left_out": left_out,
            "scans": score_refiners(cases, segmented, variants, config.seed),
        }
        tracking.record_metrics(Path(f"reports/refiners/{segmenter}.json"), summary)


if __name__ == "__main__":
    run(main)
