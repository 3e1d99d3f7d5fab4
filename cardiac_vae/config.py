"""The base of every config, and the only reader of the files in ``configs/``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class StrictConfig(BaseModel):
    """Base of every config; unknown keys, wrong types and later changes are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str) -> Self:
        """Build the config from plain values; ``where`` names their file and section.

        Raises:
            ValueError: in one line, naming each parameter that is unknown or out of range.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, item['loc'])) or 'settings'}: {_explain(item['type'], item)}"
                for item in error.errors()
            ]
            raise ValueError(
                f"{where}: {'; '.join(problems)} (known: {', '.join(cls.model_fields)})"
            ) from None


def _explain(kind: str, item: Mapping[str, Any]) -> str:
    if kind == "extra_forbidden":
        return "unknown parameter"
    return f"{item['msg']}, got {item['input']!r}"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(
            f"{path}: expected YAML, got {' '.join(str(error).split())[:200]}; mend the file"
        ) from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of parameters, got {type(values).__name__}")
    return values


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping as YAML, in the order given."""
    path.write_text(yaml.safe_dump(dict(values), sort_keys=False))


def read_section(path: Path, section: str) -> dict[str, Any]:
    """Read one section of a params file.

    Raises:
        ValueError: if the section is missing.
    """
    values = read_yaml(path)
    if section not in values:
        raise ValueError(f"{path}: no section {section!r}; there are {sorted(values)}")
    return dict(values[section] or {})
