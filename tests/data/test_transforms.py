import pytest
import torch

from cardiac_vae.data.transforms import (
    AugmentationConfig,
    augment_masks,
    augment_views,
    one_hot,
)

STILL = {"rotation_degrees": 0, "log_scale": 0, "shift_pixels": 0, "elastic_pixels": 0}


def only(**settings):
    return AugmentationConfig(**(STILL | {"probability": 1.0} | settings))


@pytest.fixture
def masks():
    """Return (6, 32, 40) uint8: a heart of disks, its LV around pixel (15.5, 19.5)."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(40.0), indexing="ij")
    radius = torch.hypot(rows - 15.5, columns - 19.5)
    heart = torch.zeros(32, 40, dtype=torch.uint8)
    heart[torch.hypot(rows - 15.5, columns - 9) < 6] = 1
    heart[radius < 9] = 2
    heart[radius < 6] = 3
    return heart.repeat(6, 1, 1)


def centre(mask):
    """Return the mean (row, column) of the LV of a mask (H, W)."""
    return torch.nonzero(mask == 3).float().mean(dim=0)


def test_one_hot_planes_say_the_label_and_nothing_else(masks):
    planes = one_hot(masks)
    assert planes.dtype == torch.float32
    assert planes.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(planes.argmax(dim=1), masks.long())
    assert torch.equal(planes.sum(dim=1), torch.ones(6, 32, 40))
    volume = torch.randint(4, (2, 3, 5, 7))
    assert torch.equal(one_hot(volume).argmax(dim=1), volume)


@pytest.mark.parametrize("config", [only(), AugmentationConfig(probability=0)])
def test_without_ranges_or_chance_nothing_moves(masks, config):
    before = masks.clone()
    assert torch.equal(augment_masks(masks, config), before)
    assert torch.equal(masks, before)


def test_augmented_masks_are_label_maps_a_function_of_the_seed_and_differ(masks):
    before = masks.clone()
    torch.manual_seed(3)
    first = augment_masks(masks, AugmentationConfig(probability=1))
    torch.manual_seed(3)
    assert torch.equal(augment_masks(masks, AugmentationConfig(probability=1)), first)
    assert torch.equal(masks, before)
    assert first.dtype == masks.dtype
    assert set(first.unique().tolist()) <= {0, 1, 2, 3}
    assert not any(torch.equal(first[0], other) for other in first[1:])


def test_a_turn_keeps_the_middle_and_every_area(masks):
    torch.manual_seed(0)
    turned = augment_masks(masks, only(rotation_degrees=30))
    for mask, original in zip(turned, masks, strict=True):
        torch.testing.assert_close(centre(mask), torch.tensor([15.5, 19.5]), atol=0.3, rtol=0)
        for structure in (1, 2, 3):
            area = (original == structure).sum()
            assert abs((mask == structure).sum() - area) < 0.1 * area
    assert all((mask != original).any() for mask, original in zip(turned, masks, strict=True))


def test_a_shift_moves_the_heart_to_the_nearest_pixel(masks):
    torch.manual_seed(1)
    shifts = torch.stack(
        [centre(mask) - 15.5 for mask in augment_masks(masks, only(shift_pixels=2))]
    ) - torch.tensor([0, 4.0])
    torch.manual_seed(1)
    torch.rand(6)  # who is moved
    torch.randn(12)  # the turn and the zoom of each case come first
    drawn = 2 * torch.randn(6, 2)  # columns before rows; the heart moves against its window
    torch.testing.assert_close(shifts, -drawn.flip(1), atol=0.5, rtol=0)


def test_a_zoom_scales_the_area(masks):
    torch.manual_seed(2)
    zoomed = augment_masks(masks, only(log_scale=0.3))
    torch.manual_seed(2)
    torch.rand(6)
    torch.randn(6)
    zoom = torch.exp(0.3 * torch.randn(6))
    ratio = (zoomed == 3).sum(dim=(1, 2)) / (masks == 3).sum(dim=(1, 2))
    torch.testing.assert_close(ratio.log(), -2 * zoom.log(), atol=0.15, rtol=0)


def test_what_enters_from_outside_the_window_is_background():
    full = torch.full((8, 16, 16), 3, dtype=torch.uint8)
    torch.manual_seed(0)
    moved = augment_masks(full, only(shift_pixels=6))
    assert set(moved.unique().tolist()) == {0, 3}
    torch.manual_seed(0)
    assert not augment_masks(full, only(shift_pixels=1e4)).any()


def test_only_about_the_given_share_of_cases_changes(masks):
    torch.manual_seed(0)
    many = masks.repeat(40, 1, 1)
    changed = (augment_masks(many, only(shift_pixels=4, probability=0.3)) != many).any(dim=(1, 2))
    assert 0.2 < changed.float().mean() < 0.4


def soft_views(masks):
    """Return views (B, 3 * 4, H, W): the masks, nothing, and the masks from which doubt grows."""
    sure = one_hot(masks)
    doubt = torch.linspace(0, 0.4, len(masks))[:, None, None, None]
    return torch.cat([sure, torch.zeros_like(sure), (1 - doubt) * sure + doubt / 4], dim=1)


def test_views_and_masks_are_moved_alike(masks):
    views, before = soft_views(masks), masks.clone()
    torch.manual_seed(3)
    moved, mask = augment_views(views, masks, AugmentationConfig(probability=1))
    sure, _, soft = moved.unflatten(1, (3, 4)).unbind(dim=1)
    assert mask.dtype == masks.dtype
    assert all((now != then).any() for now, then in zip(mask, masks, strict=True))
    assert torch.equal(sure.argmax(dim=1), mask.long())
    doubt = torch.linspace(0, 0.4, 6)[:, None, None, None]
    is_inside = torch.isclose(soft, (1 - doubt) * sure + doubt / 4, atol=1e-5).all(dim=1)
    assert torch.equal(soft.argmax(dim=1), mask.long())
    assert is_inside.float().mean() > 0.8  # no doubt enters from outside the window
    torch.manual_seed(3)
    torch.testing.assert_close(augment_masks(masks, AugmentationConfig(probability=1)), mask)
    assert torch.equal(masks, before)
    assert torch.equal(views, soft_views(before))


def test_moved_views_are_probabilities_inside_and_outside_and_nothing_stays_nothing(masks):
    torch.manual_seed(0)
    moved, _ = augment_views(soft_views(masks), masks, only(shift_pixels=12))
    sure, absent, soft = moved.unflatten(1, (3, 4)).unbind(dim=1)
    for planes in (sure, soft):
        torch.testing.assert_close(planes.sum(dim=1), torch.ones(6, 32, 40))
        assert planes.min() > -1e-5
    assert not absent.any()
    torch.manual_seed(0)
    moved, mask = augment_views(soft_views(masks), masks, only(shift_pixels=1e4))
    sure, absent, soft = moved.unflatten(1, (3, 4)).unbind(dim=1)
    assert not mask.any()
    assert torch.equal(sure[:, 0], torch.ones(6, 32, 40))
    assert torch.equal(soft, sure)
    assert not absent.any()


def test_a_case_that_is_not_moved_comes_back_in_arrays_of_its_own(masks):
    views = soft_views(masks)
    for config in (AugmentationConfig(probability=0), only(shift_pixels=4, probability=0.5)):
        torch.manual_seed(1)
        moved, mask = augment_views(views, masks, config)
        is_still = (mask == masks).all(dim=(1, 2))
        assert is_still.any()
        assert is_still.all() == (config.probability == 0)
        assert torch.equal(moved[is_still], views[is_still])
        mask += 1
        moved += 1
        assert torch.equal(views, soft_views(masks))
