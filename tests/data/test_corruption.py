import pytest
import torch

from cardiac_vae.data.corruption import CorruptionConfig, break_masks
from cardiac_vae.data.transforms import one_hot


@pytest.fixture
def whole():
    """Return (64, 4, 48, 48): a heart in the upper left quarter, background elsewhere."""
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    radius = torch.hypot(rows - 14, columns - 16)
    heart = torch.zeros(48, 48, dtype=torch.uint8)
    heart[torch.hypot(rows - 14, columns - 6) < 5] = 1
    heart[radius < 9] = 2
    heart[radius < 6] = 3
    return one_hot(heart.repeat(64, 1, 1))


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_a_broken_view_is_a_distribution_over_classes(whole, batch):
    torch.manual_seed(0)
    before = whole.clone()
    broken = break_masks(whole[:batch], CorruptionConfig())
    assert broken.shape == whole[:batch].shape
    assert (broken >= 0).all()
    torch.testing.assert_close(broken.sum(dim=1), torch.ones(batch, 48, 48))
    assert torch.equal(whole, before)


def test_the_noise_is_a_function_of_the_seed(whole):
    torch.manual_seed(5)
    first = break_masks(whole, CorruptionConfig())
    torch.manual_seed(5)
    assert torch.equal(break_masks(whole, CorruptionConfig()), first)
    assert not torch.equal(break_masks(whole, CorruptionConfig()), first)


def test_results_are_decided_or_soft_as_asked(whole):
    torch.manual_seed(0)
    decided = break_masks(whole, CorruptionConfig(soft_share=0))
    assert set(decided.unique().tolist()) == {0.0, 1.0}
    soft = break_masks(whole, CorruptionConfig(soft_share=1))
    assert ((soft > 0) & (soft < 1)).all()
    mixed = break_masks(whole, CorruptionConfig(soft_share=0.5))
    is_decided = (mixed == mixed.round()).flatten(start_dim=1).all(dim=1)
    assert 0.25 < is_decided.float().mean() < 0.75


def test_hearts_break_in_many_ways_but_stay_recognizable(whole):
    torch.manual_seed(0)
    truth = whole.argmax(dim=1)
    wrong = (break_masks(whole, CorruptionConfig()).argmax(dim=1) != truth).float()
    per_case = wrong.mean(dim=(1, 2))
    assert (per_case > 0).float().mean() > 0.8
    assert per_case.std() > 0.3 * per_case.mean()  # severities differ
    assert per_case.median() < 0.2


def test_errors_are_near_the_heart(whole):
    torch.manual_seed(0)
    # As good as no patches and no parts of others: they may lie anywhere.
    config = CorruptionConfig(patch_radius=1e-6, max_patches=1, mix_probability=0)
    wrong = (break_masks(whole, config).argmax(dim=1) != whole.argmax(dim=1)).float().mean(dim=0)
    near, far = wrong[:28, :30].mean(), wrong[34:, 34:].mean()
    assert far < 0.05 * near


def test_without_noise_only_borders_can_change(whole):
    torch.manual_seed(0)
    config = CorruptionConfig(
        field_strength=0, bias_strength=0, patch_radius=1e-6, max_patches=1, mix_probability=0
    )
    wrong = break_masks(whole, config).argmax(dim=1) != whole.argmax(dim=1)
    assert wrong.float().mean() < 0.002


def test_a_part_of_another_heart_comes_in_whole(whole):
    torch.manual_seed(0)
    shifted = whole.roll(20, dims=3)
    pair = torch.stack([whole[0], shifted[0]]).repeat(8, 1, 1, 1)
    config = CorruptionConfig(
        field_strength=0, bias_strength=0, patch_radius=1e-6, max_patches=1, mix_probability=1
    )
    truth, other = pair.argmax(dim=1), pair.roll(1, dims=0).argmax(dim=1)
    broken = break_masks(pair, config).argmax(dim=1)
    assert ((broken == truth) | (broken == other)).float().mean() > 0.995
    assert (broken != truth).any(dim=(1, 2)).float().mean() > 0.5
