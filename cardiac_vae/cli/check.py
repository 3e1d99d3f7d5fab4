"""``cardiac-vae check``: which slices of a mask break which criterion, and how unlike hearts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cardiac_vae.anatomy.criteria import CRITERIA, check_volume
from cardiac_vae.cli.check_report import CheckedSlice, write_check_report
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
from cardiac_vae.cli.inputs import Case
from cardiac_vae.cli.masks import Labelling
from cardiac_vae.data.case import Spacing

if TYPE_CHECKING:  # torch takes seconds to import, and most checks do without
    from cardiac_vae.refinement.judge import Judge


@dataclass(frozen=True)
class CheckOptions:
    """How to check.

    Attributes:
        model: Folder of a trained shape model, to say how unlike hearts slices are.
        density: Folder of the density over its codes.
        labels: The text of ``--labels``, if given.
        report: Where to write what was found, slice by slice.
    """

    model: Path | None = None
    density: Path | None = None
    labels: str | None = None
    report: Path | None = None


@dataclass(frozen=True)
class CheckedMask:
    """What the check of a file found: the slices of all its frames."""

    source: Path
    num_frames: int
    slices: tuple[CheckedSlice, ...]

    @property
    def num_empty(self) -> int:
        """Slices that hold nothing."""
        return sum(slice_.is_empty for slice_ in self.slices)

    @property
    def num_plausible(self) -> int:
        """Slices that break no criterion."""
        return sum(not slice_.broken for slice_ in self.slices)

    @property
    def is_plausible(self) -> bool:
        """Whether no slice breaks a criterion."""
        return self.num_plausible == len(self.slices)

    @property
    def most_surprising(self) -> CheckedSlice | None:
        """The slice that is most unlike a heart, of those of which that is known."""
        known = [slice_ for slice_ in self.slices if slice_.excess is not None]
        return max(known, key=lambda slice_: slice_.excess or 0.0, default=None)


def check_masks(cases: Sequence[Case], options: CheckOptions) -> int:
    """Check each case, print the findings, write the report, return the exit status."""
    labelling = Labelling.parse(options.labels)
    judge = _load_judge(options)

    def check(case: Case) -> CheckedMask:
        volume, structures = labelling.read(case.source)
        slices = [
            slice_
            for index, frame in enumerate(structures)
            for slice_ in _checked_slices(index, frame, volume.spacing_mm, judge)
        ]
        return CheckedMask(case.source, len(structures), tuple(slices))

    checked, failures = run_each(cases, check, "checking")
    names = short_names(mask.source for mask in checked)
    _print_findings(checked, names)
    if judge is not None:
        _print_most_surprising(checked, names, len(judge.scale.hearts))
    _print_summary(checked, names, is_judged=judge is not None)
    for mask in checked:
        if mask.num_empty == len(mask.slices):
            say(f"warning: {mask.source}: all background, there is no heart to check")
    say_failures(failures, len(cases))
    if options.report is not None and checked:
        found = {str(mask.source): mask.slices for mask in checked}
        write_check_report(options.report, found, failures)
    if failures:
        return BAD_INPUT
    return FINE if all(mask.is_plausible for mask in checked) else IMPLAUSIBLE


def _load_judge(options: CheckOptions) -> "Judge | None":
    if options.model is None or options.density is None:
        return None
    from cardiac_vae.refinement.judge import Judge

    return Judge.load(options.model, options.density)


def _checked_slices(
    frame: int, mask: np.ndarray, spacing_mm: Spacing, judge: "Judge | None"
) -> list[CheckedSlice]:
    verdict = check_volume(mask, spacing_mm)
    surprise = None if judge is None else judge.judge(mask, spacing_mm)
    slices = []
    for index, excesses in enumerate(verdict.slices):
        broken = {name: excess for name, excess in excesses.items() if excess > 0}
        known = (surprise and surprise.of_slice(index)) or ()
        slices.append(CheckedSlice(frame, index, not mask[index].any(), broken, *known))
    return slices


def _print_findings(checked: Sequence[CheckedMask], names: Mapping[Path, str]) -> None:
    rows = [
        (
            names[mask.source],
            slice_.frame,
            slice_.slice,
            CRITERIA[name].description,
            f"{excess:.3g} {CRITERIA[name].unit}",
        )
        for mask in checked
        for slice_ in mask.slices
        for name, excess in slice_.broken.items()
    ]
    if rows:
        print_table(("mask", "frame", "slice", "what is wrong", "beyond the limit by"), rows)
        print()


def _print_most_surprising(
    checked: Sequence[CheckedMask], names: Mapping[Path, str], num_hearts: int
) -> None:
    rows = [
        (
            names[mask.source],
            most.frame,
            most.slice,
            f"{most.nats:.0f} nats",
            f"{most.excess:+.0f} nats",
            f"{_percent(most)} of {num_hearts} training hearts",
        )
        for mask in checked
        if (most := mask.most_surprising) is not None
    ]
    if rows:
        columns = ("surprise", "beyond its outline", "more surprising than")
        print_table(("mask", "frame", "most surprising slice", *columns), rows)
        print()


def _print_summary(
    checked: Sequence[CheckedMask], names: Mapping[Path, str], *, is_judged: bool
) -> None:
    rows = [
        (
            names[mask.source],
            mask.num_frames,
            len(mask.slices),
            mask.num_plausible,
            mask.num_empty,
            *([_percent(mask.most_surprising)] if is_judged else []),
            "plausible" if mask.is_plausible else "implausible",
        )
        for mask in checked
    ]
    if rows:
        rank = ("surprise rank",) if is_judged else ()
        print_table(("mask", "frames", "slices", "plausible", "empty", *rank, "verdict"), rows)
        num_plausible = sum(mask.is_plausible for mask in checked)
        print(f"{num_plausible} of {len(checked)} masks plausible")


def _percent(slice_: CheckedSlice | None) -> str:
    """Return a slice's rank in whole percent; 100 % is that of what surprises more than all."""
    if slice_ is None or slice_.rank is None:
        return "-"
    return f"{int(100 * slice_.rank + 1e-4)} %"
