"""Draw the figures of docs/theory.md from the models of a study on the phantom.

make repro && python docs/figures/theory.py

It reads models/vae, models/nvae, densities/vae and data/prepared of the working folder (the
phantom's: masks of real patients have no place in these figures) and writes PNG beside this file.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cardiac_vae.checkpoint import load_model
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.file import load_density
from cardiac_vae.evaluation.decoding import sample_from_density, sample_slices, seen_again
from cardiac_vae.evaluation.reconstruction import held_out_slices, is_valid_heart
from cardiac_vae.latent_space import encode_cohort
from cardiac_vae.layers.regularizers import Capacity
from cardiac_vae.reports.hearts import HeartLine, lines_of_hearts
from cardiac_vae.reports.style import BETTER, INK, MUTED, WORSE, colored, hide_axes, styled
from cardiac_vae.shape_model import ShapeModel

HERE = Path(__file__).parent
MODELS = Path("models")
DENSITIES = Path("densities")
PREPARED = Path("data/prepared")
NUM_DRAWS = 4000
NUM_HEARTS = 5


@styled
def reparametrization() -> Figure:
    """Estimates of d/dmu E[z^2] for z ~ N(mu, sigma^2): the slope is 2 mu, whatever the estimator.

    Reparametrized, z = mu + sigma eps, one draw gives 2 z. The score function gives
    z^2 (z - mu) / sigma^2.
    """
    mu, sigma = 1.0, 0.7
    z = mu + sigma * np.random.default_rng(0).standard_normal(NUM_DRAWS)
    estimates = {"reparametrized": 2 * z, "score function": z**2 * (z - mu) / sigma**2}
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(-10, 20, 91).tolist()
    for color, (name, values) in zip((BETTER, WORSE), estimates.items(), strict=True):
        label = f"{name}: mean {values.mean():.2f}, SD {values.std():.2f}"
        axes.hist(values, bins, density=True, alpha=0.6, color=color, label=label)
    axes.axvline(2 * mu, color=INK, linewidth=1, label=f"true slope {2 * mu:.0f}")
    axes.set_xlabel("estimate from one draw")
    axes.set_ylabel("density")
    axes.legend(frameon=False, fontsize=8)
    return figure


@styled
def latent_holes(vae: ShapeModel, masks: np.ndarray) -> Figure:
    """Codes of hearts and draws of N(0, I), on the plane of the codes' first two components."""
    codes = encode_cohort(vae, one_hot(torch.from_numpy(masks)))[0]
    torch.manual_seed(0)
    (drawn,) = vae.draw(200)
    hearts = vae.decode([drawn]).argmax(dim=1).numpy().astype(np.uint8)
    valid = np.array([is_valid_heart(mask, (1.5, 1.5)) for mask in hearts])
    center = codes.mean(dim=0)
    _, _, axes_of_codes = torch.linalg.svd(codes - center, full_matrices=False)
    seen, prior = ((part - center) @ axes_of_codes[:2].T for part in (codes, drawn))
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.scatter(seen[:, 0], seen[:, 1], s=6, color=MUTED, label=f"{len(seen)} hearts, encoded")
    for chosen, color, name in ((valid, BETTER, "a heart"), (~valid, WORSE, "no heart")):
        label = f"drawn from N(0, I), decodes to {name} ({chosen.sum()})"
        axes.scatter(prior[chosen, 0], prior[chosen, 1], s=14, color=color, label=label)
    axes.set_xlabel("first component of the codes")
    axes.set_ylabel("second component")
    axes.set_aspect("equal")
    axes.set_ylim(top=float(seen[:, 1].max()) + 3)
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return figure


@styled
def blur(models: dict[str, ShapeModel], masks: np.ndarray) -> Figure:
    """Masks, and how unsure each model is of every pixel when it decodes their code."""
    chosen = masks[np.linspace(0, len(masks) - 1, NUM_HEARTS).round().astype(int)]
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    grid = figure.subplots(1 + len(models), NUM_HEARTS)
    for axes, mask in zip(grid[0], chosen, strict=True):
        axes.imshow(colored(mask))
    grid[0][0].set_ylabel("mask")
    for line, (name, model) in zip(grid[1:], models.items(), strict=True):
        found = model.reconstruct(one_hot(torch.from_numpy(chosen)))
        entropy = -(found * found.clamp(min=1e-12).log()).sum(dim=1).numpy()
        for axes, values in zip(line, entropy, strict=True):
            axes.imshow(values, cmap="magma", vmin=0, vmax=np.log(2))
            axes.set_title(f"{values.sum():.0f} nats", fontsize=8, color=MUTED)
        line[0].set_ylabel(name)
    for axes in grid.ravel():
        _only_label(axes)
    return figure


