"""Which engine counts: compiled code for much work, NumPy for little.

The compiled one reads tens of millions of frames a second, and takes a tenth of a second to load; where no code
for the processor came with the package, it takes some seconds to compile, once in a machine's life. NumPy
starts at once.
"""

from enum import StrEnum
from functools import cache
from importlib.util import find_spec
from typing import Final, Protocol

from transhume.errors import ExtraMissing
from transhume.monitor.capture.scan.clocks import Clocks
from transhume.monitor.capture.scan.counts import Counts
from transhume.monitor.capture.scan.head import FileHead, Octets

FEW_FRAMES: Final = 150_000
"""So many frames take NumPy as long as loading the compiled code does."""
_FEW_TO_COMPILE_FOR: Final = 3_000_000
"""So many are worth to compile for, which takes about as long as NumPy takes for ten times as many."""


class Engine(StrEnum):
    """The two ways to count, with the same result."""

    NUMBA = "numba"
    NUMPY = "numpy"


class Counting(Protocol):
    """What an engine does: count frames until something stops it, and say where and why (see `stops`)."""

    def pcap(self, data: Octets, at: int, head: FileHead) -> tuple[int, int, int]:
        """Count pcap records; return where that ended, why, and what was seen there."""

    def pcapng(
        self, data: Octets, at: int, order: str, clocks: Clocks, section_first: int
    ) -> tuple[int, int, int]:
        """Count pcapng blocks, up to one that holds no frame."""

    def ring(self, data: Octets, at: int, frames: int, *, virtio: bool) -> tuple[int, int, int]:
        """Count so many frames of a packet socket's ring."""

    def renumber(self) -> None:
        """Learn the pairs' numbers anew, because `Counts.forget_pairs` gave them others."""


def choose_engine(expected_frames: int | None, asked: Engine | None = None) -> Engine:
    """Return the engine for so many frames (None: nobody knows, perhaps many), or the one asked for.

    Raises:
        ExtraMissing: the compiled engine was asked for, and Numba isn't installed.
    """
    if asked is Engine.NUMBA and not _has_numba():
        raise ExtraMissing("fast", "the compiled engine")
    if asked is not None:
        return asked
    if not _has_numba():
        return Engine.NUMPY
    least = FEW_FRAMES if _is_compiled() else _FEW_TO_COMPILE_FOR
    few = expected_frames is not None and expected_frames < least
    return Engine.NUMPY if few else Engine.NUMBA


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


def _is_compiled() -> bool:
    from transhume.monitor.capture.scan.compiled.kept import probably_kept

    return probably_kept()


def compile_needed() -> bool:
    """Return whether the first scanner with the compiled engine will take seconds, to compile it once."""
    from transhume.monitor.capture.scan.compiled import machine_code

    return machine_code.compile_needed()


def counting(engine: Engine, counts: Counts, *, inner: bool, captured_length: bool) -> Counting:
    """Return what counts into `counts`; by NumPy too where the kernel can't be compiled, which is logged."""
    if engine is Engine.NUMBA:
        from transhume.monitor.capture.scan.compiled.engine import CompiledCounting
        from transhume.monitor.capture.scan.compiled.machine_code import NotCompiled, kernel

        try:
            compiled = kernel()
        except NotCompiled as error:
            import structlog

            structlog.get_logger().warning("scanner_not_compiled", why=str(error))
        else:
            return CompiledCounting(compiled, counts, inner=inner, captured_length=captured_length)
    from transhume.monitor.capture.scan.vectors.engine import VectorCounting

    return VectorCounting(counts, inner=inner, captured_length=captured_length)
