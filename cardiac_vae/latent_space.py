"""Walks between and along the codes of masks, for every shape model alike.

    interpolation   z_l(t) = (1 - t) z_l(first) + t z_l(second), in all groups l at once
    traversal       z_l(s) = z_l + s sd_k v_k in one group; those below at their prior's mean

The v_k are the orthonormal directions along which the codes of a group and the masks of a cohort
covary most (maximum covariance analysis: Bretherton, Smith & Wallace 1992), sd_k the standard
deviation of the cohort's codes along them. Principal components of the codes alone can say little:
of codes near N(0, I), as a prior wants them, each direction is as good as any other. Directions of
a linear model are all but its own modes.

Lines are straight. Great circles (White 2016) keep the norm that draws of N(0, I) have, but codes
here are posterior means, whose norm differs from mask to mask, and the priors of a hierarchy are
centered elsewhere for each mask.

These are functions of a model's ``encode``, ``decode`` and ``edit`` alone, so no model has to know
of them. A model with a codebook decodes each value at its nearest code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cardiac_vae.shape_model import ShapeModel

_NO_SPREAD = 1e-6  # of the strongest direction: what is below is rounding
_ACTIVE = 0.1  # of the largest SD: Var > 0.01 (Burda et al. 2016) where that is 1, as a prior wants


@dataclass(frozen=True)
class Directions:
    """Where the codes of one latent group go, and how far a cohort goes there.

    Attributes:
        vectors: (K, ...) orthonormal, each of the shape of the group's code.
        spread: (K,) standard deviation of the cohort's codes along each.
    """

    vectors: Tensor
    spread: Tensor

    @property
    def one_sd(self) -> Tensor:
        """(K, ...) the change of a code by one standard deviation along each."""
        return self.vectors * self.spread.reshape(-1, *[1] * (self.vectors.ndim - 1))


@dataclass(frozen=True)
class LatentMap:
    """Codes as points of a plane.

    Attributes:
        points: (N, 2) in standard deviations of a scalar, that of the larger variance first.
        shares: (2,) share of the standardized scalars' variance along each axis.
        num_scalars: How many scalars vary enough to count.
    """

    points: Tensor
    shares: Tensor
    num_scalars: int


@torch.no_grad()
def encode_cohort(
    model: ShapeModel, masks: Tensor, condition: Tensor | None = None, batch_size: int = 64
) -> list[Tensor]:
    """Return the codes (N, ...) of one-hot masks (N, C, H, W) per latent group, top first."""
    batches = torch.split(masks, batch_size)
    told = [None] * len(batches) if condition is None else torch.split(condition, batch_size)
    codes = [model.encode(m, condition=c) for m, c in zip(batches, told, strict=True)]
    return [torch.cat(group) for group in zip(*codes, strict=True)]


@torch.no_grad()
def interpolate(
    model: ShapeModel,
    first: Tensor,
    second: Tensor,
    num_steps: int,
    conditions: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return probabilities (num_steps, B, C, H, W) on the way between masks (B, C, H, W).

    The first step is the reconstruction of ``first``, the last that of ``second``. Where each has
    a condition (B, K), what the model is told moves along.

    Raises:
        ValueError: if there are fewer than two steps, or the masks differ in shape.
    """
    if num_steps < 2:
        raise ValueError(f"num_steps: expected 2 or more, both ends among them, got {num_steps}")
    if first.shape != second.shape:
        raise ValueError(
            "second: expected masks of the same shape as first, "
            f"{tuple(first.shape)}, got {tuple(second.shape)}"
        )
    told = conditions or (None, None)
    steps = torch.linspace(0, 1, num_steps, device=first.device)
    ends = zip(
        model.encode(first, condition=told[0]),
        model.encode(second, condition=told[1]),
        strict=True,
    )
    latents = [_between(*pair, steps) for pair in ends]
    condition = _between(*conditions, steps) if conditions else None
    probabilities = model.decode(latents, condition=condition).softmax(dim=1)
    return probabilities.reshape(num_steps, *first.shape)


def _between(first: Tensor, second: Tensor, steps: Tensor) -> Tensor:
    """Return the values (S * B, ...) at all steps (S,) from first to second (B, ...)."""
    weights = steps.reshape(-1, *[1] * first.ndim)
    return torch.lerp(first, second, weights).flatten(end_dim=1)


