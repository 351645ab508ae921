"""A trial of pw.x on this node with two atoms: is all there, does it run, are its forces the gradient of its energy."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii, reference_states

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.interfaces import FloatArray, Label
from mlip_autopipec.core.launcher import split_command
from mlip_autopipec.engines.espresso.choices import Choices, choose
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.launcher import (
    check_launcher,
    has_launcher,
    processes_asked,
    processes_run,
    reference_blas,
)
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

FORCE_TOLERANCE: Final = 0.002  # eV/A
# Small, since the bond of H2 is so anharmonic that 0.01 A is 2 meV/A off.
_STEP_A: Final = 0.004
_SHIFT_A: Final = 0.12
# A trial asks whether force and energy belong together, which holds for any k-points: few of them save minutes.
_KSPACING: Final = 0.6
_TIGHT_RY: Final = 1e-10
_DIMER_BOX_A: Final = 6.0
_OUTPUT: Final = "espresso.pwo"
_FASTER_BLAS: Final = "with OpenBLAS large cells take half the time (Debian: libopenblas0-serial)"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    check : what was looked at
    ok : whether it is as it should be
    said : what was found
    fix : what to do if it is not ok
    """

    check: str
    ok: bool
    said: str
    fix: str = ""


def try_program(node: EspressoNode) -> Finding:
    """Look for the program and its launcher."""
    command = split_command(node.command)
    try:
        found = check_launcher(command)
    except AutopipeError as error:
        return Finding("program", False, error.message, error.hint)
    asked = processes_asked(command)
    number = "as many processes as the launcher likes" if asked is None else f"{asked} MPI process(es)"
    what = f"launcher {found}, {number}" if has_launcher(command) else f"{found}, no MPI launcher: one process"
    slow = reference_blas(command)
    advice = f"; {slow} is the slow reference BLAS: {_FASTER_BLAS}" if slow else ""
    return Finding("program", True, f"{what}, {node.threads} thread(s) each{advice}")


def try_pseudopotentials(
    element: str, settings: EspressoSettings, node: EspressoNode
) -> tuple[Finding, Choices | None]:
    """Look for the element's pseudopotential; return what follows from it as well."""
    check = f"{element}: pseudopotential"
    try:
        choices = choose(settings, node.pseudo_dir)
        choices.require([element])
    except AutopipeError as error:
        return Finding(check, False, error.message, error.hint), None
    file = choices.pseudopotentials[element]
    said = (
        f"{node.pseudo_dir / file.file}, {file.functional or 'functional unknown'}, "
        f"cutoffs {choices.ecutwfc_ry:g} and {choices.ecutrho_ry:g} Ry"
    )
    return Finding(check, True, said), choices


def try_element(
    element: str, settings: EspressoSettings, node: EspressoNode, tether: Sequence[str] = ()
) -> Iterator[Finding]:
    """Run pw.x on two atoms of `element`: SCF, MPI, forces against finite differences; ends at what is in the way.

    Parameters
    ----------
    settings, node
        As for labels; only k-points and threshold of the trial are its own.
    tether
        Command put before pw.x's so that it dies with this process.
    """
    finding, choices = try_pseudopotentials(element, settings, node)
    yield finding
    if choices is None:
        return
    atoms = two_atoms(element)
    changes = {"kspacing": max(settings.kspacing, _KSPACING), "conv_thr_ry": min(settings.conv_thr_ry, _TIGHT_RY)}
    folder = Path(tempfile.mkdtemp(prefix="autopipe-trial-"))
    try:
        labeller = EspressoLabeller(settings.model_copy(update=changes), node, tether)
        begin = time.monotonic()
        label = labeller.label(atoms, folder)
        yield _scf(element, label, time.monotonic() - begin)
        yield _mpi(node, (folder / _OUTPUT).read_text(encoding="utf-8", errors="replace"))
        yield _forces(element, atoms, label, labeller, folder)
    except AutopipeError as error:
        yield Finding(f"{element}: SCF", False, f"{error.message}; its files are in {folder}", error.hint)
        return
    shutil.rmtree(folder, ignore_errors=True)


def two_atoms(element: str) -> Atoms:
    """Return two atoms in the element's crystal, or else a dimer in a box, with one of them moved off its place."""
    number = atomic_numbers[element]
    state = reference_states[number] or {}
    symmetry = state.get("symmetry")
    if symmetry == "fcc":
        atoms = bulk(element, orthorhombic=True)
    elif symmetry == "bcc":
        atoms = bulk(element, cubic=True)
    elif symmetry in ("hcp", "diamond"):
        atoms = bulk(element)
    else:
        distance = state["d"] if symmetry == "diatom" else 2.0 * covalent_radii[number]
        atoms = Atoms(f"{element}2", positions=[[0, 0, 0], [0, 0, distance]], cell=[_DIMER_BOX_A] * 3, pbc=True)
    direction = np.array([0.5, 0.3, 1.0])
    atoms.positions[1] += _SHIFT_A * direction / np.linalg.norm(direction)
    # Initial moments of ASE's crystals would not reach pw.x anyway: the settings decide them.
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def _scf(element: str, label: Label, seconds: float) -> Finding:
    rungs = [rung["rung"] for rung in label.info["rungs"][1:]]
    said = (
        f"{label.info.get('program', 'pw.x')}: 2 atoms, {label.info.get('scf_iterations', '?')} iterations, "
        f"{seconds:.1f} s, {label.energy:.4f} eV" + (f"; rescued by: {', '.join(rungs)}" if rungs else "")
    )
    return Finding(f"{element}: SCF", True, said)


def _mpi(node: EspressoNode, output: str) -> Finding:
    """Compare the processes that ran with those that were asked for."""
    asked = processes_asked(split_command(node.command))
    programs, processes = processes_run(output)
    if programs > 1:
        return Finding(
            "MPI", False, f"{programs} copies of pw.x ran side by side instead of one on {programs} processes",
            "node.espresso.command: take the launcher of the MPI that pw.x was built with, e.g. /usr/bin/mpirun",
        )  # fmt: skip
    if asked is not None and processes != asked:
        return Finding(
            "MPI", False, f"pw.x ran on {processes} process(es), node.espresso.command asks for {asked}",
            "take the launcher of the MPI that pw.x was built with, or a pw.x that was built with MPI",
        )  # fmt: skip
    return Finding("MPI", True, f"pw.x ran once, on {processes} process(es)")


def _forces(element: str, atoms: Atoms, label: Label, labeller: EspressoLabeller, folder: Path) -> Finding:
    """Compare the force on the second atom with the energy's finite difference along it."""
    force = float(np.linalg.norm(label.forces[1]))
    direction: FloatArray = label.forces[1] / force if force > 0 else np.array([0.0, 0.0, 1.0])
    energies = []
    for sign in (1.0, -1.0):
        moved = atoms.copy()
        moved.positions[1] += sign * _STEP_A * direction
        energies.append(labeller.label(moved, folder).energy)
    measured = (energies[1] - energies[0]) / (2.0 * _STEP_A)
    said = f"force {force:.4f} eV/A, finite difference {measured:.4f}: {1000 * abs(force - measured):.2f} meV/A apart"
    ok = abs(force - measured) < FORCE_TOLERANCE
    fix = "raise labeller.ecutrho_ry, then ecutwfc_ry; with spin: the SCF may end in different magnetic states"
    return Finding(f"{element}: forces", ok, said, "" if ok else fix)
