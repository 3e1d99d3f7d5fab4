"""Linear shape model: principal components of signed distance maps (Leventon et al. 2000).

    phi_c(i) = signed distance in pixels of pixel i to the border of class c, positive inside,
               clipped to [-R, R]
    phi(z)   = mean + sum_k z_k std_k mode_k,   x_i ~ Categorical(softmax(s phi(z)_i)),  z ~ N(0, I)
    z_k(x)   = <mode_k, phi(x) - mean> / std_k

Distance maps are logits of the classes (LogOdds, Pohl et al. 2007): only the map of a pixel's own
class is positive there, so the largest gives the labels back. A class that a mask lacks is at
least R away everywhere: its map is -R. The modes are those of scikit-learn; the sharpness s is the
maximum-likelihood one, so that nats and probabilities can be compared with those of other models.

Nothing is variational here: z is computed, not inferred, and there is no bound. (Probabilistic PCA,
Tipping & Bishop 1999, would give the likelihood of distance maps, not of masks.)
"""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import PositiveInt, model_validator
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.shape_model import ClosedFormModel, Latents, LossTerms

_CALIBRATION_MASKS = 256  # one number is found from their millions of pixels
_SHARPNESS = (0.01, 10.0)  # per pixel of distance; its ends are all but even, and all but certain
_NO_SPREAD = 3e-4  # of the largest SD: below it float32 cannot tell a mode from none


class Config(StrictConfig):
    """Settings of the linear model.

    Attributes:
        image_size: Pixels a side.
        num_modes: Modes of variation that are kept; fewer than there are masks to fit.
        clip_pixels: R, the largest distance in a map: how far a border's influence reaches.
        batch_size: Masks in memory at a time. More than that are fitted batch by batch
            (incremental PCA, Ross et al. 2008); at least twice ``num_modes``.
    """

    spatial_dims: Literal[2, 3] = 2
    image_size: PositiveInt = 96
    num_modes: PositiveInt = 32
    clip_pixels: PositiveInt = 8
    batch_size: PositiveInt = 2048

    @model_validator(mode="after")
    def _batch_holds_the_modes(self) -> Self:
        if self.batch_size < 2 * self.num_modes:
            raise ValueError(
                f"batch_size {self.batch_size}: expected at least twice num_modes {self.num_modes}"
            )
        return self


