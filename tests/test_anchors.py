import numpy as np
import pytest

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.anchors import nearest, read_anchors, valid_shapes, write_anchors

PIXEL_MM = (1.5, 1.5)


@pytest.fixture
def slices():
    """Return (4, 40, 40): a heart, nothing, a heart with a broken wall, the heart once more."""
    rows, columns = np.mgrid[:40, :40]
    radius = np.hypot(rows - 20, columns - 20)
    heart = np.zeros((40, 40), np.uint8)
    heart[radius < 10] = 2
    heart[radius < 6] = 3
    broken = heart.copy()
    broken[20, 20:32] = 3
    return np.stack([heart, np.zeros_like(heart), broken, heart])


def test_only_valid_hearts_are_anchors(slices):
    anchors = valid_shapes(slices, PIXEL_MM)
    np.testing.assert_array_equal(anchors, slices[[0, 3]])
    assert all(is_valid(anchor, PIXEL_MM) for anchor in anchors)
    assert valid_shapes(slices[1:3], PIXEL_MM).shape == (0, 40, 40)


def test_anchors_on_file_come_back(slices, tmp_path):
    write_anchors(tmp_path, slices)
    read = read_anchors(tmp_path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, slices)
    assert [path.name for path in tmp_path.iterdir()] == ["anchors.npz"]
    write_anchors(tmp_path, slices[:1])
    assert len(read_anchors(tmp_path)) == 1
    with pytest.raises(FileNotFoundError, match=r"expected the valid shapes .* found none; train"):
        read_anchors(tmp_path / "nowhere")


@pytest.mark.parametrize("num_anchors", [1, 3, 64, 150])
def test_the_nearest_are_those_of_brute_force(rng, num_anchors):
    anchors = rng.integers(0, 4, (num_anchors, 5, 6)).astype(np.uint8)
    log_score = rng.normal(size=(4, 5, 6))
    totals = [
        sum(log_score[anchor[place]][place] for place in np.ndindex(5, 6)) for anchor in anchors
    ]
    order = np.argsort(totals)[::-1]
    for count in (1, 3, 1000):
        np.testing.assert_array_equal(nearest(anchors, log_score, count), anchors[order[:count]])


def test_an_anchor_that_is_what_was_seen_comes_first(slices):
    seen = np.full((4, 40, 40), -5.0)
    np.put_along_axis(seen, slices[2][None].astype(int), 0.0, axis=0)
    np.testing.assert_array_equal(nearest(slices, seen, 1)[0], slices[2])
