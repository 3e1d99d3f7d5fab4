"""A model on file: a folder with ``config.yaml`` and ``weights.safetensors``, nothing pickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cardiac_vae.config import read_yaml, write_yaml
from cardiac_vae.layers.weights import read_weights, write_weights
from cardiac_vae.models import build_model
from cardiac_vae.shape_model import ShapeModel

CONFIG = "config.yaml"
WEIGHTS = "weights.safetensors"


def save_model(
    folder: Path, name: str, settings: Mapping[str, Any], model: ShapeModel, pixel_mm: float
) -> None:
    """Write a shape model; ``pixel_mm`` is the pixel size of the masks it was trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(
        folder / CONFIG, {"model": name, "settings": dict(settings), "pixel_mm": float(pixel_mm)}
    )
    write_weights(folder / WEIGHTS, model)


def load_model(folder: Path) -> ShapeModel:
    """Return the shape model of a folder, in eval mode on the CPU.

    Raises:
        FileNotFoundError: if the folder holds no model.
        ValueError: if its files do not fit each other.
    """
    config = _read_config(folder)
    model = build_model(config["model"], config["settings"])
    read_weights(folder / WEIGHTS, model, folder / CONFIG, "model")
    return model.eval()


def pixel_size(folder: Path) -> float:
    """Return the pixel size in mm of the masks that a folder's model was trained on."""
    return float(_read_config(folder)["pixel_mm"])


def _read_config(folder: Path) -> dict[str, Any]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder}: expected the folder of a trained shape model, got no {name} in it; "
                "name a folder such as models/nvae"
            )
    config = read_yaml(folder / CONFIG)
    missing = {"model", "settings", "pixel_mm"} - set(config)
    if missing:
        raise ValueError(
            f"{folder / CONFIG}: expected model, settings and pixel_mm, got no {sorted(missing)}; "
            "is this the folder of a shape model?"
        )
    return config
