"""`scripts/bench selection`: its teacher is ASE's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

BENCHES = Path(__file__).parents[3] / "scripts" / "benches"


@pytest.mark.parametrize("atoms", [bulk("Al", a=3.99, cubic=True), bulk("NaCl", "rocksalt", a=3.8), molecule("CO")])
def test_all_pairs_at_once_give_the_forces_of_ase(atoms: Atoms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES / "selection"))
    from emt import PairwiseEmt

    atoms = atoms.copy()
    atoms.symbols = ["Cu" if s in ("Na", "C") else "Au" if s in ("Cl", "O") else s for s in atoms.symbols]
    atoms.rattle(0.2, seed=1)
    found = []
    for calculator in (EMT(), PairwiseEmt()):
        atoms.calc = calculator
        found.append((atoms.get_potential_energy(), atoms.get_forces()))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-10)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-10)
    assert np.abs(found[0][1]).max() > 0.1
