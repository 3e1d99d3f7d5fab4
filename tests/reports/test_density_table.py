from cardiac_vae.reports.density_table import densities
from cardiac_vae.reports.inputs import RecipeResults


def of(mean, low, high):
    return {"mean": mean, "low": low, "high": high, "n": 9}


def recipe(name, found):
    return RecipeResults(name, {}, {}, {}, {}, {"densities": found} if found else {})


def scores(share, gain):
    return {
        "valid_samples": [of(share, share - 0.05, share + 0.05), of(0.98, 0.95, 0.99)],
        "nats_gained": gain,
        "frechet": of(1.25, 1.0, 1.5),
        "coverage": of(0.75, 0.7, 0.8),
    }


def test_each_density_is_a_line_and_the_prior_gains_nothing():
    found = {"prior": scores(0.11, None), "mixture": scores(0.93, of(30.04, 21.0, 39.0))}
    section = densities([recipe("vae", found), recipe("vq_vae", {})])
    table = section.parts[-1]
    prior, mixture = table.split("<tr>")[-2:]
    assert "vae: its own prior" in prior
    assert "<td class='first'>11.0<small>[6.0, 16.0]</small></td>" in prior
    assert prior.count("\N{EN DASH}") == 1
    assert "vae: Bayesian mixture" in mixture
    assert "30.0<small>[21.0, 39.0]</small>" in mixture
    assert "after pass 1" in table
    assert "vq_vae" not in table


def test_what_rejection_comes_to_has_its_columns_where_it_was_scored():
    found = {"prior": scores(0.11, None), "kernels": scores(0.7, of(20.0, 18.0, 23.0))}
    assert "Tries per heart" not in densities([recipe("vae", found)]).parts[-1]
    for kind, tries in (("prior", None), ("kernels", 1.43)):
        found[kind]["rejection"] = {
            "valid_samples": of(1.0, 0.98, 1.0),
            "acceptance": of(0.7, 0.6, 0.8),
            "tries_per_heart": tries,
            "frechet": of(0.5, 0.4, 0.6),
            "coverage": of(0.81, 0.8, 0.82),
        }
    table = densities([recipe("vae", found)]).parts[-1]
    assert "Tries per heart" in table
    prior, kernels = table.split("<tr>")[-2:]
    assert "<td>1.4</td>" in kernels
    assert "<td>\N{EN DASH}</td>" in prior
    assert "81.0<small>[80.0, 82.0]</small>" in kernels


def test_a_study_without_densities_has_no_such_section():
    assert densities([recipe("vq_vae", {})]).parts == []
