"""The input of a structure for people: pw.x's file, with the reason behind every value as a comment."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ase import Atoms
from ase.calculators.espresso import EspressoProfile

from mlip_autopipec.core.periodic import Job
from mlip_autopipec.engines.espresso.choices import Choices, choose
from mlip_autopipec.engines.espresso.inputs import prepare, wanted_scf, write_input
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

_KEY = re.compile(r"^\s+(\w+)(?:\(\d+\))?\s*=")
_EMPTY_NAMELIST = re.compile(r"^&\w+\n/\n", re.MULTILINE)
_COLUMN = 44


def commented_input(atoms: Atoms, settings: EspressoSettings, node: EspressoNode) -> tuple[str, dict[str, str]]:
    """Return the input of `atoms`, and why each value of it is what it is.

    Raises
    ------
    ConfigError, DataError
        There is no input for this structure with these settings, and why.
    """
    choices = choose(settings, node.pseudo_dir)
    choices.require(atoms.get_chemical_symbols())
    job = prepare(atoms, settings)
    with tempfile.TemporaryDirectory() as folder:
        template = write_input(
            job,
            settings,
            choices,
            EspressoProfile(command="pw.x", pseudo_dir=node.pseudo_dir),
            Path(folder),
            scf=wanted_scf(settings),
            from_density=False,
            outdir="./scratch",
            max_seconds=node.max_seconds,
        )
        text = (Path(folder) / template.inputname).read_text(encoding="utf-8")
    reasons = {**choices.reasons, **_of_structure(job, settings, choices)}
    lines = [_with_reason(line, reasons) for line in _EMPTY_NAMELIST.sub("", text).splitlines()]
    return "\n".join(lines) + "\n", reasons


def completed(settings: EspressoSettings, choices: Choices) -> EspressoSettings:
    """Return the settings with every choice written out, so that no node can choose differently."""
    return settings.model_copy(
        update={
            "pseudopotentials": {element: file.file for element, file in choices.pseudopotentials.items()},
            "elements": [],
            "ecutwfc_ry": choices.ecutwfc_ry,
            "ecutrho_ry": choices.ecutrho_ry,
            "nspin": choices.nspin,
            "starting_magnetization": dict(choices.magnetization),
        }
    )


def _of_structure(job: Job, settings: EspressoSettings, choices: Choices) -> dict[str, str]:
    reasons = {
        "ATOMIC_SPECIES": "; ".join(f"{e}: {choices.reasons[f'file {e}']}" for e in choices.pseudopotentials),
        "CELL_PARAMETERS": "the structure's",
        "ATOMIC_POSITIONS": "the structure's, in its order",
        **{key.lower(): "labeller.system" for key in settings.system},
        **{key.lower(): "labeller.electrons" for key in settings.electrons},
    }
    if not job.stress:
        reasons["tstress"] = "has no meaning with an open direction"
        reasons["CELL_PARAMETERS"] = f"open directions have at least {settings.vacuum:g} A of vacuum (labeller.vacuum)"
    return reasons


def _with_reason(line: str, reasons: Mapping[str, str]) -> str:
    """Return a line of the input with its reason behind it; cards take comments only on lines of their own."""
    found = _KEY.match(line)
    if found and reasons.get(found[1]):
        return f"{line:<{_COLUMN}} ! {reasons[found[1]]}"
    card = line.split()[0] if line.split() else ""
    return f"! {reasons[card]}\n{line}" if card in reasons and not found else line
