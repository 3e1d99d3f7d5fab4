"""At which instant of the cycle files are: what names say, or how the files of a heart compare."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cardiac_vae.data.heart_names import HeartName, find_hearts
from cardiac_vae.labels import Phase

Volume = TypeVar("Volume")


class Phases:
    """At which phase each file of a run is, where that is known.

    A name that says ED or ES is taken at its word, and other files are at the phase that the person
    named. Where no one did, the 3-D files of a heart are compared: the largest LV is at
    end-diastole, the smallest at end-systole.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        named: Phase | None,
        lv_ml: Callable[[Path], float],
    ) -> None:
        """Take all files of the run, and how to measure the LV of one; it is asked heart by heart.

        A heart is not compared if ``lv_ml`` raises ``ValueError`` or ``OSError`` for a file of it:
        one that cannot be read, or is a cine, which is a heart of its own.

        Raises:
            ValueError: if two files of a heart claim the same instant, and no phase is ``named``.
        """
        self._named = named
        self._lv_ml = lv_ml
        self._hearts = {} if named else find_hearts(paths)
        self._compared: dict[Path, Mapping[Path, Phase]] = {}

    def of(self, path: Path) -> Phase | None:
        """Return the phase of a file; the first one of a heart to ask has all of it measured."""
        name = HeartName.parse(path)
        if name.phase or self._named:
            return name.phase or self._named
        if name.heart not in self._hearts:
            return None
        if name.heart not in self._compared:
            self._compared[name.heart] = self._compare(self._hearts[name.heart])
        return self._compared[name.heart].get(path)

    def _compare(self, paths: Sequence[Path]) -> Mapping[Path, Phase]:
        try:
            lv_ml = {path: self._lv_ml(path) for path in paths}
        except (ValueError, OSError):  # said of that file when its turn comes
            return {}
        ed, es = end_diastole_and_systole(
            paths, lambda path: HeartName.parse(path).phase, lv_ml.__getitem__
        )
        return {ed: Phase.ED, es: Phase.ES} if 0 < lv_ml[es] < lv_ml[ed] else {}


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
