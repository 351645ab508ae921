"""Labels by VASP."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.core.launcher import check_launcher, split_command
from mlip_autopipec.core.periodic import Job, isolated_job, periodic_job
from mlip_autopipec.core.program import run_program
from mlip_autopipec.engines.vasp.failures import STDERR, STDOUT, Report, classify
from mlip_autopipec.engines.vasp.inputs import write_input
from mlip_autopipec.engines.vasp.outputs import read_label
from mlip_autopipec.engines.vasp.potcars import library_folder, potcar_name, require_potcars, titles
from mlip_autopipec.engines.vasp.settings import VaspNode, VaspSettings

# Of another run in the same folder they would be taken for this one's.
_RESULTS: Final = ("OUTCAR", "vasprun.xml", "OSZICAR")
# POTCARs are under VASP's licence and large; what else is large says nothing that the label needs.
_NOT_KEPT: Final = (
    "POTCAR", "WAVECAR", "CHG", "CHGCAR", "DOSCAR", "EIGENVAL", "PCDAT", "PROCAR", "REPORT", "XDATCAR", "vaspout.h5",
)  # fmt: skip
_LEAST_S = 0.01
_AMIX = 0.4  # VASP's own


class VaspLabeller:
    """Labels with VASP: free energy, its derivatives, and nothing that did not converge.

    Parameters
    ----------
    settings
        What decides the label.
    node
        How this node runs VASP.
    tether
        Command put before VASP's so that it dies with this process (`runtime.tether.tethered([])`).

    Raises
    ------
    ConfigError
        The program or the folder of POTCARs is missing on this node, or the launcher is of another MPI.
    """

    def __init__(self, settings: VaspSettings, node: VaspNode | None = None, tether: Sequence[str] = ()) -> None:
        self.settings = settings
        self.node = node or VaspNode()
        self._command = split_command(self.node.command)
        hint = "give the path of vasp_std, with its launcher"
        check_launcher(self._command, key="node.vasp.command", program="VASP", hint=hint)
        self._library = library_folder(settings, self.node)
        self._tether = list(tether)

    @property
    def name(self) -> str:
        return "vasp"

    def label(self, atoms: Atoms, folder: Path) -> Label:
        """Label `atoms`; VASP's input and output stay in `folder`, without POTCAR and what is large.

        Raises
        ------
        DataError
            Atoms are nearer than 0.5 A.
        ConfigError
            An element has no POTCAR, or VASP refuses its input.
        NotConverged, TimedOut, Crashed, OutputUnreadable
            There is no label, and why.
        """
        self.check_elements(atoms.get_chemical_symbols())
        job = periodic_job(atoms, vacuum=self.settings.vacuum, kspacing=self.settings.kspacing)
        return self._run(job, self.settings.moments(job.atoms), folder)

    def tighter(self) -> VaspLabeller:
        """Return a labeller with a threshold 100 times smaller and half the mixing, which ends in no shallow state."""
        scf = {
            "ediff_ev": self.settings.ediff_ev / 100,
            "mixing_amix": (self.settings.mixing_amix or _AMIX) / 2,
            "electron_maxstep": 2 * self.settings.electron_maxstep,
        }
        return VaspLabeller(self.settings.model_copy(update=scf), self.node, self._tether)

    def check_elements(self, symbols: Collection[str]) -> None:
        """Raise `ConfigError` if an element has no POTCAR."""
        require_potcars(symbols, self.settings, self._library)

    def isolated_atom_energy(self, element: str, folder: Path) -> float:
        """Return the energy of one atom in a box of `settings.isolated_box`, at Gamma, eV.

        VASP counts energies from its own reference atoms, which have no spin, so that this is near zero without spin.
        """
        self.check_elements([element])
        job = isolated_job(element, self.settings.isolated_box)
        return self._run(job, self.settings.moments(job.atoms, isolated=True), folder).energy

    def _run(self, job: Job, moments: np.ndarray | None, folder: Path) -> Label:
        for name in _RESULTS:
            (folder / name).unlink(missing_ok=True)
        places = write_input(job, moments, self.settings, self._library, folder)
        used = titles(folder / "POTCAR")
        count = str(self.node.threads)
        try:
            ended = run_program(
                [*self._tether, *self._command],
                folder,
                folder / STDOUT,
                folder / STDERR,
                {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count},
                max(self.node.seconds_left(time.monotonic()), _LEAST_S),
            )
        finally:
            for name in _NOT_KEPT:
                (folder / name).unlink(missing_ok=True)
        report = Report.of(folder, ended)
        failure = classify(report)
        if failure is not None:
            raise failure
        label = read_label(folder, report, places, stress=job.stress)
        names = {symbol: potcar_name(symbol, self.settings) for symbol in sorted(set(job.atoms.get_chemical_symbols()))}
        label.info.update(
            functional=self.settings.functional,
            encut_ev=self.settings.encut_ev,
            kpoints=list(job.kpoints or (1, 1, 1)),
            potcars=names,
            potcar_titles=used,
        )
        return label
