"""ACE as a `LinearBasis`: design rows of structures in, potential files out."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from ase import Atoms

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.design_kernel import DesignRows, Gradients, design_rows
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.yace_writing import write_yace
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.lanes.evaluator import refuse_overlaps
from mlip_autopipec.ace.records import Configuration, FloatArray, IntArray
from mlip_autopipec.ace.reference.records import make_centre, make_surroundings
from mlip_autopipec.ace.reference.tables import ReferenceTables, reference_tables
from mlip_autopipec.ace.terms import from_basis
from mlip_autopipec.core.conventions import voigt_from_tensor
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Design, Neighbourhood
from mlip_autopipec.core.neighbours import neighbourhood

NeighbourFinder = Callable[[Atoms, float, Sequence[str]], Neighbourhood]
Projections = dict[str, tuple[IntArray, FloatArray]]


@dataclass(frozen=True)
class FullDesign(Design):
    """A `Design` with virial rows.

    Attributes
    ----------
    virial : (6, K) so that virial = ``design.virial @ coefficients``, eV, = -volume * stress, ASE Voigt order
    """

    virial: FloatArray


class AceBasis:
    """A linear ACE basis; implements `core.interfaces.LinearBasis`.

    Coefficients run over central species in alphabetical order, within one in projection order (rank-1 first).

    Parameters
    ----------
    configuration
        From `read_yaml` or `standard_configuration`. One density with F = rho and no core repulsion.
    neighbours
        ``neighbours(atoms, cutoff, elements)`` finds neighbours.

    Raises
    ------
    ModelError
        The energy is not linear in the coefficients.
    """

    def __init__(self, configuration: Configuration, neighbours: NeighbourFinder = neighbourhood) -> None:
        refuse_nonlinear(configuration)
        self._basis = make_basis(configuration)
        self._neighbours = neighbours
        self._potential = from_basis(self._basis)
        self._tables = reference_tables(self._potential)
        self._columns = [slice(a, b) for a, b in pairwise(np.cumsum([0, *self._potential.n_functions]))]
        self._evaluator: AceEvaluator | None = None

    @property
    def elements(self) -> tuple[str, ...]:
        return self._basis.elements

    @property
    def cutoff(self) -> float:
        """Largest cutoff, A."""
        return self._basis.cutoff

    @property
    def n_coefficients(self) -> int:
        return sum(self._potential.n_functions)

    @property
    def ranks(self) -> Sequence[int]:
        """Correlation rank of each coefficient's function."""
        return tuple(function.rank for functions in self._basis.functions for function in functions)

    @property
    def degrees(self) -> Sequence[int]:
        """Sum of n - 1 and l over the factors of each coefficient's function."""
        return tuple(sum(f.ns) - len(f.ns) + sum(f.ls) for functions in self._basis.functions for f in functions)

    @property
    def coefficients(self) -> FloatArray:
        """(K,) the coefficients that the configuration carries."""
        return np.array([f.coefficients[0] for functions in self._basis.functions for f in functions], dtype=float)

    def design(self, atoms: Atoms) -> FullDesign:
        """Return energy, force and virial rows and the projections of one structure.

        Raises
        ------
        ModelError
            An element is not in the basis, or two atoms coincide.
        """
        rows = self._rows(self._neighbours(atoms, self.cutoff, self.elements))
        projections = self._by_element(atoms, rows.projections)
        energy = np.zeros(self.n_coefficients)
        for columns, element in zip(self._columns, self.elements, strict=True):
            if element in projections:
                energy[columns] = projections[element][1].sum(axis=0)
        tensor = -0.5 * (rows.virial.reshape(-1, 3, 3) + rows.virial.reshape(-1, 3, 3).transpose(0, 2, 1))
        return FullDesign(
            energy=energy,
            forces=np.ascontiguousarray(rows.forces.transpose(2, 1, 0)),
            projections=projections,
            virial=np.array([voigt_from_tensor(t) for t in tensor]).reshape(-1, 6).T,
        )

    def designs(self, structures: Collection[Atoms]) -> Iterator[FullDesign]:
        """Yield designs one by one, so that never more than one is in memory."""
        for atoms in structures:
            yield self.design(atoms)

    def projections(self, atoms: Atoms) -> Projections:
        """Return per element (atoms (n,), B-projections (n, k)), without derivatives."""
        if self._evaluator is None:
            self._evaluator = AceEvaluator(self._potential, threads=1)
        frame = self._neighbours(atoms, self.cutoff, self.elements)
        return self._by_element(atoms, self._evaluator.projections(frame))

    def write(
        self, coefficients: FloatArray, isolated_atom_energies: Mapping[str, float], folder: str | os.PathLike[str]
    ) -> None:
        """Write `potential.yaml` (the format has no isolated-atom energies) and `potential.yace` (with them).

        Raises
        ------
        ModelError
            A coefficient is not finite, or the energy of an element is missing.
        """
        values = np.asarray(coefficients, dtype=float)
        if values.shape != (self.n_coefficients,) or not np.isfinite(values).all():
            raise ModelError(f"{values.size} coefficients, {self.n_coefficients} finite ones are needed")
        missing = sorted(set(self.elements) - set(isolated_atom_energies))
        if missing:
            raise ModelError(f"no isolated-atom energy for {missing[0]}")
        configuration = self._basis.with_coefficients(values)
        write_yaml(configuration, os.path.join(folder, "potential.yaml"))
        write_yace(
            to_products(make_basis(configuration), isolated_atom_energies), os.path.join(folder, "potential.yace")
        )

    def _by_element(self, atoms: Atoms, projections: FloatArray) -> Projections:
        symbols = np.asarray(atoms.get_chemical_symbols())
        found: Projections = {}
        for element, count in zip(self.elements, self._potential.n_functions, strict=True):
            members = np.flatnonzero(symbols == element)
            if len(members):
                found[element] = (members.astype(np.int32), projections[members, :count].copy())
        return found

    def _rows(self, frame: Neighbourhood) -> DesignRows:
        longest = int(np.diff(frame.first).max(initial=0))
        rows = DesignRows(
            projections=np.zeros((frame.n_owned, max(self._potential.n_functions))),
            forces=np.zeros((self.n_coefficients, 3, frame.n_owned)),
            virial=np.zeros((self.n_coefficients, 9)),
            trouble=np.zeros(1, dtype=np.int32),
        )
        integers = [
            np.ascontiguousarray(x, dtype=np.int32)
            for x in (frame.species, frame.owners, frame.first, frame.neighbours)
        ]
        positions = np.ascontiguousarray(frame.positions, dtype=np.float64)
        species, owners, first, neighbours = integers
        s, c = make_surroundings(self._tables, longest), make_centre(self._tables)
        scratch = _make_gradients(self._tables, longest)
        design_rows(self._tables, positions, species, owners, first, neighbours, s, c, scratch, rows)
        refuse_overlaps(int(rows.trouble[0]))
        return rows


