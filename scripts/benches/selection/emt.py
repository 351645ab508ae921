"""ASE's EMT with all pairs at once: the same numbers, ten times faster, as most of this benchmark is MD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT, beta
from vesin import ase_neighbor_list


class PairwiseEmt(EMT):
    """Effective medium theory (Jacobsen, Stoltze & Norskov 1996, doi:10.1016/0039-6028(96)00816-3); no stress."""

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        Calculator.calculate(self, atoms, properties, system_changes)
        if "numbers" in system_changes:
            self.initialize(self.atoms)  # ASE's parameters and cutoff
        own: dict[str, Any] = {name: values[self.ia2iz] for name, values in self.par.items()}
        n = len(self.atoms)
        i, j, r, d = ase_neighbor_list("ijdD", self.atoms, self.rc_list)
        switch = 1.0 / (1.0 + np.exp(self.acut * (r - self.rc)))
        # Logarithmic slopes of what a neighbour gives to an atom: density (1) and pair energy (2).
        slope = self.acut * (switch - 1.0)
        weight = self.chi[self.ia2iz[i], self.ia2iz[j]] * switch
        density = weight * np.exp(-own["eta2"][j] * (r - beta * own["s0"][j]))
        pair = own["neghalfv0overgamma2"][i] * weight * np.exp(-own["kappa"][j] * (r / beta - own["s0"][j]))
        total = np.bincount(i, density, n)
        shift = -np.log(total * own["inv12gamma1"]) / (beta * own["eta2"])
        cohesive, repulsive = np.exp(-own["lambda"] * shift), 6.0 * own["V0"] * np.exp(-own["kappa"] * shift)
        energies = own["E0"] * ((1.0 + own["lambda"] * shift) * cohesive - 1.0) + repulsive + np.bincount(i, pair, n)
        by_shift = -own["E0"] * own["lambda"] ** 2 * shift * cohesive - own["kappa"] * repulsive
        by_density = -by_shift / (beta * own["eta2"] * total)
        by_r = by_density[i] * density * (slope - own["eta2"][j]) + pair * (slope - own["kappa"][j] / beta)
        pull = (by_r / r)[:, None] * d
        forces = np.stack([np.bincount(i, x, n) - np.bincount(j, x, n) for x in pull.T], axis=1)
        energy = float(energies.sum())
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