class Model(ClosedFormModel):
    """A mean map, its modes of variation, and codes in standard deviations along them.

    Attributes:
        mean: (P,) the mean map in pixels, P = classes times pixels.
        modes: (K, P) orthonormal, that of the largest variance first.
        std: (K,) SD in pixels of the training maps along each mode.
        sharpness: Logits per pixel of distance.
        explained_variance_ratio: (K,) share of the training maps' variance along each mode.
    """

    explained_variance_ratio: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        num_values = NUM_CLASSES * config.image_size**config.spatial_dims
        self.mean = _solved_for(torch.zeros(num_values))
        self.modes = _solved_for(torch.zeros(config.num_modes, num_values))
        self.std = _solved_for(torch.zeros(config.num_modes))
        self.sharpness = _solved_for(torch.ones(()))
        self.register_buffer("explained_variance_ratio", torch.zeros(config.num_modes))

    @torch.no_grad()
    def fit_masks(self, masks: Tensor) -> None:
        """Fit modes and sharpness to label maps (N, H, W), values of ``Structure``.

        Raises:
            ValueError: if they are of another size, no more than the modes, or all the same.
        """
        if masks.shape[1:] != self._sides:
            raise ValueError(
                f"image_size {self.config.image_size}: expected masks (N, *{self._sides}), got "
                f"{tuple(masks.shape)}"
            )
        if len(masks) <= self.config.num_modes or bool((masks == masks[:1]).all()):
            raise ValueError(
                f"num_modes {self.config.num_modes}: expected more masks than modes, and not all "
                f"the same, got {len(masks)}; lower num_modes"
            )
        self._fit_modes(masks)
        chosen = torch.linspace(0, len(masks) - 1, min(len(masks), _CALIBRATION_MASKS)).round()
        self._fit_sharpness(masks[chosen.long()])

    def _fit_modes(self, masks: Tensor) -> None:
        from sklearn.decomposition import PCA, IncrementalPCA  # two seconds that only fits pay

        num_modes = self.config.num_modes
        parts = masks.tensor_split(-(-len(masks) // self.config.batch_size))
        if len(parts) == 1:
            found = PCA(num_modes, random_state=0).fit(self._maps_of_labels(masks).numpy())
        else:  # what each batch drops is lost: keep twice as many until the end
            found = IncrementalPCA(min(2 * num_modes, len(parts[-1])))
            for part in parts:
                found.partial_fit(self._maps_of_labels(part).numpy())
        self.mean.copy_(torch.from_numpy(found.mean_))
        self.modes.copy_(torch.from_numpy(found.components_[:num_modes]))
        std = torch.from_numpy(found.explained_variance_[:num_modes]).sqrt()
        self.std.copy_(torch.where(std < _NO_SPREAD * std[0], 0, std))
        ratio = torch.from_numpy(found.explained_variance_ratio_[:num_modes])
        self.explained_variance_ratio.copy_(ratio)

    def _fit_sharpness(self, masks: Tensor) -> None:
        """Minimize the NLL of masks given their own reconstructions, which is convex in s."""
        maps = self.maps_of(self.project(self._maps_of_labels(masks)))
        maps, target = self._planes(maps), _one_hot(masks)
        found = minimize_scalar(
            lambda sharpness: categorical_nll(sharpness * maps, target).mean().item(),
            bounds=_SHARPNESS,
            method="bounded",
            options={"xatol": 1e-3},
        )
        self.sharpness.fill_(float(found.x))

    def _maps_of_labels(self, masks: Tensor) -> Tensor:
        """Return the distance maps (N, P) of label maps (N, H, W), few at a time."""
        reach = self.config.clip_pixels
        parts = (signed_distances(_one_hot(part), reach) for part in torch.split(masks, 64))
        return torch.cat([part.flatten(start_dim=1) for part in parts])

    def _planes(self, maps: Tensor) -> Tensor:
        """Return maps (B, P) as (B, C, H, W)."""
        return maps.reshape(len(maps), NUM_CLASSES, *self._sides)

    @property
    def _sides(self) -> tuple[int, ...]:
        return (self.config.image_size,) * self.config.spatial_dims

    def maps(self, mask: Tensor) -> Tensor:
        """Return the distance maps (B, P) in pixels of masks or probabilities (B, C, H, W)."""
        return self._maps_of_labels(mask.argmax(dim=1))

    def project(self, maps: Tensor) -> Tensor:
        """Return codes (B, K) in SD of maps (B, P); 0 along a mode without spread."""
        scores = (maps - self.mean) @ self.modes.T
        return torch.where(self.std > 0, scores / self.std, 0)

    def maps_of(self, z: Tensor) -> Tensor:
        """Return the maps (B, P) in pixels of codes (B, K)."""
        return self.mean + (z * self.std) @ self.modes

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Return logits (B, C, H, W) and terms without a KL."""
        logits = self.decode(self.encode(mask))
        nll = categorical_nll(logits, mask if target is None else target)
        return logits, LossTerms(nll, nll.new_zeros(len(nll), 0))

    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        """Return the mean of the reconstruction, which no gradient lowers."""
        return terms.reconstruction.mean()

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        """Return the code (B, K) in SD as the one group; a broken mask is projected as any."""
        return [self.project(self.maps(mask))]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C, H, W) of codes (B, K)."""
        (z,) = latents
        return self.sharpness * self._planes(self.maps_of(z))

    def draw(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> list[Tensor]:
        """Return codes (num_samples, Z) from N(0, temperature^2 I) as the one group."""
        return [temperature * torch.randn(num_samples, len(self.std), device=self.std.device)]

    @property
    def latent_sizes(self) -> list[int]:
        """Scalars of the one group."""
        return [self.config.num_modes]


def signed_distances(mask: Tensor, reach: int) -> Tensor:
    """Return the signed distance of each pixel to the border of each plane of 0 and 1.

    Distances are Euclidean between pixel centers, less the half pixel to the border between them,
    in pixels, positive where the plane is 1, and clipped to ``reach``. A plane of zeros has no
    border: -reach everywhere; a plane of ones reach.

    Args:
        mask: (B, C, H, W), zeros and ones.
        reach: The largest distance, in pixels.
    """
    inside = mask > 0
    to_outside, to_inside = (_distances_to(goal, reach + 1) for goal in (~inside, inside))
    return torch.where(inside, to_outside - 0.5, 0.5 - to_inside).clamp(-reach, reach)


def _distances_to(goal: Tensor, reach: int) -> Tensor:
    """Return the distance (B, C, H, W) to the nearest pixel of ``goal``, right up to ``reach``.

    The squared distance is a sum over the axes, so its minimum can be taken axis by axis. No
    distance within reach takes a longer step along any, so a few shifts of the whole batch do.
    """
    squared = torch.where(goal, 0.0, float("inf"))
    for axis in range(2, goal.ndim):
        before, size = squared.clone(), goal.shape[axis]
        for step in range(1, min(reach, size - 1) + 1):
            for to, since in ((0, step), (step, 0)):
                nearest = squared.narrow(axis, to, size - step)
                moved = before.narrow(axis, since, size - step) + step**2
                nearest.copy_(torch.minimum(nearest, moved))
    return squared.sqrt()


def _one_hot(masks: Tensor) -> Tensor:
    """Return label maps (N, H, W) as planes (N, C, H, W) of bool."""
    return F.one_hot(masks.long(), NUM_CLASSES).movedim(-1, 1).contiguous()


def _solved_for(value: Tensor) -> nn.Parameter:
    """Return a parameter that is learnt, though not by gradient."""
    return nn.Parameter(value, requires_grad=False)
