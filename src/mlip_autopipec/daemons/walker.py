"""One walker: a process that runs MD, halts, asks, waits and goes on.

It is the only writer of `walkers/wNN/`. A kill at any instant costs at most `otf.snapshot_interval` steps: everything
it needs to go on is in `state.json`, the snapshot that it names, and `halt.json`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.core.errors import Crashed, EngineError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.daemons.branch import Branch
from mlip_autopipec.daemons.current import CurrentPotential
from mlip_autopipec.daemons.healing import Healing
from mlip_autopipec.daemons.pace import Pace
from mlip_autopipec.daemons.stressgate import StressGate
from mlip_autopipec.daemons.waiting import Waiting
from mlip_autopipec.daemons.walkerrecord import WalkerRecord
from mlip_autopipec.runtime.room import Room
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.watch import OtfSettings, WalkerPlan, spike, too_close
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.settings import RetentionSettings
from mlip_autopipec.store.walkerstate import WalkerState

if TYPE_CHECKING:
    from mlip_autopipec.engines.lammps.outcome import MovingAtoms

log = logging.getLogger(__name__)

_LARGEST_SEED = 899_999_999  # of LAMMPS' random numbers


class Walker:
    """MD under watch (a `runtime.serve.Daemon`).

    Parameters
    ----------
    folder
        `walkers/wNN/`.
    plan, otf
        What to run and how to watch it.
    structure
        File with the start structure, with velocities or without.
    make_evaluator
        Gives the evaluator of a version folder.
    make_md
        Gives the MD engine for an evaluator; the number is its time step as a fraction of the plan's.
    moved_by
        What the status says of the engine: its name, or LAMMPS' command.
    on_potential
        Called with version and evaluator whenever MD begins with another one.
    kept, room
        What stays on disk; whether there is room to write.
    chunk_s
        s that one call of the MD engine should take; None: as little as a daemon's step may.
    """

    def __init__(
        self,
        folder: Path,
        plan: WalkerPlan,
        otf: OtfSettings,
        *,
        structure: Path,
        healing: Healing,
        registry: Registry,
        events: EventLog,
        make_evaluator: Callable[[Path], Evaluator],
        make_md: Callable[[Evaluator, float], MovingAtoms],
        moved_by: str = "",
        on_potential: Callable[[str, Evaluator], None] = lambda *_: None,
        kept: RetentionSettings | None = None,
        room: Room | None = None,
        chunk_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.otf = otf
        self.structure = structure
        self.healing = healing
        self.registry = registry
        self.make_md = make_md
        self.record = WalkerRecord(folder, plan, registry, events, clock or SystemClock())
        kept = kept or RetentionSettings()
        self.branch = Branch(folder, self.record, otf, kept)
        self.snapshots = self.branch.snapshots
        self._room = room or Room(folder, kept.min_free_gb)
        self.md: MovingAtoms | None = None
        self.current = CurrentPotential(registry, make_evaluator)
        self.waiting = Waiting(otf, healing, self.record, self.current)
        self.pace = Pace(otf, chunk_s)
        self._moved_by = moved_by
        self._on_potential = on_potential
        self._timestep = 1.0  # of `md`, as a fraction of the plan's
        self._safe = False  # the present frame was looked at, and is below the threshold
        self._draining = False
        self._stress = StressGate(plan, otf, registry)

    @property
    def state(self) -> WalkerState:
        """What the walker says of itself."""
        return self.record.state

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Find the walker where it stood."""
        found = self.record.resume()
        self.branch.pick_up(found)
        if found is None:
            return
        if found.state == "running":
            # Killed, or ended by what MD did: look at every step until the next snapshot.
            self.pace.careful_until = found.snapshot_step + self.otf.snapshot_interval
        unfinished = found.step < self.plan.steps or self.healing.halt is not None
        if found.state == "failed" or (found.state == "done" and unfinished):
            # A new start is a new chance; and more steps may be wanted by now.
            self.record.save(state="starting", reason="")
        halt = self.healing.halt
        if halt is not None and not self.state.ended:
            # The kill may have come between the halt and its note in the state.
            noted = {"step": halt.step, "halted_step": halt.step, "gamma": halt.gamma}
            noted["extractions"] = self.healing.extractions
            self.record.save(state="halted", **noted)

    def step(self, now: float) -> Outcome:
        """Move on by one chunk of MD, or look whether the waiting is over."""
        if self.state.ended:
            return Outcome.DONE
        if self._draining:
            if self.healing.halt is None:
                self.record.save(state="stopped")
            return Outcome.DONE
        self.current.follow()
        if self.current.version is None:
            if self.state.waiting_for != self.current.missing:
                self.record.save(waiting_for=self.current.missing)
            return Outcome.IDLE
        if self.healing.halt is not None:
            return self._wait(now)
        missing = self._stress.missing(str(self.current.version)) or self._room.missing()
        if self.state.waiting_for != missing:
            self.record.save(waiting_for=missing)
        if missing:
            return Outcome.IDLE
        if self.state.step >= self.plan.steps:
            self._end("done", "all steps made")
            return Outcome.DONE
        if self.md is None:
            self._begin()
        elif self.current.version != self.state.version:
            self._md().swap(self.current.evaluator)
            self.record.swapped(str(self.current.version))
            self._on_potential(str(self.current.version), self.current.evaluator)
            self.waiting.follow()
        return self._move()

    def drain(self) -> None:
        """Leave at the next step, from the present frame if it is safe to come back to, else from the last that was."""
        if self.md is not None and self._safe and not self._draining:
            self.branch.take(self._md())
        self._draining = True

    def wake_folder(self) -> Path:
        """Where a new version appears."""
        return self.registry.folder

    def close(self) -> None:
        """End MD and free its memory (idempotent)."""
        if self.md is not None:
            self.md.close()
            self.md = None
        self.record.settle()

    # --- MD ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start MD, or resume it from the last snapshot."""
        fresh = self.state.snapshot is None
        self._new_md()
        if fresh and self.state.version is None:
            self.record.started(self.current.version)
        if self.current.version != self.state.version:
            self.record.swapped(str(self.current.version))
        self.record.save(state="running", waiting_for="", engine=self._moved_by)

    def _new_md(self) -> None:
        """Make the MD engine, at the last safe snapshot or, before the first one, at the start structure."""
        self.close()
        self._timestep = self.pace.timestep(self.state.snapshot_step)
        self.md = self.make_md(self.current.evaluator, self._timestep)
        if not self.branch.restore(self.md):
            self.md.start(read_structures(self.structure, "start.structure")[0], velocity_seed=self.state.seed)
        self._on_potential(str(self.current.version), self.current.evaluator)
        self.record.note(step=self.state.snapshot_step)

    def _move(self) -> Outcome:
        md = self._md()
        md.halt_above = self.healing.halt_level
        md.gamma_every = self.pace.gamma_every(self.state.step)
        next_snapshot = self.pace.next_snapshot(self.state.snapshot_step)
        fresh = self.state.snapshot is None
        steps = 0 if fresh else self.pace.steps(self.state.step, last=self.plan.steps, next_snapshot=next_snapshot)
        begin = time.monotonic()
        self._safe = False
        try:
            outcome = md.run(steps)
        except Crashed as error:
            self._exploded(error, self.state.step + steps, next_snapshot)
            return Outcome.WORKED
        self.pace.took(steps, time.monotonic() - begin)
        if outcome.halted:
            self._halted(outcome.step, next_snapshot)
            return Outcome.WORKED
        self.record.note(step=outcome.step, gamma=outcome.gamma_max, temperature=md.set_points().temperature)
        if outcome.escaped:
            self.record.stuck(f"{outcome.escaped} (otf.density_bounds)", [])
            self.close()
            return Outcome.WORKED
        # Only a frame whose gamma was looked at, and is below the threshold, is safe to come back to.
        self._safe = bool(outcome.checks) and outcome.checks[-1][0] == outcome.step
        if self._safe:
            version, gamma = str(self.state.version), outcome.checks[-1][1]
            self.healing.passed(md.frame, outcome.step, gamma, version, self.current.evaluator)
            self.record.note(extractions=self.healing.extractions)
        if self._safe and (fresh or outcome.step >= min(next_snapshot, self.plan.steps)):
            self.branch.take(md)
            if self._timestep != self.pace.timestep(outcome.step):
                self._new_md()
        else:
            self.record.tell()
        return Outcome.WORKED

    # --- halting and healing ----------------------------------------------------------------------------------

    def _halted(self, step: int, next_snapshot: int) -> None:
        """Ask for a label and let MD go: waiting costs no CPU and no memory."""
        frame = self._md().frame()
        thermostat = None if self.plan.ensemble == "nve" else self._md().set_points().temperature
        limits, every_step = self.otf.sense, step <= self.pace.careful_until
        wrong = too_close(frame, limits)
        # Once every step is looked at, no earlier frame is above the threshold: this one has to do.
        if not wrong and not every_step:
            wrong = spike(frame, limits, self.healing.halt_level, thermostat)
        if wrong:
            self._rewind(frame, step, wrong, next_snapshot)
            return
        if not self.healing.may_extract(self.otf.max_extractions):
            self._end("done", f"gamma exceeded again at step {step} after otf.max_extractions regions")
            return
        halt = self.healing.open(frame, step, str(self.state.version), self.current.evaluator)
        self.record.save(
            state="halted",
            step=step,
            halted_step=step,
            gamma=halt.gamma,
            extractions=self.healing.extractions,
            waiting_for=f"label of task {halt.task_ids[0]}" if halt.task_ids else "",
        )
        self.close()

    def _wait(self, now: float) -> Outcome:
        """Look whether the waiting is over, and go on from a safe snapshot if it is."""
        on = self.waiting.look(now)
        if on is None:
            return Outcome.IDLE
        if on.reseed:
            self._reseed(on.reason, on.tasks, failed=on.failed)
        else:
            self._new_md()
        self.record.save(state="running", waiting_for="")
        return Outcome.WORKED

    def _reseed(self, reason: str, tasks: list[str], *, failed: bool = True) -> None:
        """Go on from a safe snapshot with new velocities."""
        if self.state.halted_step <= self.state.snapshot_step:
            # The snapshot itself is no longer safe: new velocities alone would halt at once again.
            self.branch.step_back()
        self.record.note(reseeds=self.state.reseeds + failed, seed=self.state.seed % _LARGEST_SEED + 1)
        self._new_md()
        self._md().reseed(self.state.seed)
        self.record.reseeded(reason, tasks)
        if self.state.snapshot is not None:
            # The branch with new velocities must survive a kill, else the old one would come back.
            self.branch.take(self._md())
            # After that: what a kill in between leaves undone is done at the next start.
            self.branch.leave_tail()

    def _rewind(self, frame: Atoms, step: int, wrong: str, next_snapshot: int) -> None:
        """Keep what makes no sense for people to see, and go back to where gamma says so earlier."""
        self.branch.put_aside(frame, f"beyond-sense-step{step}")
        self.record.rewound(step, wrong)
        self._exploded(Crashed(f"the frame of step {step} makes no sense: {wrong}"), step, next_snapshot)

    def _exploded(self, error: Crashed, step: int, next_snapshot: int) -> None:
        """MD broke down between two looks at gamma: go back, look at every step, and so halt before it breaks."""
        if step > self.pace.careful_until:
            log.warning("%s: %s; looking at every step from %d on", self.plan.name, error, self.state.snapshot_step)
            self.pace.rewind(self.state.snapshot_step, max(step, next_snapshot))
            self._new_md()
            return
        reason = f"MD broke down with no gamma above the threshold before: {error.message}"
        if self.state.reseeds + 1 >= self.otf.reseed_limit:
            self.record.stuck(reason, [])
            self.close()
            return
        self.record.note(halted_step=max(step, self.state.halted_step))
        self._reseed(reason, [])
        self.record.save()

    # --- small things -----------------------------------------------------------------------------------------

    def _end(self, state: str, reason: str) -> None:
        self.record.ended(state, reason)
        self.close()

    def _md(self) -> MovingAtoms:
        if self.md is None:
            raise EngineError("walker has no MD", "this is a bug: report it")
        return self.md
