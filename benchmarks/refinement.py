"""What refining a scan costs beside one forward pass of the segmenter, in one run, as ratios.

python -m benchmarks.refinement [--model DIR] [--segmenter DIR] [--calibration DIR] [--runs 7]
    [--threads N]

The scan is a phantom's with ten slices; the segmenter sees its whole field of view. In the worst
case every slice of the mask is broken, in a typical one three are. Without ``--segmenter`` its
weights are untrained, which costs the same. Without ``--model`` (and without ``models/nvae``) the
shape model is untrained and explains nothing: then the times are an upper bound. With a calibration
the same is measured with it, too.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from benchmarks.hearts import PIXEL_MM, Scan, broken_scan, prepared_slices
from benchmarks.measuring import (
    limit_threads,
    machine,
    median_seconds,
    options,
    peak_memory_mb,
    table,
)
from cardiac_vae.anchors import valid_shapes, write_anchors
from cardiac_vae.checkpoint import save_model
from cardiac_vae.data.geometry import PlaneGrid, covering_grid, resample_image
from cardiac_vae.models import build_model
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.refine import Refiner
from cardiac_vae.segmentation.inference import Segmenter
from cardiac_vae.segmentation.network import SegmenterConfig, build_network, normalize_image
from cardiac_vae.training.shapes import Recipe

FORWARD_PASS = "segmenter, one forward pass"
"""What all other times are compared with: the network alone, on slices that lie ready for it."""
DEFAULT_MODEL = Path("models/nvae")
CASES = {"every slice broken": 10, "3 slices of 10 broken": 3}


def tasks(
    refiner: Refiner, segmenter: Segmenter, calibrated: Refiner | None
) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    scans = {name: broken_scan(num_broken) for name, num_broken in CASES.items()}
    scan = next(iter(scans.values()))
    seen = network_input(scan, segmenter.settings.pixel_mm)
    found: dict[str, Callable[[], object]] = {
        FORWARD_PASS: lambda: segmenter.predict_normalized(seen),
        "segmenter, scan to probabilities": lambda: segmenter.predict(scan.image, scan.spacing_mm),
    }
    for name, broken in scans.items():
        found[f"refine, {name}"] = refining(refiner, broken, broken.probabilities)
        found[f"refine, {name}, mask alone"] = refining(refiner, broken, None)
        if calibrated is not None:
            found[f"refine, {name}, calibrated"] = refining(
                calibrated, broken, broken.probabilities
            )
    return found


def refining(
    refiner: Refiner, scan: Scan, probabilities: np.ndarray | None
) -> Callable[[], object]:
    """Return a function that refines a scan's mask."""
    return lambda: refiner.refine(scan.mask, scan.spacing_mm, probabilities)


def network_input(scan: Scan, pixel_mm: float) -> np.ndarray:
    """Return the scan (D, H, W) as the segmenter's network sees it."""
    native = PlaneGrid((scan.image.shape[1], scan.image.shape[2]), scan.spacing_mm[1:])
    seen = covering_grid(native, pixel_mm)
    return normalize_image(resample_image(scan.image, native, seen))


def untrained_model(folder: Path) -> Path:
    """Write an untrained NVAE whose anchors are phantoms."""
    torch.manual_seed(0)
    recipe = Recipe.read(Path(__file__).parents[1] / "configs" / "models" / "nvae.yaml")
    save_model(
        folder,
        recipe.module,
        recipe.settings,
        build_model(recipe.module, recipe.settings),
        PIXEL_MM,
    )
    write_anchors(folder, valid_shapes(prepared_slices(), (PIXEL_MM, PIXEL_MM)))
    return folder


def command_line(folder: Path, model: Path) -> list[str]:
    """Write a mask with every slice broken to a folder; return the command that refines it."""
    scan = broken_scan(CASES["every slice broken"])
    mask, probabilities = folder / "mask.nii.gz", folder / "probabilities.nii.gz"
    write_nifti(mask, scan.mask.transpose(2, 1, 0), scan)
    write_nifti(probabilities, scan.probabilities.transpose(3, 2, 0, 1), scan)
    command = [str(Path(sys.executable).with_name("cardiac-vae")), "refine", str(mask)]
    command += ["--probabilities", str(probabilities), "--model", str(model)]
    return [*command, "-o", str(folder / "refined.nii.gz")]


def write_nifti(path: Path, voxels: np.ndarray, scan: Scan) -> None:
    """Write voxels (x, y, z) or (x, y, z, class) with the spacing of a scan, on ACDC's affine."""
    image = nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header["pixdim"][1:4] = scan.spacing_mm[::-1]
    image.to_filename(path)


def main() -> None:
    """Measure and print."""
    parser = options("Cost of refining a scan, beside one forward pass of the segmenter.", runs=7)
    parser.add_argument("--model", type=Path, help="folder of a trained shape model")
    parser.add_argument("--segmenter", type=Path, help="folder of a trained segmenter")
    parser.add_argument("--calibration", type=Path, help="folder of a segmenter's calibration")
    parser.add_argument("--only", help="do this task once and print nothing")
    args = parser.parse_args()
    limit_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        model = args.model or (DEFAULT_MODEL if DEFAULT_MODEL.is_dir() else None)
        folder = model or untrained_model(Path(scratch) / "model")
        calibrated = None
        if args.calibration:
            calibrated = Refiner.load(folder, calibration=Calibration.load(args.calibration))
        found = tasks(Refiner.load(folder), load_segmenter(args.segmenter), calibrated)
        if args.only:
            found[args.only]()
            return
        seconds = median_seconds(found, args.runs)
        alone = [sys.executable, "-m", "benchmarks.refinement", "--model", str(folder)]
        for name in ("segmenter", "calibration"):
            if given := getattr(args, name):
                alone += [f"--{name}", str(given)]
        rows = [
            (
                name,
                f"{1000 * seconds[name]:.0f}",
                f"{seconds[name] / seconds[FORWARD_PASS]:.2f}",
                f"{peak_memory_mb([*alone, '--only', name], args.threads):.0f}",
            )
            for name in found
        ]
        peak = peak_memory_mb(command_line(Path(scratch), folder), args.threads)
        rows.append(("the process of cardiac-vae refine", "", "", f"{peak:.0f}"))
        print(machine())
        print(
            f"shape model: {model or 'NVAE, untrained'}; "
            f"segmenter: {args.segmenter or 'untrained'}; median of {args.runs} runs each"
        )
        print(table(("task, on 10 slices", "ms", "forward passes", "peak MiB"), rows))


def load_segmenter(folder: Path | None) -> Segmenter:
    """Return a trained segmenter, or an untrained one with the default network."""
    if folder is not None:
        return Segmenter.load(folder, device="cpu")
    torch.manual_seed(0)
    return Segmenter(SegmenterConfig(), build_network(SegmenterConfig()))


if __name__ == "__main__":
    main()
