"""Compiles functions over arrays to machine code with Numba, and keeps the code where that can be written.

With `lanes` the only place that knows of Numba (the extra `[fast]`): importing this module needs it. Kernels
release the interpreter's lock, so that other threads go on, and must not make arrays: whoever calls them
brings those. In return they don't count references, which took two thirds of the annealing's time: a level and
a state are some twenty arrays, and each call counted them all.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


def kernel(function: _Kernel) -> _Kernel:
    """Compile a function at its first call."""
    return _compiled(function)


def part_of_kernel(function: _Kernel) -> _Kernel:
    """Compile a function into each of its callers."""
    return _compiled(function, forceinline=True)


def reordering_kernel(function: _Kernel) -> _Kernel:
    """Compile a function whose sums may be taken in any order, which lets the processor add several at once."""
    return _compiled(function, fastmath=True)


def reordering_part(function: _Kernel) -> _Kernel:
    """Compile such a function into each of its callers."""
    return _compiled(function, fastmath=True, forceinline=True)


def _compiled(function: _Kernel, **options: bool) -> _Kernel:
    compiler: Any = njit
    common = {"nogil": True, "_nrt": False, "error_model": "numpy", **options}
    try:
        compiled: _Kernel = compiler(cache=True, **common)(function)
    except RuntimeError:  # neither the package nor the user's cache can be written
        compiled = compiler(**common)(function)
    return compiled
