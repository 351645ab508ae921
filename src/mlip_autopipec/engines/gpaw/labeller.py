"""Labels by GPAW, which computes within this process: a labeller child that dies with its worker."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import AutopipeError, DataError, TimedOut
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.core.periodic import Job, isolated_job, periodic_job
from mlip_autopipec.engines.gpaw.failures import error_of
from mlip_autopipec.engines.gpaw.library import dataset_name, open_gpaw, require_datasets
from mlip_autopipec.engines.gpaw.settings import GpawNode, GpawSettings

TEXT = "gpaw.txt"
_MIXING_BETA = 0.05  # GPAW's own


class GpawLabeller:
    """Labels with GPAW's plane waves: free energy, its derivatives, and nothing that did not converge.

    Parameters
    ----------
    settings
        What decides the label.
    node
        How this node runs GPAW.

    Raises
    ------
    ConfigError
        GPAW is not installed here, or `node.gpaw.setup_dir` does not exist.
    """

    def __init__(self, settings: GpawSettings, node: GpawNode | None = None) -> None:
        self.settings = settings
        self.node = node or GpawNode()
        self._gpaw = open_gpaw(self.node.setup_dir)

    @property
    def name(self) -> str:
        return "gpaw"

    def label(self, atoms: Atoms, folder: Path) -> Label:
        """Label `atoms`; GPAW's text output stays in `folder`.

        Raises
        ------
        DataError
            Atoms are nearer than 0.5 A.
        ConfigError
            An element has no PAW dataset.
        NotConverged, TimedOut, Crashed
            There is no label, and why.
        """
        self.check_elements(atoms.get_chemical_symbols())
        job = periodic_job(atoms, vacuum=self.settings.vacuum, kspacing=self.settings.kspacing)
        return self._run(job, self.settings.moments(job.atoms), folder)

    def tighter(self) -> GpawLabeller:
        """Return a labeller with a tolerance 10 times smaller and half the mixing, which ends in no shallow state."""
        scf = {
            "density_tolerance": self.settings.density_tolerance / 10,
            "mixing_beta": (self.settings.mixing_beta or _MIXING_BETA) / 2,
            "electron_maxstep": 2 * self.settings.electron_maxstep,
        }
        return GpawLabeller(self.settings.model_copy(update=scf), self.node)

    def check_elements(self, symbols: Collection[str]) -> None:
        """Raise `ConfigError` if an element has no PAW dataset."""
        require_datasets(self._gpaw, symbols, self.settings)

    def isolated_atom_energy(self, element: str, folder: Path) -> float:
        """Return the energy of one atom in a box of `settings.isolated_box`, at Gamma, eV.

        GPAW counts energies from its own reference atoms, which have no spin, so that this is near zero without spin.
        """
        self.check_elements([element])
        job = isolated_job(element, self.settings.isolated_box)
        return self._run(job, self.settings.moments(job.atoms, isolated=True), folder).energy

    def _run(self, job: Job, moments: np.ndarray | None, folder: Path) -> Label:
        begin = time.monotonic()
        steps = 0
        try:
            atoms, parameters = gpaw_input(job, moments, self.settings)
            calculator = self._gpaw.dft.GPAW(**parameters, txt=str(folder / TEXT), legacy_gpaw=False)
            for context in calculator.iconverge(atoms):
                steps = context.niter
                self._check_time(begin, steps)
            results = {name: calculator.get_property(name, atoms) for name in ("free_energy", "forces")}
            if job.stress:
                results["stress"] = calculator.get_property("stress", atoms)
        except AutopipeError:
            raise
        # GPAW fails by exceptions of any kind, and a task that failed must not end the process.
        except Exception as error:
            raise error_of(error, self._gpaw, steps) from error
        info = self._info(job, calculator, steps, time.monotonic() - begin)
        stress = np.array(results["stress"], dtype=float) if job.stress else None
        return Label(float(results["free_energy"]), np.array(results["forces"], dtype=float), stress, info)

    def _check_time(self, begin: float, steps: int) -> None:
        spent = time.monotonic() - begin
        if spent > self.node.seconds_left(begin):
            raise TimedOut(
                f"GPAW was stopped at its time limit after {spent:.0f} s and {steps} SCF iterations",
                "raise node.gpaw.max_seconds, or carve smaller cells",
            )

    def _info(self, job: Job, calculator: Any, steps: int, seconds: float) -> dict[str, Any]:
        """Return how the label was made; JSON-ready."""
        used = sorted(set(job.atoms.get_chemical_symbols()))
        prints = {setup.symbol: setup.fingerprint for setup in calculator.dft.setups}
        info: dict[str, Any] = {
            "engine": "gpaw",
            "program": f"gpaw {self._gpaw.__version__}",
            "seconds": round(seconds, 2),
            "scf_iterations": steps,
            "functional": self.settings.functional,
            "ecut_ev": self.settings.ecut_ev,
            "kpoints": list(job.kpoints or (1, 1, 1)),
            "setups": {symbol: f"{dataset_name(symbol, self.settings)} {prints.get(symbol)}" for symbol in used},
        }
        extrapolated = float(calculator.get_property("energy"))
        info["energy_sigma0_ev"] = extrapolated  # what ASE calls the energy: not what forces are derivatives of
        moments = calculator.results.get("magmoms")
        if moments is not None and np.any(moments):
            info["total_magnetization"] = round(float(calculator.get_property("magmom")), 4)  # Bohr magnetons per cell
            info["moments"] = [round(float(moment), 4) for moment in moments]  # Bohr magnetons, within the PAW spheres
        return info


def gpaw_input(job: Job, moments: np.ndarray | None, settings: GpawSettings) -> tuple[Atoms, dict[str, Any]]:
    """Return the atoms and GPAW's parameters of a job.

    Parameters
    ----------
    moments
        (N,) Bohr magnetons that the SCF begins with; None: without spin.
    """
    atoms = job.atoms.copy()
    tolerance = settings.density_tolerance
    parameters: dict[str, Any] = {
        "mode": {"name": "pw", "ecut": settings.ecut_ev},
        "xc": settings.functional,
        "kpts": {"size": job.kpoints or (1, 1, 1), "gamma": True},
        "occupations": {"name": settings.smearing, "width": settings.width_ev},
        # Errors of eigenstates are squares, in eV^2.
        "convergence": {"density": tolerance, "eigenstates": tolerance**2 * 100, "energy": tolerance},
        "maxiter": settings.electron_maxstep,
        "charge": settings.total_charge,
        "spinpol": moments is not None,
    }
    if settings.setups:
        parameters["setups"] = dict(settings.setups)
    if settings.mixing_beta is not None:
        parameters["mixer"] = {"beta": settings.mixing_beta}
    if moments is not None:
        atoms.set_initial_magnetic_moments(moments)
    if job.slab_axis is not None and settings.dipole is not False:
        _correct_dipole(atoms, job.slab_axis, parameters)
    return atoms, parameters


def _correct_dipole(atoms: Atoms, axis: int, parameters: dict[str, Any]) -> None:
    """Open the slab's direction, at whose end the potential jumps: so the slab has to stand in the middle."""
    pbc = np.ones(3, dtype=bool)
    pbc[axis] = False
    if np.any(atoms.cell[axis][pbc]) or np.any(atoms.cell[pbc][:, axis]):
        raise DataError(
            f"structure.cell: the direction without period, {'xyz'[axis]}, is not normal to the others and along "
            f"{'xyz'[axis]}, as GPAW's dipole correction needs it",
            "rotate the structure, or set labeller.dipole: false",
        )
    heights = np.sort(atoms.get_scaled_positions(wrap=True)[:, axis])
    gaps = np.diff(np.append(heights, heights[0] + 1.0))
    top = heights[int(np.argmax(gaps))] + gaps.max() / 2
    scaled = atoms.get_scaled_positions(wrap=False)
    scaled[:, axis] = (scaled[:, axis] - top) % 1.0
    atoms.set_scaled_positions(scaled)
    atoms.pbc = pbc
    parameters["poissonsolver"] = {"dipolelayer": "xy"}
