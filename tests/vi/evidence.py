"""What bounds are checked against: exact evidences, from predictive densities one after another."""

from functools import cache
from itertools import product

import numpy as np
import torch
from scipy.special import gammaln, logsumexp
from scipy.stats import multivariate_t

from cardiac_vae.vi.mixture import MixturePrior


def a_prior(size: int, concentration: float = 0.7) -> MixturePrior:
    """Return a prior with no two parameters alike."""
    root = torch.eye(size).double() + 0.2 * torch.arange(size * size).reshape(size, size).double()
    scale_inverse = root @ root.T / size
    mean = torch.linspace(-0.5, 1.0, size).double()
    return MixturePrior(concentration, mean, 0.6, scale_inverse, size + 1.3)


def one_component_evidence(prior: MixturePrior, codes: np.ndarray) -> float:
    """Return log p(codes) of one normal-Wishart component: a product of t predictives.

    After each code the parameters are updated by the textbook recursion for one code.
    """
    mean, scale = prior.mean.numpy(), prior.scale_inverse.numpy()
    kappa, degrees = prior.mean_precision, prior.degrees
    size, total = len(mean), 0.0
    for code in codes:
        freedom = degrees + 1 - size
        shape = scale * (kappa + 1) / (kappa * freedom)
        total += float(multivariate_t.logpdf(code, mean, shape, freedom))
        offset = code - mean
        scale = scale + kappa / (kappa + 1) * np.outer(offset, offset)
        mean = mean + offset / (kappa + 1)
        kappa, degrees = kappa + 1, degrees + 1
    return total


def evidence(prior: MixturePrior, codes: np.ndarray, num_components: int) -> float:
    """Return log p(codes) of the mixture: a sum over all K^N assignments."""
    alpha, number = prior.concentration, len(codes)

    @cache
    def together(members: tuple[int, ...]) -> float:
        return one_component_evidence(prior, codes[list(members)])

    terms = []
    for labels in map(np.array, product(range(num_components), repeat=number)):
        counts = np.bincount(labels, minlength=num_components)
        term = gammaln(num_components * alpha) - gammaln(num_components * alpha + number)
        term += (gammaln(alpha + counts) - gammaln(alpha)).sum()
        for component in range(num_components):
            term += together(tuple(np.flatnonzero(labels == component).tolist()))
        terms.append(term)
    return float(logsumexp(terms))


def clusters(
    rng: np.random.Generator, sizes: tuple[int, ...] = (120, 80, 200), distance: float = 8.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (N, 2) of well separated normals, shuffled, and the component of each (N,)."""
    roots = [np.array([[1.0, 0.0], [0.5 * k, 0.5 + 0.3 * k]]) for k in range(len(sizes))]
    centers = distance * np.array([[np.cos(k), np.sin(k)] for k in 2.1 * np.arange(len(sizes))])
    codes = [
        rng.standard_normal((number, 2)) @ root.T + center
        for number, root, center in zip(sizes, roots, centers, strict=True)
    ]
    order = rng.permutation(sum(sizes))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.concatenate(codes)[order], labels[order]
