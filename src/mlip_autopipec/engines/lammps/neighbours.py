"""LAMMPS' own neighbour list as a `Neighbourhood`, read in machine code: the Python wrapper needs 13 us per atom."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from mlip_autopipec.core.errors import EngineError
from mlip_autopipec.core.interfaces import FloatArray, IntArray, Neighbourhood

# LAMMPS keeps bond flags in the two highest bits of a neighbour's index.
_INDEX_BITS = 0x1FFFFFFF


class NeighbourReader:
    """Reads owned atoms, ghosts and the full list of `pair_style zero` on one rank.

    As long as LAMMPS has not rebuilt its list, the frames share the same `species`, `owners`, `first` and
    `neighbours` objects, so that an evaluator may keep what it derived from them.
    """

    def __init__(self, lmp: Any) -> None:
        if lmp.extract_setting("tagint") != 4:
            raise EngineError("this LAMMPS has 64-bit atom ids (bigbig)", "use a LAMMPS built with smallbig")
        self._lmp = lmp
        self._function = ctypes.cast(lmp.lib.lammps_neighlist_element_neighbors, ctypes.c_void_p).value
        self._handle = ctypes.cast(lmp.lmp, ctypes.c_void_p).value
        self._small = np.zeros(2, dtype=np.int32)
        self._pointer = np.zeros(1, dtype=np.int64)
        self.rebuilds = 0
        self.forget()

    def forget(self) -> None:
        """Drop what was kept of the last list (the pair style or the atoms changed)."""
        self._tags: IntArray = np.zeros(0, dtype=np.int32)
        self._last: Neighbourhood | None = None

    def read(self, tags: IntArray, positions: FloatArray, species_of_type: IntArray) -> Neighbourhood:
        """Return the present frame.

        Parameters
        ----------
        tags, positions
            Views of LAMMPS' arrays of the owned atoms (N,), (N, 3); the ghosts follow them in memory.
        species_of_type
            (types + 1,) the evaluator's species index of each LAMMPS type.
        """
        lmp = self._lmp
        owned = len(tags)
        total = owned + lmp.extract_global("nghost")
        index = lmp.find_pair_neighlist("zero")
        if index < 0 or lmp.get_neighlist_size(index) != owned:
            raise EngineError("LAMMPS has no full neighbour list for every atom")
        types_pointer = lmp.extract_atom("type")
        address = (
            _address(tags),
            _address(positions),
            ctypes.cast(types_pointer, ctypes.c_void_p).value,
        )
        call = (self._function, self._handle, index, self._small, self._pointer)
        x = np.empty((total, 3))
        _copy_positions(address[1], x)
        last = self._last
        if last is not None and len(self._tags) == total and len(last.first) == owned + 1:
            same = _same(call, address[0], address[2], self._tags, species_of_type, last.species, last.first,
                         last.neighbours)  # fmt: skip
            if same:
                return Neighbourhood(x, last.species, last.owners, last.first, last.neighbours)
        self._tags = np.empty(total, dtype=np.int32)
        species, owners = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32)
        first = np.empty(owned + 1, dtype=np.int32)
        _copy_atoms(address[0], address[2], owned, species_of_type, self._tags, species, owners)
        _count(call, first)
        neighbours = np.empty(first[-1], dtype=np.int32)
        _copy_list(call, first, neighbours)
        self.rebuilds += 1
        self._last = Neighbourhood(x, species, owners, first, neighbours)
        return self._last


def _address(array: FloatArray | IntArray) -> int:
    return int(array.__array_interface__["data"][0])


@intrinsic
def _element(typingctx, function, handle, index, element, atom, count, neighbours):  # type: ignore[no-untyped-def]
    """`lammps_neighlist_element_neighbors` by address: a function pointer could not be cached on disk."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        byte, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, integer, integer, byte, byte, byte])
        target = builder.inttoptr(args[0], kind.as_pointer())
        pointers = [builder.inttoptr(args[k], byte) for k in (1, 4, 5, 6)]
        numbers = [builder.trunc(args[k], integer) for k in (2, 3)]
        builder.call(target, [pointers[0], *numbers, *pointers[1:]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), build


@intrinsic
def _integers(typingctx, address):  # type: ignore[no-untyped-def]
    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], ir.IntType(32).as_pointer())

    return types.CPointer(types.int32)(types.int64), build


@intrinsic
def _doubles(typingctx, address):  # type: ignore[no-untyped-def]
    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(types.int64), build


@njit(cache=True)
def _row(call, k):  # type: ignore[no-untyped-def]
    """Return atom, number of neighbours and their address of row k of LAMMPS' list."""
    function, handle, index, small, pointer = call
    _element(function, handle, index, k, small.ctypes.data, small.ctypes.data + 4, pointer.ctypes.data)
    return small[0], small[1], pointer[0]


@njit(cache=True)
def _copy_positions(address, out):  # type: ignore[no-untyped-def]
    source = carray(_doubles(address), out.shape)
    out[:, :] = source


@njit(cache=True)
def _copy_atoms(tag_address, type_address, owned, species_of_type, tags, species, owners):  # type: ignore[no-untyped-def]
    total = len(tags)
    source_tags = carray(_integers(tag_address), total)
    source_types = carray(_integers(type_address), total)
    home = np.full(source_tags[:owned].max() + 1, -1, np.int32)
    for i in range(owned):
        home[source_tags[i]] = i
    for i in range(total):
        tags[i] = source_tags[i]
        species[i] = species_of_type[source_types[i]]
        owners[i] = home[source_tags[i]]


@njit(cache=True)
def _count(call, first):  # type: ignore[no-untyped-def]
    first[:] = 0
    for k in range(len(first) - 1):
        atom, count, _ = _row(call, k)
        first[atom + 1] = count
    for i in range(1, len(first)):
        first[i] += first[i - 1]


@njit(cache=True)
def _copy_list(call, first, neighbours):  # type: ignore[no-untyped-def]
    for k in range(len(first) - 1):
        atom, count, address = _row(call, k)
        source = carray(_integers(address), count)
        start = first[atom]
        for q in range(count):
            neighbours[start + q] = source[q] & _INDEX_BITS


@njit(cache=True)
def _same(call, tag_address, type_address, tags, species_of_type, species, first, neighbours):  # type: ignore[no-untyped-def]
    total = len(tags)
    source_tags = carray(_integers(tag_address), total)
    source_types = carray(_integers(type_address), total)
    for i in range(total):
        if source_tags[i] != tags[i] or species_of_type[source_types[i]] != species[i]:
            return False
    for k in range(len(first) - 1):
        atom, count, address = _row(call, k)
        start = first[atom]
        if first[atom + 1] - start != count:
            return False
        source = carray(_integers(address), count)
        for q in range(count):
            if source[q] & _INDEX_BITS != neighbours[start + q]:
                return False
    return True
