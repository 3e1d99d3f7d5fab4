import shutil

import pytest
import torch

from cardiac_vae.checkpoint import CONFIG, WEIGHTS, load_model, pixel_size, save_model
from cardiac_vae.config import read_yaml, write_yaml
from cardiac_vae.models import build_model

SETTINGS = {
    "ae": {"image_size": 16, "channels": [4, 4], "latent_dim": 2},
    "pca": {"image_size": 16, "num_modes": 2},
    "vae": {"image_size": 16, "channels": [4, 4], "latent_dim": 2},
    "nvae": {"image_size": 16, "channels": [4, 4], "groups": [1, 1], "group_width": 4},
}


def saved(folder, name):
    """Save a model that has seen something, and return it."""
    torch.manual_seed(0)
    model = build_model(name, SETTINGS[name])
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
        model(torch.rand(3, 4, 16, 16))  # moves the running statistics and their counter
    save_model(folder, name, SETTINGS[name], model, pixel_mm=1.25)
    return model


@pytest.fixture
def folder(tmp_path):
    saved(tmp_path / "model", "vae")
    return tmp_path / "model"


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_model_comes_back_bit_for_bit_and_ready_for_use(tmp_path, name):
    folder = tmp_path / "models" / "deep"
    model = saved(folder, name)
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS}
    loaded = load_model(folder)
    assert type(loaded) is type(model)
    assert not loaded.training
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(before[key].dtype == after[key].dtype for key in before)
    mask = torch.rand(2, 4, 16, 16).softmax(dim=1)
    assert torch.equal(loaded.reconstruct(mask), model.eval().reconstruct(mask))
    assert pixel_size(folder) == 1.25


def test_weights_in_another_memory_layout_are_saved_by_their_values(tmp_path):
    model = saved(tmp_path, "nvae").to(memory_format=torch.channels_last)
    save_model(tmp_path, "nvae", SETTINGS["nvae"], model, pixel_mm=1.5)
    loaded = load_model(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_a_folder_that_is_no_models_is_said_in_one_line(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"got no {missing} in it; name a folder") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="expected the folder of a trained shape model"):
        pixel_size(folder / "nowhere")


def test_weights_of_another_model_are_refused_in_one_line(folder, tmp_path):
    saved(tmp_path / "other", "nvae")
    shutil.copy(tmp_path / "other" / WEIGHTS, folder)
    with pytest.raises(ValueError, match=r"expected the weights of .*copy its folder") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_settings_of_another_size_are_refused(folder):
    config = read_yaml(folder / CONFIG)
    write_yaml(folder / CONFIG, config | {"settings": config["settings"] | {"latent_dim": 3}})
    with pytest.raises(ValueError, match="expected the weights of"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_a_file_that_is_cut_short_is_refused(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match=f"{WEIGHTS}: expected the weights of"):
        load_model(folder)


@pytest.mark.parametrize("key", ["model", "settings", "pixel_mm"])
def test_a_config_of_something_else_is_refused(folder, key):
    config = read_yaml(folder / CONFIG)
    del config[key]
    write_yaml(folder / CONFIG, config)
    with pytest.raises(ValueError, match=rf"got no \['{key}'\]; is this the folder"):
        load_model(folder)


def test_a_setting_that_is_unknown_is_named(folder):
    config = read_yaml(folder / CONFIG)
    write_yaml(folder / CONFIG, config | {"settings": {"depth": 3}})
    with pytest.raises(ValueError, match="settings of model 'vae': depth: unknown parameter"):
        load_model(folder)
