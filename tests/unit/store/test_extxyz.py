"""Our text of a frame is ASE's."""

from __future__ import annotations

import io
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.store.extxyz import text_of


def frame(results: tuple[str, ...], *, atoms: int = 7) -> Atoms:
    rng = np.random.default_rng(atoms)
    made = Atoms(
        ["Al", "H", *["Cu"] * (atoms - 2)][:atoms], rng.normal(0, 30, (atoms, 3)), cell=[9, 8, 7], pbc=(1, 1, 0)
    )
    made.info.update(walker="w00", step=100, version="v0003")
    values: dict[str, Any] = {"energy": -1.25e-7, "forces": rng.normal(0, 9, (atoms, 3)), "stress": np.arange(6.0)}
    if results:
        made.calc = SinglePointCalculator(made, **{name: values[name] for name in results})
    return made


def by_ase(atoms: Atoms) -> bytes:
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    return text.getvalue().encode()


@pytest.mark.parametrize("atoms", [1, 2, 7])
@pytest.mark.parametrize("results", [(), ("energy", "forces"), ("energy", "forces", "stress")])
def test_md_frames(results: tuple[str, ...], atoms: int) -> None:
    made = frame(results, atoms=atoms)
    assert text_of(made) == by_ase(made)
    made.set_momenta(np.linspace(-1e3, 1e-9, 3 * atoms).reshape(-1, 3))
    made.arrays["gamma"] = np.full(atoms, 1e9)
    assert text_of(made) == by_ase(made)


def test_other_columns_and_no_atoms() -> None:
    made = frame(("energy", "forces"))
    made.set_tags(range(7))
    made.set_initial_charges(np.arange(7.0))
    assert text_of(made) == by_ase(made)
    assert b"tags:I:1" in text_of(made)
