"""What a check found in each slice, on file: CSV or JSON."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cardiac_vae.anatomy.criteria import CRITERIA
from cardiac_vae.cli.console import Failure
from cardiac_vae.cli.outputs import replacing

_COLUMNS = (
    "source",
    "frame",
    "slice",
    "is_empty",
    "broken",
    "nats",
    "excess",
    "rank",
    "error",
)


@dataclass(frozen=True)
class CheckedSlice:
    """What was found in a slice.

    Attributes:
        frame: Position along time, from 0.
        slice: Position along the slice axis, from 0.
        is_empty: Whether it holds nothing.
        broken: By how much it is beyond the limit of each criterion that it breaks, in the
            criterion's unit.
        nats: How unlike a heart it is; None where that is not known.
        excess: Nats beyond those of training hearts with an outline as long.
        rank: The share of training hearts with less excess.
    """

    frame: int
    slice: int
    is_empty: bool
    broken: dict[str, float]
    nats: float | None = None
    excess: float | None = None
    rank: float | None = None


def in_words(broken: Mapping[str, float]) -> str:
    """Return in words by how much a slice is beyond the limits of criteria."""
    return ", ".join(
        f"{CRITERIA[name].description} by {excess:.3g} {CRITERIA[name].unit}".rstrip()
        for name, excess in broken.items()
    )


def write_check_report(
    path: Path, found: Mapping[str, Sequence[CheckedSlice]], failures: Sequence[Failure]
) -> None:
    """Write the slices of each source and the files that failed, as the path's ending says.

    A CSV has a row per slice, and one per file that failed.
    """
    failed = [{"source": str(failure.source), "error": failure.message} for failure in failures]
    with replacing(path) as partial:
        if path.suffix.lower() == ".json":
            masks = [
                {"source": source, "slices": [asdict(slice_) for slice_ in slices]}
                for source, slices in found.items()
            ]
            partial.write_text(json.dumps({"masks": [*masks, *failed]}, indent=1))
            return
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(
                {"source": source, **asdict(slice_), "broken": in_words(slice_.broken)}
                for source, slices in found.items()
                for slice_ in slices
            )
            writer.writerows(failed)
