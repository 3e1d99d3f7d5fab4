import json

import numpy as np
import pytest
import torch
from small_fit import small_fit
from torch import nn

from cardiac_vae.correction.corrector import Corrector
from cardiac_vae.correction.network import Config
from cardiac_vae.correction.slices import DrawnSlices, DrawnStack
from cardiac_vae.correction.training import (
    CorrectorConfig,
    CorrectorModule,
    LessonConfig,
    train_corrector,
)
from cardiac_vae.data.transforms import AugmentationConfig, one_hot

AS_IT_IS = LessonConfig(
    augmentation=AugmentationConfig(probability=0), decided_share=0, broken_share=0, alone_share=0
)
FIT = small_fit(
    steps=60,
    batch_size=8,
    learning_rate=3e-2,
    matrix_learning_rate=0.05,
    warmup_steps=0,
    ema_decay=0.8,
    validate_every=30,
)


def fit_of(**values):
    return FIT.model_copy(update=values)


def lesson_of(**values):
    return LessonConfig.model_validate(AS_IT_IS.model_dump() | values)


def squares(rng, count):
    """Return masks (count, 16, 16) uint8, each a square of one structure in the dark."""
    masks = np.zeros((count, 16, 16), np.uint8)
    for mask in masks:
        row, column = rng.integers(2, 9, 2)
        mask[row : row + 5, column : column + 5] = rng.integers(1, 4)
    return masks


def planes(masks):
    """Return what a segmenter would say of masks (N, S, S) that it is sure of, (N, 4, S, S)."""
    return one_hot(torch.from_numpy(masks)).numpy()


def trained(stacks, config, folder, fit=FIT, pixel_mm=1.5):
    """Return a corrector trained and validated on stacks, and how that went."""
    slices = DrawnSlices.of(stacks)
    settings = CorrectorConfig(network=config, lesson=AS_IT_IS, fit=fit)
    summary = train_corrector(slices, slices, pixel_mm, settings, folder)
    return Corrector.load(folder), summary


def test_a_mistake_that_is_always_the_same_is_unlearnt(rng, config, tmp_path):
    masks = squares(rng, 24)
    drawn = planes(np.roll(masks, 2, axis=2))
    stacks = [DrawnStack(drawn[first : first + 4], masks[first : first + 4]) for first in (0, 4, 8)]
    corrector, summary = trained(stacks, config, tmp_path)
    json.dumps(summary)
    assert summary["steps"] == 60
    assert summary["num_train_slices"] == 12
    assert summary["num_parameters"] == sum(w.numel() for w in corrector.network.parameters())
    assert summary["corrected"] == pytest.approx(summary["best_value"], rel=1e-4)
    assert summary["corrected"] < 0.3 * summary["as_drawn"]
    unseen = slice(12, 24)
    corrected = corrector.correct(drawn[unseen], np.arange(12)).argmax(axis=1)
    wrong = drawn[unseen].argmax(axis=1) != masks[unseen]
    assert (corrected != masks[unseen]).sum() < 0.5 * wrong.sum()


def test_what_the_drawn_costs_is_the_nats_of_its_clamped_probabilities(
    rng, some_slices, config, tmp_path
):
    masks, given = squares(rng, 70), some_slices(70)  # more than go through it at once
    _, summary = trained([DrawnStack(given, masks)], config, tmp_path, fit_of(steps=1))
    kept = np.maximum(given.astype(np.float16).astype(np.float64), 1e-3)
    belief = np.take_along_axis(kept / kept.sum(axis=1, keepdims=True), masks[:, None], axis=1)
    nats = -np.log(belief).sum(axis=(1, 2, 3)).mean()
    assert summary["as_drawn"] == pytest.approx(nats, rel=1e-5)


def test_a_slice_that_says_nothing_is_told_by_its_neighbor(rng, config, tmp_path):
    masks = squares(rng, 16)
    nothing = np.full((1, 4, 16, 16), 0.25, np.float32)
    stacks = [
        DrawnStack(np.concatenate([nothing, sure[None]]), np.stack([mask, mask]))
        for sure, mask in zip(planes(masks), masks, strict=True)
    ]
    corrector, _ = trained(stacks, config, tmp_path, fit_of(steps=100))
    first = np.array([0])
    told = np.concatenate([corrector.correct(stack.given, first) for stack in stacks])
    blind = np.apply_along_axis(lambda drawn: np.bincount(drawn).argmax(), 0, masks)  # at its best
    assert (told.argmax(axis=1) != masks).mean() < 0.2 * (blind != masks).mean()


