"""The otf-runner: keeps one process per walker alive until all of them have ended."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.daemons.ending import RunEnd
from mlip_autopipec.daemons.inoffice import runners_office
from mlip_autopipec.daemons.seat import Seat, time_to_leave
from mlip_autopipec.daemons.walkermd import dimension_of, make_md, md_settings, write_script
from mlip_autopipec.runtime.child import Child, Result
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.room import Room
from mlip_autopipec.runtime.serve import Outcome, serve
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.watch import WalkerPlan, walker_plans
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import WalkerState, read_all, read_state, write_state

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

log = logging.getLogger(__name__)

_RESTART_LIMIT = 5
_FIRST_RESTART_S = 1.0
_FULL_DISK_S = 5.0
_LAST_RETRY_S = 60.0


class OtfRunner:
    """Starts, restarts and counts walkers (a `runtime.serve.Daemon`).

    Parameters
    ----------
    run, config
        The run and its configuration.
    name
        Of this process.
    in_office
        True: this process holds `daemons.inoffice.runners_office`, and its walkers end when it does so no more.
    """

    def __init__(self, run: RunDirectory, config: Config, name: str = "otf-runner", *, in_office: bool = False) -> None:
        self.run = run
        self.config = config
        self.name = name
        self.seats = [Seat(plan, run.walker(plan.name)) for plan in walker_plans(config.otf)]
        self._holder = ProcessIdentity.own() if in_office else None
        self._control = Control(run.control)
        self._room = Room(run.walkers, config.retention.min_free_gb)
        self._drain_until: float | None = None
        self._end = RunEnd(run, config)
        self._over_until = 0.0  # of walkers that were asked to leave because the run is over

    def start(self) -> None:
        for seat in self.seats:
            seat.folder.mkdir(parents=True, exist_ok=True)

    def step(self, now: float) -> Outcome:
        """Look after every walker once."""
        if self._drain_until is not None:
            return self._leave(now)
        if self._end.look(now) and not self._over_until:
            log.info("the run is over: %s", self._end.reason)
            self._over_until = now + time_to_leave(self.config.lammps)
            self._ask_to_leave()
        for seat in self.seats:
            if self._control.wants(f"revive-{seat.plan.name}"):
                self._revive(seat, now)
            if seat.child is not None:
                result = seat.child.poll()
                if result is not None:
                    self._left(seat, result, now)
                elif self._over_until and now >= self._over_until:
                    seat.child.kill()  # its last snapshot is on disk in any case
            elif not seat.ended and self._end.reason:
                self._conclude(seat)
            elif not seat.ended and now >= seat.start_at:
                self._try_to_start(seat, now)
        return Outcome.IDLE

    def drain(self) -> None:
        """Ask every walker to save its state and leave."""
        self._drain_until = float("inf")
        self._ask_to_leave()

    def _ask_to_leave(self) -> None:
        for seat in self.seats:
            seat.ask_to_leave()

    def close(self) -> None:
        for seat in self.seats:
            seat.kill()

    def status(self) -> tuple[str, dict[str, Any]]:
        """State and the number of walkers in each condition."""
        conditions: dict[str, int] = {}
        for walker in read_all(self.run.walkers):
            conditions[walker.state] = conditions.get(walker.state, 0) + 1
        ended = all(seat.ended for seat in self.seats)
        return ("finished" if ended else "running"), {"walkers": conditions}

    def _leave(self, now: float) -> Outcome:
        """Wait for the walkers, but not for ever: the last snapshot is on disk in any case."""
        self._drain_until = min(self._drain_until or now, now + time_to_leave(self.config.lammps))
        alive = [seat for seat in self.seats if seat.child is not None and seat.child.poll() is None]
        return Outcome.IDLE if alive and now < self._drain_until else Outcome.DONE

    def _try_to_start(self, seat: Seat, now: float) -> None:
        """Start a walker's process; where the host has no room for it, later, and the others go on."""
        try:
            self._start_walker(seat)
        except OSError as error:  # no process, no memory, no file to be had: that passes
            delay_s = min(_FIRST_RESTART_S * 2**seat.attempts, _LAST_RETRY_S)
            seat.attempts, seat.start_at = seat.attempts + 1, now + delay_s
            log.warning("%s cannot be started, another try in %g s: %s", seat.plan.name, delay_s, error)
        else:
            seat.attempts = 0

    def _conclude(self, seat: Seat) -> None:
        """Note that a walker, whose process is gone, is done because the run is over."""
        name, seat.ended = seat.plan.name, True
        state = read_state(seat.folder) or WalkerState(name, steps=seat.plan.steps)
        if state.ended:
            return
        reason = f"the run is over: {self._end.reason}"
        facts = {"walker": name, "step": state.step, "version": state.version}
        EventLog(self.run.events, self.name).emit("md_completed", ended="done", reason=reason, **facts)
        write_state(seat.folder, replace(state, state="done", reason=reason, waiting_for=""))

    def _start_walker(self, seat: Seat) -> None:
        name = seat.plan.name
        seat.child = Child(
            walker_process,
            (str(self.run.root), self.config, seat.plan, self._holder),
            name,
            output=self.run.logs / f"{name}.log",
        )

    def _revive(self, seat: Seat, now: float) -> None:
        """Give a walker that has given up another chance, as the user wishes: from its last safe snapshot."""
        name, folder = seat.plan.name, seat.folder
        state = read_state(folder)
        if state is not None and state.gave_up:
            if seat.child is not None:  # it is just leaving
                return
            # Nobody else writes its files now.
            write_state(folder, replace(state, state="starting", reason="", reseeds=0, refusals=0))
            events = EventLog(self.run.events, self.name)
            events.emit("walker_revived", walker=name, step=state.step, was=state.state, reason=state.reason)
            log.info("%s: another chance, as asked; it was %s: %s", name, state.state, state.reason)
            seat.ended, seat.crashes, seat.start_at = False, 0, now
        self._control.withdraw(f"revive-{name}")

    def _left(self, seat: Seat, result: Result, now: float) -> None:
        """A walker's process is gone: it has ended, or it crashed and gets another chance."""
        seat.vacate()
        name, folder = seat.plan.name, seat.folder
        state = read_state(folder)
        if state is not None and state.ended:
            seat.ended = True
            return
        if self._end.reason:
            self._conclude(seat)
            return
        cause = str(result.error) if result.error else f"exit code {result.value}"
        reason = f"{cause}; see {(self.run.logs / name).name}.log"
        if missing := self._room.missing():
            # Whatever could not be written: it says nothing of the walker, which waits for room when it is back.
            seat.start_at = now + _FULL_DISK_S
            log.warning("%s ended without %s: %s", name, missing, reason)
            return
        if seat.count_crash(state.snapshot_step if state is not None else 0) >= _RESTART_LIMIT:
            log.error("%s crashed %d times, giving up: %s", name, seat.crashes, reason)
            # The walker is dead, so its files have no other writer now.
            state = state or WalkerState(name, steps=seat.plan.steps)
            write_state(folder, replace(state, state="failed", reason=reason, waiting_for=""))
            seat.ended = True
            return
        seat.start_at = now + _FIRST_RESTART_S * 2 ** (seat.crashes - 1)
        log.warning("%s ended unexpectedly, starting it again: %s", name, reason)


