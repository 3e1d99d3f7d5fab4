"""One way to fit any module: a budget in steps, EMA weights, checkpoints, true resume, early stop.

A fit that is interrupted goes on from its last checkpoint and ends with the weights of a fit that
never stopped: every batch and every random number is a function of the seed and the step.
"""

import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from cardiac_vae.config import StrictConfig
from cardiac_vae.training.callbacks import (
    Average,
    History,
    Recalibrate,
    RefuseNaN,
    SeedEachStep,
)
from cardiac_vae.training.fitted_module import MONITORED, FittedModule
from cardiac_vae.training.optimizer import Muon


class FitConfig(StrictConfig):
    """Budget and machinery of a fit; the same for all models that are compared.

    ``learning_rate`` is that of AdamW, ``matrix_learning_rate`` that of Muon (``Muon``).
    """

    steps: PositiveInt = 3000
    batch_size: PositiveInt = 8
    learning_rate: PositiveFloat = 1.5e-3
    matrix_learning_rate: PositiveFloat = 0.015
    weight_decay: NonNegativeFloat = 0.01
    warmup_steps: NonNegativeInt = 100
    gradient_clip: PositiveFloat = 10.0
    ema_decay: float = 0.998
    validate_every: PositiveInt = 500
    patience: PositiveInt = 10
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    accelerator: str = "auto"
    devices: PositiveInt | Literal["auto"] = "auto"
    num_nodes: PositiveInt = 1
    strategy: str = "auto"
    threads: PositiveInt | None = None
    seed: int = 0


@dataclass(frozen=True)
class FitResult:
    """How a fit went.

    Attributes:
        steps: Optimizer steps taken.
        seconds: Wall-clock time of this call.
        best_value: Lowest monitored validation value, reached by the weights that were kept.
        stopped_early: Whether part of the budget was left unused.
        metrics: Last value of everything the module logged.
        history: (step, value) of everything it logged, at each validation.
    """

    steps: int
    seconds: float
    best_value: float
    stopped_early: bool
    metrics: dict[str, float]
    history: dict[str, list[tuple[int, float]]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a metrics file."""
        return asdict(self)


def fit(
    module: FittedModule,
    train_batches: Iterable[Any],
    validation_batches: Iterable[Any],
    config: FitConfig,
    folder: Path,
    logger: Logger | None = None,
) -> FitResult:
    """Fit a module in place; it ends with its best EMA weights.

    Checkpoints live in ``folder/checkpoints`` while the fit runs and are deleted when it ends; a
    fit that finds some of its own there goes on from the last. They are its own if the config and
    the module's ``subject`` are the same.

    Raises:
        ValueError: if a loss becomes NaN or infinite.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    checkpoints = _claim(folder / "checkpoints", f"{config!r}\n{module.subject}\n")
    best = ModelCheckpoint(dirpath=checkpoints, filename="best", monitor=MONITORED)
    # ``save_last`` would leave a validation out that is not the best.
    newest = ModelCheckpoint(dirpath=checkpoints, filename="last", enable_version_counter=False)
    history = History()
    stop = EarlyStopping(monitor=MONITORED, patience=config.patience, mode="min")
    start = time.monotonic()
    with _quiet():
        trainer = L.Trainer(
            max_steps=config.steps,
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=config.strategy,
            precision=resolve_precision(config.precision, config.accelerator),
            gradient_clip_val=config.gradient_clip,
            val_check_interval=min(config.validate_every, config.steps),
            num_sanity_val_steps=0,
            log_every_n_steps=50,
            logger=logger or False,
            callbacks=[
                best,
                newest,
                stop,
                history,
                Average(config.ema_decay),
                Recalibrate(),
                SeedEachStep(config.seed),
                RefuseNaN(checkpoints),
                TQDMProgressBar(refresh_rate=20),
            ],
            enable_model_summary=False,
        )
        last = checkpoints / "last.ckpt"
        trainer.fit(
            module,
            train_batches,
            validation_batches,
            ckpt_path=last if last.exists() else None,
            weights_only=False if last.exists() else None,
        )
    _load_best(module, best)
    if trainer.is_global_zero:
        shutil.rmtree(checkpoints, ignore_errors=True)
    return FitResult(
        steps=trainer.global_step,
        seconds=round(time.monotonic() - start, 1),
        best_value=float("nan" if best.best_model_score is None else best.best_model_score),
        stopped_early=trainer.global_step < config.steps,
        metrics={name: float(value) for name, value in trainer.callback_metrics.items()},
        history=history.points,
    )


def fit_at_once(
    module: FittedModule,
    solve: Callable[[], None],
    validation_batches: Iterable[Any],
    config: FitConfig,
    logger: Logger | None = None,
) -> FitResult:
    """Fit a module whose weights are solved for, and validate it on what ``fit`` would show it.

    There are no steps to take, to average or to resume. The arithmetic is in float32.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    start = time.monotonic()
    solve()
    with _quiet():
        trainer = L.Trainer(
            accelerator=config.accelerator,
            devices=1,
            precision="32-true",
            logger=logger or False,
            callbacks=[SeedEachStep(config.seed)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.validate(module, validation_batches, verbose=False)
    module.eval()
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return FitResult(
        steps=0,
        seconds=round(time.monotonic() - start, 1),
        best_value=metrics[MONITORED],
        stopped_early=False,
        metrics=metrics,
        history={},
    )


def _claim(checkpoints: Path, identity: str) -> Path:
    """Clear a folder of the checkpoints of another fit, and mark it as this one's."""
    mark = checkpoints / "fit.txt"
    if checkpoints.exists() and not (mark.is_file() and mark.read_text() == identity):
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    mark.write_text(identity)
    return checkpoints


def resolve_precision(precision: str, accelerator: str = "auto") -> Any:
    """Return the precision of "auto": bf16 where the hardware multiplies in it, else float32."""
    if precision != "auto":
        return precision
    if accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


def cpu_has_bf16() -> bool:
    """Say whether this CPU multiplies in bf16 (AVX-512 BF16 or AMX), which is 2-3 times as fast."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and any(flag in flags.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def optimization(network: nn.Module, config: FitConfig) -> dict[str, Any]:
    """Return what all fits use: Muon, a linear warm-up, then a cosine to a hundredth."""
    optimizer = Muon(
        network, config.learning_rate, config.matrix_learning_rate, config.weight_decay
    )
    warmup, length = max(config.warmup_steps, 1), max(config.steps - config.warmup_steps, 1)

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return 0.01 + 0.99 * step / warmup
        phase = min((step - config.warmup_steps) / length, 1.0)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _load_best(module: L.LightningModule, best: ModelCheckpoint) -> None:
    if best.best_model_path and Path(best.best_model_path).exists():
        saved = torch.load(best.best_model_path, map_location="cpu", weights_only=False)
        module.load_state_dict(saved["state_dict"])
    module.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence advice that does not apply: tensors in memory need no loader workers."""
    os.environ.setdefault("PYTORCH_LIGHTNING_TIPS", "0")
    with warnings.catch_warnings():
        for message in (".*does not have many workers.*", ".*lr_scheduler.step.*", ".*srun.*"):
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield
