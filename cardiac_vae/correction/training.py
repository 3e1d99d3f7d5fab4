"""Fit a corrector to what a segmenter drew of the training patients, beside the expert's masks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from pydantic import Field, PositiveInt
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.correction.corrector import Corrector
from cardiac_vae.correction.network import NUM_VIEWS, Config, Network
from cardiac_vae.correction.slices import DrawnSlices, views
from cardiac_vae.data.corruption import CorruptionConfig, break_masks
from cardiac_vae.data.transforms import AugmentationConfig, augment_views, one_hot
from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.blocks import channels_last
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.training.batches import Batch, StepBatches, digest
from cardiac_vae.training.fit import FitConfig, fit, optimization
from cardiac_vae.training.fitted_module import MONITORED, FittedModule

_SLICES_AT_ONCE = 64


class LessonConfig(StrictConfig):
    """What a corrector is shown beside the mistakes as they are.

    Attributes:
        augmentation: How slices are moved, turned and bent.
        decided_share: Share of the cases whose probabilities become a mask: of some segmenters
            there is no more.
        broken_share: Share of the cases whose own slice is the expert's, broken at random.
        corruption: How these are broken.
        alone_share: Share of the cases that lose their neighbors.
    """

    augmentation: AugmentationConfig = AugmentationConfig(probability=0.7)
    decided_share: float = Field(default=0.3, ge=0, le=1)
    broken_share: float = Field(default=0.15, ge=0, le=1)
    corruption: CorruptionConfig = CorruptionConfig()
    alone_share: float = Field(default=0.1, ge=0, le=1)


class CorrectorConfig(StrictConfig):
    """How a corrector is made.

    Attributes:
        network: Its settings.
        lesson: What it is shown.
        fit: How it is fitted.
        max_patients: Only the first so many training patients are drawn, where time is short; all
            if None.
    """

    network: Config = Config()
    lesson: LessonConfig = LessonConfig()
    fit: FitConfig = FitConfig()
    max_patients: PositiveInt | None = None


def train_corrector(
    train: DrawnSlices,
    validation: DrawnSlices,
    pixel_mm: float,
    config: CorrectorConfig,
    folder: Path,
    logger: Logger | None = None,
) -> dict[str, Any]:
    """Fit a corrector to slices of pixels of ``pixel_mm``, and write ``folder``.

    Returns:
        How the fit went, the numbers of slices and of parameters, and what the experts' masks of
        the validation slices cost, in nats per slice, ``as_drawn`` and ``corrected``.

    Raises:
        ValueError: if the slices have another side than ``config.network.image_size``.
    """
    for slices in (train, validation):
        size = slices.given.shape[-1]
        if size != config.network.image_size:
            raise ValueError(
                f"network.image_size: expected that of the slices, {size}, got "
                f"{config.network.image_size}; set it to prepare.size"
            )
    torch.manual_seed(config.fit.seed)
    corrector = Corrector(config.network, Network(config.network), pixel_mm)
    module = CorrectorModule(corrector.network, config.lesson, config.fit)
    module.subject = f"{config.network!r} {config.lesson!r} {digest(vars(train).values())}"
    batches = StepBatches(
        {"views": _Views(train), "expert": train.expert},
        config.fit.batch_size,
        config.fit.steps,
        config.fit.seed,
    )
    chunks = _Chunks(validation)
    result = fit(module, batches, chunks, config.fit, folder, logger)
    corrector.network.eval().cpu()
    if module.global_rank == 0:
        corrector.save(folder)
    return {
        **result.as_dict(),
        "num_train_slices": len(train.given),
        "num_parameters": sum(parameter.numel() for parameter in corrector.network.parameters()),
        "as_drawn": _nats(Network(config.network).eval(), chunks),  # untrained it changes nothing
        "corrected": _nats(corrector.network, chunks),
    }


class CorrectorModule(FittedModule):
    """A corrector in training."""

    def __init__(self, network: Network, lesson: LessonConfig, config: FitConfig) -> None:
        super().__init__()
        self.network = channels_last(network)
        self.lesson = lesson
        self.config = config

    def training_step(self, batch: Batch) -> Tensor:
        """Return and log the nats per slice of a batch of ``views`` and ``expert`` masks."""
        loss = self._nll(batch).mean()
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["expert"]))
        return loss

    def observe(self, batch: Batch) -> None:
        """Pass a training batch through the network."""
        self._nll(batch)

    def _nll(self, batch: Batch) -> Tensor:
        """Return (B,) nats of the experts' masks, after all that the lesson does to a batch."""
        lesson = self.lesson
        seen, expert = augment_views(batch["views"], batch["expert"], lesson.augmentation)
        whole = one_hot(expert)

        def some(share: float) -> Tensor:
            return torch.rand(len(seen), device=seen.device) < share

        is_decided, is_broken, is_alone = map(
            some, (lesson.decided_share, lesson.broken_share, lesson.alone_share)
        )
        seen[is_decided] = _decided(seen[is_decided])
        if bool(is_broken.any()):
            seen[is_broken, :NUM_CLASSES] = break_masks(whole[is_broken], lesson.corruption)
        seen[is_alone, NUM_CLASSES:] = 0
        return categorical_nll(self.network(seen), whole)

    def validation_step(self, batch: Batch) -> None:
        """Log what the experts' masks cost where nothing is done to the slices."""
        nll = categorical_nll(self.network(batch["views"]), one_hot(batch["expert"]))
        self.log(MONITORED, nll.mean(), batch_size=len(nll))

    def configure_optimizers(self) -> Any:
        """Return the optimizer and the schedule that all fits use."""
        return optimization(self.network, self.config)


class _Views:
    """The views of slices, made as rows are asked for: three times as much would be in memory."""

    def __init__(self, slices: DrawnSlices) -> None:
        self.slices = slices

    def __len__(self) -> int:
        return len(self.slices.given)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return views(self.slices.given, self.slices.beside, rows)


class _Chunks:
    """All slices in order, a part at a time."""

    def __init__(self, slices: DrawnSlices) -> None:
        self.views, self.expert = _Views(slices), slices.expert

    def __len__(self) -> int:
        return -(-len(self.expert) // _SLICES_AT_ONCE)

    def __iter__(self) -> Iterator[Batch]:
        for rows in torch.split(torch.arange(len(self.expert)), _SLICES_AT_ONCE):
            yield {"views": self.views[rows], "expert": self.expert[rows]}


def _decided(seen: Tensor) -> Tensor:
    """Return views (B, V * C, H, W) decided pixel by pixel; what is not there stays zero."""
    planes = seen.reshape(len(seen), NUM_VIEWS, NUM_CLASSES, *seen.shape[2:])
    decided = torch.zeros_like(planes).scatter_(2, planes.argmax(dim=2, keepdim=True), 1.0)
    return (decided * (planes.amax(dim=(2, 3, 4), keepdim=True) > 0)).reshape(seen.shape)


@torch.inference_mode()
def _nats(network: Network, chunks: _Chunks) -> float:
    costs = [categorical_nll(network(c["views"]), one_hot(c["expert"])) for c in chunks]
    return float(torch.cat(costs).mean())
