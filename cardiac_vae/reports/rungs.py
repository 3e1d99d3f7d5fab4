"""The recipes as rungs of the ladder of shape models: their order, their colors, what they lack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.layers.quantizer import perplexity
from cardiac_vae.models.vq_vae import Model as VqVae
from cardiac_vae.reports.inputs import RecipeResults
from cardiac_vae.reports.style import INK, MUTED
from cardiac_vae.shape_model import ShapeModel

FAMILY_COLORS = {
    "pca": "#8C8C8C",
    "ae": INK,
    "vae": "#E69F00",
    "cvae": "#D55E00",
    "vq_vae": "#CC79A7",
    "hvae": "#56B4E9",
    "lvae": "#009E73",
    "nvae": "#0072B2",
}
"""Model file -> color, in the order of the theory; the hierarchies have the cool ones."""
_BOUND = ("metrics/negative_elbo", "metrics/rate", "metrics/reconstruction")


@dataclass(frozen=True)
class Codebook:
    """The discrete code of a model: tokens, each an index of a codebook.

    Attributes:
        num_codes: In the codebook.
        num_used: Codes that some held-out slice takes.
        perplexity: exp(entropy) of their use: how many codes used alike would be as varied.
    """

    num_codes: int
    num_used: int
    perplexity: float


@dataclass(frozen=True)
class Rung:
    """One recipe among those that are compared.

    Attributes:
        name: The recipe.
        scores: What ``score_shape_model`` returned, and the training report as ``training``.
        family: Its model file; the recipe itself where the model is not at hand.
        is_told: Whether it is told the condition c of each slice, so that it bounds log p(x | c).
        codebook: Of a model with discrete codes, where the model is at hand.
    """

    name: str
    scores: Mapping[str, Any]
    family: str = ""
    is_told: bool = False
    codebook: Codebook | None = None

    @property
    def color(self) -> str:
        """The color of its family, in every table and figure."""
        return FAMILY_COLORS.get(self.family, MUTED)

    def is_conditional(self, path: str) -> bool:
        """Whether a measure is of log p(x | c) here, and so no match for that of log p(x)."""
        return self.is_told and path in _BOUND

    @property
    def has_tokens(self) -> bool:
        """Whether the numbers of its code follow from fewer tokens, so that they are no scalars."""
        sizes = self.scores.get("latent_sizes")
        return sizes is not None and sum(sizes) != self.scores["latent_scalars"]


def rungs(
    recipes: Sequence[RecipeResults], models: Mapping[str, ShapeModel], slices: HeldOutSlices
) -> list[Rung]:
    """Return the recipes family by family, the plain recipe of each before its variants."""
    known = [_rung(recipe, models.get(recipe.name), slices) for recipe in recipes]
    order = list(FAMILY_COLORS)

    def place(rung: Rung) -> tuple[int, str, bool, str]:
        rank = order.index(rung.family) if rung.family in order else len(order)
        return rank, rung.family, rung.name != rung.family, rung.name

    return sorted(known, key=place)


def _rung(recipe: RecipeResults, model: ShapeModel | None, slices: HeldOutSlices) -> Rung:
    scores = {**recipe.summary["shape_model"], "training": recipe.training}
    if model is None:
        return Rung(recipe.name, scores, recipe.name)
    return Rung(
        recipe.name,
        scores,
        family=type(model).__module__.rpartition(".")[2],
        is_told=model.condition_groups is not None,
        codebook=_codebook(model, slices) if isinstance(model, VqVae) else None,
    )


def _codebook(model: VqVae, slices: HeldOutSlices) -> Codebook:
    masks = torch.from_numpy(slices.without_empty().masks)
    device = next(model.parameters()).device
    number = model.config.quantizer.num_embeddings
    uses = torch.zeros(number, dtype=torch.int64)
    for batch in torch.split(masks, 64):
        tokens = model.tokens(one_hot(batch).to(device))
        uses += torch.bincount(tokens.flatten().cpu(), minlength=number)
    return Codebook(number, int((uses > 0).sum()), float(perplexity(uses)))
