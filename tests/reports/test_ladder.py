"""Many recipes are rows: what is best, what is marked, and what real hearts score."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from ladder_of import FAMILIES, interval, ladder

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.models import build_model
from cardiac_vae.reports.inputs import RecipeResults
from cardiac_vae.reports.ladder import tables
from cardiac_vae.reports.rungs import FAMILY_COLORS, Rung, rungs
from cardiac_vae.reports.tables import Cell, Line, stacked_table

ROOT = Path(__file__).parents[2]
DASH, TOLD, TOKENS = "\N{EN DASH}", "\N{DAGGER}", "\N{DOUBLE DAGGER}"


class Rows(HTMLParser):
    """The rows of the tables as lists of texts: label, cells; what is bold stands in stars."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "small" and self.rows[-1][-1]:
            self.rows[-1][-1] += " "
        elif tag == "b":
            self.rows[-1][-1] += "*"

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def headline(found: list[Rung]) -> dict[str, dict[str, str]]:
    """Return the first table as label -> title -> text."""
    over, titles, *rows = Rows(tables(found)[0]).rows
    groups = ["Reconstruction", "Nats per slice", "Latent scalars", "Drawn from the prior", "Cost"]
    assert over[1:] == groups
    titles = [title.strip() for title in titles[1:]]
    return {row[0]: dict(zip(titles, row[1:], strict=True)) for row in rows}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    return headline(ladder())


def test_the_ladder_that_is_tested_is_that_of_the_project() -> None:
    assert set(FAMILIES) == {path.stem for path in (ROOT / "configs" / "models").glob("*.yaml")}
    assert set(FAMILIES.values()) <= set(FAMILY_COLORS)
    assert len(set(FAMILY_COLORS.values())) == len(FAMILY_COLORS)


def test_each_recipe_is_a_row_and_each_family_a_body(rows: dict[str, dict[str, str]]) -> None:
    assert list(rows) == ["Real hearts", *FAMILIES]
    table = tables(ladder())[0]
    assert table.startswith("<div class='scroll'>")
    assert table.count("<tbody>") == 1 + len(set(FAMILIES.values()))
    colors = re.findall(r"class='swatch' style='background:(#\w+)'", table)
    assert colors == [FAMILY_COLORS[family] for family in FAMILIES.values()]


def test_a_number_stands_above_its_interval(rows: dict[str, dict[str, str]]) -> None:
    assert rows["beta_vae"]["Dice"] == "0.948 [0.945, 0.951]"
    assert rows["beta_vae"]["Neg. ELBO"] == "360 [356, 364]"
    assert rows["beta_vae"]["Size million"] == "1.50"


def test_a_dash_stands_where_a_model_has_no_bound_no_prior_no_steps(
    rows: dict[str, dict[str, str]],
) -> None:
    assert [rows[name]["Neg. ELBO"] == DASH for name in ("pca", "ae", "vae")] == [True, True, False]
    assert [rows[name]["Coverage %"] == DASH for name in ("pca", "ae", "dae")] == [
        False,
        True,
        True,
    ]
    assert rows["pca"]["Size million"] == DASH


def test_the_best_are_those_whose_intervals_meet_that_of_the_best(
    rows: dict[str, dict[str, str]],
) -> None:
    # Steps of 0.002 with intervals of 0.006: the best and three below.
    bold = [name for name, cells in rows.items() if cells["Dice"].startswith("*")]
    assert bold == list(FAMILIES)[-4:]
    # Lower is better: steps of 10 nats with intervals of 8.
    bold = [name for name, cells in rows.items() if cells["Neg. ELBO"].startswith("*")]
    assert bold == ["nvae_spectral"]
    assert not any(cells["Rate KL"].startswith("*") for cells in rows.values())


def test_the_bound_of_a_model_that_is_told_conditions_is_marked_and_out_of_competition() -> None:
    found = ladder()
    told = next(rung for rung in found if rung.is_told)
    told.scores["metrics"]["negative_elbo"] = interval(10.0)
    rows = headline(found)
    assert rows["cvae"]["Neg. ELBO"] == f"10{TOLD} [10, 10]"
    assert rows["cvae"]["Rate KL"] == f"90{TOLD} [87, 93]"
    assert TOLD not in rows["cvae"]["NLL importance"]
    assert rows["nvae_spectral"]["Neg. ELBO"].startswith("*")
    assert sum(cells["Neg. ELBO"].count(TOLD) for cells in rows.values()) == 1
    (note,) = [part for part in tables(found) if part.startswith(f"<p class='note'>{TOLD}")]
    assert "cvae: told the true condition c" in note
    assert "log p(x | c)" in note


