"""A measure is found where the scores have it, under the name that MLflow has for it."""

from typing import Any

import pytest

from cardiac_vae.reports.shape_scores import MEASURES, known, measure, notes

DASH = "\N{EN DASH}"


def values(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 1, "high": mean + 1, "n": 9}


LIKELIHOOD: dict[str, Any] = {
    "num_draws": 1000,
    "num_slices": 60,
    "num_patients": 10,
    "metrics": {"negative_log_likelihood": values(200.0), "bits_per_dimension": values(2.0)},
}
GENERATION: dict[str, Any] = {
    "num_held_out_slices": 190,
    "num_train_slices": 1482,
    "generalization_median_mm": 0.5,
    "metrics": {"generalization_mm": values(0.75)},
}
SAMPLES: dict[str, Any] = {
    "num_samples": 256,
    "temperature": 1.0,
    "num_neighbors": 5,
    "num_splits": 20,
    "modes": 7,
    "real_modes": 9,
    "metrics": GENERATION["metrics"] | {"coverage": values(0.5), "frechet": values(3.0)},
}
CODES = {"num_slices": 300, "num_codes": 32, "mig": 0.25, "dci": {"completeness": 0.5}}
FULL = {"likelihood": LIKELIHOOD, "generation": GENERATION | SAMPLES, "disentanglement": CODES}
LACKING = {"likelihood": None, "generation": GENERATION, "disentanglement": None}


def texts(path: str) -> list[str]:
    return [measure(path).text(scores) for scores in (FULL, LACKING)]


def test_a_model_without_a_figure_has_a_dash() -> None:
    nll = "likelihood/metrics/negative_log_likelihood"
    assert texts(nll) == ["200.0 [199.0, 201.0]", DASH]
    both = ["0.75 [\N{MINUS SIGN}0.25, 1.75]"] * 2
    assert texts("generation/metrics/generalization_mm") == both
    assert texts("generation/metrics/coverage") == ["50.0 [\N{MINUS SIGN}50.0, 150.0]", DASH]
    assert texts("generation/modes") == ["7", DASH]
    assert texts("disentanglement/mig") == ["0.250", DASH]
    assert texts("disentanglement/dci/completeness") == ["0.50", DASH]


def test_what_no_model_has_is_not_known() -> None:
    found = [of.path for of in known(MEASURES["Disentanglement"], [LACKING, FULL])]
    assert found == ["disentanglement/mig", "disentanglement/dci/completeness"]
    assert known(MEASURES["Disentanglement"], [LACKING]) == []


def test_real_masks_have_the_same_measure() -> None:
    assert measure("generation/modes").of_real(FULL) == {"mean": 9}
    assert measure("generation/modes").of_real(LACKING) is None
    assert measure("disentanglement/mig").of_real(FULL) is None


def test_a_table_with_less_room_has_other_digits_of_the_same_measure() -> None:
    short = measure("generation/metrics/coverage", title="Cover", digits=0)
    assert (short.heading, short.text(FULL)) == (
        "Cover (%)",
        "50 [\N{MINUS SIGN}50, 150]",
    )
    with pytest.raises(ValueError, match="path: expected that of a measure, got 'dice'"):
        measure("dice")


def test_every_measure_has_one_path_and_one_title() -> None:
    every = [of for group in MEASURES.values() for of in group]
    assert len({of.path for of in every}) == len({of.title for of in every}) == len(every)


def test_the_notes_give_the_numbers_behind_the_lines() -> None:
    likelihood, generation = notes(
        [{"generation": GENERATION}, {"generation": GENERATION | SAMPLES, "likelihood": LIKELIHOOD}]
    )
    assert "1000 draws of 60 slices of 10 patients" in likelihood
    assert "256 samples at temperature 1 to the nearest of 1482 training slices" in generation
    (without_samples,) = notes([{"generation": GENERATION}])
    assert "190 held-out slices" in without_samples
    assert "Specificity" not in without_samples


def test_a_study_from_before_these_figures_has_none_of_them() -> None:
    assert [known(group, [{"metrics": {}}]) for group in MEASURES.values()] == [[]] * len(MEASURES)
    assert notes([{"metrics": {}}]) == []
