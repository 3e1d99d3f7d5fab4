"""What a segmenter draws of the scans of a run, where those of a heart are compared first."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cardiac_vae.anatomy.measurements import volume_ml
from cardiac_vae.data.nifti import NiftiVolume, read_image
from cardiac_vae.labels import Structure, most_probable
from cardiac_vae.segmentation.inference import Segmenter

_MOST_KEPT = 2  # a heart's pair; of a heart with more scans, some are drawn twice


class Drawings:
    """A segmenter that keeps what it drew to compare scans, until each is taken or two came later.

    So a pair is drawn once, and memory is that of a pair, however many scans there are.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        """Take the segmenter."""
        self._segmenter = segmenter
        self._kept: dict[Path, np.ndarray] = {}

    def lv_ml(self, path: Path) -> float:
        """Draw a scan, and return the volume of its LV.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no scan, or a cine.
        """
        scan = read_image(path)
        image = scan.volume
        if len(self._kept) == _MOST_KEPT:
            del self._kept[next(iter(self._kept))]  # the oldest
        self._kept[path] = self._segmenter.predict(image, scan.spacing_mm)
        return volume_ml(most_probable(self._kept[path]), Structure.LV, scan.spacing_mm)

    def take(self, scan: NiftiVolume) -> Iterator[np.ndarray]:
        """Yield the probabilities (D, C, H, W) of each frame of a scan, and keep them no longer."""
        for image in scan.frames:
            kept = self._kept.pop(scan.path, None)
            yield self._segmenter.predict(image, scan.spacing_mm) if kept is None else kept
