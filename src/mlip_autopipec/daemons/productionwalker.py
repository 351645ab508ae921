"""One walker of a production: MD with one version to the end, whatever gamma says; gamma is written and counted.

It is the only writer of `production/<name>/wNN/`. A kill at any instant costs at most the steps since the last frame.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlip_autopipec.core.errors import Crashed
from mlip_autopipec.core.files import write_bytes
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.runtime.room import Room
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.watch import WalkerPlan
from mlip_autopipec.store.production import Production, ProductionState, read_walker, renewed, write_walker
from mlip_autopipec.store.snapshots import Snapshots
from mlip_autopipec.store.trajectory import Trajectory

if TYPE_CHECKING:
    from mlip_autopipec.engines.lammps.outcome import MovingAtoms

log = logging.getLogger(__name__)

_CHUNK_S = 0.5
_LARGEST_GAMMA = 1e9  # infinity is no legal JSON number


class ProductionWalker:
    """MD with a frozen version (a `runtime.serve.Daemon`).

    Parameters
    ----------
    folder
        `production/<name>/wNN/`.
    plan, production
        What to run, with how many steps; with which version, looked at how often.
    structure
        File with the start structure, with velocities or without.
    evaluator
        Of the version.
    make_md
        Gives the MD engine for it.
    chunk_s
        s that one call of the MD engine should take; None: as little as a daemon's step may.
    """

    def __init__(
        self,
        folder: Path,
        plan: WalkerPlan,
        production: Production,
        *,
        structure: Path,
        evaluator: Evaluator,
        make_md: Callable[[Evaluator], MovingAtoms],
        room: Room,
        chunk_s: float | None = None,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.production = production
        self.state = ProductionState(plan.name, production.version, steps=plan.steps, temperature=plan.temperature)
        self.snapshots = Snapshots(folder, kept=2)
        self.trajectory = Trajectory(folder)
        self._structure = structure
        self._evaluator = evaluator
        self._make_md = make_md
        self._room = room
        self._chunk_s = chunk_s or _CHUNK_S
        self._chunk = production.check_every if chunk_s is None else production.frame_every
        self._md: MovingAtoms | None = None
        self._now = self.state  # of the present step; `state` is that of the last snapshot
        self._draining = False

    def start(self) -> None:
        """Find the walker where its last snapshot stands."""
        self.trajectory.mend()
        found = read_walker(self.folder)
        if found is None:
            self.trajectory.cut(-1)
            return
        self.state = self._now = renewed(found, self.plan.steps)
        if found.snapshot is not None:
            self.snapshots.prune(found.snapshot)
        if again := self.trajectory.cut(found.step):
            log.info("%s: %d frame(s) after step %d are made again", self.plan.name, again, found.step)

    def step(self, now: float) -> Outcome:
        """Move on by one chunk of MD."""
        if self.state.state != "running" or self._draining:
            return Outcome.DONE
        if self._room.missing():
            return Outcome.IDLE
        if self._md is None:
            self._begin()
        try:
            self._move(self._live())
        except Crashed as error:
            self._fail(f"MD broke down after step {self._now.step}: {error.message}")
        return Outcome.WORKED

    def drain(self) -> None:
        """Leave at the next step, from the present one."""
        if self._md is not None and self._now.step > self.state.step:
            self._keep(self._md)
        self._draining = True

    def close(self) -> None:
        """End MD (idempotent)."""
        if self._md is not None:
            self._md.close()
            self._md = None

    def status(self) -> tuple[str, dict[str, Any]]:
        """Return the state, and where it stands now."""
        now = self._now
        missing = self._room.missing()
        return self.state.state, {
            "step": now.step,
            "steps": now.steps,
            "temperature": now.temperature,
            "gamma": now.gamma,
            "above": now.above,
            **({"waiting_for": missing} if missing else {}),
        }

    def _begin(self) -> None:
        md = self._md = self._make_md(self._evaluator)
        md.halt_above = math.inf
        md.gamma_every = self.production.check_every
        self._now = self.state
        if self.state.snapshot is not None:
            md.restore(self.snapshots.path(self.state.snapshot))
            return
        md.start(read_structures(self._structure, "start.structure")[0], velocity_seed=self.plan.seed)
        self._take_in(md.run(0).checks)
        self._keep(md)

    def _move(self, md: MovingAtoms) -> None:
        step, every = self._now.step, self.production.frame_every
        stop = min(self.plan.steps, step + self._chunk, (step // every + 1) * every)
        begin = time.monotonic()
        outcome = md.run(stop - step)
        self._measure(stop - step, time.monotonic() - begin)
        # The step from which a run goes on is counted already; what is set up anew within it is looked at twice.
        self._take_in([check for check in dict(outcome.checks).items() if check[0] > step])
        self._now = replace(self._now, step=outcome.step, temperature=md.set_points().temperature)
        if outcome.halted:  # no number is above infinity
            self._fail(f"gamma at step {outcome.step} is not a number")
        elif outcome.escaped:
            self._fail(f"{outcome.escaped} (otf.density_bounds)")
        elif outcome.step % every == 0 or outcome.step >= self.plan.steps:
            self._keep(md)

    def _measure(self, steps: int, seconds: float) -> None:
        """Make chunks of about the wanted seconds, of whole looks."""
        from mlip_autopipec.engines.lammps.native import NativePotential

        looks = round(steps * self._chunk_s / max(seconds, 1e-6)) // self.production.check_every
        # LAMMPS' library keeps only the last look of a run at its own pair style; its program writes all of them.
        if isinstance(self._evaluator, NativePotential) and self._chunk_s == _CHUNK_S:
            looks = 1
        self._chunk = max(1, looks) * self.production.check_every

    def _take_in(self, checks: Sequence[tuple[int, float]]) -> None:
        """Count looks at gamma."""
        for step, gamma in checks:
            now, is_above = self._now, gamma > self.production.halt_level
            largest = now.gamma is None or gamma > now.gamma
            if is_above and not now.above:
                told = self.plan.name, step, gamma, self.production.halt_level, now.version
                log.warning("%s step %d: gamma %.3g above %.3g: %s extrapolates", *told)
            self._now = replace(
                now,
                looks=now.looks + 1,
                above=now.above + is_above,
                gamma=min(gamma, _LARGEST_GAMMA) if largest else now.gamma,
                gamma_step=step if largest else now.gamma_step,
                first_above=step if is_above and now.first_above is None else now.first_above,
                last_above=step if is_above else now.last_above,
            )

    def _keep(self, md: MovingAtoms) -> None:
        """Append the frame if it is one of the evenly spaced, save the MD state, then name it."""
        now = self._now
        if now.step % self.production.frame_every == 0:
            frame = md.frame()  # before saving, which ends the validity of gamma
            frame.info.update(walker=self.plan.name, step=now.step, version=now.version)
            self.trajectory.append(frame)
            now = replace(now, frames=now.frames + 1)
        name = self.snapshots.name(now.step, self.plan.seed)
        write_bytes(self.snapshots.path(name), md.snapshot(), settle=False)  # the state that names it settles it
        done = now.step >= self.plan.steps
        self._save(replace(now, snapshot=name, state="done" if done else "running"))
        self.snapshots.prune(name)

    def _fail(self, reason: str) -> None:
        """End where the last snapshot stands: what came after it is not to be trusted."""
        log.error("%s: %s", self.plan.name, reason)
        self._save(replace(self.state, state="failed", reason=reason))
        self.close()

    def _save(self, state: ProductionState) -> None:
        self.state = self._now = replace(state, updated=time.time())
        write_walker(self.folder, self.state)

    def _live(self) -> MovingAtoms:
        if self._md is None:
            raise Crashed("walker has no MD", "this is a bug: report it")
        return self._md
