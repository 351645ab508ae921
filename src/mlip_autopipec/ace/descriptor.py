"""B-projections of an ACE basis as a descriptor of environments; implements `core.interfaces.Descriptor`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.loading import as_potential
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.terms import Potential
from mlip_autopipec.core.errors import DataError, ModelError
from mlip_autopipec.core.neighbours import neighbourhood


class AceDescriptor:
    """B-projections, those of each central element in columns of their own and zero elsewhere.

    Parameters
    ----------
    potential
        A `.yaml` file, or what `load_potential` returned; its coefficients do not matter.
    threads
        Default: OMP_NUM_THREADS, or all CPUs.

    Raises
    ------
    ModelError
        The file is unusable, or a `.yace`, which has no B-basis.
    """

    def __init__(self, potential: Potential | str | os.PathLike[str], *, threads: int | None = None) -> None:
        self._evaluator = AceEvaluator(as_potential(potential), threads=threads)
        if not self._evaluator.potential.has_projections:
            raise ModelError("projections need the B-basis", "give the .yaml file of the potential, not the .yace")
        self._first = np.concatenate([[0], np.cumsum(self._evaluator.potential.n_functions)])

    @property
    def elements(self) -> tuple[str, ...]:
        return self._evaluator.elements

    @property
    def n_features(self) -> int:
        """Number of functions of all central elements together."""
        return int(self._first[-1])

    def environments(self, atoms: Atoms, *, indices: Sequence[int] | NDArray[np.int64] | None = None) -> FloatArray:
        """Return the projections of each atom, or of those at `indices`: (n, n_features).

        Raises
        ------
        ModelError
            An element is not in the basis, or two atoms stand on one place.
        """
        frame = neighbourhood(atoms, self._evaluator.cutoff, self.elements)
        values = self._evaluator.projections(frame)
        rows = np.zeros((len(atoms), self.n_features))
        for mu, (first, last) in enumerate(zip(self._first, self._first[1:], strict=False)):
            mine = frame.species[: len(atoms)] == mu
            rows[mine, first:last] = values[mine, : last - first]
        return rows if indices is None else rows[np.asarray(indices, dtype=int)]

    def structure(self, atoms: Atoms) -> FloatArray:
        """Return the mean of the atoms' rows (n_features,): the design row of the energy per atom.

        Raises
        ------
        DataError
            There are no atoms.
        ModelError
            As in `environments`.
        """
        if not len(atoms):
            raise DataError("structure: no atoms to describe")
        return np.asarray(self.environments(atoms).mean(axis=0))
