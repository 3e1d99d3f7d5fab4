"""How codes (N, Z) relate to the true factors (N, F) that the hearts were made from.

    MIG   (I(z_1st; v) - I(z_2nd; v)) / H(v), the two codes that know most  (Chen et al. 2018)
    SAP   R^2(z_1st, v) - R^2(z_2nd, v), one code at a time                 (Kumar et al. 2018)
    DCI   from the importance R (Z, F) of each code in predicting each factor
          (Eastwood & Williams 2018): disentanglement, 1 - entropy over factors of a code's row,
          completeness, 1 - entropy over codes of a factor's column, informativeness, how well
          the factors are predicted at all
    TC    KL(q(z) || prod q(z_j)) of a normal with the codes' covariance

All but TC suppose factors that do not depend on each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

_NUM_TREES = 60


@dataclass(frozen=True)
class DCI:
    """The scores of Eastwood & Williams, each in [0, 1], higher is better.

    Attributes:
        disentanglement: Whether a code serves one factor; mean over codes by their importance.
        completeness: Whether a factor is served by one code; mean over factors by theirs.
        informativeness: Mean over factors of R^2 on cases that were held out, negative ones as 0.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def mutual_information_gap(
    codes: np.ndarray, factors: np.ndarray, num_bins: int = 10
) -> np.ndarray:
    """Return the gap of each factor, (F,), in [0, 1].

    Values are put into ``num_bins`` bins of as many cases each; a column with no more distinct
    values than that keeps them. The estimate is biased upwards for few cases per pair of bins, by
    about (num_bins - 1)^2 / 2N nats for each of the two codes, which cancels in their difference.

    Raises:
        ValueError: if codes and factors are not of the same cases, or a factor does not vary.
    """
    _require_pairs(codes, factors)
    binned = np.stack([_binned(column, num_bins) for column in codes.T], axis=1)
    gaps = []
    for column in factors.T:
        factor = _binned(column, num_bins)
        shared = np.sort([_mutual_information(code, factor) for code in binned.T])
        gaps.append(_gap(shared) / _entropy(np.bincount(factor)))
    return np.array(gaps)


def separated_attribute_predictability(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return SAP of each factor, (F,), in [0, 1]; a code that does not vary predicts nothing.

    Raises:
        ValueError: as ``mutual_information_gap``.
    """
    _require_pairs(codes, factors)
    standardized = []
    for columns in (codes, factors):
        centered = columns - columns.mean(axis=0)
        scale = np.sqrt(np.square(centered).mean(axis=0))
        standardized.append(np.divide(centered, scale, out=centered * 0, where=scale > 0))
    explained = np.square(standardized[0].T @ standardized[1] / len(codes))
    return np.array([_gap(np.sort(column)) for column in explained.T])


def dci(
    codes: np.ndarray,
    factors: np.ndarray,
    patients: Sequence[str],
    rng: np.random.Generator,
) -> DCI:
    """Return the scores with gradient-boosted trees, one set of them for each factor.

    Importance is the trees' share of the reduction of the squared error. They are fitted to three
    quarters of the patients; informativeness is measured on the others, for the cases of one
    patient are alike.

    Raises:
        ValueError: as ``mutual_information_gap``, or if there are fewer than two patients.
    """
    _require_pairs(codes, factors)
    is_held_out = _quarter_of(np.asarray(patients), rng)
    importance, predicted = [], []
    for factor in factors.T:
        trees = GradientBoostingRegressor(
            n_estimators=_NUM_TREES, random_state=int(rng.integers(2**31))
        )
        trees.fit(codes[~is_held_out], factor[~is_held_out])
        importance.append(trees.feature_importances_)
        predicted.append(trees.predict(codes[is_held_out]))
    scores = [
        _explained(truth, found)
        for truth, found in zip(factors[is_held_out].T, predicted, strict=True)
    ]
    disentanglement, completeness = dci_of_importance(np.stack(importance, axis=1))
    return DCI(disentanglement, completeness, float(np.mean(scores)))


def dci_of_importance(importance: np.ndarray) -> tuple[float, float]:
    """Return disentanglement and completeness of an importance matrix (Z, F), 0 or more each.

    Both are 0 where nothing is important to anything.

    Raises:
        ValueError: if a value is negative or there are not at least two codes and two factors.
    """
    if importance.ndim != 2 or min(importance.shape) < 2 or (importance < 0).any():
        raise ValueError(
            "importance: expected (Z, F) of two codes or more and two factors or more, none "
            f"negative, got shape {importance.shape}"
        )
    return _concentration(importance), _concentration(importance.T)


def total_correlation(codes: np.ndarray) -> float:
    """Return the total correlation in nats of a normal with the covariance of codes (N, Z).

    It is (sum_j log C_jj - log det C) / 2: 0 if no two codes are correlated, infinite if one is a
    linear function of others, as with fewer cases than codes. Codes that do not vary are left out.
    """
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(f"codes: expected two rows or more (N, Z), got shape {codes.shape}")
    varying = codes[:, codes.std(axis=0) > 0]
    if varying.shape[1] < 2:
        return 0.0
    sign, log_det = np.linalg.slogdet(np.corrcoef(varying, rowvar=False))
    is_singular = sign <= 0 or len(codes) <= varying.shape[1]
    return float("inf") if is_singular else max(0.0, float(-0.5 * log_det))


def _gap(ascending: np.ndarray) -> float:
    """Return what the last value has over the one before, 0 if there is none before."""
    return float(ascending[-1] - (ascending[-2] if len(ascending) > 1 else 0.0))


def _binned(column: np.ndarray, num_bins: int) -> np.ndarray:
    distinct, index = np.unique(column, return_inverse=True)
    if len(distinct) <= num_bins:
        return index
    edges = np.quantile(column, np.linspace(0, 1, num_bins + 1)[1:-1])
    return np.searchsorted(np.unique(edges), column, side="right")


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    width = int(second.max()) + 1
    joint = np.bincount(first * width + second)
    return _entropy(np.bincount(first)) + _entropy(np.bincount(second)) - _entropy(joint)


def _concentration(importance: np.ndarray) -> float:
    """Return 1 - entropy of each row, in units of log of its length, weighted by its sum."""
    total = importance.sum()
    if not total:
        return 0.0
    weights = importance.sum(axis=1)
    rows = importance[weights > 0]
    entropies = np.array([_entropy(row) for row in rows]) / np.log(importance.shape[1])
    return float(1 - (weights[weights > 0] / total) @ entropies)


def _explained(truth: np.ndarray, predicted: np.ndarray) -> float:
    spread = np.square(truth - truth.mean()).sum()
    missed = np.square(truth - predicted).sum()
    return max(0.0, 1 - float(missed / spread)) if spread else 0.0


def _quarter_of(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    names = np.unique(patients)
    if len(names) < 2:
        raise ValueError(f"patients: expected two or more, got {names.tolist()}")
    chosen = rng.permutation(names)[: max(1, len(names) // 4)]
    return np.isin(patients, chosen)


def _require_pairs(codes: np.ndarray, factors: np.ndarray) -> None:
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or not codes.size:
        raise ValueError(
            "expected codes (N, Z) and factors (N, F) of the same cases, "
            f"got {codes.shape} and {factors.shape}"
        )
    if (np.ptp(factors, axis=0) == 0).any():
        raise ValueError(
            "factors: expected each to vary, got constant columns "
            f"{np.flatnonzero(np.ptp(factors, axis=0) == 0).tolist()}"
        )
