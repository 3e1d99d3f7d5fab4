"""What the report is built from: the files that the other stages left behind."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cardiac_vae.data.case_files import CasePaths, read_case
from cardiac_vae.data.nifti import read_image, read_mask
from cardiac_vae.data.preparation import CASE_PATHS, PreparationConfig
from cardiac_vae.evaluation.scores import CaseScores
from cardiac_vae.evaluation.tables import read_csv
from cardiac_vae.labels import LabelMap, parse_labels
from cardiac_vae.reports.pictures import PicturedCase

Rows = Mapping[str, Mapping[str, list[CaseScores]]]


@dataclass(frozen=True)
class RecipeResults:
    """What is on file about one recipe.

    Attributes:
        name: The recipe.
        summary: reports/evaluate/<name>.json.
        rows: reports/evaluate/<name>.csv, by kind of scans and variant.
        training: reports/train/<name>.json, empty if there is none.
        refinement: reports/refine/<name>.json, empty if there is none.
        densities: reports/density/<name>.json, empty if there is none.
    """

    name: str
    summary: Mapping[str, Any]
    rows: Rows
    training: Mapping[str, Any]
    refinement: Mapping[str, Any]
    densities: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What is on file about a study.

    Attributes:
        root: The folder that holds reports/, data/ and models/.
        recipes: The evaluated recipes, by name.
        preparation: reports/prepare.json, empty if there is none.
        segmenter: The one whose masks were refined.
        segmenter_training: reports/train_segmenter/<segmenter>.json: "fit", empty if there is none.
        corrector_training: reports/train_corrector.json, empty if there is none.
        cases: The files of each raw case, by case id.
        labels: The raw dataset's own labels.
        refiners: reports/refiners/<segmenter>.json, by segmenter.
    """

    root: Path
    recipes: Sequence[RecipeResults]
    preparation: Mapping[str, Any]
    segmenter: str
    segmenter_training: Mapping[str, Any]
    corrector_training: Mapping[str, Any]
    cases: Mapping[str, CasePaths]
    labels: LabelMap
    refiners: Mapping[str, Any] = field(default_factory=dict)

    def picture(self, recipe: str, scans: str, case_id: str, title: str) -> PicturedCase:
        """Read the image and the masks of a case, as they were refined."""
        case = read_case(self.cases[case_id], self.labels)
        segmented = self.root / "data" / "segmented" / self.segmenter / scans
        refined = self.root / "data" / "refined" / recipe / scans
        corrupted = segmented / f"{case_id}_scan.nii.gz"
        image = read_image(corrupted).volume if corrupted.is_file() else case.image
        return PicturedCase(
            title=title,
            image=np.zeros(case.mask.shape, np.float32) if image is None else image,
            reference=case.mask,
            segmenter=read_mask(segmented / f"{case_id}_mask.nii.gz").volume,
            refined=read_mask(refined / f"{case_id}.nii.gz").volume,
            spacing_mm=case.spacing_mm,
        )


def read_study(root: Path, preparation: PreparationConfig, segmenter: str) -> Study:
    """Read everything but the volumes.

    Args:
        root: The folder that holds reports/, data/ and models/.
        preparation: Says how data/raw is read.
        segmenter: Whose masks were refined.

    Raises:
        FileNotFoundError: if no recipe was evaluated.
    """
    reports = root / "reports"
    names = sorted(path.stem for path in (reports / "evaluate").glob("*.json"))
    if not names:
        raise FileNotFoundError(
            f"{reports / 'evaluate'}: expected <recipe>.json and <recipe>.csv of at least one "
            "recipe, found none; run the evaluate stage first"
        )
    return Study(
        root=root,
        recipes=[
            RecipeResults(
                name=name,
                summary=_read(reports / "evaluate" / f"{name}.json"),
                rows=read_csv(reports / "evaluate" / f"{name}.csv"),
                training=_read(reports / "train" / f"{name}.json"),
                refinement=_read(reports / "refine" / f"{name}.json"),
                densities=_read(reports / "density" / f"{name}.json"),
            )
            for name in names
        ],
        preparation=_read(reports / "prepare.json"),
        segmenter=segmenter,
        segmenter_training=_read(reports / "train_segmenter" / f"{segmenter}.json").get("fit", {}),
        corrector_training=_read(reports / "train_corrector.json"),
        cases={
            paths.case_id: paths for paths in CASE_PATHS[preparation.reader](root / "data" / "raw")
        },
        labels=parse_labels(preparation.labels),
        refiners={path.stem: _read(path) for path in sorted((reports / "refiners").glob("*.json"))},
    )


def _read(path: Path) -> dict[str, Any]:
    """Return the values of a metrics file; none if its stage is no part of the study."""
    return dict(json.loads(path.read_text())) if path.is_file() else {}
