"""``cardiac-vae check``: which slices of a mask break which criterion, and by how much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cardiac_vae.anatomy.criteria import CRITERIA, VolumeVerdict, check_volume
from cardiac_vae.cli.console import (
    BAD_INPUT,
    FINE,
    IMPLAUSIBLE,
    print_table,
    run_each,
    say,
    say_failures,
    short_names,
)
from cardiac_vae.cli.inputs import Case, find_cases
from cardiac_vae.cli.masks import Labelling


@dataclass(frozen=True)
class Finding:
    """A criterion that a slice breaks, and by how much; frame and slice count from 0."""

    frame: int
    slice: int
    criterion: str
    excess: float


@dataclass(frozen=True)
class CheckedMask:
    """What the check of a file found: the counts over all frames, and each broken criterion."""

    source: Path
    num_frames: int
    num_slices: int
    num_valid_slices: int
    num_empty_slices: int
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, source: Path, verdicts: Sequence[VolumeVerdict]) -> Self:
        """Sum up the verdicts on the frames of a file."""
        return cls(
            source,
            len(verdicts),
            sum(len(verdict.slices) for verdict in verdicts),
            sum(verdict.num_valid_slices for verdict in verdicts),
            sum(verdict.num_empty_slices for verdict in verdicts),
            tuple(
                Finding(frame, index, name, excess)
                for frame, verdict in enumerate(verdicts)
                for index, excesses in enumerate(verdict.slices)
                for name, excess in excesses.items()
                if excess > 0
            ),
        )


def check_masks(paths: Sequence[Path], labels: str | None) -> int:
    """Check masks (files, or folders of them), print the findings, return the exit status."""
    labelling = Labelling.parse(labels)

    def check(case: Case) -> CheckedMask:
        volume, structures = labelling.read(case.source)
        verdicts = [check_volume(frame, volume.spacing_mm) for frame in structures]
        return CheckedMask.of(case.source, verdicts)

    cases = find_cases(paths)
    checked, failures = run_each(cases, check, "checking")
    names = short_names(mask.source for mask in checked)
    _print_findings(checked, names)
    _print_summary(checked, names)
    for mask in checked:
        if mask.num_empty_slices == mask.num_slices:
            say(f"warning: {mask.source}: all background, there is no heart to check")
    say_failures(failures, len(cases))
    if failures:
        return BAD_INPUT
    return IMPLAUSIBLE if any(mask.findings for mask in checked) else FINE


def _print_findings(checked: Sequence[CheckedMask], names: Mapping[Path, str]) -> None:
    rows = [
        (
            names[mask.source],
            finding.frame,
            finding.slice,
            CRITERIA[finding.criterion].description,
            f"{finding.excess:.3g} {CRITERIA[finding.criterion].unit}",
        )
        for mask in checked
        for finding in mask.findings
    ]
    if rows:
        print_table(("mask", "frame", "slice", "what is wrong", "beyond the limit by"), rows)
        print()


def _print_summary(checked: Sequence[CheckedMask], names: Mapping[Path, str]) -> None:
    rows = [
        (
            names[mask.source],
            mask.num_frames,
            mask.num_slices,
            mask.num_valid_slices,
            mask.num_empty_slices,
            "implausible" if mask.findings else "plausible",
        )
        for mask in checked
    ]
    if rows:
        print_table(("mask", "frames", "slices", "plausible", "empty", "verdict"), rows)
        num_plausible = sum(not mask.findings for mask in checked)
        print(f"{num_plausible} of {len(checked)} masks plausible")
