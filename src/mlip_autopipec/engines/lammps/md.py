"""Molecular dynamics by LAMMPS with the forces of any `Evaluator`: halted, saved, restored, given a new potential."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_masses, atomic_numbers

from mlip_autopipec.core.conventions import stress_from_virial, voigt_from_tensor
from mlip_autopipec.core.errors import AutopipeError, ConfigError, Crashed, DataError, EngineError
from mlip_autopipec.core.interfaces import Evaluator, FloatArray, IntArray
from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.bridge import FIX, HALT_COMMANDS, Bridge, Clock, check_elements
from mlip_autopipec.engines.lammps.library import open_lammps
from mlip_autopipec.engines.lammps.settings import MDSettings, integrator_commands
from mlip_autopipec.engines.lammps.snapshot import Origin, load_snapshot, save_snapshot

# LAMMPS' metal units measure velocities in A/ps.
_VELOCITY = 1000.0 * units.fs


@dataclass(frozen=True)
class RunOutcome:
    """How one `run` ended.

    Attributes
    ----------
    step : the step that was reached
    halted : gamma was above the threshold at exactly this step
    gamma_max : largest gamma of this run's checks (of the last one if halted); None if there was no check
    gamma_argmax : its atom, 0-based as in the structure that was started with; -1 if there was no check
    potential_energy : eV
    temperature : K
    checks : (step, largest gamma) of every checked step
    """

    step: int
    halted: bool
    gamma_max: float | None
    gamma_argmax: int
    potential_energy: float
    temperature: float
    checks: tuple[tuple[int, float], ...]


class LammpsMD:
    """One MD walker.

    Parameters
    ----------
    evaluator
        Its elements become LAMMPS' atom types.
    settings
        Ensemble and time step.
    log
        LAMMPS' log of set-ups is appended here; None for no log.

    Attributes
    ----------
    gamma_every : check gamma on steps divisible by this (and at every set-up)
    halt_above : end a run at the exact checked step whose largest gamma exceeds this
    """

    def __init__(self, evaluator: Evaluator, settings: MDSettings, log: Path | None = None) -> None:
        self.settings = settings
        self.gamma_every = 1
        self.halt_above = np.inf
        self._evaluator = evaluator
        self._log = log
        self._seed = settings.seed
        self._lmp: Any = None
        self._needs_setup = True
        self._broken = False

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
        box = BoxMap.of(atoms, self.settings.dimension)
        self._origin = Origin(tuple(self._evaluator.elements), box)
        self._check_ensemble()
        masses = _masses(atoms, self._origin.elements)
        self._open()
        with self._guarded("start"):
            for command in _box_commands(box, box.region(atoms), masses):
                self._lmp.command(command)
            self._create(atoms)
        self._seed = self.settings.seed if velocity_seed is None else velocity_seed
        self._equip()
        if not atoms.has("momenta"):
            self._draw(self._seed, self.settings.temperature_k)

    def restore(self, path: Path) -> None:
        """Go back to what `save` wrote: positions, velocities, cell, thermostat, step number."""
        self._open()
        with self._guarded("restore"):
            self._origin = load_snapshot(self._lmp, path)
        if self._origin.box.dimension != self.settings.dimension:
            raise ConfigError(f"{path}: a {self._origin.box.dimension}-dimensional state, not what the settings say")
        self._check_ensemble()
        self._equip()
        check_elements(self._evaluator, set(self._symbols(self._types())))

    def save(self, path: Path) -> None:
        """Write the whole state to `path` in one atomic replacement.

        The next `run` begins with a set-up, since LAMMPS reorders its atoms to write them.
        """
        self._running()
        with self._guarded("save"):
            save_snapshot(self._lmp, self._origin, path)
        self._needs_setup = True

    def run(self, steps: int) -> RunOutcome:
        """Advance by `steps` or to the halt, whichever comes first.

        Raises
        ------
        Crashed
            Lost atoms, forces that are not finite, or an error of LAMMPS; only `start` or `restore` helps then.
        """
        self._running()
        bridge = self._bridge
        bridge.checks.clear()
        bridge.gamma_every, bridge.halt_above = self.gamma_every, self.halt_above
        if self._needs_setup:
            bridge.force_gamma = True
            kept, bridge.clock = bridge.clock, Clock()  # set-ups are not steps
            with self._logged():
                self._command("run 0 post no")
            bridge.clock = kept
            self._needs_setup = False
        elif bridge.halted:
            # Going on from a halted step: its gamma is known and the caller has seen it.
            bridge.halted = False
        if steps > 0 and not bridge.halted:
            self._command("timer timeout off")
            self._command(f"run {steps} pre no post no")
        return self._outcome()

    def swap(self, evaluator: Evaluator) -> None:
        """Go on with another potential; positions, velocities and the thermostat's state stay."""
        self._running()
        check_elements(evaluator, set(self._symbols(self._types())))
        self._evaluator = evaluator
        self._bridge.use(evaluator)
        with self._guarded("swap"):
            self._set_cutoff()
        self._needs_setup = True

    def reseed(self, seed: int, temperature: float | None = None) -> None:
        """Draw new velocities at `temperature`, K (default: the settings'), and new Langevin noise."""
        self._running()
        self._seed = seed
        if self.settings.ensemble == "langevin":
            with self._guarded("reseed"):
                for command in integrator_commands(self.settings, seed)[1:]:
                    self._lmp.command(command.replace("fix", "unfix", 1).split(" all ")[0])
                    self._lmp.command(command)
        self._draw(seed, self.settings.temperature_k if temperature is None else temperature)

    def frame(self) -> Atoms:
        """Return the present frame in the orientation and order of the structure that was started with.

        Momenta are set; `info["step"]` is the step; where the last evaluation belongs to this step, energy and forces
        (and stress if all directions are periodic) come as a calculator and gamma (N,) as an array.
        """
        self._running()
        box = self._origin.box
        order = np.argsort(self._numpy("id"))
        velocities = box.turn_back(self._numpy("v")[order] / _VELOCITY)
        atoms = Atoms(
            self._symbols(self._types()[order]),
            positions=box.positions_back(self._numpy("x")[order]),
            cell=box.cell_back(self._box_vectors()),
            pbc=box.pbc,
            masses=self._atom_masses()[order],
        )
        atoms.set_velocities(velocities)
        atoms.info["step"] = self.step
        self._attach_evaluation(atoms)
        return atoms

    def thermo(self) -> dict[str, float | None]:
        """Return step, potential_energy and kinetic_energy in eV, temperature in K, pressure in bar, volume in A^3.

        In two dimensions volume is the area, A^2, and pressure is bar*A; with open directions both are None.
        """
        self._running()
        kinetic, temperature = self._heat()
        evaluation = self._current_evaluation()
        volume = self._volume()
        pressure = None
        dimension = self._origin.box.dimension
        if evaluation is not None and volume is not None:
            trace = float(evaluation.virial[:dimension].sum())
            pressure = (2 * kinetic + trace) / (dimension * volume) * self._lmp.extract_global("nktv2p")
        return {
            "step": float(self.step),
            "potential_energy": None if evaluation is None else evaluation.energy,
            "kinetic_energy": kinetic,
            "temperature": temperature,
            "pressure": pressure,
            "volume": volume,
        }

    def timings(self, *, reset: bool = False) -> dict[str, float]:
        """Return seconds since start, restore or reset: list, evaluation, gamma, python, lammps; and steps."""
        split = self._bridge.clock.split()
        if reset:
            self._bridge.clock = Clock()
        return split

    @property
    def step(self) -> int:
        return int(self._lmp.extract_global("ntimestep"))

    def close(self) -> None:
        """Free LAMMPS; further use needs `start` or `restore`."""
        if self._lmp is not None:
            self._lmp.close()
            self._lmp = None

    def __enter__(self) -> LammpsMD:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- setting up -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self.close()
        self._lmp = open_lammps()
        self._broken = False

    def _check_ensemble(self) -> None:
        box = self._origin.box
        periodic = box.pbc[:2] if box.dimension == 2 else box.pbc
        if self.settings.ensemble == "npt" and not all(periodic):
            raise ConfigError(
                "ensemble npt needs a structure that is periodic in all directions", "use nvt for slabs and clusters"
            )

    def _create(self, atoms: Atoms) -> None:
        box, elements = self._origin.box, self._origin.elements
        kind = {element: i + 1 for i, element in enumerate(elements)}
        n = len(atoms)
        velocities = None
        if atoms.has("momenta"):
            velocities = (box.turn(atoms.get_velocities()) * _VELOCITY).ravel().tolist()
        made = self._lmp.create_atoms(
            n,
            list(range(1, n + 1)),
            [kind[symbol] for symbol in atoms.get_chemical_symbols()],
            box.to_lammps(atoms.positions).ravel().tolist(),
            velocities,
        )
        if made != n:
            raise DataError(f"LAMMPS took {made} of {n} atoms", "is every position inside the cell and finite?")

    def _equip(self) -> None:
        """Give potential, integrator and halt to an instance that has its atoms."""
        with self._guarded("set-up"):
            self._set_cutoff()
            self._lmp.command("neigh_modify every 1 delay 0 check yes")
            self._lmp.command(f"timestep {self.settings.timestep_fs / 1000.0!r}")
            self._lmp.command(f"fix {FIX} all external pf/callback 1 1")
            self._lmp.command(f"fix_modify {FIX} energy yes virial yes")
            for command in (*integrator_commands(self.settings, self._seed), *HALT_COMMANDS):
                self._lmp.command(command)
            if self._origin.box.dimension == 2:
                self._lmp.command("fix plane all enforce2d")
            # Energies belong to the step they were tallied on; asking for them after a halt would be an error.
            self._lmp.command("thermo_style custom step temp")
            self._bridge = Bridge(self._lmp, self._evaluator, self._origin.elements, self._lmp.get_natoms())
        self._needs_setup = True

    def _set_cutoff(self) -> None:
        self._lmp.command(f"pair_style zero {self._evaluator.cutoff!r} full")
        self._lmp.command("pair_coeff * *")
        self._lmp.command(f"neighbor {self.settings.skin!r} bin")

    def _draw(self, seed: int, temperature: float) -> None:
        with self._guarded("velocities"):
            if temperature <= 0:
                self._lmp.command("velocity all set 0.0 0.0 0.0")
            else:
                still = "yes" if self._lmp.get_natoms() > 1 else "no"
                self._lmp.command(f"velocity all create {temperature!r} {seed} mom {still} dist gaussian loop all")
        self._needs_setup = True

    # -- running --------------------------------------------------------------------------------------------------

    def _running(self) -> None:
        if self._lmp is None:
            raise EngineError("MD has not been started", "call start or restore first")
        if self._broken:
            raise Crashed("MD cannot go on after its crash", "restore a snapshot")

    def _command(self, command: str) -> None:
        """Run one command; raise what the callback kept, or LAMMPS' own error, as one of ours."""
        began = time.perf_counter()
        self._bridge.leave_run()
        try:
            with self._guarded("MD"):
                self._lmp.command(command)
        finally:
            self._bridge.clock.run += time.perf_counter() - began
        error, self._bridge.error = self._bridge.error, None
        if error is not None:
            self._broken = True
            raise error

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except AutopipeError:
            raise
        except Exception as error:  # LAMMPS raises bare Exception and MPIAbortException
            self._broken = True
            raise Crashed(f"LAMMPS failed ({what}): {_first_line(error)}", _advice(str(error))) from error

    @contextlib.contextmanager
    def _logged(self) -> Iterator[None]:
        """Write LAMMPS' log only inside: a line for each of many thousand short runs would fill the disk."""
        if self._log is not None:
            self._lmp.command(f'log "{self._log}" append')
        try:
            yield
        finally:
            if self._log is not None:
                self._lmp.command("log none")

    def _outcome(self) -> RunOutcome:
        bridge = self._bridge
        if bridge.evaluation is None:
            raise Crashed("LAMMPS returned without having asked for forces")
        worst: tuple[int, float, int] | None = None
        if bridge.checks:
            worst = bridge.checks[-1] if bridge.halted else max(bridge.checks, key=lambda check: check[1])
        return RunOutcome(
            step=self.step,
            halted=bridge.halted,
            gamma_max=None if worst is None else worst[1],
            gamma_argmax=-1 if worst is None else worst[2] - 1,
            potential_energy=bridge.evaluation.energy,
            temperature=self._heat()[1],
            checks=tuple((step, gamma) for step, gamma, _ in bridge.checks),
        )

    # -- reading --------------------------------------------------------------------------------------------------

    def _numpy(self, name: str) -> Any:
        """Return a copy of one of LAMMPS' arrays of the owned atoms, in its present order."""
        return np.array(self._lmp.numpy.extract_atom(name)[: self._lmp.extract_global("nlocal")])

    def _types(self) -> IntArray:
        return np.asarray(self._numpy("type"))

    def _symbols(self, types: IntArray) -> list[str]:
        return [self._origin.elements[t - 1] for t in types]

    def _atom_masses(self) -> FloatArray:
        by_type = self._lmp.numpy.extract_atom("mass")
        return np.asarray(np.array(by_type).ravel()[self._types()])

    def _box_vectors(self) -> FloatArray:
        low, high, xy, yz, xz, *_ = self._lmp.extract_box()
        lx, ly, lz = (high[k] - low[k] for k in range(3))
        return np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]])

    def _volume(self) -> float | None:
        box = self._origin.box
        lengths = np.diag(self._box_vectors())
        if box.dimension == 2:
            return float(lengths[0] * lengths[1])
        return float(np.prod(lengths)) if all(box.pbc) else None

    def _heat(self) -> tuple[float, float]:
        """Return kinetic energy, eV, and temperature, K, with the degrees of freedom that LAMMPS counts."""
        kinetic = 0.5 * self._lmp.extract_global("mvv2e")
        kinetic *= float((self._atom_masses()[:, None] * self._numpy("v") ** 2).sum())
        freedom = self._origin.box.dimension * (self._lmp.get_natoms() - 1)
        temperature = 2 * kinetic / (freedom * self._lmp.extract_global("boltz")) if freedom else 0.0
        return kinetic, temperature

    def _current_evaluation(self) -> Any:
        return self._bridge.evaluation if self._bridge.step == self.step else None

    def _attach_evaluation(self, atoms: Atoms) -> None:
        evaluation = self._current_evaluation()
        if evaluation is None:
            return
        box, order = self._origin.box, np.argsort(self._bridge.tags)
        results: dict[str, Any] = {"energy": evaluation.energy, "forces": box.turn_back(evaluation.forces[order])}
        if all(box.pbc) and box.dimension == 3:
            stress = stress_from_virial(evaluation.virial, atoms.get_volume())
            results["stress"] = voigt_from_tensor(box.tensor_back(_tensor(stress)))
        atoms.calc = SinglePointCalculator(atoms, **results)
        if evaluation.gamma is not None:
            atoms.arrays["gamma"] = evaluation.gamma[order]


