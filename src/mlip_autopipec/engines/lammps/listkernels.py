"""Machine code that reads LAMMPS' arrays by address.

`call` = (address of `lammps_neighlist_element_neighbors`, its handle, list index, room for two ints and a pointer).
"""

# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

# LAMMPS keeps bond flags in the three highest bits of a neighbour's index.
_INDEX_BITS = np.int32(0x1FFFFFFF)


@intrinsic
def _element(typingctx, function, handle, index, element, atom, count, neighbours):
    """`lammps_neighlist_element_neighbors` by address: a function pointer could not be cached on disk."""

    def build(context, builder, signature, args):
        byte, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, integer, integer, byte, byte, byte])
        target = builder.inttoptr(args[0], kind.as_pointer())
        pointers = [builder.inttoptr(args[k], byte) for k in (1, 4, 5, 6)]
        numbers = [builder.trunc(args[k], integer) for k in (2, 3)]
        builder.call(target, [pointers[0], *numbers, *pointers[1:]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), build


@intrinsic
def _integers(typingctx, address):
    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.IntType(32).as_pointer())

    return types.CPointer(types.int32)(types.int64), build


@intrinsic
def _doubles(typingctx, address):
    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(types.int64), build


@intrinsic
def _addresses(typingctx, address):
    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), build


@njit(cache=True)
def _row(call, k):
    """Return atom, number of neighbours and their address of row k of LAMMPS' list."""
    function, handle, index, small, pointer = call
    _element(function, handle, index, k, small.ctypes.data, small.ctypes.data + 4, pointer.ctypes.data)
    return small[0], small[1], pointer[0]


@njit(cache=True)
def copy_positions(address, out):
    source = carray(_doubles(address), out.size)
    target = out.reshape(out.size)
    for k in range(out.size):
        target[k] = source[k]


@njit(cache=True)
def copy_atoms(atoms, owned, tags, species, owners):
    tag_address, type_address, species_of_type = atoms
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
def count_neighbours(call, first):
    first[:] = 0
    for k in range(len(first) - 1):
        atom, count, _ = _row(call, k)
        first[atom + 1] = count
    for i in range(1, len(first)):
        first[i] += first[i - 1]


@njit(cache=True)
def copy_list(call, first, neighbours):
    for k in range(len(first) - 1):
        atom, count, address = _row(call, k)
        source = carray(_integers(address), count)
        target = neighbours[first[atom] : first[atom + 1]]
        for q in range(count):
            target[q] = source[q] & _INDEX_BITS


@njit(cache=True)
def is_same(atoms, tags, species):
    tag_address, type_address, species_of_type = atoms
    total = len(tags)
    source_tags = carray(_integers(tag_address), total)
    source_types = carray(_integers(type_address), total)
    changes = 0
    for i in range(total):
        changes += source_tags[i] != tags[i] or species_of_type[source_types[i]] != species[i]
    return changes == 0


@njit(cache=True)
def largest_move(velocity_rows, type_address, forces, kick_of_type, time_step):
    """Return how far the fastest atom goes in the next step, A; `kick_of_type` = velocity per force."""
    n = len(forces)
    kinds = carray(_integers(type_address), n)
    velocities = carray(_doubles(carray(_addresses(velocity_rows), 1)[0]), (n, 3))
    largest = 0.0
    for i in range(n):
        kick = kick_of_type[kinds[i]]
        square = 0.0
        for k in range(3):
            square += (velocities[i, k] + kick * forces[i, k]) ** 2
        largest = max(largest, square)
    return np.sqrt(largest) * time_step