@styled
def capacity() -> Figure:
    """The capacity that the rate is led to, and what the loss makes of a rate."""
    regularizer = Capacity(gamma=10.0, max_capacity=25.0, share=0.8)
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    progress = np.linspace(0, 1, 101)
    left.plot(progress, [regularizer.capacity(p) for p in progress], color=BETTER)
    left.set_xlabel("share of the steps")
    left.set_ylabel("C (nats)")
    rates = torch.linspace(0, 50, 201)
    for p, color in ((0.2, MUTED), (0.5, BETTER), (1.0, INK)):
        costs = [float(regularizer.cost(rate[None], {}, 1.0, p)) for rate in rates]
        right.plot(rates, costs, color=color, label=f"after {p:.0%} of the steps")
    right.set_xlabel("KL (nats)")
    right.set_ylabel("cost (nats)")
    right.legend(frameon=False, fontsize=8)
    return figure


@styled
def kl_per_group(nvae: ShapeModel, masks: np.ndarray) -> Figure:
    """The KL of each group of the NVAE on held-out hearts, and how many scalars share it."""
    torch.manual_seed(0)
    kl = nvae(one_hot(torch.from_numpy(masks)))[1].regularization.mean(dim=0).numpy()
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(np.arange(1, len(kl) + 1), kl, 0.6, color=BETTER)
    labels = [f"{size} scalars" for size in nvae.latent_sizes]
    axes.bar_label(bars, labels, fontsize=8, color=MUTED)
    axes.margins(y=0.15)
    axes.set_xlabel("latent group, coarsest first")
    axes.set_ylabel("KL (nats per slice)")
    return figure


@styled
def validity_by_temperature(models: dict[str, ShapeModel]) -> Figure:
    """The share of samples that are hearts, over the temperature of the draw."""
    temperatures = np.linspace(0.2, 1.0, 5)
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots()
    for color, (name, model) in zip((WORSE, BETTER), models.items(), strict=True):
        shares = []
        for temperature in temperatures:
            torch.manual_seed(0)
            drawn = sample_slices(model, 128, float(temperature))
            shares.append(np.mean([is_valid_heart(mask, (1.5, 1.5)) for mask in drawn]))
        percent = 100 * np.array(shares)
        axes.plot(temperatures, percent, color=color, marker="o", clip_on=False, label=name)
    axes.set_xlabel("temperature")
    axes.set_ylabel("valid samples (%)")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=8)
    return figure


def density_samples(vae: ShapeModel, density: CodeDensity) -> bytes:
    """What the VAE draws from N(0, I), from a density over its codes, and on a second look."""
    number = 12
    torch.manual_seed(0)
    drawn = {"N(0, I)": sample_slices(vae, number, 1.0)}
    drawn["a mixture"] = sample_from_density(vae, density, number)
    drawn["a second look"] = seen_again(vae, drawn["a mixture"])
    lines = [
        HeartLine(name, masks, [is_valid_heart(mask, (1.5, 1.5)) for mask in masks])
        for name, masks in drawn.items()
    ]
    return lines_of_hearts(lines, [""] * number)


def _only_label(axes: Axes) -> None:
    """Take ticks and frame off and keep the label of the line."""
    label = axes.get_ylabel()
    hide_axes(axes)
    axes.set_ylabel(label)


@torch.no_grad()
def main() -> None:
    """Draw all and write them beside this file."""
    models = {name: load_model(MODELS / name) for name in ("vae", "nvae")}
    masks = held_out_slices(read_prepared(PREPARED, "test")).without_empty().masks
    every = held_out_slices(read_prepared(PREPARED)).without_empty().masks
    drawn = {
        "reparametrization": reparametrization(),
        "latent_holes": latent_holes(models["vae"], every),
        "blur": blur(models, masks),
        "capacity": capacity(),
        "kl_per_group": kl_per_group(models["nvae"], masks),
        "temperature": validity_by_temperature(models),
        "densities": density_samples(models["vae"], load_density(DENSITIES / "vae")),
    }
    for name, png in drawn.items():
        (HERE / f"theory_{name}.png").write_bytes(png)


if __name__ == "__main__":
    main()
