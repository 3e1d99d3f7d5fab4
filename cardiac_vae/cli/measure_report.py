"""What masks measure, on file: two CSV tables, of volumes and of hearts, or both in one JSON."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cardiac_vae.cli.console import Failure
from cardiac_vae.cli.hearts import HEART_MEASUREMENTS, MeasuredHeart, MeasuredVolume
from cardiac_vae.cli.measurements import MEASUREMENTS, in_percent, interval_columns
from cardiac_vae.cli.outputs import replacing
from cardiac_vae.refinement.uncertainty import LEVELS

_OF_VOLUME = ("source", "frame", "heart", "phase", "slices", "plausible_slices")
_OF_HEART = ("heart", "ed_source", "ed_frame", "es_source", "es_frame")
Row = Mapping[str, Any]


def report_files(path: Path) -> list[Path]:
    """Return what a report is written to: a JSON, or a CSV of volumes and one of hearts."""
    if path.suffix.lower() == ".json":
        return [path]
    return [path, path.with_name(f"{path.stem}_hearts{path.suffix}")]


def write_measure_report(
    path: Path,
    volumes: Sequence[MeasuredVolume],
    hearts: Mapping[str, MeasuredHeart],
    failures: Sequence[Failure],
) -> None:
    """Write volumes, hearts by their names, and the files that failed, as the path's ending says.

    The CSV of volumes has a row per volume, and one per file that failed.
    """
    of_volumes: list[Row] = [
        *_volume_rows(volumes, hearts),
        *({"source": str(failure.source), "error": failure.message} for failure in failures),
    ]
    of_hearts = [_heart_row(name, heart) for name, heart in hearts.items()]
    files = report_files(path)
    if len(files) == 1:
        found = {"volumes": of_volumes, "hearts": of_hearts}
        with replacing(path) as partial:
            partial.write_text(json.dumps(found, indent=1, default=asdict))
        return
    _write_csv(files[0], of_volumes, (*_OF_VOLUME, *_columns(MEASUREMENTS, of_volumes), "error"))
    measured = _columns(HEART_MEASUREMENTS, of_hearts)
    _write_csv(files[1], of_hearts, (*_OF_HEART, *measured, "warnings"))


def _volume_rows(
    volumes: Sequence[MeasuredVolume], hearts: Mapping[str, MeasuredHeart]
) -> Iterable[Row]:
    known = {
        volume: (name, heart.phase_of(volume))
        for name, heart in hearts.items()
        for volume in heart.volumes
    }
    for volume in volumes:
        heart, phase = known.get(volume, (None, None))
        yield {
            "source": str(volume.source),
            "frame": volume.frame,
            "heart": heart,
            "phase": phase,
            "slices": volume.num_slices,
            "plausible_slices": volume.num_plausible,
            "measurements": volume.measurements,
        }


def _heart_row(name: str, heart: MeasuredHeart) -> Row:
    return {
        "heart": name,
        "ed_source": str(heart.ed.source),
        "ed_frame": heart.ed.frame,
        "es_source": str(heart.es.source),
        "es_frame": heart.es.frame,
        "measurements": heart.measurements,
        "warnings": heart.warnings,
    }


def _columns(names: Iterable[str], rows: Sequence[Row]) -> Iterable[str]:
    """Yield a column for each measurement, and for the ends of each interval that is known."""
    known = {column for row in rows for column in _flat(row)}
    for name in names:
        yield name
        for level in LEVELS:
            yield from (end for end in interval_columns(name, in_percent(level)) if end in known)


def _flat(row: Row) -> dict[str, Any]:
    """Return a row with a column per value and per end of an interval."""
    flat = {key: value for key, value in row.items() if key != "measurements"}
    for name, measured in row.get("measurements", {}).items():
        flat |= measured.to_row(name)
    if "warnings" in flat:
        flat["warnings"] = "; ".join(flat["warnings"])
    return flat


def _write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(map(_flat, rows))
