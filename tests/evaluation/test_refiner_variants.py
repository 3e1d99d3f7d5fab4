"""Which ways to refine there are for which models, in what order, and why others are left out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.anchors import write_anchors
from cardiac_vae.checkpoint import save_model
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.file import save_density
from cardiac_vae.densities.normal_mixture import NormalMixture
from cardiac_vae.evaluation.refiner_variants import RefinersConfig, SegmentedScan, read_variants
from cardiac_vae.models import build_model
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.refine import RefinementConfig, Refiner

SPACING_MM = (10.0, 1.5, 1.5)
MODES = {"projection": RefinementConfig(segmenter_exponent=0), "product": RefinementConfig()}


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a VAE and an autoencoder, neither trained."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_model, folder / "vae")
    settings = {"image_size": 96, "channels": [4, 8], "latent_dim": 2}
    save_model(folder / "ae", "ae", settings, build_model("ae", settings), pixel_mm=1.5)
    write_anchors(folder / "ae", np.zeros((1, 96, 96), np.uint8))
    return folder


@pytest.fixture
def scan(heart: Callable[..., np.ndarray]) -> SegmentedScan:
    mask = np.stack([heart(), heart(lv_mm=14.0)])
    mask[1, 3:6, 3:6] = 1
    return SegmentedScan(mask, one_hot_planes(mask), SPACING_MM, np.ones(mask.shape, np.float32))


def test_baselines_come_first_then_the_modes_of_each_model(models: Path, tmp_path: Path):
    config = RefinersConfig(
        modes=MODES, nearest_drawn=(), random_search=("vae",), num_decodings=(1, 3)
    )
    variants, left_out = read_variants(["vae", "ae"], models, tmp_path, Calibration(), config)
    assert [variant.name for variant in variants] == [
        "baseline",
        "vae/random_search_1",
        "vae/random_search_3",
        "vae/projection",
        "vae/product",
        "ae/projection",
        "ae/product",
    ]
    assert left_out == {}


def test_what_a_model_cannot_do_is_left_out_with_the_reason(models: Path, tmp_path: Path):
    scores = NormalMixture(torch.zeros(1, 2).double(), torch.eye(2).double()[None])
    save_density(tmp_path / "ae", CodeDensity(torch.eye(2, dtype=torch.float64), scores, ((2,),)))
    config = RefinersConfig(
        modes={},
        nearest_drawn=("ae", "vae", "pca"),
        num_draws=3,
        random_search=("ae",),
        num_decodings=(2,),
    )
    variants, left_out = read_variants(["vae", "ae"], models, tmp_path, Calibration(), config)
    assert [variant.name for variant in variants] == ["baseline"]
    assert list(left_out) == [
        "ae/nearest_drawn",
        "vae/nearest_drawn",
        "pca/nearest_drawn",
        "ae/random_search_2",
    ]
    reasons = list(left_out.values())
    assert "none of 3 draws" in reasons[0]
    assert "run the density stage first" in reasons[1]
    assert "not among the recipes compared" in reasons[2]
    assert "no posterior to search in" in reasons[3]


def test_a_mode_is_the_refiner_with_its_settings(models: Path, scan: SegmentedScan, tmp_path: Path):
    config = RefinersConfig(modes=MODES, nearest_drawn=(), random_search=())
    variants, _ = read_variants(["vae"], models, tmp_path, Calibration(), config)
    before = scan.mask.copy()
    for variant in variants[1:]:
        refiner = Refiner.load(models / "vae", MODES[variant.kind])
        expected = refiner.refine(scan.mask, SPACING_MM, scan.probabilities)
        refined = variant.refine(scan)
        np.testing.assert_array_equal(refined, expected.mask)
        assert check_volume(refined, SPACING_MM).is_valid
        np.testing.assert_array_equal(refined[0], before[0])
        np.testing.assert_array_equal(scan.mask, before)


def test_only_modes_named_see_the_scan(
    models: Path, scan: SegmentedScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    refine = Refiner.refine

    def spy(self, mask, spacing_mm, probabilities=None, image=None, *, phase=None):
        seen.append(image)
        return refine(self, mask, spacing_mm, probabilities, phase=phase)

    monkeypatch.setattr(Refiner, "refine", spy)
    config = RefinersConfig(modes=MODES, with_scan=("product",), nearest_drawn=(), random_search=())
    variants, _ = read_variants(["vae"], models, tmp_path, Calibration(), config)
    for variant in variants[1:]:
        variant.refine(scan)
    assert seen[0] is None
    assert seen[1] is scan.image


def test_a_scan_for_no_mode_is_refused():
    with pytest.raises(ValueError, match=r"with_scan: expected some of \['product'\], got \['p'\]"):
        RefinersConfig.parse({"modes": {"product": {}}, "with_scan": ["p"]}, "params: refiners")


def test_modes_are_overrides_of_the_defaults():
    values = {"modes": {"projection": {"segmenter_exponent": 0}}}
    config = RefinersConfig.parse(values, "params: refiners")
    assert config.modes == {"projection": RefinementConfig(segmenter_exponent=0)}
    with pytest.raises(ValueError, match="exponent: unknown parameter"):
        RefinersConfig.parse({"modes": {"projection": {"exponent": 0}}}, "params: refiners")
