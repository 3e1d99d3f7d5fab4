"""Valid shapes seen in training: where a refinement falls back when nothing nearer is a heart."""

from pathlib import Path

import numpy as np

from cardiac_vae.anatomy.criteria import is_valid

ANCHORS = "anchors.npz"
_CHUNK = 64  # anchors scored at a time: bounds memory


def valid_shapes(masks: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    """Return those of the slices (N, H, W) that show a heart and break no criterion."""
    return masks[plausible(masks, pixel_mm)]


def plausible(masks: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    """Return which of the slices (N, H, W) show a heart and break no criterion, (N,) bool."""
    return np.array([bool(mask.any()) and is_valid(mask, pixel_mm) for mask in masks], bool)


def write_anchors(folder: Path, anchors: np.ndarray) -> None:
    """Write anchors (N, H, W) uint8 into a model's folder."""
    beside = folder / f"part-{ANCHORS}"
    np.savez_compressed(beside, masks=anchors.astype(np.uint8))
    beside.replace(folder / ANCHORS)


def read_anchors(folder: Path) -> np.ndarray:
    """Read the anchors (N, H, W) uint8 of a model's folder.

    Raises:
        FileNotFoundError: if it has none.
    """
    path = folder / ANCHORS
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected the valid shapes that the model was trained on, found none; "
            "train the model again, or copy its folder whole"
        )
    with np.load(path) as arrays:
        return arrays["masks"]


def nearest(anchors: np.ndarray, log_score: np.ndarray, count: int) -> np.ndarray:
    """Return the ``count`` anchors with the largest total log-score, best first, (count, H, W).

    ``log_score`` is (C, H, W): what each pixel gains, in nats, by each class.
    """
    pixels = np.arange(log_score[0].size)
    flat = log_score.reshape(len(log_score), -1)
    totals = np.concatenate(
        [
            flat[chunk.reshape(len(chunk), -1), pixels].sum(axis=1)
            for chunk in np.split(anchors, range(_CHUNK, len(anchors), _CHUNK))
        ]
    )
    return anchors[np.argsort(-totals, kind="stable")[:count]]
