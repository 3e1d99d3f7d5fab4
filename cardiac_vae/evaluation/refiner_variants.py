"""Every way to refine that is compared: modes of the refiner with every shape model, and baselines.

What a model cannot do is left out, with the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import NonNegativeInt, PositiveInt, model_validator

from cardiac_vae.anchors import read_anchors
from cardiac_vae.checkpoint import load_model, pixel_size
from cardiac_vae.config import StrictConfig
from cardiac_vae.data.case import Spacing
from cardiac_vae.data.segmented import Split
from cardiac_vae.densities.file import load_density
from cardiac_vae.labels import Phase
from cardiac_vae.refinement.baselines import largest_component_and_filled_holes
from cardiac_vae.refinement.calibration import Calibration
from cardiac_vae.refinement.latent_baselines import NearestDrawnHeart, RandomSearch, draw_bank
from cardiac_vae.refinement.refine import RefinementConfig, Refiner
from cardiac_vae.shape_model import ShapeModel

BASELINE = "baseline"
NEAREST_DRAWN = "nearest_drawn"
RANDOM_SEARCH = "random_search"
MODES: Mapping[str, RefinementConfig] = {
    "projection": RefinementConfig(segmenter_exponent=0),
    "product": RefinementConfig(),
}


class RefinersConfig(StrictConfig):
    """What is compared, on whom.

    Attributes:
        split: Patients that the figures are about; those of ``validation`` are for tuning.
        max_patients: Only the first so many of them, where time is short; all if None.
        modes: Name -> settings of the refiner, tried with every shape model.
        with_scan: Modes that see the scan, too.
        nearest_drawn: Recipes whose density over codes draws the hearts of that baseline.
        num_draws: Codes drawn for it.
        random_search: Recipes whose posteriors are searched.
        num_decodings: Decoder calls of a search, per broken slice. 1 is what the modes without
            optimization take.
        seed: Of the draws and of the intervals.
    """

    split: Split = "test"
    max_patients: PositiveInt | None = None
    modes: Mapping[str, RefinementConfig] = MODES
    with_scan: tuple[str, ...] = ()
    nearest_drawn: tuple[str, ...] = ("ae", "vae")
    num_draws: PositiveInt = 1000
    random_search: tuple[str, ...] = ("vae", "nvae")
    num_decodings: tuple[PositiveInt, ...] = (1, 32)
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _scan_is_for_known_modes(self) -> Self:
        unknown = sorted(set(self.with_scan) - set(self.modes))
        if unknown:
            raise ValueError(f"with_scan: expected some of {sorted(self.modes)}, got {unknown}")
        return self


@dataclass(frozen=True)
class SegmentedScan:
    """What a refiner may know of a scan.

    Attributes:
        mask: (D, H, W) uint8, the segmenter's.
        probabilities: (D, C, H, W), the segmenter's.
        spacing_mm: Voxel size along (slice, row, column).
        image: (D, H, W) what was segmented.
        phase: End-diastole or end-systole.
    """

    mask: np.ndarray = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    spacing_mm: Spacing
    image: np.ndarray | None = field(default=None, repr=False)
    phase: Phase | None = None


Refine = Callable[[SegmentedScan], np.ndarray]
"""A segmented scan -> its refined mask (D, H, W) uint8, a new array."""


@dataclass(frozen=True)
class Variant:
    """One way to refine.

    Attributes:
        model: The recipe of its shape model, or "" if it has none.
        kind: A mode, or a baseline.
        refine: What it does to a scan.
    """

    model: str
    kind: str
    refine: Refine = field(repr=False)

    @property
    def name(self) -> str:
        """Return what it is called in results."""
        return f"{self.model}/{self.kind}" if self.model else self.kind


def read_variants(
    recipes: Sequence[str],
    models: Path,
    densities: Path,
    calibration: Calibration,
    config: RefinersConfig,
) -> tuple[list[Variant], dict[str, str]]:
    """Build the variants of the recipes, folders of ``models`` and ``densities``.

    The clean-up without a model comes first, then the baselines with one, then the modes.

    Returns:
        The variants, and the reason for each name that is left out.

    Raises:
        FileNotFoundError: if a recipe has no model.
        ValueError: if a model's files do not fit each other.
    """
    loaded = {recipe: _Loaded.read(models / recipe) for recipe in recipes}
    variants = [Variant("", BASELINE, lambda scan: largest_component_and_filled_holes(scan.mask))]
    left_out: dict[str, str] = {}
    for recipe, kind, build in _builders(loaded, densities, calibration, config):
        try:
            variants.append(Variant(recipe, kind, build()))
        except (ValueError, FileNotFoundError) as error:
            left_out[f"{recipe}/{kind}"] = str(error)
    return variants, left_out


@dataclass(frozen=True)
class _Loaded:
    model: ShapeModel
    anchors: np.ndarray
    pixel_mm: float

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls(load_model(folder), read_anchors(folder), pixel_size(folder))


_Builder = tuple[str, str, Callable[[], Refine]]


def _builders(
    loaded: Mapping[str, _Loaded], densities: Path, calibration: Calibration, config: RefinersConfig
) -> list[_Builder]:
    """Return recipe, kind and what builds it, in the order of the table."""

    def of(recipe: str) -> _Loaded:
        if recipe not in loaded:
            raise ValueError(f"not among the recipes compared, {sorted(loaded)}")
        return loaded[recipe]

    def nearest(recipe: str) -> Refine:
        return _nearest_drawn(of(recipe), densities / recipe, config)

    def search(recipe: str, number: int) -> Refine:
        return _random_search(of(recipe), number, config)

    def mode(recipe: str, name: str) -> Refine:
        return _mode(of(recipe), name, calibration, config)

    builders: list[_Builder] = [
        (recipe, NEAREST_DRAWN, partial(nearest, recipe)) for recipe in config.nearest_drawn
    ]
    builders += [
        (recipe, f"{RANDOM_SEARCH}_{number}", partial(search, recipe, number))
        for recipe in config.random_search
        for number in config.num_decodings
    ]
    builders += [
        (recipe, name, partial(mode, recipe, name)) for recipe in loaded for name in config.modes
    ]
    return builders


def _nearest_drawn(loaded: _Loaded, density: Path, config: RefinersConfig) -> Refine:
    drawn = draw_bank(
        loaded.model, load_density(density), config.num_draws, loaded.pixel_mm, config.seed
    )
    nearest = NearestDrawnHeart(loaded.model, drawn)
    return lambda scan: nearest(scan.mask, scan.spacing_mm)


def _random_search(loaded: _Loaded, num_decodings: int, config: RefinersConfig) -> Refine:
    size = loaded.anchors.shape[-1]
    search = RandomSearch(loaded.model, size, loaded.pixel_mm, num_decodings, config.seed)
    return lambda scan: search(scan.mask, scan.spacing_mm, scan.probabilities)


def _mode(loaded: _Loaded, name: str, calibration: Calibration, config: RefinersConfig) -> Refine:
    refiner = Refiner(
        loaded.model, loaded.anchors, loaded.pixel_mm, config.modes[name], calibration
    )
    sees_scan = name in config.with_scan

    def refine(scan: SegmentedScan) -> np.ndarray:
        image = scan.image if sees_scan else None
        refined = refiner.refine(
            scan.mask, scan.spacing_mm, scan.probabilities, image, phase=scan.phase
        )
        return refined.mask

    return refine
