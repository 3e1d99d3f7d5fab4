"""Training steps per second of the recipes, in one run, as ratios.

python -m benchmarks.training [--recipes vae nvae] [--batch-size 8] [--runs 20] [--threads N]

A step is all that ``fit`` does for a batch: drawing, augmenting and breaking the masks, the bound
and its gradient at the precision ``auto`` picks, clipping, the optimizer, the averaged weights.
Lightning's own loop and the logger are left out. The masks are phantoms'.

Without ``--recipes`` all of configs/models are measured but those that are solved for in closed
form, which take no steps. Beside the NVAE stands a plain VAE widened to its number of parameters:
what the hierarchy itself costs is the ratio of these two.
"""

import sys
import warnings
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
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
from cardiac_vae.data.conditions import Condition, encode_conditions
from cardiac_vae.models import build_model
from cardiac_vae.shape_model import ClosedFormModel
from cardiac_vae.training.batches import StepBatches
from cardiac_vae.training.fit import FitConfig, resolve_precision
from cardiac_vae.training.module import ObjectiveConfig, ShapeModule
from cardiac_vae.training.shapes import Recipe

RECIPES = Path(__file__).parents[1] / "configs" / "models"
STEPS = 100_000  # of the schedule: the benchmark never gets to its end
PLAIN, HIERARCHY, WIDENED = "vae", "nvae", "vae, as many parameters as nvae"


def training_step(recipe: Recipe, masks: np.ndarray, config: FitConfig) -> Callable[[], float]:
    """Return a function that trains a recipe by one more step and returns its loss in nats."""

    def lerp(averages: Any, values: Any, _: Any) -> None:
        torch._foreach_lerp_(averages, values, 1 - config.ema_decay)

    torch.manual_seed(config.seed)
    model = build_model(recipe.module, recipe.settings)
    model.num_train_cases = len(masks)
    module = ShapeModule(model, ObjectiveConfig(), config)
    module.train()
    optimizer = module.configure_optimizers()["optimizer"]
    average = AveragedModel(module, multi_avg_fn=torch.no_grad()(lerp))
    slices = {"mask": torch.from_numpy(masks)}
    if model.condition_groups is not None:
        known = [Condition("", "ed", 0.5)] * len(masks)
        slices["condition"] = encode_conditions(known, model.condition_groups)
    batches = StepBatches(slices, config.batch_size, config.steps, config.seed)
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


def num_parameters(recipe: Recipe) -> int:
    """Return the number of parameters of a recipe, without making them."""
    with torch.device("meta"):
        model = build_model(recipe.module, recipe.settings)
    return sum(parameter.numel() for parameter in model.parameters())


def takes_steps(recipe: Recipe) -> bool:
    """Return whether a recipe is trained by steps, and not solved for."""
    model = import_module(f"cardiac_vae.models.{recipe.module}").Model
    return not issubclass(model, ClosedFormModel)


def widened(recipe: Recipe, parameters: int) -> Recipe:
    """Return a recipe with all its channels scaled, so that it has about as many parameters.

    They keep their proportions: each is the same multiple of what it is per common divisor. Both
    neighbors of the number wanted are tried, and the nearer is returned.
    """
    unit = int(np.gcd.reduce(recipe.settings["channels"]))

    def scaled(width: int) -> Recipe:
        channels = [width * (number // unit) for number in recipe.settings["channels"]]
        return Recipe(module=recipe.module, settings={**recipe.settings, "channels": channels})

    widths = range(1, 64 * unit)
    width = widths[bisect_left(widths, parameters, key=lambda width: num_parameters(scaled(width)))]
    nearest = [scaled(near) for near in (width - 1, width) if near]
    return min(nearest, key=lambda found: abs(num_parameters(found) - parameters))


def rows(
    recipes: Mapping[str, Recipe], seconds: Mapping[str, float], peaks: Mapping[str, float]
) -> list[Sequence[str]]:
    """Return the lines of the table: parameters, time, and its ratio to that of the plain VAE."""
    return [
        (
            name,
            f"{num_parameters(recipe) / 1e6:.2f}",
            f"{1000 * seconds[name]:.0f}",
            f"{1 / seconds[name]:.2f}",
            f"{seconds[name] / seconds[PLAIN]:.2f}" if PLAIN in seconds else "",
            f"{peaks[name]:.0f}",
        )
        for name, recipe in recipes.items()
    ]


def chosen(names: Sequence[str]) -> dict[str, Recipe]:
    """Return the recipes of these names, and the widened VAE beside the NVAE.

    Raises:
        FileNotFoundError: if there is no such recipe.
    """
    asked = [name for name in names if name != WIDENED]
    recipes = {name: Recipe.read(RECIPES / f"{name}.yaml") for name in asked}
    if WIDENED in names or HIERARCHY in recipes:
        plain, hierarchy = (Recipe.read(RECIPES / f"{name}.yaml") for name in (PLAIN, HIERARCHY))
        recipes[WIDENED] = widened(plain, num_parameters(hierarchy))
    return {name: recipe for name, recipe in recipes.items() if takes_steps(recipe)}


def main() -> None:
    """Measure and print."""
    parser = options("Training steps per second of the recipes.", runs=20)
    parser.add_argument("--recipes", nargs="+", help="all, if not given")
    parser.add_argument("--batch-size", type=int, default=FitConfig().batch_size)
    parser.add_argument("--only", help="take the steps of this one and print nothing")
    args = parser.parse_args()
    limit_threads(args.threads)
    config = FitConfig(steps=STEPS, batch_size=args.batch_size)
    masks = prepared_slices()
    if args.only:
        step = training_step(chosen([args.only])[args.only], masks, config)
        for _ in range(args.runs):
            step()
        return
    names = args.recipes or sorted(path.stem for path in RECIPES.glob("*.yaml"))
    recipes = chosen(names)
    seconds = median_seconds(
        {name: training_step(recipe, masks, config) for name, recipe in recipes.items()}, args.runs
    )
    alone = [sys.executable, "-m", "benchmarks.training", "--runs", "3"]
    alone += ["--batch-size", str(args.batch_size)]
    if args.threads:
        alone += ["--threads", str(args.threads)]
    peaks = {name: peak_memory_mb([*alone, "--only", name], args.threads) for name in recipes}
    print(machine())
    print(f"training, batches of {args.batch_size} masks, median of {args.runs} steps each")
    head = ("recipe", "million parameters", "ms per step", "steps/s", "time / vae", "peak MiB")
    print(table(head, rows(recipes, seconds, peaks)))
    if left_out := [name for name in names if name not in recipes]:
        print(f"left out, solved for in closed form: {', '.join(left_out)}")
    if HIERARCHY in recipes:
        ratio = seconds[HIERARCHY] / seconds[WIDENED]
        print(f"a step of {HIERARCHY} takes {ratio:.2f} times that of {WIDENED}")


if __name__ == "__main__":
    main()
