"""A density over codes on file: a folder with ``density.yaml`` and ``density.safetensors``."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cardiac_vae.config import read_yaml, write_yaml
from cardiac_vae.densities.code_density import CodeDensity, Density
from cardiac_vae.densities.normal_mixture import NormalMixture
from cardiac_vae.vi.mixture import MixturePosterior

SETTINGS = "density.yaml"
TENSORS = "density.safetensors"
_FAMILIES: Mapping[str, type[MixturePosterior | NormalMixture]] = {
    "bayesian_mixture": MixturePosterior,
    "normal_mixture": NormalMixture,
}


def save_density(folder: Path, density: CodeDensity) -> None:
    """Write a density of one of the known families.

    Raises:
        ValueError: if it is of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    family = _family_of(density.scores)
    shapes = [list(shape) for shape in density.group_shapes]
    write_yaml(folder / SETTINGS, {"family": family, "group_shapes": shapes})
    tensors = {name: getattr(density.scores, name) for name in _names(family)}
    beside = folder / (TENSORS + ".part")
    everything = tensors | {"directions": density.directions}
    save_file({name: value.contiguous().clone() for name, value in everything.items()}, beside)
    beside.replace(folder / TENSORS)


def load_density(folder: Path) -> CodeDensity:
    """Return the density of a folder.

    Raises:
        FileNotFoundError: if the folder holds none.
        ValueError: if its files do not fit each other.
    """
    for name in (SETTINGS, TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder}: expected the folder of a density over codes, got no {name} in it; run "
                "the density stage first"
            )
    settings = read_yaml(folder / SETTINGS)
    try:
        family = settings["family"]
        shapes = tuple(tuple(shape) for shape in settings["group_shapes"])
        tensors: dict[str, Tensor] = load_file(folder / TENSORS)
        scores = _FAMILIES[family](**{name: tensors[name] for name in _names(family)})
        return CodeDensity(tensors["directions"], scores, shapes)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder}: expected {TENSORS} to fit {SETTINGS}, got "
            f"{' '.join(str(error).split())[:200]}; fit the density again"
        ) from None


def _family_of(scores: Density) -> str:
    for name, family in _FAMILIES.items():
        if isinstance(scores, family):
            return name
    raise ValueError(
        f"density: expected one of {sorted(_FAMILIES)} to write, got {type(scores).__name__}"
    )


def _names(family: str) -> list[str]:
    return [field.name for field in fields(_FAMILIES[family])]
