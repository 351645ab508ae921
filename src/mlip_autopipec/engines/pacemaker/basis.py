"""A linear ACE basis by python-ace: design rows of a structure in, potential files out.

The functions are the B-basis of Drautz, doi:10.1103/PhysRevB.99.014104, as python-ace orders them: species after
species, rank-1 functions first. Radial coefficients are fixed (delta), so energy and forces are linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Design, FloatArray, IntArray, Neighbourhood
from mlip_autopipec.engines.pacemaker.environment import environment
from mlip_autopipec.engines.pacemaker.library import import_pyace

NeighbourFinder = Callable[[Atoms, float, Sequence[str]], Neighbourhood]
Projections = dict[str, tuple[IntArray, FloatArray]]

_ISOLATED_ENERGIES = re.compile(r"^E0:.*$", re.MULTILINE)


class PyaceBasis:
    """`core.interfaces.LinearBasis` over python-ace.

    Parameters
    ----------
    basis
        python-ace's basis set; `read_basis` makes one.
    neighbours
        ``neighbours(atoms, cutoff, elements)`` finds the neighbours (any mix of periodic directions).
    """

    def __init__(self, basis: Any, neighbours: NeighbourFinder) -> None:
        self._basis = basis
        self._neighbours = neighbours
        self._elements = tuple(basis.elements_name)
        per_species = [[*pairs, *others] for pairs, others in zip(basis.basis_rank1, basis.basis, strict=True)]
        functions = [f for own in per_species for f in own]
        self._ranks = tuple(f.rank for f in functions)
        self._degrees = tuple(sum(f.ns) - len(f.ns) + sum(f.ls) for f in functions)
        ends = np.cumsum([0, *map(len, per_species)])
        self._columns = [slice(a, b) for a, b in pairwise(ends)]
        # The evaluator refers to the basis without owning it, the calculator to the evaluator.
        self._evaluator = import_pyace().ACEBEvaluator(basis)
        self._calculator = import_pyace().ACECalculator(self._evaluator)

    @property
    def elements(self) -> tuple[str, ...]:
        return self._elements

    @property
    def cutoff(self) -> float:
        return float(self._basis.cutoffmax)

    @property
    def n_coefficients(self) -> int:
        return len(self._ranks)

    @property
    def ranks(self) -> Sequence[int]:
        return self._ranks

    @property
    def degrees(self) -> Sequence[int]:
        return self._degrees

    @property
    def coefficients(self) -> FloatArray:
        """(K,) the coefficients that the basis set carries."""
        return np.asarray(self._basis.basis_coeffs, dtype=float)

    def design(self, atoms: Atoms) -> Design:
        """Return the design rows of `atoms`.

        Raises
        ------
        ModelError
            An element is not in the basis, two atoms coincide, or the potential is not linear.
        """
        if int(self._basis.ndensitymax) != 1:
            raise ModelError("this potential has more than one density, so it is not linear in its coefficients")
        self._compute(atoms, gradients=True)
        projections = self._projections(atoms)
        energy = np.zeros(self.n_coefficients)
        for columns, element in zip(self._columns, self._elements, strict=True):
            if element in projections:
                energy[columns] = projections[element][1].sum(axis=0)
        forces = np.asarray(self._calculator.forces_bfuncs, dtype=float).transpose(0, 2, 1)
        return Design(energy, forces, projections)

    def projections(self, atoms: Atoms) -> Projections:
        """Return per element (atoms (n,), B-projections (n, k)); also for potentials that are not linear."""
        self._compute(atoms, gradients=False)
        return self._projections(atoms)

    def write(self, coefficients: FloatArray, isolated_atom_energies: Mapping[str, float], folder: Path) -> None:
        """Write `potential.yaml` (no isolated-atom energies: the format has no place) and `potential.yace` (with).

        Raises
        ------
        ModelError
            A coefficient is not finite, or the energy of an element is missing.
        """
        values = np.asarray(coefficients, dtype=float)
        if values.shape != (self.n_coefficients,) or not np.isfinite(values).all():
            raise ModelError(f"{values.size} coefficients, {self.n_coefficients} finite ones are needed")
        basis = import_pyace().ACEBBasisSet(self._basis.to_BBasisConfiguration())
        basis.basis_coeffs = values
        write_files(basis, isolated_atom_energies, folder)

    def _compute(self, atoms: Atoms, *, gradients: bool) -> None:
        unknown = sorted(set(atoms.get_chemical_symbols()) - set(self._elements))
        if unknown:
            raise ModelError(
                f"element {unknown[0]} is not in the basis ({' '.join(self._elements)})",
                "start a run that has all elements",
            )
        frame = self._neighbours(atoms, self.cutoff, self._elements)
        try:
            self._calculator.compute(environment(frame), compute_projections=True, compute_b_grad=gradients)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"python-ace cannot evaluate this structure: {error}", "do two atoms coincide?") from error

    def _projections(self, atoms: Atoms) -> Projections:
        symbols = np.asarray(atoms.get_chemical_symbols())
        rows = self._calculator.projections
        found: Projections = {}
        for element in self._elements:
            members = np.flatnonzero(symbols == element)
            if len(members):
                values = np.array([rows[i] for i in members], dtype=float)
                found[element] = (members.astype(np.int32), values)
        return found


def read_basis(potential: Path) -> Any:
    """Read a `.yaml` potential.

    Raises
    ------
    ModelError
        The file is missing or python-ace cannot read it.
    """
    if potential.suffix != ".yaml":
        raise ModelError(f"{potential}: the B-basis is needed", "give the .yaml; a .yace has lost it")
    if not potential.is_file():
        raise ModelError(f"{potential}: no such file")
    try:
        return import_pyace().ACEBBasisSet(str(potential))
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{potential}: python-ace cannot read it: {error}") from error


def write_files(basis: Any, isolated_atom_energies: Mapping[str, float], folder: Path) -> None:
    """Write `basis` as `potential.yaml` and `potential.yace` into `folder`."""
    missing = sorted(set(basis.elements_name) - set(isolated_atom_energies))
    if missing:
        raise ModelError(f"no isolated-atom energy for {missing[0]}", "give it in training.reference_energies")
    basis.to_BBasisConfiguration().save(str(folder / "potential.yaml"))
    target = folder / "potential.yace"
    basis.to_ACECTildeBasisSet().save_yaml(str(target))
    energies = ", ".join(repr(float(isolated_atom_energies[e])) for e in basis.elements_name)
    text, found = _ISOLATED_ENERGIES.subn(f"E0: [{energies}]", target.read_text(encoding="utf-8"), count=1)
    if found != 1:
        raise ModelError(f"{target}: python-ace wrote no E0 line", "is this a supported version of python-ace?")
    target.write_text(text, encoding="utf-8")