def test_tokens_are_no_active_scalars(rows: dict[str, dict[str, str]]) -> None:
    assert rows["vq_vae"]["All"] == f"36 tokens{TOKENS}"
    assert rows["vq_vae"]["Active"] == f"{DASH}{TOKENS}"
    assert (rows["vae"]["All"], rows["vae"]["Active"]) == ("32", "30")
    text = "".join(tables(ladder()))
    assert "one of 64 codes; the held-out slices take 40 of them (perplexity 31)" in text
    assert "288" not in text


def test_real_hearts_have_a_row_where_they_are_the_same_for_all(
    rows: dict[str, dict[str, str]],
) -> None:
    real = rows["Real hearts"]
    assert real["Fréchet SD\N{SUPERSCRIPT TWO}"] == "1.5 [1.0, 2.0]"
    assert real["Coverage %"] == "95 [94, 96]"
    assert (real["Dice"], real["Neg. ELBO"]) == ("", "")
    found = ladder()
    found[0].scores["generation"]["metrics"]["real_coverage"] = interval(0.5)
    assert headline(found)["Real hearts"]["Coverage %"] == ""


def test_all_other_numbers_are_folded_away() -> None:
    folded = tables(ladder())[-1]
    assert folded.startswith("<details><summary>All numbers</summary>")
    headings = re.findall("<h3>(.*?)</h3>", folded)
    assert headings == ["Reconstruction", "Bound and likelihood", "Drawn from the prior"]
    assert "Specificity<small>mm</small>" in folded
    assert "Specificity of unseen real slices" not in folded  # the row of real hearts has it
    assert "100 draws of 60 slices" in folded


def test_few_recipes_are_columns() -> None:
    few = [rung for rung in ladder() if rung.name in ("ae", "vae", "cvae", "vq_vae", "nvae")]
    head, *lines = Rows(tables(few)[0]).rows
    assert head == ["", "ae", "vae", "cvae", "vq_vae", "nvae"]
    cells = {title: values for title, *values in lines}
    assert cells["Negative ELBO (nats)"][0] == DASH
    assert cells["Negative ELBO (nats)"][2] == f"310.0 [306.0, 314.0]{TOLD}"
    assert cells["Active latent scalars"] == ["30", "30", "30", f"{DASH}{TOKENS}", "30"]
    assert cells["Fréchet distance of real halves"][1] == "1.50 [1.00, 2.00]"


def test_labels_and_titles_are_escaped() -> None:
    table = stacked_table({"a & b": [("<i>", "%")]}, [[Line("<b>", [Cell("1 < 2", "[0, 3]")])]])
    assert "&lt;i&gt;" in table
    assert "a &amp; b" in table
    assert ">&lt;b&gt;</th>" in table
    assert "1 &lt; 2<small>[0, 3]</small>" in table


def test_recipes_stand_by_family_and_plain_before_variants() -> None:
    slices = HeldOutSlices(np.full((3, 16, 16), 2, np.uint8), list("abc"), list("abc"), (1.5, 1.5))
    small = {"image_size": 16, "patch_size": 2, "channels": [4, 4]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = {
            "vq_vae": build_model("vq_vae", {**small, "cells": [1, 1]}),
            "beta_vae": build_model("vae", {**small, "latent_dim": 2}),
            "vae": build_model("vae", {**small, "latent_dim": 2}),
            "cvae": build_model("cvae", {**small, "latent_dim": 2}),
        }
    names = ["beta_vae", "cvae", "unknown", "vae", "vq_vae"]
    recipes = [RecipeResults(name, {"shape_model": {}}, {}, {"steps": 3}, {}) for name in names]
    found = rungs(recipes, {name: model.eval() for name, model in models.items()}, slices)
    assert [rung.name for rung in found] == ["vae", "beta_vae", "cvae", "vq_vae", "unknown"]
    assert [rung.family for rung in found] == ["vae", "vae", "cvae", "vq_vae", "unknown"]
    assert [rung.is_told for rung in found] == [False, False, True, False, False]
    assert [rung.codebook is None for rung in found] == [True, True, True, False, True]
    book = found[3].codebook
    assert book is not None
    tokens = models["vq_vae"].tokens(one_hot(torch.from_numpy(slices.masks[:1])))
    # The three slices are alike, so each takes the same tokens.
    shares = torch.unique(tokens, return_counts=True)[1] / tokens.numel()
    assert (book.num_codes, book.num_used) == (512, len(shares))
    assert book.perplexity == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())))
    assert found[0].scores["training"] == {"steps": 3}
