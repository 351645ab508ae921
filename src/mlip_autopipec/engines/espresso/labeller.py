"""Labels by Quantum ESPRESSO's pw.x."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from ase import Atoms

from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.core.launcher import split_command
from mlip_autopipec.core.periodic import Job
from mlip_autopipec.engines.espresso.attempt import Attempt
from mlip_autopipec.engines.espresso.choices import choose
from mlip_autopipec.engines.espresso.inputs import prepare, prepare_isolated
from mlip_autopipec.engines.espresso.launcher import check_launcher
from mlip_autopipec.engines.espresso.neighbours import DensityMemory
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
        self._command = split_command(self.node.command)
        check_launcher(self._command)
        self._tether = list(tether)
        self.choices = choose(settings, self.node.pseudo_dir)
        self._memory = DensityMemory(self.node.remembered_densities)

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
        self.check_elements(atoms.get_chemical_symbols())
        return self._run(prepare(atoms, self.settings), folder)

    def tighter(self) -> EspressoLabeller:
        """Return a labeller with a threshold 100 times smaller and half the mixing, which ends in no shallow state."""
        scf = {"conv_thr_ry": self.settings.conv_thr_ry / 100, "mixing_beta": self.settings.mixing_beta / 2}
        return EspressoLabeller(self.settings.model_copy(update=scf), self.node, self._tether)

    def check_elements(self, symbols: Collection[str]) -> None:
        """Raise `ConfigError` if an element has no pseudopotential."""
        self.choices.require(symbols)

    def isolated_atom_energy(self, element: str, folder: Path) -> float:
        """Return the energy of one atom in a box of `settings.isolated_box`, at Gamma, eV.

        With nspin 2 it is in its ground state of spin. With nspin 1 it has none, as all labels of the run: a reference
        for the fit, not a cohesive energy.
        """
        self.check_elements([element])
        return self._run(prepare_isolated(element, self.settings), folder).energy

    def _run(self, job: Job, folder: Path) -> Label:
        program = [*self._tether, *self._command]
        attempt = Attempt(job, self.settings, self.choices, self.node, program, folder.resolve(), self._memory)
        label = attempt.label()
        used = sorted(set(job.atoms.get_chemical_symbols()))
        files = self.choices.pseudopotentials
        label.info.update(
            engine="espresso",
            kpoints=list(job.kpoints or (1, 1, 1)),
            ecutwfc_ry=self.choices.ecutwfc_ry,
            ecutrho_ry=self.choices.ecutrho_ry,
            pseudopotentials={element: f"{files[element].file} {files[element].sha256}" for element in used},
        )
        return label
