import numpy as np
import pytest
from scipy import stats
from scipy.special import entr, softmax

from cardiac_vae.labels import Structure
from cardiac_vae.refinement.appearance import AppearanceConfig, AppearanceModel
from cardiac_vae.refinement.observation import one_hot_planes, soft_mask

PIXEL_MM = (1.5, 1.5)


@pytest.fixture
def mask(heart) -> np.ndarray:
    """Return (2, 60, 60): one heart in two slices."""
    return np.stack([heart((60, 60)), heart((60, 60), wall_mm=6.0)])


@pytest.fixture
def scan(mask, rng) -> np.ndarray:
    """Return blood at 300, myocardium at 120, and a background of lung and fat, with noise."""
    means = np.array([0.0, 300.0, 120.0, 300.0])[mask]
    means += (mask == Structure.BACKGROUND) * np.where(np.arange(60) < 30, 40.0, 400.0)
    return means + rng.normal(0, 25, mask.shape)


def bound(model: AppearanceModel, appearance, belief, log_prior) -> float:
    score = model.log_likelihood(appearance) + log_prior
    return float((belief * score).sum() + entr(belief).sum()) - model.kl(appearance)


def test_it_finds_the_tissues_and_moves_a_shifted_mask_back(mask, scan):
    shifted = np.roll(mask, (1, 1), axis=(1, 2))
    log_prior = np.log(soft_mask(shifted, PIXEL_MM).astype(float))
    model = AppearanceModel(scan, AppearanceConfig(weight=0.5))
    appearance = model.start(one_hot_planes(shifted))
    assert appearance.refusal == ""
    belief = softmax(model.log_likelihood(appearance) + log_prior, axis=1)
    for _ in range(5):
        appearance = model.update(appearance, belief)
        belief = softmax(model.log_likelihood(appearance) + log_prior, axis=1)
    before, after = ((found != mask).mean() for found in (shifted, belief.argmax(axis=1)))
    assert after < 0.5 * before
    myocardium, blood = (
        appearance.tissues.mean[:2] * scan.std() + scan.mean()  # clipping moves both a little
    )
    assert myocardium == pytest.approx(120, abs=15)
    assert blood == pytest.approx(300, abs=15)


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_no_step_lowers_the_bound(mask, scan, weight):
    log_prior = np.log(soft_mask(mask, PIXEL_MM).astype(float))
    model = AppearanceModel(scan, AppearanceConfig(weight=weight))
    belief = softmax(log_prior, axis=1)
    appearance = model.start(belief)
    bounds = [bound(model, appearance, belief, log_prior)]
    for _ in range(10):
        belief = softmax(model.log_likelihood(appearance) + log_prior, axis=1)
        bounds.append(bound(model, appearance, belief, log_prior))
        appearance = model.update(appearance, belief)
        bounds.append(bound(model, appearance, belief, log_prior))
    assert (np.diff(bounds) > -1e-7).all()
    assert bounds[-1] > bounds[0] + 1


def test_of_a_decided_mask_the_bound_is_the_evidence(rng):
    """One normal per tissue and nothing else: the evidence is Student's t of all its pixels."""
    mask = rng.integers(0, 4, (2, 12, 12))
    settings = AppearanceConfig(
        background_tissues=1, anything=1e-300, weight=1.0, least_separation=0
    )
    model = AppearanceModel(rng.normal(mask, 0.5), settings)
    belief = one_hot_planes(mask).astype(float)
    appearance = model.start(belief)
    found = (belief * model.log_likelihood(appearance)).sum() - model.kl(appearance)

    prior = model.prior.tissues
    expected = 0.0
    for members in ((Structure.MYO,), (Structure.RV, Structure.LV), (Structure.BACKGROUND,)):
        seen = model.values[np.isin(mask, members).ravel()]
        scale = prior.rate[0] / prior.shape[0] * (np.eye(len(seen)) + 1 / prior.strength[0])
        of_all = stats.multivariate_t(np.zeros(len(seen)), scale, 2 * prior.shape[0])
        expected += of_all.logpdf(seen)
    assert found == pytest.approx(expected, rel=1e-9)


def test_half_the_weight_is_half_the_pixels(mask, scan):
    whole, half = (
        AppearanceModel(scan, AppearanceConfig(weight=weight, background_tissues=1))
        for weight in (1.0, 0.5)
    )
    belief = one_hot_planes(mask)
    strengths = [model.start(belief).tissues.strength - 0.01 for model in (whole, half)]
    np.testing.assert_allclose(strengths[1], strengths[0] / 2, rtol=0.02)
    silent = AppearanceModel(scan, AppearanceConfig(weight=0))
    assert not silent.log_likelihood(silent.start(belief)).any()
    assert silent.kl(silent.prior) == 0


def test_an_odd_pixel_decides_nothing(mask, scan):
    """A dark muscle in the cavity is not myocardium for certain, and a glare is nothing at all."""
    model = AppearanceModel(scan, AppearanceConfig(weight=1.0))
    appearance = model.start(one_hot_planes(mask))
    found = model.log_likelihood(appearance)
    apart = np.abs(found[:, Structure.MYO] - found[:, Structure.LV])
    peak = appearance.tissues.expected_log_density(appearance.tissues.mean).diagonal()[:2].max()
    assert apart.max() < peak - found.min() + 1e-9
    assert apart.max() < 6
    scan[0, 0, 0] = 1e6
    glaring = AppearanceModel(scan, AppearanceConfig(weight=1.0))
    found = glaring.log_likelihood(glaring.start(one_hot_planes(mask)))
    assert abs(found[0, Structure.MYO, 0, 0] - found[0, Structure.LV, 0, 0]) < 0.1


def test_tissues_that_look_alike_are_refused_with_the_reason(mask, scan, rng):
    alike = scan.copy()
    alike[mask > 0] = rng.normal(200, 25, np.count_nonzero(mask))
    model = AppearanceModel(alike)
    appearance = model.start(one_hot_planes(mask))
    assert "myocardium and blood lie 0." in appearance.refusal
    assert appearance.separation < 0.2
    assert not model.log_likelihood(appearance).any()
    assert model.kl(appearance) == 0
    assert model.update(appearance, one_hot_planes(mask)).refusal == appearance.refusal


def test_separation_is_the_means_apart_in_standard_deviations(mask, scan):
    model = AppearanceModel(scan, AppearanceConfig(weight=1.0))
    assert model.start(one_hot_planes(mask)).separation == pytest.approx(180 / 25, rel=0.1)


@pytest.mark.parametrize(("missing", "name"), [((2,), "myocardium"), ((1, 3), "blood")])
def test_a_tissue_that_is_not_drawn_is_refused(mask, scan, missing, name):
    without = np.where(np.isin(mask, missing), 0, mask)
    model = AppearanceModel(scan)
    refusal = model.start(one_hot_planes(without)).refusal
    assert refusal == f"the image is not used: 0 pixels of {name} are drawn, fewer than 30"


def test_bad_images_are_refused(scan):
    with pytest.raises(ValueError, match=r"expected an image \(D, H, W\), got shape \(60, 60\)"):
        AppearanceModel(scan[0])
    broken = scan.copy()
    broken[0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="expected finite intensities, got 1 pixels"):
        AppearanceModel(broken)
    with pytest.raises(ValueError, match="expected an image with contrast, got 7 nearly every"):
        AppearanceModel(np.full((1, 8, 8), 7.0))
    with pytest.raises(ValueError, match=r"q\(x\) of shape \(2, 4, 60, 60\)"):
        AppearanceModel(scan).start(np.zeros((1, 4, 60, 60)))
