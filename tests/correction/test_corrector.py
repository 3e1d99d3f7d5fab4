import numpy as np
import pytest
import torch

from cardiac_vae.config import read_yaml, write_yaml
from cardiac_vae.correction.corrector import CONFIG, WEIGHTS, Corrector
from cardiac_vae.correction.network import Network


@pytest.fixture
def corrector(config):
    """Return a corrector none of whose weights are as they started: it changes what it is given."""
    network = Network(config).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.rand_like(tensor) - 0.05)
    return Corrector(config, network, pixel_mm=1.37)


@pytest.fixture
def folder(corrector, tmp_path):
    corrector.save(tmp_path / "corrector")
    return tmp_path / "corrector"


def refusal(folder, kind=ValueError):
    """Return why a folder is not loaded, in one line."""
    with pytest.raises(kind) as caught:
        Corrector.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_corrector_comes_back_to_the_bit(corrector, folder, some_slices):
    loaded, given = Corrector.load(folder), some_slices(3)
    assert (loaded.config, loaded.pixel_mm) == (corrector.config, 1.37)
    assert not loaded.network.training
    weights = loaded.network.state_dict()
    for name, tensor in corrector.network.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    chosen = np.arange(3)
    np.testing.assert_array_equal(loaded.correct(given, chosen), corrector.correct(given, chosen))
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]


def test_a_pixel_size_in_whole_mm_comes_back(corrector, tmp_path):
    Corrector(corrector.config, corrector.network, 2).save(tmp_path)
    assert Corrector.load(tmp_path).pixel_mm == 2.0


def test_probabilities_come_out_and_what_was_given_stays(corrector, some_slices):
    given = some_slices(3)
    before = given.copy()
    corrected = corrector.correct(given, np.arange(3))
    assert corrected.dtype == np.float32
    np.testing.assert_allclose(corrected.sum(axis=1), 1, atol=1e-5)
    assert np.abs(corrected - given).max() > 0.02
    np.testing.assert_array_equal(given, before)


def test_a_slice_is_corrected_in_its_stack_whichever_others_are_chosen(corrector, some_slices):
    given, chosen = some_slices(70), np.array([69, 3, 4, 33])
    every = corrector.correct(given, np.arange(70))  # 32 at a time
    assert every.shape == given.shape
    np.testing.assert_allclose(corrector.correct(given, chosen), every[chosen], atol=1e-5)
    alone = corrector.correct(given[3:4], np.array([0]))[0]
    assert np.abs(alone - every[3]).max() > 1e-3  # its neighbors count


def test_no_slice_chosen_is_no_slice_corrected(corrector, some_slices):
    corrected = corrector.correct(some_slices(3), np.flatnonzero([False] * 3))
    assert corrected.shape == (0, 4, 16, 16)
    assert corrected.dtype == np.float32


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    told = refusal(folder, FileNotFoundError)
    assert told.startswith(f"{folder}: expected a corrector's folder, {name} not found; train one")


def test_a_folder_of_nothing_misses_both(tmp_path):
    assert f"{CONFIG} and {WEIGHTS} not found" in refusal(tmp_path / "none", FileNotFoundError)


@pytest.mark.parametrize("settings", [{"channels": [8, 24]}, {"cells_per_scale": 2}])
def test_weights_of_another_network_are_refused(folder, settings):
    write_yaml(folder / CONFIG, read_yaml(folder / CONFIG) | settings)
    told = refusal(folder)
    assert told.startswith(f"{folder / WEIGHTS}: expected the weights of {folder / CONFIG}, got")
    assert told.endswith("train the corrector again, or copy its folder whole")


def test_weights_that_are_none_are_refused(folder):
    (folder / WEIGHTS).write_bytes(b"no weights")
    assert f"{folder / WEIGHTS}: expected the weights of" in refusal(folder)


def test_settings_that_are_none_are_refused(folder):
    write_yaml(folder / CONFIG, read_yaml(folder / CONFIG) | {"chanels": [8, 16]})
    assert f"{folder / CONFIG}: chanels: unknown parameter" in refusal(folder)


@pytest.mark.parametrize("wrong", [None, "wide", 0.0, -1.5, float("nan"), float("inf"), [1.5]])
def test_a_pixel_size_that_is_none_is_refused(folder, wrong):
    write_yaml(folder / CONFIG, read_yaml(folder / CONFIG) | {"pixel_mm": wrong})
    told = f"{folder / CONFIG}: pixel_mm: expected mm above 0, got {wrong!r}"
    assert refusal(folder).startswith(told)


def test_settings_without_a_pixel_size_are_refused(folder):
    values = read_yaml(folder / CONFIG)
    del values["pixel_mm"]
    write_yaml(folder / CONFIG, values)
    assert "pixel_mm: expected mm above 0, got None" in refusal(folder)


@pytest.mark.parametrize("grid", [(32, 1.37), (16, 1.5)])
def test_slices_on_another_grid_are_refused(corrector, grid):
    corrector.require_grid(16, 1.37)
    told = rf"expected a shape model of 16 pixels of 1.37 mm a side, got {grid[0]} of {grid[1]} mm"
    with pytest.raises(ValueError, match=told):
        corrector.require_grid(*grid)
