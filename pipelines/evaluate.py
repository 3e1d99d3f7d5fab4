"""DVC stage ``evaluate``: masks and a shape model against the experts -> scores per case, summary.

python -m pipelines.evaluate <recipe> <segmenter>
"""

import sys
from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.checkpoint import load_model
from cardiac_vae.config import read_section
from cardiac_vae.data.case_files import read_case
from cardiac_vae.data.phantom_factors import FACTORS_FILE
from cardiac_vae.data.preparation import CASE_PATHS, PreparationConfig
from cardiac_vae.data.segmented import patients_of
from cardiac_vae.data.source import SourceConfig
from cardiac_vae.evaluation.cohort import EvaluationConfig, evaluate_cases
from cardiac_vae.evaluation.shape_models import score_shape_model
from cardiac_vae.evaluation.summaries import summarize
from cardiac_vae.evaluation.tables import write_csv
from cardiac_vae.evaluation.uncertainty import score_uncertainty
from cardiac_vae.labels import parse_labels
from cardiac_vae.refinement.calibration import Calibration
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for the recipe and the segmenter named on the command line."""
    recipe, segmenter = sys.argv[1:]
    raw, prepared = Path("data/raw"), Path("data/prepared")
    source = SourceConfig.parse(read_section(PARAMS, "data"), f"{PARAMS}: data")
    preparation = PreparationConfig.parse(read_section(PARAMS, "prepare"), f"{PARAMS}: prepare")
    params = read_section(PARAMS, "evaluate")
    config = EvaluationConfig.parse(params, f"{PARAMS}: evaluate")
    patients = patients_of(prepared / "splits.json", [config.split])
    labels = parse_labels(preparation.labels)
    found = [paths for paths in CASE_PATHS[source.reader](raw) if paths.patient_id in patients]
    segmented, refined = Path("data/segmented") / segmenter, Path("data/refined") / recipe
    calibration = Calibration.load(Path("calibration") / segmenter)
    tags = {"model": recipe, "segmenter": segmenter, "data": source.name}
    with tracking.stage_run("evaluate", params, tags):
        rows = evaluate_cases((read_case(paths, labels) for paths in found), segmented, refined)
        write_csv(Path(f"reports/evaluate/{recipe}.csv"), rows)
        factors = raw / FACTORS_FILE if source.name == "phantom" else None
        model = load_model(Path("models") / recipe)
        summary = {
            "data": source.name,
            "segmenter": segmenter,
            "split": config.split,
            "patients": sorted(patients),
            "scans": {scans: summarize(rows[scans], seed=config.seed) for scans in rows},
            "uncertainty": score_uncertainty(
                (read_case(paths, labels) for paths in found), segmented, refined, calibration
            ),
            "shape_model": score_shape_model(model, prepared, factors, config),
        }
        tracking.record_metrics(Path(f"reports/evaluate/{recipe}.json"), summary)


if __name__ == "__main__":
    run(main)
