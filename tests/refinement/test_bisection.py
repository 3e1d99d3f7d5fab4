import numpy as np
import pytest
import torch

from cardiac_vae.models import build_model
from cardiac_vae.refinement.bisection import nearest_valid, walk_to_nearest
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.window import HeartWindow


def at(t):
    return np.array([[t]])


@pytest.mark.parametrize("threshold", [0.01, 0.37, 0.5, 0.99])
def test_it_finds_where_validity_begins(threshold):
    asked = []

    def is_valid(mask):
        asked.append(mask[0, 0])
        return mask[0, 0] >= threshold

    found = nearest_valid(at, is_valid, num_halvings=8)
    assert threshold <= found[0, 0] < threshold + 1 / 256
    assert len(asked) == 9


def test_what_it_ends_at_is_valid_however_often_validity_changes():
    def is_valid(mask):
        return int(10 * mask[0, 0]) % 2 == 0  # valid at 1, and in every other tenth

    for halvings in range(10):
        assert is_valid(nearest_valid(at, is_valid, halvings))


def test_an_anchor_that_is_not_valid_itself_is_no_way_out():
    assert nearest_valid(at, lambda mask: mask[0, 0] < 0.9) is None


@pytest.fixture
def shapes(heart):
    sizes = [(8.0 + 2 * k, 6.0 + k % 3) for k in range(7)]
    return np.stack([heart((96, 96), lv_mm=lv, wall_mm=wall) for lv, wall in sizes])


@pytest.fixture
def model(shapes):
    model = build_model("pca", {"image_size": 96, "num_modes": 5}).eval()
    model.fit_masks(torch.from_numpy(shapes))
    return model


def test_a_broken_slice_comes_back_a_heart_nearer_than_the_anchor(model, shapes, heart):
    volume = heart((100, 90), lv_mm=10.0)[None]
    window = HeartWindow.around(volume, (8.0, 1.5, 1.5), 96, 1.5)
    broken = window.cut(volume)[0].copy()
    broken[:, broken.shape[1] // 2 :] = 0  # half a heart
    assert not window.is_valid(broken)
    seen = window.to_prepared(one_hot_planes(broken[None]))[0]
    anchor = shapes[-1:]

    def is_whole(mask):
        return window.is_valid(mask) and len(np.unique(mask)) == 4

    found = walk_to_nearest(model, seen, anchor, window, is_whole)
    assert is_whole(found)
    end = window.masks_to_native(anchor)[0]
    assert (found != broken).sum() < (end != broken).sum()


def test_without_anchors_or_noise_there_is_nowhere_to_go(model, shapes):
    window = HeartWindow.around(shapes[:1], (8.0, 1.5, 1.5), 96, 1.5)
    seen = one_hot_planes(shapes[:1])[0]
    assert walk_to_nearest(model, seen, shapes[:0], window, window.is_valid) is None
    model.has_noise = False
    assert walk_to_nearest(model, seen, shapes, window, window.is_valid) is None
