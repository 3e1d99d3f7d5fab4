import pytest
import torch

from cardiac_vae.layers.autoencoder import Pyramid, decoder, encoder
from cardiac_vae.layers.blocks import EncoderCell


@pytest.mark.parametrize(
    ("dims", "size", "patch", "channels", "coarsest"),
    [(2, 48, 2, (4, 8, 8), 6), (2, 16, 4, (8,), 4), (3, 8, 2, (4, 6), 2)],
)
def test_the_decoder_is_the_mirror_of_the_encoder(dims, size, patch, channels, coarsest):
    pyramid = Pyramid(spatial_dims=dims, image_size=size, patch_size=patch, channels=channels)
    assert pyramid.coarsest_size == coarsest
    down, up = encoder(pyramid, 5, 7).eval(), decoder(pyramid, 7, 4).eval()
    planes = torch.randn(2, 5, *(size,) * dims)
    assert down(planes).shape == (2, 7)
    assert up(down(planes)).shape == (2, 4, *(size,) * dims)
    coarse = (2, channels[-1], *(coarsest,) * dims)
    assert down[:-2](planes).shape == coarse  # before it is laid out flat
    assert up[:2](torch.randn(2, 7)).shape == coarse


def test_every_scale_has_its_cells_on_both_sides():
    pyramid = Pyramid(image_size=32, channels=(4, 6, 8), cells_per_scale=2)
    for network, order in ((encoder(pyramid, 5, 3), 1), (decoder(pyramid, 3, 4), -1)):
        cells = [layer for layer in network if isinstance(layer, EncoderCell)]
        widths = [cell.branch[0].num_features for cell in cells]
        assert widths[::order] == [4, 4, 6, 6, 8, 8]
