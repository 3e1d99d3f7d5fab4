"""The table has a line for what some model has, and says what the numbers rest on."""

from typing import Any

from cardiac_vae.reports.shape_scores import lines, notes

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
    "metrics": GENERATION["metrics"] | {"coverage": values(0.5), "frechet": values(3.0)},
}
CODES = {"num_slices": 300, "num_codes": 32, "mig": 0.25, "dci": {"completeness": 0.5}}


def test_a_model_without_a_figure_has_a_dash() -> None:
    scores = [
        {"likelihood": LIKELIHOOD, "generation": GENERATION | SAMPLES, "disentanglement": CODES},
        {"likelihood": None, "generation": GENERATION, "disentanglement": None},
    ]
    table = {title: cells for title, *cells in lines(scores)}
    assert table["Negative log-likelihood (nats)"] == ["200.0 [199.0, 201.0]", DASH]
    assert table["Generalization (mm)"] == ["0.75 [\N{MINUS SIGN}0.25, 1.75]"] * 2
    assert table["Coverage (%)"] == ["50.0 [\N{MINUS SIGN}50.0, 150.0]", DASH]
    assert table["Modes with 90 % of the variance"] == ["7", DASH]
    assert table["MIG"] == ["0.250", DASH]
    assert table["DCI, completeness"] == ["0.50", DASH]
    assert "SAP" not in table


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
    assert lines([{"metrics": {}}]) == []
    assert notes([{"metrics": {}}]) == []
