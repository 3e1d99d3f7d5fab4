"""The command line: ``cardiac-vae check``, ``refine`` and ``segment``.

``app`` holds the commands and their options and imports nothing heavy; what a command does is in
the file of its name, imported when it runs.
"""

from cardiac_vae.cli.app import main

__all__ = ["main"]
