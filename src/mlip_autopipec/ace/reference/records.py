"""What the reference evaluator keeps about one atom and its neighbours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.ace.reference.tables import ReferenceTables

ComplexArray = NDArray[np.complex128]


class Surroundings(NamedTuple):
    """Neighbours of one atom within the cutoff, sorted by species, and what is known about them.

    Arrays run over neighbours last, so that the compiler vectorises the plain loops over them.

    Attributes
    ----------
    first : (n_species + 1,) first neighbour of each species
    rows : (n_max,) row in the frame
    x, y, z, r : (n_max,) unit vector from the centre, distance
    row : (2, columns) interpolated values and derivatives of one neighbour
    value, slope : (columns, n_max) radial functions and their derivatives
    Q : (lmax + 2, lmax + 2, n_max) Q_lm(z)
    re, im : (lmax + 2, n_max) (x + i y)^m
    work : (8, n_max) sums of the force loop
    """

    first: IntArray
    rows: IntArray
    x: FloatArray
    y: FloatArray
    z: FloatArray
    r: FloatArray
    row: FloatArray
    value: FloatArray
    slope: FloatArray
    Q: FloatArray
    re: FloatArray
    im: FloatArray
    work: FloatArray


class Centre(NamedTuple):
    """Quantities of one atom.

    Attributes
    ----------
    rank1 : (n_species * K,) A1; `d_rank1` dE/dA1
    base : (n_species, (lmax + 1)^2, N) A of all m; `d_base` dE/dA; `flat`, `d_flat` are the same numbers in one row
    terms, dterms : (largest number of terms,)
    rho, drho : (ndensity,) densities; w F'(rho)
    ahead : (largest rank,) products of the factors before each
    """

    rank1: FloatArray
    d_rank1: FloatArray
    base: ComplexArray
    d_base: ComplexArray
    flat: ComplexArray
    d_flat: ComplexArray
    terms: FloatArray
    dterms: FloatArray
    rho: FloatArray
    drho: FloatArray
    ahead: ComplexArray


class AtomResults(NamedTuple):
    """Per-atom results; projections of zero rows are not filled.

    Attributes
    ----------
    energies : (N,)
    forces : (M, 3), also of ghost rows
    virial : (9,) sum r (x) dE/dr, row-major
    rho, drho : (N, ndensity) densities and w F'(rho)
    scale : (N,) dE/dE_ace, below 1 where the core repulsion takes over
    projections : (N, n_max)
    trouble : (1,) number of pairs closer than one spline bin
    """

    energies: FloatArray
    forces: FloatArray
    virial: FloatArray
    rho: FloatArray
    drho: FloatArray
    scale: FloatArray
    projections: FloatArray
    trouble: IntArray


def make_surroundings(tables: ReferenceTables, longest: int) -> Surroundings:
    """Allocate scratch for atoms with up to `longest` listed neighbours."""
    size, columns = int(tables.sizes[3]) + 2, tables.values.shape[1]
    return Surroundings(
        first=np.zeros(int(tables.sizes[0]) + 1, dtype=np.int32),
        rows=np.zeros(longest, dtype=np.int32),
        x=np.zeros(longest),
        y=np.zeros(longest),
        z=np.zeros(longest),
        r=np.zeros(longest),
        row=np.zeros((2, columns)),
        value=np.zeros((columns, longest)),
        slope=np.zeros((columns, longest)),
        Q=np.zeros((size, size, longest)),
        re=np.zeros((size, longest)),
        im=np.zeros((size, longest)),
        work=np.zeros((8, longest)),
    )


def make_centre(tables: ReferenceTables) -> Centre:
    """Allocate scratch for one atom."""
    n_species, K, N, lmax, ndensity = (int(size) for size in tables.sizes)
    most = int(np.diff(tables.ctilde_first).max())
    A, dA = (np.zeros((n_species, (lmax + 1) ** 2, N), dtype=np.complex128) for _ in range(2))
    return Centre(
        rank1=np.zeros(n_species * K),
        d_rank1=np.zeros(n_species * K),
        base=A,
        d_base=dA,
        flat=A.reshape(-1),
        d_flat=dA.reshape(-1),
        terms=np.zeros(most),
        dterms=np.zeros(most),
        rho=np.zeros(ndensity),
        drho=np.zeros(ndensity),
        ahead=np.zeros(int(np.diff(tables.factor_first).max(initial=1)), dtype=np.complex128),
    )
