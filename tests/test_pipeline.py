"""The pipeline as written: what ``dvc.yaml`` lists is what the stages read, and it all runs."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from imports import PACKAGE, ROOT, reached_from

from cardiac_vae.config import read_yaml, write_yaml
from cardiac_vae.models import available_models, build_model
from cardiac_vae.segmentation.network import build_network
from cardiac_vae.segmentation.recipe import SegmenterRecipe
from cardiac_vae.tracking_views import VIEWS
from pipelines.stage import run

RECIPES = sorted((ROOT / "configs" / "models").glob("*.yaml"))
PIPELINE = read_yaml(ROOT / "dvc.yaml")
PARAMS = read_yaml(ROOT / "configs" / "params.yaml")
STUDY = read_yaml(ROOT / "configs" / "recipes.yaml")
COMPARED = STUDY["recipes"]
EVERY_RECIPE = {path.stem: read_yaml(path)["module"] for path in RECIPES}
TRIED = COMPARED | {key: EVERY_RECIPE[key] for key in ("pca", "cvae", "vq_vae")}
"""A study of a few steps compares also: a fit in closed form, conditions, tokens."""
TRIED_SEGMENTERS = ["unet", "segresnet_15"]
SEGMENTERS = sorted((ROOT / "configs" / "segmenters").glob("*.yaml"))
EVERY_SEGMENTER = {path.stem: path.stem for path in SEGMENTERS}
ITEMS = {"${recipes}": EVERY_RECIPE, "${segmenters}": EVERY_SEGMENTER}
"""What a stage may be repeated for: any of them can be part of a study."""


def stages() -> dict[str, dict[str, Any]]:
    """Return the stages by name, those of ``foreach`` once per item with its values filled in."""
    resolved = {}
    for name, stage in PIPELINE["stages"].items():
        if "foreach" not in stage:
            resolved[name] = filled_in(stage)
            continue
        for key, item in ITEMS[stage["foreach"]].items():
            resolved[f"{name}@{key}"] = filled_in(stage["do"], key=key, item=item)
    return resolved


def filled_in(part: Any, **values: str) -> Any:
    """Return a part of ``dvc.yaml`` with the value of every ``${name}``."""
    if isinstance(part, dict):
        return {filled_in(k, **values): filled_in(v, **values) for k, v in part.items()}
    if isinstance(part, list):
        return [filled_in(value, **values) for value in part]
    if isinstance(part, str):
        for name, value in {"segmenter": STUDY["segmenter"], **values}.items():
            part = part.replace(f"${{{name}}}", value)
    return part


STAGES = stages()


def script_of(stage: dict[str, Any]) -> Path:
    module = stage["cmd"].split()[2]
    return ROOT / (module.replace(".", "/") + ".py")


def code_of(stage: dict[str, Any]) -> set[Path]:
    """Return the stage's script and all it imports; package files that only hold a docstring not.

    A stage that builds a shape model imports the file of that model by name; one that lists their
    folder builds any of them.
    """
    script = script_of(stage)
    code = {script} | reached_from(script)
    if PACKAGE / "models" / "__init__.py" in code:
        listed = [ROOT / dep for dep in stage["deps"] if dep.startswith("cardiac_vae/models")]
        models = [file for dep in listed for file in (dep.glob("*.py") if dep.is_dir() else [dep])]
        assert {file.stem for file in models} > {"__init__"}
        code |= set(models).union(*(reached_from(model) for model in models))
    docstrings_only = {
        file for file in code if file.name == "__init__.py" and file.parent.name != "models"
    }
    return code - docstrings_only


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_lists_the_code_it_runs(name: str):
    stage = STAGES[name]
    code = code_of(stage)
    listed = {ROOT / dep for dep in stage["deps"] if dep.startswith(("cardiac_vae/", "pipelines/"))}
    unlisted = {file for file in code if not any(file.is_relative_to(dep) for dep in listed)}
    assert {str(file.relative_to(ROOT)) for file in unlisted} == set()


@pytest.mark.parametrize("name", PIPELINE["stages"])
def test_a_stage_lists_no_code_that_none_of_its_recipes_runs(name: str):
    """The stage of a recipe lists what any recipe needs: there is one list for all."""
    family = [stage for key, stage in STAGES.items() if key.partition("@")[0] == name]
    code = set().union(*map(code_of, family))
    listed = {
        ROOT / dep
        for stage in family
        for dep in stage["deps"]
        if dep.startswith(("cardiac_vae/", "pipelines/"))
    }
    idle = {dep for dep in listed if not any(file.is_relative_to(dep) for file in code)}
    assert {str(dep.relative_to(ROOT)) for dep in idle} == set()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_names_the_sections_of_parameters_it_reads(name: str):
    stage = STAGES[name]
    source = script_of(stage).read_text()
    read = {section for section in PARAMS if f'read_section(PARAMS, "{section}")' in source}
    [listed] = [
        params["configs/params.yaml"]
        for params in stage["params"]
        if "configs/params.yaml" in params
    ]
    assert {section.split(".")[0] for section in listed} == read


def test_every_section_of_parameters_belongs_to_a_stage():
    used = {
        section.split(".")[0]
        for stage in STAGES.values()
        for params in stage["params"]
        for section in params.get("configs/params.yaml") or []
    }
    assert set(PARAMS) == used


def test_what_is_compared_are_recipes_with_their_model():
    assert PIPELINE["vars"] == ["configs/recipes.yaml"]
    assert COMPARED.items() <= EVERY_RECIPE.items()
    assert len(COMPARED) > 1


def test_the_refined_masks_are_those_of_a_segmenter_of_the_study():
    assert STUDY["segmenter"] in STUDY["segmenters"]
    assert set(STUDY["segmenters"]) <= set(EVERY_SEGMENTER)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_builds(path: Path):
    recipe = read_yaml(path)
    assert recipe["module"] in available_models()
    model = build_model(recipe["module"], recipe["settings"])
    assert sum(parameter.numel() for parameter in model.parameters()) > 0
    assert path.read_text().startswith("#"), "a recipe starts with its paper, command and numbers"


@pytest.mark.parametrize("path", SEGMENTERS, ids=lambda path: path.stem)
def test_every_segmenter_builds_and_fits_the_prepared_pixels(path: Path):
    recipe = SegmenterRecipe.read(path)
    assert recipe.fit_config(PARAMS["train_segmenter"]["fit"], str(path)).steps > 0
    assert recipe.settings.pixel_mm == PARAMS["prepare"]["pixel_mm"]
    assert sum(parameter.numel() for parameter in build_network(recipe.settings).parameters()) > 0
    assert path.read_text().startswith("#"), "a recipe starts with what it is, command and numbers"


def test_the_segmenters_are_of_more_than_one_strength_and_architecture():
    recipes = [SegmenterRecipe.read(path) for path in SEGMENTERS]
    assert len({recipe.settings.architecture for recipe in recipes}) > 1
    assert any(recipe.num_patients for recipe in recipes)


TINY = {
    "phantom": {"num_patients": 8},
    "train": {"fit": {"steps": 4, "batch_size": 4, "validate_every": 2}},
    "train_segmenter": {"fit": {"steps": 4, "batch_size": 2, "validate_every": 2}},
    "train_corrector": {"fit": {"steps": 4, "batch_size": 2, "validate_every": 2}},
    "calibrate": {"observation": {"most_voxels": 2000, "blurs_mm": [2.0]}},
    "density": {"density": {"num_components": 2}, "num_samples": 4, "max_slices": 20},
    "refiners": {"max_patients": 1, "num_draws": 8, "num_decodings": [2]},
    "evaluate": {
        "reconstruction": {"num_samples": 4},
        "likelihood": {"num_draws": 2, "num_slices": 2},
        "generation": {"num_samples": 8},
        "disentanglement": {"num_slices": 30},
    },
}


def merged(values: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    return {**values, **{key: merged(values.get(key), item) for key, item in changes.items()}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project after a study of eight phantoms with budgets of a few steps."""
    root = tmp_path_factory.mktemp("project")
    for name in ("cardiac_vae", "pipelines", "configs", ".dvc/config", ".dvcignore", "dvc.yaml"):
        source, target = ROOT / name, root / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    params = root / "configs" / "params.yaml"
    tiny = merged(read_yaml(params), TINY)
    tiny["refiners"]["modes"] = {"product": {"segmenter_exponent": 1}}  # each takes its time
    write_yaml(params, tiny)
    few = root / "configs" / "segmenters" / "segresnet_15.yaml"
    write_yaml(few, merged(read_yaml(few), {"num_patients": 3}))
    study = {**STUDY, "recipes": TRIED, "segmenters": TRIED_SEGMENTERS}
    write_yaml(root / "configs" / "recipes.yaml", study)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    dvc(root, "repro")
    return root


