"""The scanner: bytes of captures in, windows of traffic out, by compiled code or by NumPy, with one result.

`links`, `head`, `clocks` and `decode` say what captures and frames mean; `counts` holds what was counted;
`vectors` and `compiled` are the two engines; `scanner` is what everybody else uses. Opening files, unpacking
and sockets are left to others.
"""

from transhume.monitor.capture.scan.engine import (
    FEW_FRAMES,
    Engine,
    choose_engine,
    compile_needed,
)
from transhume.monitor.capture.scan.head import CutOff, FileHead, Form, Interface, read_head
from transhume.monitor.capture.scan.links import LARGEST_RECORD, Link
from transhume.monitor.capture.scan.resync import resync
from transhume.monitor.capture.scan.scanner import Scanner, check_window, instant

__all__ = [
    "FEW_FRAMES",
    "LARGEST_RECORD",
    "CutOff",
    "Engine",
    "FileHead",
    "Form",
    "Interface",
    "Link",
    "Scanner",
    "check_window",
    "choose_engine",
    "compile_needed",
    "instant",
    "read_head",
    "resync",
]
