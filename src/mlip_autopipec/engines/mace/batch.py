"""Many structures in one forward pass of a MACE model; what does not fit into the GPU's memory goes in parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip_autopipec.core.errors import Crashed, DataError
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.engines.mace.edges import Edges

Computed = tuple[FloatArray, FloatArray, FloatArray]
_NO_ROOM: Final = "explore.surrogate.device: cpu has more memory; or explore.surrogate.dtype: float32, or smaller seeds"


class MaceBatch:
    """A `core.interfaces.BatchForces`.

    Parameters
    ----------
    calculator
        As `load_mace` returns it.
    """

    def __init__(self, calculator: Any) -> None:
        self._calculator = calculator
        self._structures: Sequence[Atoms] = ()
        self._most_atoms: int | None = None
        self._parts: list[_Part] = []

    def check_elements(self, symbols: Collection[str]) -> None:
        """Raise `DataError` if the model does not know one of these elements."""
        unknown = sorted(s for s in set(symbols) if atomic_numbers[s] not in self._calculator.z_table.zs)
        if unknown:
            raise DataError(
                f"the MACE model does not know {' '.join(unknown)}", "take a surrogate that knows all elements"
            )

    def begin(self, structures: Sequence[Atoms]) -> None:
        """See `core.interfaces.BatchForces`."""
        self._structures = [atoms.copy() for atoms in structures]
        self._divide()

    def compute(self, positions: FloatArray, cells: FloatArray, *, stress: bool) -> Computed:
        """See `core.interfaces.BatchForces`.

        Raises
        ------
        Crashed
            One structure alone does not fit into the GPU's memory.
        """
        import torch

        while True:
            try:
                return self._computed(positions, cells, stress)
            except torch.cuda.OutOfMemoryError as error:
                message = f"{error}"
            # Outside `except`: the error holds the tensors of what failed.
            torch.cuda.empty_cache()
            self._make_parts_smaller(message)

    def _computed(self, positions: FloatArray, cells: FloatArray, stress: bool) -> Computed:
        found, atom, structure = [], 0, 0
        for part in self._parts:
            atoms, structures = slice(atom, atom + part.n_atoms), slice(structure, structure + part.n_structures)
            found.append(part.compute(positions[atoms], cells[structures], stress))
            atom, structure = atoms.stop, structures.stop
        energies, forces, stresses = (np.concatenate([one[k] for one in found]) for k in range(3))
        return energies, forces, stresses

    def _make_parts_smaller(self, message: str) -> None:
        divisible = [part.n_atoms for part in self._parts if part.n_structures > 1]
        if not divisible:
            atoms = max(part.n_atoms for part in self._parts)
            raise Crashed(f"mace: {atoms} atoms do not fit into the GPU's memory: {message}", _NO_ROOM)
        self._most_atoms = max(divisible) // 2
        self._divide()

    def _divide(self) -> None:
        parts: list[list[Atoms]] = [[]]
        for atoms in self._structures:
            full = self._most_atoms is not None and sum(map(len, parts[-1])) + len(atoms) > self._most_atoms
            if full and parts[-1]:
                parts.append([])
            parts[-1].append(atoms)
        self._parts = [_Part(self._calculator, part) for part in parts if part]


class _Part:
    """Structures that go through the model together: a graph without edges between them."""

    def __init__(self, calculator: Any, structures: Sequence[Atoms]) -> None:
        import torch

        self._model, self._device = calculator.models[0], calculator.device
        self._dtype = getattr(torch, calculator.default_dtype)
        self._edges = Edges(structures, float(calculator.r_max))
        self._cutoff = float(calculator.r_max)
        counts = [len(atoms) for atoms in structures]
        self.n_atoms, self.n_structures = sum(counts), len(counts)
        self._owner = np.repeat(np.arange(len(counts)), counts)
        kinds = np.array([calculator.z_table.zs.index(z) for atoms in structures for z in atoms.numbers])
        head = calculator.available_heads.index(calculator.head)
        self._fixed = {
            "node_attrs": torch.nn.functional.one_hot(self._put(kinds), len(calculator.z_table.zs)).to(self._dtype),
            "batch": self._put(self._owner),
            "ptr": self._put(np.cumsum([0, *counts])),
            "head": torch.full((len(counts),), head, device=self._device),
            "pbc": self._put(np.array([atoms.pbc for atoms in structures])),
        }
        self._pairs: tuple[Any, ...] = ()

    def compute(self, positions: FloatArray, cells: FloatArray, stress: bool) -> Computed:
        """Return energies, forces and stresses; NaN where `Edges` has lost a structure."""
        if self._edges.update(positions, cells):
            e = self._edges
            self._pairs = tuple(map(self._put, (e.centres, e.others, e.shifts, e.owners)))
        lost = ~self._edges.sound
        if lost.any():
            positions, cells = positions.copy(), cells.copy()
            positions[lost[self._owner]], cells[lost] = 0.0, np.eye(3)
        output = self._model(self._graph(positions, cells), training=False, compute_force=True, compute_stress=stress)
        energies, forces = self._get(output["energy"]), self._get(output["forces"])
        stresses = self._get(output["stress"]).reshape(-1, 3, 3) if stress else np.zeros((self.n_structures, 3, 3))
        energies[lost], forces[lost[self._owner]], stresses[lost] = np.nan, np.nan, np.nan
        return energies, forces, stresses

    def _graph(self, positions: FloatArray, cells: FloatArray) -> dict[str, Any]:
        """Return the model's input: the pairs of the list that are within the cutoff now."""
        import torch

        at, cell = self._put(positions), self._put(cells)
        centres, others, periods, owners = self._pairs
        shifts = torch.einsum("ei,eij->ej", periods, cell[owners])
        near = torch.linalg.vector_norm(at[others] - at[centres] + shifts, dim=1) < self._cutoff
        return {
            **self._fixed,
            "positions": at,
            "cell": cell.reshape(-1, 3),
            "edge_index": torch.stack((centres[near], others[near])),
            "unit_shifts": periods[near],
            "shifts": shifts[near],
        }

    def _put(self, values: Any) -> Any:
        """Return an array as a tensor on the device: numbers in the model's precision, indices as they are."""
        import torch

        values = np.asarray(values)
        return torch.as_tensor(values, dtype=self._dtype if values.dtype == float else None, device=self._device)

    @staticmethod
    def _get(tensor: Any) -> FloatArray:
        return np.array(tensor.detach().cpu().numpy(), dtype=float)
