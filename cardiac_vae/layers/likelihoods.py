"""What a mask costs, in nats: the likelihoods that a decoder's outputs can stand for.

A pixel is a one-hot vector x, e_k for class k, but not every likelihood knows that: its planes may
be independent bits, or real numbers. By the chain rule

    -log p(x) = -log p(x | x is one-hot) - log p(x is one-hot),   p(x is one-hot) = sum_k p(e_k)

The first term is the cross-entropy of class logits, log p(e_k) up to what all classes share. It is
the cost of the label map and in the same unit whatever the likelihood. The second is what the
likelihood pays, beside it, for vectors that no mask can hold; densities make it a log-density. A
target that is a distribution over the classes costs its expectation.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from cardiac_vae.config import StrictConfig
from cardiac_vae.layers.distributions import HALF_LOG_2PI, soft_clamp


def categorical_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log p(x | logits) in nats per case, (B,), one categorical per pixel.

    Both are (B, C, ...); the target is one-hot, or probabilities (then a cross-entropy).
    """
    per_pixel = F.cross_entropy(logits.float(), target.float(), reduction="none")
    return per_pixel.flatten(start_dim=1).sum(dim=1)


LOG_SIGMA_STEP = 10.0  # learning rates that a step of Adam moves it by: it has some way to go
LOG_SIGMA_GRADIENT = 1e-4  # it sums over all values of a case: a clip by norm would see it alone


class Likelihood(nn.Module, ABC):
    """p(x | output), pixel by pixel; outputs and targets are (B, C, ...)."""

    @abstractmethod
    def logits(self, output: Tensor) -> Tensor:
        """Return class logits (B, C, ...): their softmax is p(e_k | output, x is one-hot)."""

    def parts(self, output: Tensor) -> dict[str, Tensor]:
        """Return ``one_hot``, -log p(x is one-hot | output) in nats per case (B,), if not zero."""
        return {}

    def cost(self, reconstruction: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        """Return -log p(x | output) in nats per case, (B,).

        ``reconstruction`` (B,) is the cross-entropy of the logits, ``parts`` what ``parts`` gave.
        """
        return reconstruction + parts.get("one_hot", 0.0)

    def nll(self, output: Tensor, target: Tensor) -> Tensor:
        """Return -log p(target | output) in nats per case, (B,)."""
        return self.cost(categorical_nll(self.logits(output), target), self.parts(output))


class CategoricalConfig(StrictConfig):
    """One categorical per pixel."""

    name: Literal["categorical"] = "categorical"


class BernoulliConfig(StrictConfig):
    """One bit per pixel and class plane."""

    name: Literal["bernoulli"] = "bernoulli"


class GaussianConfig(StrictConfig):
    """One normal per pixel and class plane.

    Attributes:
        scale: Standard deviation of all of them, or where it starts if it is learnt.
        is_scale_learnt: Whether it is a parameter of the model, within a factor e^5 of ``scale``.
    """

    name: Literal["gaussian"] = "gaussian"
    scale: PositiveFloat = 0.1
    is_scale_learnt: bool = False


LikelihoodConfig = Annotated[
    CategoricalConfig | BernoulliConfig | GaussianConfig, Field(discriminator="name")
]


class Categorical(Likelihood):
    """p(e_k) = softmax(output)_k: a pixel has one class, so x is one-hot for certain."""

    def logits(self, output: Tensor) -> Tensor:
        """Return the outputs."""
        return output


class Bernoulli(Likelihood):
    """p(x) = prod_j s(o_j)^x_j (1 - s(o_j))^(1 - x_j), s the logistic function, o the outputs.

    p(e_k) = exp(o_k) prod_j (1 - s(o_j)), so that the planes' logits are class logits too, and
    -log p(x is one-hot) = sum_j softplus(o_j) - logsumexp(o).
    """

    def logits(self, output: Tensor) -> Tensor:
        """Return the outputs, the logits of the planes."""
        return output

    def parts(self, output: Tensor) -> dict[str, Tensor]:
        """Return ``one_hot``, (B,)."""
        output = output.float()
        per_pixel = F.softplus(output).sum(dim=1) - output.logsumexp(dim=1)
        return {"one_hot": per_pixel.flatten(start_dim=1).sum(dim=1)}


class Gaussian(Likelihood):
    """p(x) = prod_j N(x_j; mu_j, sigma^2), mu the outputs.

    log p(e_k) = -|e_k - mu|^2 / (2 sigma^2) - C log(sigma sqrt(2 pi)), where |e_k - mu|^2 =
    1 - 2 mu_k + |mu|^2: what depends on k is mu_k / sigma^2, the class logit. With a learnt scale
    the best sigma is the root mean square of the residuals (Rybkin et al. 2021).
    """

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.start = math.log(config.scale)
        self.log_change = nn.Parameter(torch.zeros(())) if config.is_scale_learnt else None

    @property
    def log_sigma(self) -> Tensor:
        """The logarithm of the scale, a scalar."""
        if self.log_change is None:
            return torch.tensor(self.start)
        still = self.log_change.detach()
        change = still + LOG_SIGMA_GRADIENT * (self.log_change - still)
        return self.start + soft_clamp(LOG_SIGMA_STEP * change)

    def logits(self, output: Tensor) -> Tensor:
        """Return mu / sigma^2."""
        return output.float() * (-2 * self.log_sigma).exp()

    def parts(self, output: Tensor) -> dict[str, Tensor]:
        """Return ``one_hot``, (B,), a log-density."""
        mu, log_sigma = output.float(), self.log_sigma
        squares = 1 - 2 * mu + mu.square().sum(dim=1, keepdim=True)
        normalizer = mu.shape[1] * (log_sigma + HALF_LOG_2PI)
        densities = -0.5 * squares * (-2 * log_sigma).exp() - normalizer
        return {"one_hot": -densities.logsumexp(dim=1).flatten(start_dim=1).sum(dim=1)}


def build_likelihood(config: LikelihoodConfig) -> Likelihood:
    """Return the likelihood that a config names."""
    match config:
        case CategoricalConfig():
            return Categorical()
        case BernoulliConfig():
            return Bernoulli()
        case GaussianConfig():
            return Gaussian(config)
