"""At which instant of the cycle masks are: what their names say, or how a pair compares."""

from collections.abc import Sequence
from pathlib import Path

from cardiac_vae.anatomy.measurements import volume_ml
from cardiac_vae.cli.inputs import Case
from cardiac_vae.cli.masks import Labelling
from cardiac_vae.data.heart_names import HeartName, find_hearts
from cardiac_vae.labels import Phase, Structure


def named_phases(cases: Sequence[Case]) -> dict[Path, Phase]:
    """Return the phase of each file whose name says ED or ES."""
    phases = {case.source: HeartName.parse(case.source).phase for case in cases}
    return {path: phase for path, phase in phases.items() if phase is not None}


def phases_of(cases: Sequence[Case], labelling: Labelling) -> dict[Path, Phase]:
    """Return the phase of each 3-D mask of which it is known.

    Where the files of a heart are only numbered, the one with the largest LV is end-diastole and
    the one with the smallest end-systole. What cannot be read has no phase here: it is an error
    when its turn comes.
    """
    phases = named_phases(cases)
    for paths in find_hearts(case.source for case in cases).values():
        if any(path in phases for path in paths):
            continue
        volumes = {}
        for path in paths:
            try:
                volumes[path] = _lv_ml(path, labelling)
            except (ValueError, OSError):
                break
        else:
            smallest, largest = (pick(volumes, key=volumes.__getitem__) for pick in (min, max))
            if volumes[smallest] < volumes[largest]:
                phases |= {largest: Phase.ED, smallest: Phase.ES}
    return phases


def _lv_ml(path: Path, labelling: Labelling) -> float:
    """Return the volume of the LV in the first frame of a mask."""
    volume, structures = labelling.read(path)
    return volume_ml(structures[0], Structure.LV, volume.spacing_mm)
