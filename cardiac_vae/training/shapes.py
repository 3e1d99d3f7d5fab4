"""Fit a shape model on the prepared masks of the training patients and leave it on file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cardiac_vae.anchors import plausible, write_anchors
from cardiac_vae.checkpoint import save_model
from cardiac_vae.config import StrictConfig, read_yaml
from cardiac_vae.data.conditions import Condition, encode_conditions, slice_conditions
from cardiac_vae.data.prepared import PreparedCase, read_prepared
from cardiac_vae.models import build_model
from cardiac_vae.shape_model import ClosedFormModel, ShapeModel
from cardiac_vae.training.batches import Batch, StepBatches, digest
from cardiac_vae.training.fit import FitConfig, fit, fit_at_once
from cardiac_vae.training.module import ObjectiveConfig, ShapeModule


class Recipe(StrictConfig):
    """One file of ``configs/models``: which model, its settings, and how its training differs.

    Attributes:
        objective: Settings of ``ObjectiveConfig`` that stand in place of the study's.
    """

    module: str
    settings: dict[str, Any] = Field(default_factory=dict)
    objective: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Read a recipe file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it has other keys.
        """
        return cls.parse(read_yaml(path), str(path))


def train_shape_model(
    prepared: Path,
    folder: Path,
    recipe: Recipe,
    objective: ObjectiveConfig,
    config: FitConfig,
    logger: Logger | None = None,
) -> dict[str, Any]:
    """Fit a recipe and write ``folder``: config, weights, and the valid shapes it learnt from.

    Returns:
        How the fit went, with the numbers of slices, parameters and latent scalars.
    """
    train, validation = (read_prepared(prepared, split) for split in ("train", "validation"))
    torch.manual_seed(config.seed)
    model = build_model(recipe.module, recipe.settings)
    pixel_mm = train[0].grid.pixel_mm
    slices = _batch_for(model, train)
    is_plausible = plausible(slices["mask"].numpy(), pixel_mm)
    anchors = slices["mask"].numpy()[is_plausible]
    if objective.plausible_only:
        slices = {name: values[torch.from_numpy(is_plausible)] for name, values in slices.items()}
    masks = slices["mask"]
    model.num_train_cases = len(masks)
    module = ShapeModule(model, objective, config)
    module.subject = f"{recipe!r} {objective!r} {digest(slices.values())}"
    chunks = DataLoader(_Chunks(_batch_for(model, validation)), batch_size=None)
    if isinstance(model, ClosedFormModel):
        result = fit_at_once(module, partial(model.fit_masks, masks), chunks, config, logger)
    else:
        batches = StepBatches(slices, config.batch_size, config.steps, config.seed)
        result = fit(module, batches, chunks, config, folder, logger)
    save_model(folder, recipe.module, recipe.settings, model, pixel_mm[0])
    write_anchors(folder, anchors)
    return {
        **result.as_dict(),
        "num_train_slices": len(masks),
        "num_anchors": len(anchors),
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "latent_sizes": model.latent_sizes,
        "num_latents": model.num_latents,
    }


def slices_of(cases: Sequence[PreparedCase]) -> Tensor:
    """Return the slices of some cases that show a heart, (N, H, W) uint8."""
    masks = np.concatenate([case.load().mask for case in cases])
    return torch.from_numpy(masks[masks.any(axis=(1, 2))])


def conditions_of(cases: Sequence[PreparedCase]) -> list[Condition]:
    """Return what is known of each slice that ``slices_of`` returns, in its order."""
    conditions = []
    for case in cases:
        mask = case.load().mask
        known = slice_conditions(case.group, case.phase, mask)
        conditions += [known[index] for index in np.flatnonzero(mask.any(axis=(1, 2)))]
    return conditions


def _batch_for(model: ShapeModel, cases: Sequence[PreparedCase]) -> Batch:
    """Return the slices of some cases, with their conditions for a model that looks at them.

    A group that the model does not know is no reason to leave a case out: it has none, then.
    """
    slices = {"mask": slices_of(cases)}
    groups = model.condition_groups
    if groups is not None:
        known = [condition.within(groups) for condition in conditions_of(cases)]
        slices["condition"] = encode_conditions(known, groups)
    return slices


class _Chunks(Dataset[Batch]):
    """The validation slices in the order they come, a batch at a time."""

    def __init__(self, slices: Batch, size: int = 128) -> None:
        self.chunks = {name: torch.split(tensor, size) for name, tensor in slices.items()}

    def __len__(self) -> int:
        return len(self.chunks["mask"])

    def __getitem__(self, index: int) -> Batch:
        return {name: parts[index] for name, parts in self.chunks.items()}
