import numpy as np
import pytest

from cardiac_vae.anatomy.measurements import ejection_fraction, myocardial_mass_g, volume_ml
from cardiac_vae.labels import Structure


def test_volume_counts_voxels_in_milliliters():
    mask = np.zeros((4, 30, 30), np.uint8)
    mask[1:3, 5:15, 5:25] = Structure.LV  # 400 voxels of 2 x 2 x 10 mm
    mask[0, 0, :10] = Structure.RV
    assert volume_ml(mask, Structure.LV, (10.0, 2.0, 2.0)) == pytest.approx(16.0)
    assert volume_ml(mask, Structure.RV, (10.0, 2.0, 2.0)) == pytest.approx(0.4)
    assert volume_ml(mask, Structure.MYO, (10.0, 2.0, 2.0)) == 0


def test_mass_is_volume_times_density():
    mask = np.full((1, 10, 10), Structure.MYO, np.uint8)
    assert myocardial_mass_g(mask, (10.0, 1.0, 1.0)) == pytest.approx(1.05)


def test_ejection_fraction():
    assert ejection_fraction(150.0, 60.0) == pytest.approx(60.0)
    assert ejection_fraction(100.0, 100.0) == 0
    assert ejection_fraction(100.0, 120.0) == pytest.approx(-20.0)
    assert np.isnan(ejection_fraction(0.0, 0.0))


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"expected a label map \(D, H, W\), got shape \(3, 3\)"):
        volume_ml(np.zeros((3, 3), np.uint8), Structure.LV, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="spacing_mm: expected three positive"):
        volume_ml(np.zeros((3, 3, 3), np.uint8), Structure.LV, (1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="expected volumes of 0 ml or more"):
        ejection_fraction(-1.0, 0.0)
