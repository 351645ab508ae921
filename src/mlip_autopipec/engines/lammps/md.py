"""Molecular dynamics by LAMMPS with the forces of any `Evaluator`: halted, saved, restored, given a new potential."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import ConfigError, Crashed
from mlip_autopipec.core.interfaces import Evaluation, Evaluator
from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.bridge import Bridge
from mlip_autopipec.engines.lammps.create import check_box, create_atoms, equip, leg_commands
from mlip_autopipec.engines.lammps.forces import Clock, Forces, check_elements
from mlip_autopipec.engines.lammps.instance import Instance
from mlip_autopipec.engines.lammps.mcevent import MonteCarloEvents
from mlip_autopipec.engines.lammps.native import NativeForces, NativePotential
from mlip_autopipec.engines.lammps.outcome import RunOutcome
from mlip_autopipec.engines.lammps.schedule import Leg, SetPoints
from mlip_autopipec.engines.lammps.settings import LARGEST_SEED, MDSettings, noise_command, velocity_command
from mlip_autopipec.engines.lammps.snapshot import Origin, load_snapshot, take_snapshot
from mlip_autopipec.engines.lammps.state import density, heat, present_step, read_frame, read_thermo, symbols
from mlip_autopipec.engines.lammps.swaps import Tally
from mlip_autopipec.engines.lammps.wrapping import inside_box


class LammpsMD(Instance):
    """One MD walker.

    Parameters
    ----------
    evaluator
        Its elements become LAMMPS' atom types. A `NativePotential` is evaluated by LAMMPS itself.
    settings
        Ensemble and time step.
    log
        LAMMPS' log of set-ups is appended here; None for no log.

    Attributes
    ----------
    gamma_every : check gamma on steps divisible by this (and at every set-up)
    halt_above : end a run at the exact checked step whose largest gamma exceeds this
    tally : Monte Carlo moves since the object was made
    """

    def __init__(self, evaluator: Evaluator, settings: MDSettings, log: Path | None = None) -> None:
        self.settings = settings
        self.gamma_every = 1
        self.halt_above = np.inf
        super().__init__(log)
        self._evaluator = evaluator
        self._needs_setup = True
        self._course = settings.course()
        self._events = MonteCarloEvents(settings.monte_carlo, settings.seed)
        self._seen_halt = -1  # step of the last halt
        self._escaped = ""
        self.tally = Tally()

    def start(self, atoms: Atoms, velocity_seed: int | None = None) -> None:
        """Begin at step 0 with the momenta of `atoms`, or with a Maxwell-Boltzmann draw if it has none.

        Raises
        ------
        DataError
            The structure does not fit the settings.
        ModelError
            The potential lacks an element.
        ConfigError
            The ensemble does not fit the structure's open directions.
        """
        check_elements(self._evaluator, set(atoms.get_chemical_symbols()))
        self._origin = Origin(tuple(self._evaluator.elements), BoxMap.of(atoms, self.settings.dimension))
        check_box(self.settings, self._origin.box)
        self._open()
        with self._guarded("start"):
            create_atoms(self._lmp, self._origin, atoms)
        seed = self.settings.seed if velocity_seed is None else velocity_seed
        self._begin()
        self._equip(seed)
        if not atoms.has("momenta"):
            self._draw(seed, self.set_points().temperature)

    def restore(self, path: Path) -> None:
        """Go back to what `save` wrote: positions, velocities, cell, thermostat, step number.

        The noise of a Langevin thermostat is no state that LAMMPS keeps: it goes on with new random numbers.
        """
        self._open()
        with self._guarded("restore"):
            self._origin = load_snapshot(self._lmp, path)
        if self._origin.box.dimension != self.settings.dimension:
            raise ConfigError(f"{path}: a {self._origin.box.dimension}-dimensional state, not what the settings say")
        check_box(self.settings, self._origin.box)
        check_elements(self._evaluator, set(symbols(self._lmp, self._origin)))
        self._begin()
        self._equip(self._noise_seed())

    def snapshot(self) -> bytes:
        """Return the whole state: what `restore` takes in a file.

        Where a set-up leaves a trace, the next `run` begins with one, so that it goes on as the restored state does.
        """
        self._check_running()
        in_passing = not (self._needs_setup or self._set_up_leaves_a_trace)
        with self._guarded("save"), inside_box(self._lmp) if in_passing else contextlib.nullcontext():
            folder = self._log.parent if self._log is not None else None
            snapshot = take_snapshot(self._lmp, self._origin, in_passing=in_passing, folder=folder)
        self._needs_setup = not in_passing
        return snapshot

    def run(self, steps: int) -> RunOutcome:
        """Advance by `steps` or to the halt, whichever comes first.

        Raises
        ------
        Crashed
            Lost atoms, forces that are not finite, or an error of LAMMPS; only `start` or `restore` helps then.
        """
        self._check_running()
        target = self.step + steps
        # Going on from a halted step: the caller has seen its gamma.
        self._seen_halt = self.step if self._forces.halted else -1
        self._forces.halted, self._escaped = False, ""
        self._forces.checks.clear()
        self._forces.gamma_every, self._forces.halt_above = self.gamma_every, self.halt_above
        if steps > 0:
            self._enter(self._course.leg(self.step))
        if self._needs_setup:
            self._set_up()
        while self.step < target and not self._forces.halted and not self._escaped:
            self._advance(target)
        return self._outcome()

    def swap(self, evaluator: Evaluator) -> None:
        """Go on with another potential; positions, velocities and the thermostat's state stay."""
        self._check_running()
        check_elements(evaluator, set(symbols(self._lmp, self._origin)))
        self._evaluator = evaluator
        with self._guarded("swap"):
            self._forces.use(evaluator)
            for command in self._forces.pair_commands():
                self._lmp.command(command)
        self._needs_setup = True

    def reseed(self, seed: int, temperature: float | None = None) -> None:
        """Draw new velocities at `temperature`, K (default: what the schedule says now), and new Langevin noise."""
        self._check_running()
        if self.settings.ensemble == "langevin":
            with self._guarded("reseed"):
                self._lmp.command("unfix bath")
                self._lmp.command(noise_command(self.settings, seed, self._leg))
        self._draw(seed, self.set_points().temperature if temperature is None else temperature)

    def frame(self) -> Atoms:
        """Return the present frame in the orientation and order of the structure that was started with.

        Momenta are set; `info["step"]` is the step; where the potential was asked about this step, energy and forces
        (and stress if all directions are periodic) come as a calculator and gamma (N,) as an array.
        """
        self._check_running()
        return read_frame(self._lmp, self._origin, self._present_evaluation(), self._forces.tags)

    def thermo(self) -> dict[str, float | None]:
        """Return step, potential_energy and kinetic_energy in eV, temperature in K, pressure in bar, volume in A^3.

        In two dimensions volume is the area, A^2, and pressure is bar*A; with open directions both are None.
        """
        self._check_running()
        return read_thermo(self._lmp, self._origin, self._present_evaluation())

    def timings(self, *, reset: bool = False) -> dict[str, float]:
        """Return seconds since start, restore or reset: list, evaluation, gamma, python, lammps; and steps."""
        self._check_running()
        split = self._forces.clock.split()
        if reset:
            self._forces.clock = Clock()
        return split

    def set_points(self) -> SetPoints:
        """Return what the schedule wants at the present step: temperature in K, pressure in bar, strain."""
        return self._course.at(self.step)

    @property
    def step(self) -> int:
        self._check_running()
        return present_step(self._lmp)

    @property
    def _set_up_leaves_a_trace(self) -> bool:
        """True if what follows depends on it: on a barostat's mass, a strained cell, a box that fits its atoms."""
        schedule = self.settings.schedule
        strained = schedule is not None and bool(schedule.strained)
        return self.settings.ensemble == "npt" or strained or not all(self._origin.box.pbc[: self.settings.dimension])

    def _begin(self) -> None:
        """Forget an earlier life; LAMMPS has atoms, but no fixes yet."""
        self._leg = self._course.leg(present_step(self._lmp))
        self._events.forget()
        self._seen_halt = -1

    def _equip(self, seed: int) -> None:
        with self._guarded("set-up"):
            self._forces = self._make_forces()
            equip(self._lmp, self._origin, self.settings, self._forces, seed, self._leg)
            self._forces.connect()
        self._needs_setup = True
        self._broken = False

    def _noise_seed(self) -> int:
        """Return a seed of its own for a thermostat that begins here: not the noise of the first steps again."""
        return (self.settings.seed + 7919 * present_step(self._lmp)) % LARGEST_SEED + 1

    def _advance(self, target: int) -> None:
        """Go on to `target`, the end of the leg or the next Monte Carlo event, whichever comes first."""
        step = self.step
        self._enter(self._course.leg(step))
        if self._needs_setup:
            self._set_up()
        if not self._forces.halted and self._events.due(step):
            self._exchange(step)
        if self._forces.halted:
            return
        stop = self._events.before(step, target if self._leg.end is None else min(target, self._leg.end))
        with self._guarded("MD"):
            command = self._forces.run_command(stop - step, self._leg.window)
        self._command(command)
        self._look_at_bounds(stop)

    def _enter(self, leg: Leg) -> None:
        """Give LAMMPS the set-points of `leg`.

        A thermostat's set-points cannot be changed without losing its state, other than by way of a restart.
        """
        before, self._leg = self._leg, leg
        if leg_commands(self.settings, self._origin, before) == leg_commands(self.settings, self._origin, leg):
            return
        forces = self._forces
        with tempfile.TemporaryDirectory(prefix="autopipe-") as folder:
            path = Path(folder) / "border"
            with self._guarded("save"):
                path.write_bytes(take_snapshot(self._lmp, self._origin))
            self._open()
            with self._guarded("restore"):
                load_snapshot(self._lmp, path)
        self._equip(self._noise_seed())
        self._forces.checks, self._forces.clock = forces.checks, forces.clock
        self._forces.gamma_every, self._forces.halt_above = forces.gamma_every, forces.halt_above

    def _exchange(self, step: int) -> None:
        """Make a Monte Carlo event; gamma is looked at only where it ends."""

        def energy() -> float:
            self._set_up(look=False)
            return self._potential_energy()

        with self._guarded("Monte Carlo"):
            temperature = self.set_points().temperature
            self.tally.add(self._events.run(self._lmp, self._origin, temperature, step, energy))
        self._set_up()

    def _look_at_bounds(self, stop: int) -> None:
        """Note that the density has left its bounds; LAMMPS itself stops at the first such step."""
        bounds, early = self.settings.density_bounds, self.step < stop and not self._forces.halted
        if bounds is None:
            if early:
                raise Crashed(f"LAMMPS ended at step {self.step}, before {stop}", "was MD interrupted?")
            return
        if early or self.step % self.settings.density_every == 0:
            now = density(self._lmp)
            if early or not bounds[0] <= now <= bounds[1]:
                self._escaped = f"density {now:.4g} g/cm^3 at step {self.step}, outside [{bounds[0]:g}, {bounds[1]:g}]"

    def _make_forces(self) -> Forces:
        if isinstance(self._evaluator, NativePotential):
            return NativeForces(self._lmp, self._evaluator, self._origin.elements)
        return Bridge(self._lmp, self._evaluator, self._origin.elements)

    def _draw(self, seed: int, temperature: float) -> None:
        with self._guarded("velocities"):
            self._lmp.command(velocity_command(temperature, seed, atoms=self._lmp.get_natoms()))
        self._needs_setup = True

    def _set_up(self, *, look: bool = True) -> None:
        """Let LAMMPS build its lists and ask for forces, and for gamma unless `look` is False, without a step."""
        forces = self._forces
        kept, forces.clock = forces.clock, Clock()  # set-ups are not steps
        with self._guarded("set-up"):
            forces.before_set_up(look=look)
        with self._logged() if look else contextlib.nullcontext():
            self._command(f"run 0 post no{self._leg.window}")
        forces.clock = kept
        self._needs_setup = False
        if present_step(self._lmp) == self._seen_halt:
            forces.halted = False

    def _command(self, command: str) -> None:
        """Run one command; raise what the callback kept, or LAMMPS' own error, as one of ours."""
        forces = self._forces
        began = time.perf_counter()
        with self._guarded("MD"):
            self._lmp.command("timer timeout off")  # forget an earlier halt
            self._lmp.command(command)
            forces.after_run()
        forces.clock.run += time.perf_counter() - began
        error, forces.error = forces.error, None
        if error is None and forces.step != present_step(self._lmp):
            # A signal whose handler raises at the very entry of the callback is swallowed by ctypes.
            error = Crashed(f"the forces of step {present_step(self._lmp)} were not computed", "was MD interrupted?")
        if error is not None:
            self._broken = True
            raise error

    def _outcome(self) -> RunOutcome:
        forces = self._forces
        worst: tuple[int, float, int] | None = None
        if forces.checks:
            worst = forces.checks[-1] if forces.halted else max(forces.checks, key=lambda check: check[1])
        return RunOutcome(
            step=self.step,
            halted=forces.halted,
            gamma_max=None if worst is None else worst[1],
            gamma_argmax=-1 if worst is None else worst[2] - 1,
            potential_energy=self._potential_energy(),
            temperature=heat(self._lmp, self._origin)[1],
            checks=tuple((step, gamma) for step, gamma, _ in forces.checks),
            escaped=self._escaped,
        )

    def _potential_energy(self) -> float:
        if self._forces.evaluation is None:
            raise Crashed("LAMMPS returned without having asked for forces")
        return self._forces.evaluation.energy

    def _present_evaluation(self) -> Evaluation | None:
        return self._forces.evaluation if self._forces.step == self.step else None
