"""Reference energies of the elements where those of isolated atoms are not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import DataError


@dataclass(frozen=True)
class FittedReferences:
    """Least-squares energies per element.

    Attributes
    ----------
    energies : eV per atom of each element
    identifiable : False if the compositions do not tell the elements apart: then only the sums mean something
    """

    energies: Mapping[str, float]
    identifiable: bool

    @property
    def warning(self) -> str:
        """What a user has to know."""
        told = "" if self.identifiable else "; the compositions do not even tell the elements apart"
        return f"reference energies are fitted, so energies of isolated atoms and of clusters mean nothing{told}"


def fitted_references(structures: Sequence[Atoms], energies: Sequence[float]) -> FittedReferences:
    """Fit E = sum over atoms of a constant of their element; every structure weighs the same per atom.

    Raises
    ------
    DataError
        There is no structure.
    """
    if not len(structures):
        raise DataError("no structure to fit reference energies to")
    elements = sorted({symbol for atoms in structures for symbol in atoms.get_chemical_symbols()})
    counts = np.array([[atoms.get_chemical_symbols().count(e) for e in elements] for atoms in structures], dtype=float)
    sizes = counts.sum(axis=1)
    constants, _, rank, _ = np.linalg.lstsq(counts / sizes[:, None], np.asarray(energies) / sizes, rcond=1e-9)
    found = {element: float(value) for element, value in zip(elements, constants, strict=True)}
    return FittedReferences(found, bool(rank == len(elements)))
