"""``cardiac-vae refine``: masks in, plausible masks out, each on its own grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cardiac_vae.anatomy.measurements import volume_ml
from cardiac_vae.cli.companions import probabilities_of, scan_of
from cardiac_vae.cli.console import BAD_INPUT, FINE, run_each
from cardiac_vae.cli.inputs import Case
from cardiac_vae.cli.masks import Labelling
from cardiac_vae.cli.measurements import Measurement, measure, warn_without_intervals
from cardiac_vae.cli.outputs import OutputPlan, copy_volume
from cardiac_vae.cli.phases import Phases
from cardiac_vae.cli.report import VolumeReport, finish
from cardiac_vae.config import read_yaml
from cardiac_vae.data.nifti import write_image, write_mask
from cardiac_vae.densities.file import load_density
from cardiac_vae.labels import Phase, Structure
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.refine import RefinementConfig, Refiner


@dataclass(frozen=True)
class RefineOptions:
    """How to refine.

    Attributes:
        model: Folder of a trained shape model.
        labels: The text of ``--labels``, if given.
        refine_valid: Refine masks that break nothing, too.
        calibration: Folder of what is known of the segmenter's errors, if anything is.
        settings: YAML file of a ``RefinementConfig``, if it is not the default.
        density: Folder of a density over the model's codes, in the place of its prior.
        phase: Of masks whose names say none; None to compare those of one heart.
    """

    model: Path
    labels: str | None = None
    refine_valid: bool = False
    calibration: Path | None = None
    settings: Path | None = None
    density: Path | None = None
    phase: Phase | None = None


def refine_masks(cases: Sequence[Case], plan: OutputPlan, options: RefineOptions) -> int:
    """Refine each case, write masks and report, print the summary, return the exit status."""
    labelling = Labelling.parse(options.labels)
    known = None if options.calibration is None else Calibration.load(options.calibration)
    is_asked = any(target.entropy is not None for target in plan.targets.values())
    if is_asked and options.calibration is not None and known is not None:
        warn_without_intervals(options.calibration, known)
    values = {} if options.settings is None else read_yaml(options.settings)
    config = RefinementConfig.parse(values, str(options.settings))
    density = None if options.density is None else load_density(options.density)
    refiner = Refiner.load(options.model, config, known, density)

    def lv_ml(path: Path) -> float:
        volume, (mask,) = labelling.read(path)  # of a cine, a ValueError
        return volume_ml(mask, Structure.LV, volume.spacing_mm)

    phases = Phases((case.source for case in cases), options.phase, lv_ml)

    def refine(case: Case) -> list[VolumeReport]:
        volume, structures = labelling.read(case.source)
        images = scan_of(case, volume)
        probabilities = probabilities_of(case, volume)
        results = [
            refiner.refine(
                frame,
                volume.spacing_mm,
                probabilities,
                image,
                phase=phases.of(case.source),
                refine_valid=options.refine_valid,
            ).unless_refused(f"{case.source}, frame {index}")
            for index, (frame, image) in enumerate(zip(structures, images, strict=True))
        ]
        goal = plan.targets[case.source]
        target = goal.mask
        if any(result.is_changed for result in results):
            # Frames that stay keep the values on file.
            frames = [
                labelling.write_back(result.mask) if result.is_changed else original
                for result, original in zip(results, volume.frames, strict=True)
            ]
            write_mask(target, np.stack(frames), volume)
        else:
            copy_volume(case.source, target)
        measurements: dict[str, Measurement] = {}
        if goal.entropy is not None and probabilities is not None:  # which makes it one frame
            mask = results[0].mask
            sure = refiner.calibration.uncertainty(mask, probabilities, volume.spacing_mm)
            write_image(goal.entropy, sure.entropy_bits, volume)
            measurements = measure(mask, volume.spacing_mm, sure.intervals_ml())
        return [
            VolumeReport.refined(case.source, target, frame, result, measurements)
            for frame, result in enumerate(results)
        ]

    done, failures = run_each(cases, refine, "refining")
    finish([volume for volumes in done for volume in volumes], failures, plan.report)
    return BAD_INPUT if failures else FINE
