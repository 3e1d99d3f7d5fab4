"""The page holds everything it shows, and shows everything the study has."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from cardiac_vae.data.preparation import PreparationConfig
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.evaluation.reconstruction import held_out_slices
from cardiac_vae.evaluation.summaries import summarize
from cardiac_vae.labels import Structure
from cardiac_vae.models import build_model
from cardiac_vae.reports.inputs import read_study
from cardiac_vae.reports.masks import structures
from cardiac_vae.reports.page import Report, build_report
from cardiac_vae.reports.rungs import rungs
from cardiac_vae.reports.shape_pictures import pictures_of
from cardiac_vae.reports.shapes import shape_models
from cardiac_vae.reports.style import as_data_uri
from cardiac_vae.shape_model import ShapeModel

DATA_URI = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")
EMPTY_TAGS = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def report(study: Path, preparation: PreparationConfig, copying: ShapeModel) -> Report:
    facts = {"Data": "slabs & more", "Commit": "0123abc"}
    return build_report(study, preparation, "unet", {"copy": copying}, facts)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return report.page


def test_nothing_is_fetched(page: str) -> None:
    text = DATA_URI.sub("", page)
    assert "http" not in text
    for word in ("<script", "<link", "@import", "url(", "srcset"):
        assert word not in text
    assert re.findall(r"src='([^']*)'", text) == [""] * page.count("<img")


def test_all_figures_are_there_and_are_images(page: str) -> None:
    images = [base64.b64decode(data) for data in DATA_URI.findall(page)]
    # Dice, criteria, cases and agreement on two kinds of scans; KL; the model's; training.
    assert len(images) == 1 + 1 + 2 + 2 + 1 + 5 + 1
    assert all(image.startswith(b"\x89PNG\r\n") and len(image) > 3000 for image in images)
    assert page.count("<figcaption>") == len(images)


def test_refiners_are_compared(page: str) -> None:
    assert "<h2>Refiners compared</h2>" in page
    assert "<h3>Segmenter: unet</h3>" in page


def test_the_figures_of_a_model_are_there_to_be_logged(report: Report) -> None:
    names = ("reconstructions", "samples", "interpolations", "traversals", "latent_map")
    assert list(report.figures) == [f"copy/{name}.png" for name in names]
    assert all(as_data_uri(png) in report.page for png in report.figures.values())


def test_the_contents_lead_to_every_section(page: str) -> None:
    targets = re.findall(r"<a href='#(\w+)'>", page)
    assert targets == re.findall(r"<section id='(\w+)'>", page)
    assert targets[0] == "results"


def test_tags_are_closed_in_order(page: str) -> None:
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in EMPTY_TAGS:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(DATA_URI.sub("", page))
    assert parser.open == []


def test_the_numbers_are_those_of_the_study(page: str) -> None:
    assert "0 valid volumes become 4 of 4" in page
    assert "4 volumes of 2 patients" in page
    assert "<b>4 of 4</b>" in page
    assert "slabs &amp; more" in page
    assert "0123abc" in page
    assert "1 train, 1 validation, 2 test" in page


def test_spurious_and_missed_slices_are_told_apart(
    study: Path, preparation: PreparationConfig
) -> None:
    [recipe] = read_study(study, preparation, "unet").recipes
    rows = recipe.rows["clean"]
    first, *others = rows["segmenter"]
    rv, lv = first.structures[Structure.RV], first.structures[Structure.LV]
    changed = {
        Structure.RV: replace(rv, num_spurious_slices=2),
        Structure.LV: replace(lv, num_missed_slices=1),
    }
    before = [replace(first, structures={**first.structures, **changed}), *others]
    summary = {**recipe.summary, "scans": {"clean": summarize({**rows, "segmenter": before})}}
    shown = "".join(structures([replace(recipe, summary=summary)]).parts)
    for title, expected in (
        ("spurious or missed slices", ["0.75", "0.50", "0.00", "0.25"]),
        ("spurious slices", ["0.50", "0.50", "0.00", "0.00"]),
        ("missed slices", ["0.25", "0.00", "0.00", "0.25"]),
    ):
        _, group = shown.split(f"Clean scans, {title}<")
        segmenter, refined = group.split("</tr>")[1], group.split("</tr>")[3]
        assert re.findall(r"<span>([^<]*)<", segmenter) == expected
        assert f">\N{MINUS SIGN}{expected[0]} [" in refined


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_looks_at_conditions_shows_hearts_on_demand(
    study: Path, preparation: PreparationConfig, page: str
) -> None:
    torch.manual_seed(0)
    model = build_model("cvae", {"image_size": 64, "channels": [4, 4], "latent_dim": 2}).eval()
    slices = held_out_slices(read_prepared(study / "data" / "prepared", "test"))
    recipes = read_study(study, preparation, "unet").recipes
    pictures = {"copy": pictures_of("copy", model, slices)}
    shown = "".join(shape_models(rungs(recipes, {"copy": model}, slices), pictures).parts)
    # KL, what any model shows, and what no other does.
    assert len(DATA_URI.findall(shown)) == 1 + 5 + 1
    assert "Hearts on demand, copy" in shown
    assert "Hearts on demand" not in page


def test_a_study_without_evaluation_says_what_to_run(
    tmp_path: Path, preparation: PreparationConfig
) -> None:
    with pytest.raises(FileNotFoundError, match="run the evaluate stage first"):
        build_report(tmp_path, preparation, "unet", {}, {})
