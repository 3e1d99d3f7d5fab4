import numpy as np
import pytest
import torch

from cardiac_vae.segmentation.network import (
    BRIGHTEST,
    PIXELS_AT_ONCE,
    SegmenterConfig,
    build_network,
    normalize_image,
    slice_probabilities,
)


def test_the_network_keeps_the_size_and_gives_a_logit_per_structure(each_settings):
    smallest = each_settings.multiple
    logits = build_network(each_settings)(torch.rand(2, 1, smallest, 6 * smallest))
    assert logits.shape == (2, 4, smallest, 6 * smallest)


@pytest.mark.parametrize("patch_size", [1, 4])
@pytest.mark.parametrize("num_levels", [3, 5])
def test_patches_and_levels_of_any_number_are_undone(each_settings, patch_size, num_levels):
    channels = tuple(4 * 2**level for level in range(num_levels))
    sizes = {"patch_size": patch_size, "channels": channels, "windows": {"size": 64}}
    settings = SegmenterConfig.parse({**each_settings.model_dump(), **sizes}, "params")
    side = settings.multiple
    assert side == patch_size * 2 ** (num_levels - 1)
    network = build_network(settings).eval()
    assert network(torch.rand(1, 1, side, 2 * side)).shape == (1, 4, side, 2 * side)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_norm_and_the_dropout_are_those_of_the_settings(each_settings, norm):
    changes = {"norm": norm, "dropout": 0.25}
    network = build_network(each_settings.model_copy(update=changes))
    kinds = {"batch": torch.nn.BatchNorm2d, "instance": torch.nn.InstanceNorm2d}
    found = {
        name: sum(isinstance(m, kind) for m in network.modules()) for name, kind in kinds.items()
    }
    assert found.pop(norm) > 0
    assert set(found.values()) == {0}
    dropout = [m.p for m in network.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)]
    assert dropout
    assert set(dropout) == {0.25}


def test_every_parameter_learns(each_settings):
    network = build_network(each_settings)
    network(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_nothing_runs_at_full_resolution(each_settings):
    network = build_network(each_settings).eval()
    sides = []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
    with torch.no_grad():
        assert network(torch.rand(1, 1, 64, 64)).shape == (1, 4, 64, 64)
    assert max(sides) == 32


def test_windows_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="size 102 is not divisible by 8, which 3 levels over"):
        SegmenterConfig.parse({"channels": (8, 8, 8), "windows": {"size": 102}}, "params")


def test_an_unknown_architecture_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"params: architecture: .*'unet' or 'segresnet', got 'v'"):
        SegmenterConfig.parse({"architecture": "v"}, "params")


def test_channels_that_a_segresnet_cannot_have_are_refused():
    values = {"architecture": "segresnet", "channels": (8, 16, 16)}
    with pytest.raises(
        ValueError, match=r"expected \(8, 16, 32\) of a segresnet, .* got \(8, 16, 16"
    ):
        SegmenterConfig.parse(values, "params")


def test_one_level_is_refused():
    with pytest.raises(ValueError, match="three levels or more"):
        SegmenterConfig.parse({"channels": (8,)}, "params")


def test_normalized_intensities_do_not_depend_on_the_scanner_s_scale(rng):
    image = rng.gamma(2.0, 50.0, size=(3, 20, 20))
    normalized = normalize_image(image)
    np.testing.assert_allclose(normalize_image(7 * image + 100), normalized, atol=1e-5)
    assert normalized.dtype == np.float32
    assert normalized.min() == 0
    assert normalized.max() <= BRIGHTEST
    assert np.mean(normalized > 1) == pytest.approx(0.01, abs=0.002)


def test_a_constant_volume_is_dark():
    np.testing.assert_array_equal(normalize_image(np.full((1, 4, 4), 9.0)), np.zeros((1, 4, 4)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_scan_with_holes_is_refused(value):
    image = np.ones((1, 4, 4))
    image[0, 1, 2] = value
    with pytest.raises(ValueError, match="expected an image without NaN"):
        normalize_image(image)


def test_slices_of_any_size_go_through_in_batches_and_come_back_in_order():
    """With a pixelwise network the result is known: batches and padding must not show."""
    network = torch.nn.Conv2d(1, 4, 1)
    side = int(PIXELS_AT_ONCE**0.5) - 3
    image = torch.rand(3, side, side + 1)
    with torch.no_grad():
        probabilities = slice_probabilities(network, image, multiple=32)
        expected = network(image[:, None]).softmax(dim=1)
    torch.testing.assert_close(probabilities, expected)


def test_a_slice_does_not_see_its_neighbours(tiny_settings):
    network = build_network(tiny_settings).eval()
    image = torch.rand(3, 30, 41)
    with torch.no_grad():
        together = slice_probabilities(network, image, tiny_settings.multiple)
        alone = slice_probabilities(network, image[1:2], tiny_settings.multiple)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)
