"""The way between ASE's cells and LAMMPS' boxes: rotation, open directions, planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import FloatArray

# Open directions get at least this much room, A; LAMMPS widens them itself as atoms leave.
_MARGIN = 1.0
_FLAT = 1e-6
# Where a periodic box begins, A: no atom of a perfect crystal may lie on its faces, since LAMMPS rounds such atoms out
# of a tilted box when it reads its restart.
CORNER = (-0.0171, -0.0137, -0.0113)


@dataclass(frozen=True)
class BoxMap:
    """One structure's orientation: ``x_lammps = x_ase @ rotation.T - shift``.

    Attributes
    ----------
    rotation : (3, 3), orthogonal; turns the cell into LAMMPS' lower triangle (a reflection for left-handed cells)
    shift : (3,) A, in LAMMPS' axes
    cell : (3, 3) A, the original cell; its open directions are returned unchanged
    pbc : (3,) bool
    dimension : 2 or 3
    """

    rotation: FloatArray
    shift: FloatArray
    cell: FloatArray
    pbc: tuple[bool, bool, bool]
    dimension: int

    @classmethod
    def of(cls, atoms: Atoms, dimension: int) -> BoxMap:
        """Choose the orientation for `atoms`.

        Raises
        ------
        DataError
            A number is not finite, the cell has no volume in a periodic direction, or a two-dimensional run's atoms
            are not in a plane.
        """
        cell = np.asarray(atoms.cell, dtype=float)
        pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
        if not (np.isfinite(atoms.positions).all() and np.isfinite(cell).all()):
            raise DataError("structure: a position or cell vector is not finite")
        if dimension == 2:
            _check_plane(atoms)
        rotation = _rotation(_complete(cell, pbc, dimension))
        shift = np.zeros(3)
        if dimension == 2:
            shift[2] = float((atoms.positions @ rotation.T)[0, 2])
        return cls(rotation, shift, cell, pbc, dimension)

    def to_lammps(self, positions: FloatArray) -> FloatArray:
        """Turn positions (N, 3), A."""
        return np.asarray(positions @ self.rotation.T - self.shift)

    def turn(self, vectors: FloatArray) -> FloatArray:
        """Turn velocities or forces (N, 3) into LAMMPS' axes."""
        return np.asarray(vectors @ self.rotation.T)

    def positions_back(self, positions: FloatArray) -> FloatArray:
        """Inverse of `to_lammps`."""
        return np.asarray((positions + self.shift) @ self.rotation)

    def turn_back(self, vectors: FloatArray) -> FloatArray:
        """Inverse of `turn`."""
        return np.asarray(vectors @ self.rotation)

    def tensor_back(self, tensor: FloatArray) -> FloatArray:
        """Turn a (3, 3) tensor from LAMMPS' axes."""
        return np.asarray(self.rotation.T @ tensor @ self.rotation)

    def cell_back(self, box: FloatArray) -> FloatArray:
        """Return the ASE cell (3, 3), A, of LAMMPS' box vectors (3, 3)."""
        cell = np.asarray(box @ self.rotation)
        kept = [k for k in range(3) if not self.pbc[k] or (self.dimension == 2 and k == 2)]
        cell[kept] = self.cell[kept]
        return cell

    def region(self, atoms: Atoms) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return LAMMPS' box: lows (3,), highs (3,), tilts (xy, xz, yz), A."""
        box = _complete(self.cell, self.pbc, self.dimension) @ self.rotation.T
        low = np.array(CORNER)
        high = low + np.diag(box)
        x = self.to_lammps(atoms.positions)
        for k in range(3):
            if self.dimension == 2 and k == 2:
                low[k], high[k] = -0.5, 0.5
            elif not self.pbc[k]:
                low[k], high[k] = x[:, k].min() - _MARGIN, x[:, k].max() + _MARGIN
        return low, high, np.array([box[1, 0], box[2, 0], box[2, 1]])

    @property
    def boundary(self) -> str:
        """Arguments of LAMMPS' `boundary`; a two-dimensional run is periodic along z by definition."""
        return " ".join("p" if p or (self.dimension == 2 and k == 2) else "m" for k, p in enumerate(self.pbc))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {
            "rotation": self.rotation.tolist(),
            "shift": self.shift.tolist(),
            "cell": self.cell.tolist(),
            "pbc": list(self.pbc),
            "dimension": self.dimension,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BoxMap:
        """Inverse of `to_dict`."""
        a, b, c = (bool(p) for p in data["pbc"])
        rotation, shift, cell = (np.array(data[key], dtype=float) for key in ("rotation", "shift", "cell"))
        return cls(rotation, shift, cell, (a, b, c), int(data["dimension"]))


def _rotation(cell: FloatArray) -> FloatArray:
    """Return Q (3, 3) with ``cell @ Q.T`` lower triangular and its diagonal positive."""
    if np.array_equal(cell, np.tril(cell)) and (np.diag(cell) > 0).all():
        return np.eye(3)  # exactly, so that such frames come back bit by bit
    q, r = np.linalg.qr(cell.T)
    return np.asarray((q * np.sign(np.diag(r))).T)


def _complete(cell: FloatArray, pbc: tuple[bool, bool, bool], dimension: int) -> FloatArray:
    """Return `cell` with open directions replaced by unit vectors normal to the rest: they need no tilt then."""
    periodic = [k for k in range(3) if pbc[k] and not (dimension == 2 and k == 2)]
    span = cell[periodic]
    if periodic:
        volume = np.sqrt(max(np.linalg.det(span @ span.T), 0.0))
        if volume <= 1e-9 * np.prod(np.linalg.norm(span, axis=1)):
            raise DataError("structure.cell: the periodic cell vectors are linearly dependent or zero")
    complete = cell.copy()
    for k in (k for k in range(3) if k not in periodic):
        complete[k] = _normal(complete[periodic], axis=k)
        periodic = sorted([*periodic, k])
    return complete


def _normal(span: FloatArray, axis: int) -> FloatArray:
    """Return the unit vector normal to the rows of `span` that is nearest to a Cartesian axis, by choice `axis`."""
    for candidate in (axis, 0, 1, 2):
        vector = np.eye(3)[candidate]
        if len(span):
            basis = np.linalg.qr(span.T)[0]
            vector = vector - basis @ (basis.T @ vector)
        length = float(np.linalg.norm(vector))
        if length > 0.5:
            return np.asarray(vector / length)
    raise DataError("structure.cell: no direction is left for an open boundary")


def _check_plane(atoms: Atoms) -> None:
    cell = np.asarray(atoms.cell, dtype=float)
    if not (atoms.pbc[0] and atoms.pbc[1]):
        raise DataError("two-dimensional MD needs a structure that is periodic along its first two cell vectors")
    if np.abs(cell[:2, 2]).max() > _FLAT or np.ptp(atoms.positions[:, 2]) > _FLAT:
        raise DataError(
            "two-dimensional MD needs cell vectors a and b in the xy plane and all atoms at the same z",
            "set dimension: 3, or flatten the structure",
        )
