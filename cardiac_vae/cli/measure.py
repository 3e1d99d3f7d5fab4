"""``cardiac-vae measure``: volumes, mass and ejection fractions of masks, and how sure they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.cli.companions import probabilities_of
from cardiac_vae.cli.console import (
    BAD_INPUT,
    FINE,
    Failure,
    print_table,
    run_each,
    say,
    say_failures,
    short_names,
)
from cardiac_vae.cli.hearts import MeasuredHeart, MeasuredVolume
from cardiac_vae.cli.inputs import Case
from cardiac_vae.cli.masks import Labelling
from cardiac_vae.cli.measure_report import write_measure_report
from cardiac_vae.cli.measurements import Measurement, measure, warn_without_intervals
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.uncertainty import ErrorModel

_SHOWN_LEVEL = "90"
_OF_VOLUME = {"lv_ml": "LV ml", "myo_ml": "MYO ml", "rv_ml": "RV ml", "mass_g": "LV mass g"}
_OF_HEART = {
    "lv_edv_ml": "LV EDV ml",
    "lv_esv_ml": "LV ESV ml",
    "lv_sv_ml": "LV SV ml",
    "lv_ef_percent": "LV EF %",
    "rv_edv_ml": "RV EDV ml",
    "rv_esv_ml": "RV ESV ml",
    "rv_ef_percent": "RV EF %",
    "mass_g": "LV mass g",
}


@dataclass(frozen=True)
class MeasureOptions:
    """How to measure.

    Attributes:
        calibration: Folder of what is known of the segmenter's errors, if probabilities are given.
        labels: The text of ``--labels``, if given.
        report: Where to write what was measured.
    """

    calibration: Path | None = None
    labels: str | None = None
    report: Path | None = None


def measure_masks(
    cases: Sequence[Case], hearts: Mapping[Path, Sequence[Path]], options: MeasureOptions
) -> int:
    """Measure each case and heart, print the tables, write the report, return the exit status.

    ``hearts`` are the files of each heart that has several, ``data.heart_names.find_hearts``.
    """
    labelling = Labelling.parse(options.labels)
    known = None
    if options.calibration is not None:
        known = Calibration.load(options.calibration, with_corrector=False)
        warn_without_intervals(options.calibration, known)

    def measure_file(case: Case) -> list[MeasuredVolume]:
        return _measure_file(case, labelling, known)

    files, failures = run_each(cases, measure_file, "measuring")
    measured = _measure_hearts(files, hearts, failures, known.errors if known else None)
    names = short_names(heart.path for heart in measured)
    by_name = {names[heart.path]: heart for heart in measured}
    _print_tables(files, by_name)
    _warn(files, by_name)
    say_failures(failures, len(cases))
    if options.report is not None and files:
        volumes = [volume for volumes in files for volume in volumes]
        write_measure_report(options.report, volumes, by_name, failures)
    return BAD_INPUT if failures else FINE


def _measure_file(
    case: Case, labelling: Labelling, known: Calibration | None
) -> list[MeasuredVolume]:
    mask, structures = labelling.read(case.source)
    probabilities = probabilities_of(case, mask)
    volumes = []
    for index, frame in enumerate(structures):
        sure = None
        if known is not None and probabilities is not None:  # which makes it one frame
            sure = known.uncertainty(frame, probabilities, mask.spacing_mm)
        volume = MeasuredVolume(
            source=case.source,
            frame=index,
            is_cine=mask.is_cine,
            num_slices=len(frame),
            num_plausible=check_volume(frame, mask.spacing_mm).num_valid_slices,
            measurements=measure(frame, mask.spacing_mm, sure.intervals_ml() if sure else {}),
            levels=sure.levels if sure else None,
        )
        volumes.append(volume)
    return volumes


def _measure_hearts(
    files: Sequence[Sequence[MeasuredVolume]],
    hearts: Mapping[Path, Sequence[Path]],
    failures: Sequence[Failure],
    errors: ErrorModel | None,
) -> list[MeasuredHeart]:
    """Join the frames of each cine and the files of each heart, in the order of the files."""
    heart_of = {path: heart for heart, paths in hearts.items() for path in paths}
    joined: dict[Path, list[MeasuredVolume]] = {}
    for volumes in files:
        source = volumes[0].source
        if volumes[0].is_cine:
            joined[source] = list(volumes)
        elif source in heart_of:
            joined.setdefault(heart_of[source], []).extend(volumes)
    for failure in failures:
        heart = heart_of.get(failure.source)
        if heart is not None and heart in joined:
            del joined[heart]
            say(f"warning: {heart}: not measured as one heart, since a file of it failed")
    return [
        MeasuredHeart.of(path, volumes, errors)
        for path, volumes in joined.items()
        if len(volumes) > 1
    ]


def _print_tables(
    files: Sequence[Sequence[MeasuredVolume]], hearts: Mapping[str, MeasuredHeart]
) -> None:
    volumes = [volume for volumes in files for volume in volumes]
    if not volumes:
        return
    names = short_names(volume.source for volume in volumes)
    rows = [
        (
            names[volume.source],
            volume.frame,
            f"{volume.num_plausible} of {volume.num_slices}",
            *(_shown(volume.measurements.get(name)) for name in _OF_VOLUME),
        )
        for volume in volumes
    ]
    print_table(("mask", "frame", "plausible", *_OF_VOLUME.values()), rows)
    print()
    if hearts:
        rows_of_hearts = [
            (
                name,
                heart.ed.instant,
                heart.es.instant,
                *(_shown(heart.measurements.get(measurement)) for measurement in _OF_HEART),
            )
            for name, heart in hearts.items()
        ]
        print_table(("heart", "ED", "ES", *_OF_HEART.values()), rows_of_hearts)
        print()
    print(_totals(volumes, len(hearts)))


def _totals(volumes: Sequence[MeasuredVolume], num_hearts: int) -> str:
    counted = ", ".join(
        f"{count} {noun}" if count == 1 else f"{count} {noun}s"
        for count, noun in ((len(volumes), "volume"), (num_hearts, "heart"))
    )
    has_intervals = any(volume.measurements["lv_ml"].intervals for volume in volumes)
    return f"{counted}; in parentheses {_SHOWN_LEVEL} % intervals" if has_intervals else counted


def _shown(measured: Measurement | None) -> str:
    if measured is None:
        return "-"
    interval = measured.intervals.get(_SHOWN_LEVEL)
    ends = "" if interval is None else f" ({interval[0]:.0f} to {interval[1]:.0f})"
    return f"{measured.value:.1f}{ends}"


def _warn(files: Sequence[Sequence[MeasuredVolume]], hearts: Mapping[str, MeasuredHeart]) -> None:
    for volumes in files:
        num_empty = sum(volume.is_empty for volume in volumes)
        if num_empty:
            where = f" in {num_empty} of {len(volumes)} frames" if len(volumes) > 1 else ""
            say(f"warning: {volumes[0].source}: all background{where}, so the volumes are 0")
    for name, heart in hearts.items():
        for warning in heart.warnings:
            say(f"warning: {name}: {warning}")
