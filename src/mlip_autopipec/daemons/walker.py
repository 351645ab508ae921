"""One walker: a process that runs MD, halts, asks, waits and goes on.

It is the only writer of `walkers/wNN/`. A kill at any instant costs at most `otf.snapshot_interval` steps: everything
it needs to go on is in `state.json`, the snapshot that it names, and `halt.json`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.core.errors import EngineError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.daemons.healing import Healing
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.swap import Decision
from mlip_autopipec.stages.watch import OtfSettings, WalkerPlan
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.walkerstate import WalkerState, read_state, write_state

if TYPE_CHECKING:
    from mlip_autopipec.engines.lammps.md import LammpsMD

# A step of the daemon returns within about a second, whatever the size of the system.
_CHUNK_S = 0.5
# Task states are read from folder listings that may lie on a network: less often than `current.json`.
_TASK_LOOK_S = 2.0
_KEPT_SNAPSHOTS = 3


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
        self.make_evaluator = make_evaluator
        self.make_md = make_md
        self.clock = clock or SystemClock()
        self.state = WalkerState(plan.name, steps=plan.steps, temperature=plan.temperature, seed=plan.seed)
        self.md: LammpsMD | None = None
        self.evaluator: Evaluator | None = None
        self.loaded: str | None = None  # version of `evaluator`
        self._seen: object = None  # stamp of `current.json` when `evaluator` was loaded
        self._next_task_look = 0.0
        self._looked_with: str | None = None
        self._chunk = otf.check_frequency
        self._draining = False

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Find the walker where it stood."""
        for name in ("snapshots", "excursions"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        found = read_state(self.folder)
        if found is None:
            return
        self.state = replace(found, steps=self.plan.steps, temperature=self.plan.temperature)
        if found.state == "failed" or (found.state == "done" and found.step < self.plan.steps):
            # A new start is a new chance; and more steps may be wanted by now.
            self._save(state="starting", reason="")
        if self.healing.halt is not None and not self.state.ended:
            self._save(state="halted")

    def step(self, now: float) -> Outcome:
        """Move on by one chunk of MD, or look whether the waiting is over."""
        if self.state.ended:
            return Outcome.DONE
        if self._draining:
            if self.healing.halt is None:
                self._save(state="stopped")
            return Outcome.DONE
        self._load_current()
        if self.loaded is None:
            if not self.state.waiting_for:
                self._save(waiting_for="v0001")
            return Outcome.IDLE
        if self.healing.halt is not None:
            return self._wait(now)
        if self.md is None:
            self._begin()
        elif self.loaded != self.state.version:
            self._md().swap(self._evaluator())
            self._swapped()
        return self._move()

    def drain(self) -> None:
        """Leave at the next step, with everything saved."""
        if self.md is not None and not self._draining:
            self._snapshot()
        self._draining = True

    def close(self) -> None:
        """End MD and free its memory (idempotent)."""
        if self.md is not None:
            self.md.close()
            self.md = None

    # --- MD ---------------------------------------------------------------------------------------------------

    def _load_current(self) -> None:
        """Load the evaluator of the current version if `current.json` was replaced since the last look."""
        stamp = self.registry.current_stamp()
        if stamp == self._seen:
            return
        current = self.registry.current()
        if current is not None and current.version != self.loaded:
            self.evaluator = self.make_evaluator(self.registry.path(current.version))
            self.loaded = current.version
        self._seen = stamp

    def _begin(self) -> None:
        """Start MD, or resume it from the last snapshot."""
        self._new_md()
        if self.state.snapshot is None:
            self._md().start(read_structures(self.structure, "start.structure")[0], velocity_seed=self.state.seed)
            self.events.emit("md_started", walker=self.plan.name, step=0, version=self.loaded)
            self._save(state="running", version=self.loaded, waiting_for="")
            self._snapshot()
            return
        self._restore()
        if self.loaded != self.state.version:
            self._swapped()
        self._save(state="running", waiting_for="")

    def _new_md(self) -> None:
        self.md = self.make_md(self._evaluator())
        self.md.gamma_every = self.otf.check_frequency
        self.md.halt_above = self.otf.uncertainty_threshold

    def _restore(self) -> None:
        self._md().restore(self.folder / str(self.state.snapshot))
        self.state = replace(self.state, step=self.state.snapshot_step)

    def _move(self) -> Outcome:
        next_snapshot = self.state.snapshot_step + self.otf.snapshot_interval
        steps = max(1, min(self._chunk, next_snapshot - self.state.step, self.plan.steps - self.state.step))
        begin = time.monotonic()
        outcome = self._md().run(steps)
        self._adapt_chunk(steps, time.monotonic() - begin)
        if outcome.halted:
            self._halted(outcome.step)
            return Outcome.WORKED
        self.state = replace(self.state, step=outcome.step, gamma=outcome.gamma_max)
        if outcome.step >= min(next_snapshot, self.plan.steps):
            self._snapshot()
        else:
            self._save()
        if outcome.step >= self.plan.steps:
            self._end("done", "all steps made")
        return Outcome.WORKED

    def _adapt_chunk(self, steps: int, seconds: float) -> None:
        """Make chunks of about `_CHUNK_S`, a whole number of looks at gamma each."""
        looks = round(steps * _CHUNK_S / max(seconds, 1e-6) / self.otf.check_frequency)
        self._chunk = max(1, min(looks, 10_000)) * self.otf.check_frequency

    def _snapshot(self) -> None:
        """Save the MD state, name it in `state.json`, append the frame to the accepted branch."""
        step = self.state.step
        # The name holds the seed: a branch with new velocities must not overwrite what the old state names.
        name = f"snapshots/{step:010d}-{self.state.seed}.restart"
        frame = self._md().frame()  # before saving, which ends the validity of gamma
        self._md().save(self.folder / name)
        previous = self.state
        # A safe step beyond the halted one is progress: failed healings are no longer "in a row".
        reseeds = 0 if step > previous.halted_step else previous.reseeds
        self._save(snapshot=name, snapshot_step=step, reseeds=reseeds)
        if previous.snapshot is None or step > previous.snapshot_step:
            frame.info.update(walker=self.plan.name, step=step, version=self.state.version)
            ase.io.write(self.folder / "trajectory.extxyz", frame, append=True)
        for old in sorted((self.folder / "snapshots").glob("*.restart"))[:-_KEPT_SNAPSHOTS]:
            old.unlink(missing_ok=True)

    # --- halting and healing ----------------------------------------------------------------------------------

    def _halted(self, step: int) -> None:
        """Ask for a label and let MD go: waiting costs no CPU and no memory."""
        if self.state.extractions >= self.otf.max_extractions:
            self._end("done", f"gamma exceeded again at step {step} after otf.max_extractions regions")
            return
        halt = self.healing.open(self._md().frame(), step, str(self.state.version), self._evaluator())
        self._save(
            state="halted",
            step=step,
            halted_step=step,
            gamma=halt.gamma,
            extractions=self.state.extractions + 1,
            waiting_for=f"label of task {halt.task_ids[0]}",
        )
        self.close()

    def _wait(self, now: float) -> Outcome:
        """Look whether the halt can end."""
        if now < self._next_task_look and self.loaded == self._looked_with:
            return Outcome.IDLE
        self._next_task_look = now + _TASK_LOOK_S
        self._looked_with = self.loaded
        self.healing.republish(self._evaluator())
        decision = self.healing.look(
            str(self.loaded),
            self._evaluator(),
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
        """End the halt and go on from the last safe snapshot."""
        tasks = self.healing.halt.task_ids if self.healing.halt else []
        if self.loaded != self.state.version:
            self._swapped()
        facts = {"walker": self.plan.name, "step": self.state.step, "task_ids": tasks, "reason": decision.reason}
        if decision.action == "stuck":
            self.events.emit("walker_stuck", **facts)
            self._end("stuck", decision.reason)
            self.healing.end(decision, str(self.loaded))
            return
        self._new_md()
        self._restore()
        if decision.action == "reseed":
            self.state = replace(self.state, reseeds=self.state.reseeds + 1, seed=self.state.seed + 1)
            self._md().reseed(self.state.seed, self.plan.temperature)
            self.events.emit("reseeded", **facts)
            # The branch with new velocities must survive a kill, else the old one would come back.
            self._snapshot()
        else:
            self.state = replace(self.state, reseeds=0)
        self.healing.end(decision, str(self.loaded))
        self._save(state="running", waiting_for="")

    def _swapped(self) -> None:
        """Tell which labels came with the version that is in use from now on."""
        held = set(self.registry.manifest(self.state.version)["task_ids"]) if self.state.version else set()
        new = [t for t in self.registry.manifest(str(self.loaded))["task_ids"] if t not in held]
        self.events.emit(
            "swapped",
            walker=self.plan.name,
            step=self.state.step,
            version=self.loaded,
            from_version=self.state.version,
            task_ids=new,
        )
        self._save(version=self.loaded)

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

    def _evaluator(self) -> Evaluator:
        if self.evaluator is None:
            raise EngineError("walker has no potential", "this is a bug: report it")
        return self.evaluator
