"""Training steps per second of the recipes, in one run, as ratios.

python -m benchmarks.training [--recipes vae nvae] [--batch-size 48] [--runs 20] [--threads N]

A step is all that ``fit`` does for a batch: drawing, augmenting and breaking the masks, the bound
and its gradient at the precision ``auto`` picks, clipping, the optimizer, the averaged weights.
Lightning's own loop and the logger are left out. The masks are phantoms'.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from benchmarks.hearts import prepared_slices
from benchmarks.measuring import (
    limit_threads,
    machine,
    median_seconds,
    options,
    peak_memory_mb,
    table,
)
from cardiac_vae.models import build_model
from cardiac_vae.training.batches import StepBatches
from cardiac_vae.training.fit import FitConfig, resolve_precision
from cardiac_vae.training.module import ObjectiveConfig, ShapeModule
from cardiac_vae.training.shapes import Recipe

RECIPES = Path(__file__).parents[1] / "configs" / "models"
STEPS = 100_000  # of the schedule: the benchmark never gets to its end


def training_step(recipe: Recipe, masks: np.ndarray, config: FitConfig) -> Callable[[], float]:
    """Return a function that trains a recipe by one more step and returns its loss in nats."""

    def lerp(averages: Any, values: Any, _: Any) -> None:
        torch._foreach_lerp_(averages, values, 1 - config.ema_decay)

    torch.manual_seed(config.seed)
    module = ShapeModule(build_model(recipe.module, recipe.settings), ObjectiveConfig(), config)
    module.train()
    optimizer = module.configure_optimizers()["optimizer"]
    average = AveragedModel(module, multi_avg_fn=torch.no_grad()(lerp))
    batches = StepBatches(
        {"mask": torch.from_numpy(masks)}, config.batch_size, config.steps, config.seed
    )
    in_order = iter(batches)
    use_bf16 = resolve_precision(config.precision, "cpu") == "bf16-mixed"

    def step() -> float:
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16, enabled=use_bf16):
            warnings.filterwarnings("ignore", message=".*self.log.*")  # no trainer, no logger
            loss = module.training_step(next(in_order), 0)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.gradient_clip)
        optimizer.step()
        average.update_parameters(module)
        return float(loss.detach())

    return step


def main() -> None:
    """Measure and print."""
    parser = options("Training steps per second of the recipes.", runs=20)
    parser.add_argument("--recipes", nargs="+", default=["vae", "nvae"])
    parser.add_argument("--batch-size", type=int, default=FitConfig().batch_size)
    parser.add_argument("--only", action="store_true", help="take the steps and print nothing")
    args = parser.parse_args()
    limit_threads(args.threads)
    config = FitConfig(steps=STEPS, batch_size=args.batch_size)
    masks = prepared_slices()
    recipes = {name: Recipe.read(RECIPES / f"{name}.yaml") for name in args.recipes}
    steps = {name: training_step(recipe, masks, config) for name, recipe in recipes.items()}
    if args.only:
        for step in steps.values():
            for _ in range(args.runs):
                step()
        return
    seconds = median_seconds(steps, args.runs)
    alone = [sys.executable, "-m", "benchmarks.training", "--only", "--runs", "3"]
    alone += ["--batch-size", str(args.batch_size)]
    if args.threads:
        alone += ["--threads", str(args.threads)]
    fastest = min(seconds.values())
    rows = [
        (
            name,
            f"{1 / seconds[name]:.2f}",
            f"{args.batch_size / seconds[name]:.0f}",
            f"{seconds[name] / fastest:.2f}",
            f"{peak_memory_mb([*alone, '--recipes', name], args.threads):.0f}",
        )
        for name in steps
    ]
    print(machine())
    print(f"training, batches of {args.batch_size} masks, median of {args.runs} steps each")
    print(table(("recipe", "steps/s", "masks/s", "time per step", "peak MiB"), rows))


if __name__ == "__main__":
    main()
