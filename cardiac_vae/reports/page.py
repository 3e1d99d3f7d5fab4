"""Put the report together from what is on file; the only entry of this folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cardiac_vae.data.preparation import PreparationConfig
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.evaluation.reconstruction import held_out_slices
from cardiac_vae.reports import masks, shapes
from cardiac_vae.reports.certainty import certainty
from cardiac_vae.reports.density_table import densities
from cardiac_vae.reports.headline import headline, reading_guide
from cardiac_vae.reports.html import page
from cardiac_vae.reports.inputs import Study, read_study
from cardiac_vae.reports.refiner_table import refiners
from cardiac_vae.reports.rungs import rungs
from cardiac_vae.reports.shape_pictures import pictures_of
from cardiac_vae.shape_model import ShapeModel

TITLE = "Refined cardiac masks, before and after"


@dataclass(frozen=True)
class Report:
    """What is built.

    Attributes:
        page: HTML that opens offline: tables, captions, and figures as inlined PNG.
        figures: Those of the shape models, which the page shows, too: "<recipe>/<what>.png" -> PNG.
    """

    page: str
    figures: Mapping[str, bytes]


def build_report(
    root: Path,
    preparation: PreparationConfig,
    segmenter: str,
    models: Mapping[str, ShapeModel],
    facts: Mapping[str, str],
) -> Report:
    """Build the page and the figures of the shape models.

    Args:
        root: The folder that holds reports/ and data/.
        preparation: Says how data/raw is read.
        segmenter: Whose masks were refined.
        models: The shape models by recipe, in evaluation mode; those given are pictured.
        facts: What the header says of the study besides its patients: data, seed, commit.

    Raises:
        FileNotFoundError: if no recipe was evaluated, or a volume that is to be shown is missing.
    """
    study = read_study(root, preparation, segmenter)
    split = study.recipes[0].summary["split"]
    slices = held_out_slices(read_prepared(root / "data" / "prepared", split))
    pictures = {name: pictures_of(name, model, slices) for name, model in models.items()}
    ladder = rungs(study.recipes, models, slices)
    sections = [
        headline(study.recipes),
        reading_guide(),
        masks.structures(study.recipes),
        masks.anatomy(study.recipes),
        masks.single_cases(study),
        masks.clinical(study.recipes),
        certainty(study.recipes, {rung.name: rung.color for rung in ladder}),
        shapes.shape_models(ladder, pictures),
        densities(study.recipes),
        refiners(study.refiners),
        shapes.refinement(study.recipes),
        shapes.training(study),
        shapes.data(study),
    ]
    shown = [section for section in sections if section.parts]
    return Report(
        page=page(TITLE, {**facts, **_facts(study)}, shown),
        figures={
            f"{name}/{picture.name}.png": picture.png
            for name, drawn in pictures.items()
            for picture in drawn
        },
    )


def _facts(study: Study) -> dict[str, str]:
    counts = study.preparation.get("num_patients", {})
    split = study.recipes[0].summary["split"]
    facts = {"Scored split": split}
    if counts:
        facts["Patients"] = ", ".join(f"{number} {name}" for name, number in counts.items())
    facts["Segmenter"] = study.segmenter
    facts["Recipes"] = ", ".join(recipe.name for recipe in study.recipes)
    return facts
