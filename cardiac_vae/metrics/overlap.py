"""How much of two masks coincides."""

import numpy as np


def dice(reference: np.ndarray, predicted: np.ndarray) -> float:
    """Return the Dice coefficient of two bool masks of one shape, in [0, 1].

    NaN if both are empty, for there is nothing to find; 0 if one is.

    Raises:
        ValueError: if the shapes differ.
    """
    if reference.shape != predicted.shape:
        raise ValueError(
            f"expected two masks of one shape, got {reference.shape} and {predicted.shape}"
        )
    total = np.count_nonzero(reference) + np.count_nonzero(predicted)
    if not total:
        return float("nan")
    return float(2 * np.count_nonzero(reference & predicted) / total)
