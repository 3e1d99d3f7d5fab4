"""The section about the shape models copes with what a model has not: a bound, a prior, steps."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cardiac_vae.evaluation.reconstruction import (
    HeldOutSlices,
    ReconstructionConfig,
    score_reconstruction,
)
from cardiac_vae.labels import Structure
from cardiac_vae.models import build_model
from cardiac_vae.reports import shapes
from cardiac_vae.reports.inputs import RecipeResults, Study
from cardiac_vae.reports.rungs import rungs
from cardiac_vae.reports.shape_pictures import pictures_of
from cardiac_vae.shape_model import ClosedFormModel, ShapeModel

pytestmark = pytest.mark.usefixtures("undrawn")

NETWORK = {"image_size": 72, "channels": [4], "latent_dim": 2}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ae": NETWORK,
    "pca": {"image_size": 72, "num_modes": 2},
    "vae": NETWORK,
}


def hearts() -> np.ndarray:
    """Return (4, 72, 72): an LV of four sizes in its wall, beside an RV."""
    rows, columns = np.mgrid[:72, :72]
    masks = np.zeros((4, 72, 72), np.uint8)
    for mask, radius in zip(masks, (11, 12, 13.5, 15), strict=True):
        distance = np.hypot(rows - 36, columns - 42)
        mask[np.hypot(rows - 36, columns - 42 + 1.2 * radius) < radius] = Structure.RV
        mask[distance < radius] = Structure.MYO
        mask[distance < 0.6 * radius] = Structure.LV
    return masks


@pytest.fixture(scope="module")
def slices() -> HeldOutSlices:
    return HeldOutSlices(hearts(), list("abcd"), list("aabb"), (1.5, 1.5))


@pytest.fixture(scope="module")
def models() -> dict[str, ShapeModel]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = {name: build_model(name, settings) for name, settings in SETTINGS.items()}
    for model in built.values():
        if isinstance(model, ClosedFormModel):
            model.fit_masks(torch.from_numpy(hearts()))
    return {name: model.eval() for name, model in built.items()}


@pytest.fixture(scope="module")
def scores(models: dict[str, ShapeModel], slices: HeldOutSlices) -> dict[str, Any]:
    config = ReconstructionConfig(num_samples=4)
    return {name: score_reconstruction(model, slices, config) for name, model in models.items()}


def recipe(name: str, scores: Mapping[str, Any], training: Mapping[str, Any]) -> RecipeResults:
    return RecipeResults(name, {"shape_model": scores}, {}, training, {})


def page_of(
    names: list[str],
    scores: Mapping[str, Any],
    models: Mapping[str, ShapeModel],
    slices: HeldOutSlices,
) -> str:
    recipes = [recipe(name, scores[name], {}) for name in names]
    pictures = {name: pictures_of(name, models[name], slices) for name in names}
    return "".join(shapes.shape_models(rungs(recipes, models, slices), pictures).parts)


def line(page: str, title: str) -> list[str]:
    [found] = re.findall(rf"<tr><td class='label'>{re.escape(title)}</td>(.*?)</tr>", page)
    return re.findall(r"<td class='number'>(.*?)</td>", found)


def test_a_dash_stands_where_a_model_has_no_bound_and_no_samples(
    scores: dict[str, Any], models: dict[str, ShapeModel], slices: HeldOutSlices
) -> None:
    page = page_of(["ae", "pca", "vae"], scores, models, slices)
    dash = "\N{EN DASH}"
    assert re.findall("<th scope='col' class='number'>(.*?)</th>", page)[:3] == ["pca", "ae", "vae"]
    for title in ("Negative ELBO (nats)", "Rate, KL (nats)"):
        assert [cell == dash for cell in line(page, title)] == [True, True, False]
    for temperature in ("1", "0.6"):
        cells = line(page, f"Valid samples at temperature {temperature} (%)")
        assert [cell == dash for cell in cells] == [False, True, False]
    assert dash not in line(page, "Reconstruction (nats)")
    # All at once, KL of the VAE, three of all, drawn by two.
    assert page.count("<figcaption>") == 1 + 1 + 3 * 3 + 2
    assert "Hearts the model draws by itself, ae" not in page


def test_a_study_of_models_without_a_bound_has_no_figure_of_it(
    scores: dict[str, Any], models: dict[str, ShapeModel], slices: HeldOutSlices
) -> None:
    page = page_of(["ae"], scores, models, slices)
    assert page.count("<figcaption>") == 3
    assert "Where the information is" not in page
    assert "Valid samples" not in page


def test_a_fit_without_steps_has_a_line_and_no_curve() -> None:
    fitted = {"steps": 0, "seconds": 12.0, "best_value": 501.5, "stopped_early": False}
    recipes = [recipe("pca", {}, {**fitted, "history": {}})]
    corrector = {**fitted, "steps": 5}
    study = Study(Path(), recipes, {}, "unet", {}, corrector, {}, {})
    page = "".join(shapes.training(study).parts)
    assert line(page, "pca") == ["0", "0.2", "501.500", "no"]
    assert line(page, "corrector") == ["5", "0.2", "501.500", "no"]
    assert "<figcaption>" not in page
