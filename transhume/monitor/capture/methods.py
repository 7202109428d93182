"""How an interface is listened to: by what was asked for, or by the first method that works here.

Owns the order of the methods, from the cheapest on, and what it takes to use each. That a method doesn't work
is found out by trying it, not by the kernel's version, which says little: features are carried back to old
kernels, and forbidden in containers. It is told once, with the reason.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import structlog

from transhume.deployment.model import CaptureMethod, CapturePoint
from transhume.errors import ExtraMissing, UsageError
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.bpf.clsact import ClsactAttachment
from transhume.monitor.capture.bpf.counting import Counter
from transhume.monitor.capture.bpf.syscalls import Direction
from transhume.monitor.capture.bpf.tap import Attachment, KernelTap
from transhume.monitor.capture.bpf.tcx import TcxAttachment
from transhume.monitor.capture.interfaces import NetworkInterface
from transhume.monitor.capture.ring import LOOPBACK, Ring
from transhume.monitor.capture.ring_tap import RingTap
from transhume.monitor.capture.scan import Engine, Scanner, choose_engine, compile_needed
from transhume.monitor.capture.scan.links import RAW_HARDWARE
from transhume.reach.netns import inside

log = structlog.get_logger()

SHORTEST_KERNEL_WINDOW_SECONDS = 0.2
"""In less, a table can't be read safely before its next turn; a ring goes by the frames' own time."""
_GONE = (errno.ENODEV, errno.ENXIO)
_ORDER = (CaptureMethod.TCX, CaptureMethod.CLSACT, CaptureMethod.RING)


class Tap(Protocol):
    """One interface that is listened to."""

    method: CaptureMethod
    linger_seconds: float
    """How long after its interface went the kernel may still hold frames of it."""

    @property
    def descriptor(self) -> int | None:
        """What becomes readable when `read` has something to do; None: never."""

    def read(self) -> None:
        """Count what has come."""

    def sample(self, share: float) -> None:
        """Look at a share of the frames only, soon."""

    def windows_over(self, now: float) -> list[TrafficWindow]:
        """Hand out the windows that are over for good, the oldest first."""

    def last_windows(self) -> list[TrafficWindow]:
        """Hand out what is left, and close."""

    def close(self) -> None:
        """Stop listening, and forget what was counted."""


class Opener:
    """Opens taps at one host.

    Args:
        point: where, and by which method.
        seconds: the windows' length.
        clock: seconds since the epoch, as the kernel stamps frames.
    """

    def __init__(self, point: CapturePoint, seconds: float, clock: Callable[[], float]) -> None:
        self._point, self._seconds, self._clock = point, seconds, clock
        self._is_asked_for = point.method is not CaptureMethod.AUTO
        self._left = [point.method] if self._is_asked_for else list(_ORDER)
        self._worked: set[CaptureMethod] = set()
        self._refusals: dict[CaptureMethod, str] = {}

    async def open(self, interface: NetworkInterface) -> Tap | None:
        """Listen to an interface; None where it went before we could.

        Raises:
            UsageError: none of the methods that may be used works here.
        """
        for method in list(self._left):
            try:
                tap = await self._open_by(method, interface)
            except (OSError, ExtraMissing) as refusal:
                if isinstance(refusal, OSError) and refusal.errno in _GONE:
                    return None
                self._refusals[method] = _reason(refusal)
                if method not in self._worked:
                    self._left.remove(method)
            else:
                self._tell(method)
                return tap
        raise UsageError(self._complaint())

    async def _open_by(self, method: CaptureMethod, interface: NetworkInterface) -> Tap:
        if method is CaptureMethod.RING:
            engine = await asyncio.to_thread(self._ready_engine)
            ring = Ring(self._point.netns, interface.name, loopback=interface.hardware == LOOPBACK)
            return RingTap(ring, partial(self._scanner, self._name_of(interface), engine))
        if self._seconds < SHORTEST_KERNEL_WINDOW_SECONDS:
            raise OSError(
                errno.ERANGE,
                f"windows of less than {SHORTEST_KERNEL_WINDOW_SECONDS:g} s take a ring",
            )
        attach = self._attach_tcx if method is CaptureMethod.TCX else self._attach_clsact
        return KernelTap(
            method,
            Counter(has_link_layer=interface.hardware not in RAW_HARDWARE),
            partial(attach, interface),
            seconds=self._seconds,
            capture_point=self._name_of(interface),
            clock=self._clock,
        )

    def _attach_tcx(self, interface: NetworkInterface, program: int) -> Attachment:
        with inside(self._point.netns):
            return TcxAttachment(program, interface.number, _directions(interface))

    def _attach_clsact(self, interface: NetworkInterface, program: int) -> Attachment:
        return ClsactAttachment(
            program, self._point.netns, interface.number, _directions(interface)
        )

    def _name_of(self, interface: NetworkInterface) -> str:
        return f"{self._point.host}/{interface.name}"

    def _scanner(self, capture_point: str, engine: Engine) -> Scanner:
        return Scanner(
            None, window_seconds=self._seconds, capture_point=capture_point, engine=engine
        )

    def _ready_engine(self) -> Engine:
        """Return the engine, made ready: where it has to be compiled first, that takes seconds."""
        engine = choose_engine(None)
        if engine is Engine.NUMBA and compile_needed():
            log.info("capture_compiling", host=self._point.host)
        self._scanner("", engine)
        return engine

    def _tell(self, method: CaptureMethod) -> None:
        if method not in self._worked:
            self._worked.add(method)
            log.info(
                "capture_method_chosen",
                capture_method=str(method),
                host=self._point.host,
                **{f"not_{other}": why for other, why in self._refusals.items()},
            )

    def _complaint(self) -> str:
        reasons = "; ".join(f"{method}: {why}" for method, why in self._refusals.items())
        advice = (
            "choose another method, or auto"
            if self._is_asked_for
            else "run as root, or grant it with `setcap cap_net_raw,cap_net_admin,cap_bpf+ep`"
            " to the interpreter"
        )
        return f"can't capture at {self._point.host} ({reasons}); {advice}"


def _directions(interface: NetworkInterface) -> Sequence[Direction]:
    # What leaves by the loopback device comes in again at once.
    return [Direction.INGRESS] if interface.hardware == LOOPBACK else list(Direction)


def _reason(refusal: Exception) -> str:
    if isinstance(refusal, PermissionError):
        return "not permitted"
    return (refusal.strerror if isinstance(refusal, OSError) else None) or str(refusal)
