"""What a loss makes of the KL of a one-group VAE: its weight, its target, or its three parts.

With q(z) = mean_n q(z | x_n), the aggregate posterior of the data set, the KL is in the mean

    KL(q(z | x) || p(z)) = I(z; x) + KL(q(z) || prod_d q(z_d)) + sum_d KL(q(z_d) || p(z_d))

mutual information, total correlation and dimension-wise KL (Chen et al. 2018, sec. 3). Densities
are logarithms in nats, costs nats per case; B cases, Z latent scalars, L draws of each code.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.layers.distributions import DiagonalNormal


class _Regularizer(StrictConfig):
    """The part of a loss that is no reconstruction."""

    @abstractmethod
    def cost(
        self, kl: Tensor, parts: Mapping[str, Tensor], weight: float, progress: float
    ) -> Tensor:
        """Return the scalar that joins the mean reconstruction in the loss, in nats.

        ``kl`` is (B,), ``parts`` what ``parts`` returned for the same cases, ``weight`` that of
        the KL at this step, ``progress`` in [0, 1] the share of the steps taken.
        """

    def parts(
        self, posterior: DiagonalNormal, z: Tensor, is_whole: Tensor, num_cases: int
    ) -> dict[str, Tensor]:
        """Return what ``cost`` needs of each case (B,) and can only be had of a whole batch.

        Args:
            posterior: q(z | x) of the batch, (B, Z).
            z: (L, B, Z) draws of it.
            is_whole: (B,) bool; a broken case has no place in the aggregate posterior.
            num_cases: Size of the data set; 0 where the batch is all there is.
        """
        return {}


class KL(_Regularizer):
    """The KL, weighed: beta in the beta-VAE (Higgins et al. 2017)."""

    name: Literal["kl"] = "kl"

    def cost(
        self, kl: Tensor, parts: Mapping[str, Tensor], weight: float, progress: float
    ) -> Tensor:
        """Return weight * KL."""
        return weight * kl.mean()


class Capacity(_Regularizer):
    """gamma |KL - C(t)|: the rate is led to a growing capacity C (Burgess et al. 2018).

    The KL is its mean over cases, so that a plain heart may take less than an odd one. C starts
    at no nats and is a warm-up of its own: the weight of the KL plays no part.

    Attributes:
        gamma: Nats per nat of deviation.
        max_capacity: Where C ends, nats per case.
        share: Share of the steps over which C grows, linearly.
    """

    name: Literal["capacity"] = "capacity"
    gamma: PositiveFloat = 1000.0
    max_capacity: PositiveFloat = 25.0
    share: float = Field(default=1.0, gt=0, le=1)

    def capacity(self, progress: float) -> float:
        """Return C in nats per case."""
        return self.max_capacity * min(progress / self.share, 1.0)

    def cost(
        self, kl: Tensor, parts: Mapping[str, Tensor], weight: float, progress: float
    ) -> Tensor:
        """Return gamma |KL - C|."""
        return self.gamma * (kl.mean() - self.capacity(progress)).abs()


class TotalCorrelation(_Regularizer):
    """alpha I + beta TC + gamma DW: the KL in its parts (beta-TCVAE, Chen et al. 2018).

    Where the weights agree the KL itself is taken, in closed form, which has the same mean and
    less variance: alpha KL + (beta - alpha) TC + (gamma - alpha) DW.

    A broken case has a posterior that no heart of the data set has. It does not count in q(z);
    nor has a code drawn from elsewhere a correlation under q(z) to lower (to do so would push it
    where no heart is). All its rate is information, at weight alpha.

    Attributes:
        alpha: Weight of the mutual information.
        beta: Weight of the total correlation.
        gamma: Weight of the dimension-wise KL.
        estimator: Of q(z) from a batch. "stratified" counts the case that a code was drawn from as
            one of the data set, and its q(z) is unbiased; "weighted" counts it as one of the batch,
            and all its densities are low by about the size of the data set.
    """

    name: Literal["total_correlation"] = "total_correlation"
    alpha: NonNegativeFloat = 1.0
    beta: NonNegativeFloat = 6.0
    gamma: NonNegativeFloat = 1.0
    estimator: Literal["weighted", "stratified"] = "weighted"

    def cost(
        self, kl: Tensor, parts: Mapping[str, Tensor], weight: float, progress: float
    ) -> Tensor:
        """Return weight * (alpha I + beta TC + gamma DW)."""
        correlation = (self.beta - self.alpha) * parts["total_correlation"]
        dimension_wise = (self.gamma - self.alpha) * parts["dimension_wise_kl"]
        return weight * (self.alpha * kl + correlation + dimension_wise).mean()

    def parts(
        self, posterior: DiagonalNormal, z: Tensor, is_whole: Tensor, num_cases: int
    ) -> dict[str, Tensor]:
        """Return the three parts of each case (B,): they sum to log q(z | x) - log p(z).

        Each is a mean over the draws.
        """
        prior = DiagonalNormal.standard_like(z).log_prob_per_unit(z).sum(dim=2)
        log_ratio = (posterior.log_prob_per_unit(z).sum(dim=2) - prior).mean(dim=0)
        whole = DiagonalNormal(posterior.mu[is_whole], posterior.log_sigma[is_whole])
        weights = self.weights(len(whole.mu), num_cases).to(z.device)
        joint, marginals = aggregate_log_densities(whole, z[:, is_whole], weights)
        correlation, dimension_wise = (
            torch.zeros_like(log_ratio).masked_scatter(is_whole, part.mean(dim=0))
            for part in (joint - marginals, marginals - prior[:, is_whole])
        )
        return {
            "mutual_information": log_ratio - correlation - dimension_wise,
            "total_correlation": correlation,
            "dimension_wise_kl": dimension_wise,
        }

    def weights(self, batch: int, num_cases: int = 0) -> Tensor:
        """Return (B, B): how much case j counts in q(z) for a code that was drawn from case i.

        With N cases in the data set, B of them in the batch: 1 / (N B) for all if weighted; if
        stratified 1 / N for the case itself, the others sharing the rest equally (the mean of the
        paper's weights over the orders of the others).
        """
        size = num_cases or max(batch, 1)
        ones = torch.ones(batch, batch)
        if self.estimator == "weighted":
            return ones / (size * batch)
        return (ones * (size - 1) / (size * (batch - 1))).fill_diagonal_(1 / size)


def aggregate_log_densities(
    posterior: DiagonalNormal, z: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log q(z) and sum_d log q(z_d), each (L, B), q a weighted mixture of the cases.

    ``posterior`` is (B, Z), ``z`` (L, B, Z); row i of ``weights`` (B, B) weighs the cases for code
    i.
    """
    per_unit = posterior.log_prob_per_unit(z[:, :, None])  # (L, B, B, Z): of code i under case j
    log_weights = weights.log()
    joint = (per_unit.sum(dim=3) + log_weights).logsumexp(dim=2)
    marginals = (per_unit + log_weights[:, :, None]).logsumexp(dim=2).sum(dim=2)
    return joint, marginals


Regularizer = Annotated[KL | Capacity | TotalCorrelation, Field(discriminator="name")]
