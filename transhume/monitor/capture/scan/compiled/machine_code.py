"""The compiled kernel in this process: found on disk, or compiled now and kept there, and made callable."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import llvmlite
import llvmlite.binding as llvm
from numpy.typing import NDArray

from transhume.monitor.capture.scan.compiled import kept
from transhume.monitor.capture.scan.compiled.plan import SYMBOL

_BUILDER = "transhume.monitor.capture.scan.compiled.build"
_LONGEST_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel: what to call, and what it wants to be given for an array."""

    call: Callable[..., int]
    of_array: Callable[[NDArray[Any]], Any]


class NotCompiled(Exception):
    """The kernel can't be compiled on this machine; carries why."""


@cache
def kernel() -> Kernel:
    """Return the kernel, compiling it where it isn't kept yet, which takes seconds.

    Raises:
        NotCompiled: it can't be compiled.
    """
    if os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0"):
        return _checked()
    code = kept.code(_processor())
    if code is None:
        code = _compiled()
        kept.keep(code, _processor())
    return _loaded(code)


def _checked() -> Kernel:
    """Return the kernel as Numba compiles it here and now, with each place in each array checked."""
    from numba import njit

    from transhume.monitor.capture.scan.compiled.kernel import scan

    return Kernel(njit(error_model="numpy", boundscheck=True)(scan), lambda array: array)


def compile_needed() -> bool:
    """Return whether `kernel` will have to compile."""
    return kept.code(_processor()) is None


def _processor() -> str:
    """Return what code depends on besides its sources."""
    features = llvm.get_host_cpu_features().flatten()
    return f"{llvmlite.__version__} {llvm.get_host_cpu_name()} {features}"


def _loaded(code: bytes) -> Kernel:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _ENGINES.append(engine)
    number, place = ctypes.c_int64, ctypes.c_void_p
    function: Any = ctypes.CFUNCTYPE(number, place, number, number, *[place] * 10)(
        engine.get_function_address(SYMBOL)
    )
    return Kernel(function, _place)


def _place(array: NDArray[Any]) -> int:
    """Return where an array is, which has to be in one piece."""
    told = array.__array_interface__
    if told["strides"] is not None:
        raise ValueError("the array isn't in one piece")
    place: int = told["data"][0]
    return place


_ENGINES: Final[list[Any]] = []
"""What holds the memory that the code is in."""


def _compiled() -> bytes:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")
    }
    environment |= {"NUMBA_OPT": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", _BUILDER],
            env=environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotCompiled(str(error)) from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NotCompiled(last[0] if last else f"the compiler ended with {done.returncode}")
    return done.stdout
