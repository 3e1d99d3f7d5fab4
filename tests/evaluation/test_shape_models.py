"""Every part is measured on the slices that are meant for it, from a prepared phantom on file."""

import json
from pathlib import Path

import pytest
import torch

from cardiac_vae.data.acquisition import acquire
from cardiac_vae.data.phantom import PhantomConfig
from cardiac_vae.data.phantom_factors import FACTORS_FILE
from cardiac_vae.data.preparation import PreparationConfig, prepare_dataset
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.data.source import SourceConfig
from cardiac_vae.data.splits import SplitSizes
from cardiac_vae.evaluation.cohort import EvaluationConfig
from cardiac_vae.evaluation.reconstruction import held_out_slices
from cardiac_vae.evaluation.shape_models import score_shape_model
from cardiac_vae.models import build_model
from cardiac_vae.reports.shape_scores import MEASURES
from cardiac_vae.shape_model import ShapeModel
from cardiac_vae.tracking import flatten

CONFIG = EvaluationConfig.parse(
    {
        "split": "validation",
        "reconstruction": {"num_samples": 2},
        "likelihood": {"num_draws": 3, "num_slices": 4},
        "generation": {"num_samples": 8, "num_splits": 2},
        "disentanglement": {"num_slices": 30},
    },
    "test",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    acquire(SourceConfig(), PhantomConfig(num_patients=4), root / "raw")
    sizes = SplitSizes(train=2, validation=1, test=1)
    prepare_dataset(root / "raw", root / "prepared", PreparationConfig(split=sizes, size=96))
    return root


@pytest.fixture
def model() -> ShapeModel:
    torch.manual_seed(0)
    settings = {"channels": [4, 8], "latent_dim": 3}
    return build_model("vae", settings).eval()


def test_all_parts_of_a_phantom_study(data: Path, model: ShapeModel) -> None:
    with torch.no_grad():  # an untrained encoder says next to nothing: let it speak up
        next(iter(model.parameters())).mul_(30)
        model.encoder[-1].weight.mul_(30)
    scores = score_shape_model(model, data / "prepared", data / "raw" / FACTORS_FILE, CONFIG)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    counts = {
        split: len(held_out_slices(read_prepared(data / "prepared", split)).without_empty().masks)
        for split in ("train", "validation")
    }
    assert scores["num_slices"] == counts["validation"]
    assert scores["generation"]["num_held_out_slices"] == counts["validation"]
    assert scores["generation"]["num_train_slices"] == counts["train"]
    assert (scores["likelihood"]["num_draws"], scores["likelihood"]["num_slices"]) == (3, 4)
    assert scores["likelihood"]["num_dimensions"] == 96**2
    assert scores["disentanglement"]["num_slices"] == 30
    assert scores["disentanglement"]["num_patients"] == 4  # of every split
    assert 0 <= scores["disentanglement"]["mig"] <= 1
    logged = flatten({"shape_model": scores})
    for measure in (found for group in MEASURES.values() for found in group):
        name = f"shape_model/{measure.path}"
        assert isinstance(logged.get(f"{name}/mean", logged.get(name)), float | int), name


def test_real_hearts_have_no_true_factors(data: Path, model: ShapeModel) -> None:
    scores = score_shape_model(model, data / "prepared", None, CONFIG)
    assert scores["disentanglement"] is None
    assert scores["generation"]["metrics"]["specificity_mm"]["n"] == 8
