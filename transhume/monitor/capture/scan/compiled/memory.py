"""Reading numbers at any byte, from compiled code; and how that code is compiled.

The kernel works on addresses of memory, not on arrays: an array in compiled code is counted, asked for its
shape, and asked at each access whether the index is below 0, which takes longer than counting a frame does.
That every place is inside is the kernel's doing, by the checks that it makes of each record. With
NUMBA_BOUNDSCHECK=1 in the environment the same code runs on arrays that check; the fuzzer runs like that.
"""

import os
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, Final, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

CHECKED = os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0")
"""Whether places are checked."""

i64: Any = np.int64
u64: Any = np.uint64
"""Conversions, which compiled code takes for its own."""

_intrinsic: Any = intrinsic

Read = Callable[[Any, int], Any]
_OPTIONS: Final[dict[str, Any]] = {
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
    "no_cpython_wrapper": True,
}
"""Division can't fail, and only compiled code calls: wrappers for Python take long to compile."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


def inside(function: _Function) -> _Function:
    """Have a function compiled into those that call it."""
    made: _Function = njit(forceinline=not CHECKED, **_OPTIONS)(function)
    return made


def beside(function: _Function) -> _Function:
    """Have a function compiled as one of its own."""
    made: _Function = njit(**_OPTIONS)(function)
    return made


def compiled(module: ModuleType) -> dict[str, Any]:
    """Return the names of a module of plain functions, with compiled functions in their place."""
    names = dict(vars(module))
    for name, value in vars(module).items():
        if isinstance(value, FunctionType):
            names[name] = beside(FunctionType(value.__code__, names, name))
    return names


def _reader(bits: int) -> Read:
    """Return code that reads a number of so many bits, as a 64-bit word, at any byte."""

    def read(_typing: Any, data: Any, _at: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            number, word = ir.IntType(bits), ir.IntType(64)
            place = builder.bitcast(builder.gep(args[0], [args[1]]), number.as_pointer())
            found = builder.load(place, align=1)
            return found if bits == 64 else builder.zext(found, word)

        return types.uint64(data, types.int64), generate

    made: Read = _checked_reader(bits // 8) if CHECKED else _intrinsic(read)
    return made


def _prefetcher() -> Callable[[Any, int], None]:
    """Return code that asks for a word's line of the cache, and doesn't wait for it."""

    def prefetch(_typing: Any, words: Any, _at: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            octet, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), (octet, flag, flag, flag))
            function = builder.module.declare_intrinsic("llvm.prefetch.p0i8", (), kind)
            place = builder.bitcast(builder.gep(args[0], [args[1]]), octet)
            builder.call(function, [place, flag(0), flag(3), flag(1)])
            return context.get_dummy_value()

        return types.void(words, types.int64), generate

    def nothing(words: Any, at: int) -> None:
        pass

    made: Callable[[Any, int], None] = inside(nothing) if CHECKED else _intrinsic(prefetch)
    return made


def _checked_reader(count: int) -> Read:
    def read(data: Any, at: int) -> Any:
        if at < 0 or at + count > len(data):
            raise IndexError("bytes outside of the data")
        word = np.uint64(0)
        for i in range(count):
            word |= np.uint64(data[at + i]) << np.uint64(8 * i)
        return word

    return inside(read)


read16, read32, read64 = _reader(16), _reader(32), _reader(64)
prefetch = _prefetcher()