def dvc(project: Path, *arguments: str) -> str:
    """Run DVC there, whose stages call the ``python`` that runs the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(
        command, cwd=project, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_the_whole_study_runs_and_runs_once(project: Path):
    tried = ("", *TRIED, *TRIED_SEGMENTERS)
    stages = [name for name in STAGES if name.partition("@")[2] in tried]
    for stage in map(STAGES.__getitem__, stages):
        for output in [*stage.get("outs", []), *stage.get("metrics", [])]:
            path = project / (output if isinstance(output, str) else next(iter(output)))
            assert path.exists(), path
    for recipe in TRIED:
        refined = json.loads((project / f"reports/refine/{recipe}.json").read_text())
        cases = [case for scans in refined.values() for case in scans["cases"]]
        assert cases
        # What a segmenter drew after four steps is noise: some of it no heart explains.
        assert all(case["after"]["is_valid"] != case["is_refused"] for case in cases)
    page = (project / "reports" / "report.html").read_text()
    assert "https://" not in page.replace("https://doi.org", "")
    assert json.loads(dvc(project, "status", "--json")) == {}

    start = time.monotonic()
    dvc(project, "repro")
    assert time.monotonic() - start < 20
    with sqlite3.connect(project / "mlflow.db") as database:
        runs = database.execute("SELECT name, status FROM runs").fetchall()
        logged = {name for (name,) in database.execute("SELECT key FROM latest_metrics")}
    drawn = {
        metric
        for view in VIEWS.values()
        for chart in view.charts
        for metric in chart.get("selectedMetrics", [chart.get("metricKey")])
    }
    assert drawn <= logged
    assert sorted(runs) == sorted((name.replace("@", "-"), "FINISHED") for name in stages)


@pytest.mark.slow
def test_a_changed_recipe_reruns_that_recipe_only(project: Path):
    recipe = project / "configs" / "models" / "vae.yaml"
    text = recipe.read_text()
    write_yaml(recipe, merged(read_yaml(recipe), {"settings": {"beta": 2.0}}))
    changed = set(json.loads(dvc(project, "status", "--json")))
    recipe.write_text(text)
    assert changed == {"train@vae"}


@pytest.mark.slow
def test_a_changed_segmenter_reruns_that_segmenter_only(project: Path):
    recipe = project / "configs" / "segmenters" / "segresnet_15.yaml"
    text = recipe.read_text()
    write_yaml(recipe, merged(read_yaml(recipe), {"num_patients": 4}))
    changed = set(json.loads(dvc(project, "status", "--json")))
    recipe.write_text(text)
    assert changed == {"train_segmenter@segresnet_15"}


@pytest.mark.slow
def test_an_unknown_parameter_is_named(project: Path):
    params = project / "configs" / "params.yaml"
    text = params.read_text()
    write_yaml(params, merged(read_yaml(params), {"prepare": {"pixels": 2}}))
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.prepare"], cwd=project, capture_output=True, text=True
    )
    params.write_text(text)
    assert done.returncode == 2
    (message,) = done.stderr.strip().splitlines()
    assert message.startswith("error: configs/params.yaml: prepare: pixels: unknown parameter")


def test_bad_input_of_a_stage_is_one_line(capsys):
    def fail():
        raise ValueError("prepare: pixels:\n  unknown")

    with pytest.raises(SystemExit) as stopped:
        run(fail)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: prepare: pixels: unknown\n"


def test_a_bug_in_a_stage_keeps_its_traceback():
    def fail():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run(fail)