def _box_commands(box: BoxMap, region: tuple[FloatArray, FloatArray, FloatArray], masses: list[float]) -> list[str]:
    low, high, tilt = region
    edges = " ".join(f"{a!r} {b!r}" for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return [
        "units metal",
        f"dimension {box.dimension}",
        f"boundary {box.boundary}",
        "atom_style atomic",
        "box tilt large",
        f"region cell prism {edges} {' '.join(repr(t) for t in tilt.tolist())} units box",
        f"create_box {len(masses)} cell",
        *(f"mass {i + 1} {mass!r}" for i, mass in enumerate(masses)),
    ]


def _masses(atoms: Atoms, elements: tuple[str, ...]) -> list[float]:
    """Return one mass per element, u: the atoms' own where they have some."""
    symbols = np.array(atoms.get_chemical_symbols())
    masses = []
    for element in elements:
        own = atoms.get_masses()[symbols == element]
        if len(own) and np.ptp(own) > 0:
            raise DataError(
                f"structure: {element} atoms with different masses", "isotopes of one element are not supported"
            )
        masses.append(float(own[0]) if len(own) else float(atomic_masses[atomic_numbers[element]]))
    return masses


def _tensor(voigt: FloatArray) -> FloatArray:
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].removeprefix("ERROR: ").strip("'\"")


def _advice(message: str) -> str:
    if "ost atoms" in message or "Non-numeric" in message:
        return "MD exploded: use a smaller time step, or a potential that knows these configurations"
    return ""
