"""A walker's safe states on disk: `snapshots/<step>-<seed>.restart`."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"(\d+)-(\d+)\.restart")


class Snapshots:
    """Names, ages and removal of the snapshots of one walker; what is in them is the MD engine's business.

    Parameters
    ----------
    folder
        `walkers/wNN/`.
    kept
        Length of the ring: one to go on from, and older ones for when that turns out not to be safe.
    """

    def __init__(self, folder: Path, kept: int = 3) -> None:
        self.folder = folder
        self._kept = kept
        (folder / "snapshots").mkdir(parents=True, exist_ok=True)

    @staticmethod
    def name(step: int, seed: int) -> str:
        """Return the file name, relative to the walker's folder.

        The seed is in it because a branch with new velocities must not overwrite what the old `state.json` names.
        """
        return f"snapshots/{step:010d}-{seed}.restart"

    def path(self, name: str) -> Path:
        return self.folder / name

    def before(self, name: str) -> tuple[str, int] | None:
        """Return name and step of the youngest snapshot of an earlier step than `name`; None if there is none.

        It is one of the same branch: `prune` leaves no others.
        """
        step = _step_and_seed(name)[0]
        earlier = [found for found in self._all() if _step_and_seed(found)[0] < step]
        return (earlier[-1], _step_and_seed(earlier[-1])[0]) if earlier else None

    def prune(self, named: str) -> None:
        """Keep `named`, on which the accepted branch stands now, and the youngest of earlier steps.

        Those of the same step or later belong to branches that were given up: nobody goes back to them, and they must
        not crowd out the safe ones.
        """
        step = _step_and_seed(named)[0]
        earlier = [name for name in self._all() if _step_and_seed(name)[0] < step]
        keep = {named, *earlier[max(0, len(earlier) - self._kept + 1) :]}
        for name in self._all():
            if name not in keep:
                self.path(name).unlink(missing_ok=True)

    def _all(self) -> list[str]:
        names = [p.name for p in (self.folder / "snapshots").iterdir() if _NAME.fullmatch(p.name)]
        return sorted((f"snapshots/{name}" for name in names), key=_step_and_seed)


def _step_and_seed(name: str) -> tuple[int, int]:
    found = _NAME.fullmatch(name.rpartition("/")[2])
    if found is None:
        raise ValueError(f"{name}: not the name of a snapshot")
    return int(found[1]), int(found[2])
