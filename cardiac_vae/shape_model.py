"""The contract of every shape model, and the terms of its bound.

A shape model takes one-hot masks (or class probabilities) ``(B, C, H, W)`` - in three dimensions
``(B, C, D, H, W)`` - and explains them by latent variables. Costs are in nats per case, unweighted.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Latents = Sequence[Tensor]
"""The value of each latent group, top first; each (B, ...)."""


@dataclass(frozen=True)
class LossTerms:
    """The cost of each case of a batch, unweighted and before any averaging.

    Attributes:
        reconstruction: (B,) negative log-likelihood of the mask, nats per case.
        regularization: (B, G), one column per latent group, top first: KL in nats for the
            variational models, no column (G = 0) for those without a bound. Where the KL has no
            closed form it is an unbiased estimate, and can be negative.
        log_ratio: (B,) log q(z | x) - log p(z) in nats of the z that was drawn: its mean is the KL,
            and -(reconstruction + log_ratio) is the logarithm of an importance weight. None
            where there is no density to take it of.
        parts: (B,) each, by name: what a model's own loss weighs and its bound does not hold.
    """

    reconstruction: Tensor
    regularization: Tensor
    log_ratio: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, cases: Tensor) -> "LossTerms":
        """Return the terms of some cases; ``cases`` is a (B,) bool mask or indices."""
        return LossTerms(
            self.reconstruction[cases],
            self.regularization[cases],
            None if self.log_ratio is None else self.log_ratio[cases],
            {name: part[cases] for name, part in self.parts.items()},
        )

    @property
    def kl(self) -> Tensor:
        """(B,) nats per case: the rate."""
        return self.regularization.sum(dim=1)

    @property
    def negative_elbo(self) -> Tensor:
        """(B,) nats per case; lower is better. A bound only for the variational models."""
        return self.reconstruction + self.kl

    @property
    def has_bound(self) -> bool:
        """Whether there is a KL: without one ``negative_elbo`` bounds no likelihood."""
        return self.regularization.shape[1] > 0


def with_broken_plane(mask: Tensor, is_broken: Tensor | None) -> Tensor:
    """Return a mask (B, C, H, W) with one more plane, 1 where it is broken and 0 where it is whole.

    ``is_broken`` is (B,) bool; None says that all are whole.
    """
    plane = torch.zeros_like(mask[:, :1])
    if is_broken is not None:
        plane[is_broken] = 1
    return torch.cat([mask, plane], dim=1)


class ShapeModel(nn.Module, ABC):
    """A generative or compressive model of one-hot masks.

    ``is_broken`` tells the encoder that its input came through a noisy channel (a segmenter) and
    that the whole mask behind it is wanted: amortised inference of q(z | y), y a broken mask.
    ``condition`` (B, K) is what else is known of each case (``data.conditions``); None, and zeros
    in it, say that it is not known. Models without conditions do not look at it.

    Attributes:
        has_prior: Whether the model can draw hearts of its own; without a prior ``draw`` raises.
        has_noise: Whether its latents are normals given those above, so that noise says where they
            lie; without, ``noise_of`` raises, and no density can be fitted to its codes.
        redraws_statistics: Whether batch norms take the statistics of samples when hearts are drawn
            to be judged (``layers.batch_statistics``).
        num_train_cases: Cases that the model is fitted to, set by who fits it, for estimates over
            the whole data set; 0 where that is not known.
        condition_groups: The groups that a condition can name to the model, in the order of its
            encoding; None for a model that looks at no condition.
    """

    has_prior: bool = True
    has_noise: bool = True
    redraws_statistics: bool = False
    num_train_cases: int = 0
    condition_groups: tuple[str, ...] | None = None

    @abstractmethod
    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Return logits (B, C, H, W) and terms of one-hot masks or probabilities (B, C, H, W).

        ``target`` (B, C, H, W) is the one-hot mask to explain where it is not the input itself;
        ``is_broken`` (B,) bool marks the inputs that are broken (default: none is).
        """

    @abstractmethod
    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        """Return the scalar to minimize, nats per case.

        ``warmup`` in [0, 1] weighs the KL; ``progress`` in [0, 1] is the share of the steps taken.
        """

    def penalty(self) -> Tensor:
        """Return the scalar cost of the weights themselves, in nats; training adds it once a step.

        It is no part of the bound. Zero, without a gradient, for models that have none.
        """
        return torch.zeros(())

    @abstractmethod
    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        """Return a value of each latent group, top first, from its posterior at a temperature.

        At temperature 0 (the default) that is the mean, at 1 a draw. A model without a posterior
        has one code for a mask, whatever the temperature.
        """

    @abstractmethod
    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C, H, W); groups not given are drawn from the prior at a temperature.

        At temperature 0 (the default) they take the prior's mean.
        """

    def draw(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> list[Tensor]:
        """Return latents drawn from the prior, top first, each (num_samples, ...).

        Raises:
            ValueError: if the model has no prior.
        """
        raise ValueError(
            f"draw: expected a model with a prior, got {type(self).__module__}, whose codes have "
            "none; take a recipe such as vae"
        )

    def noise_of(self, latents: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Return the noise behind latents, top first: where they lie in their conditional priors.

        Of a hierarchy it is (z_l - mu_l(z_<l)) / sigma_l(z_<l), N(0, I) for draws of the prior. A
        single group with the prior N(0, I), or with none, is its own noise. There may be fewer
        groups than the model has, the top ones.

        Raises:
            ValueError: if the model's latents are no normals.
        """
        return list(latents)

    def from_noise(self, noise: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Return the latents that noise stands for: the inverse of ``noise_of``."""
        return list(noise)

    def sample(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return class probabilities (num_samples, C, H, W) of latents drawn from the prior."""
        latents = self.draw(num_samples, temperature, condition)
        return self.decode(latents, condition=condition).softmax(dim=1)

    @torch.no_grad()
    def reconstruct(
        self, mask: Tensor, is_broken: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Return class probabilities (B, C, H, W) decoded from the posterior mean."""
        latents = self.encode(mask, is_broken, condition)
        return self.decode(latents, condition=condition).softmax(dim=1)

    @torch.no_grad()
    def edit(
        self,
        mask: Tensor,
        group: int,
        change: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Return probabilities of the mask with ``change`` added to the code of one group.

        Groups below the edited one are redrawn from their conditional prior's mean.
        """
        latents = self.encode(mask, is_broken, condition)
        if not 0 <= group < len(latents):
            raise ValueError(f"group: expected 0 to {len(latents) - 1}, got {group}")
        edited = [*latents[:group], latents[group] + change]
        return self.decode(edited, condition=condition).softmax(dim=1)

    @property
    def num_latents(self) -> int:
        """Number of latent scalars of one case."""
        return sum(self.latent_sizes)

    @property
    @abstractmethod
    def latent_sizes(self) -> list[int]:
        """Scalars of each latent group, top first."""


class ClosedFormModel(ShapeModel):
    """A shape model whose fit is solved for: none of its parameters asks for a gradient."""

    @abstractmethod
    def fit_masks(self, masks: Tensor) -> None:
        """Fit to label maps (N, H, W), values of ``Structure``.

        Raises:
            ValueError: if these masks do not determine the model.
        """
