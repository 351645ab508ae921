"""LAMMPS' own neighbour list as a `Neighbourhood`, read in machine code: the Python wrapper needs 13 us per atom."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from mlip_autopipec.core.errors import EngineError
from mlip_autopipec.core.interfaces import FloatArray, IntArray, Neighbourhood
from mlip_autopipec.engines.lammps.listkernels import (
    copy_atoms,
    copy_list,
    copy_positions,
    count_neighbours,
    is_same,
    largest_move,
)


class NeighbourReader:
    """Reads owned atoms, ghosts and the full list of `pair_style zero` on one rank.

    As long as LAMMPS has not rebuilt its list, the frames share the same `species`, `owners`, `first` and
    `neighbours` objects, so that an evaluator may keep what it derived from them. They share `positions` too, which
    the next reading overwrites: an evaluator that wants to keep them copies them.
    """

    def __init__(self, lmp: Any) -> None:
        if lmp.extract_setting("tagint") != 4:
            raise EngineError("this LAMMPS has 64-bit atom ids (bigbig)", "use a LAMMPS built with smallbig")
        self._lmp = lmp
        self._function = ctypes.cast(lmp.lib.lammps_neighlist_element_neighbors, ctypes.c_void_p).value
        self._handle = ctypes.cast(lmp.lmp, ctypes.c_void_p).value
        # Prototypes of our own: those of the Python module find out the kind of the result at every call.
        by_name = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
        self._atom_address = by_name(("lammps_extract_atom", lmp.lib))
        self._ghosts = ctypes.c_int.from_address(by_name(("lammps_extract_global", lmp.lib))(self._handle, b"nghost"))
        self._time_step = float(lmp.extract_global("dt"))
        masses = np.array(lmp.numpy.extract_atom("mass")).ravel()
        masses[0] = np.inf  # LAMMPS counts its types from 1
        self._kick = self._time_step * lmp.extract_global("ftm2v") / masses
        self._small = np.zeros(2, dtype=np.int32)
        self._pointer = np.zeros(1, dtype=np.int64)
        self.rebuilds = 0
        self.forget()

    def forget(self) -> None:
        """Drop what was kept of the last list: before every set-up, which counts builds from 0 again."""
        self._tags: IntArray = np.zeros(0, dtype=np.int32)
        self._last: Neighbourhood | None = None
        self._builds = -1.0

    def read(self, tags: IntArray, positions: FloatArray, species_of_type: IntArray) -> Neighbourhood:
        """Return the present frame.

        Parameters
        ----------
        tags, positions
            Views of LAMMPS' arrays of the owned atoms (N,), (N, 3); the ghosts follow them in memory.
        species_of_type
            (types + 1,) the evaluator's species index of each LAMMPS type.
        """
        owned = len(tags)
        total = owned + self._ghosts.value
        index = self._lmp.find_pair_neighlist("zero")
        if index < 0 or self._lmp.get_neighlist_size(index) != owned:
            raise EngineError("LAMMPS has no full neighbour list for every atom")
        atoms = (_address(tags), self._atom_address(self._handle, b"type"), species_of_type)
        # Comparing whole lists at every step would cost as much as the radial functions of a small potential.
        builds = self._lmp.get_thermo("nbuild")
        last, self._builds, had = self._last, builds, self._builds
        kept = last is not None and builds == had and len(self._tags) == total and last.n_owned == owned
        if last is not None and kept and is_same(atoms, self._tags, last.species):
            copy_positions(_address(positions), last.positions)
            return last
        call = (self._function, self._handle, index, self._small, self._pointer)
        x = np.empty((total, 3))
        copy_positions(_address(positions), x)
        self._tags = np.empty(total, dtype=np.int32)
        species, owners = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32)
        first = np.empty(owned + 1, dtype=np.int32)
        copy_atoms(atoms, owned, self._tags, species, owners)
        count_neighbours(call, first)
        neighbours = np.empty(first[-1], dtype=np.int32)
        copy_list(call, first, neighbours)
        self.rebuilds += 1
        self._last = Neighbourhood(x, species, owners, first, neighbours)
        return self._last

    def largest_move(self, forces: FloatArray) -> float:
        """Return how far the fastest atom goes in the next step under `forces` (N, 3), eV/A, in A."""
        rows, kinds = (self._atom_address(self._handle, name) for name in (b"v", b"type"))
        return float(largest_move(rows, kinds, forces, self._kick, self._time_step))


def _address(array: FloatArray | IntArray) -> int:
    return int(array.__array_interface__["data"][0])
