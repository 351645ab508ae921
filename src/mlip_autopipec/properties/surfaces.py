"""Energies of surfaces."""

from __future__ import annotations

from typing import Any, Final

from ase import Atoms
from ase.build import surface

from mlip_autopipec.properties.crystal import energy_per_atom
from mlip_autopipec.properties.property import Property, Value
from mlip_autopipec.properties.relaxation import relax_positions

_FACES: Final = ((1, 0, 0), (1, 1, 0), (1, 1, 1))
# Thick enough for a bulk-like middle.
_THICKNESS: Final = 12.0
# On each side of the slab.
_VACUUM: Final = 6.0
_J_PER_M2: Final = 16.0217663


def surface_energies(crystal: Atoms, calculator: Any) -> Property:
    """Return the energies of the faces 100, 110 and 111 of a cubic element, relaxed, in J/m^2.

    gamma = (E(slab) - N E(crystal, per atom)) / (2 A).

    Parameters
    ----------
    crystal
        Conventional cubic cell of one element, at rest, with its calculator.
    """
    values, atoms = {}, {}
    for face in _FACES:
        name = "".join(map(str, face))
        slab = _slab(crystal, face)
        relaxed = relax_positions(slab, calculator, force=5e-3)
        area = relaxed.get_volume() / relaxed.cell.lengths()[2]
        energy = (relaxed.get_potential_energy() - len(relaxed) * energy_per_atom(crystal)) / (2 * area)
        values[name] = Value(float(energy * _J_PER_M2), "J/m^2")
        atoms[name] = len(relaxed)
    return Property("surfaces", values, {"atoms": atoms})


def _slab(crystal: Atoms, face: tuple[int, int, int]) -> Atoms:
    one = surface(crystal, face, 1, periodic=True)
    layers = max(2, int(-(-_THICKNESS // one.cell[2, 2])))
    slab: Atoms = surface(crystal, face, layers, vacuum=_VACUUM, periodic=True)
    slab.calc = None
    return slab
