"""Which labels stand twice, and which are far from all others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip_autopipec.monitor.oddities import duplicates, outliers
from mlip_autopipec.store.dataset import DatasetRow


def row(seed: int) -> DatasetRow:
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.05 + 0.01 * (seed % 5), seed=seed)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = None
    return DatasetRow(f"label-{seed}", atoms, energy, forces, None, (1,) * len(atoms), "rattled")


ROWS = [row(seed) for seed in range(12)]


def test_the_same_structure_is_found_whatever_its_order_and_origin():
    order = np.random.default_rng(0).permutation(len(ROWS[3].atoms))
    atoms = ROWS[3].atoms[order]
    atoms.translate([0.3, 1.0, -0.7])
    atoms.wrap()
    twin = replace(ROWS[3], task_id="twin", atoms=atoms, forces=ROWS[3].forces[order])
    assert duplicates(ROWS) == []
    assert duplicates([*ROWS, twin]) == [["label-3", "twin"]]


def test_what_is_far_from_all_others_is_found():
    assert outliers(ROWS) == []
    shifted = replace(ROWS[0], task_id="shifted", energy=ROWS[0].energy + 10.0)
    pulled = replace(ROWS[1], task_id="pulled", forces=30 * ROWS[1].forces)
    found = outliers([*ROWS, shifted, pulled])
    assert [(line["label"], line["quantity"]) for line in found] == [
        ("shifted", "energy_per_atom (eV/atom)"),
        ("pulled", "rms_force (eV/A)"),
    ]
    assert all(line["deviations"] > 8 for line in found)
    assert outliers([*ROWS[:5], shifted]) == []  # of so few nobody can tell
