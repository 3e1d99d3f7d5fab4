"""Training the segmenter: windows of the training slices, Dice and cross-entropy, 3-D validation.

The weights kept are those with the best Dice of whole validation volumes, each seen at full size.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from cardiac_vae.data.geometry import PlaneGrid, heart_centre_mm
from cardiac_vae.data.prepared import PreparedCase, read_prepared
from cardiac_vae.data.splits import some_patients
from cardiac_vae.labels import HEART
from cardiac_vae.metrics.overlap import dice
from cardiac_vae.segmentation.augmentation import random_windows
from cardiac_vae.segmentation.inference import Segmenter
from cardiac_vae.segmentation.network import (
    SegmenterConfig,
    build_network,
    normalize_image,
    slice_probabilities,
)
from cardiac_vae.segmentation.recipe import SegmenterRecipe
from cardiac_vae.training.batches import StepBatches
from cardiac_vae.training.fit import (
    FitConfig,
    fit,
    optimization,
)
from cardiac_vae.training.fitted_module import MONITORED, FittedModule

Volume = tuple[np.ndarray, np.ndarray]
"""Image (D, H, W) float32 and mask (D, H, W) uint8 over the whole field of view."""


def train_segmenter(
    prepared: Path,
    folder: Path,
    recipe: SegmenterRecipe,
    fit_config: FitConfig,
    logger: Logger | None = None,
) -> dict[str, Any]:
    """Fit a segmenter to prepared training patients and save it in ``folder``.

    ``fit_config`` is all that counts of how it is fitted: see ``SegmenterRecipe.fit_config``.

    Returns plain values: how the fit went, the number of parameters and cases, the patients learnt
    from, and the mean Dice of the saved weights on the validation volumes, at the segmenter's own
    pixel size.

    Raises:
        ValueError: if there is no training or no validation case, fewer training patients than the
            recipe asks for, or their pixels are of another size than ``settings.pixel_mm``.
    """
    settings = recipe.settings
    cases = training_cases(prepared, recipe.num_patients, fit_config.seed)
    train = read_volumes(cases, f"{prepared}: train", settings.pixel_mm)
    validation = read_volumes(
        read_prepared(prepared, "validation"), f"{prepared}: validation", settings.pixel_mm
    )
    torch.manual_seed(fit_config.seed)
    module = SegmenterModule(settings, fit_config)
    batches = StepBatches(
        training_tensors(train), fit_config.batch_size, fit_config.steps, fit_config.seed
    )
    digest = sha256()
    for image, mask in train:
        digest.update(image.tobytes() + mask.tobytes())
    module.subject = f"{settings!r} {digest.hexdigest()}"
    result = fit(module, batches, WholeVolumes(validation), fit_config, folder, logger)
    segmenter = Segmenter(settings, module.network)
    if module.global_rank == 0:
        segmenter.save(folder)
    scores = [
        structure_dice(mask, segmenter.predict_normalized(image).argmax(axis=1))
        for image, mask in validation
    ]
    return {
        "fit": result.as_dict(),
        "num_parameters": sum(parameter.numel() for parameter in module.parameters()),
        "num_train_cases": len(train),
        "num_validation_cases": len(validation),
        "train_patients": sorted({case.patient_id for case in cases}),
        "validation_dice": mean_over_present(scores),
    }


class SegmenterModule(FittedModule):
    """The network under training, and the volumes' Dice in validation."""

    def __init__(self, settings: SegmenterConfig, fit_config: FitConfig) -> None:
        from monai.losses import DiceCELoss  # here, as it takes seconds

        super().__init__()
        self.settings = settings
        self.fit_config = fit_config
        self.network = build_network(settings)
        # Dice over the whole batch: most windows lack a structure.
        self.loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
        self._scores: list[list[float]] = []

    def training_step(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return and log ``window_loss``."""
        loss = self.window_loss(batch)
        self.log("train/loss", loss.detach(), batch_size=len(batch["image"]))
        return loss

    def observe(self, batch: Mapping[str, Tensor]) -> None:
        """Pass a training batch through the network."""
        self.window_loss(batch)

    def window_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of random windows of some slices of ``training_tensors``."""
        with torch.autocast(self.device.type, enabled=False):
            image, mask = random_windows(
                batch["image"], batch["mask"], batch["place"], self.settings.windows
            )
        logits = self.network(image.contiguous(memory_format=torch.channels_last))
        return self.loss(logits.float(), mask)

    def validation_step(self, volume: Mapping[str, Tensor]) -> None:
        """Score one of ``WholeVolumes``."""
        probabilities = slice_probabilities(self.network, volume["image"], self.settings.multiple)
        predicted = probabilities.argmax(dim=1).cpu().numpy()
        self._scores.append(structure_dice(volume["mask"].cpu().numpy(), predicted))

    def on_validation_epoch_end(self) -> None:
        """Log the mean Dice of each structure over the volumes that have it, and their mean."""
        means = mean_over_present(self._scores)
        self._scores.clear()
        overall = float(np.mean(list(means.values())))
        self.log("validation/dice", overall)
        self.log(MONITORED, 1 - overall)
        for name, value in means.items():
            self.log(f"validation/dice_{name}", value)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and the schedule that all fits use."""
        return optimization(self.network, self.fit_config)


class WholeVolumes:
    """The validation volumes one by one: image (D, H, W) float32 and mask (D, H, W) uint8."""

    def __init__(self, volumes: Sequence[Volume]) -> None:
        self.volumes = volumes

    def __len__(self) -> int:
        return len(self.volumes)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for image, mask in self.volumes:
            yield {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask)}


def training_cases(prepared: Path, num_patients: int | None, seed: int) -> list[PreparedCase]:
    """Return the training cases of all patients, or of ``num_patients``, each with all its phases.

    Raises:
        ValueError: if there are fewer training patients.
    """
    cases = read_prepared(prepared, "train")
    if num_patients is None:
        return cases
    groups = {case.patient_id: case.group for case in cases}
    chosen = set(some_patients(groups, num_patients, seed))
    return [case for case in cases if case.patient_id in chosen]


def read_volumes(cases: Sequence[PreparedCase], where: str, pixel_mm: float) -> list[Volume]:
    """Return the volumes of some cases, their images normalized; ``where`` names the cases.

    Raises:
        ValueError: if there is none, or no mask holds a heart.
    """
    volumes = [_read_volume(case, pixel_mm) for case in cases]
    if not any(mask.any() for _, mask in volumes):
        raise ValueError(
            f"{where}: expected cases with a heart, got {len(volumes)} cases and none "
            "with a heart; prepare more patients"
        )
    return volumes


def _read_volume(case: PreparedCase, pixel_mm: float) -> Volume:
    if case.grid.pixel_mm != (pixel_mm, pixel_mm):
        raise ValueError(
            f"{case.case_id}: expected prepared pixels of {pixel_mm} mm, got {case.grid.pixel_mm}; "
            "set the segmenter's pixel_mm to the preparation's"
        )
    arrays = case.load()
    return normalize_image(arrays.full_image), arrays.full_mask


def training_tensors(volumes: Sequence[Volume]) -> dict[str, Tensor]:
    """Return all slices on one canvas: image and mask (N, 1, H, W), place (N, 4).

    The image is float16, the mask uint8. ``place`` is what ``random_windows`` takes: the heart's
    centre of the slice's volume (the middle, where there is none) and the slice's own size.
    """
    num_slices = sum(len(image) for image, _ in volumes)
    canvas = tuple(np.max([image.shape[1:] for image, _ in volumes], axis=0))
    images = torch.zeros(num_slices, 1, *canvas, dtype=torch.float16)
    masks = torch.zeros(num_slices, 1, *canvas, dtype=torch.uint8)
    places = torch.zeros(num_slices, 4)
    first = 0
    for image, mask in volumes:
        num, height, width = image.shape
        rows = slice(first, first + num)
        images[rows, 0, :height, :width] = torch.from_numpy(image)
        masks[rows, 0, :height, :width] = torch.from_numpy(mask)
        centre = (height / 2, width / 2)
        if mask.any():
            centre = heart_centre_mm(mask, PlaneGrid((height, width), (1.0, 1.0)))
        places[rows] = torch.tensor([*centre, height, width])
        first += num
    return {"image": images, "mask": masks, "place": places}


def structure_dice(reference: np.ndarray, predicted: np.ndarray) -> list[float]:
    """Return the Dice of each heart structure of two masks (D, H, W); NaN where both lack it."""
    return [dice(reference == structure, predicted == structure) for structure in HEART]


def mean_over_present(scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the mean score by structure name, over the volumes where it is not NaN.

    A structure that no volume has is left out.
    """
    means = {}
    for structure, column in zip(HEART, zip(*scores, strict=True), strict=True):
        present = [score for score in column if not math.isnan(score)]
        if present:
            means[structure.name.lower()] = float(np.mean(present))
    return means
