"""Making LAMMPS' box and atoms from a structure, and giving them potential, integrator and watch."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.engines.lammps.box import CORNER, BoxMap
from mlip_autopipec.engines.lammps.forces import Forces
from mlip_autopipec.engines.lammps.schedule import Leg, deform_command
from mlip_autopipec.engines.lammps.settings import MDSettings, density_commands, integrator_commands
from mlip_autopipec.engines.lammps.snapshot import Origin
from mlip_autopipec.engines.lammps.state import VELOCITY


def create_atoms(lmp: Any, origin: Origin, atoms: Atoms) -> None:
    """Make the box and the atoms, with their velocities if they have some.

    Raises
    ------
    DataError
        Masses that one type cannot have, or positions that LAMMPS refuses.
    """
    masses = element_masses(atoms, origin.elements)
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


def check_box(settings: MDSettings, box: BoxMap) -> None:
    """Refuse settings that move edges which the structure has not got.

    Raises
    ------
    ConfigError
    """
    if settings.ensemble == "npt" and not all(box.pbc[: box.dimension]):
        raise ConfigError("ensemble npt needs a structure that is periodic in all directions", "use nvt")
    if settings.density_bounds is not None and not all(box.pbc):
        raise ConfigError("density_bounds: the structure is not periodic in all directions, so it has no density")
    strained = settings.schedule.strained if settings.schedule else frozenset()
    if strained and not np.array_equal(box.rotation, np.eye(3)):
        raise ConfigError(
            "schedule: strain needs a start structure with a along x and b in the xy plane",
            "turn it, e.g. with ase's atoms.rotate(..., rotate_cell=True), and save it",
        )
    if open_axes := sorted(name for name in strained for k in range(3) if "xyz"[k] in name and not box.pbc[k]):
        raise ConfigError(f"schedule: strain {open_axes[0]}: the structure is not periodic along that direction")


def leg_commands(settings: MDSettings, origin: Origin, leg: Leg, seed: int = 1) -> list[str]:
    """Return what of LAMMPS' fixes depends on the part of the schedule that is run."""
    deform = deform_command(leg, origin.box.cell, CORNER, origin.box.dimension)
    return [*integrator_commands(settings, seed, leg), *([] if deform is None else [deform])]


def equip(lmp: Any, origin: Origin, settings: MDSettings, forces: Forces, seed: int, leg: Leg) -> None:
    """Give everything but the atoms; the same commands after a restart, whose fixes then find their state."""
    before, after = forces.fix_commands()
    commands = [
        *forces.pair_commands(),
        f"neighbor {settings.skin!r} bin",
        "neigh_modify every 1 delay 0 check yes",
        f"timestep {settings.timestep_fs / 1000.0!r}",
        *before,
        *leg_commands(settings, origin, leg, seed),
        *after,
        *density_commands(settings),
    ]
    if origin.box.dimension == 2:
        commands.append("fix plane all enforce2d")
    for command in commands:
        lmp.command(command)


def start_commands(box: BoxMap) -> list[str]:
    """Return what LAMMPS must know before it has a box."""
    return [
        "units metal",
        f"dimension {box.dimension}",
        f"boundary {box.boundary}",
        "atom_style atomic",
        "box tilt large",
    ]


def _box_commands(box: BoxMap, atoms: Atoms, masses: list[float]) -> list[str]:
    low, high, tilt = box.region(atoms)
    edges = " ".join(f"{a!r} {b!r}" for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return [
        *start_commands(box),
        f"region cell prism {edges} {' '.join(repr(t) for t in tilt.tolist())} units box",
        f"create_box {len(masses)} cell",
        *(f"mass {i + 1} {mass!r}" for i, mass in enumerate(masses)),
    ]


def element_masses(atoms: Atoms, elements: tuple[str, ...]) -> list[float]:
    """Return one mass per element, u: the atoms' own where they have some."""
    symbols = np.array(atoms.get_chemical_symbols())
    masses = []
    for element in elements:
        own = atoms.get_masses()[symbols == element]
        if len(own) and np.ptp(own) > 0:
            raise DataError(f"structure: {element} atoms of different mass", "isotopes of an element are not supported")
        masses.append(float(own[0]) if len(own) else float(atomic_masses[atomic_numbers[element]]))
    return masses
