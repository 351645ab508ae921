"""Making LAMMPS' box and atoms from a structure, and giving them potential, integrator and watch."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.forces import Forces
from mlip_autopipec.engines.lammps.settings import MDSettings, integrator_commands
from mlip_autopipec.engines.lammps.snapshot import Origin
from mlip_autopipec.engines.lammps.state import VELOCITY


def create_atoms(lmp: Any, origin: Origin, atoms: Atoms) -> None:
    """Make the box and the atoms, with their velocities if they have some.

    Raises
    ------
    DataError
        Masses that one type cannot have, or positions that LAMMPS refuses.
    """
    masses = _masses(atoms, origin.elements)
    for command in _box_commands(origin.box, atoms, masses):
        lmp.command(command)
    box, n = origin.box, len(atoms)
    kind = {element: i + 1 for i, element in enumerate(origin.elements)}
    velocities = None
    if atoms.has("momenta"):
        velocities = (box.turn(atoms.get_velocities()) * VELOCITY).ravel().tolist()
    made = lmp.create_atoms(
        n,
        list(range(1, n + 1)),
        [kind[symbol] for symbol in atoms.get_chemical_symbols()],
        box.to_lammps(atoms.positions).ravel().tolist(),
        velocities,
    )
    if made != n:
        raise DataError(f"LAMMPS took {made} of {n} atoms", "is every position inside the cell and finite?")


def equip(lmp: Any, origin: Origin, settings: MDSettings, forces: Forces, seed: int) -> None:
    """Give everything but the atoms; the same commands after a restart, whose fixes then find their state."""
    before, after = forces.fix_commands()
    commands = [
        *forces.pair_commands(),
        f"neighbor {settings.skin!r} bin",
        "neigh_modify every 1 delay 0 check yes",
        f"timestep {settings.timestep_fs / 1000.0!r}",
        *before,
        *integrator_commands(settings, seed),
        *after,
    ]
    if origin.box.dimension == 2:
        commands.append("fix plane all enforce2d")
    for command in commands:
        lmp.command(command)


def _box_commands(box: BoxMap, atoms: Atoms, masses: list[float]) -> list[str]:
    low, high, tilt = box.region(atoms)
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
            raise DataError(f"structure: {element} atoms of different mass", "isotopes of an element are not supported")
        masses.append(float(own[0]) if len(own) else float(atomic_masses[atomic_numbers[element]]))
    return masses
