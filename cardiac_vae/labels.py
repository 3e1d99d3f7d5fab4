"""The one label map: every mask inside the package has these values, whatever its dataset's own.

Readers translate to it through a ``LabelMap``; what is written out is translated back.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum

import numpy as np


class Structure(IntEnum):
    """Values of a mask voxel; readers translate to it, nothing past them sees a dataset's own."""

    BACKGROUND = 0
    RV = 1  # right ventricular cavity
    MYO = 2  # left ventricular myocardium
    LV = 3  # left ventricular cavity


class Phase(StrEnum):
    """Instants of the cardiac cycle that have an expert mask."""

    ED = "ed"
    ES = "es"


LabelMap = Mapping[Structure, int]

HEART = (Structure.RV, Structure.MYO, Structure.LV)
NUM_CLASSES = len(Structure)

ACDC_LABELS: LabelMap = {Structure.RV: 1, Structure.MYO: 2, Structure.LV: 3}
MNMS_LABELS: LabelMap = {Structure.LV: 1, Structure.MYO: 2, Structure.RV: 3}
LABEL_PRESETS: Mapping[str, LabelMap] = {"acdc": ACDC_LABELS, "mnms": MNMS_LABELS}


def parse_labels(text: str) -> LabelMap:
    """Read a preset (``acdc``, ``mnms``) or a mapping such as ``rv=3,myo=2,lv=1``.

    Raises:
        ValueError: if a structure is unknown, missing or given twice, or a value is no positive
            integer of its own.
    """
    if text in LABEL_PRESETS:
        return LABEL_PRESETS[text]
    expected = f"expected one of {sorted(LABEL_PRESETS)} or a mapping such as rv=3,myo=2,lv=1"
    labels: dict[Structure, int] = {}
    for part in text.split(","):
        name, _, value = (token.strip() for token in part.partition("="))
        known = {structure.name.lower(): structure for structure in HEART}
        if name.lower() not in known or not value.isdigit() or not int(value):
            raise ValueError(f"--labels {text!r}: {expected}, got {part!r}")
        if known[name.lower()] in labels:
            raise ValueError(f"--labels {text!r}: {name} is given twice")
        labels[known[name.lower()]] = int(value)
    if set(labels) != set(HEART) or len(set(labels.values())) != len(HEART):
        raise ValueError(f"--labels {text!r}: {expected}, each structure with a value of its own")
    return labels


def to_structures(mask: np.ndarray, labels: LabelMap) -> np.ndarray:
    """Translate a dataset's own integer values (any shape) to ``Structure``, as uint8.

    Raises:
        ValueError: if the mask holds a value that ``labels`` does not name.
    """
    values = np.unique(mask)
    known = {0, *labels.values()}
    unknown = [value.item() for value in values if value.item() not in known]
    if unknown:
        shown = ", ".join(map(str, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
        raise ValueError(f"expected labels {sorted(known)}, got {shown} as well; {_hint(values)}")
    translated = np.zeros(mask.shape, np.uint8)
    for structure, value in labels.items():
        translated[mask == value] = structure
    return translated


def from_structures(mask: np.ndarray, labels: LabelMap) -> np.ndarray:
    """Translate ``Structure`` values (any shape) back to a dataset's own, as int16."""
    table = np.zeros(NUM_CLASSES, np.int16)
    for structure, value in labels.items():
        table[structure] = value
    return table[mask]


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    """Return the mask (D, H, W) uint8 of the most probable structures of (D, C, H, W)."""
    return probabilities.argmax(axis=1).astype(np.uint8)


def _hint(values: np.ndarray) -> str:
    """Say which ``--labels`` would fit the values found."""
    found = sorted(value.item() for value in values if value.item() > 0)
    if len(found) <= len(HEART) and all(float(value).is_integer() for value in found):
        example = ",".join(
            f"{structure.name.lower()}={int(value)}"
            for structure, value in zip(HEART, found, strict=False)
        )
        return f"name what each value means, for example --labels {example}"
    return "a mask has at most three structures: is this a probability map or an image?"
