"""What a run changed and why: the report on file (CSV or JSON) and the summary table."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from cardiac_vae.anatomy.criteria import VolumeVerdict
from cardiac_vae.cli.check_report import in_words
from cardiac_vae.cli.console import Failure, print_table, say, say_failures, short_names
from cardiac_vae.cli.measurements import Measurement
from cardiac_vae.cli.outputs import replacing
from cardiac_vae.refinement.result import RefinementResult

_COLUMNS = (
    "source",
    "output",
    "frame",
    "result",
    "slices",
    "plausible_before",
    "plausible_after",
    "changed_slices",
    "changed_pixels",
    "changes",
    "warnings",
    "bounds",
    "error",
)


@dataclass(frozen=True)
class SliceChange:
    """A slice that broke something or was changed.

    Attributes:
        slice: Position along the slice axis, from 0.
        route: How the refiner arrived at the slice.
        changed_pixels: Pixels whose label is another now.
        broken: By how much the slice was beyond the limit of each criterion it broke, in the
            criterion's unit.
    """

    slice: int
    route: str
    changed_pixels: int
    broken: dict[str, float]

    def describe(self) -> str:
        """Return the change in words."""
        reasons = in_words(self.broken) or "nothing broken"
        return f"slice {self.slice}: {reasons} -> {self.route} ({self.changed_pixels} px)"


@dataclass(frozen=True)
class VolumeReport:
    """One volume (a 3-D file, or a frame of a cine) of a run.

    Attributes:
        source: Input file.
        output: Output file, or "" where there is none.
        frame: Position along time, from 0.
        result: ``unchanged``, ``refined``, ``segmented`` or ``failed``.
        slices: Number of slices.
        plausible_before: Slices that broke no criterion before.
        plausible_after: The same, after.
        changes: The slices that broke something or were changed.
        warnings: What the person should know of the volume.
        bounds: The bound in nats, sweep by sweep, where the scan was weighed in.
        error: Why it failed.
        measurements: Volumes and mass with their intervals, where they were asked for.
    """

    source: str
    output: str
    frame: int
    result: str
    slices: int = 0
    plausible_before: int = 0
    plausible_after: int = 0
    changes: tuple[SliceChange, ...] = ()
    warnings: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    error: str = ""
    measurements: Mapping[str, Measurement] = field(default_factory=dict)

    @classmethod
    def refined(
        cls,
        source: Path,
        output: Path,
        frame: int,
        result: RefinementResult,
        measurements: Mapping[str, Measurement] | None = None,
    ) -> Self:
        """Report what the refiner did to one volume."""
        changes = tuple(
            SliceChange(decision.index, decision.route, decision.changed_pixels, broken)
            for decision in result.slices
            if (broken := _broken(result.before, decision.index)) or decision.changed_pixels
        )
        return cls(
            str(source),
            str(output),
            frame,
            "refined" if result.is_changed else "unchanged",
            len(result.before.slices),
            result.before.num_valid_slices,
            result.after.num_valid_slices,
            changes,
            result.warnings,
            result.bounds,
            measurements=measurements or {},
        )

    @classmethod
    def segmented(cls, source: Path, output: Path, frame: int, verdict: VolumeVerdict) -> Self:
        """Report a segmenter's own mask."""
        num_valid = verdict.num_valid_slices
        changes = tuple(
            SliceChange(index, "kept", 0, broken)
            for index in range(len(verdict.slices))
            if (broken := _broken(verdict, index))
        )
        return cls(
            str(source),
            str(output),
            frame,
            "segmented",
            len(verdict.slices),
            num_valid,
            num_valid,
            changes,
        )

    @classmethod
    def failed(cls, failure: Failure) -> Self:
        """Report a file that could not be done."""
        return cls(str(failure.source), "", 0, "failed", error=failure.message)

    @property
    def changed_slices(self) -> int:
        """Number of slices with a changed pixel."""
        return sum(change.changed_pixels > 0 for change in self.changes)

    @property
    def changed_pixels(self) -> int:
        """Number of pixels whose label is another now."""
        return sum(change.changed_pixels for change in self.changes)

    def to_row(self) -> dict[str, Any]:
        """Return the report flat, for CSV."""
        row = {item.name: getattr(self, item.name) for item in fields(self)}
        row |= {"changed_slices": self.changed_slices, "changed_pixels": self.changed_pixels}
        row["changes"] = "; ".join(change.describe() for change in self.changes)
        row["warnings"] = "; ".join(self.warnings)
        row["bounds"] = "; ".join(f"{bound:.1f}" for bound in self.bounds)
        for name, measurement in row.pop("measurements").items():
            row |= measurement.to_row(name)
        return row


def _broken(verdict: VolumeVerdict, index: int) -> dict[str, float]:
    return {name: value for name, value in verdict.slices[index].items() if value > 0}


def write_report(path: Path, volumes: Sequence[VolumeReport]) -> None:
    """Write the report as CSV (a row per volume) or JSON (slice by slice), by the path's ending."""
    with replacing(path) as partial:
        if path.suffix.lower() == ".json":
            partial.write_text(json.dumps({"volumes": [asdict(v) for v in volumes]}, indent=1))
            return
        with partial.open("w", newline="") as file:
            rows = [volume.to_row() for volume in volumes]
            measured = dict.fromkeys(name for row in rows for name in row if name not in _COLUMNS)
            writer = csv.DictWriter(file, [*_COLUMNS, *measured], restval="")
            writer.writeheader()
            writer.writerows(rows)


def finish(volumes: Sequence[VolumeReport], failures: Sequence[Failure], path: Path | None) -> None:
    """Print the summary table, the warnings and the failures, and write the report."""
    everything = [*volumes, *map(VolumeReport.failed, failures)]
    num_cases = len({volume.source for volume in everything})
    if volumes:
        _print_summary(everything)
    for volume in volumes:
        for warning in volume.warnings:
            say(f"warning: {volume.source}, frame {volume.frame}: {warning}")
    say_failures(failures, num_cases)
    if path is not None and volumes:
        write_report(path, everything)


def _print_summary(volumes: Sequence[VolumeReport]) -> None:
    """Print one row per file; the frames of a cine are added up."""
    by_source: dict[str, list[VolumeReport]] = {}
    for volume in volumes:
        by_source.setdefault(volume.source, []).append(volume)
    names = short_names(map(Path, by_source))
    rows = []
    totals: dict[str, int] = {}
    for source, frames in by_source.items():
        results = {volume.result for volume in frames}
        result = results.pop() if len(results) == 1 else "refined"
        totals[result] = totals.get(result, 0) + 1
        sums = [
            "-" if result == "failed" else sum(getattr(volume, name) for volume in frames)
            for name in ("slices", "plausible_before", "plausible_after", "changed_slices")
        ]
        rows.append((names[Path(source)], len(frames), *sums, result))
    columns = ("file", "frames", "slices", "plausible before", "after", "changed", "result")
    print_table(columns, rows)
    print(", ".join(f"{count} {result}" for result, count in totals.items()))
