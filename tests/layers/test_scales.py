import pytest

from cardiac_vae.layers.scales import Scales


def test_each_scale_is_half_the_size_of_the_one_before():
    scales = Scales(image_size=48, patch_size=2, channels=(4, 8, 8))
    assert [scales.size_at(scale) for scale in range(3)] == [24, 12, 6]
    assert scales.coarsest_size == 6


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="image_size 90 is not divisible by 16"):
        Scales(image_size=90, channels=(4, 4, 4))
    assert Scales(image_size=90, patch_size=2, channels=(4,)).coarsest_size == 45
