"""A small budget on the CPU, for tests that fit something."""

from typing import Any

from cardiac_vae.training.fit import FitConfig

SMALL = {
    "steps": 20,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "validate_every": 5,
    "ema_decay": 0.9,
    "precision": "32-true",
    "accelerator": "cpu",
    "devices": 1,
}


def small_fit(**changes: Any) -> FitConfig:
    """Return the budget with changes."""
    return FitConfig.parse(SMALL | changes, "test")
