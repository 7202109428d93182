"""Compiling the kernel to machine code, in a process of its own: `python -m` this module writes it to stdout.

With the argument `ship` it writes what comes with the package, for any processor of this architecture.

Numba makes LLVM's intermediate code of the kernel, and LLVM makes an object file of that which needs neither
Numba nor Python. So the process that scans imports a tenth of what Numba is and stays as small as it was; and
Numba's own optimising, which would take as long again for each of its many small functions, is left out in
favour of one round over the whole.
"""

import re
import sys
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc, types

from transhume.monitor.capture.scan.compiled import kept
from transhume.monitor.capture.scan.compiled.kernel import scan
from transhume.monitor.capture.scan.compiled.plan import SYMBOL

_pointer: Any = types.CPointer
_cfunc: Any = cfunc
ANY_PROCESSOR = "generic"
_INTRINSICS = ("llvm.", "memset", "memcpy", "memmove")


def object_code(processor: str, features: str) -> bytes:
    """Return the kernel as an object file for a processor, by LLVM's names for it and its features."""
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=processor,
        features=features,
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )
    module = llvm.parse_assembly(_alone(_intermediate_code()))
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    # The second round sees what the first found out: that nothing can fail, so nothing of Python is called.
    for _ in range(2):
        passes = llvm.create_pass_builder(target, tuning)
        passes.getModulePassManager().run(module, passes)
    foreign = [
        function.name
        for function in module.functions
        if function.is_declaration and not function.name.startswith(_INTRINSICS)
    ]
    if foreign:
        raise RuntimeError(f"the kernel calls {', '.join(foreign)}")
    code: bytes = target.emit_object(module)
    return code


def _intermediate_code() -> str:
    octets, numbers = _pointer(types.uint8), _pointer(types.int64)
    words, number = _pointer(types.uint64), types.int64
    signature = number(
        octets, number, number, numbers, words, words, words, words, words, numbers, numbers,
        numbers, octets,
    )  # fmt: skip
    code: str = _cfunc(signature, error_model="numpy")(scan).inspect_llvm()
    return code


def _alone(code: str) -> str:
    """Have everything but the entry belong to this module, so that LLVM may look through all of it."""
    code = re.sub(r"^define (?:linkonce_odr )?(?=[^@]*@_Z)", "define internal ", code, flags=re.M)
    return re.sub(r"@cfunc\.[\w.]+", f"@{SYMBOL}", code)


def main() -> None:
    """Write the object file."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if sys.argv[1:] == ["ship"]:
        kept.ship(object_code(ANY_PROCESSOR, ""))
        return
    features = llvm.get_host_cpu_features().flatten()
    sys.stdout.buffer.write(object_code(llvm.get_host_cpu_name(), features))


if __name__ == "__main__":
    main()
