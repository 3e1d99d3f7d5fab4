"""A model with known answers: it sees one number of a slice, and says what it is told to say."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cardiac_vae.data.conditions import Condition, encode_conditions
from cardiac_vae.evaluation.reconstruction import (
    HeldOutSlices,
    ReconstructionConfig,
    score_reconstruction,
)
from cardiac_vae.labels import Structure
from cardiac_vae.shape_model import LossTerms, ShapeModel

SIZE = 32


def heart(shift: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(rows - 16, columns - 18 - shift)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[np.hypot(rows - 16, columns - 11 - shift) < 7] = Structure.RV
    mask[distance < 8] = Structure.MYO
    mask[distance < 5] = Structure.LV
    return mask


class Known(ShapeModel):
    """Remembers where the heart lies; decodes it there, without the RV if it is ``forgetful``."""

    def __init__(self, forgetful: bool = False) -> None:
        super().__init__()
        self.forgetful = forgetful
        self.anywhere = nn.Parameter(torch.zeros(1))

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        shift = mask[:, Structure.LV].amax(dim=1).argmax(dim=1).float() - 14
        return [torch.stack([shift, torch.zeros_like(shift)], dim=1), torch.ones(len(mask), 3)]

    def decode(
        self,
        latents: Sequence[Tensor],
        temperature: float = 0.0,
        condition: Tensor | None = None,
    ) -> Tensor:
        masks = np.stack([heart(int(shift)) for shift in latents[0][:, 0]])
        if self.forgetful:
            masks[masks == Structure.RV] = 0
        return F.one_hot(torch.from_numpy(masks).long(), 4).permute(0, 3, 1, 2).float()

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        noise = torch.randn(len(mask))
        kl = torch.stack([torch.full((len(mask),), 3.0), torch.full((len(mask),), 4.0)], dim=1)
        return self.decode(self.encode(mask)), LossTerms(100 + noise, kl)

    def loss(self, terms: LossTerms, warmup: float = 1.0) -> Tensor:
        return terms.negative_elbo.mean()

    def sample(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> Tensor:
        # At temperature 1 every other sample is no heart at all.
        masks = np.stack([heart(index % 3) for index in range(num_samples)])
        if temperature == 1:
            masks[::2] = 0
        return F.one_hot(torch.from_numpy(masks).long(), 4).permute(0, 3, 1, 2).float()

    @property
    def latent_sizes(self) -> list[int]:
        return [2, 3]


@pytest.fixture
def slices() -> HeldOutSlices:
    masks = np.stack([heart(shift) for shift in (0, 1, 2, 3)] + [heart() * 0])
    return HeldOutSlices(
        masks, ["a_ed", "a_ed", "b_ed", "b_es", "b_es"], ["a", "a", "b", "b", "b"], (1.5, 1.5)
    )


CONFIG = ReconstructionConfig(num_samples=10, batch_size=4)


def test_a_perfect_model(slices: HeldOutSlices) -> None:
    scores = score_reconstruction(Known(), slices, CONFIG)
    metrics = scores["metrics"]
    names = ["dice_rv", "dice_myo", "dice_lv", "dice_mean", "volume_dice_mean"]
    assert [metrics[name]["mean"] for name in names] == [1] * 5
    assert (metrics["dice_mean"]["n"], metrics["volume_dice_lv"]["n"]) == (4, 3)
    assert metrics["valid_reconstructions"] == metrics["valid_references"]
    assert metrics["valid_references"]["mean"] == 1
    counts = ("num_slices", "num_volumes", "num_patients", "num_empty_slices")
    assert [scores[name] for name in counts] == [4, 3, 2, 1]


def test_the_bound_is_the_sum_of_its_parts(slices: HeldOutSlices) -> None:
    scores = score_reconstruction(Known(), slices, CONFIG)
    parts = [scores["metrics"][name]["mean"] for name in ("reconstruction", "rate")]
    assert scores["metrics"]["negative_elbo"]["mean"] == pytest.approx(sum(parts))
    assert parts[1] == pytest.approx(7)
    assert [group["mean"] for group in scores["kl_per_group"]] == pytest.approx([3, 4])


class Bare(Known):
    """Knows hearts without a bound, and cannot draw any."""

    has_prior = False

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        logits, terms = super().forward(mask)
        return logits, LossTerms(terms.reconstruction, terms.regularization[:, :0])

    def sample(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> Tensor:
        raise ValueError("sample: no prior")


def test_without_a_bound_none_is_reported_and_without_a_prior_nothing_is_drawn(
    slices: HeldOutSlices,
) -> None:
    scores, known = (score_reconstruction(model, slices, CONFIG) for model in (Bare(), Known()))
    assert known["metrics"].keys() - scores["metrics"].keys() == {
        "negative_elbo",
        "rate",
        "valid_samples_at_1",
        "valid_samples_at_0.6",
    }
    assert scores["metrics"]["reconstruction"]["mean"] == pytest.approx(100, abs=3)
    assert (scores["kl_per_group"], scores["samples"]) == ([], [])
    kept = ("latent_scalars", "active_units", "active_per_group", "num_slices")
    assert [scores[name] for name in kept] == [known[name] for name in kept]
    assert scores.keys() == known.keys()


def test_only_latents_that_move_are_active(slices: HeldOutSlices) -> None:
    scores = score_reconstruction(Known(), slices, CONFIG)
    assert (scores["latent_scalars"], scores["active_units"]) == (5, 1)
    assert scores["active_per_group"] == [1, 0]


def test_a_lost_structure_lowers_the_mean(slices: HeldOutSlices) -> None:
    metrics = score_reconstruction(Known(forgetful=True), slices, CONFIG)["metrics"]
    assert metrics["dice_rv"]["mean"] == 0
    assert metrics["dice_mean"]["mean"] == pytest.approx(2 / 3)


def test_an_empty_reconstruction_is_not_valid(slices: HeldOutSlices) -> None:
    class Blank(Known):
        def decode(
            self,
            latents: Sequence[Tensor],
            temperature: float = 0.0,
            condition: Tensor | None = None,
        ) -> Tensor:
            return super().decode(latents) * torch.tensor([1.0, 0, 0, 0])[:, None, None]

    metrics = score_reconstruction(Blank(), slices, CONFIG)["metrics"]
    assert metrics["valid_reconstructions"]["mean"] == 0
    assert metrics["dice_mean"]["mean"] == 0


def test_an_empty_sample_is_no_valid_heart(slices: HeldOutSlices) -> None:
    hot, cool = score_reconstruction(Known(), slices, CONFIG)["samples"]
    assert (hot["temperature"], hot["num_samples"], hot["valid_share"]) == (1.0, 10, 0.5)
    assert (cool["temperature"], cool["valid_share"]) == (0.6, 1.0)


def test_valid_samples_are_metrics_with_an_interval_over_samples(slices: HeldOutSlices) -> None:
    metrics = score_reconstruction(Known(), slices, CONFIG)["metrics"]
    hot, cool = metrics["valid_samples_at_1"], metrics["valid_samples_at_0.6"]
    assert (hot["mean"], hot["n"], cool["mean"]) == (0.5, 10, 1.0)
    assert hot["low"] < 0.5 < hot["high"]
    assert cool["low"] < cool["high"] == 1.0


def test_the_same_seed_gives_the_same_scores_and_leaves_the_generator(
    slices: HeldOutSlices,
) -> None:
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    first = score_reconstruction(Known(), slices, CONFIG)
    torch.testing.assert_close(torch.randn(2), expected)
    assert score_reconstruction(Known(), slices, CONFIG) == first


class Told(Known):
    """Looks at conditions, and remembers those it was told."""

    condition_groups = ("HCM", "NOR")

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, list[Tensor]] = {}

    def remember(self, occasion: str, condition: Tensor | None) -> None:
        assert condition is not None
        self.told.setdefault(occasion, []).append(condition)

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        self.remember("encode", condition)
        return super().encode(mask)

    def decode(
        self,
        latents: Sequence[Tensor],
        temperature: float = 0.0,
        condition: Tensor | None = None,
    ) -> Tensor:
        self.remember("decode", condition)
        return super().decode(latents)

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        self.remember("forward", condition)
        return mask, LossTerms(torch.ones(len(mask)), torch.ones(len(mask), 2))

    def sample(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> Tensor:
        self.remember("sample", condition)
        return super().sample(num_samples, temperature)


CONDITIONS = [
    Condition("HCM", "ed", 0.0),
    Condition("HCM", "ed", 1.0),
    Condition("NOR", "ed", 0.5),
    Condition("another", "es", 0.5),
    Condition("NOR", "es"),  # of the empty slice
]


def test_a_model_is_told_the_condition_of_each_slice(slices: HeldOutSlices) -> None:
    model = Told()
    score_reconstruction(model, replace(slices, conditions=CONDITIONS), CONFIG)
    known = encode_conditions([*CONDITIONS[:3], Condition("", "es", 0.5)], model.condition_groups)
    for occasion in ("encode", "decode", "forward"):
        assert torch.equal(torch.cat(model.told[occasion]), known)
    # Two temperatures of ten samples each, the conditions of slices that show a heart.
    drawn = torch.cat(model.told["sample"])
    assert [len(part) for part in model.told["sample"]] == [4, 4, 2, 4, 4, 2]
    assert {tuple(row) for row in drawn.tolist()} == {tuple(row) for row in known.tolist()}


def test_other_models_draw_the_same_numbers_whether_conditions_are_known_or_not(
    slices: HeldOutSlices,
) -> None:
    told = score_reconstruction(Known(), replace(slices, conditions=CONDITIONS), CONFIG)
    assert told == score_reconstruction(Known(), slices, CONFIG)
    with pytest.raises(ValueError, match="a condition for each of 5 slices or none at all, got 4"):
        replace(slices, conditions=CONDITIONS[:4])


def test_slices_without_a_heart_or_an_owner_are_refused(slices: HeldOutSlices) -> None:
    with pytest.raises(ValueError, match="at least one slice with a heart"):
        HeldOutSlices(slices.masks * 0, slices.case_ids, slices.patient_ids, (1.5, 1.5))
    with pytest.raises(ValueError, match="5 cases and 1 patients"):
        HeldOutSlices(slices.masks, slices.case_ids, ["a"], (1.5, 1.5))
