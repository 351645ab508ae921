"""The branch of MD that a walker has accepted: snapshots to go back to, frames to keep, and what was put aside."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import ase.io
from ase import Atoms

from mlip_autopipec.core.files import write_bytes
from mlip_autopipec.daemons.walkerrecord import WalkerRecord
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.settings import RetentionSettings
from mlip_autopipec.store.snapshots import Snapshots
from mlip_autopipec.store.trajectory import Trajectory
from mlip_autopipec.store.walkerstate import WalkerState

if TYPE_CHECKING:
    from mlip_autopipec.engines.lammps.outcome import MovingAtoms

log = logging.getLogger(__name__)

_GB = 1e9


class Branch:
    """Keeps `snapshots/`, `trajectory.extxyz.gz` and `excursions/` in step with `state.json`.

    Parameters
    ----------
    folder
        `walkers/wNN/`.
    record
        What the walker says of itself: names the snapshot on which the branch stands.
    """

    def __init__(self, folder: Path, record: WalkerRecord, otf: OtfSettings, kept: RetentionSettings) -> None:
        ring = 2 + -(-otf.rewind_steps // otf.snapshot_interval)
        self.snapshots = Snapshots(folder, kept=max(ring, kept.snapshots))
        self.trajectory = Trajectory(folder)
        self._excursions = folder / "excursions"
        self._record = record
        self._kept = kept

    def pick_up(self, found: WalkerState | None) -> None:
        """Put aside what a kill left of branches that were given up, or were not yet accepted."""
        self._excursions.mkdir(parents=True, exist_ok=True)
        self.trajectory.mend()
        if found is None or found.snapshot is None:
            self.trajectory.cut(-1)
        else:
            self.snapshots.prune(found.snapshot)
            self.trajectory.abandon(found.snapshot_step)

    def take(self, md: MovingAtoms) -> None:
        """Append the frame, save the MD state, name it in `state.json`: all of it on its way while MD goes on."""
        state = self._record.state
        step, frame = state.step, md.frame()  # before the snapshot, which ends the validity of gamma
        new = state.snapshot is None or step > state.snapshot_step
        frame.info.update(walker=state.name, step=step, version=state.version)
        name, snapshot = self.snapshots.name(step, state.seed), md.snapshot()

        def write() -> None:
            if new:
                # First, since a frame without its snapshot is put aside at the next start, but never made up for.
                self.trajectory.append(frame)
            # The state that names it settles it.
            write_bytes(self.snapshots.path(name), snapshot, settle=False)

        def tidy() -> None:
            self.snapshots.prune(name)
            self._forget()

        # A safe step beyond the halted one is progress: failed healings are no longer "in a row".
        reseeds = 0 if step > state.halted_step else state.reseeds
        self._record.save_behind(write, tidy, snapshot=name, snapshot_step=step, reseeds=reseeds)

    def restore(self, md: MovingAtoms) -> bool:
        """Let MD go on from the last safe snapshot; False if there is none yet."""
        self._record.settle()
        name = self._record.state.snapshot
        if name is not None:
            md.restore(self.snapshots.path(name))
        return name is not None

    def step_back(self) -> None:
        """Stand on the snapshot before the last one, if there is one."""
        self._record.settle()
        name = self._record.state.snapshot
        older = self.snapshots.before(name) if name else None
        if older is not None:
            self._record.note(snapshot=older[0], snapshot_step=older[1])

    def leave_tail(self) -> None:
        """Put the frames aside that came after the snapshot on which the branch stands now."""
        self._record.settle()
        state = self._record.state
        if (tail := self.trajectory.abandon(state.snapshot_step)) is not None:
            log.info("%s: what came after step %d is in %s", state.name, state.snapshot_step, tail)

    def put_aside(self, frame: Atoms, name: str) -> None:
        """Keep a frame that is not accepted for people to see."""
        ase.io.write(self._excursions / f"{name}.extxyz", frame)

    def _forget(self) -> None:
        """Remove what the settings want no more."""
        limit, files = self._kept.trajectory_gb, self._kept.excursions
        if limit is not None:
            try:
                if gone := self.trajectory.shorten(limit * _GB):
                    log.info("%s: %d oldest frames removed (retention.trajectory_gb)", self.trajectory.path, gone)
            except OSError as error:  # the shorter one has no room beside it, say: MD goes on with the long one
                log.warning("%s: not shortened (retention.trajectory_gb): %s", self.trajectory.path, error)
        if files is not None:
            present = sorted(self._excursions.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            for path in present[: max(0, len(present) - files)]:
                path.unlink()
