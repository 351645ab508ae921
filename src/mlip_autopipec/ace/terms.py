"""The densities of one central species as a short list of terms: rank-1 sums and products of A, each counted once.

A term is Re prod_t A[mu_t][n_t][l_t][m_t], or A1[mu][n] for rank 1. Functions that differ only in the order of slots
or in the sign of all m share their terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlip_autopipec.ace.basis import Basis, CoupledFunction
from mlip_autopipec.ace.overlay import Overlay
from mlip_autopipec.ace.records import Bond, Embedding, FloatArray, ProductFunction, ProductPotential

Slot = tuple[int, int, int, int]
"""(mu, n, l, m) of one factor A."""


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A matrix by rows: row k has entries `columns[first[k]:first[k + 1]]`."""

    first: np.ndarray
    columns: np.ndarray
    values: FloatArray

    @property
    def n_rows(self) -> int:
        return len(self.first) - 1


@dataclass(frozen=True, eq=False)
class SpeciesTerms:
    """Terms of one central species.

    Attributes
    ----------
    rank1 : (mu, n) of the rank-1 terms, which come first
    products : slots of the remaining terms
    ctildes : (n_terms, ndensity), rho_p = sum_t ctildes[t, p] term_t
    projections : B_k = sum_t row_k[t] term_t, None for a potential without a B-basis
    """

    rank1: tuple[tuple[int, int], ...]
    products: tuple[tuple[Slot, ...], ...]
    ctildes: FloatArray
    projections: SparseRows | None


@dataclass(frozen=True, eq=False)
class Potential:
    """What the evaluators need to know, from either file format.

    Attributes
    ----------
    isolated_energies : (n_species,) eV
    bonds : (mu_i, mu_j) -> Bond
    terms : per central species
    overlay : a pair style that is added
    """

    elements: tuple[str, ...]
    isolated_energies: FloatArray
    embeddings: tuple[Embedding, ...]
    bonds: dict[tuple[int, int], Bond]
    terms: tuple[SpeciesTerms, ...]
    spline_step: float
    overlay: Overlay | None = None

    @property
    def cutoff(self) -> float:
        """Largest cutoff, A."""
        return max(bond.rcut for bond in self.bonds.values())

    @property
    def has_projections(self) -> bool:
        return all(terms.projections is not None for terms in self.terms)

    @property
    def n_functions(self) -> tuple[int, ...]:
        """Number of B-functions per species (0 without a B-basis)."""
        return tuple(terms.projections.n_rows if terms.projections else 0 for terms in self.terms)


def from_basis(basis: Basis, isolated_energies: Sequence[float] | None = None) -> Potential:
    """Return the terms of a B-basis; projections are available."""
    energies = isolated_energies if isolated_energies is not None else [0.0] * len(basis.elements)
    return Potential(
        elements=basis.elements,
        isolated_energies=np.array(energies, dtype=float),
        embeddings=basis.embeddings,
        bonds=dict(basis.bonds),
        terms=tuple(_basis_terms(f, basis.embeddings[mu].ndensity) for mu, f in enumerate(basis.functions)),
        spline_step=basis.configuration.spline_step,
        overlay=basis.configuration.overlay,
    )


def from_products(potential: ProductPotential) -> Potential:
    """Return the terms of a C-tilde potential; there are no projections."""
    return Potential(
        elements=potential.elements,
        isolated_energies=np.array(potential.isolated_energies),
        embeddings=potential.embeddings,
        bonds=dict(potential.bonds),
        terms=tuple(
            _product_terms(functions, potential.embeddings[mu].ndensity)
            for mu, functions in enumerate(potential.functions)
        ),
        spline_step=potential.spline_step,
        overlay=potential.overlay,
    )


class _Collector:
    """Numbers terms in the order in which they first appear, rank 1 apart."""

    def __init__(self) -> None:
        self.rank1: dict[tuple[int, int], int] = {}
        self.products: dict[tuple[Slot, ...], int] = {}

    def index(self, mus: Sequence[int], ns: Sequence[int], ls: Sequence[int], ms: Sequence[int]) -> int:
        """Return the term's number: rank 1 as itself, products as -1 - number."""
        if len(mus) == 1:
            return self.rank1.setdefault((mus[0], ns[0]), len(self.rank1))
        slots = list(zip(mus, ns, ls, ms, strict=True))
        mirrored = [(mu, n, angular, -m) for mu, n, angular, m in slots]
        # sum(m) = 0 makes the mirrored product the complex conjugate: the real part is the same.
        key = min(tuple(sorted(slots)), tuple(sorted(mirrored)))
        return -1 - self.products.setdefault(key, len(self.products))

    def absolute(self, index: int) -> int:
        return index if index >= 0 else len(self.rank1) - 1 - index

    def finish(self, ctildes: FloatArray, projections: SparseRows | None) -> SpeciesTerms:
        return SpeciesTerms(tuple(self.rank1), tuple(self.products), ctildes, projections)

    def __len__(self) -> int:
        return len(self.rank1) + len(self.products)


def _basis_terms(functions: Sequence[CoupledFunction], ndensity: int) -> SpeciesTerms:
    collector = _Collector()
    rows = [
        [
            (collector.index(f.mus, f.ns, f.ls, vector), weight)
            for vector, weight in zip(f.ms.tolist(), f.weights.tolist(), strict=True)
        ]
        for f in functions
    ]
    entries = [[(collector.absolute(index), weight) for index, weight in row] for row in rows]
    first = np.concatenate([[0], np.cumsum([len(row) for row in entries], dtype=np.int64)]).astype(np.int32)
    projections = SparseRows(
        first=first,
        columns=np.array([index for row in entries for index, _ in row], dtype=np.int32),
        values=np.array([weight for row in entries for _, weight in row], dtype=float),
    )
    ctildes = np.zeros((len(collector), ndensity))
    for function, row in zip(functions, entries, strict=True):
        for index, weight in row:
            ctildes[index] += weight * np.array(function.coefficients)
    return collector.finish(ctildes, projections)


def _product_terms(functions: Sequence[ProductFunction], ndensity: int) -> SpeciesTerms:
    collector = _Collector()
    rows = [
        (collector.index(f.mus, f.ns, f.ls, vector), ctilde)
        for f in functions
        for vector, ctilde in zip(f.ms.tolist(), f.ctildes, strict=True)
    ]
    ctildes = np.zeros((len(collector), ndensity))
    for index, ctilde in rows:
        ctildes[collector.absolute(index)] += ctilde
    return collector.finish(ctildes, None)
