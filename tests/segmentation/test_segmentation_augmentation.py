import math

import pytest
import torch

from cardiac_vae.segmentation.augmentation import WindowConfig, random_windows, relight

NOTHING = {
    "heart_shift": 0.0,
    "rotation_degrees": 0.0,
    "scale": 0.0,
    "shear": 0.0,
    "gamma": 0.0,
    "gain": 0.0,
    "bias": 0.0,
    "noise": 0.0,
}


def windows_of(image, mask, heart, config):
    place = torch.tensor([[*heart, *image.shape[-2:]]] * len(image), dtype=torch.float32)
    return random_windows(image, mask, place, config)


@pytest.fixture
def square():
    """Return 8 slices (8, 1, 40, 56) with a bright square, and it as the mask."""
    mask = torch.zeros(8, 1, 40, 56, dtype=torch.uint8)
    mask[..., 10:20, 30:40] = 3
    return mask.half() / 3, mask


def test_a_window_at_rest_is_a_plain_crop():
    image = torch.rand(2, 1, 40, 56).half()
    mask = torch.randint(0, 4, (2, 1, 40, 56), dtype=torch.uint8)
    config = WindowConfig(size=16, heart_share=1.0, **NOTHING)
    window, labels = windows_of(image, mask, (20.0, 30.0), config)
    torch.testing.assert_close(window, image[..., 12:28, 22:38].float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(labels, mask[..., 12:28, 22:38].long())


def test_beyond_the_slice_is_dark_background():
    image, mask = torch.ones(1, 1, 16, 16), torch.ones(1, 1, 16, 16, dtype=torch.uint8)
    config = WindowConfig(size=16, heart_share=1.0, **NOTHING)
    window, labels = windows_of(image, mask, (0.0, 8.0), config)
    assert (labels[..., :8, :] == 0).all()
    assert (labels[..., 8:, :] == 1).all()
    torch.testing.assert_close(window, labels.float())


def test_a_window_without_the_heart_lies_inside_the_slice():
    image = torch.zeros(200, 1, 64, 64)
    image[..., :32, :48] = 1  # the slice's own size; the rest is canvas
    place = torch.tensor([[60.0, 60.0, 32.0, 48.0]]).expand(200, 4)
    config = WindowConfig(size=16, heart_share=0.0, **NOTHING)
    window, _ = random_windows(image, image, place, config)
    assert window.min() > 0.99


def test_image_and_mask_move_together(square):
    image, mask = square
    config = WindowConfig(
        **NOTHING | {"size": 32, "rotation_degrees": 45.0, "scale": 0.2, "heart_share": 1.0}
    )
    window, labels = windows_of(image, mask, (15.0, 35.0), config)
    assert ((window > 0.5) == (labels == 3)).float().mean() > 0.98
    areas = (labels == 3).sum(dim=(1, 2, 3))
    assert len(areas.unique()) > 1
    low, high = (100 * math.exp(2 * sign * 0.2) for sign in (-1, 1))
    assert (areas > low - 10).all()
    assert (areas < high + 10).all()


def test_the_rotation_is_rigid(square):
    image, mask = square
    config = WindowConfig(**NOTHING | {"size": 32, "rotation_degrees": 45.0, "heart_share": 1.0})
    _, labels = windows_of(image, mask, (15.0, 35.0), config)
    for window in labels:
        rows, columns = torch.nonzero(window[0], as_tuple=True)
        assert len(rows) == pytest.approx(100, abs=13)
        offsets = torch.stack([rows, columns]).float() - 15.5
        torch.testing.assert_close(offsets.mean(dim=1), torch.zeros(2), atol=0.3, rtol=0)
        # The corner pixels of the square lie 6.4 pixels from its centre, the borders 7.1.
        assert offsets.norm(dim=0).max() == pytest.approx(6.4, abs=0.8)


def test_light_changes_keep_black_black_and_do_not_touch_the_mask(square):
    image, mask = square
    config = WindowConfig(
        **NOTHING | {"size": 16, "gamma": 0.5, "gain": 0.5, "bias": 0.3, "heart_share": 1.0}
    )
    window, labels = windows_of(image, mask, (15.0, 35.0), config)
    assert (window[labels == 0].abs() < 1e-6).sum() > 100
    assert len({round(slice_.max().item(), 3) for slice_ in window}) == len(window)
    torch.testing.assert_close(labels, mask[..., 7:23, 27:43].long())


def test_noise_stays_below_its_limit():
    dark = torch.zeros(32, 1, 64, 64)
    levels = relight(dark, WindowConfig(**NOTHING | {"noise": 0.1})).std(dim=(1, 2, 3))
    assert levels.max() < 0.105
    assert levels.max() > 0.05


def test_the_same_seed_gives_the_same_windows(square):
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(windows_of(*square, (15.0, 35.0), WindowConfig(size=16))[0])
    torch.testing.assert_close(results[0], results[1], atol=0, rtol=0)
    assert not torch.equal(results[0], results[2])