def test_the_seed_alone_decides_the_weights(rng, config, tmp_path):
    masks = squares(rng, 8)
    stacks = [DrawnStack(planes(masks), masks)]
    first, again, other = (
        trained(stacks, config, tmp_path / str(n), fit_of(steps=4, seed=seed))[0]
        for n, seed in enumerate((3, 3, 4))
    )
    same, different = first.network.state_dict(), other.network.state_dict()
    for name, tensor in again.network.state_dict().items():
        assert torch.equal(tensor, same[name]), name
    assert not all(torch.equal(tensor, different[name]) for name, tensor in same.items())


def test_slices_of_another_size_are_refused(rng, tmp_path):
    masks = squares(rng, 2)
    told = r"network.image_size: expected that of the slices, 16, got 32; set it to prepare.size"
    with pytest.raises(ValueError, match=told):
        trained([DrawnStack(planes(masks), masks)], Config(image_size=32), tmp_path)


class Witness(nn.Module):
    """A network that keeps what it is shown, and says what was drawn."""

    def forward(self, views):
        self.views = views.unflatten(1, (3, 4)).clone()
        return views[:, :4].clamp(min=1e-3).log()


@pytest.fixture
def batch(rng, some_slices):
    """Return the views of 40 slices, every second without a slice before, and their masks."""
    views = torch.from_numpy(some_slices(120)).unflatten(0, (40, 3))
    views[::2, 1] = 0
    return {"views": views.flatten(1, 2), "expert": torch.from_numpy(squares(rng, 40))}


def shown(batch, **shares):
    """Return the views (B, 3, 4, H, W) that a network learns from, by shares of a lesson."""
    before = {name: tensor.clone() for name, tensor in batch.items()}
    witness = Witness()
    CorrectorModule(witness, lesson_of(**shares), FIT).observe(batch)
    assert all(torch.equal(batch[name], tensor) for name, tensor in before.items())
    return witness.views


def test_without_a_lesson_slices_are_shown_as_they_are(batch):
    assert torch.equal(shown(batch).flatten(1, 2), batch["views"])


def test_decided_views_are_the_mask_of_their_probabilities_and_absent_ones_stay_so(batch):
    views, given = shown(batch, decided_share=1), batch["views"].unflatten(1, (3, 4))
    is_there = given.flatten(2).any(dim=2)
    assert torch.equal(views[is_there], one_hot(given[is_there].argmax(dim=1)))
    assert not views[~is_there].any()
    assert (~is_there).sum() == 20


def test_a_slice_alone_keeps_itself_and_loses_its_neighbors(batch):
    views = shown(batch, alone_share=1)
    assert torch.equal(views[:, 0], batch["views"][:, :4])
    assert not views[:, 1:].any()


def test_a_broken_slice_is_the_experts_broken_and_its_neighbors_are_as_drawn(batch):
    views, given = shown(batch, broken_share=1), batch["views"].unflatten(1, (3, 4))
    assert torch.equal(views[:, 1:], given[:, 1:])
    torch.testing.assert_close(views[:, 0].sum(dim=1), torch.ones(40, 16, 16))
    is_right = views[:, 0].argmax(dim=1) == batch["expert"]
    was_right = given[:, 0].argmax(dim=1) == batch["expert"]
    assert 0.7 < is_right.float().mean() < 1
    assert was_right.float().mean() < 0.3


@pytest.mark.parametrize("share", ["decided_share", "broken_share", "alone_share"])
def test_a_share_is_that_of_the_cases(batch, share):
    changed = (shown(batch, **{share: 0.5}).flatten(1, 2) != batch["views"]).flatten(1).any(dim=1)
    assert 10 < changed.sum() < 30


def test_slices_and_masks_are_moved_alike(batch):
    """A network that says what was drawn is right wherever the two went."""
    sure = one_hot(batch["expert"])
    views = torch.cat([sure, sure, 0 * sure], dim=1)
    module = CorrectorModule(witness := Witness(), lesson_of(augmentation={"probability": 1}), FIT)
    module.log = lambda *_, **__: None
    loss = module.training_step({"views": views, "expert": batch["expert"]})
    assert not torch.equal(witness.views[:, 0], sure)
    assert loss < 256 * 0.2
