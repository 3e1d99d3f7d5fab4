"""What a person sees: messages and progress on stderr, tables on stdout."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

FINE, IMPLAUSIBLE, BAD_INPUT = 0, 1, 2


class HasSource(Protocol):
    """A unit of work that knows the file it came from."""

    @property
    def source(self) -> Path:
        """The file named on the command line, or found in a folder named there."""


Work = TypeVar("Work", bound=HasSource)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """A case that could not be done; ``message`` is one line: what, expected, got, what to do."""

    source: Path
    message: str


def say(message: str) -> None:
    """Print a line for the person, out of the way of the results."""
    print(message, file=sys.stderr)


def one_line(error: Exception, source: Path | None = None) -> str:
    """Return the message of an error in one line that names the file it is about."""
    if isinstance(error, OSError) and error.strerror:
        where = error.filename or source
        message = f"{where}: {error.strerror}" if where else error.strerror
    else:
        message = " ".join(str(error).split())
    return message if source is None or str(source) in message else f"{source}: {message}"


def run_each(
    cases: Sequence[Work], work: Callable[[Work], Result], verb: str
) -> tuple[list[Result], list[Failure]]:
    """Work through the cases one at a time; one that is bad input does not stop the others.

    Shows progress on stderr where that is a terminal and there is more than one case.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    results: list[Result] = []
    failures: list[Failure] = []
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        TextColumn("{task.fields[name]}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal or len(cases) < 2,
    ) as progress:
        task = progress.add_task(verb, total=len(cases), name="")
        for case in cases:
            progress.update(task, name=case.source.name)
            try:
                results.append(work(case))
            except (ValueError, OSError) as error:
                failures.append(Failure(case.source, one_line(error, case.source)))
            progress.advance(task)
    return results, failures


def say_failures(failures: Sequence[Failure], num_cases: int) -> None:
    """List what could not be done, one line each."""
    if failures and num_cases > 1:
        say(f"{len(failures)} of {num_cases} failed:")
    for failure in failures:
        say(f"error: {failure.message}")


def short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Name each file by what sets it apart: its path below the folder common to all."""
    known = dict.fromkeys(paths)
    folder = os.path.commonpath([path.absolute().parent for path in known]) if known else ""
    return {path: os.path.relpath(path.absolute(), folder) for path in known}


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to stdout: ruled on a terminal, aligned by spaces alone when piped."""
    texts = [[str(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        table = Table(*(Column(column, overflow="fold") for column in columns))
        for row in texts:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(map(len, cells)) for cells in zip(columns, *texts, strict=True)]
    for row in [list(columns), *texts]:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
