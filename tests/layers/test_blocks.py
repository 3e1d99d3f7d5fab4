import pytest
import torch

from cardiac_vae.layers.blocks import (
    DecoderCell,
    Downsample,
    EncoderCell,
    SqueezeExcitation,
    Upsample,
    batch_norm,
    channels_last,
    convolution,
    from_patches,
    patches,
    zero_initialized,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def field(spatial_dims, channels=8, size=4):
    return torch.randn(2, channels, *(size,) * spatial_dims)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(
    ("block", "channels", "size"),
    [
        (lambda dims: convolution(dims, 8, 6, kernel=5), 6, 4),
        (lambda dims: patches(dims, 8, 5, 2), 5, 2),
        (lambda dims: from_patches(dims, 8, 5, 2), 5, 8),
        (lambda dims: batch_norm(dims, 8), 8, 4),
        (lambda dims: SqueezeExcitation(8), 8, 4),
        (lambda dims: EncoderCell(dims, 8), 8, 4),
        (lambda dims: DecoderCell(dims, 8), 8, 4),
        (lambda dims: Downsample(dims, 8, 12), 12, 2),
        (lambda dims: Upsample(dims, 8, 3), 3, 8),
    ],
)
def test_blocks_have_the_same_meaning_in_two_and_three_dimensions(
    block, channels, size, spatial_dims
):
    assert block(spatial_dims)(field(spatial_dims)).shape == (2, channels, *(size,) * spatial_dims)


@pytest.mark.parametrize("cell", [EncoderCell, DecoderCell])
def test_a_cell_is_its_input_plus_its_branch(cell):
    x = field(2)
    block = cell(2, 8)
    block.eval()
    torch.testing.assert_close(block(x), x + block.branch(x))
    zero_initialized(block.branch[-2])
    if cell is EncoderCell:
        assert torch.equal(block(x), x)


def test_zero_initialized_layers_say_nothing():
    assert not zero_initialized(convolution(2, 8, 3))(field(2)).any()


def test_a_patch_sees_itself_only_and_paints_itself_only():
    x = field(2, 3, 8).requires_grad_()
    patches(2, 3, 5, 4)(x)[:, :, 0, 1].sum().backward()
    seen = x.grad.abs().sum(dim=(0, 1)) > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:4, 4:] = True
    assert torch.equal(seen, expected)

    z = torch.zeros(1, 5, 2, 2)
    paint = from_patches(2, 5, 3, 4)
    blank = paint(z).detach()
    z[:, :, 0, 1] = 1
    assert torch.equal(((paint(z) - blank).abs().sum(dim=(0, 1)) > 0), expected)


def test_squeeze_excitation_weighs_whole_channels_between_0_and_1():
    x = field(2)
    weight = SqueezeExcitation(8)(x) / x
    assert ((weight > 0) & (weight < 1)).all()
    torch.testing.assert_close(weight, weight[:, :, :1, :1].expand_as(weight))


def test_upsampling_repeats_the_nearest_pixel():
    up = Upsample(2, 8, 3)(field(2))
    assert torch.equal(up[..., ::2, ::2], up[..., 1::2, 1::2])
    assert torch.equal(up[..., ::2, ::2], up[..., ::2, 1::2])


@pytest.mark.parametrize(("group_width", "mixed"), [(1, 1), (4, 4), (100, 16)])
def test_the_wide_convolution_mixes_groups_of_the_given_width(group_width, mixed):
    """The paper's is depthwise; a width beyond the channels mixes them all."""
    wide = DecoderCell(2, 8, expansion=2, group_width=group_width).branch[4]
    assert wide.kernel_size == (5, 5)
    assert wide.weight.shape[:2] == (16, mixed)


@pytest.mark.parametrize("cell", [EncoderCell, DecoderCell])
def test_a_cell_without_squeeze_and_excitation_has_the_branch_before_it(cell):
    whole, plain = cell(2, 8).eval(), cell(2, 8, squeeze_excitation=False).eval()
    plain.branch.load_state_dict(whole.branch[:-1].state_dict())
    x = field(2)
    torch.testing.assert_close(plain(x), x + whole.branch[:-1](x))


@pytest.mark.parametrize("cell", [EncoderCell, DecoderCell])
def test_in_eval_mode_cases_do_not_see_each_other(cell):
    block = cell(2, 8)
    block(5 + 3 * field(2))
    block.eval()
    x = field(2)
    torch.testing.assert_close(block(x)[1:], block(x[1:]))


def test_the_memory_layout_changes_no_value():
    network = torch.nn.Sequential(EncoderCell(2, 8), EncoderCell(3, 8))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    channels_last(network)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    weights = [value for value in network.parameters() if value.ndim == 4]
    assert len(weights) == 2
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in weights)
