"""``cardiac-vae segment``: scans in, masks out: the segmenter's, refined."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.cli.console import BAD_INPUT, FINE, run_each
from cardiac_vae.cli.drawings import Drawings
from cardiac_vae.cli.inputs import Case
from cardiac_vae.cli.masks import Labelling
from cardiac_vae.cli.outputs import OutputPlan
from cardiac_vae.cli.phases import Phases
from cardiac_vae.cli.report import VolumeReport, finish
from cardiac_vae.data.nifti import read_image, write_mask, write_probabilities
from cardiac_vae.labels import Phase, most_probable
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.refine import Refiner
from cardiac_vae.segmentation.inference import Segmenter


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment.

    Attributes:
        segmenter: Folder of a trained segmenter.
        model: Folder of a trained shape model, or None to keep the segmenter's own masks.
        labels: The text of ``--labels``, if given.
        calibration: Folder of what is known of the segmenter's errors, if anything is.
        phase: Of scans whose names say none; None to compare those of one heart.
    """

    segmenter: Path
    model: Path | None
    labels: str | None = None
    calibration: Path | None = None
    phase: Phase | None = None


def segment_scans(cases: Sequence[Case], plan: OutputPlan, options: SegmentOptions) -> int:
    """Segment each scan, write masks and report, print the summary, return the exit status."""
    labelling = Labelling.parse(options.labels)
    drawings = Drawings(Segmenter.load(options.segmenter))
    known = None if options.calibration is None else Calibration.load(options.calibration)
    refiner = None if options.model is None else Refiner.load(options.model, calibration=known)
    compared = () if refiner is None else (case.source for case in cases)
    phases = Phases(compared, options.phase, drawings.lv_ml)

    def segment(case: Case) -> list[VolumeReport]:
        scan, target = read_image(case.source), plan.targets[case.source]
        if target.probabilities is not None and scan.is_cine:
            raise ValueError(
                f"{case.source}: expected a single 3-D scan for --probabilities, got a cine of "
                f"{len(scan.frames)} frames; segment it without"
            )
        masks, reports = [], []
        phase = phases.of(case.source)
        for frame, probabilities in enumerate(drawings.take(scan)):
            mask = most_probable(probabilities)
            if refiner is None:
                verdict = check_volume(mask, scan.spacing_mm)
                report = VolumeReport.segmented(case.source, target.mask, frame, verdict)
            else:
                result = refiner.refine(mask, scan.spacing_mm, probabilities, phase=phase)
                result = result.unless_refused(f"{case.source}, frame {frame}")
                mask = result.mask
                report = VolumeReport.refined(case.source, target.mask, frame, result)
            masks.append(labelling.write_back(mask))
            reports.append(report)
        if target.probabilities is not None:
            write_probabilities(target.probabilities, probabilities, scan)
        write_mask(target.mask, np.stack(masks), scan)
        return reports

    done, failures = run_each(cases, segment, "segmenting")
    finish([volume for volumes in done for volume in volumes], failures, plan.report)
    return BAD_INPUT if failures else FINE
