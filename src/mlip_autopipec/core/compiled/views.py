"""Named tuples of arrays as seen by kernels: one pointer to a table of addresses.

numba would pass every array of a tuple as seven values to every function, and count references whenever one is taken
out, which costs more than our arithmetic and most of the compilation. Here Python writes the addresses of a named
tuple's arrays into one table (`Packed`), and a kernel sees `view.field` as a plain pointer, read by `view.field[i]`
without checks. The caller keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_getattr_generic, models, register_model
from numpy.typing import NDArray

from mlip_autopipec.core.compiled.jit import instruction

LongArray = NDArray[np.int64]
_Record = TypeVar("_Record", bound=tuple[Any, ...])
_FIELDS = {
    "FloatArray": types.CPointer(types.float64),
    "LongArray": types.CPointer(types.int64),
    "IntArray": types.CPointer(types.int32),
    "int": types.int64,
}


class Packed(Generic[_Record]):
    """A named tuple of C-ordered arrays and integers, and its table of addresses.

    Attributes
    ----------
    record : the tuple, which owns the arrays
    table : (n_fields,) addresses of arrays, values of integers
    """

    def __init__(self, record: _Record) -> None:
        self.record = record
        self.table: LongArray = np.array(
            [field.__array_interface__["data"][0] if isinstance(field, np.ndarray) else field for field in record],
            dtype=np.int64,
        )


class ViewType(types.Type):
    """numba's view of the table of one kind of named tuple."""

    def __init__(self, record: type) -> None:
        # Postponed annotations of a NamedTuple are forward references that hold the text.
        kinds = {name: str(getattr(kind, "__forward_arg__", kind)) for name, kind in record.__annotations__.items()}
        self.fields = {name: _FIELDS[kind] for name, kind in kinds.items()}
        # numba takes types of one name for the same, and two rooms may each have a Frame.
        super().__init__(name=f"View({record.__module__}.{record.__name__})")


@register_model(ViewType)
class _ViewModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: ViewType) -> None:
        super().__init__(dmm, fe_type, ir.IntType(64).as_pointer())


@infer_getattr
class _ViewAttributes(AttributeTemplate):
    key = ViewType

    def generic_resolve(self, kind: ViewType, name: str) -> Any:
        return kind.fields.get(name)


@lower_getattr_generic(ViewType)
def _lower_field(context: Any, builder: Any, kind: ViewType, table: Any, name: str) -> Any:
    place = list(kind.fields).index(name)
    slot = builder.load(builder.gep(table, [ir.IntType(64)(place)]))
    # The table never changes while a kernel runs: the compiler may read it once.
    slot.set_metadata("invariant.load", builder.module.add_metadata([]))
    if kind.fields[name] == types.int64:
        return slot
    return builder.inttoptr(slot, context.get_value_type(kind.fields[name]))


def viewer(record: type) -> Any:
    """Return a function for kernels that turns the table of a `record` into a view."""
    kind = ViewType(record)

    @instruction
    def view(typingctx: Any, table: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data

        return kind(table), codegen

    return view


@instruction
def pointer(typingctx: Any, array: Any) -> Any:
    """Return a pointer to an array's first number."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@instruction
def shifted(typingctx: Any, pointer: Any, index: Any) -> Any:
    """Return a pointer to pointer[index]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


@instruction
def take_ticket(typingctx: Any, counter: Any) -> Any:
    """Add 1 to counter[0] (int64) atomically and return what it was."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.bitcast(args[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.IntType(64)(1), "monotonic")

    return types.int64(counter), codegen
