"""Is a trajectory still physics? Asked while it runs, so that what has blown up costs nothing and is never picked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from mlip_autopipec.core.neighbours import neighbourhood

# Of the sum of covalent radii; compressed metals at 100 GPa keep 0.8, colliding atoms at 5000 K some 0.6.
_CLOSEST: Final = 0.5
_VOLUME: Final = (0.5, 2.0)
# A few atoms fluctuate by their own temperature; a blown-up cell is at millions of K.
_HOT: Final = 5.0
_HOT_K: Final = 3000.0
_LARGEST_FORCE: Final = 300.0  # eV/A


@dataclass(frozen=True)
class Watchdog:
    """Limits of one trajectory.

    Attributes
    ----------
    temperature : K, wanted
    volume : A^3 of the start
    """

    temperature: float
    volume: float

    def complaint(self, atoms: Atoms) -> str:
        """Return what is wrong with a frame whose forces are known; empty if nothing is."""
        forces = atoms.get_forces()
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.get_momenta()).all()):
            return "positions or velocities are not finite"
        if not np.isfinite(forces).all() or not np.isfinite(atoms.get_potential_energy()):
            return "energy or forces are not finite"
        if (largest := float(np.linalg.norm(forces, axis=1).max())) > _LARGEST_FORCE:
            return f"a force of {largest:.3g} eV/A"
        hottest = max(_HOT * self.temperature, _HOT_K)
        if (found := float(atoms.get_temperature())) > hottest:
            return f"{found:.3g} K instead of {self.temperature:g} K"
        ratio = atoms.get_volume() / self.volume if self.volume else 1.0
        if not _VOLUME[0] <= ratio <= _VOLUME[1]:
            return f"the volume is {ratio:.3g} times that of the start"
        return self._too_close(atoms)

    @staticmethod
    def _too_close(atoms: Atoms) -> str:
        radii = covalent_radii[atoms.numbers]
        reach = 2.0 * _CLOSEST * float(radii.max())
        found = neighbourhood(atoms, reach, sorted(set(atoms.get_chemical_symbols())))
        centres = np.repeat(np.arange(found.n_owned), np.diff(found.first))
        vectors = found.positions[found.neighbours] - found.positions[centres]
        distances = np.linalg.norm(vectors, axis=1)
        limits = _CLOSEST * (radii[centres] + radii[found.owners[found.neighbours]])
        if not (distances < limits).any():
            return ""
        return f"two atoms are {float(distances[distances < limits].min()):.3g} A apart"
