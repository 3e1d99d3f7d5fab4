import numpy as np
import pytest
import torch

from cardiac_vae.anchors import read_anchors
from cardiac_vae.checkpoint import load_model, pixel_size
from cardiac_vae.densities.fit import DensityConfig, fit_code_density
from cardiac_vae.densities.surprise_scale import SurpriseScale
from cardiac_vae.refinement.judge import Judge

SPACING_MM = (8.0, 1.5, 1.5)


@pytest.fixture(scope="module")
def judge(tiny_model):
    model, hearts = load_model(tiny_model), torch.from_numpy(read_anchors(tiny_model))
    density = fit_code_density(model, hearts, DensityConfig(kind="kernels"))
    return Judge(model, SurpriseScale.of(model, density, hearts), pixel_size(tiny_model))


def test_the_window_around_a_heart_is_measured_as_a_training_heart_is(judge, tiny_model):
    square = np.zeros((96, 96), np.uint8)
    square[40:56, 40:56] = 2  # its middle is that of the window
    volume = np.zeros((3, 150, 160), np.uint8)
    volume[1, 20:116, 30:126] = square
    found = judge.judge(volume, SPACING_MM)
    nats = judge.scale.measure(judge.model, torch.from_numpy(square[None]))
    excess = judge.scale.excess(nats, torch.from_numpy(square[None]))
    assert found.of_slice(1) == (float(nats), float(excess), float(judge.scale.rank(excess)))
    for values in (found.nats, found.excess, found.ranks):
        np.testing.assert_array_equal(np.isnan(values), [True, False, True])
    assert found.of_slice(0) is None


def test_coarse_pixels_are_brought_to_the_models_grid(judge):
    square = np.zeros((1, 96, 96), np.uint8)
    square[0, 40:56, 40:56] = 2
    fine = judge.judge(square, SPACING_MM)
    coarse = judge.judge(square[:, ::2, ::2], (8.0, 3.0, 3.0))
    np.testing.assert_array_equal(coarse.nats, fine.nats)


def test_judging_twice_is_judging_once(judge, heart):
    first, second = (judge.judge(np.stack([heart()] * 3), SPACING_MM) for _ in range(2))
    np.testing.assert_array_equal(first.nats, second.nats)


def test_an_empty_mask_surprises_nobody(judge):
    found = judge.judge(np.zeros((3, 40, 50), np.uint8), SPACING_MM)
    assert np.isnan([found.nats, found.excess, found.ranks]).all()


def test_what_lies_far_from_the_heart_is_not_seen(judge, heart):
    mask = np.zeros((2, 200, 190), np.uint8)
    mask[0, :100, :90] = heart()
    alone = judge.judge(mask, SPACING_MM)
    mask[:, 195, 185] = 1
    np.testing.assert_array_equal(judge.judge(mask, SPACING_MM).nats, alone.nats)


def test_a_density_of_another_model_is_refused(judge, tiny_model, tmp_path):
    judge.scale.save(tmp_path)
    assert torch.equal(Judge.load(tiny_model, tmp_path).scale.hearts, judge.scale.hearts)
    other = load_model(tiny_model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter *= 1.1
    with pytest.raises(ValueError, match="expected the model that it was fitted to"):
        Judge(other, judge.scale, pixel_size(tiny_model))
