"""Draw the figures of docs/refiner.md from the models of a study on the phantom.

make repro && python docs/figures/refiner.py

It reads data/raw, data/segmented/unet, calibration/unet and models/nvae of the working folder and
writes PNG beside this file. Shown are test patients of the phantom, corrupted scans.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cardiac_vae.anatomy.criteria import CRITERIA
from cardiac_vae.data.acdc import case_paths
from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.case_files import read_case
from cardiac_vae.data.nifti import read_image, read_probabilities
from cardiac_vae.data.segmented import mask_path, patients_of, probabilities_path, read_structures
from cardiac_vae.labels import HEART, parse_labels
from cardiac_vae.metrics.overlap import dice
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.doubt import Doubt
from cardiac_vae.refinement.explanation import explained
from cardiac_vae.refinement.inference import normalized
from cardiac_vae.refinement.refine import Refiner
from cardiac_vae.refinement.result import RefinementResult
from cardiac_vae.refinement.window import HeartWindow
from cardiac_vae.reports.style import INK, add_legend, colored, hide_axes, structure_lines, styled

HERE = Path(__file__).parent
SEGMENTED = Path("data/segmented/unet")
SCANS = "corrupted"
MODEL = Path("models/nvae")
CALIBRATION = Path("calibration/unet")
COLUMNS = ("scan", "segmenter", "shape model", "product", "refined", "expert")
NUM_ROWS = 4
_MARGIN = 6  # pixels around what is shown


@dataclass(frozen=True)
class Repair:
    """One slice on its way; all (h, w) of the window around the heart.

    Attributes:
        title: Which slice, what was wrong, and how it was repaired.
        image: What the segmenter saw.
        masks: The segmenter's, the shape model's, the product's, the refined and the expert's.
        gain: Dice points of the slice that refining added, mean over structures.
    """

    title: str
    image: np.ndarray
    masks: Sequence[np.ndarray]
    gain: float


def repairs(case: CardiacCase, refiner: Refiner) -> Iterator[Repair]:
    """Yield every slice of a case that the refiner changed."""
    drawn = read_structures(mask_path(SEGMENTED, SCANS, case.case_id))
    probabilities, _ = read_probabilities(probabilities_path(SEGMENTED, SCANS, case.case_id))
    image = read_image(SEGMENTED / SCANS / f"{case.case_id}_scan.nii.gz").volume
    result = refiner.refine(drawn, case.spacing_mm, probabilities, phase=case.phase)
    size = refiner.anchors.shape[-1]
    window = HeartWindow.around(drawn, case.spacing_mm, size, refiner.pixel_mm)
    nothing = np.zeros((len(drawn), 4))
    doubt = Doubt.of(drawn, case.spacing_mm, result.before, (), nothing)
    is_changed = np.array([decision.changed_pixels > 0 for decision in result.slices])
    doubt = replace(doubt, is_chosen=is_changed)
    believed, given = refiner.shown(drawn, doubt, window, probabilities)
    explanations = window.to_native(explained(refiner.model, given, len(drawn)))
    for place, index in enumerate(np.flatnonzero(is_changed)):
        decision, at = result.slices[index], [index]
        mask, seen, of_model = window.cut(drawn[at]), believed[[place]], explanations[[place]]
        said = refiner.calibration.observation.log_likelihood(mask, case.spacing_mm[1:], seen)
        product = normalized(np.log(np.maximum(of_model, 1e-6)) + said)
        experts, refined = window.cut(case.mask[at])[0], window.cut(result.mask[at])[0]
        yield Repair(
            title=_title(case.case_id, decision.index, decision.route, result),
            image=window.cut(image[at])[0],
            masks=[
                mask[0],
                of_model[0].argmax(axis=0).astype(np.uint8),
                product[0].argmax(axis=0).astype(np.uint8),
                refined,
                experts,
            ],
            gain=100 * (_mean_dice(experts, refined) - _mean_dice(experts, mask[0])),
        )


@styled
def steps(shown: Sequence[Repair]) -> Figure:
    """Draw slices as lines: scan, segmenter, shape model, product, refined, expert."""
    figure = Figure(figsize=(9.6, 1.85 * len(shown) + 0.4))
    for block, repair in zip(
        figure.subfigures(len(shown), 1, squeeze=False)[:, 0], shown, strict=True
    ):
        title = f"{repair.title}   {repair.gain:+.0f} Dice points"
        block.suptitle(title, fontsize=7.5, x=0.01, ha="left", fontweight="bold", color=INK)
        panels = block.subplots(1, len(COLUMNS))
        field = _field(repair.masks)
        panels[0].imshow(repair.image[field], cmap="gray", interpolation="bilinear")
        for axes, mask in zip(panels[1:], repair.masks, strict=True):
            axes.imshow(colored(mask[field]), interpolation="nearest")
        for axes, name in zip(panels, COLUMNS, strict=True):
            _name(axes, name)
    add_legend(figure, structure_lines())
    return figure


def _field(masks: Sequence[np.ndarray]) -> tuple[slice, slice]:
    """Return the square (rows, columns) around all that is drawn."""
    rows, columns = np.nonzero(np.max(masks, axis=0))
    half = max(np.ptp(rows), np.ptp(columns)) / 2 + _MARGIN
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    starts = [max(0, round(center - half)) for center in middle]
    row, column = (slice(start, start + round(2 * half) + 1) for start in starts)
    return row, column


def _name(axes: Axes, name: str) -> None:
    hide_axes(axes)
    box = {"boxstyle": "square,pad=0.25", "facecolor": "#00000090", "linewidth": 0}
    axes.text(
        0.03, 0.96, name, transform=axes.transAxes, va="top", fontsize=7, color="white", bbox=box
    )


def _title(case_id: str, index: int, route: str, result: RefinementResult) -> str:
    broken = [CRITERIA[name].description for name, by in result.before.slices[index].items() if by]
    told = [w.split(": ", 1)[1] for w in result.warnings if w.startswith(f"slice {index}:")]
    reasons = [*told, *broken] or ["parts apart from the heart"]
    more = f" and {len(reasons) - 2} more" if len(reasons) > 2 else ""
    return f"{case_id}, slice {index}: {'; '.join(reasons[:2])}{more} -> {route}"


def _mean_dice(expert: np.ndarray, mask: np.ndarray) -> float:
    scores = [dice(expert == structure, mask == structure) for structure in HEART]
    known = [score for score in scores if not np.isnan(score)]
    return float(np.mean(known)) if known else 1.0


def main() -> None:
    """Draw the figures."""
    refiner = Refiner.load(MODEL, calibration=Calibration.load(CALIBRATION))
    patients = patients_of(Path("data/prepared/splits.json"), ["test"])
    labels = parse_labels("acdc")
    cases = [read_case(p, labels) for p in case_paths(Path("data/raw")) if p.patient_id in patients]
    found = sorted((r for case in cases for r in repairs(case, refiner)), key=lambda r: -r.gain)
    print(f"{len(found)} slices changed; gains {[round(repair.gain) for repair in found]}")
    (HERE / "refiner_steps.png").write_bytes(steps(found[:NUM_ROWS]))
    (HERE / "refiner_failures.png").write_bytes(steps(found[-NUM_ROWS:]))


if __name__ == "__main__":
    main()
