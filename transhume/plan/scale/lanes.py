"""One operation that a processor does several at a time, told to the compiler in so many words.

The inner loop of message passing adds and compares rows of a few dozen numbers. Left to itself the compiler
vectorises such rows for hundreds, does what is left over one by one, and keeps the least so far in memory: here
it stays in registers, which takes a fifth of the time. The vectors are LLVM's own, so that every processor has
them. Rows are of numbers of one kind, long or short. Like `compiling`, this needs Numba.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from transhume.plan.scale.level import Reals

Shorts = NDArray[np.float32]
Rows = Reals | Shorts

_allocate: Any = cgutils.alloca_once
_declared: Any = cgutils.get_or_insert_function
LANES: Final = 8
"""How many numbers are taken at a time; rows are as long as a multiple of it."""
AT_ONCE: Final = 4
"""How many rows are."""
_ENDLESS: Final = 1e38
_VECTOR: Final = ir.VectorType(ir.DoubleType(), LANES)
_SHORTS: Final = ir.VectorType(ir.FloatType(), LANES)
_INDEX: Final = ir.IntType(64)
_ANY_ORDER: Final = ("fast",)
_ALIGNED: Final = 4
"""Rows begin at any number, not at any block of them."""


def padded(count: int) -> int:
    """Return how long a row for so many numbers is."""
    return -(-count // LANES) * LANES


def interleaved(forth: Reals, back: Reals) -> Shorts:
    """Return two square matrices as `least_sums` reads them: by columns' block, row, matrix and lane.

    What is added to make rows and columns longer costs nothing.
    """
    rows, columns = -(-len(forth) // AT_ONCE) * AT_ONCE, padded(len(forth))
    both = np.zeros((rows, 2, columns), dtype=np.float32)
    both[: len(forth), 0, : len(forth)], both[: len(forth), 1, : len(forth)] = forth, back
    blocks = both.reshape(rows, 2, columns // LANES, LANES)
    return np.ascontiguousarray(blocks.transpose(2, 0, 1, 3))


def _least_sums(_typing: Any, told: Any, tables: Any, weights: Any, offset: Any, least: Any) -> Any:
    return types.void(told, tables, weights, offset, least), _generate_least_sums


def _generate_least_sums(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    told, tables, least = (_array(context, builder, signature, args, at) for at in (0, 1, 4))
    number = signature.args[0].dtype
    vector = _vector(number)
    rows = builder.extract_value(tables.shape, 1)
    weights = [builder.extract_value(args[2], at) for at in (0, 1)]
    weights = [_spread(builder, _cast(builder, each, number)) for each in weights]
    offset = _spread(builder, _cast(builder, args[3], number))
    entries = builder.bitcast(tables.data, _SHORTS.as_pointer())
    results = builder.bitcast(least.data, vector.as_pointer())
    with cgutils.for_range(builder, builder.extract_value(tables.shape, 0)) as block:
        first = builder.mul(block.index, builder.mul(rows, _INDEX(2)))
        # A minimum takes the processor four steps to find: so many are looked for at the same time.
        found = [_place(builder, vector) for _ in range(AT_ONCE)]
        with cgutils.for_range_slice(builder, _INDEX(0), rows, _INDEX(AT_ONCE), _INDEX) as (row, _):
            for each, place in enumerate(found):
                at = builder.add(row, _INDEX(each))
                entry = builder.add(first, builder.mul(at, _INDEX(2)))
                total = _spread(builder, builder.load(builder.gep(told.data, [at])))
                for table, weight in enumerate(weights):
                    at_table = builder.gep(entries, [builder.add(entry, _INDEX(table))])
                    price = builder.load(at_table, align=_ALIGNED)
                    price = price if vector == _SHORTS else builder.fpext(price, vector)
                    cost = builder.fmul(weight, price, _ANY_ORDER)
                    total = builder.fadd(total, cost, _ANY_ORDER)
                builder.store(_lesser(builder, total, builder.load(place)), place)
        least_of_all = _least(builder, [builder.load(place) for place in found])
        less = builder.fsub(least_of_all, offset, _ANY_ORDER)
        builder.store(less, builder.gep(results, [block.index]), align=_ALIGNED)
    return context.get_dummy_value()


def _left_over(_typing: Any, left: Any, whole: Any, share: Any, given: Any) -> Any:
    return types.float64(left, whole, share, given), _generate_left_over


def _generate_left_over(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    arrays = [_array(context, builder, signature, args, at) for at in (0, 1, 3)]
    number = signature.args[0].dtype
    left, whole, given = (_vectors(builder, each, number) for each in arrays)
    share, place = (
        _spread(builder, _cast(builder, args[2], number)),
        _place(builder, _vector(number)),
    )
    with cgutils.for_range(builder, _blocks(builder, arrays[0])) as block:
        part = builder.fmul(share, _load(builder, whole, block.index), _ANY_ORDER)
        rest = builder.fsub(part, _load(builder, given, block.index), _ANY_ORDER)
        builder.store(rest, builder.gep(left, [block.index]), align=_ALIGNED)
        builder.store(_lesser(builder, rest, builder.load(place)), place)
    found = builder.load(place)
    lanes = [builder.extract_element(found, ir.IntType(32)(at)) for at in range(LANES)]
    least = _least(builder, lanes)
    return least if number == types.float64 else builder.fpext(least, ir.DoubleType())


def _add_row(_typing: Any, total: Any, row: Any) -> Any:
    return types.void(total, row), _generate_add_row


def _generate_add_row(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    arrays = [_array(context, builder, signature, args, at) for at in (0, 1)]
    total, row = (_vectors(builder, each, signature.args[0].dtype) for each in arrays)
    with cgutils.for_range(builder, _blocks(builder, arrays[0])) as block:
        old, more = _load(builder, total, block.index), _load(builder, row, block.index)
        new = builder.fadd(old, more, _ANY_ORDER)
        builder.store(new, builder.gep(total, [block.index]), align=_ALIGNED)
    return context.get_dummy_value()


def _fetch(_typing: Any, rows: Any, row: Any, column: Any) -> Any:
    return types.void(rows, types.intp, types.intp), _generate_fetch


def _generate_fetch(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    rows = _array(context, builder, signature, args, 0)
    start = builder.mul(args[1], builder.extract_value(rows.shape, 1))
    place = builder.gep(rows.data, [builder.add(start, args[2])])
    anything = ir.IntType(8).as_pointer()
    how = ir.IntType(32)
    wanted = ir.FunctionType(ir.VoidType(), [anything, how, how, how])
    prefetch = _declared(builder.module, wanted, "llvm.prefetch.p0")
    to_read, often, data = how(0), how(3), how(1)
    builder.call(prefetch, [builder.bitcast(place, anything), to_read, often, data])
    return context.get_dummy_value()


def _array(context: Any, builder: Any, signature: Any, args: Any, at: int) -> Any:
    return context.make_array(signature.args[at])(context, builder, args[at])


def _vector(number: Any) -> Any:
    return _VECTOR if number == types.float64 else _SHORTS


def _cast(builder: Any, given: Any, number: Any) -> Any:
    return given if number == types.float64 else builder.fptrunc(given, ir.FloatType())


def _vectors(builder: Any, array: Any, number: Any) -> Any:
    return builder.bitcast(array.data, _vector(number).as_pointer())


def _blocks(builder: Any, array: Any) -> Any:
    return builder.udiv(builder.extract_value(array.shape, 0), _INDEX(LANES))


def _place(builder: Any, vector: Any) -> Any:
    """Return where a vector is kept that is all endless at first."""
    place = _allocate(builder, vector)
    builder.store(ir.Constant(vector, [_ENDLESS] * LANES), place)
    return place


def _spread(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    lanes = ir.VectorType(ir.IntType(32), LANES)
    first = builder.insert_element(nothing, number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(lanes, [0] * LANES))


def _load(builder: Any, vectors: Any, at: Any) -> Any:
    return builder.load(builder.gep(vectors, [at]), align=_ALIGNED)


def _least(builder: Any, several: list[Any]) -> Any:
    least, *others = several
    for other in others:
        least = _lesser(builder, other, least)
    return least


def _lesser(builder: Any, one: Any, other: Any) -> Any:
    less = builder.fcmp_ordered("<", one, other, flags=_ANY_ORDER)
    return builder.select(less, one, other)


_intrinsic: Any = intrinsic
fetch: Any = _intrinsic(_fetch)
"""`fetch(rows, row, column)`: have the processor fetch an entry that is soon wanted."""
least_sums: Any = _intrinsic(_least_sums)
"""`least_sums(told, tables, weights, offset, least)`: leave in `least`, by column, the least over all rows of
what is told of the row, plus each table's entry times its weight (two numbers); less the offset."""
left_over: Any = _intrinsic(_left_over)
"""`left_over(left, whole, share, given)`: leave in `left` a share of `whole` less what is `given`; return
its least."""
add_row: Any = _intrinsic(_add_row)
"""`add_row(total, row)`: add a row to another."""
