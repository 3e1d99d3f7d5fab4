"""What a step of a shape model's training is: explain whole masks, and infer them from broken ones.

Every batch is split in two. The first part maximizes the bound of whole masks. The second shows
the encoder a broken view y of a mask x and maximizes E_q(z|y)[log p(x | z)] - KL(q(z | y) || p(z)),
a bound on log p(x) whatever q is: amortized inference behind the noisy channel.
"""

from typing import Any

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.corruption import CorruptionConfig, break_masks
from cardiac_vae.data.transforms import AugmentationConfig, augment_masks, one_hot
from cardiac_vae.layers.blocks import channels_last
from cardiac_vae.shape_model import LossTerms, ShapeModel
from cardiac_vae.training.batches import Batch
from cardiac_vae.training.fit import FitConfig, optimization
from cardiac_vae.training.fitted_module import MONITORED, FittedModule


class ObjectiveConfig(StrictConfig):
    """What is asked of the model while it is fitted.

    Attributes:
        kl_warmup: Share of the steps over which the weight of the KL grows to its full value.
        broken_share: Share of every batch whose input is broken; on average, where it is no whole
            number of cases.
        broken_weight: Weight of a broken case in the loss. What hides a heart cannot be explained
            away: such a case costs about three times as much as a whole one, and at full weight its
            gradient drowns what whole masks teach the decoder.
        augmented_share: Share of the steps that see augmented masks. The last ones see masks as
            they are: those have fewer ragged borders to explain.
        plausible_only: Learn from the slices that keep all criteria: a part of the experts' do not.
    """

    kl_warmup: float = Field(default=0.2, ge=0, le=1)
    broken_share: float = Field(default=0.125, ge=0, lt=1)
    broken_weight: NonNegativeFloat = 0.3
    augmented_share: float = Field(default=0.7, ge=0, le=1)
    plausible_only: bool = False
    augmentation: AugmentationConfig = AugmentationConfig()
    corruption: CorruptionConfig = CorruptionConfig()


class ShapeModule(FittedModule):
    """A shape model in training."""

    def __init__(self, model: ShapeModel, objective: ObjectiveConfig, config: FitConfig) -> None:
        super().__init__()
        self.model = channels_last(model)
        self.objective = objective
        self.config = config

    def warmup(self) -> float:
        """Return the weight of the KL at this step, in (0, 1]."""
        length = self.objective.kl_warmup * self.config.steps
        return min(1.0, (self.global_step + 1) / max(length, 1))

    def progress(self) -> float:
        """Return the share of the steps taken, in (0, 1]."""
        return min(1.0, (self.global_step + 1) / self.config.steps)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of a batch of label maps (B, H, W)."""
        terms, is_broken = self._explain(batch)
        share = int(is_broken.sum()) / len(is_broken)
        penalty = self.model.penalty()
        loss = self._loss(terms, is_broken, share, self.warmup(), self.progress()) + penalty
        self.log("train/loss", loss, prog_bar=True)
        if penalty.requires_grad:
            self.log("train/penalty", penalty)
        self._log_terms("train", terms, is_broken)
        return loss

    def _explain(self, batch: Batch) -> tuple[LossTerms, Tensor]:
        """Return the terms of a batch, moved and in part broken, and which cases are broken."""
        mask = batch["mask"]
        if self.progress() <= self.objective.augmented_share:
            mask = augment_masks(mask, self.objective.augmentation)
        whole = one_hot(mask)
        num_broken = self._num_broken(len(whole))
        is_broken = torch.arange(len(whole), device=whole.device) < num_broken
        seen = whole.clone()
        if num_broken:
            seen[:num_broken] = break_masks(whole[:num_broken], self.objective.corruption)
        return self.model(seen, whole, is_broken, batch.get("condition"))[1], is_broken

    def _num_broken(self, num_cases: int) -> int:
        """Return how many cases of a batch to break: their share, on average over batches."""
        whole, part = divmod(self.objective.broken_share * num_cases, 1)
        return int(whole) + int(part > 0 and float(torch.rand(())) < part)

    def observe(self, batch: Batch) -> None:
        """Pass a training batch through the model."""
        self._explain(batch)

    def _loss(
        self, terms: LossTerms, is_broken: Tensor, share: float, warmup: float, progress: float
    ) -> Tensor:
        """Return the loss per case, if a share of them is broken and those have their own weight.

        Whole and broken cases each stand for all of their kind, however many there are.
        """
        parts = ((~is_broken, 1 - share), (is_broken, share * self.objective.broken_weight))
        weighted = [
            weight * self.model.loss(terms.of(chosen), warmup, progress)
            for chosen, weight in parts
            if bool(chosen.any())
        ]
        return torch.stack(weighted).sum()

    def validation_step(self, batch: Batch, _: int) -> None:
        """Log the bounds of whole masks and of the same masks seen broken.

        What is monitored is the loss as it is at the end of a fit: the weights that are kept are
        those that meet best what the model is fitted to.
        """
        whole = one_hot(batch["mask"])
        seen = torch.cat([break_masks(whole, self.objective.corruption), whole])
        is_broken = torch.arange(len(seen), device=whole.device) < len(whole)
        condition = batch.get("condition")
        logits, terms = self.model(
            seen,
            torch.cat([whole, whole]),
            is_broken,
            None if condition is None else torch.cat([condition, condition]),
        )
        self._log_terms("validation", terms, is_broken)
        loss = self._loss(terms, is_broken, self.objective.broken_share, 1.0, 1.0)
        self.log(MONITORED, loss, batch_size=len(whole))
        decided = logits.argmax(dim=1)[len(whole) :]
        self.log(
            "validation/pixel_accuracy",
            (decided == batch["mask"]).float().mean(),
            batch_size=len(whole),
        )

    def _log_terms(self, name: str, terms: LossTerms, is_broken: Tensor) -> None:
        for kind, chosen in (("whole", ~is_broken), ("broken", is_broken)):
            values: dict[str, Any] = {"reconstruction": terms.reconstruction, **terms.parts}
            if terms.has_bound:
                values |= {"kl": terms.kl, "negative_elbo": terms.negative_elbo}
            if bool(chosen.any()):
                self.log_dict(
                    {f"{name}/{kind}/{key}": v[chosen].mean() for key, v in values.items()},
                    batch_size=int(chosen.sum()),
                )
        for group, kl in enumerate(terms.regularization[~is_broken].mean(dim=0)):
            self.log(f"{name}/kl_group_{group}", kl, batch_size=int((~is_broken).sum()))

    def configure_optimizers(self) -> Any:
        """Return the optimizer and the schedule that all fits use."""
        return optimization(self.model, self.config)