def _make_gradients(tables: ReferenceTables, longest: int) -> Gradients:
    n_species, _, N, lmax, _ = (int(size) for size in tables.sizes)
    variables = (lmax + 1) * (lmax + 2) * N
    return Gradients(
        variables=np.zeros((variables, 3, longest)),
        weights=np.zeros((n_species, variables)),
        touched=np.zeros((2, 2 * len(tables.factors) + 2), dtype=np.int32),
        row=np.zeros((3, longest)),
    )


def refuse_nonlinear(configuration: Configuration) -> None:
    """Raise `ModelError` if the energy is not linear in the coefficients."""
    if configuration.overlay is not None:
        raise ModelError(f"stands on an overlay ({configuration.overlay.style}), without which it must be fitted anew")
    for block in configuration.blocks:
        name = " ".join(block.elements)
        if block.embedding and set(block.embedding.parameters) != {1.0}:
            raise ModelError(f"{name}: embedding parameters {list(block.embedding.parameters)} are not linear")
        if block.embedding and block.embedding.ndensity != 1:
            raise ModelError(f"{name}: {block.embedding.ndensity} densities; a linear potential has one")
        if block.bond and block.bond.has_core:
            raise ModelError(f"{name}: has a core repulsion, which comes on top of the functions")


def blank(configuration: Configuration, elements: Collection[str]) -> Configuration:
    """Return the functions between `elements`, all coefficients zero: no label could tell those of other elements.

    Raises
    ------
    ModelError
        An element is not in the configuration.
    """
    unknown = sorted(set(elements) - set(configuration.elements))
    if unknown:
        raise ModelError(f"does not know {unknown[0]}, only {' '.join(configuration.elements)}")
    blocks = [
        replace(
            block,
            functions=tuple(replace(f, coefficients=(0.0,) * len(f.coefficients)) for f in block.functions),
        )
        for block in configuration.blocks
        if set(block.elements) <= set(elements)
    ]
    return replace(configuration, blocks=tuple(blocks))
