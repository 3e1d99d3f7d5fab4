"""How every stage ends when its input is bad: one line on standard error, exit status 2."""

import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> None:
    """Run a stage; bad values and missing files are told in a line, bugs with their traceback."""
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        sys.exit(_told(error))


def _told(error: Exception) -> int:
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return 2
