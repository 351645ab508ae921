"""Production: the walkers once more, from their start structures, with one version that nothing changes any more.

Observables of a learning run mix versions, and were rewound wherever gamma was high: both bias them.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlip_autopipec.core.errors import ConfigError, ModelError, NotFoundError
from mlip_autopipec.daemons.evaluators import chosen_engine, walker_threads
from mlip_autopipec.daemons.haltlevel import HaltLevel
from mlip_autopipec.daemons.productionchild import production_process
from mlip_autopipec.daemons.seat import Seat, time_to_leave
from mlip_autopipec.daemons.stressgate import StressGate
from mlip_autopipec.runtime.child import Child, Result
from mlip_autopipec.runtime.room import Room
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.watch import WalkerPlan, walker_plans
from mlip_autopipec.store.production import (
    Production,
    ProductionState,
    read_production,
    read_walker,
    renewed,
    write_production,
    write_walker,
)
from mlip_autopipec.store.registry import Registry, folder_hash
from mlip_autopipec.store.retirement import is_retired
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

log = logging.getLogger(__name__)

PRODUCER: Final = "produce-"
_RESTART_LIMIT: Final = 3
_RESTART_S: Final = 2.0
_STUCK, _INTERRUPTED, _NOT_DONE = 3, 130, 75


@dataclass(frozen=True)
class Order:
    """What is to be produced: the whole production, and the walkers of it that are wanted now."""

    folder: Path
    production: Production
    plans: tuple[WalkerPlan, ...]


def order(run: RunDirectory, config: Config, version: str | None, names: Sequence[str], steps: int | None) -> Order:
    """Check what the user wants against the run, and against what was produced with this version before.

    Parameters
    ----------
    version
        None: the current one.
    names
        Walkers; all if empty.
    steps
        Of each of them; None: their own.

    Raises
    ------
    NotFoundError
        There is no such version or walker.
    ModelError
        The version's files are not as they were published, or it knows no stress and a walker is npt.
    ConfigError
        An earlier production with this version was another one.
    """
    registry = Registry(run.potentials)
    version = _sound_version(registry, version)
    plans = tuple(_chosen(walker_plans(config.otf), names, steps))
    for plan in plans:
        if missing := StressGate(plan, config.otf, registry).missing(version):
            raise ModelError(f"{plan.name} waits for {missing}", "produce with a later version")
    otf, folder = config.otf, run.production / version
    wanted = Production(
        version=version,
        sha256=folder_hash(registry.path(version)),
        engine=chosen_engine(otf.engine, config.lammps.command),
        halt_level=HaltLevel(run.calibration, otf)(),
        check_every=otf.check_frequency,
        # Gamma is looked at in every frame.
        frame_every=-(-otf.snapshot_interval // otf.check_frequency) * otf.check_frequency,
        walkers={plan.name: plan.model_dump(mode="json") for plan in plans},
    )
    return Order(folder, _merged(folder, read_production(folder), wanted), plans)


def _sound_version(registry: Registry, version: str | None) -> str:
    if version is None:
        current = registry.current()
        if current is None:
            raise NotFoundError(f"{registry.folder}: no version yet", "`autopipe status` says what v0001 waits for")
        version = current.version
    if is_retired(registry, version):
        raise NotFoundError(f"{version}: was removed (retention.versions)", "name one of `autopipe potential list`")
    registry.manifest(version)
    if damage := registry.damage(version):
        raise ModelError(damage, "restore the file, or name another version")
    return version


def _chosen(plans: Sequence[WalkerPlan], names: Sequence[str], steps: int | None) -> list[WalkerPlan]:
    known = [plan.name for plan in plans]
    for name in names:
        if name not in known:
            raise NotFoundError(f"{name}: no such walker", f"known: {', '.join(known)}")
    chosen = [plan for plan in plans if not names or plan.name in names]
    return [plan if steps is None else plan.model_copy(update={"steps": steps}) for plan in chosen]


def _merged(folder: Path, earlier: Production | None, wanted: Production) -> Production:
    """Return the production with the walkers of both; only their steps may have changed."""
    if earlier is None:
        return wanted
    walkers = {**earlier.walkers, **wanted.walkers}
    before = {**vars(earlier), **{f"walkers.{n}.{k}": v for n, w in earlier.walkers.items() for k, v in w.items()}}
    now = {**vars(wanted), **{f"walkers.{n}.{k}": v for n, w in wanted.walkers.items() for k, v in w.items()}}
    # The audits may move the level on; one production has one.
    free = {"walkers", "halt_level"}
    for key in sorted((before.keys() & now.keys()) - free):
        if before[key] != now[key] and not key.endswith(".steps"):
            raise ConfigError(
                f"{folder}: began with {key} {before[key]!r}, now it is {now[key]!r}",
                "put the value back, or rename the folder, which stays what it is, and begin anew",
            )
    return replace(earlier, walkers=walkers)


class ProductionRun:
    """Keeps one process per walker alive until all have ended (a `runtime.serve.Daemon`).

    Parameters
    ----------
    say
        Shows a line to a person.
    """

    def __init__(self, run: RunDirectory, config: Config, wanted: Order, say: Callable[[str], None]) -> None:
        self.run = run
        self.config = config
        self.wanted = wanted
        self.seats = [Seat(plan, wanted.folder / plan.name) for plan in wanted.plans]
        self._say = say
        self._room = Room(run.root, config.retention.min_free_gb)
        # Here, since children are given OMP_NUM_THREADS.
        self._threads = walker_threads(config.otf.threads, len(self.seats))
        self._drain_until: float | None = None

    def start(self) -> None:
        """Write down what is produced: from now on retention leaves the version alone."""
        write_production(self.wanted.folder, self.wanted.production)
        for seat in self.seats:
            seat.folder.mkdir(exist_ok=True)
            if (found := read_walker(seat.folder)) is not None:
                write_walker(seat.folder, renewed(found, seat.plan.steps))

    def step(self, now: float) -> Outcome:
        """Look after every walker once."""
        for seat in self.seats:
            result = seat.child.poll() if seat.child is not None else None
            if result is not None:
                self._left(seat, result, now)
            elif seat.child is None and not seat.ended and self._drain_until is None and now >= seat.start_at:
                seat.child = self._child(seat)
        alive = any(seat.child is not None for seat in self.seats)
        if self._drain_until is not None:
            return Outcome.IDLE if alive and now < self._drain_until else Outcome.DONE
        return Outcome.DONE if all(seat.ended for seat in self.seats) else Outcome.IDLE

    def drain(self) -> None:
        """Ask every walker to save its state and leave; the last snapshot is on disk in any case."""
        self._drain_until = time.monotonic() + time_to_leave(self.config.lammps)
        for seat in self.seats:
            seat.ask_to_leave()

    def close(self) -> None:
        for seat in self.seats:
            seat.kill()

    def status(self) -> tuple[str, dict[str, Any]]:
        """Return the number of walkers in each condition."""
        conditions: dict[str, int] = {}
        for seat in self.seats:
            state = read_walker(seat.folder)
            condition = state.state if state is not None else "starting"
            conditions[condition] = conditions.get(condition, 0) + 1
        missing = self._room.missing()
        told = {"waiting_for": missing} if missing else {}
        return "producing", {"version": self.wanted.production.version, "walkers": conditions, **told}

    def ending(self, number: int | None) -> int:
        """Return the exit code: all steps made, a walker failed, or to be gone on with."""
        if all(seat.ended for seat in self.seats):
            states = [read_walker(seat.folder) for seat in self.seats]
            return 0 if all(state is not None and state.state == "done" for state in states) else _STUCK
        return _INTERRUPTED if number == signal.SIGINT else _NOT_DONE

    def _child(self, seat: Seat) -> Child:
        job = (str(self.run.root), self.config, seat.plan, self.wanted.production, str(seat.folder), self._threads)
        output = self.run.logs / f"{PRODUCER}{self.wanted.folder.name}-{seat.plan.name}.log"
        return Child(production_process, job, seat.plan.name, output=output)

    def _left(self, seat: Seat, result: Result, now: float) -> None:
        """A walker's process is gone: it has ended, was drained, or gets another chance."""
        seat.vacate()
        state, name = read_walker(seat.folder), seat.plan.name
        if state is not None and state.state != "running":
            seat.ended = True
            told = f": {state.reason}" if state.reason else ""
            self._say(f"{name} {state.state} at step {state.step}/{state.steps}{told}")
            return
        if self._drain_until is not None:
            return
        cause = str(result.error) if result.error else f"exit code {result.value}"
        reason = f"{cause}; see logs/{PRODUCER}{self.wanted.folder.name}-{name}.log"
        seat.start_at = now + _RESTART_S
        if self._room.missing():  # whatever could not be written says nothing of the walker
            return
        if seat.count_crash(state.step if state is not None else -1) < _RESTART_LIMIT:
            log.warning("%s ended unexpectedly, starting it again: %s", name, reason)
            return
        seat.ended = True
        state = state or ProductionState(name, self.wanted.production.version, steps=seat.plan.steps)
        # The walker is dead, so its file has no other writer now.
        write_walker(seat.folder, replace(state, state="failed", reason=reason))
        self._say(f"{name} failed at step {state.step}/{state.steps}: {reason}")
