"""What files of the repository import, read from their syntax trees, each file once."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cardiac_vae"


@cache
def syntax_tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@cache
def imported_names(file: Path) -> tuple[str, ...]:
    """Return the dotted names a file imports anywhere in it; ``from a import b`` is ``a.b``."""
    names = []
    for node in ast.walk(syntax_tree(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports hide where a name comes from"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


@cache
def source_of(name: str) -> Path | None:
    """Return the file of ours that a dotted name is, or is defined in; None if it is not ours."""
    parts = name.split(".")
    for length in (len(parts), len(parts) - 1):
        stem = ROOT.joinpath(*parts[:length])
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if length and parts[0] in {"cardiac_vae", "pipelines"} and file.exists():
                return file
    return None


@cache
def reached_from(file: Path) -> frozenset[Path]:
    """Return all files of ours that a file imports, and those import, and so on."""
    reached: set[Path] = set()
    waiting = [file]
    while waiting:
        for name in imported_names(waiting.pop()):
            source = source_of(name)
            if source is not None and source not in reached:
                reached.add(source)
                waiting.append(source)
    return frozenset(reached)
