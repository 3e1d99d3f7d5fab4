"""The arguments and options of the commands, as types of their parameters."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def _path(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, show_default=False)


def _flag(names: str, text: str) -> Any:
    return typer.Option(names, help=text)


# What goes in.

Masks = Annotated[
    list[Path],
    typer.Argument(metavar="MASK", help="Masks (NIfTI, 3-D or 4-D cine), or folders of them."),
]
Scans = Annotated[
    list[Path],
    typer.Argument(metavar="SCAN", help="Scans (NIfTI, 3-D or 4-D cine), or folders of them."),
]
ScanOfMask = Annotated[
    Path | None,
    _path(
        "SCAN",
        "The scan of the mask, or a folder of scans named as the masks: each mask must lie on its "
        "scan's grid. What its tissues look like is weighed in.",
    ),
]
Probabilities = Annotated[
    Path | None,
    _path(
        "P",
        "The segmenter's class probabilities (4-D NIfTI x, y, z, class; background, RV, MYO, LV), "
        "or a folder of them named as the masks.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        help="What the values of the masks mean: acdc (RV 1, MYO 2, LV 3; the default), "
        "mnms (LV 1, MYO 2, RV 3), or a mapping such as rv=3,myo=2,lv=1.",
        show_default=False,
    ),
]

# What was learnt.

RefiningModel = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder of a trained shape model.")
]
ModelAfterSegmenter = Annotated[
    Path | None,
    _path("DIR", "Folder of a trained shape model, which refines what the segmenter finds."),
]
JudgingModel = Annotated[
    Path | None,
    _path(
        "DIR",
        "Folder of a trained shape model with a bound, such as vae: says with --density how unlike "
        "a heart each slice is.",
    ),
]
JudgingDensity = Annotated[
    Path | None,
    _path("DIR", "Folder of the density over the model's codes (the stage density)."),
]
RefiningDensity = Annotated[
    Path | None,
    _path(
        "DIR",
        "Folder of a density over the model's codes (the stage density), which takes the prior's "
        "place where the settings let codes move.",
    ),
]
Segmenter = Annotated[Path, typer.Option(metavar="DIR", help="Folder of a trained segmenter.")]
Calibration = Annotated[
    Path | None,
    _path(
        "DIR",
        "Folder of what is known of the segmenter's errors (the stage calibrate): how sure it is "
        "too often, and which slices it draws too much or too little in.",
    ),
]

# How.

Settings = Annotated[
    Path | None,
    _path(
        "FILE",
        "Settings of the refiner (YAML), as in the section refine of configs/params.yaml: how a "
        "slice is explained, how much the segmenter counts, and so on.",
    ),
]
Uncertainty = Annotated[
    bool,
    _flag(
        "--uncertainty",
        "Also say how sure each mask is: the entropy of every voxel in bits (3-D NIfTI, in "
        "OUT/entropy/, or beside a file OUT), and in the report the volumes and the mass with "
        "50 % and 90 % intervals. Needs --probabilities and --calibration.",
    ),
]
OfPhase = Annotated[
    Literal["ed", "es"] | None,
    typer.Option(
        "--phase",
        help="The instant of all inputs whose names do not say it (ED, ES). Left out, numbered "
        "files of one heart (frame01, frame12) are told apart by their LVs. At end-systole "
        "the base has moved out of slices that hold it at end-diastole. With --calibration.",
        show_default=False,
    ),
]
RefineValid = Annotated[bool, _flag("--refine-valid", "Refine masks that break nothing, too.")]
Refine = Annotated[bool, _flag("--refine/--no-refine", "Refine, or keep the segmenter's own mask.")]

# What comes out.

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
WithProbabilities = Annotated[
    bool,
    _flag(
        "--probabilities",
        "Also write the segmenter's class probabilities (4-D NIfTI), of 3-D scans: in "
        "OUT/probabilities/, or beside a file OUT.",
    ),
]
CheckReport = Annotated[
    Path | None, _path("PATH", "Write what was found in each slice here: .csv or .json.")
]
MeasureReport = Annotated[
    Path | None,
    _path(
        "PATH",
        "Write what was measured here: NAME.csv (a row per volume), with NAME_hearts.csv (a row "
        "per heart) beside it, or NAME.json (both).",
    ),
]
ChangeReport = Annotated[
    Path | None,
    _path(
        "PATH",
        "Write what was changed and why here: .csv (a row per volume) or .json (slice by slice).",
    ),
]
Overwrite = Annotated[bool, _flag("--overwrite", "Replace outputs that exist.")]
OverwriteReport = Annotated[bool, _flag("--overwrite", "Replace a report.")]
