"""The shape models, one file each: a file in this folder is a model, its name the model's name."""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from cardiac_vae.shape_model import ShapeModel


def available_models() -> list[str]:
    """Return the names that ``build_model`` takes."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def build_model(name: str, settings: Mapping[str, Any]) -> ShapeModel:
    """Build ``cardiac_vae.models.<name>.Model`` from the values of its own ``Config``.

    Raises:
        ValueError: if there is no such model, or a setting is unknown or out of range.
    """
    if name not in available_models():
        raise ValueError(f"unknown model {name!r}; available: {available_models()}")
    module = import_module(f"{__name__}.{name}")
    model: ShapeModel = module.Model(module.Config.parse(settings, f"settings of model {name!r}"))
    return model
