import pytest

from cardiac_vae.segmentation.recipe import SegmenterRecipe

STUDY = {"steps": 1200, "validate_every": 300, "warmup_steps": 100, "seed": 3}


def test_a_recipe_that_says_nothing_is_fitted_as_the_study_says():
    config = SegmenterRecipe().fit_config(STUDY, "params")
    assert config.model_dump().items() >= STUDY.items()


def test_a_share_shrinks_the_whole_schedule_and_nothing_else():
    whole = SegmenterRecipe().fit_config(STUDY, "params")
    config = SegmenterRecipe(share_of_steps=0.2).fit_config(STUDY, "params")
    assert (config.steps, config.validate_every, config.warmup_steps) == (240, 60, 20)
    schedule = {"steps": 1200, "validate_every": 300, "warmup_steps": 100}
    assert config.model_copy(update=schedule) == whole


def test_a_share_of_few_steps_leaves_one_and_of_none_none():
    study = {"steps": 4, "validate_every": 2, "warmup_steps": 0}
    config = SegmenterRecipe(share_of_steps=0.1).fit_config(study, "params")
    assert (config.steps, config.validate_every, config.warmup_steps) == (1, 1, 0)


def test_the_recipe_s_settings_stand_in_place_of_the_study_s():
    recipe = SegmenterRecipe(fit={"steps": 100, "learning_rate": 0.5}, share_of_steps=0.5)
    config = recipe.fit_config(STUDY, "params")
    assert (config.steps, config.learning_rate, config.seed) == (50, 0.5, 3)


def test_an_unknown_setting_of_the_fit_is_named():
    with pytest.raises(ValueError, match="here: epochs: unknown parameter"):
        SegmenterRecipe(fit={"epochs": 3}).fit_config(STUDY, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {architecture: resnet}", "settings.architecture: .*'unet' or 'segresnet'"),
        ("share_of_steps: 1.5", "share_of_steps: .*less than or equal to 1, got 1.5"),
        ("num_patients: 0", "num_patients: .*greater than 0, got 0"),
        ("patients: 3", "patients: unknown parameter .known: settings, num_patients"),
    ],
)
def test_a_bad_recipe_is_refused_in_a_line_with_its_file(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"bad.yaml: {message}"):
        SegmenterRecipe.read(path)
