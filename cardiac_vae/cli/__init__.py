"""The command line: ``cardiac-vae check``, ``measure``, ``refine`` and ``segment``.

``app`` holds the commands, ``options`` their options, and neither imports anything heavy; what a
command does is in the file of its name, imported when it runs.
"""

from cardiac_vae.cli.app import main

__all__ = ["main"]
