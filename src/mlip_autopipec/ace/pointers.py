"""Named tuples of arrays as named tuples of plain pointers, inside kernels.

numba counts references whenever an array is taken out of a tuple, two atomic operations each, which cost more than our
arithmetic. A pointer is read by `p[i]` without counting and without checks; the caller keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numba.core import cgutils, types
from numba.extending import intrinsic

_Tuple = TypeVar("_Tuple")


@intrinsic  # type: ignore[misc]
def pointers(typingctx: Any, arrays: Any) -> Any:
    """Return the named tuple with every array (of any dimension, C order) replaced by a pointer to its first number."""
    if not isinstance(arrays, types.NamedTuple):
        return None
    fields = [types.CPointer(field.dtype) if isinstance(field, types.Array) else field for field in arrays.types]
    bare = types.NamedTuple(fields, arrays.instance_class)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = []
        for index, field in enumerate(arrays.types):
            value = builder.extract_value(args[0], index)
            if isinstance(field, types.Array):
                value = cgutils.create_struct_proxy(field)(context, builder, value=value).data
            values.append(value)
        return context.make_tuple(builder, bare, values)

    return bare(arrays), codegen


@intrinsic  # type: ignore[misc]
def pointer(typingctx: Any, array: Any) -> Any:
    """Return a pointer to an array's first number."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic  # type: ignore[misc]
def shifted(typingctx: Any, pointer: Any, index: Any) -> Any:
    """Return a pointer to pointer[index]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen
