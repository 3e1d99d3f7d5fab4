"""Draw the figures of docs/theory.md on gradients of a bound. They need no data and no model.

python docs/figures/variational.py
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from cardiac_vae.reports.style import BETTER, INK, RULE, WORSE, styled
from cardiac_vae.vi.estimators import (
    EstimatorName,
    Factor,
    MeanField,
    Term,
    entropy_terms,
    variances,
)
from cardiac_vae.vi.normal import natural_gradient

HERE = Path(__file__).parent
RATE, NUM_STEPS = 0.2, 40
UNITS = {"in cm": 0.33, "in mm": 3.3}  # sigma of one and the same posterior
NUM_LOCAL = 20
DRAWS = (2, 4, 8, 16, 32, 64, 128, 256)
LOOKS: dict[EstimatorName, tuple[str, str, str]] = {
    "score_function": ("score function", WORSE, "o"),
    "controlled": ("+ control variates", WORSE, "s"),
    "rao_blackwellized": ("+ Rao-Blackwellization", "#CC79A7", "o"),
    "rao_blackwellized_controlled": ("+ both", "#CC79A7", "s"),
    "reparametrized": ("reparametrized", BETTER, "D"),
}

Direction = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def bound_gap(mu: Tensor, log_sigma: Tensor, sigma: float) -> Tensor:
    """Return what the bound lacks, KL(N(mu, exp(log_sigma)^2) || N(0, sigma^2)), in nats."""
    return kl_divergence(Normal(mu, log_sigma.exp()), Normal(0.0, sigma))


def path(sigma: float, direction: Direction) -> np.ndarray:
    """Return (mu, log sigma) after each step up the bound, (NUM_STEPS + 1, 2)."""
    point = torch.tensor([-3 * sigma, np.log(sigma) + 0.7], dtype=torch.float64)
    points = [point]
    for _ in range(NUM_STEPS):
        leaf = point.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(-bound_gap(leaf[0], leaf[1], sigma), leaf)
        point = point + RATE * torch.stack(direction(gradient[0], gradient[1], point[1]))
        points.append(point)
    return torch.stack(points).numpy()


@styled
def natural() -> Figure:
    """Euclidean and natural gradient ascent with one step size, in two units of length."""
    directions: dict[str, tuple[Direction, str]] = {
        "Euclidean": (lambda d_mu, d_log_sigma, _: (d_mu, d_log_sigma), WORSE),
        "natural": (natural_gradient, BETTER),
    }
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    *maps, right = figure.subplots(1, 3)
    for axes, (unit, sigma) in zip(maps, UNITS.items(), strict=True):
        _contours(axes, sigma)
        axes.set_title(unit)
        for name, (direction, color) in directions.items():
            points = path(sigma, direction)
            axes.plot(*points.T, color=color, marker="o", markersize=2.5, linewidth=1)
            gap = bound_gap(*torch.from_numpy(points.T), sigma).clamp(min=1e-12)
            style = "--" if unit == "in cm" else "-"
            wide = 3 if (name, unit) == ("natural", "in mm") else 1.2
            shade = 0.35 if wide == 3 else 1
            right.semilogy(
                gap, style, color=color, linewidth=wide, alpha=shade, label=f"{name}, {unit}"
            )
    right.set_ylim(1e-7, 20)
    right.set_xlabel("step")
    right.set_ylabel("nats")
    right.set_title("below the best bound")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _contours(axes: Axes, sigma: float) -> None:
    mu, log_sigma = torch.meshgrid(
        torch.linspace(-3.6 * sigma, 3.6 * sigma, 200),
        torch.linspace(-1.0, 1.0, 200) + float(np.log(sigma)),
        indexing="ij",
    )
    gap = bound_gap(mu, log_sigma, sigma)
    axes.contour(mu, log_sigma, gap, [0.02, 0.1, 0.3, 0.7, 1.5, 3, 5], colors=RULE, linewidths=0.8)
    axes.plot(0, np.log(sigma), marker="+", color=INK, markersize=9, zorder=3)
    axes.set_xlabel("mu")
    axes.set_ylabel("log sigma")


@styled
def estimators() -> Figure:
    """The variance of estimates of one gradient against the draws, of a hierarchy of normals.

    theta ~ N(0, 1), z_n ~ N(theta, 0.5^2), x_n ~ N(z_n, 0.3^2), each factor of q a normal.
    """
    torch.manual_seed(0)
    family, terms = _hierarchy()
    measured = [variances(family, terms, draws, 100) for draws in DRAWS]
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"theta": "the global factor", "z": f"{NUM_LOCAL} local factors, each"}
    for axes, (factor, title) in zip(panels, titles.items(), strict=True):
        parts = NUM_LOCAL if factor == "z" else 1
        for name, (label, color, marker) in LOOKS.items():
            values = [found[name][factor] / parts for found in measured]
            axes.loglog(DRAWS, values, color=color, marker=marker, markersize=4, label=label)
        axes.set_xticks(DRAWS, [str(draws) for draws in DRAWS])
        axes.minorticks_off()
        axes.set_title(title)
        axes.set_xlabel("draws")
        axes.grid(axis="y", color=RULE)
    panels[0].set_ylabel("variance of the estimate")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _hierarchy() -> tuple[MeanField, list[Term]]:
    x = torch.linspace(-1.5, 2.0, NUM_LOCAL, dtype=torch.float64)

    def normal(parameters: Tensor) -> Normal:
        return Normal(parameters[..., 0], parameters[..., 1].exp())

    local = torch.stack([x - 0.2, torch.full_like(x, -1.3)], dim=1)
    family = {
        "theta": Factor(torch.tensor([0.6, -1.0], dtype=torch.float64), normal),
        "z": Factor(local, normal, "n"),
    }
    log_joint = [
        Term(lambda d: Normal(0.0, 1.0).log_prob(d["theta"]), ("theta",)),
        Term(lambda d: Normal(d["theta"][:, None], 0.5).log_prob(d["z"]), ("theta", "z"), "n"),
        Term(lambda d: Normal(d["z"], 0.3).log_prob(x), ("z",), "n"),
    ]
    return family, [*log_joint, *entropy_terms(family)]


def main() -> None:
    """Draw both and write them beside this file."""
    (HERE / "variational_natural.png").write_bytes(natural())
    (HERE / "variational_estimators.png").write_bytes(estimators())


if __name__ == "__main__":
    main()