def walker_process(root: str, config: Config, plan: WalkerPlan, holder: ProcessIdentity | None = None) -> int:
    """Run one walker in this process; returns its exit code.

    Parameters
    ----------
    holder
        The otf-runner that must hold the office: else another one runs this walker, and this process may write nothing.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.nice(config.otf.nice)
    run = RunDirectory(Path(root))
    control = Control(run.control)
    office = runners_office(run, config.queue.lease_s)
    heartbeat = Heartbeat(run.heartbeats / f"{plan.name}.json", plan.name)

    def stop() -> bool:
        if holder is not None and not office.names(holder):
            # Not drained: saving the state would overwrite what the walker of the new otf-runner saves.
            raise QueueError(f"{plan.name}: another otf-runner has taken over: {office.holder()}", transient=True)
        return control.wants("stop")

    return serve(build_walker(run, config, plan), heartbeat=heartbeat, stop=stop)


def build_walker(
    run: RunDirectory, config: Config, plan: WalkerPlan, load: Callable[[Path], Evaluator] | None = None
) -> Any:
    """Plug a walker together.

    Parameters
    ----------
    load
        Gives the evaluator of a version's folder; None: as the configuration says.
    """
    from mlip_autopipec.daemons.auditor import Auditor
    from mlip_autopipec.daemons.collector import Collector
    from mlip_autopipec.daemons.evaluators import chosen_engine, make_evaluator, walker_threads
    from mlip_autopipec.daemons.haltlevel import HaltLevel
    from mlip_autopipec.daemons.healing import Healing
    from mlip_autopipec.daemons.novelty import Novelty
    from mlip_autopipec.daemons.queues import dft_queue
    from mlip_autopipec.daemons.walker import Walker
    from mlip_autopipec.store.costs import label_costs
    from mlip_autopipec.store.refusals import read_refusals
    from mlip_autopipec.store.registry import Registry

    folder = run.walker(plan.name)
    registry = Registry(run.potentials)
    events = EventLog(run.events, plan.name)
    queue = dft_queue(run, config.queue, worker=plan.name)

    def refused() -> set[str]:
        return set(read_refusals(run))

    collector = Collector(
        folder,
        config.otf,
        auditor=Auditor(plan, config.otf, len(walker_plans(config.otf))),
        novelty=Novelty(registry, queue, refused),
        queue=queue,
        events=events,
        apart=config.embedding.cutoff,
        measured=lambda: label_costs(run.costs),
    )
    healing = Healing(
        folder,
        plan.name,
        embedding=config.embedding,
        threshold=config.otf.uncertainty_threshold,
        labeller=config.labeller_settings(),
        queue=queue,
        registry=registry,
        events=events,
        refused=refused,
        level=HaltLevel(run.calibration, config.otf),
        collector=collector,
    )
    structure = config.path(run, plan.structure or config.start.structure)
    settings = md_settings(plan, config.otf, dimension_of(read_structures(structure, "start.structure")[0]))
    engine = chosen_engine(config.otf.engine, config.lammps.command)
    threads = walker_threads(config.otf.threads, len(walker_plans(config.otf)))
    lammps_log = run.logs / f"{plan.name}-lammps.log"
    return Walker(
        folder,
        plan,
        config.otf,
        structure=structure,
        healing=healing,
        registry=registry,
        events=events,
        make_evaluator=load or (lambda version: make_evaluator(version, engine, threads)),
        make_md=lambda evaluator, fraction: make_md(
            evaluator,
            settings.model_copy(update={"timestep_fs": settings.timestep_fs * fraction}),
            lammps_log,
            config.lammps,
            folder,
        ),
        on_potential=lambda version, evaluator: write_script(
            folder,
            read_structures(structure, "start.structure")[0],
            evaluator,
            registry.path(version),
            settings,
            plan,
            config.otf,
        ),
        moved_by=engine if config.lammps.command is None else config.lammps.command,
        kept=config.retention,
        room=Room(folder, config.retention.min_free_gb),
        chunk_s=None if config.lammps.command is None else config.lammps.block_s,
    )
