"""Where the results of a run go: all refusals before any work, and writing that is whole or not."""

import gzip
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cardiac_vae.cli.inputs import Case, is_nifti_name

REPORT_ENDINGS = (".csv", ".json")
Companion = Literal["probabilities", "entropy"]
_OTHER_IMAGE_ENDINGS = {".gz", ".img", ".hdr", ".mha", ".mhd", ".nrrd", ".mgz", ".dcm", ".zip"}


@dataclass(frozen=True)
class Target:
    """Where the results of one case go."""

    mask: Path
    probabilities: Path | None = None
    entropy: Path | None = None

    @property
    def files(self) -> Iterator[Path]:
        """The files the case is written to."""
        return (path for path in (self.mask, self.probabilities, self.entropy) if path is not None)


@dataclass(frozen=True)
class OutputPlan:
    """Where the results of a run go: one target per case, and the report, if any."""

    targets: dict[Path, Target]
    report: Path | None

    @property
    def option(self) -> str:
        """The option that says where to write."""
        return "--output" if self.targets else "--report"

    @property
    def files(self) -> Iterator[Path]:
        """Every file the run would write."""
        for target in self.targets.values():
            yield from target.files
        if self.report is not None:
            yield self.report


def plan_outputs(
    cases: Sequence[Case],
    output: Path,
    report: Path | None,
    *,
    overwrite: bool,
    beside: Sequence[Companion] = (),
) -> OutputPlan:
    """Decide every output path, and refuse the run if one of them must not be written.

    ``beside`` names what is written beside each mask: in a folder of that name in the folder
    ``output``, or with that name at the end of the file's.

    Raises:
        ValueError: if ``output`` is a file for several cases, two outputs coincide, an output is
            an input under any name, exists already (without ``overwrite``), or cannot be written.
    """
    plan = _lay_out(cases, output, report, beside)
    _refuse_coinciding(plan)
    _refuse_what_must_not_be_written(plan, cases, overwrite=overwrite)
    return plan


def require_report(cases: Sequence[Case], report: Path, *, overwrite: bool) -> None:
    """Refuse the run if its report, the only thing that it writes, must not be written.

    Raises:
        ValueError: if the report has no known ending, is an input under any name, exists already
            (without ``overwrite``), or cannot be written.
    """
    _refuse_unknown_ending(report)
    _refuse_what_must_not_be_written(OutputPlan({}, report), cases, overwrite=overwrite)


def _refuse_what_must_not_be_written(
    plan: OutputPlan, cases: Sequence[Case], *, overwrite: bool
) -> None:
    _refuse_inputs(plan, cases)
    _refuse_existing(plan, overwrite=overwrite)
    for folder in sorted({path.parent for path in plan.files}):
        _refuse_unwritable(folder, plan.option)


def _refuse_unknown_ending(report: Path) -> None:
    if report.suffix.lower() not in REPORT_ENDINGS:
        raise ValueError(f"--report {report}: expected a name that ends in .csv or .json")


def _lay_out(
    cases: Sequence[Case], output: Path, report: Path | None, beside: Sequence[Companion]
) -> OutputPlan:
    if report is not None:
        _refuse_unknown_ending(report)
    if output.is_dir() or not _is_file_name(output, len(cases)):
        names = [
            path.name if is_nifti_name(path) else f"{path.name}.nii.gz"
            for path in (case.source for case in cases)
        ]
        targets = [
            Target(output / name, **{kind: output / kind / name for kind in beside})
            for name in names
        ]
        plan = {case.source: target for case, target in zip(cases, targets, strict=True)}
        if len(plan) < len(cases):
            raise ValueError("expected each input once, got one of them twice; name each once")
        return OutputPlan(plan, report or output / "report.csv")
    stem, dot, ending = output.name.partition(".nii")
    named = {kind: output.with_name(f"{stem}_{kind}{dot}{ending}") for kind in beside}
    return OutputPlan({cases[0].source: Target(output, **named)}, report)


def _is_file_name(output: Path, num_cases: int) -> bool:
    if is_nifti_name(output):
        if num_cases > 1:
            raise ValueError(
                f"--output {output}: expected a folder for {num_cases} inputs, got a file name"
            )
        return True
    if output.suffix.lower() in _OTHER_IMAGE_ENDINGS:
        raise ValueError(
            f"--output {output}: expected a folder, or a name that ends in .nii or .nii.gz, "
            f"got {output.suffix!r}"
        )
    return False


def _refuse_coinciding(plan: OutputPlan) -> None:
    sources: dict[Path, Path] = {}
    for source, target in plan.targets.items():
        if target.mask in sources:
            raise ValueError(
                f"{source} and {sources[target.mask]}: expected inputs with different names, both "
                f"would be written to {target.mask}; run them apart, or rename one"
            )
        sources[target.mask] = source
    if len(set(plan.files)) < len(list(plan.files)):
        raise ValueError(f"--report {plan.report}: expected a path of its own, got an output's")


def _refuse_inputs(plan: OutputPlan, cases: Sequence[Case]) -> None:
    inputs = {_identity(path): path for case in cases for path in case.files}
    for path in plan.files:
        # A file is known by its device and inode (links of both kinds), a new one by its path.
        clash = inputs.get(_identity(path))
        if clash is not None:
            raise ValueError(
                f"{plan.option}: expected to leave the inputs alone, but {path} is the input "
                f"{clash}; choose another folder or name"
            )


def _identity(path: Path) -> tuple[int, int] | Path:
    if path.exists():
        status = path.stat()
        return status.st_dev, status.st_ino
    return path.resolve()


def _refuse_existing(plan: OutputPlan, *, overwrite: bool) -> None:
    existing = [path for path in plan.files if path.exists()]
    folders = [path for path in existing if path.is_dir()]
    if folders:
        raise ValueError(f"{plan.option}: expected file names, but {folders[0]} is a folder")
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise ValueError(
            f"{plan.option}: expected new files, but {existing[0]}{more} exists; choose another "
            "folder or name, or say --overwrite"
        )


def _refuse_unwritable(folder: Path, option: str) -> None:
    ancestor = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        # Asking for permission says too little (root, read-only and special file systems).
        with tempfile.TemporaryFile(dir=ancestor):
            pass
    except OSError as error:
        raise ValueError(
            f"{option} {folder}: expected a folder that can be written, got "
            f"{(error.strerror or str(error)).lower()!r} at {ancestor}; choose another"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes its place once the block has succeeded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def copy_volume(source: Path, target: Path) -> None:
    """Copy a NIfTI file byte for byte, but for its compression where the endings ask for that."""
    content = source.read_bytes()
    is_gzip = content.startswith(b"\x1f\x8b")
    if is_gzip != (target.suffix == ".gz") and source.suffix != target.suffix:
        content = gzip.decompress(content) if is_gzip else gzip.compress(content, mtime=0)
    with replacing(target) as partial:
        partial.write_bytes(content)
