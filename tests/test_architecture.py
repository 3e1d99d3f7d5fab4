"""The design as a test: who may import whom, and what a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from imports import PACKAGE, ROOT, imported_names, syntax_tree

LAYERS = [  # a unit imports only units on lines above its own
    {"labels", "config"},
    {"data", "anatomy", "metrics", "vi", "layers", "shape_model"},
    {"models"},
    {"checkpoint", "anchors", "latent_space", "densities"},
    {"training"},
    {"correction"},
    {"segmentation", "refinement"},
    {"evaluation"},
    {"reports"},
    {"tracking", "cohort", "cli", "__main__"},
    {"tracking_views"},
]
RANK = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}
ONLY_IN = {
    "SimpleITK": {"data"},
    "dvc": set[str](),
    "lightning": {"training", "segmentation", "correction", "tracking"},
    "matplotlib": {"reports"},
    "mlflow": {"tracking"},
    "nibabel": {"data"},
    "pytorch_lightning": set[str](),
    "typer": {"cli"},
    "yaml": {"config"},
}
ONLY_OURS = {
    "anatomy": {"labels"},
    "metrics": {"labels"},
    "tracking": set[str](),
    "vi": {"config"},
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "core"}
LONGEST = 400  # a sanity bound; most files have a third of it
FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "pipelines").glob("*.py"))


def unit_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", FILES, ids=named)
def test_imports_point_down(file: Path):
    unit = unit_of(file)
    for name in imported_names(file):
        top, *rest = name.split(".")
        if top == "cardiac_vae" and rest[0] != unit and unit != "__init__":
            assert RANK[rest[0]] < RANK[unit], f"{unit} may not import {name}"


@pytest.mark.parametrize("file", FILES, ids=named)
def test_libraries_stay_in_their_rooms(file: Path):
    unit = unit_of(file)
    for name in imported_names(file):
        top = name.split(".")[0]
        assert unit in ONLY_IN.get(top, {unit}), f"{unit} may not import {top}"


@pytest.mark.parametrize("file", FILES, ids=named)
def test_units_that_know_arrays_only_stay_so(file: Path):
    unit = unit_of(file)
    for name in imported_names(file):
        top, *rest = name.split(".")
        if top == "cardiac_vae" and rest[0] != unit and unit in ONLY_OURS:
            assert rest[0] in ONLY_OURS[unit], f"{unit} may not import {name}"


@pytest.mark.parametrize("file", [*FILES, *SCRIPTS], ids=named)
def test_a_file_is_one_idea_with_a_name(file: Path):
    assert file.stem not in VAGUE
    assert len(file.read_text().splitlines()) <= LONGEST
    assert ast.get_docstring(syntax_tree(file)), "a module says what it holds"


@pytest.mark.parametrize("file", [f for f in FILES if f.name == "__init__.py"], ids=named)
def test_a_package_file_holds_a_docstring(file: Path):
    body = syntax_tree(file).body[1:]
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    if unit_of(file) == "models":
        assert [node.name for node in functions] == ["available_models", "build_model"]
    elif unit_of(file) == "cli":  # the console script's entry point
        assert functions == []
    else:
        assert body == []


@pytest.mark.parametrize("file", [f for f in SCRIPTS if f.name != "stage.py"], ids=named)
def test_a_stage_script_is_thin(file: Path):
    tree = syntax_tree(file)
    functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions in ([], ["main"])
    assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(tree))


def test_the_command_line_starts_without_the_heavy_libraries():
    heavy = "{'torch', 'monai', 'lightning', 'mlflow', 'matplotlib', 'scipy'}"
    script = f"import sys, cardiac_vae.cli; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == ""
