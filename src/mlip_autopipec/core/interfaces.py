"""What the rooms of one layer share without seeing each other: records and protocols, with units and shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]


@dataclass(frozen=True)
class Neighbourhood:
    """One frame with its ghost atoms and a full neighbour list.

    The first `n_owned` rows are the atoms themselves, the rest are periodic images.

    Attributes
    ----------
    positions : (M, 3) float, A
    species : (M,) int, index into the evaluator's `elements`
    owners : (M,) int, the owned atom that each row is an image of (``owners[i] == i`` for ``i < n_owned``)
    first : (n_owned + 1,) int, atom i's neighbours are ``neighbours[first[i]:first[i + 1]]``
    neighbours : (K,) int, rows of `positions`; may contain pairs beyond the cutoff (a list with skin)
    """

    positions: FloatArray
    species: IntArray
    owners: IntArray
    first: IntArray
    neighbours: IntArray

    @property
    def n_owned(self) -> int:
        return len(self.first) - 1


@dataclass(frozen=True)
class Evaluation:
    """What a potential says about one frame.

    Attributes
    ----------
    energy : eV, without or with isolated-atom energies as the potential file has them
    energies : (N,) eV
    forces : (N, 3) eV/A
    virial : (6,) eV, = -volume * stress, ASE Voigt order xx yy zz yz xz xy
    gamma : (N,) extrapolation grade (dimensionless, > 1 is extrapolation), or None if it was not asked for
    """

    energy: float
    energies: FloatArray
    forces: FloatArray
    virial: FloatArray
    gamma: FloatArray | None = None


class Evaluator(Protocol):
    """A potential that can be evaluated. Raises `ModelError` for a frame with an element it does not know."""

    @property
    def elements(self) -> tuple[str, ...]: ...

    @property
    def cutoff(self) -> float:
        """Largest cutoff, A."""
        ...

    @property
    def has_gamma(self) -> bool: ...

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation: ...


class PairStyle(Protocol):
    """A pair style of LAMMPS that is added to a potential (`hybrid/overlay`)."""

    def commands(self, kinds: Sequence[str]) -> tuple[str, list[str]]:
        """Return the style with its arguments, and its further commands.

        Parameters
        ----------
        kinds
            Element of each atom type, in order; "NULL" for types that the potential does not know.
        """
        ...


@dataclass(frozen=True)
class Label:
    """Reference energy, forces and stress of one structure.

    Attributes
    ----------
    energy : eV, the free energy that is consistent with the forces
    forces : (N, 3) eV/A
    stress : (6,) eV/A^3, ASE sign and order; None where the system has no three-dimensional period
    info : how it was made (settings, iterations, seconds); JSON-ready
    """

    energy: float
    forces: FloatArray
    stress: FloatArray | None
    info: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Labeller(Protocol):
    """Computes labels. Raises the `EngineError` family; never returns a label that is not converged."""

    @property
    def name(self) -> str: ...

    def label(self, atoms: Atoms, folder: Path) -> Label:
        """Label `atoms`, keeping inputs and outputs in the existing `folder`."""
        ...

    def check_elements(self, symbols: Collection[str]) -> None:
        """Raise `ConfigError` if it cannot label one of these elements, by whatever settings it has; costs nothing."""
        ...

    def isolated_atom_energy(self, element: str, folder: Path) -> float:
        """Return the energy of one isolated atom by the same settings, eV."""
        ...


@runtime_checkable
class Tightenable(Protocol):
    """A labeller that can do the same with less numerical noise; analytic ones cannot."""

    def tighter(self) -> Labeller:
        """Return a labeller of the same physical settings that converges further, and starts from scratch."""
        ...


@dataclass(frozen=True)
class Design:
    """Rows of the linear design matrix of one structure, columns in the basis' coefficient order.

    Attributes
    ----------
    energy : (K,) sum over atoms of the basis functions
    forces : (N, 3, K), so that forces = ``design.forces @ coefficients``
    projections : per element, (atoms (n,), values (n, k_element)): B-projections of the atoms of that element
    """

    energy: FloatArray
    forces: FloatArray
    projections: Mapping[str, tuple[IntArray, FloatArray]]


class LinearBasis(Protocol):
    """A linear ACE basis: design rows in, potential files out."""

    @property
    def elements(self) -> tuple[str, ...]: ...

    @property
    def cutoff(self) -> float: ...

    @property
    def n_coefficients(self) -> int: ...

    @property
    def ranks(self) -> Sequence[int]:
        """Correlation rank of each coefficient's function (1 is a pair function)."""
        ...

    @property
    def degrees(self) -> Sequence[int]:
        """Degree of each coefficient's function: sum over its factors of n - 1 and l."""
        ...

    def design(self, atoms: Atoms) -> Design: ...

    def projections(self, atoms: Atoms) -> Mapping[str, tuple[IntArray, FloatArray]]:
        """Return those of `Design` alone, without derivatives."""
        ...

    def write(self, coefficients: FloatArray, isolated_atom_energies: Mapping[str, float], folder: Path) -> None:
        """Write `potential.yaml` and `potential.yace` (the latter with E0) into `folder`."""
        ...


class BatchForces(Protocol):
    """Computes several structures in one go; they may differ in size, elements and periodicity."""

    def check_elements(self, symbols: Collection[str]) -> None:
        """Raise `DataError` if it does not know one of these elements."""
        ...

    def begin(self, structures: Sequence[Atoms]) -> None:
        """Say which structures come: their atoms and periodicities, which stay the same until this is called again."""
        ...

    def compute(
        self, positions: FloatArray, cells: FloatArray, *, stress: bool
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return energies (M,) eV, forces (N, 3) eV/A and stresses (M, 3, 3) eV/A^3, ASE sign.

        Parameters
        ----------
        positions, cells
            (N, 3) of all atoms, structure after structure, and (M, 3, 3), A. Where they are not finite, or make no
            sense at all, the results of that structure are NaN.
        stress
            False: the stresses are not needed, and are 0.
        """
        ...


class Descriptor(Protocol):
    """Describes environments by numbers that rotation, translation and renumbering of atoms leave alone.

    Both methods raise `DataError` or `ModelError` for a structure that cannot be described.
    """

    @property
    def elements(self) -> tuple[str, ...]: ...

    @property
    def n_features(self) -> int: ...

    def environments(self, atoms: Atoms, *, indices: Sequence[int] | NDArray[np.int64] | None = None) -> FloatArray:
        """Return one row for each atom, or for those at `indices`: (n, n_features)."""
        ...

    def structure(self, atoms: Atoms) -> FloatArray:
        """Return one row (n_features,) for all atoms, the mean of theirs."""
        ...
