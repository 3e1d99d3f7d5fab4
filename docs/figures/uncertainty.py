"""Draw where a refined mask is in doubt: a slice, its mask, and the entropy of every voxel.

make repro && python docs/figures/uncertainty.py

It reads data, calibration and masks of the study in the working folder (the phantom's: images of
real patients have no place in these figures) and writes PNG beside this file.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cardiac_vae.data.acdc import read_cases
from cardiac_vae.data.nifti import read_probabilities
from cardiac_vae.data.segmented import probabilities_path, read_structures, refined_path
from cardiac_vae.labels import HEART, Phase
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.window import HeartWindow
from cardiac_vae.reports.style import COLORS, INK, add_legend, hide_axes, structure_lines, styled

HERE = Path(__file__).parent
DATA = Path("data")
RECIPE = "nvae"
MOST_BITS = 1.5


@styled
def doubt() -> Figure:
    """A basal and a middle slice of the first validation patient at end-diastole."""
    [patient, *_] = json.loads((DATA / "prepared" / "splits.json").read_text())["validation"]
    case = next(
        case
        for case in read_cases(DATA / "raw")
        if case.patient_id == patient and case.phase == Phase.ED
    )
    mask = read_structures(refined_path(DATA / "refined" / RECIPE, "clean", case.case_id))
    segmented = probabilities_path(DATA / "segmented" / "unet", "clean", case.case_id)
    probabilities, _ = read_probabilities(segmented)
    known = Calibration.load(Path("calibration/unet"))
    entropy = known.uncertainty(mask, probabilities, case.spacing_mm).entropy_bits
    window = HeartWindow.around(mask, case.spacing_mm, 80, 1.5)
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    figure = Figure(figsize=(7.2, 5.1), layout="constrained")
    panels = figure.subplots(2, 3)
    for row, index in zip(panels, (drawn[0], drawn[len(drawn) // 2]), strict=True):
        image, plane, bits = (window.cut(volume[index]) for volume in (case.image, mask, entropy))
        for axes in row:
            hide_axes(axes)
        for axes in row[:2]:
            axes.imshow(image, cmap="gray")
        for structure in HEART:
            if (plane == structure).any():
                row[1].contour(plane == structure, [0.5], colors=COLORS[structure], linewidths=1.4)
        shown = row[2].imshow(bits, cmap="magma", vmin=0, vmax=MOST_BITS)
        row[0].text(
            0.03, 0.97, f"slice {index}", color="white", va="top", transform=row[0].transAxes
        )
    for axes, title in zip(panels[0], ("scan", "refined mask", "entropy"), strict=True):
        axes.set_title(title, color=INK)
    figure.colorbar(shown, ax=panels[:, 2], label="bits", shrink=0.7)
    add_legend(figure, structure_lines())
    return figure


if __name__ == "__main__":
    (HERE / "uncertainty.png").write_bytes(doubt())
