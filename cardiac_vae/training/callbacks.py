"""What happens around the steps of a fit: averaged weights, seeds, history, refusal of NaN."""

import shutil
from collections import deque
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor

from cardiac_vae.layers.batch_statistics import re_estimate
from cardiac_vae.training.fitted_module import FittedModule


class Average(WeightAveraging):
    """EMA of weights and batch-norm statistics, with a decay that starts low (Vahdat & Kautz)."""

    def __init__(self, decay: float) -> None:
        def update(averages: list[Tensor], values: list[Tensor], num_averaged: Any) -> None:
            current = min(decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
            if averages[0].is_floating_point():
                torch._foreach_lerp_(averages, values, 1 - current)
            else:
                torch._foreach_copy_(averages, values)

        super().__init__(use_buffers=True, multi_avg_fn=torch.no_grad()(update))


class Recalibrate(Callback):
    """Re-estimate the batch-norm statistics of the averaged weights before they are validated.

    A running mean of statistics lags behind weights that move fast, and deep residual networks
    amplify the difference. The averaged weights see the last training batches once more instead.
    """

    def __init__(self, num_batches: int = 16) -> None:
        self._recent: deque[Any] = deque(maxlen=num_batches)

    def on_train_batch_start(
        self, _: L.Trainer, __: L.LightningModule, batch: Any, *___: Any
    ) -> None:
        """Remember the batch."""
        self._recent.append(batch)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the averaged weights the last batches."""
        if not self._recent or not isinstance(pl_module, FittedModule):
            return

        def observe() -> None:
            while self._recent:
                pl_module.observe(self._recent.popleft())

        with trainer.precision_plugin.forward_context():
            re_estimate(pl_module, observe)


class SeedEachStep(Callback):
    """Make every random number of a step a function of the seed, the step and the process."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Seed the step."""
        torch.manual_seed(
            (self.seed * 1_000_003 + trainer.global_step) * trainer.world_size + trainer.global_rank
        )

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Seed a validation: all are alike."""
        torch.manual_seed(self.seed)


class History(Callback):
    """Keep what was logged, at each validation."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[int, float]]] = {}

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Keep what was logged."""
        for name, value in trainer.callback_metrics.items():
            self.points.setdefault(name, []).append((trainer.global_step, float(value)))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed fit goes on from."""
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was kept."""
        self.points = state_dict["points"]


class RefuseNaN(Callback):
    """End a fit whose loss is no number; its weights are lost already."""

    def __init__(self, checkpoints: Path) -> None:
        self._checkpoints = checkpoints
        self._loss = torch.zeros(())

    def on_train_batch_end(self, trainer: L.Trainer, _: Any, outputs: Any, *__: Any) -> None:
        """Look at the loss now and then: that waits for the device."""
        self._loss = outputs["loss"]
        if trainer.global_step % 50 == 0:
            self._check(trainer)

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Look at the loss before the early stop does, which would take NaN for the end."""
        self._check(trainer)

    def _check(self, trainer: L.Trainer) -> None:
        if not torch.isfinite(self._loss):
            shutil.rmtree(self._checkpoints, ignore_errors=True)  # what led here is of no use
            raise ValueError(
                f"step {trainer.global_step}: expected a finite loss, got {self._loss.item()};"
                " lower the learning_rate"
            )
