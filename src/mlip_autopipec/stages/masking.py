"""dataset -> masking: which atoms of a carved cell teach, beyond those for whose sake it was cut.

Reads: rows of `dataset.db`. Writes: nothing; the rows it returns enter the fit. Next: `train`.

DFT on a carved cell is exact for that cell, rim included. What an atom of the rim may teach is a matter of relevance:
its surroundings are no nearer and its force no larger than what MD was labelled for. The energy of a carved cell is
never taught for it: it belongs to a cell with gaps at its seam (Al: force error 0.024 without, 0.032 eV/A with them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.store.dataset import DatasetRow

TrainMask = Literal["radius", "sane", "none"]
# A; pairs farther apart are no contacts, whatever was trained.
_NEAR_A = 4.0
# Rounding must not mask the pair that is the shortest one.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Limits:
    """What the learned atoms of all labels have seen.

    Attributes
    ----------
    shortest : "Al-Al" (alphabetical) -> shortest distance of a pair with a learned atom, A
    force : eV/A, the largest force on a learned atom
    """

    shortest: Mapping[str, float]
    force: float

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {"shortest": dict(self.shortest), "force": self.force}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Limits:
        """Inverse of `to_dict`."""
        return cls({str(k): float(v) for k, v in said["shortest"].items()}, float(said["force"]))


@dataclass(frozen=True)
class _Pairs:
    """Close pairs of one structure: `atoms` (K,), `names` (K,) as in `Limits`, `distances` (K,) A."""

    atoms: NDArray[np.int64]
    names: NDArray[np.str_]
    distances: FloatArray


class Masking:
    """Gives rows the masks with which they enter a fit; remembers the pairs of structures it has seen.

    Parameters
    ----------
    kind
        `radius`: the label's own mask; `sane`: all atoms but those that are nearer to another one, or feel a larger
        force, than any learned atom of any label; `none`: all atoms.
    force_limit
        eV/A; an atom with a larger force never teaches.
    """

    def __init__(self, kind: TrainMask, force_limit: float) -> None:
        self._kind = kind
        self._force_limit = force_limit
        self._pairs: dict[tuple[str, int], _Pairs] = {}

    def masked(self, rows: Sequence[DatasetRow]) -> tuple[list[DatasetRow], Limits | None]:
        """Return the rows with the masks of the fit, and the limits of `sane` (None for other kinds)."""
        if self._kind == "radius":
            return list(rows), None
        if self._kind == "none":
            everything = Limits({}, self._force_limit)
            return [self._with(row, everything) for row in rows], None
        limits = self._limits(rows)
        return [self._with(row, limits) for row in rows], limits

    def _limits(self, rows: Iterable[DatasetRow]) -> Limits:
        shortest: dict[str, float] = {}
        force = 0.0
        for row in rows:
            pairs = self._pairs_of(row)
            taught = row.learned[pairs.atoms]
            for name in np.unique(pairs.names[taught]):
                nearest = float(pairs.distances[taught & (pairs.names == name)].min())
                shortest[str(name)] = min(nearest, shortest.get(str(name), np.inf))
            force = max(force, float(np.linalg.norm(row.forces[row.learned], axis=1).max(initial=0.0)))
        return Limits(shortest, min(force, self._force_limit))

    def _with(self, row: DatasetRow, limits: Limits) -> DatasetRow:
        if row.whole:
            return row
        sane = np.linalg.norm(row.forces, axis=1) <= limits.force + _TOLERANCE
        if limits.shortest:
            sane[_squeezed(self._pairs_of(row), limits)] = False
        return replace(row, taught=tuple(int(m) for m in sane | row.learned))

    def _pairs_of(self, row: DatasetRow) -> _Pairs:
        key = (row.task_id, row.edition)
        if key not in self._pairs:
            self._pairs[key] = _close_pairs(row.atoms)
        return self._pairs[key]


def expected(atoms: Atoms, force_mask: Sequence[int], kind: TrainMask, limits: Limits | None) -> NDArray[np.bool_]:
    """Return (N,) which atoms of a structure without a label will teach, as far as one can tell before it is there."""
    learned: NDArray[np.bool_] = np.array(force_mask, dtype=np.bool_)
    if kind == "radius":
        return learned
    taught = np.ones(len(atoms), dtype=bool)
    if kind == "sane" and limits is not None:
        taught[_squeezed(_close_pairs(atoms), limits)] = False
    return np.logical_or(taught, learned)


def _close_pairs(atoms: Atoms) -> _Pairs:
    elements = sorted(set(atoms.get_chemical_symbols()))
    near = neighbourhood(atoms, _NEAR_A, elements)
    first = np.repeat(np.arange(near.n_owned), np.diff(near.first))
    one, two = near.species[first], near.species[near.neighbours]
    low, high = np.minimum(one, two), np.maximum(one, two)
    names = np.array([f"{elements[a]}-{elements[b]}" for a, b in zip(low, high, strict=True)], dtype=str)
    distances = np.linalg.norm(near.positions[near.neighbours] - near.positions[first], axis=1)
    return _Pairs(first.astype(np.int64), names, distances)


def _squeezed(pairs: _Pairs, limits: Limits) -> NDArray[np.int64]:
    """Return the atoms that are nearer to another one than any pair that was trained."""
    shortest = np.array([limits.shortest.get(name, np.inf) for name in pairs.names.tolist()])
    return np.unique(pairs.atoms[pairs.distances < shortest - _TOLERANCE])
