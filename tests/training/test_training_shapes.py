import json

import nibabel as nib
import numpy as np
import pytest
import torch

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.anchors import read_anchors
from cardiac_vae.checkpoint import load_model, pixel_size
from cardiac_vae.data.conditions import Condition, encode_conditions
from cardiac_vae.data.preparation import PreparationConfig, prepare_dataset
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.models import build_model
from cardiac_vae.training import shapes
from cardiac_vae.training.fit import fit
from cardiac_vae.training.module import ObjectiveConfig, ShapeModule
from cardiac_vae.training.shapes import (
    Recipe,
    conditions_of,
    slices_of,
    train_shape_model,
)

RECIPE = Recipe(
    module="vae", settings={"image_size": 32, "channels": [4, 8], "latent_dim": 2, "beta": 2}
)

NO_BOUND = Recipe(
    module="ae", settings={"image_size": 32, "channels": [4, 8], "latent_dim": 2, "noise": 0.2}
)


PREPARATION = PreparationConfig(reader="nifti_folder", size=32)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Write ten patients: an empty slice, a heart, and a heart whose LV breaks through."""
    root = tmp_path_factory.mktemp("raw")
    rows, columns = np.mgrid[:40, :44]
    radius = np.hypot(rows - 20, columns - 22)
    mask = np.zeros((3, 40, 44), np.uint8)
    mask[1:, radius < 9] = 2
    mask[1:, radius < 6] = 3
    mask[2, 20, 22:40] = 3
    affine = np.diag([-1.5, -1.5, 8, 1])
    for name, array in (("images", mask.astype(np.float32)), ("masks", mask)):
        (root / name).mkdir()
        for number in range(10):
            path = root / name / f"case{number}_ed.nii.gz"
            nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), path)
    groups = "".join(f"case{number},HCM\n" for number in range(10))
    (root / "groups.csv").write_text("patient_id,group\n" + groups)
    return root


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare_dataset(raw, folder, PREPARATION)
    return folder


def test_slices_without_a_heart_are_no_shapes(prepared):
    cases = read_prepared(prepared, "train")
    slices = slices_of(cases)
    assert slices.shape == (2 * len(cases), 32, 32)
    assert slices.dtype == torch.uint8
    assert slices.any(dim=(1, 2)).all()


def test_a_fit_leaves_a_whole_model_on_file(prepared, fit_config, tmp_path):
    folder = tmp_path / "model"
    metrics = train_shape_model(prepared, folder, RECIPE, ObjectiveConfig(), fit_config(steps=4))
    json.dumps(metrics)
    files = {path.name for path in folder.iterdir()}
    assert files == {"config.yaml", "weights.safetensors", "anchors.npz"}
    assert pixel_size(folder) == 1.5
    model = load_model(folder)
    assert metrics["latent_sizes"] == model.latent_sizes == [2]
    assert metrics["num_parameters"] == sum(value.numel() for value in model.parameters())
    assert metrics["steps"] == 4
    anchors = read_anchors(folder)
    num_patients = len(read_prepared(prepared, "train"))
    assert metrics["num_train_slices"] == 2 * num_patients
    assert metrics["num_anchors"] == len(anchors) == num_patients  # the broken slice is none
    assert all(is_valid(anchor, (1.5, 1.5)) for anchor in anchors)


def test_plausible_slices_alone_are_learnt_from_where_that_is_asked(prepared, fit_config, tmp_path):
    objective = ObjectiveConfig(plausible_only=True)
    config = fit_config(steps=1)
    metrics = train_shape_model(prepared, tmp_path / "model", RECIPE, objective, config)
    num_patients = len(read_prepared(prepared, "train"))
    assert metrics["num_train_slices"] == metrics["num_anchors"] == num_patients


def test_a_model_is_told_how_many_cases_it_is_fitted_to(
    prepared, fit_config, tmp_path, monkeypatch
):
    told = []

    def observed(module, *arguments):
        told.append(module.model.num_train_cases)
        return fit(module, *arguments)

    monkeypatch.setattr(shapes, "fit", observed)
    metrics = train_shape_model(
        prepared, tmp_path / "model", RECIPE, ObjectiveConfig(), fit_config(steps=1)
    )
    assert told == [metrics["num_train_slices"]]
    assert load_model(tmp_path / "model").num_train_cases == 0


def test_a_model_in_closed_form_is_solved_for_and_validated_as_any(
    prepared, fit_config, tmp_path, monkeypatch
):
    """The same data and the same keys; no step, and nothing to go on with."""
    settings = {"image_size": 32, "num_modes": 1, "clip_pixels": 3}
    recipe = Recipe(module="pca", settings=settings)
    trained = train_shape_model(
        prepared, tmp_path / "ae", NO_BOUND, ObjectiveConfig(), fit_config(steps=4)
    )
    seen = []
    monkeypatch.setattr(
        ShapeModule, "_log_terms", lambda _, name, terms, __: seen.append((name, terms))
    )
    folder = tmp_path / "pca"
    solved = train_shape_model(prepared, folder, recipe, ObjectiveConfig(), fit_config(steps=4))
    assert solved.keys() == trained.keys()
    json.dumps(solved)
    assert (solved["steps"], solved["history"], solved["stopped_early"]) == (0, {}, False)
    assert solved["best_value"] == solved["metrics"]["validation/loss"]
    assert (solved["num_latents"], solved["num_parameters"]) == (1, 2 * 4 * 32 * 32 + 1 + 1)
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "weights.safetensors",
        "anchors.npz",
    }
    model = load_model(folder)
    masks = one_hot(slices_of(read_prepared(prepared, "validation")))
    ((name, terms),) = seen
    assert name == "validation"
    torch.testing.assert_close(terms.reconstruction[len(masks) :], model(masks)[1].reconstruction)
    direct = build_model("pca", settings)
    direct.fit_masks(slices_of(read_prepared(prepared, "train")))
    expected = direct.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_conditions_are_those_of_the_slices_that_show_a_heart(prepared):
    cases = read_prepared(prepared, "train")
    # The first of three slices is empty. Of the others the last holds more: it is the base.
    expected = [Condition("HCM", "ed", 1.0), Condition("HCM", "ed", 0.0)]
    assert conditions_of(cases) == expected * len(cases)
    assert len(conditions_of(cases)) == len(slices_of(cases))


@pytest.mark.parametrize("groups", [["HCM"], ["XYZ"], None])
def test_only_a_model_that_looks_at_conditions_is_given_them(
    prepared, fit_config, tmp_path, monkeypatch, groups
):
    """And a group that it does not know counts as none."""
    given = []

    def watched(module, train, validation, *rest):
        given.append((train.tensors, list(validation)))
        return fit(module, train, validation, *rest)

    monkeypatch.setattr("cardiac_vae.training.shapes.fit", watched)
    settings = RECIPE.settings | ({} if groups is None else {"groups": groups})
    recipe = Recipe(module="vae" if groups is None else "cvae", settings=settings)
    train_shape_model(prepared, tmp_path / "m", recipe, ObjectiveConfig(), fit_config(steps=2))
    [(train, validation)] = given
    splits = (("train", [train]), ("validation", validation))
    for split, batches in splits:
        cases = read_prepared(prepared, split)
        assert torch.equal(torch.cat([b["mask"] for b in batches]), slices_of(cases))
        if groups is None:
            assert all(set(batch) == {"mask"} for batch in batches)
            continue
        known = [condition.within(groups) for condition in conditions_of(cases)]
        assert {condition.group for condition in known} == {"HCM" if groups == ["HCM"] else ""}
        condition = torch.cat([batch["condition"] for batch in batches])
        assert torch.equal(condition, encode_conditions(known, groups))


def test_a_recipe_is_a_model_and_its_settings(tmp_path):
    path = tmp_path / "vae.yaml"
    path.write_text("module: vae\nsettings:\n  beta: 4\n")
    assert Recipe.read(path) == Recipe(module="vae", settings={"beta": 4})
    assert Recipe.read(path).objective == {}
    path.write_text("module: vae\nobjective:\n  plausible_only: true\n")
    assert Recipe.read(path).objective == {"plausible_only": True}
    path.write_text("module: vae\nsetting: {}\n")
    with pytest.raises(ValueError, match=r"vae.yaml: setting: unknown parameter"):
        Recipe.read(path)
