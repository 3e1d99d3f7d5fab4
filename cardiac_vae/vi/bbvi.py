"""Black box variational inference (Ranganath, Gerrish & Blei 2014), in general and of the mixture.

Any log-joint, given as the terms it is a sum of, and any mean-field family (``estimators``): the
gradient of the evidence lower bound is estimated from draws of q, and Adam climbs it (``ascent``).

For the mixture q is Dirichlet x normal-Wishart x categorical and every latent is drawn, the
assignments too. With plates n of codes and k of components the terms are

    log p(pi),  log p(mu_k, Lambda_k),  log p(c_n | pi),  [c_n = k] log N(x_n; mu_k, Lambda_k^-1)

so that a component sees its prior and the codes that were assigned to it in the draw, an assignment
its own code, and the weights the assignments.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor
from torch.distributions import Categorical, Dirichlet, Distribution

from cardiac_vae.config import StrictConfig
from cardiac_vae.vi.ascent import Adam, StepSizes
from cardiac_vae.vi.estimators import (
    ESTIMATORS,
    Draws,
    EstimatorName,
    Factor,
    MeanField,
    Term,
    entropy_terms,
)
from cardiac_vae.vi.mixture import MixturePosterior, MixturePrior, elbo, update
from cardiac_vae.vi.normal_wishart import NormalWishart, NormalWishartParameters, log_normal
from cardiac_vae.vi.seeding import seeded_statistics
from cardiac_vae.vi.statistics import Codes, chunks
from cardiac_vae.vi.unconstrained import (
    FreeParameters,
    constrained_component,
    to_free,
    to_posterior,
)


class BlackBoxConfig(StrictConfig):
    """How the gradient is estimated and climbed.

    Attributes:
        estimator: ``reparametrized`` takes a family and terms that can be differentiated.
        num_draws: Draws of the family in each step.
        steps: Sizes of the steps, in the units of the parameters.
    """

    estimator: EstimatorName = "rao_blackwellized_controlled"
    num_draws: PositiveInt = 32
    steps: StepSizes = StepSizes()


class BbviConfig(BlackBoxConfig):
    """Settings for the mixture; see ``BlackBoxConfig``.

    Attributes:
        num_components: K.
    """

    num_components: PositiveInt = 10


@dataclass(frozen=True)
class BlackBoxState:
    """The family, and what Adam remembers of the gradient of each factor."""

    family: MeanField
    adam: dict[str, Adam]

    @classmethod
    def at_rest(cls, family: MeanField) -> "BlackBoxState":
        """Return the state before the first step."""
        return cls(family, {name: Adam.at_rest(f.parameters) for name, f in family.items()})


def black_box_step(
    state: BlackBoxState, log_joint: Sequence[Term], config: BlackBoxConfig
) -> BlackBoxState:
    """Return the state after one step up the estimated gradient of the evidence lower bound."""
    terms = [*log_joint, *entropy_terms(state.family)]
    estimates = ESTIMATORS[config.estimator](state.family, terms, config.num_draws)
    family, adam = {}, {}
    for name, factor in state.family.items():
        gradient = estimates[name].mean(dim=0)
        parameters, adam[name] = state.adam[name].step(factor.parameters, gradient, config.steps)
        family[name] = replace(factor, parameters=parameters)
    return BlackBoxState(family, adam)


@dataclass(frozen=True)
class BbviState:
    """The family over all latents of the mixture, and the seed of the next step's draws."""

    ascent: BlackBoxState
    seed: int

    @property
    def posterior(self) -> MixturePosterior:
        """The factors over weights, means and precisions."""
        family = self.ascent.family
        free = FreeParameters(family["weights"].parameters, family["components"].parameters)
        return to_posterior(free)


class Bbvi:
    """Steps along the estimated gradient in free numbers, on all codes.

    A step of Adam does not grow with the gradient: codes should be of the order of 1.
    """

    def __init__(self, prior: MixturePrior, config: BbviConfig) -> None:
        self.prior = prior
        self.config = config

    def init(self, codes: Codes, generator: torch.Generator) -> BbviState:
        """Return the start: the best posterior for codes dealt out to spread seeds."""
        found = seeded_statistics(self.prior, codes, self.config.num_components, generator)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        return self.start(update(self.prior, found), codes, seed)

    def start(self, posterior: MixturePosterior, codes: Codes, seed: int) -> BbviState:
        """Return the state of a posterior and the best assignments given it."""
        family = mixture_family(posterior, posterior.log_responsibilities(codes))
        return BbviState(BlackBoxState.at_rest(family), seed)

    def step(self, state: BbviState, codes: Codes) -> BbviState:
        """Return the state after a step, with draws that the state's seed determines.

        Raises:
            ValueError: if these are not the codes that the state was started on.
        """
        number = len(state.ascent.family["assignments"].parameters)
        if number != len(codes):
            raise ValueError(
                f"codes: expected the {number} that assignments are about, got {len(codes)}; "
                "black box inference takes no batches"
            )
        terms = mixture_terms(self.prior, codes, self.config.num_components)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(torch.Generator().manual_seed(state.seed).get_state())
            ascent = black_box_step(state.ascent, terms, self.config)
        return BbviState(ascent, state.seed + 1)

    @torch.no_grad()
    def elbo(self, state: BbviState, codes: Codes) -> float:
        """Return the bound with the best assignments, in nats, in closed form."""
        return float(elbo(self.prior, state.posterior, codes))


def mixture_terms(prior: MixturePrior, codes: Codes, num_components: int) -> list[Term]:
    """Return the terms of log p(codes, assignments, components, weights).

    Draws of ``components`` are those of ``NormalWishart``, (S, K, Z, Z + 1).
    """
    x = torch.cat(list(chunks(codes, num_components)))
    before = prior.components(num_components)
    of_weights = _dirichlet(before.concentration.log())
    of_components = NormalWishart(
        NormalWishartParameters(
            before.mean, before.mean_precision, before.scale_inverse, before.degrees
        )
    )

    def assignments(draws: Draws) -> Tensor:
        smallest = torch.finfo(x.dtype).tiny
        return draws["weights"].clamp(min=smallest).log().gather(1, draws["assignments"])

    def likelihood(draws: Draws) -> Tensor:
        components = draws["components"][:, None]
        log_density = log_normal(x[:, None], components[..., 0], components[..., 1:])
        return F.one_hot(draws["assignments"], num_components) * log_density

    return [
        Term(lambda draws: of_weights.log_prob(draws["weights"]), ("weights",)),
        Term(lambda draws: of_components.log_prob(draws["components"]), ("components",), "k"),
        Term(assignments, ("weights", "assignments"), "n"),
        Term(likelihood, ("assignments", "components"), "nk"),
    ]


def mixture_family(posterior: MixturePosterior, log_responsibilities: Tensor) -> MeanField:
    """Return q of the mixture, with a categorical for each row of responsibilities (N, K)."""
    free = to_free(posterior)
    return {
        "weights": Factor(free.weights, _dirichlet),
        "components": Factor(free.components, _normal_wishart, "k"),
        "assignments": Factor(log_responsibilities, _categorical, "n"),
    }


def _dirichlet(parameters: Tensor) -> Distribution:
    return Dirichlet(parameters.exp(), validate_args=False)


def _normal_wishart(parameters: Tensor) -> Distribution:
    return NormalWishart(constrained_component(parameters))


def _categorical(parameters: Tensor) -> Distribution:
    return Categorical(logits=parameters, validate_args=False)
