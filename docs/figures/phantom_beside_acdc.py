"""Draw one slice of ACDC beside phantoms of the five groups: phantom_beside_acdc.png.

python docs/figures/phantom_beside_acdc.py ACDC_FOLDER

The folder holds patient001 and the others (or ``training/``). The figure shows a single, reduced
slice of ACDC (Bernard et al. 2018, doi 10.1109/TMI.2018.2837502, CC BY-NC-SA 4.0) as an
illustration; no data of ACDC is kept.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from cardiac_vae.data.acdc import read_cases
from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.phantom import PhantomConfig, make_patient
from cardiac_vae.labels import Phase

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

PATIENT = "patient072"
HALF_HEART_MM = 78.0
COLORS = ("#4da3ff", "#5fd38d", "#ff5f5f")


def real_case(root: Path) -> CardiacCase:
    """Return the end-diastole of the patient that the figure shows."""
    root = root / "training" if (root / "training").is_dir() else root
    for case in read_cases(root):
        if case.patient_id == PATIENT and case.phase is Phase.ED:
            return case
    raise FileNotFoundError(f"{root}: expected {PATIENT} of ACDC there")


def phantom_case(index: int, config: PhantomConfig) -> CardiacCase:
    """Return the end-diastole of a phantom."""
    patient = make_patient(index, config)
    place = patient.placement
    return CardiacCase(
        patient_id=patient.patient_id,
        phase=Phase.ED,
        mask=patient.masks[Phase.ED],
        spacing_mm=(place.slice_mm, place.pixel_mm, place.pixel_mm),
        image=patient.images[Phase.ED].astype(np.float32),
        group=patient.heart.group,
    )


def draw(axes: tuple[Axes, Axes], case: CardiacCase, title: str) -> None:
    """Draw a mid-ventricular slice whole, and its heart with contours."""
    if case.image is None:
        raise ValueError(f"{case.case_id}: expected an image")
    occupied = np.flatnonzero(case.mask.any(axis=(1, 2)))
    index = occupied[round(0.42 * (len(occupied) - 1))]
    image, mask = case.image[index], case.mask[index]
    row, column = (axis.mean() for axis in np.nonzero(mask))
    half = HALF_HEART_MM / case.spacing_mm[1]
    for axis in axes:
        axis.imshow(
            image, cmap="gray", vmin=0, vmax=np.percentile(image, 99.3), interpolation="bicubic"
        )
        axis.axis("off")
    axes[0].set_title(title, fontsize=9)
    for value, color in enumerate(COLORS, start=1):
        axes[1].contour(mask == value, [0.5], colors=color, linewidths=0.8)
    axes[1].set_xlim(column - half, column + half)
    axes[1].set_ylim(row + half, row - half)


def main() -> None:
    """Read the arguments and write the figure beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("acdc", type=Path)
    parser.add_argument("--first", type=int, default=10, help="index of the first phantom")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".png"))
    arguments = parser.parse_args()
    figure, axes = plt.subplots(2, 6, figsize=(15, 6.4), height_ratios=(1.25, 1))
    draw((axes[0, 0], axes[1, 0]), real_case(arguments.acdc), f"ACDC {PATIENT} (real)")
    for column in range(1, 6):
        case = phantom_case(arguments.first + column - 1, PhantomConfig())
        draw((axes[0, column], axes[1, column]), case, f"phantom, {case.group}")
    figure.tight_layout(pad=0.4)
    figure.savefig(arguments.output, dpi=75)


if __name__ == "__main__":
    main()
