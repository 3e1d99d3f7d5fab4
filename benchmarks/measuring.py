"""How the benchmarks measure: tasks in turns, medians, peak memory in a process of its own."""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

# A process inherits the peak of the one it was started from, and this one has torch in it; so a
# small process starts the measured one. ru_maxrss is in KiB, on macOS in bytes.
_MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
if done.returncode:
    sys.exit(done.stderr)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak / (2**20 if sys.platform == "darwin" else 2**10))
"""


def options(description: str, runs: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, help="as many as torch takes, if not given")
    parser.add_argument("--runs", type=int, default=runs, help="of each task, taken in turns")
    return parser


def limit_threads(threads: int | None) -> None:
    """Hold torch to a number of threads; for numpy's matrix products set OMP_NUM_THREADS."""
    if threads:
        torch.set_num_threads(threads)


def machine() -> str:
    """Return cores, processor, threads and torch's version in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{cores} cores, {_processor()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )


def median_seconds(tasks: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Return the median wall-clock time of each task; the tasks take turns, once to warm up.

    Whatever else the machine does falls on all of them alike, so their ratios hold.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for run in range(runs + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if run:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory_mb(command: Sequence[str], threads: int | None = None) -> float:
    """Return the peak resident memory of a command in MiB.

    Raises:
        ValueError: if the command fails.
    """
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command],
        env={**os.environ, **(limits if threads else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"{' '.join(command)}: {done.stderr.strip()}")
    return float(done.stdout)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text in columns: the first to the left, numbers to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
