"""How a set of samples resembles a set of real hearts, and how much variation a set holds.

Rows are hearts, columns numbers that describe them; which numbers is the caller's choice.

    Frechet distance  |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))     (Heusel et al. 2017)
    coverage          share of real hearts with a sample within the distance of their k-th
                      real neighbor                                   (Naeem et al. 2020)
    density           mean number of such neighborhoods that a sample lies in, over k  (the same)
    compactness       C(M) = sum of the variances of the first M modes (Styner et al. 2003)
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist

from cardiac_vae.labels import HEART


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the squared Frechet distance of the normals fitted to features (N, F) and (M, F).

    In the square of the features' unit. It sees means and covariances and nothing else, and is
    biased upwards for few rows: compare only what was computed from as many.

    Raises:
        ValueError: if the features do not agree or a set has fewer than two rows.
    """
    _require_sets(first, second, least=2)
    covariances = [np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (first, second)]
    # tr (C1 C2)^(1/2) through the symmetric R C2 R, R = C1^(1/2), which has the same eigenvalues.
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ covariances[1] @ root)
    traces = sum(np.trace(covariance) for covariance in covariances)
    shift = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    return float(max(0.0, shift + traces - 2 * np.sqrt(np.maximum(shared, 0)).sum()))


def frechet_beside_floor(
    samples: np.ndarray,
    real: np.ndarray,
    patients: Sequence[str],
    num_splits: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Frechet distance of samples to real hearts, and of real hearts to each other.

    Each of ``num_splits`` times the patients are dealt into two halves. The first value is the
    distance of samples (N, F) to the second half, the second that of the first half to the second:
    (num_splits,) each, all three sets cut at random to the size of the smallest. Samples of the
    whole population may score below that floor: a half has the peculiarities of its own patients.

    Raises:
        ValueError: if there are fewer than two patients or ``frechet_distance`` cannot be computed.
    """
    owners = np.asarray(patients)
    names = np.unique(owners)
    if len(names) < 2 or len(owners) != len(real):
        raise ValueError(
            f"expected real features of two patients or more with one name each, got {len(real)} "
            f"rows and {len(owners)} names of {len(names)} patients"
        )
    distances = []
    for _ in range(num_splits):
        in_first = np.isin(owners, rng.permutation(names)[: len(names) // 2])
        sets = [samples, real[in_first], real[~in_first]]
        size = min(map(len, sets))
        drawn, half, other = (rows[rng.choice(len(rows), size, replace=False)] for rows in sets)
        distances.append((frechet_distance(drawn, other), frechet_distance(half, other)))
    to_samples, floor = np.array(distances).T
    return to_samples, floor


def coverage(real: np.ndarray, samples: np.ndarray, num_neighbors: int = 5) -> np.ndarray:
    """Return for each real heart (N, F) whether a sample (M, F) is in its neighborhood, (N,) bool.

    Raises:
        ValueError: if the features do not agree or there are not more real hearts than neighbors.
    """
    return np.any(_in_neighborhood(real, samples, num_neighbors), axis=1)


def density(real: np.ndarray, samples: np.ndarray, num_neighbors: int = 5) -> np.ndarray:
    """Return for each sample in how many neighborhoods it lies, over their expected number, (M,).

    The mean is about 1 for samples like the real hearts, more if they crowd where real ones do.

    Raises:
        ValueError: as ``coverage``.
    """
    return _in_neighborhood(real, samples, num_neighbors).sum(axis=0) / num_neighbors


def compactness(shapes: np.ndarray) -> np.ndarray:
    """Return the variance of the first 1, 2, ... modes together, of shapes (N, F).

    In the square of the shapes' unit, (min(N - 1, F),): the modes are the principal axes.

    Raises:
        ValueError: if there are fewer than two shapes.
    """
    if shapes.ndim != 2 or len(shapes) < 2:
        raise ValueError(f"shapes: expected two rows or more (N, F), got shape {shapes.shape}")
    centered = (shapes - shapes.mean(axis=0)).astype(np.float64)
    products = centered @ centered.T if len(shapes) < shapes.shape[1] else centered.T @ centered
    number = min(len(shapes) - 1, shapes.shape[1])
    variances = np.maximum(np.linalg.eigvalsh(products)[::-1][:number], 0) / (len(shapes) - 1)
    return np.cumsum(variances)


def num_modes(cumulative: np.ndarray, share: float) -> int:
    """Return how many modes hold a share of the variance; ``cumulative`` is of ``compactness``."""
    reached = cumulative >= share * cumulative[-1] * (1 - 1e-12)
    return int(reached.argmax()) + 1


def signed_distance_maps(
    masks: np.ndarray, pixel_mm: tuple[float, float], limit_mm: float = 20.0
) -> np.ndarray:
    """Return label maps (N, H, W) as distances to the border of each structure, (N, 3 * H * W).

    In mm, float32: negative inside, positive outside, cut at the limit, so that a structure that is
    absent is at the limit everywhere. RV, MYO, LV after one another.
    """
    maps = np.full((len(masks), len(HEART), *masks.shape[1:]), limit_mm, np.float32)
    for index, mask in enumerate(masks):
        for channel, structure in enumerate(HEART):
            inside = mask == structure
            if inside.any():
                outwards = ndimage.distance_transform_edt(~inside, sampling=pixel_mm)
                inwards = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=pixel_mm)
                maps[index, channel] = outwards - inwards[1:-1, 1:-1]
    return np.clip(maps, -limit_mm, limit_mm).reshape(len(masks), -1)


def _in_neighborhood(real: np.ndarray, samples: np.ndarray, num_neighbors: int) -> np.ndarray:
    """Return (N, M) bool: is the sample no farther than the real heart's k-th real neighbor."""
    _require_sets(real, samples, least=1)
    if not 1 <= num_neighbors < len(real):
        raise ValueError(
            f"num_neighbors: expected 1 to {len(real) - 1}, fewer than the {len(real)} real "
            f"hearts, got {num_neighbors}"
        )
    among = np.partition(cdist(real, real), num_neighbors, axis=1)  # the nearest is itself
    return cdist(real, samples) <= among[:, num_neighbors, None]


def _require_sets(first: np.ndarray, second: np.ndarray, least: int) -> None:
    shapes = (first.shape, second.shape)
    agree = first.ndim == 2 and second.ndim == 2 and first.shape[1] == second.shape[1]
    if not agree or min(len(first), len(second)) < least:
        raise ValueError(
            f"expected features (N, F) and (M, F) with {least} rows or more each, "
            f"got {shapes[0]} and {shapes[1]}"
        )
