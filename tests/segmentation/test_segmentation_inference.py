import numpy as np
import pytest
import torch
import yaml

from cardiac_vae.segmentation.inference import Segmenter
from cardiac_vae.segmentation.network import build_network


class Threshold(torch.nn.Module):
    """A network whose answer is known: bright pixels are the left ventricle."""

    def __init__(self):
        super().__init__()
        self.sharpness = torch.nn.Parameter(torch.tensor(200.0))

    def forward(self, image):
        lv = (image - 0.5) * self.sharpness
        return torch.cat([torch.zeros_like(lv), lv - 1e4, lv - 1e4, lv], dim=1)


@pytest.fixture
def segmenter(tiny_settings):
    torch.manual_seed(0)
    return Segmenter(tiny_settings, build_network(tiny_settings))


@pytest.mark.parametrize("spacing_mm", [(8.0, 1.5, 1.5), (10.0, 0.7, 1.9), (5.0, 2.0, 1.2)])
def test_probabilities_lie_on_the_scan_s_own_grid(segmenter, volume, spacing_mm):
    probabilities = segmenter.predict(volume[0], spacing_mm)
    assert probabilities.shape == (3, 4, 45, 50)
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("pixel_mm", [0.75, 1.5, 1.8])
def test_a_heart_anywhere_in_the_field_of_view_comes_back_in_its_place(tiny_settings, pixel_mm):
    image = np.full((2, 100, 140), 10.0, np.float32)
    image[0, 6:30, 100:132] = image[1, 70:94, 4:36] = 300.0
    mask = Segmenter(tiny_settings, Threshold()).predict(image, (8.0, pixel_mm, pixel_mm))
    lv = mask.argmax(axis=1) == 3
    assert np.mean(lv != (image > 100)) < 0.005
    assert lv[0, 8:28, 102:130].all()
    assert lv[1, 72:92, 6:34].all()


def test_nothing_is_mended(tiny_settings):
    """A speck far from the heart and a hole in it stay: they are the refiner's to find."""
    image = np.full((1, 64, 64), 10.0, np.float32)
    image[0, 10:40, 10:40] = image[0, 55:58, 55:58] = 300.0
    image[0, 20:24, 20:24] = 10.0
    mask = Segmenter(tiny_settings, Threshold()).predict(image, (8.0, 1.5, 1.5)).argmax(axis=1)
    np.testing.assert_array_equal(mask == 3, image > 100)


def test_the_input_is_left_alone(segmenter, volume):
    before = volume[0].copy()
    segmenter.predict(volume[0], (8.0, 1.5, 1.5))
    np.testing.assert_array_equal(volume[0], before)


def test_a_saved_segmenter_predicts_the_same(each_settings, volume, tmp_path):
    segmenter = Segmenter(each_settings, build_network(each_settings))
    segmenter.save(tmp_path / "segmenter")
    loaded = Segmenter.load(tmp_path / "segmenter", device="cpu")
    assert loaded.settings == segmenter.settings
    assert {path.name for path in (tmp_path / "segmenter").iterdir()} == {
        "config.yaml",
        "weights.safetensors",
    }
    np.testing.assert_array_equal(
        loaded.predict(volume[0], (8.0, 1.5, 1.5)), segmenter.predict(volume[0], (8.0, 1.5, 1.5))
    )


def test_one_saved_before_there_was_a_choice_of_architecture_is_a_u_net(
    segmenter, volume, tmp_path
):
    segmenter.save(tmp_path)
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert values.pop("architecture") == "unet"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    loaded = Segmenter.load(tmp_path, device="cpu")
    np.testing.assert_array_equal(
        loaded.predict(volume[0], (8.0, 1.5, 1.5)), segmenter.predict(volume[0], (8.0, 1.5, 1.5))
    )


def test_bf16_changes_the_mask_little(tiny_settings, volume):
    network = build_network(tiny_settings)
    exact, fast = (
        Segmenter(tiny_settings, network, use_bf16).predict(volume[0], (8.0, 1.5, 1.5))
        for use_bf16 in (False, True)
    )
    assert np.abs(exact - fast).max() < 0.05


def test_a_cine_is_refused_with_advice(segmenter):
    with pytest.raises(ValueError, match="pass a cine by frame"):
        segmenter.predict(np.zeros((2, 3, 32, 32), np.float32), (8.0, 1.5, 1.5))


def test_a_folder_without_a_segmenter_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.yaml and weights.safetensors not found"):
        Segmenter.load(tmp_path)


def test_weights_of_other_settings_are_refused(segmenter, tmp_path):
    segmenter.save(tmp_path)
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values | {"channels": [8, 16, 32]}))
    with pytest.raises(ValueError, match="got tensors of other names or shapes"):
        Segmenter.load(tmp_path)


def test_a_truncated_weights_file_is_refused(segmenter, tmp_path):
    segmenter.save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"expected the weights of the config.yaml"):
        Segmenter.load(tmp_path)


def test_another_kind_of_model_is_refused(segmenter, tmp_path):
    segmenter.save(tmp_path)
    (tmp_path / "config.yaml").write_text("name: vae\n")
    with pytest.raises(ValueError, match=r"config.yaml: name: unknown parameter"):
        Segmenter.load(tmp_path)