@torch.no_grad()
def traverse(
    model: ShapeModel,
    mask: Tensor,
    group: int,
    one_sd: Tensor,
    steps: Sequence[float],
    condition: Tensor | None = None,
) -> Tensor:
    """Return probabilities (S, C, H, W) of a mask (1, C, H, W) moved along a direction by steps.

    ``one_sd`` has the shape of the group's code without its batch and is added as often as a step
    says. Groups below take their conditional prior's mean, as in ``ShapeModel.edit``: so at step 0
    it is the reconstruction if none is below, and what the groups down to this one say if some are.

    Raises:
        ValueError: if there is more than one mask, or no such group.
    """
    if len(mask) != 1:
        raise ValueError(f"mask: expected one, (1, C, H, W), got shape {tuple(mask.shape)}")
    scale = torch.tensor(steps, dtype=one_sd.dtype, device=one_sd.device)
    change = scale.reshape(-1, *[1] * one_sd.ndim) * one_sd
    told = None if condition is None else condition.expand(len(steps), -1)
    return model.edit(mask.expand(len(steps), *mask.shape[1:]), group, change, condition=told)


def leading_directions(codes: Tensor, masks: Tensor, number: int) -> Directions:
    """Return the directions in codes (N, ...) that go with the most change of masks (N, C, H, W).

    They are the first left singular vectors of the covariance of codes and masks, strongest first,
    turned so that hearts grow along them, in the cohort's mean. There are fewer than ``number`` if
    the codes do not vary along as many. The plane of the background, which follows from the others,
    does not count.

    Raises:
        ValueError: if there are not as many codes as masks, or fewer than two.
    """
    if len(codes) != len(masks) or len(codes) < 2:
        raise ValueError(
            f"codes: expected one for each of two masks or more, got {len(codes)} codes and "
            f"{len(masks)} masks"
        )
    z, x = _centered(codes), _centered(masks[:, 1:])
    # z = u s v' has the rank of the cohort at most: what is left to solve has N columns, not Z.
    u, s, v = torch.linalg.svd(z, full_matrices=False)
    scores = u * s
    strength, turned = torch.linalg.eigh(scores.T @ (x @ x.T) @ scores)
    strength, turned = strength.flip(0)[:number], turned.flip(1)[:, :number]
    turned = turned[:, strength > _NO_SPREAD**2 * strength[:1]]
    along = scores @ turned
    signs = torch.where(along.T @ x.sum(dim=1) < 0, -1.0, 1.0)
    vectors = ((turned * signs).T @ v).reshape(-1, *codes.shape[1:])
    spread = along.norm(dim=0) / (len(codes) - 1) ** 0.5
    return Directions(vectors.to(codes), spread.to(codes))


def has_map(codes: Sequence[Tensor]) -> bool:
    """Return whether codes (N, ...) of all latent groups spread in two dimensions or more."""
    return len(codes[0]) > 2 and _standardized(codes).shape[1] > 1


def latent_map(codes: Sequence[Tensor]) -> LatentMap:
    """Return the first two principal components of codes (N, ...) of all latent groups.

    Each scalar is standardized over the cohort. Those whose standard deviation is below a tenth of
    the largest are left out: they hold nothing, and standardized they would be noise.

    Raises:
        ValueError: if there are fewer than three codes, or fewer than two scalars that vary.
    """
    z = _standardized(codes)
    if not has_map(codes):
        raise ValueError(
            "codes: expected three or more and two scalars that vary, got "
            f"{len(z)} codes and {z.shape[1]} scalars"
        )
    variance, axes = torch.linalg.eigh(z @ z.T)
    variance, axes = variance.flip(0).clamp(min=0), axes.flip(1)[:, :2]
    farthest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    points = axes * farthest.sign() * variance[:2].sqrt()
    return LatentMap(points, variance[:2] / variance.sum(), z.shape[1])


def _standardized(codes: Sequence[Tensor]) -> Tensor:
    """Return the scalars (N, Z) of all groups that vary, each with mean 0 and SD 1."""
    z = torch.cat([_centered(group) for group in codes], dim=1)
    spread = z.std(dim=0, correction=0)
    is_active = spread > _ACTIVE * spread.max()
    return z[:, is_active] / spread[is_active]


def _centered(values: Tensor) -> Tensor:
    """Return values (N, ...) as rows (N, Z) in float64, their mean taken off."""
    rows = values.flatten(start_dim=1).double()
    is_still = (rows == rows[:1]).all(dim=0)  # the rounding of its mean is no spread
    return (rows - rows.mean(dim=0)).masked_fill(is_still, 0)
