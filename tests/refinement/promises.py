"""What a refiner promises of every result, and what a segmenter and a scanner make of a heart."""

import numpy as np
import pytest

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.result import UNTOUCHED
from cardiac_vae.refinement.stack.consistency import inconsistencies

SPACING_MM = (8.0, 1.5, 1.5)


def soft(rng, mask):
    """Return a segmenter's probabilities (D, C, H, W) that mostly agree with a mask."""
    logits = 3 * one_hot_planes(mask) + rng.normal(size=(len(mask), 4, *mask.shape[1:]))
    odds = np.exp(logits)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def intensities(mask):
    """Return a scan (D, H, W) of a mask: dark surroundings, gray muscle, bright blood, noise."""
    noise = np.random.default_rng(0).normal(scale=8.0, size=mask.shape)
    return np.array([40.0, 200.0, 90.0, 200.0])[mask] + noise


def assert_kept_promises(result, mask, spacing_mm):
    assert result.mask.dtype == np.uint8
    assert result.mask.shape == mask.shape
    assert result.after == check_volume(result.mask, spacing_mm)
    changed = (result.mask != mask).sum(axis=(1, 2))
    assert [decision.changed_pixels for decision in result.slices] == changed.tolist()
    assert [decision.index for decision in result.slices] == list(range(len(mask)))
    assert result.is_changed == bool(changed.any())
    if result.is_refused:
        np.testing.assert_array_equal(result.mask, mask)
        assert inconsistencies(mask, spacing_mm) or not result.before.is_valid
        with pytest.raises(ValueError, match="volume 0: expected slices that one heart") as e:
            result.unless_refused("volume 0")
        assert result.warnings[-1] in str(e.value)
        return
    assert result.after.is_valid
    assert inconsistencies(result.mask, spacing_mm) == []
    for decision, found in zip(result.slices, result.before.slices, strict=True):
        assert decision.route != UNTOUCHED or not any(found.values())
