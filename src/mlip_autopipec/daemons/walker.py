"""One walker: a process that runs MD, halts, asks, waits and goes on.

It is the only writer of `walkers/wNN/`. A kill at any instant costs at most `otf.snapshot_interval` steps: everything
it needs to go on is in `state.json`, the snapshot that it names, and `halt.json`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.core.errors import Crashed, EngineError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.daemons.current import CurrentPotential
from mlip_autopipec.daemons.healing import Healing
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.swap import Decision
from mlip_autopipec.stages.watch import OtfSettings, WalkerPlan
from mlip_autopipec.store.halts import Halt
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.snapshots import Snapshots
from mlip_autopipec.store.walkerstate import WalkerState, read_state, write_state

if TYPE_CHECKING:
    from mlip_autopipec.engines.lammps.md import LammpsMD

log = logging.getLogger(__name__)

# A step of the daemon returns within about a second, whatever the size of the system.
_CHUNK_S = 0.5
# Task states are read from folder listings that may lie on a network: less often than `current.json`.
_TASK_LOOK_S = 2.0
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
        Gives the MD engine for an evaluator.
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
        make_md: Callable[[Evaluator], LammpsMD],
        clock: Clock | None = None,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.otf = otf
        self.structure = structure
        self.healing = healing
        self.registry = registry
        self.events = events
        self.make_md = make_md
        self.clock = clock or SystemClock()
        self.snapshots = Snapshots(folder)
        self.state = WalkerState(plan.name, steps=plan.steps, temperature=plan.temperature, seed=plan.seed)
        self.md: LammpsMD | None = None
        self.current = CurrentPotential(registry, make_evaluator)
        self._next_task_look = 0.0
        self._looked_with: str | None = None
        self._chunk = otf.check_frequency
        self._careful_until = 0  # look at gamma every step before this one
        self._safe = False  # the present frame was looked at, and is below the threshold
        self._draining = False

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Find the walker where it stood."""
        (self.folder / "excursions").mkdir(parents=True, exist_ok=True)
        found = read_state(self.folder)
        if found is None:
            return
        self.state = replace(found, steps=self.plan.steps, temperature=self.plan.temperature)
        if found.state == "running":
            # Killed, or ended by what MD did: look at every step until the next snapshot.
            self._careful_until = found.snapshot_step + self.otf.snapshot_interval
        if found.state == "failed" or (found.state == "done" and found.step < self.plan.steps):
            # A new start is a new chance; and more steps may be wanted by now.
            self._save(state="starting", reason="")
        halt = self.healing.halt
        if halt is not None and not self.state.ended:
            # The kill may have come between the halt and its note in the state.
            noted = {"step": halt.step, "halted_step": halt.step, "gamma": halt.gamma, "extractions": halt.number}
            self._save(state="halted", **noted)

    def step(self, now: float) -> Outcome:
        """Move on by one chunk of MD, or look whether the waiting is over."""
        if self.state.ended:
            return Outcome.DONE
        if self._draining:
            if self.healing.halt is None:
                self._save(state="stopped")
            return Outcome.DONE
        self.current.follow()
        if self.current.version is None:
            if self.state.waiting_for != self.current.missing:
                self._save(waiting_for=self.current.missing)
            return Outcome.IDLE
        if self.healing.halt is not None:
            return self._wait(now)
        if self.state.step >= self.plan.steps:
            self._end("done", "all steps made")
            return Outcome.DONE
        if self.md is None:
            self._begin()
        elif self.current.version != self.state.version:
            self._md().swap(self.current.evaluator)
            self._swapped()
        return self._move()

    def drain(self) -> None:
        """Leave at the next step, from the present frame if it is safe to come back to, else from the last that was."""
        if self.md is not None and self._safe and not self._draining:
            self._snapshot()
        self._draining = True

    def close(self) -> None:
        """End MD and free its memory (idempotent)."""
        if self.md is not None:
            self.md.close()
            self.md = None

    # --- MD ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start MD, or resume it from the last snapshot."""
        fresh = self.state.snapshot is None
        self._new_md()
        if fresh and self.state.version is None:
            self.events.emit("md_started", walker=self.plan.name, step=0, version=self.current.version)
            self._save(version=self.current.version)
        if self.current.version != self.state.version:
            self._swapped()
        self._save(state="running", waiting_for="")

    def _new_md(self) -> None:
        """Make the MD engine, at the last safe snapshot or, before the first one, at the start structure."""
        self.close()
        self.md = self.make_md(self.current.evaluator)
        self.md.halt_above = self.otf.uncertainty_threshold
        if self.state.snapshot is None:
            self.md.start(read_structures(self.structure, "start.structure")[0], velocity_seed=self.state.seed)
        else:
            self.md.restore(self.snapshots.path(self.state.snapshot))
        self.state = replace(self.state, step=self.state.snapshot_step)

    def _move(self) -> Outcome:
        md = self._md()
        md.gamma_every = 1 if self.state.step < self._careful_until else self.otf.check_frequency
        next_snapshot = self.state.snapshot_step + self.otf.snapshot_interval
        fresh = self.state.snapshot is None
        steps = 0 if fresh else min(self._chunk, self.plan.steps - self.state.step)
        if self.state.step < next_snapshot:
            steps = min(steps, next_snapshot - self.state.step)
        begin = time.monotonic()
        self._safe = False
        try:
            outcome = md.run(steps)
        except Crashed as error:
            self._exploded(error, self.state.step + steps, next_snapshot)
            return Outcome.WORKED
        self._adapt_chunk(steps, time.monotonic() - begin)
        if outcome.halted:
            self._halted(outcome.step)
            return Outcome.WORKED
        self.state = replace(self.state, step=outcome.step, gamma=outcome.gamma_max)
        # Only a frame whose gamma was looked at, and is below the threshold, is safe to come back to.
        self._safe = bool(outcome.checks) and outcome.checks[-1][0] == outcome.step
        if self._safe and (fresh or outcome.step >= min(next_snapshot, self.plan.steps)):
            self._snapshot()
        else:
            self._save()
        return Outcome.WORKED

    def _adapt_chunk(self, steps: int, seconds: float) -> None:
        """Make chunks of about `_CHUNK_S`: a whole number of looks at gamma, unless steps are slow."""
        wanted = max(1, round(max(steps, 1) * _CHUNK_S / max(seconds, 1e-6)))
        looks = min(wanted // self.otf.check_frequency, 10_000)
        self._chunk = looks * self.otf.check_frequency or wanted

    def _snapshot(self) -> None:
        """Save the MD state, name it in `state.json`, append the frame to the accepted branch."""
        previous, step = self.state, self.state.step
        name = self.snapshots.name(step, previous.seed)
        frame = self._md().frame()  # before saving, which ends the validity of gamma
        self._md().save(self.snapshots.path(name))
        # A safe step beyond the halted one is progress: failed healings are no longer "in a row".
        reseeds = 0 if step > previous.halted_step else previous.reseeds
        self._save(snapshot=name, snapshot_step=step, reseeds=reseeds)
        if previous.snapshot is None or step > previous.snapshot_step:
            frame.info.update(walker=self.plan.name, step=step, version=self.state.version)
            self.snapshots.append_frame(frame)
        self.snapshots.prune(name)

    # --- halting and healing ----------------------------------------------------------------------------------

    def _halted(self, step: int) -> None:
        """Ask for a label and let MD go: waiting costs no CPU and no memory."""
        if self.state.extractions >= self.otf.max_extractions:
            self._end("done", f"gamma exceeded again at step {step} after otf.max_extractions regions")
            return
        halt = self.healing.open(self._md().frame(), step, str(self.state.version), self.current.evaluator)
        self._save(
            state="halted",
            step=step,
            halted_step=step,
            gamma=halt.gamma,
            extractions=halt.number,
            waiting_for=f"label of task {halt.task_ids[0]}",
        )
        self.close()

    def _wait(self, now: float) -> Outcome:
        """Look whether the halt can end."""
        if now < self._next_task_look and self.current.version == self._looked_with:
            return Outcome.IDLE
        self._next_task_look = now + _TASK_LOOK_S
        self._looked_with = self.current.version
        self.healing.republish(self.current.evaluator)
        decision = self.healing.look(
            str(self.current.version),
            self.current.evaluator,
            reseeds_in_a_row=self.state.reseeds,
            reseed_limit=self.otf.reseed_limit,
        )
        if decision.action == "wait":
            if decision.reason != self.state.waiting_for:
                self._save(waiting_for=decision.reason)
            return Outcome.IDLE
        self._resume(decision)
        return Outcome.WORKED

    def _resume(self, decision: Decision) -> None:
        """End the halt, and go on from a safe snapshot unless it ended as stuck."""
        halt = self.healing.halt
        tasks = halt.task_ids if halt else []
        if decision.action == "stuck":
            self._stuck(decision.reason, tasks)
            self.healing.end(decision, str(self.current.version))
            return
        if self.current.version != self.state.version:
            self._swapped()
        # The halt ends first: a kill right after it repeats the branch, and never counts one failure twice.
        self.healing.end(decision, str(self.current.version))
        if decision.action == "reseed":
            # Where the safe state itself is above the threshold, other velocities change nothing, but every label does.
            helped = halt is not None and halt.step <= self.state.snapshot_step and self._brought_labels(halt)
            self._reseed(decision.reason, tasks, failed=not helped)
        else:
            self.state = replace(self.state, reseeds=0)
            self._new_md()
        self._save(state="running", waiting_for="")

    def _brought_labels(self, halt: Halt) -> bool:
        """True if the current version has labels of this halt that the halted one did not have."""
        held, now = self.registry.labels(halt.version), self.registry.labels(str(self.current.version))
        return any(task in now and task not in held for task in halt.task_ids)

    def _reseed(self, reason: str, tasks: list[str], *, failed: bool = True) -> None:
        """Go on from a safe snapshot with new velocities."""
        older = self.snapshots.before(self.state.snapshot) if self.state.snapshot else None
        if older is not None and self.state.halted_step <= self.state.snapshot_step:
            # The snapshot itself is no longer safe: new velocities alone would halt at once again.
            self.state = replace(self.state, snapshot=older[0], snapshot_step=older[1])
        self.state = replace(self.state, reseeds=self.state.reseeds + failed, seed=self.state.seed % _LARGEST_SEED + 1)
        self._new_md()
        self._md().reseed(self.state.seed, self.plan.temperature)
        self.events.emit(
            "reseeded", walker=self.plan.name, step=self.state.step, task_ids=tasks, seed=self.state.seed, reason=reason
        )
        if self.state.snapshot is not None:
            # The branch with new velocities must survive a kill, else the old one would come back.
            self._snapshot()

    def _exploded(self, error: Crashed, step: int, next_snapshot: int) -> None:
        """MD broke down between two looks at gamma: go back, look at every step, and so halt before it breaks."""
        if step > self._careful_until:
            log.warning("%s: %s; looking at every step from %d on", self.plan.name, error, self.state.snapshot_step)
            self._careful_until = max(step, next_snapshot) + self.otf.check_frequency
            self._new_md()
            return
        reason = f"MD broke down with no gamma above the threshold: {error.message}"
        if self.state.reseeds + 1 >= self.otf.reseed_limit:
            self._stuck(reason, [])
            return
        self.state = replace(self.state, halted_step=max(step, self.state.halted_step))
        self._reseed(reason, [])
        self._save()

    def _stuck(self, reason: str, tasks: list[str]) -> None:
        self.events.emit("walker_stuck", walker=self.plan.name, step=self.state.step, task_ids=tasks, reason=reason)
        self._end("stuck", reason)

    def _swapped(self) -> None:
        """Tell which labels came with the version that is in use from now on."""
        held = set(self.registry.labels(self.state.version) if self.state.version else ())
        new = [task for task in self.registry.labels(str(self.current.version)) if task not in held]
        self.events.emit(
            "swapped",
            walker=self.plan.name,
            step=self.state.step,
            version=self.current.version,
            from_version=self.state.version,
            task_ids=new,
        )
        self._save(version=self.current.version)

    # --- small things -----------------------------------------------------------------------------------------

    def _end(self, state: str, reason: str) -> None:
        self.events.emit(
            "md_completed",
            walker=self.plan.name,
            step=self.state.step,
            version=self.state.version,
            ended=state,
            reason=reason,
        )
        self._save(state=state, reason=reason, waiting_for="")
        self.close()

    def _save(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes, updated=self.clock.wall())
        write_state(self.folder, self.state)

    def _md(self) -> LammpsMD:
        if self.md is None:
            raise EngineError("walker has no MD", "this is a bug: report it")
        return self.md
