"""At which instant of the cycle masks are: what their names say, or how a pair compares."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cardiac_vae.anatomy.measurements import volume_ml
from cardiac_vae.cli.inputs import Case
from cardiac_vae.cli.masks import Labelling
from cardiac_vae.data.heart_names import HeartName, find_hearts
from cardiac_vae.labels import Phase, Structure

Volume = TypeVar("Volume")


def named_phases(cases: Sequence[Case]) -> dict[Path, Phase]:
    """Return the phase of each file whose name says ED or ES."""
    phases = {case.source: HeartName.parse(case.source).phase for case in cases}
    return {path: phase for path, phase in phases.items() if phase is not None}


def phases_of(cases: Sequence[Case], labelling: Labelling) -> dict[Path, Phase]:
    """Return the phase of each 3-D mask of which it is known: by its name, or by its partner.

    What cannot be read has no phase here: it is an error when its turn comes.
    """
    phases = named_phases(cases)
    for paths in find_hearts(case.source for case in cases).values():
        try:
            lv_ml = {path: _lv_ml(path, labelling) for path in paths}
        except (ValueError, OSError):
            continue
        ed, es = end_diastole_and_systole(paths, phases.get, lv_ml.__getitem__)
        if 0 < lv_ml[es] < lv_ml[ed]:
            phases = {ed: Phase.ED, es: Phase.ES} | phases
    return phases


def end_diastole_and_systole(
    volumes: Sequence[Volume],
    phase_of: Callable[[Volume], Phase | None],
    lv_ml: Callable[[Volume], float],
) -> tuple[Volume, Volume]:
    """Return the volumes of a heart, two or more, at end-diastole and at end-systole.

    Those of which ``phase_of`` says so; where it does of none, or of several, the one with the
    largest LV and, of those that hold an LV, the one with the smallest.
    """
    ed = max(_candidates(volumes, Phase.ED, phase_of), key=lv_ml)
    others = [volume for volume in volumes if volume is not ed]
    candidates = _candidates(others, Phase.ES, phase_of)
    es = min([volume for volume in candidates if lv_ml(volume)] or candidates, key=lv_ml)
    return ed, es


def _candidates(
    volumes: Sequence[Volume], phase: Phase, phase_of: Callable[[Volume], Phase | None]
) -> Sequence[Volume]:
    """Return the volumes that are said to be at a phase, else those of which nothing is said."""
    said = [phase_of(volume) for volume in volumes]
    for wanted in (phase, None):
        found = [volume for volume, name in zip(volumes, said, strict=True) if name == wanted]
        if found:
            return found
    return volumes


def _lv_ml(path: Path, labelling: Labelling) -> float:
    """Return the volume of the LV in the first frame of a mask."""
    volume, structures = labelling.read(path)
    return volume_ml(structures[0], Structure.LV, volume.spacing_mm)
