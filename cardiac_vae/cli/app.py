"""The commands and their options. Heavy imports wait inside the commands: ``--help`` is instant."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from cardiac_vae.cli.console import BAD_INPUT, one_line, say
from cardiac_vae.cli.options import (
    Calibration,
    ChangeReport,
    CheckReport,
    JudgingDensity,
    JudgingModel,
    Labels,
    Masks,
    MeasureReport,
    ModelAfterSegmenter,
    OfPhase,
    Output,
    Overwrite,
    OverwriteReport,
    Probabilities,
    Refine,
    RefineValid,
    RefiningDensity,
    RefiningModel,
    ScanOfMask,
    Scans,
    Segmenter,
    Settings,
    Uncertainty,
    WithProbabilities,
)

app = typer.Typer(
    help="Check, measure, refine and make segmentations of short-axis cardiac MRI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def check(
    masks: Masks,
    *,
    model: JudgingModel = None,
    density: JudgingDensity = None,
    labels: Labels = None,
    report: CheckReport = None,
    overwrite: OverwriteReport = False,
) -> None:
    """Check masks against the 16 anatomical criteria.

    Prints which slices break what, with measured values, and with --model and --density which
    slice of each mask surprises the model most. Exit status, by the criteria alone: 0 all are
    plausible, 1 some mask is not, 2 bad input.
    """
    with _bad_input_in_one_line():
        from cardiac_vae.cli.inputs import find_cases
        from cardiac_vae.cli.outputs import require_report

        _require_both("--model", model, "--density", density)
        cases = find_cases(masks)
        if report is not None:
            require_report(cases, report, overwrite=overwrite)

        from cardiac_vae.cli.check import CheckOptions, check_masks

        raise typer.Exit(check_masks(cases, CheckOptions(model, density, labels, report)))


@app.command()
def measure(
    masks: Masks,
    *,
    probabilities: Probabilities = None,
    calibration: Calibration = None,
    labels: Labels = None,
    report: MeasureReport = None,
    overwrite: OverwriteReport = False,
) -> None:
    """Measure masks: volumes, mass and ejection fractions.

    A heart is a cine, or the files of a folder whose names are equal but for their instant: frame
    and a number (p1_frame01_gt, p1_frame12_gt), ED or ES. End-diastole and end-systole are those
    that the names say, else those with the largest and the smallest LV. With --probabilities and
    --calibration volumes, mass and ejection fractions get 90 % intervals (50 % as well in the
    report). Exit status: 0 done, 2 bad input (the other masks of the run are still measured).
    """
    with _bad_input_in_one_line():
        from cardiac_vae.cli.inputs import find_cases
        from cardiac_vae.data.heart_names import find_hearts

        _require_both("--probabilities", probabilities, "--calibration", calibration)
        cases = find_cases(masks, probabilities=probabilities)
        hearts = find_hearts(case.source for case in cases)

        from cardiac_vae.cli.measure import MeasureOptions, measure_masks
        from cardiac_vae.cli.measure_report import report_files
        from cardiac_vae.cli.outputs import require_report

        if report is not None:
            for path in report_files(report):
                require_report(cases, path, overwrite=overwrite)
        raise typer.Exit(measure_masks(cases, hearts, MeasureOptions(calibration, labels, report)))


@app.command()
def refine(  # noqa: PLR0913 - one parameter per option
    masks: Masks,
    *,
    model: RefiningModel,
    output: Output,
    scan: ScanOfMask = None,
    probabilities: Probabilities = None,
    calibration: Calibration = None,
    settings: Settings = None,
    density: RefiningDensity = None,
    phase: OfPhase = None,
    uncertainty: Uncertainty = False,
    labels: Labels = None,
    refine_valid: RefineValid = False,
    report: ChangeReport = None,
    overwrite: Overwrite = False,
) -> None:
    """Refine masks so that every slice is anatomically plausible.

    Each mask is written on its own grid, with its own header and labels; one that breaks nothing
    comes back byte for byte. Exit status: 0 done, 2 bad input (the other masks of the run are
    still refined).
    """
    with _bad_input_in_one_line():
        from cardiac_vae.cli.inputs import find_cases
        from cardiac_vae.cli.outputs import plan_outputs

        if uncertainty and (probabilities is None or calibration is None):
            raise ValueError(
                "--uncertainty: expected --probabilities and --calibration beside it, since doubt "
                "is measured by both; give them, or leave it out"
            )
        cases = find_cases(masks, scan=scan, probabilities=probabilities)
        plan = plan_outputs(
            cases,
            output,
            report,
            overwrite=overwrite,
            beside=["entropy"] if uncertainty else [],
        )

        # Torch takes seconds to import: only once there is work to do.
        from cardiac_vae.cli.refine import RefineOptions, refine_masks
        from cardiac_vae.labels import Phase

        options = RefineOptions(
            model=model,
            labels=labels,
            refine_valid=refine_valid,
            calibration=calibration,
            settings=settings,
            density=density,
            phase=Phase(phase) if phase else None,
        )
        raise typer.Exit(refine_masks(cases, plan, options))


@app.command()
def segment(  # noqa: PLR0913 - one parameter per option
    scans: Scans,
    *,
    segmenter: Segmenter,
    output: Output,
    model: ModelAfterSegmenter = None,
    refine: Refine = True,
    probabilities: WithProbabilities = False,
    calibration: Calibration = None,
    phase: OfPhase = None,
    labels: Labels = None,
    report: ChangeReport = None,
    overwrite: Overwrite = False,
) -> None:
    """Segment scans, and refine the result.

    Masks are written as uint8 on the scans' own grids. Exit status: 0 done, 2 bad input (the
    other scans of the run are still segmented).
    """
    with _bad_input_in_one_line():
        from cardiac_vae.cli.inputs import find_cases
        from cardiac_vae.cli.outputs import plan_outputs

        if refine and model is None:
            raise ValueError(
                "--model: expected the folder of a shape model, got none; name one, or keep the "
                "segmenter's own masks with --no-refine"
            )
        cases = find_cases(scans)
        plan = plan_outputs(
            cases,
            output,
            report,
            overwrite=overwrite,
            beside=["probabilities"] if probabilities else [],
        )

        from cardiac_vae.cli.segment import SegmentOptions, segment_scans
        from cardiac_vae.labels import Phase

        options = SegmentOptions(
            segmenter,
            model if refine else None,
            labels,
            calibration,
            Phase(phase) if phase else None,
        )
        raise typer.Exit(segment_scans(cases, plan, options))


def _require_both(one: str, first: Path | None, other: str, second: Path | None) -> None:
    if (first is None) != (second is None):
        given, missing = (one, other) if first else (other, one)
        raise ValueError(
            f"{missing}: expected a path beside {given}, got none; name both, or neither"
        )


@contextmanager
def _bad_input_in_one_line() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        say(f"error: {one_line(error)}")
        raise typer.Exit(BAD_INPUT) from None


def main() -> None:
    """Run the command named on the command line."""
    app()
