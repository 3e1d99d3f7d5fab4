"""DVC stage ``train_corrector``: all segmenters' mistakes on the training patients -> a corrector.

python -m pipelines.train_corrector
"""

from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section, read_yaml
from cardiac_vae.correction.slices import DrawnSlices
from cardiac_vae.correction.training import CorrectorConfig, train_corrector
from cardiac_vae.data.case_files import read_case
from cardiac_vae.data.preparation import CASE_PATHS, PreparationConfig
from cardiac_vae.data.segmented import Split, patients_of
from cardiac_vae.data.source import SourceConfig
from cardiac_vae.labels import parse_labels
from cardiac_vae.refinement.mistakes import drawn_stacks
from cardiac_vae.segmentation.cohort import CohortConfig
from cardiac_vae.segmentation.inference import Segmenter
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for all segmenters of the study."""
    names = read_yaml(Path("configs/recipes.yaml"))["segmenters"]
    source = SourceConfig.parse(read_section(PARAMS, "data"), f"{PARAMS}: data")
    preparation = PreparationConfig.parse(read_section(PARAMS, "prepare"), f"{PARAMS}: prepare")
    cohort = CohortConfig.parse(read_section(PARAMS, "segment"), f"{PARAMS}: segment")
    params = read_section(PARAMS, "train_corrector")
    config = CorrectorConfig.parse(params, f"{PARAMS}: train_corrector")
    labels, grid = parse_labels(preparation.labels), (preparation.size, preparation.pixel_mm)
    paths = CASE_PATHS[source.reader](Path("data/raw"))
    predicts = [Segmenter.load(Path("segmenters") / name).predict for name in names]
    drawn: list[DrawnSlices] = []
    splits: dict[Split, int | None] = {"train": config.max_patients, "validation": None}
    for split, most in splits.items():
        patients = sorted(patients_of(Path("data/prepared/splits.json"), [split]))[:most]
        cases = (read_case(case, labels) for case in paths if case.patient_id in patients)
        stacks = drawn_stacks(cases, predicts, *grid, cohort.corruption, cohort.seed)
        drawn.append(DrawnSlices.of(list(stacks)))
    train, validation = drawn
    with tracking.stage_run("train_corrector", params, {"data": source.name}):
        logger = tracking.lightning_logger()
        summary = train_corrector(
            train, validation, preparation.pixel_mm, config, Path("corrector"), logger
        )
        tracking.record_metrics(Path("reports/train_corrector.json"), summary)


if __name__ == "__main__":
    run(main)
