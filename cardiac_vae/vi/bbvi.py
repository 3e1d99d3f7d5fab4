"""Black box variational inference (Ranganath, Gerrish & Blei 2014), in general and of the mixture.

Any log-joint, given as the terms it is a sum of, and any mean-field family (``estimators``): the
gradient of the evidence lower bound is estimated from draws, and Adam climbs it.

For the mixture of ``mixture`` the family is Dirichlet x normal-Wishart x categorical, nothing of
which is summed out; the terms on their plates n of codes and k of components are

    log p(pi),  log p(mu_k, Lambda_k),  log p(c_n | pi),  [c_n = k] log N(x_n; mu_k, Lambda_k^-1)

so that the blanket of a component is its prior and the codes assigned to it, and that of an
assignment its own code.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.distributions import Categorical, Dirichlet

from cardiac_vae.config import StrictConfig
from cardiac_vae.vi.ascent import Adam, StepSizes
from cardiac_vae.vi.estimators import (
    ESTIMATORS,
    Draws,
    EstimatorName,
    MeanField,
    Factor,
    Term,
    entropy_terms,
)
from cardiac_vae.vi.mixture import MixturePosterior, MixturePrior
from cardiac_vae.vi.normal_wishart import NormalWishart, NormalWishartParameters, log_normal
from cardiac_vae.vi.unconstrained import (
    FreeParameters,
    constrained_component,
    to_free,
    to_posterior,
)


class BlackBoxConfig(StrictConfig):
    """How the gradient is estimated and climbed.

    Attributes:
        estimator: ``reparametrized`` needs a family and terms that allow it.
        num_draws: Draws of the family in each step.
        steps: Sizes of the steps, in the units of the parameters.
    """

    estimator: EstimatorName = "rao_blackwellized_controlled"
    num_draws: PositiveInt = 64
    steps: StepSizes = StepSizes()


class BlackBoxState(NamedTuple):
    """The family, and what Adam remembers of each factor's gradient."""

    family: MeanField
    moments: dict[str, Adam]

    @classmethod
    def of(cls, family: MeanField) -> "BlackBoxState":
        """Return the state before the first step."""
        moments = {name: Adam.at_rest(factor.parameters) for name, factor in family.items()}
        return cls(family, moments)


def black_box_step(
    state: BlackBoxState, log_joint: Sequence[Term], config: BlackBoxConfig
) -> BlackBoxState:
    """Return the state after one step up the estimated gradient of the evidence lower bound."""
    terms = [*log_joint, *entropy_terms(state.family)]
    estimates = ESTIMATORS[config.estimator](state.family, terms, config.num_draws)
    family, moments = {}, {}
    for name, factor in state.family.items():
        gradient = estimates[name].mean(dim=0)
        parameters, moments[name] = state.moments[name].step(
            factor.parameters, gradient, config.steps
        )
        family[name] = replace(factor, parameters=parameters)
    return BlackBoxState(family, moments)


def mixture_terms(prior: MixturePrior, codes: Tensor, num_components: int) -> list[Term]:
    """Return the terms of log p(codes, assignments, components, weights) of the mixture."""
    before = prior.components(num_components)
    of_weights = Dirichlet(before.concentration)
    of_components = NormalWishart(
        NormalWishartParameters(
            before.mean, before.mean_precision, before.scale_inverse, before.degrees
        )
    )

    def assignments(draws: Draws) -> Tensor:
        return _log(draws["weights"]).gather(1, draws["assignments"])

    def likelihood(draws: Draws) -> Tensor:
        means, precisions = draws["components"][..., 0], draws["components"][..., 1:]
        of_all = log_normal(codes[:, None], means[:, None], precisions[:, None])
        chosen = torch.nn.functional.one_hot(draws["assignments"], num_components)
        return chosen * of_all

    return [
        Term(lambda draws: of_weights.log_prob(draws["weights"]), ("weights",)),
        Term(lambda draws: of_components.log_prob(draws["components"]), ("components",), "k"),
        Term(assignments, ("weights", "assignments"), "n"),
        Term(likelihood, ("assignments", "components"), "nk"),
    ]


def mixture_family(posterior: MixturePosterior, log_responsibilities: Tensor) -> MeanField:
    """Return q of the mixture, with a categorical (N, K) for each assignment."""
    free = to_free(posterior)
    return {
        "weights": Factor(free.weights, _dirichlet),
        "components": Factor(free.components, _normal_wishart, "k"),
        "assignments": Factor(log_responsibilities, _categorical, "n"),
    }


def mixture_posterior(family: MeanField) -> MixturePosterior:
    """Return the factors of the family over weights, means and precisions."""
    free = FreeParameters(family["weights"].parameters, family["components"].parameters)
    return to_posterior(free)


def _dirichlet(parameters: Tensor) -> Dirichlet:
    return Dirichlet(parameters.exp(), validate_args=False)


def _normal_wishart(parameters: Tensor) -> NormalWishart:
    return NormalWishart(constrained_component(parameters))


def _categorical(parameters: Tensor) -> Categorical:
    return Categorical(logits=parameters, validate_args=False)


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=torch.finfo(values.dtype).tiny).log()
