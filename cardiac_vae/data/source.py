"""Which data a study is about; every stage that reads raw cases reads this."""

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from cardiac_vae.config import StrictConfig


class SourceConfig(StrictConfig):
    """Which data, and where it is.

    Attributes:
        name: ``phantom``, which needs no data, or the layout of the folder ``root``.
        root: Folder of the user's data; it is read and never written to.
    """

    name: Literal["phantom", "acdc", "nifti_folder"] = "phantom"
    root: Path | None = None

    @model_validator(mode="after")
    def _real_data_is_somewhere(self) -> Self:
        if (self.name == "phantom") != (self.root is None):
            raise ValueError(
                "root is the folder of acdc or nifti_folder data and none for the phantom, "
                f"got name {self.name!r} with root {self.root}"
            )
        return self

    @property
    def reader(self) -> str:
        """Return the name of the reader that understands the layout."""
        return "acdc" if self.name == "phantom" else self.name
