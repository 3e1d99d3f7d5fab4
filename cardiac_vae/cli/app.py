"""The commands and their options. Heavy imports wait inside the commands: ``--help`` is instant."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cardiac_vae.cli.console import BAD_INPUT, one_line, say

app = typer.Typer(
    help="Check, refine and make segmentations of short-axis cardiac MRI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Masks = Annotated[
    list[Path],
    typer.Argument(metavar="MASK", help="Masks (NIfTI, 3-D or 4-D cine), or folders of them."),
]
Scans = Annotated[
    list[Path],
    typer.Argument(metavar="SCAN", help="Scans (NIfTI, 3-D or 4-D cine), or folders of them."),
]
Labels = Annotated[
    str | None,
    typer.Option(
        help="What the values of the masks mean: acdc (RV 1, MYO 2, LV 3; the default), "
        "mnms (LV 1, MYO 2, RV 3), or a mapping such as rv=3,myo=2,lv=1.",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A .nii or .nii.gz file for a single input file; otherwise a folder, which also "
        "gets report.csv. Inputs are never overwritten.",
        show_default=False,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Write what was changed and why here: .csv (a row per volume) or .json (slice by "
        "slice).",
        show_default=False,
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of what is known of the segmenter's errors (the stage calibrate): how sure it "
        "is too often, and which slices it draws too much or too little in.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]


@app.command()
def check(
    masks: Masks,
    *,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of a trained shape model with a bound, such as vae: says with --density "
            "how unlike a heart each slice is.",
            show_default=False,
        ),
    ] = None,
    density: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the density over the model's codes (the stage density).",
            show_default=False,
        ),
    ] = None,
    labels: Labels = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Write what was found in each slice here: .csv or .json.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report.")] = False,
) -> None:
    """Check masks against the 16 anatomical criteria.

    Prints which slices break what, with measured values, and with --model and --density which
    slice of each mask surprises the model most. Exit status, by the criteria alone: 0 all are
    plausible, 1 some mask is not, 2 bad input.
    """
    with _bad_input_in_one_line():
        from cardiac_vae.cli.inputs import find_cases
        from cardiac_vae.cli.outputs import require_report

        if (model is None) != (density is None):
            given, missing = ("--model", "--density") if model else ("--density", "--model")
            raise ValueError(
                f"{missing}: expected a folder beside {given}, got none; name both, or neither"
            )
        cases = find_cases(masks)
        if report is not None:
            require_report(cases, report, overwrite=overwrite)

        from cardiac_vae.cli.check import CheckOptions, check_masks

        raise typer.Exit(check_masks(cases, CheckOptions(model, density, labels, report)))


@app.command()
def refine(  # noqa: PLR0913 - one parameter per option
    masks: Masks,
    *,
    model: Annotated[Path, typer.Option(metavar="DIR", help="Folder of a trained shape model.")],
    output: Output,
    scan: Annotated[
        Path | None,
        typer.Option(
            metavar="SCAN",
            help="The scan of the mask, or a folder of scans named as the masks: each mask must "
            "lie on its scan's grid. What its tissues look like is weighed in.",
            show_default=False,
        ),
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option(
            metavar="P",
            help="The segmenter's class probabilities (4-D NIfTI x, y, z, class; background, RV, "
            "MYO, LV), or a folder of them named as the masks.",
            show_default=False,
        ),
    ] = None,
    calibration: Calibration = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings of the refiner (YAML), as in the section refine of configs/params.yaml: "
            "how a slice is explained, how much the segmenter counts, and so on.",
            show_default=False,
        ),
    ] = None,
    density: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of a density over the model's codes (the stage density), which takes the "
            "prior's place where the settings let codes move.",
            show_default=False,
        ),
    ] = None,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also say how sure each mask is: the entropy of every voxel in bits (3-D NIfTI, "
            "in OUT/entropy/, or beside a file OUT), and in the report the volumes and the mass "
            "with 50 % and 90 % intervals. Needs --probabilities and --calibration.",
        ),
    ] = False,
    labels: Labels = None,
    refine_valid: Annotated[
        bool,
        typer.Option("--refine-valid", help="Refine masks that break nothing, too."),
    ] = False,
    report: Report = None,
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

        options = RefineOptions(model, labels, refine_valid, calibration, settings, density)
        raise typer.Exit(refine_masks(cases, plan, options))


@app.command()
def segment(  # noqa: PLR0913 - one parameter per option
    scans: Scans,
    *,
    segmenter: Annotated[Path, typer.Option(metavar="DIR", help="Folder of a trained segmenter.")],
    output: Output,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of a trained shape model, which refines what the segmenter finds.",
            show_default=False,
        ),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option("--refine/--no-refine", help="Refine, or keep the segmenter's own mask."),
    ] = True,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Also write the segmenter's class probabilities (4-D NIfTI), of 3-D scans: in "
            "OUT/probabilities/, or beside a file OUT.",
        ),
    ] = False,
    calibration: Calibration = None,
    labels: Labels = None,
    report: Report = None,
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

        options = SegmentOptions(segmenter, model if refine else None, labels, calibration)
        raise typer.Exit(segment_scans(cases, plan, options))


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
